"""The PyTorch side of tests/bench/compare: the same workloads, the same talk as workloads.c.

    peer.py workloads THREADS VARIANT         lines "NAME REPETITIONS" in, seconds out
    peer.py workloads THREADS VARIANT NAME    a line after the first step, five more, the end
    peer.py all_reduce RANK PORT ROUNDS       gloo: "BYTES SECONDS" a size (2 ranks)
    peer.py loader FILE.h5 VARIANT            lines "epochs N" in, seconds out; VARIANT: memory,
                                              memory+workers, h5py
    peer.py version

VARIANT: eager or compile, "+nhwc" for channels-last, "+cuda" for the card, "+batch=N" for another
batch, "+tiny" for what workloads.c --tiny makes.
"""
import os
import statistics
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

SIZES = (4096, 65536, 1 << 20, 16 << 20, 256 << 20)


class Residual(nn.Module):
    """Two convolutions, as in ResNet-18."""

    def __init__(self, a, b, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(a, b, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(b)
        self.conv2 = nn.Conv2d(b, b, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(b)
        self.shortcut = nn.Identity() if a == b else nn.Sequential(
            nn.Conv2d(a, b, 1, stride, bias=False), nn.BatchNorm2d(b))

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class Bottleneck(nn.Module):
    """Three, as in ResNet-50, with the stride in the 3 x 3 one."""

    def __init__(self, a, width, stride):
        super().__init__()
        b = 4 * width
        self.conv1, self.bn1 = nn.Conv2d(a, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, b, 1, bias=False), nn.BatchNorm2d(b)
        self.shortcut = nn.Identity() if a == b and stride == 1 else nn.Sequential(
            nn.Conv2d(a, b, 1, stride, bias=False), nn.BatchNorm2d(b))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(y)))))
        return F.relu(y + self.shortcut(x))


def mlp():
    return nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(),
                         nn.Linear(256, 10))


def cnn():
    return nn.Sequential(nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(),
                         nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64 * 12 * 12, 128), nn.ReLU(),
                         nn.Linear(128, 10))


def gpt():
    from chargpt import GPT
    return GPT(256, layers=4, heads=4, width=256, context=128)


def nanogpt():
    from chargpt import GPT
    return GPT(65, layers=6, heads=6, width=384, context=256)


class CharLSTM(nn.Sequential):
    """Logits of the next character at every step."""

    def __init__(self):
        super().__init__(nn.Embedding(65, 256), nn.LSTM(256, 256, 2, batch_first=True), nn.Linear(256, 65))

    def forward(self, tokens):
        embedding, lstm, head = self
        return head(lstm(embedding(tokens))[0])


def resnet18():
    widths = ((64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1),
              (256, 512, 2), (512, 512, 1))
    return nn.Sequential(nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
                         *(Residual(*w) for w in widths), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(512, 10))


def gpt2(tiny):
    from chargpt import GPT
    return GPT(64, 2, 2, 32, 16) if tiny else GPT(50304, 12, 12, 768, 1024)


def resnet50(tiny):
    w, classes = (4, 10) if tiny else (64, 1000)
    stages = ((w, w, 1, 3), (4 * w, 2 * w, 2, 4), (8 * w, 4 * w, 2, 6), (16 * w, 8 * w, 2, 3))
    blocks = (Bottleneck(4 * width if i else a, width, 1 if i else stride)
              for a, width, stride, n in stages for i in range(n))
    return nn.Sequential(nn.Conv2d(3, w, 7, 2, 3, bias=False), nn.BatchNorm2d(w), nn.ReLU(),
                         nn.MaxPool2d(3, 2, 1), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(32 * w, classes))


def adam(parameters):
    return torch.optim.Adam(parameters, fused=True)


def adamw(parameters):
    return torch.optim.AdamW(parameters, weight_decay=0.1, fused=True)


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=1e-4, fused=True)


def images(n, channels, size):
    return torch.randn(n, channels, size, size)


# model, batch, input of a batch, targets of one sample, classes, optimizer, BF16 by autocast
WORKLOADS = {
    "mlp": (mlp, 128, lambda n: torch.randn(n, 784), 1, 10, adam, False),
    "cnn": (cnn, 64, lambda n: images(n, 1, 28), 1, 10, adam, False),
    "gpt": (gpt, 8, lambda n: torch.randint(0, 256, (n, 128)), 128, 256, adam, False),
    "resnet18": (resnet18, 32, lambda n: images(n, 3, 32), 1, 10, adam, False),
    "nanogpt": (nanogpt, 12, lambda n: torch.randint(0, 65, (n, 256)), 256, 65, adam, False),
    "lstm": (CharLSTM, 32, lambda n: torch.randint(0, 65, (n, 64)), 64, 65, adam, False),
    "gpt2": (lambda: gpt2(False), 64, lambda n: torch.randint(0, 50304, (n, 1024)), 1024, 50304, adamw, True),
    "resnet50": (lambda: resnet50(False), 128, lambda n: images(n, 3, 224), 1, 1000, sgd, True),
}
TINY = {
    "mlp": (mlp, 2, lambda n: torch.randn(n, 784), 1, 10, adam, False),
    "cnn": (cnn, 1, lambda n: images(n, 1, 28), 1, 10, adam, False),
    "gpt2": (lambda: gpt2(True), 2, lambda n: torch.randint(0, 64, (n, 16)), 16, 64, adamw, True),
    "resnet50": (lambda: resnet50(True), 2, lambda n: images(n, 3, 32), 1, 10, sgd, True),
}


def step_of(name, variant):
    """A function that makes one training step."""
    flags = variant.split("+")
    make, batch, draw, targets, classes, optimizer, half = (TINY if "tiny" in flags else WORKLOADS)[name]
    batch = next((int(f[6:]) for f in flags if f.startswith("batch=")), batch)
    device = "cuda" if "cuda" in flags else "cpu"
    model, x = make().to(device), draw(batch).to(device)
    y = torch.randint(0, classes, (batch * targets,), device=device)
    if "nhwc" in flags:
        model = model.to(memory_format=torch.channels_last)
        x = x.to(memory_format=torch.channels_last)
    opt = optimizer(model.parameters())

    def forward(x, y):
        out = model(x)
        return F.cross_entropy(out.flatten(0, 1) if out.dim() == 3 else out, y)

    run = torch.compile(forward) if "compile" in flags else forward

    def step():
        opt.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=half):
            loss = run(x, y)
        loss.backward()
        opt.step()
    return step


def record(n, backward):
    """Record n additions of 16 floats, in graphs of 100; if asked, go back through them."""
    one, leaf = torch.ones(16), torch.zeros(16, requires_grad=True)
    for _ in range(0, n, 100):
        t = leaf
        for _ in range(100):
            t = t + one
        if backward:
            t.sum().backward()


def workloads(threads, variant, name=None):
    torch.set_num_threads(int(threads))
    torch.set_flush_denormal(True)
    # F32 means F32 on a card too, as with us.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = "cuda" in variant
    steps = {}

    def run(name, n):
        if name in ("record", "chain"):
            return record(n, name == "chain")
        if name not in steps:
            steps[name] = step_of(name, variant)
        for _ in range(n):
            steps[name]()
        if "cuda" in variant:
            torch.cuda.synchronize()

    if name:
        run(name, 1)
        print("first step", flush=True)
        return run(name, 5)
    for line in sys.stdin:
        name, n = line.split()
        begun = time.perf_counter()
        run(name, int(n))
        print(f"{time.perf_counter() - begun:.9f}", flush=True)


def all_reduce(rank, port, rounds):
    import torch.distributed as dist
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=int(rank), world_size=2)
    for size in SIZES:
        t = torch.zeros(size // 4)
        times = 100 if size <= 16384 else 1
        took = []
        for i in range(-1, int(rounds)):
            dist.barrier()
            begun = time.perf_counter()
            for _ in range(times):
                dist.all_reduce(t)
            most = torch.tensor((time.perf_counter() - begun) / times, dtype=torch.float64)
            dist.all_reduce(most, dist.ReduceOp.MAX)
            if i >= 0:
                took.append(most.item())
        if int(rank) == 0:
            print(size, statistics.median(took), flush=True)
    dist.destroy_process_group()


class FromMemory(torch.utils.data.Dataset):
    """All images in memory; a batch is one indexing. What DataLoader does best."""

    def __init__(self, path):
        import h5py
        with h5py.File(path) as f:
            self.x = torch.from_numpy(f["input"][:])
            self.y = torch.from_numpy(f["target"][:].astype("int64"))

    def __len__(self):
        return len(self.x)

    def __getitems__(self, index):
        index = torch.tensor(index)
        return self.x[index] * (1 / 255), self.y[index]


class FromFile(torch.utils.data.Dataset):
    """Rows read from the file as they are asked for."""

    def __init__(self, path):
        import h5py
        self.file = h5py.File(path)
        self.y = torch.from_numpy(self.file["target"][:].astype("int64"))

    def __len__(self):
        return len(self.y)

    def __getitems__(self, index):
        index = sorted(index)
        return torch.from_numpy(self.file["input"][index]) * (1 / 255), self.y[index]


def loader(path, variant):
    """Epochs of shuffled batches of 128, seconds out."""
    data = FromFile(path) if variant == "h5py" else FromMemory(path)
    workers = len(os.sched_getaffinity(0)) if "workers" in variant else 0
    batches = torch.utils.data.DataLoader(data, 128, shuffle=True, num_workers=workers,
                                          persistent_workers=workers > 0, collate_fn=lambda b: b)
    for line in sys.stdin:
        begun = time.perf_counter()
        for _ in range(int(line.split()[1])):
            for _ in batches:
                pass
        print(f"{time.perf_counter() - begun:.9f}", flush=True)


def main():
    if sys.argv[1] == "version":
        return print(torch.__version__)
    globals()[sys.argv[1]](*sys.argv[2:])


if __name__ == "__main__":
    main()
