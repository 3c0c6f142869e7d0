"""examples/chargpt in PyTorch: the same model, recipe and judgement.

    PY tests/bench/chargpt.py --text FILE [--steps N] [--seed S]

prints "loss over the last 10 %: X", as the example does; PY has torch. peer.py uses the model.
"""
import argparse
import math

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.ln1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.ln2 = nn.LayerNorm(width)
        self.fc = nn.Linear(width, 4 * width)
        self.out = nn.Linear(4 * width, width)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = (u.view(b, t, self.heads, c // self.heads).transpose(1, 2)
                   for u in self.qkv(self.ln1(x)).chunk(3, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(y.transpose(1, 2).reshape(b, t, c))
        return x + self.out(F.gelu(self.fc(self.ln2(x))))


class GPT(nn.Module):
    """GPT-2's blocks and initialisation; input and output embedding are one."""

    def __init__(self, vocab, layers=4, heads=4, width=128, context=64):
        super().__init__()
        self.wte = nn.Embedding(vocab, width)
        self.wpe = nn.Embedding(context, width)
        self.h = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.ln_f = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, vocab, bias=False)
        self.lm_head.weight = self.wte.weight
        for name, p in self.named_parameters():
            if p.dim() > 1:
                residual = name.endswith(("proj.weight", "out.weight"))
                nn.init.normal_(p, 0, 0.02 / math.sqrt(2 * layers) if residual else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def forward(self, tokens):
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.h:
            x = block(x)
        return self.lm_head(self.ln_f(x))


def read_text(path):
    with open(path, "rb") as f:
        raw = f.read()
    vocab = sorted(set(raw))
    of = {c: i for i, c in enumerate(vocab)}
    return torch.tensor([of[c] for c in raw]), len(vocab)


def windows(ids, at, context):
    """Inputs and targets that begin at the given places."""
    index = at[:, None] + torch.arange(context)
    return ids[index], ids[index + 1]


def learning_rate(step, o):
    if step < o.warmup:
        return o.lr * step / o.warmup
    part = (step - o.warmup) / (o.steps - o.warmup)
    return o.min_lr + (o.lr - o.min_lr) * (1 + math.cos(math.pi * part)) / 2


def train(model, ids, o):
    matrices = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    opt = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1},
                             {"params": others, "weight_decay": 0.0}], lr=o.lr, betas=(0.9, 0.99))
    order = torch.randperm(len(ids) - o.context)  # without replacement, as a loader does
    for step in range(o.steps):
        for group in opt.param_groups:
            group["lr"] = learning_rate(step, o)
        at = order[(step * o.batch + torch.arange(o.batch)) % len(order)]
        x, y = windows(ids, at, o.context)
        loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1)
        opt.step()
        if (step + 1) % 500 == 0:
            print(f"step {step + 1} loss {loss.item():.4f}", flush=True)


@torch.no_grad()
def judge(model, ids, context):
    """Mean loss over all whole windows, one after the other."""
    places = torch.arange((len(ids) - context - 1) // context + 1) * context
    total = 0.0
    for at in places.split(64):
        x, y = windows(ids, at, context)
        total += F.cross_entropy(model(x).flatten(0, 1), y.flatten()).item() * len(at)
    return total / len(places)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--text", required=True)
    p.add_argument("--steps", type=int, default=2000)
    p.add_argument("--batch", type=int, default=12)
    p.add_argument("--context", type=int, default=64)
    p.add_argument("--warmup", type=int, default=100)
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--min-lr", type=float, default=1e-4)
    p.add_argument("--seed", type=int, default=1)
    o = p.parse_args()
    torch.manual_seed(o.seed)
    ids, vocab = read_text(o.text)
    split = len(ids) // 10 * 9
    model = GPT(vocab, context=o.context)
    train(model, ids[:split], o)
    print(f"loss over the last 10 %: {judge(model, ids[split:], o.context):.4f} "
          f"(PyTorch {torch.__version__})")


if __name__ == "__main__":
    main()
