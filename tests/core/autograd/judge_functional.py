"""PyTorch judges fb_jacobian, fb_hessian, fb_vjp, fb_jvp and fb_hvp, and gradients of what they give.
Needs torch; run by launch/test --judges PYTHON."""
import ctypes as C
import os
import sys

import torch
from torch.autograd import functional as T

sys.path.insert(0, os.path.join(os.environ["FLAMBEAU_SOURCE"], "tests", "core", "ops"))
import judge_ops as J
from judge_ops import B, I, P, Tensors, error, shape, tensors

FUNCTION = C.CFUNCTYPE(I, P, Tensors, C.POINTER(P))


class Options(C.Structure):
    _fields_ = [("create_graph", B), ("strict", B)]


JACOBIAN = J.bind("jacobian", I, FUNCTION, P, Tensors, I, P, P)
HESSIAN = J.bind("hessian", I, FUNCTION, P, Tensors, P, P)
VJP = J.bind("vjp", I, FUNCTION, P, Tensors, I, Tensors, P, P, P)
JVP = J.bind("jvp", I, FUNCTION, P, Tensors, I, Tensors, P, P, P)
HVP = J.bind("hvp", I, FUNCTION, P, Tensors, Tensors, P, P, P)
FB = J.FB


def normalized(a):
    """Of PyTorch's own layer_norm the third derivative is not that of differences."""
    centred = a - a.mean(1, keepdim=True)
    return centred / ((centred * centred).mean(1, keepdim=True) + 1e-5).sqrt()


# name, PyTorch's, ours, sizes of the inputs
SEVERAL = [
    ("product", lambda a, b: (a @ b,), lambda a, b: [FB["matmul"](a, b)], [(2, 3), (3, 2)]),
    ("tanh of a row", lambda a, b: (torch.tanh(a) * b, (a * b).sum()),
     lambda a, b: [FB["mul"](FB["tanh"](a), b), FB["sum"](FB["mul"](a, b), shape(), False)],
     [(3,), (3,)]),
    ("softmax", lambda a: (torch.softmax(a, 1), a.t()),
     lambda a: [FB["softmax"](a, 1), FB["transpose"](a, 0, 1)], [(2, 3)]),
    ("broadcast", lambda a, b: (torch.sin(a) / (1 + b * b), a),
     lambda a, b: [FB["div"](FB["sin"](a), FB["add_scalar"](FB["mul"](b, b), 1)), a],
     [(2, 1), (1, 3)]),
    ("unused", lambda a, b: (a.exp(),), lambda a, b: [FB["exp"](a)], [(2,), (3,)]),
    ("layer_norm", lambda a, w: (normalized(a) * w,),
     lambda a, w: [FB["layer_norm"](a, shape(4), w, None, 1e-5)], [(2, 4), (4,)]),
]
ONE = [
    ("cubic", lambda a, b: (a * a * b).sum(),
     lambda a, b: FB["sum"](FB["mul"](FB["mul"](a, a), b), shape(), False), [(3,), (3,)]),
    ("linear", lambda a, b: (a * 2).sum(),
     lambda a, b: FB["sum"](FB["mul_scalar"](a, 2), shape(), False), [(2,), (2,)]),
    ("net", lambda x, w, v: (torch.sigmoid(torch.tanh(x @ w) @ v) ** 2).mean(),
     lambda x, w, v: FB["mean"](FB["square"](FB["sigmoid"](
         FB["matmul"](FB["tanh"](FB["matmul"](x, w)), v))), shape(), False),
     [(2, 3), (3, 4), (4, 1)]),
]

failures, count = [], 0


def callback(ours):
    def run(_, given, out):
        got = ours(*[given.t[i] for i in range(given.n)])
        for i, handle in enumerate(got if isinstance(got, list) else [got]):
            if not handle:
                return 1
            out[i] = handle
        return 0
    return FUNCTION(run)


def compare(what, theirs, handles):
    global count
    for i, (t, h) in enumerate(zip(theirs, handles)):
        count += 1
        got = J.out_of(h)
        if got.shape != t.shape or not torch.allclose(got, t, rtol=1e-9, atol=1e-11):
            failures.append(f"{what}, result {i}: {got}, not {t}")


def results(n, call, *args):
    out = (P * n)()
    status = call(*args, out)
    if status:
        raise RuntimeError(error())
    return list(out)


def flat(nested):
    return [t for row in nested for t in (row if isinstance(row, tuple) else (row,))]


def point(sizes):
    x = [torch.randn(s, dtype=torch.float64) for s in sizes]
    return x, [FB["requires_grad"](J.into(t), True) for t in x]


def again(what, value, x, handles, ours):
    """The gradient of the sum of squares of results that were made with create_graph."""
    theirs = torch.autograd.grad(sum((v * v).sum() for v in value), x, materialize_grads=True)
    total = None
    for h in handles:
        s = FB["sum"](FB["mul"](h, h), shape(), False)
        total = FB["add"](total, s) if total else s
    options = J.GradientOptions(allow_unused=True)
    if not FB["needs_grad"](total):
        return
    got = (P * len(ours))()
    if FB["gradients"](tensors([total]), tensors(ours), C.byref(options), got):
        raise RuntimeError(error())
    for t, h in zip(theirs, got):
        compare(what + ", once more", [t], [h] if h else [J.into(torch.zeros_like(t))])


def several(name, theirs, ours, sizes, create):
    x, h = point(sizes)
    leaves = [t.requires_grad_(True) for t in x] if create else x
    f, o = callback(ours), C.byref(Options(create, False))
    y = theirs(*x)
    jac = T.jacobian(theirs, tuple(leaves), create_graph=create)
    got = results(len(y) * len(x), JACOBIAN, f, None, tensors(h), len(y), o)
    compare(f"jacobian of {name}", flat(jac), got)
    if create:
        again(f"jacobian of {name}", flat(jac), leaves, got, h)
    v = tuple(torch.randn_like(t) for t in y)
    grads = T.vjp(theirs, tuple(leaves), v, create_graph=create)[1]
    got = results(len(x), VJP, f, None, tensors(h), len(y), tensors([J.into(t) for t in v]), o, None)
    compare(f"vjp of {name}", grads, got)
    if create:
        again(f"vjp of {name}", grads, leaves, got, h)
    u = tuple(torch.randn_like(t) for t in x)
    tangents = T.jvp(theirs, tuple(leaves), u, create_graph=create)[1]
    got = results(len(y), JVP, f, None, tensors(h), len(y), tensors([J.into(t) for t in u]), o, None)
    compare(f"jvp of {name}", tangents, got)
    if create:
        again(f"jvp of {name}", tangents, leaves, got, h)


def one(name, theirs, ours, sizes, create):
    x, h = point(sizes)
    leaves = [t.requires_grad_(True) for t in x] if create else x
    f, o = callback(ours), C.byref(Options(create, False))
    hes = T.hessian(theirs, tuple(leaves), create_graph=create)
    got = results(len(x) ** 2, HESSIAN, f, None, tensors(h), o)
    compare(f"hessian of {name}", flat(hes), got)
    if create and name == "cubic":
        again(f"hessian of {name}", flat(hes), leaves, got, h)
    u = tuple(torch.randn_like(t) for t in x)
    hv = T.hvp(theirs, tuple(leaves), u, create_graph=create)[1]
    got = results(len(x), HVP, f, None, tensors(h), tensors([J.into(t) for t in u]), o, None)
    compare(f"hvp of {name}", hv, got)


if os.environ.get("FLAMBEAU_SANITIZE"):
    sys.exit(print("python cannot load a sanitized library: nothing done"))
torch.manual_seed(1)
for create in (False, True):
    for case in SEVERAL:
        several(*case, create)
    for case in ONE:
        one(*case, create)
for text in failures:
    print(text)
print(f"{count} results of derivatives of functions: {len(failures)} differ from PyTorch")
sys.exit(1 if failures else 0)
