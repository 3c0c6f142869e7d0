"""The networks of tests/bench in PyTorch, under the names that workloads.c has for them."""
import torch
import torch.nn.functional as F
from torch import nn

from chargpt import GPT


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
    return GPT(256, layers=4, heads=4, width=256, context=128)


def nanogpt():
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
    return GPT(64, 2, 2, 32, 16) if tiny else GPT(50304, 12, 12, 768, 1024)


def resnet50(tiny):
    w, classes = (4, 10) if tiny else (64, 1000)
    stages = ((w, w, 1, 3), (4 * w, 2 * w, 2, 4), (8 * w, 4 * w, 2, 6), (16 * w, 8 * w, 2, 3))
    blocks = (Bottleneck(4 * width if i else a, width, 1 if i else stride)
              for a, width, stride, n in stages for i in range(n))
    return nn.Sequential(nn.Conv2d(3, w, 7, 2, 3, bias=False), nn.BatchNorm2d(w), nn.ReLU(),
                         nn.MaxPool2d(3, 2, 1), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(32 * w, classes))


# How PyTorch goes through the parameters: the first is the default here, compare tries all.
LOOPS = {"fused": {"fused": True}, "foreach": {"foreach": True}, "loop": {"foreach": False}}


def adam(parameters, **how):
    return torch.optim.Adam(parameters, **how)


def slow_adam(parameters, **how):
    """workloads.c says why."""
    return torch.optim.Adam(parameters, lr=1e-5, **how)


def adamw(parameters, **how):
    return torch.optim.AdamW(parameters, weight_decay=0.1, **how)


def sgd(parameters, **how):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=1e-4, **how)


def images(n, channels, size):
    return torch.randn(n, channels, size, size)


# model, batch, input of a batch, targets of one sample, classes, optimizer, BF16 by autocast
WORKLOADS = {
    "mlp": (mlp, 128, lambda n: torch.randn(n, 784), 1, 10, adam, False),
    "cnn": (cnn, 64, lambda n: images(n, 1, 28), 1, 10, adam, False),
    "gpt": (gpt, 8, lambda n: torch.randint(0, 256, (n, 128)), 128, 256, adam, False),
    "resnet18": (resnet18, 32, lambda n: images(n, 3, 32), 1, 10, slow_adam, False),
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
