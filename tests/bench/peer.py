"""The PyTorch side of tests/bench/compare: the same workloads, the same talk as workloads.c.

    peer.py workloads [--data DIR] [--ranks R PORT] THREADS VARIANT
        reads lines, answers each with a line:
            NAME[/VARIANT] REPETITIONS    seconds; "nan" if PyTorch fails
            losses NAME[/VARIANT]         the losses of the 20 first steps
            drop NAME/VARIANT             0: it is forgotten
    peer.py workloads THREADS VARIANT NAME    a line after the first step; seconds of five more
    peer.py write DIR NAME...                 first weights and 20 batches of each, as .npy
    peer.py cost NAME                         of a step: FLOP by kind, bytes of what is kept for
                                              backward, bytes of parameters (JSON)
    peer.py all_reduce R PORT                 gloo, 2 ranks; lines "BYTES TIMES": the least seconds
    peer.py loader FILE.h5 VARIANT            lines "epochs N" in, seconds out; VARIANT: memory, h5py,
                                              "+workers" for as many as cores, "+workers=N"
    peer.py version

VARIANT: eager or compile, "+nhwc" for channels-last, "+foreach" or "+loop" for another optimizer
than the fused one, "+cuda" for the card, "+batch=N" for another batch, "+tiny" for what
workloads.c --tiny makes. DIR is what workloads.c --data reads. R is 0 or 1: one of two ranks.
"""
import argparse
import json
import os
import pathlib
import sys
import time

import torch
import torch.nn.functional as F

from networks import LOOPS, TINY, WORKLOADS

BATCHES = 20


def drawn(name, tiny=False, batch=None):
    """Model, inputs and targets of one batch, and whether autocast makes products BF16."""
    make, size, draw, targets, classes, optimizer, half = (TINY if tiny else WORKLOADS)[name]
    size = batch or size
    return make(), draw(size), torch.randint(0, classes, (size * targets,)), optimizer, half


def loss_of(model, x, y):
    out = model(x)
    return F.cross_entropy(out.flatten(0, 1) if out.dim() == 3 else out, y)


class Training:
    """One workload in one variant."""

    def __init__(self, name, variant, data=None, rank=None):
        flags = variant.split("+")
        batch = next((int(f[6:]) for f in flags if f.startswith("batch=")), None)
        self.device = "cuda" if "cuda" in flags else "cpu"
        model, x, y, optimizer, self.half = drawn(name, "tiny" in flags, batch)
        self.batches = [(x, y)]
        if data:
            model.load_state_dict(read_weights(data / name))
            self.batches = [read_batch(data / name, i, rank) for i in range(BATCHES)]
        place = {"memory_format": torch.channels_last} if "nhwc" in flags else {}
        model = model.to(self.device, **place)
        self.batches = [(x.to(self.device, **(place if x.dim() == 4 else {})), y.to(self.device))
                        for x, y in self.batches]
        self.first = {k: v.clone() for k, v in model.state_dict().items()}
        self.model, self.next = model, 0
        how = LOOPS[next((f for f in flags if f in LOOPS), "fused")]
        self.opt = optimizer(model.parameters(), **how)
        if rank is not None:
            model = torch.nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True)
        self.loss = loss_of if "compile" not in flags else torch.compile(loss_of, dynamic=False)
        self.run = model

    def step(self):
        x, y = self.batches[self.next]
        self.next = (self.next + 1) % len(self.batches)
        self.opt.zero_grad()
        with torch.autocast(self.device, torch.bfloat16, enabled=self.half):
            loss = self.loss(self.run, x, y)
        loss.backward()
        self.opt.step()
        return loss

    def losses(self):
        """Those of one step with each batch, from the first weights on."""
        self.model.load_state_dict(self.first)
        self.opt.state.clear()
        self.next = 0
        return [self.step().item() for _ in self.batches]


# --- weights and batches that both sides begin with ---

def read_weights(folder):
    import numpy
    return {f.name[:-4]: torch.from_numpy(numpy.load(f)) for f in folder.glob("*.npy")
            if f.name[0] not in "xy" or "." in f.name[:-4]}


def read_batch(folder, i, rank):
    """Images lie in the file as NHWC."""
    import numpy
    x, y = (torch.from_numpy(numpy.load(folder / f"{letter}{i}.npy")) for letter in "xy")
    if rank is not None:
        x, y = x.chunk(2)[rank], y.chunk(2)[rank]
    return (x.permute(0, 3, 1, 2) if x.dim() == 4 else x).contiguous(), y.contiguous()


def write(folder, *names):
    import numpy
    for name in names:
        torch.manual_seed(1)
        place = pathlib.Path(folder) / name
        place.mkdir(parents=True)
        for key, value in drawn(name)[0].state_dict().items():
            numpy.save(place / f"{key}.npy", value.numpy())
        for i in range(BATCHES):
            _, x, y, _, _ = drawn(name)
            x = x.permute(0, 2, 3, 1).contiguous() if x.dim() == 4 else x
            numpy.save(place / f"x{i}.npy", x.numpy())
            numpy.save(place / f"y{i}.npy", y.numpy())


# --- the talk with compare ---

def record(n, backward):
    """Record n additions of 16 floats, in graphs of 100; if asked, go back through them."""
    one, leaf = torch.ones(16), torch.zeros(16, requires_grad=True)
    for _ in range(0, n, 100):
        t = leaf
        for _ in range(100):
            t = t + one
        if backward:
            t.sum().backward()


class Workloads:
    """What has been asked for so far."""

    def __init__(self, variant, data=None, rank=None):
        self.variant, self.data, self.rank, self.known = variant, data, rank, {}

    def find(self, what):
        if what not in self.known:
            name, _, variant = what.partition("/")
            self.known[what] = Training(name, variant or self.variant, self.data, self.rank)
        return self.known[what]

    def run(self, what, n):
        if what in ("record", "chain"):
            return record(n, what == "chain")
        training = self.find(what)
        for _ in range(n):
            training.step()
        if training.device == "cuda":
            torch.cuda.synchronize()

    def timed(self, what, n):
        begun = time.perf_counter()
        try:
            self.run(what, n)
        except (RuntimeError, TypeError, ValueError) as e:  # a variant that PyTorch cannot do is no choice
            print(f"peer: {what}: {type(e).__name__}: {e}"[:500], file=sys.stderr)
            self.known.pop(what, None)
            return "nan"
        return f"{time.perf_counter() - begun:.9f}"

    def answer(self, line):
        first, second = line.split()
        if first == "losses":
            return " ".join(f"{v:.9g}" for v in self.find(second).losses())
        if first == "drop":
            self.known.pop(second, None)
            return "0"
        return self.timed(first, int(second))


def workloads(*arguments):
    p = argparse.ArgumentParser()
    p.add_argument("--data", type=pathlib.Path)
    p.add_argument("--ranks", nargs=2)
    p.add_argument("threads", type=int)
    p.add_argument("variant")
    p.add_argument("name", nargs="?")
    o = p.parse_args(arguments)
    torch.set_num_threads(o.threads)
    torch.set_flush_denormal(True)
    # F32 means F32 on a card too, as with us.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = "cuda" in o.variant
    if o.ranks:
        join(*o.ranks)
    all_of_them = Workloads(o.variant, o.data, int(o.ranks[0]) if o.ranks else None)
    if o.name:
        all_of_them.run(o.name, 1)
        print("first step", flush=True)
        return print(all_of_them.timed(o.name, 5), flush=True)
    for line in sys.stdin:
        print(all_of_them.answer(line), flush=True)


# --- two ranks ---

def join(rank, port):
    import torch.distributed as dist
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=int(rank), world_size=2)
    return dist


def all_reduce(rank, port):
    torch.set_num_threads(1)
    dist = join(rank, port)
    known = {}
    for line in sys.stdin:
        size, times = map(int, line.split())
        t = known.setdefault(size, torch.zeros(size // 4))
        run, least = max(1, min(100, (1 << 22) // size)), float("inf")
        for _ in range(times):
            dist.barrier()
            begun = time.perf_counter()
            for _ in range(run):
                dist.all_reduce(t)
            most = torch.tensor((time.perf_counter() - begun) / run, dtype=torch.float64)
            dist.all_reduce(most, dist.ReduceOp.MAX)
            least = min(least, most.item())
        print(f"{least:.9f}", flush=True)


# --- what a step must do at least ---

def winograd_flop(conv, x, y):
    """Of a 3 x 3 convolution and its gradients, by the plain sums; 0 for one that F(4 x 4, 3 x 3) is not for."""
    if conv.kernel_size != (3, 3) or conv.stride != (1, 1) or conv.in_channels < 16:
        return 0
    return (3 if x.requires_grad else 2) * 2 * y.numel() * conv.in_channels * 9


def cost(name):
    from torch.utils.flop_counter import FlopCounterMode
    model, x, y, _, _ = drawn(name)
    kept, transformed = {}, []
    for conv in model.modules():
        if isinstance(conv, torch.nn.Conv2d):
            conv.register_forward_hook(lambda m, x, y: transformed.append(winograd_flop(m, x[0], y)))

    def keep(t):
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    # Without oneDNN an LSTM is made of products that can be counted.
    with torch.backends.mkldnn.flags(enabled=False), FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
            loss = loss_of(model, x, y)
        loss.backward()
    parameters = {p.untyped_storage().data_ptr(): p.numel() * 4 for p in model.parameters()}
    by_kind = {}
    for op, flop in counter.get_flop_counts()["Global"].items():
        kind = "convolution" if "conv" in str(op) else "attention" if "attention" in str(op) else "product"
        # All attention here is causal, and counted as if it were not.
        by_kind[kind] = by_kind.get(kind, 0) + flop / (2 if kind == "attention" else 1)
    if sum(transformed):
        by_kind["convolution"] -= sum(transformed)
        by_kind["Winograd"] = sum(transformed) / 4  # 36 products for 16 sums of 9
    print(json.dumps({"flop": by_kind, "kept": sum(v for k, v in kept.items() if k not in parameters),
                      "parameters": sum(parameters.values())}))


# --- loaders ---

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
    """Rows read from the file as they are asked for, those of a batch in one call; each worker opens it."""

    def __init__(self, path):
        import h5py
        self.path, self.rows = path, None
        with h5py.File(path) as f:
            self.y = torch.from_numpy(f["target"][:].astype("int64"))

    def __len__(self):
        return len(self.y)

    def __getitems__(self, index):
        if self.rows is None:
            import h5py
            self.rows = h5py.File(self.path)["input"]
        index = sorted(index)
        return torch.from_numpy(self.rows[index]) * (1 / 255), self.y[index]


def loader(path, variant):
    """Epochs of shuffled batches of 128, seconds out."""
    kind, _, more = variant.partition("+workers")
    data = FromFile(path) if kind == "h5py" else FromMemory(path)
    workers = 0 if kind == variant else int(more[1:] or len(os.sched_getaffinity(0)))
    batches = torch.utils.data.DataLoader(data, 128, shuffle=True, num_workers=workers,
                                          persistent_workers=workers > 0, collate_fn=lambda b: b)
    for line in sys.stdin:
        begun = time.perf_counter()
        for _ in range(int(line.split()[1])):
            for _ in batches:
                pass
        print(f"{time.perf_counter() - begun:.9f}", flush=True)


def version():
    print(torch.__version__)


def main():
    what = {f.__name__: f for f in (workloads, write, cost, all_reduce, loader, version)}
    what[sys.argv[1]](*sys.argv[2:])


if __name__ == "__main__":
    main()
