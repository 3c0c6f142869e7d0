"""PyTorch judges what is composed of other operators and has no judge of its own family, as judge_ops.py
does. Needs torch; run by launch/test --judges PYTHON."""
import ctypes as C

import torch
import torch.nn.functional as F

import judge_ops as J
from judge_ops import ALL, B, D, FLOATS, I, L, P, Shape, edges, into, shape, value

FB = J.FB
for name, types in {
        "argmax_all": (P, P), "argmin_all": (P, P), "median_all": (P, P), "nanmedian_all": (P, P),
        "nanquantile": (P, P, D, I, B), "masked_fill_tensor": (P, P, P, P), "where_scalar": (P, P, P, D),
        "mvlgamma": (P, P, I), "cov": (P, P, P, P, L), "corrcoef": (P, P), "renorm": (P, P, D, I, D),
        "trapezoid": (P, P, P, D, I), "cumulative_trapezoid": (P, P, P, D, I), "diagflat": (P, P, L),
        "pdist": (P, P, D), "bilinear": (P, P, P, P, P), "vander": (P, P, L, B), "matrix_exp": (P, P),
        "lu_factor": (I, P, P, P), "lu": (I, P, P, P, P), "lu_solve": (P, P, P, P, B, B),
        "matrix_norm": (P, P, I, D, B), "cond": (P, P, I, D), "tensorinv": (P, P, I),
        "tensorsolve": (P, P, P), "unique_dim": (I, P, I, P, P, P)}.items():
    FB[name] = J.bind(name, *types)


def outputs(name, n, *args):
    """The n results of a function that has places for them."""
    def run(x):
        out = [C.c_void_p() for _ in range(n)]
        FB[name](x, *args, *[C.byref(o) for o in out])
        return out[0].value and [o.value for o in out]
    return run


def orders(dtype, v):
    n = 24
    distinct = torch.randperm(n).reshape(2, 3, 4).to(dtype) if dtype != torch.bool else v(2, 3, 4)
    for x in [distinct, distinct[0, 0, :1].clone()]:
        if dtype != torch.bool:
            yield "argmax_all", torch.argmax, FB["argmax_all"], [x]
            yield "argmin_all", torch.argmin, FB["argmin_all"], [x]
            yield "median_all", torch.median, FB["median_all"], [x]
            yield "nanmedian_all", torch.nanmedian, FB["nanmedian_all"], [x]
    if dtype.is_floating_point:
        holes = distinct.clone()
        holes[0, 1, 1:] = float("nan")
        holes[1, 1:, 2] = float("nan")
        yield "nanmedian_all", torch.nanmedian, FB["nanmedian_all"], [holes]
        for q in (0.0, 0.25, 0.7, 1.0):
            for dim, keep in [(0, False), (-1, True)]:
                for x in (distinct, holes):
                    yield ("nanquantile", lambda x: torch.nanquantile(x, q, dim, keep),
                           lambda x: FB["nanquantile"](x, q, dim, keep), [x])
    few = value(dtype, 8, 2, lo=0, hi=0) if dtype != torch.bool else v(8, 2)
    for dim in (0, 1, -1):
        yield ("unique_dim",
               lambda x: list(torch.unique(x, return_inverse=True, return_counts=True, dim=dim)),
               lambda x: outputs("unique_dim", 3, dim)(x), [few])


def blends(dtype, v):
    mask = torch.rand(3, 4) < 0.5
    for other in (dtype, torch.float32, torch.int64):
        yield ("masked_fill_tensor", lambda x, m, s: x.masked_fill(m, s), FB["masked_fill_tensor"],
               [v(3, 4), mask, value(other, lo=1)])
    yield ("where_scalar", lambda m, x: torch.where(m, x, 1.5), lambda m, x: FB["where_scalar"](m, x, 1.5),
           [mask, v(3, 4)])
    if dtype.is_floating_point:
        for p in (1, 2, 4):
            yield ("mvlgamma", lambda x: torch.mvlgamma(x, p), lambda x: FB["mvlgamma"](x, p),
                   [v(3, 4, lo=2.5, hi=6)])
    for k in (-1, 0, 2):
        yield "diagflat", lambda x: torch.diagflat(x, k), lambda x: FB["diagflat"](x, k), [v(2, 2)]
    yield "sign", torch.sign, FB["sign"], [v(3, 4)]
    for lo, hi in [(-1, 1), (1, -1), (float("nan"), 1), (-1, float("nan"))]:
        for x in (v(3, 4), edges(dtype)):
            if lo == lo and hi == hi or dtype.is_floating_point:
                yield "clamp", lambda x: x.clamp(lo, hi), lambda x: FB["clamp"](x, lo, hi), [x]
    if dtype.is_floating_point:
        ends = edges(dtype)
        pairs = [ends.repeat_interleave(len(ends)), ends.repeat(len(ends))]
        for n in ("maximum", "minimum", "clamp_min", "clamp_max"):
            yield n, getattr(torch, n), FB[n], [p.clone() for p in pairs]
        yield "hardtanh", F.hardtanh, lambda x: FB["hardtanh"](x, -1, 1), [ends]
        yield "relu6", F.relu6, FB["relu6"], [ends]


def moments(dtype, v):
    x = v(3, 6)
    times = torch.randint(1, 4, (6,))
    for correction in (0, 1):
        yield ("cov", lambda x: torch.cov(x, correction=correction),
               lambda x: FB["cov"](x, None, None, correction), [x])
        yield ("cov", lambda x: torch.cov(x, correction=correction, fweights=times),
               lambda x: FB["cov"](x, into(times), None, correction), [x])
        yield ("cov", lambda x, a: torch.cov(x, correction=correction, fweights=times, aweights=a),
               lambda x, a: FB["cov"](x, into(times), a, correction), [x, value(dtype, 6, lo=0.5)])
        yield ("cov", lambda x: torch.cov(x, correction=correction),
               lambda x: FB["cov"](x, None, None, correction), [v(6)])
    if dtype in (torch.float32, torch.float64):
        yield "corrcoef", torch.corrcoef, FB["corrcoef"], [x]
    for p, dim, most in [(2.0, 0, 1.0), (1.0, 1, 2.0), (2.0, 0, 100.0)]:
        yield "renorm", lambda x: torch.renorm(x, p, dim, most), lambda x: FB["renorm"](x, p, dim, most), [x]
    for n in ("trapezoid", "cumulative_trapezoid"):
        for dim in (0, -1):
            yield (n, lambda y: getattr(torch, n)(y, dx=0.5, dim=dim),
                   lambda y: FB[n](y, None, 0.5, dim), [v(3, 4)])
            yield (n, lambda y, x: getattr(torch, n)(y, x, dim=dim),
                   lambda y, x: FB[n](y, x, 1, dim), [v(3, 4), v(3, 4)])
        yield n, lambda y, x: getattr(torch, n)(y, x), lambda y, x: FB[n](y, x, 1, -1), [v(3, 4), v(4)]


def matrices(dtype, v):
    for p in (2.0, 1.0, 3.0):
        yield "pdist", lambda x: F.pdist(x, p), lambda x: FB["pdist"](x, p), [v(5, 3)]
    yield "bilinear", F.bilinear, FB["bilinear"], [v(4, 3), v(4, 2), v(5, 3, 2), v(5)]
    yield ("bilinear", lambda x, y, w: F.bilinear(x, y, w), lambda x, y, w: FB["bilinear"](x, y, w, None),
           [v(2, 4, 3), v(2, 4, 2), v(5, 3, 2)])
    for n in (0, 1, 3):
        yield ("vander", lambda x: torch.vander(x, n or None), lambda x: FB["vander"](x, n, False), [v(4)])
    yield ("vander", lambda x: torch.linalg.vander(x, N=3), lambda x: FB["vander"](x, 3, True), [v(2, 4)])
    if dtype not in (torch.float32, torch.float64):
        return
    for scale in (0.1, 1, 4):
        yield "matrix_exp", torch.matrix_exp, FB["matrix_exp"], [v(2, 4, 4) * scale]
    regular = v(2, 4, 4, lo=-1, hi=1) + 4 * torch.eye(4, dtype=dtype)
    shuffled = regular[:, [2, 0, 3, 1]]
    for a in (regular, shuffled, shuffled[:, :, :3].clone(), shuffled[:, :3].clone()):
        yield ("lu_factor", lambda a: list(torch.linalg.lu_factor(a)), outputs("lu_factor", 2), [a])
        yield "lu", lambda a: list(torch.linalg.lu(a)), outputs("lu", 3), [a]
    factors, pivots = torch.linalg.lu_factor(shuffled)
    for left in (True, False):
        for adjoint in (False, True):
            yield ("lu_solve",
                   lambda lu, b: torch.linalg.lu_solve(lu, pivots, b, left=left, adjoint=adjoint),
                   lambda lu, b: FB["lu_solve"](lu, into(pivots), b, not left, adjoint),
                   [factors, v(2, 4, 2) if left else v(2, 2, 4)])
    for keep in (False, True):
        for order in (1, -1, 2, -2, float("inf"), -float("inf")):
            yield ("matrix_norm", lambda a: torch.linalg.matrix_norm(a, order, keepdim=keep),
                   lambda a: FB["matrix_norm"](a, 0, order, keep), [v(2, 4, 3)])
        for kind, ord_ in [(1, "fro"), (2, "nuc")]:
            yield ("matrix_norm", lambda a: torch.linalg.matrix_norm(a, ord_, keepdim=keep),
                   lambda a: FB["matrix_norm"](a, kind, 0, keep), [v(2, 4, 3)])
    for order in (1, -1, 2, -2, float("inf")):
        yield "cond", lambda a: torch.linalg.cond(a, order), lambda a: FB["cond"](a, 0, order), [regular]
    yield "cond", lambda a: torch.linalg.cond(a, "fro"), lambda a: FB["cond"](a, 1, 0), [regular]
    six = v(6, 6) + 6 * torch.eye(6, dtype=dtype)
    yield ("tensorinv", lambda a: torch.linalg.tensorinv(a, 2), lambda a: FB["tensorinv"](a, 2),
           [six.reshape(2, 3, 6)])
    yield "tensorsolve", torch.linalg.tensorsolve, FB["tensorsolve"], [six.reshape(2, 3, 3, 2), v(2, 3)]


def cases():
    """name, PyTorch, ours, inputs"""
    for dtype in ALL:
        def v(*sizes, **range_):
            return value(dtype, *sizes, **range_)
        yield from orders(dtype, v)
        yield from blends(dtype, v)
        if dtype in FLOATS:
            yield from moments(dtype, v)
            yield from matrices(dtype, v)


if __name__ == "__main__":
    J.main(cases)
