"""torch.utils.flop_counter judges what fb_profile counts: single products, convolutions and attention, forward and
backward, then whole steps of networks of tests/bench. Needs torch; run by launch/test --judges PYTHON."""
import ctypes as C
import os
import pathlib
import subprocess
import sys

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

import judge_ops as J
from judge_ops import FB, L, P, conv, into

BENCH = pathlib.Path(__file__).resolve().parents[2] / "bench"
sys.path.insert(0, str(BENCH))
from peer import drawn, loss_of  # noqa: E402


class Totals(C.Structure):
    _fields_ = [("seconds", C.c_double), ("outside", C.c_double), ("flops", C.c_double), ("bytes", C.c_double),
                ("steps", L), ("events", L), ("missed", L)]


FB.update(profile_open=J.bind("profile_open", P, P, P), profile_close=J.bind("profile_close", None, P),
          profile_totals_of=J.bind("profile_totals_of", C.c_int, P, P), backward=J.bind("backward", C.c_int, P))


def theirs(run, inputs):
    with FlopCounterMode(display=False) as counter:
        y = run(*inputs)
        forward = counter.get_total_flops()
        y.sum().backward()
    return forward, counter.get_total_flops() - forward


def ours(run, inputs):
    handles = [into(t) for t in inputs]
    for h in handles:
        FB["requires_grad"](h, True)
    p, t = FB["profile_open"](J.CTX, None), Totals()
    y = run(*handles)
    FB["profile_totals_of"](p, C.byref(t))
    forward = t.flops
    FB["backward"](FB["sum"](y, J.shape(), False))
    FB["profile_totals_of"](p, C.byref(t))
    FB["profile_close"](p)
    return int(forward), int(t.flops - forward)


def cases():
    def v(*sizes):
        return torch.randn(*sizes, requires_grad=True)

    yield "matmul", torch.matmul, FB["matmul"], [v(5, 7), v(7, 3)]
    yield "matmul", torch.matmul, FB["matmul"], [v(4, 5, 7), v(4, 7, 3)]
    yield "matmul", torch.matmul, FB["matmul"], [v(2, 4, 5, 7), v(7, 3)]
    yield "linear", F.linear, FB["linear"], [v(2, 5, 7), v(3, 7), v(3)]
    yield ("linear_act", lambda x, w, b: F.gelu(F.linear(x, w, b), approximate="tanh"),
           lambda x, w, b: FB["linear_act"](x, w, b, 2), [v(6, 7), v(5, 7), v(5)])
    for stride, padding in [(1, 0), (2, 1), (1, 2)]:
        yield ("conv2d", lambda x, w, s=stride, p=padding: F.conv2d(x, w, stride=s, padding=p),
               lambda x, w, s=stride, p=padding: FB["conv2d"](x, w, None, conv(s, p)), [v(2, 4, 9, 8), v(6, 4, 3, 3)])
        yield ("conv_transpose2d", lambda x, w, s=stride, p=padding: F.conv_transpose2d(x, w, stride=s, padding=p),
               lambda x, w, s=stride, p=padding: FB["conv_transpose2d"](x, w, None, conv(s, p)),
               [v(2, 4, 5, 6), v(4, 3, 3, 3)])
    for s in (20, 12):
        yield ("attention", F.scaled_dot_product_attention, lambda q, k, v: FB["scaled_dot_product_attention"](q, k, v, None),
               [v(2, 3, 12, 16), v(2, 3, s, 16), v(2, 3, s, 16)])


def network_theirs(name):
    model, x, y, _, _ = drawn(name)
    with FlopCounterMode(display=False) as counter:
        loss_of(model, x, y).backward()
    return counter.get_total_flops()


def network_ours(name):
    """GFLOP stand in the first line of the table."""
    run = subprocess.run([os.environ["FLAMBEAU_BUILD"] + "/tests/bench/workloads", "--profile", "2"], check=True,
                         input=f"{name} 1\n", capture_output=True, text=True)
    words = run.stderr.splitlines()[0].split()
    return float(words[words.index("GFLOP,") - 1]) * 1e9


def main():
    if os.environ.get("FLAMBEAU_SANITIZE"):
        sys.exit(print("python cannot load a sanitized library: nothing done"))
    wrong = count = 0
    for name, run, mine, inputs in cases():
        want, got = theirs(run, inputs), ours(mine, inputs)
        count += 1
        if want != got:
            wrong += 1
            print(f"{name} of {[tuple(t.shape) for t in inputs]}: {got} FLOP forward and backward, PyTorch {want}")
    for name in ("mlp", "cnn", "gpt", "resnet18"):
        want, got = network_theirs(name), network_ours(name)
        count += 1
        if abs(got / want - 1) > 1e-6:
            wrong += 1
            print(f"{name}: {got:.7g} FLOP a step, PyTorch {want:.7g}")
    print(f"PyTorch {torch.__version__}: {count} costs, {wrong} differ")
    sys.exit(wrong > 0)


main()
