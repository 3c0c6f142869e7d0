"""PyTorch judges linear algebra, as judge_ops.py does: values, dtypes and gradients for every dtype.
Needs torch; run by launch/test --judges PYTHON."""
import ctypes as C

import torch

import judge_ops as J
from judge_ops import ALL, B, D, I, L, P, Shape, Tensors, error, shape, tensors, value

J.DELIBERATE |= {(name, torch.bool) for name in ("mm", "bmm", "mv", "einsum", "inner", "tensordot",
                                                 "multi_dot", "kron", "addmm", "baddbmm", "addr")}


class TriangularOptions(C.Structure):
    _fields_ = [("upper", B), ("right", B), ("unitriangular", B)]


FB = J.FB
for name, types in {
        "mm": (P, P, P), "bmm": (P, P, P), "mv": (P, P, P), "dot": (P, P, P), "vdot": (P, P, P),
        "inner": (P, P, P), "outer": (P, P, P), "kron": (P, P, P), "trace": (P, P),
        "addmm": (P, P, P, P, D, D), "addmv": (P, P, P, P, D, D), "addr": (P, P, P, P, D, D),
        "addbmm": (P, P, P, P, D, D), "baddbmm": (P, P, P, P, D, D), "cross": (P, P, P, I),
        "vecdot": (P, P, P, I), "einsum": (P, C.c_char_p, Tensors), "multi_dot": (P, Tensors),
        "tensordot": (P, P, P, Shape, Shape), "cdist": (P, P, P, D),
        "tril": (P, P, L), "triu": (P, P, L), "cholesky": (P, P, B), "cholesky_inverse": (P, P, B), "cholesky_solve": (P, P, P, B),
        "solve_triangular": (P, P, P, P), "solve": (P, P, P), "inv": (P, P),
        "matrix_power": (P, P, L), "det": (P, P), "slogdet": (I, P, P, P), "logdet": (P, P),
        "qr": (I, P, B, P, P), "svd": (I, P, B, P, P, P), "svdvals": (P, P),
        "eigh": (I, P, B, P, P), "eigvalsh": (P, P, B), "pinv": (P, P, D),
        "matrix_rank": (P, P, D), "lstsq": (P, P, P)}.items():
    FB[name] = J.bind(name, *types)


def several(name, n, *args):
    """The results of a function that has n of them."""
    def run(x):
        out = [C.c_void_p() for _ in range(n)]
        FB[name](x, *args, *[C.byref(o) for o in out])
        return out[0].value and [o.value for o in out]
    return run


def products(dtype):
    def v(*sizes):
        return value(dtype, *sizes)

    for n, a, b in [("mm", (3, 4), (4, 2)), ("mm", (0, 4), (4, 2)), ("mm", (3, 0), (0, 2)),
                    ("bmm", (2, 3, 4), (2, 4, 2)), ("mv", (3, 4), (4,)), ("dot", (5,), (5,)),
                    ("vdot", (5,), (5,)), ("inner", (2, 3, 4), (2, 4)), ("inner", (4,), (4,)),
                    ("inner", (), (3,)), ("outer", (3,), (4,)), ("kron", (2, 3), (3, 2)),
                    ("kron", (2, 3), (4,)), ("kron", (), (2, 2))]:
        yield n, getattr(torch, n), FB[n], [v(*a), v(*b)]
    for other in ALL:
        yield "outer", torch.outer, FB["outer"], [v(3), value(other, 2)]
        yield "kron", torch.kron, FB["kron"], [v(2, 3), value(other, 2)]
        yield "cross", torch.linalg.cross, lambda a, b: FB["cross"](a, b, -1), [v(2, 3), value(other, 3)[None]]
    yield "trace", torch.trace, FB["trace"], [v(4, 3)]
    for n, input_, a, b in [("addmm", (2,), (3, 4), (4, 2)), ("addmm", (3, 2), (3, 4), (4, 2)),
                            ("addmm", (3, 1), (3, 4), (4, 2)), ("addmv", (3,), (3, 4), (4,)),
                            ("addr", (3, 4), (3,), (4,)), ("addbmm", (3, 2), (2, 3, 4), (2, 4, 2)),
                            ("baddbmm", (2, 3, 2), (2, 3, 4), (2, 4, 2)),
                            ("baddbmm", (2,), (2, 3, 4), (2, 4, 2))]:
        for beta, alpha in [(1, 1), (2, -3), (0, 2)]:
            yield (n, lambda i, a, b, n=n, s=beta, t=alpha: getattr(torch, n)(i, a, b, beta=s, alpha=t),
                   lambda i, a, b, n=n, s=beta, t=alpha: FB[n](i, a, b, s, t),
                   [v(*input_), v(*a), v(*b)])
    yield ("vecdot", lambda a, b: torch.linalg.vecdot(a, b, dim=0),
           lambda a, b: FB["vecdot"](a, b, 0), [v(3, 4), v(3, 1)])
    yield ("tensordot", lambda a, b: torch.tensordot(a, b, dims=([1, 2], [1, 0])),
           lambda a, b: FB["tensordot"](a, b, shape(1, 2), shape(1, 0)), [v(2, 3, 4), v(4, 3, 5)])
    for chain in [((2, 5), (5, 1), (1, 4), (4, 3)), ((5,), (5, 2), (2,)), ((3, 4), (4, 2))]:
        yield ("multi_dot", lambda *t: torch.linalg.multi_dot(t),
               lambda *t: FB["multi_dot"](tensors(t)), [v(*s) for s in chain])
    for p in (0.0, 1.0, 2.0, 3.0, float("inf")):
        if p:
            yield ("cdist", lambda a, b, p=p: torch.cdist(a, b, p), lambda a, b, p=p: FB["cdist"](a, b, p),
                   [v(2, 3, 4), v(5, 4)])


def sums(dtype):
    for equation, *sizes in [
            ("ij,jk->ik", (3, 4), (4, 2)), ("ij,jk", (3, 4), (4, 2)), ("ij,jk->ki", (3, 4), (4, 2)),
            ("ji,kj->ik", (4, 3), (2, 4)), ("bij,bjk->bik", (2, 3, 4), (2, 4, 2)), ("ii", (3, 3)),
            ("ii->i", (3, 3)), ("ij->ji", (3, 4)), ("ij->", (3, 4)), ("ij->j", (3, 4)),
            ("...ij,...jk->...ik", (2, 1, 3, 4), (3, 4, 2)), ("...ij,jk", (2, 3, 4), (4, 2)),
            ("i,j->ij", (3,), (4,)), ("i,i", (3,), (3,)), ("i,i->i", (3,), (3,)), ("ij,ij->ij", (2, 3), (2, 3)),
            ("ij,jk,kl->il", (3, 4), (4, 2), (2, 5)), ("ij,jk,kl,lm", (2, 3), (3, 4), (4, 2), (2, 2)),
            ("bn,anm,bm->ba", (2, 3), (4, 3, 5), (2, 5)), ("ijk,ilm,njm,nlk,abc->", *[(2, 2, 2)] * 5),
            ("i...->...", (2, 3, 4)), ("...i,...i->...", (2, 3), (3,)), (" i j , j -> i ", (2, 3), (3,)),
            ("ii,i->i", (3, 3), (3,)), ("iij,jk->ik", (2, 2, 3), (3, 4)), ("aB,Bc", (2, 3), (3, 4)),
            ("ij,kj->ik", (1, 3), (2, 3)), ("ij,jk->ik", (3, 1), (4, 2)), (",i->i", (), (3,)),
            ("bhqd,bhkd->bhqk", (2, 2, 3, 4), (2, 2, 5, 4)), ("...,...->...", (2, 3), (3,)),
            ("ij,jk->ik", (0, 3), (3, 2)), ("ij,jk->ik", (2, 0), (0, 3)), ("...->...", (2, 3)),
            ("i,j->", (3,), (4,)), ("ijij->ij", (2, 3, 2, 3)), ("i->i", (3,)), ("ab,cd->dcba", (2, 3), (4, 5))]:
        yield ("einsum", lambda *t, e=equation: torch.einsum(e, *t),
               lambda *t, e=equation: FB["einsum"](e.encode(), tensors(t)),
               [value(dtype, *s, lo=-1, hi=1) for s in sizes])


def regular(dtype, *sizes):
    return value(dtype, *sizes, lo=-1, hi=1) + 3 * torch.eye(sizes[-2], sizes[-1], dtype=dtype)


def symmetric(dtype, *sizes):
    a = value(dtype, *sizes, lo=-1, hi=1)
    return a + a.mT


def magnitudes(run):
    """Vectors without their signs, which nothing fixes."""
    return lambda x: (lambda out: out and [FB["abs"](o) for o in out])(run(x))


def decompositions(dtype):
    def v(*sizes):
        return value(dtype, *sizes, lo=-1, hi=1)

    def r(*sizes):
        return regular(dtype, *sizes)

    def p(*sizes):
        a = r(*sizes)
        return a @ a.mT

    for upper in (False, True):
        def triangle(a, upper=upper):
            return a.triu() if upper else a.tril()
        yield ("cholesky", lambda a, u=upper: torch.linalg.cholesky(a, upper=u),
               lambda a, u=upper: FB["cholesky"](a, u), [p(2, 4, 4)])
        # PyTorch's gradient of the other triangle, which is not read, is not 0
        yield ("cholesky_inverse", lambda a, u=upper, t=triangle: torch.cholesky_inverse(t(a), u),
               lambda a, u=upper: FB["cholesky_inverse"](FB["triu" if u else "tril"](a, 0), u),
               [r(2, 3, 3)])
        yield ("cholesky_solve", lambda b, a, u=upper, t=triangle: torch.cholesky_solve(b, t(a), u),
               lambda b, a, u=upper: FB["cholesky_solve"](b, FB["triu" if u else "tril"](a, 0), u),
               [v(3, 2), r(2, 3, 3)])
        for right in (False, True):
            for unit in (False, True):
                yield ("solve_triangular",
                       lambda a, b, u=upper, s=right, n=unit: torch.linalg.solve_triangular(
                           a, b, upper=u, left=not s, unitriangular=n),
                       lambda a, b, u=upper, s=right, n=unit: FB["solve_triangular"](
                           a, b, C.byref(TriangularOptions(u, s, n))),
                       [triangle(r(2, 3, 3)), v(3, 3)])
        yield ("eigvalsh", lambda a, u=upper: torch.linalg.eigvalsh(a, UPLO="LU"[u]),
               lambda a, u=upper: FB["eigvalsh"](a, u), [symmetric(dtype, 2, 4, 4)])
        yield ("eigh", lambda a, u=upper: [t.abs() for t in torch.linalg.eigh(a, UPLO="LU"[u])],
               magnitudes(several("eigh", 2, upper)), [symmetric(dtype, 2, 4, 4)])
    for a, b in [((3, 3), (3, 2)), ((2, 3, 3), (3, 2)), ((3, 3), (3,)), ((2, 3, 3), (2, 3)),
                 ((2, 1, 3, 3), (4, 3, 1)), ((0, 3, 3), (3, 1)), ((3, 3), (3, 0))]:
        yield "solve", torch.linalg.solve, FB["solve"], [r(*a), v(*b)]
    for sizes in [(3, 3), (2, 4, 4), (0, 0), (2, 0, 0)]:
        yield "inv", torch.linalg.inv, FB["inv"], [r(*sizes)]
        yield "det", torch.linalg.det, FB["det"], [r(*sizes)]
        yield "logdet", torch.logdet, FB["logdet"], [r(*sizes)]
        yield "slogdet", lambda a: list(torch.linalg.slogdet(a)), several("slogdet", 2), [r(*sizes)]
    yield "logdet", torch.logdet, FB["logdet"], [-r(3, 3)]
    for n in (0, 1, 2, 5, -1, -3):
        yield ("matrix_power", lambda a, n=n: torch.linalg.matrix_power(a, n),
               lambda a, n=n: FB["matrix_power"](a, n), [r(2, 3, 3)])
    for sizes in [(3, 3), (2, 4, 3), (2, 2, 4), (0, 3), (3, 0)]:
        yield ("qr", lambda a: list(torch.linalg.qr(a)), several("qr", 2, False), [r(*sizes)])
        yield ("svd", lambda a: [t.abs() for t in torch.linalg.svd(a, full_matrices=False)],
               magnitudes(several("svd", 3, False)), [r(*sizes)])
        yield "svdvals", torch.linalg.svdvals, FB["svdvals"], [r(*sizes)]
        yield "pinv", torch.linalg.pinv, lambda a: FB["pinv"](a, 0), [r(*sizes)]
        yield ("matrix_rank", torch.linalg.matrix_rank, lambda a: FB["matrix_rank"](a, 0),
               [r(*sizes).detach()])
    yield ("qr complete", lambda a: list(torch.linalg.qr(a.detach(), mode="complete")),
           lambda a: [FB["to"](o, J.DTYPES[dtype]) for o in several("qr", 2, True)(J.FB["detach"](a))], [r(4, 2)])
    low = torch.tensor([[1, 2, 3], [2, 4, 6], [0, 1, 1], [1, 3, 4]], dtype=dtype)
    yield "matrix_rank", torch.linalg.matrix_rank, lambda a: FB["matrix_rank"](a, 0), [low]
    for a, b in [((4, 3), (4, 2)), ((2, 3, 3), (2, 3, 1)), ((2, 4), (2, 3))]:
        yield "lstsq", lambda a, b: torch.linalg.lstsq(a, b).solution, FB["lstsq"], [r(*a), v(*b)]


FB["detach"] = J.bind("detach", P, P)


def cases():
    for dtype in ALL:
        yield from products(dtype)
        yield from sums(dtype)
        if dtype in (torch.float32, torch.float64):
            yield from decompositions(dtype)


if __name__ == "__main__":
    J.main(cases)
