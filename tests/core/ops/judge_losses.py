"""PyTorch judges losses and norms, as judge_ops.py does: values, dtypes and gradients for every floating
dtype. Needs torch; run by launch/test --judges PYTHON."""
import ctypes as C

import torch
import torch.nn.functional as F

import judge_ops as J
from judge_ops import B, D, FLOATS, I, L, P, Shape, into, shape, value

REDUCTIONS = ["mean", "sum", "none"]


class PoissonOptions(C.Structure):
    _fields_ = [("rates", B), ("full", B), ("eps", D), ("reduction", I)]


class GaussianOptions(C.Structure):
    _fields_ = [("full", B), ("eps", D), ("reduction", I)]


class TripletOptions(C.Structure):
    _fields_ = [("margin", D), ("p", D), ("eps", D), ("swap", B), ("reduction", I)]


class CtcOptions(C.Structure):
    _fields_ = [("blank", L), ("zero_infinity", B), ("reduction", I)]


FB = J.FB
for name, types in {
        "nll_loss": (P, P, P, P, L, I), "l1_loss": (P, P, P, I), "smooth_l1_loss": (P, P, P, D, I),
        "huber_loss": (P, P, P, D, I), "binary_cross_entropy": (P, P, P, P, I),
        "binary_cross_entropy_with_logits": (P, P, P, P, P, I), "kl_div": (P, P, P, B, I),
        "poisson_nll_loss": (P, P, P, P), "gaussian_nll_loss": (P, P, P, P, P),
        "soft_margin_loss": (P, P, P, I), "hinge_embedding_loss": (P, P, P, D, I),
        "margin_ranking_loss": (P, P, P, P, D, I), "cosine_embedding_loss": (P, P, P, P, D, I),
        "cosine_similarity": (P, P, P, I, D), "pairwise_distance": (P, P, P, D, D, B),
        "triplet_margin_loss": (P, P, P, P, P), "multi_margin_loss": (P, P, P, P, I, D, I),
        "multilabel_margin_loss": (P, P, P, I), "multilabel_soft_margin_loss": (P, P, P, P, I),
        "ctc_loss": (P, P, P, P, P, P), "group_norm": (P, P, L, P, P, D),
        "instance_norm": (P, P, P, P, D), "rms_norm": (P, P, Shape, P, D),
        "local_response_norm": (P, P, L, D, D, D), "normalize": (P, P, D, I, D)}.items():
    FB[name] = J.bind(name, *types)


def pairs(dtype, v):
    """Losses of an input and a target."""
    x, t = [v(3, 5)], [v(3, 5)]
    unit = value(dtype, 3, 5, lo=0.05, hi=0.95)
    sure = torch.tensor([[0.0, 1.0, 0.5, 1.0, 0.0]], dtype=dtype).expand(3, 5).contiguous()
    for r, how in enumerate(REDUCTIONS):
        yield "l1_loss", lambda x, t: F.l1_loss(x, t, reduction=how), lambda x, t: FB["l1_loss"](x, t, r), x + t
        for beta in (0.0, 0.5, 1.0, 2.0):
            yield ("smooth_l1_loss", lambda x, t: F.smooth_l1_loss(x, t, reduction=how, beta=beta),
                   lambda x, t: FB["smooth_l1_loss"](x, t, beta, r), x + t)
        for delta in (0.5, 1.0):
            yield ("huber_loss", lambda x, t: F.huber_loss(x, t, reduction=how, delta=delta),
                   lambda x, t: FB["huber_loss"](x, t, delta, r), x + t)
        yield ("soft_margin_loss", lambda x, t: F.soft_margin_loss(x, t, reduction=how),
               lambda x, t: FB["soft_margin_loss"](x, t, r), x + t)
        for log_target in (False, True):
            yield ("kl_div", lambda x, t: F.kl_div(x, t, reduction=how, log_target=log_target),
                   lambda x, t: FB["kl_div"](x, t, log_target, r), x + [unit])
        weight = value(dtype, 5, lo=0.5)
        for target in (unit, sure):
            yield ("binary_cross_entropy", lambda x, t: F.binary_cross_entropy(x, t, reduction=how),
                   lambda x, t: FB["binary_cross_entropy"](x, t, None, r), [value(dtype, 3, 5, lo=0.05, hi=0.95), target])
            yield ("binary_cross_entropy",
                   lambda x, t: F.binary_cross_entropy(x, t, weight.to(x.dtype), reduction=how),
                   lambda x, t: FB["binary_cross_entropy"](x, t, into(weight), r), [unit, target])
            for far in (2, 40):
                yield ("binary_cross_entropy_with_logits",
                       lambda x, t: F.binary_cross_entropy_with_logits(x, t, reduction=how),
                       lambda x, t: FB["binary_cross_entropy_with_logits"](x, t, None, None, r),
                       [value(dtype, 3, 5, lo=-far, hi=far), target])
            yield ("binary_cross_entropy_with_logits",
                   lambda x, t, p: F.binary_cross_entropy_with_logits(x, t, None, pos_weight=p, reduction=how),
                   lambda x, t, p: FB["binary_cross_entropy_with_logits"](x, t, None, p, r),
                   x + [target, value(dtype, 5, lo=0.5)])
            yield ("binary_cross_entropy_with_logits",
                   lambda x, t, w: F.binary_cross_entropy_with_logits(x, t, w, reduction=how),
                   lambda x, t, w: FB["binary_cross_entropy_with_logits"](x, t, w, None, r),
                   x + [target, value(dtype, 5, lo=0.5)])
        for log_input in (True, False):
            for full in (False, True):
                o = PoissonOptions(not log_input, full, 0, r)
                yield ("poisson_nll_loss",
                       lambda x, t: F.poisson_nll_loss(x, t, log_input=log_input, full=full, reduction=how),
                       lambda x, t: FB["poisson_nll_loss"](x, t, C.byref(o)),
                       [value(dtype, 3, 5, lo=0.25), value(dtype, 3, 5, lo=0.25, hi=4)])
        labels = (torch.randint(0, 2, (3, 5)) * 2 - 1).to(dtype)
        yield ("hinge_embedding_loss", lambda x: F.hinge_embedding_loss(x, labels, 0.75, reduction=how),
               lambda x: FB["hinge_embedding_loss"](x, into(labels), 0.75, r), x)
        yield ("multilabel_soft_margin_loss", lambda x, t: F.multilabel_soft_margin_loss(x, t, reduction=how),
               lambda x, t: FB["multilabel_soft_margin_loss"](x, t, None, r), x + [unit])
    for sizes, var in [((3, 5), (3, 5)), ((3, 5), (3,)), ((3, 5), (3, 1))]:
        for full in (False, True):
            o = GaussianOptions(full, 0, 0)
            yield ("gaussian_nll_loss", lambda x, t, s: F.gaussian_nll_loss(x, t, s, full=full),
                   lambda x, t, s: FB["gaussian_nll_loss"](x, t, s, C.byref(o)),
                   [v(*sizes), v(*sizes), value(dtype, *var, lo=0.25)])
    yield ("kl_div", lambda x, t: F.kl_div(x, t, reduction="batchmean"), lambda x, t: FB["kl_div"](x, t, False, 3),
           x + [unit])


def rows(dtype, v):
    """Distances, similarities and what is made of them."""
    for r, how in enumerate(REDUCTIONS):
        sign = torch.randint(0, 2, (6,)) * 2 - 1
        yield ("margin_ranking_loss", lambda a, b: F.margin_ranking_loss(a, b, sign, 0.25, reduction=how),
               lambda a, b: FB["margin_ranking_loss"](a, b, into(sign), 0.25, r), [v(6), v(6)])
        for margin in (0.0, -0.5):
            yield ("cosine_embedding_loss", lambda a, b: F.cosine_embedding_loss(a, b, sign, margin, reduction=how),
                   lambda a, b: FB["cosine_embedding_loss"](a, b, into(sign), margin, r), [v(6, 4), v(6, 4)])
        for p, swap in [(2, False), (1, False), (2, True), (3, True)]:
            o = TripletOptions(1, p, 0, swap, r)
            yield ("triplet_margin_loss",
                   lambda a, b, c: F.triplet_margin_loss(a, b, c, 1, p, swap=swap, reduction=how),
                   lambda a, b, c: FB["triplet_margin_loss"](a, b, c, C.byref(o)), [v(6, 4), v(6, 4), v(6, 4)])
    for p in (2, 1, 3, 0.5):
        yield ("pairwise_distance", lambda a, b: F.pairwise_distance(a, b, p),
               lambda a, b: FB["pairwise_distance"](a, b, p, 1e-6, False), [v(6, 4), v(6, 4)])
    for dim in (0, 1, -1):
        yield ("cosine_similarity", lambda a, b: F.cosine_similarity(a, b, dim),
               lambda a, b: FB["cosine_similarity"](a, b, dim, 1e-8), [v(3, 4, 2), v(4, 2) if dim else v(3, 4, 2)])
    zero = v(2, 3)
    zero[0] = 0
    yield ("cosine_similarity", lambda a, b: F.cosine_similarity(a, b, -1, 0.5),
           lambda a, b: FB["cosine_similarity"](a, b, -1, 0.5), [zero, v(2, 3)])


def classes(dtype, v):
    """Losses of class indices, and of probabilities."""
    weight = value(dtype, 5, lo=0.5)
    for r, how in enumerate(REDUCTIONS):
        for sizes, target in [((4, 5), (4,)), ((2, 5, 3), (2, 3)), ((2, 5, 3, 2), (2, 3, 2)), ((5,), ())]:
            t = torch.randint(0, 5, target)
            yield ("nll_loss", lambda x: F.nll_loss(x, t, reduction=how),
                   lambda x: FB["nll_loss"](x, into(t), None, -100, r), [v(*sizes)])
            yield ("nll_loss", lambda x: F.nll_loss(x, t, weight.to(x.dtype), ignore_index=2, reduction=how),
                   lambda x: FB["nll_loss"](x, into(t), into(weight), 2, r), [v(*sizes)])
            for smoothing in (0, 0.25):
                o = J.EntropyOptions(None, 0, smoothing, r)
                yield ("cross_entropy", lambda x, t: F.cross_entropy(x, t, reduction=how, label_smoothing=smoothing),
                       lambda x, t: FB["cross_entropy"](x, t, C.byref(o)),
                       [v(*sizes), value(dtype, *sizes, lo=0, hi=1)])
                yield ("cross_entropy",
                       lambda x, t: F.cross_entropy(x, t, weight.to(x.dtype), reduction=how, label_smoothing=smoothing),
                       lambda x, t: FB["cross_entropy"](
                           x, t, C.byref(J.EntropyOptions(into(weight), 0, smoothing, r))),
                       [v(*sizes), value(dtype, *sizes, lo=0, hi=1)])
        for sizes in [(4, 5), (5,)]:
            t = torch.randint(0, 5, sizes[:-1])
            for p in (1, 2):
                yield ("multi_margin_loss", lambda x: F.multi_margin_loss(x, t, p, 1, reduction=how),
                       lambda x: FB["multi_margin_loss"](x, into(t), None, p, 1, r), [v(*sizes)])
                yield ("multi_margin_loss",
                       lambda x: F.multi_margin_loss(x, t, p, 0.5, weight.to(x.dtype), reduction=how),
                       lambda x: FB["multi_margin_loss"](x, into(t), into(weight), p, 0.5, r), [v(*sizes)])
            listed = torch.stack([torch.randperm(5) for _ in range(sizes[0] if len(sizes) > 1 else 1)])
            listed[:, 3] = -1
            listed = listed.reshape(sizes)
            yield ("multilabel_margin_loss", lambda x: F.multilabel_margin_loss(x, listed, reduction=how),
                   lambda x: FB["multilabel_margin_loss"](x, into(listed), r), [v(*sizes)])


def sequences(dtype, v):
    """The gradient is compared behind log_softmax: PyTorch's of log_probs has exp(log_probs) in it, which
    goes there."""
    for r, how in enumerate(REDUCTIONS):
        for blank, zero in [(0, False), (3, True)]:
            steps = torch.tensor([9, 8, 9, 4 if zero else 9])
            lengths = torch.tensor([3, 1, 0, 4])
            labels = torch.randint(0, 4, (4, 4))
            labels = torch.where(labels == blank, torch.full_like(labels, 4), labels)
            if zero:
                labels[3] = 1  # repetitions: no path of four steps
            o = CtcOptions(blank, zero, r)

            def ours(x, t):
                return FB["ctc_loss"](FB["log_softmax"](x, -1), into(t), into(steps), into(lengths), C.byref(o))

            def theirs(x, t):
                return F.ctc_loss(x.log_softmax(-1), t, steps, lengths, blank, how, zero)
            joined = torch.cat([labels[i, :n] for i, n in enumerate(lengths)])
            for t in (labels, joined):
                yield "ctc_loss", lambda x: theirs(x, t), lambda x: ours(x, t), [v(9, 4, 5)]
    line = torch.tensor([2, 2, 1])
    yield ("ctc_loss", lambda x: F.ctc_loss(x.log_softmax(-1), line, torch.tensor(7), torch.tensor(3)),
           lambda x: FB["ctc_loss"](FB["log_softmax"](x, -1), into(line), into(torch.tensor(7)),
                                    into(torch.tensor(3)), None), [v(7, 4)])


def norms(dtype, v):
    wide = torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
    for params in {dtype, wide}:
        for sizes in [(2, 6, 5), (3, 6), (2, 6, 3, 2), (2, 6, 2, 2, 2)]:
            w, b = value(params, 6, lo=0.5), value(params, 6)
            for groups in (1, 2, 3):
                yield ("group_norm", lambda x, w, b: F.group_norm(x, groups, w, b),
                       lambda x, w, b: FB["group_norm"](x, groups, w, b, 1e-5), [v(*sizes), w, b])
            yield ("instance_norm", lambda x, w, b: F.instance_norm(x, weight=w, bias=b),
                   lambda x, w, b: FB["instance_norm"](x, w, b, 1e-5), [v(*sizes), w, b])
            if len(sizes) > 3:
                yield ("batch_norm", lambda x, w, b: F.batch_norm(x, None, None, w, b, True),
                       lambda x, w, b: FB["batch_norm"](x, w, b, 1e-5, None, None), [v(*sizes), w, b])
    for sizes in [(2, 6, 5), (2, 6, 3, 2)]:
        yield ("group_norm", lambda x: F.group_norm(x, 2), lambda x: FB["group_norm"](x, 2, None, None, 1e-5),
               [v(*sizes)])
        yield "instance_norm", F.instance_norm, lambda x: FB["instance_norm"](x, None, None, 1e-5), [v(*sizes)]
        for size in (1, 2, 3, 4, 9):
            yield ("local_response_norm", lambda x: F.local_response_norm(x, size, 0.5, 0.75, 1.5),
                   lambda x: FB["local_response_norm"](x, size, 0.5, 0.75, 1.5), [v(*sizes)])
    for ends in [(4,), (3, 4)]:
        yield ("rms_norm", lambda x, w: F.rms_norm(x, ends, w),
               lambda x, w: FB["rms_norm"](x, shape(*ends), w, 0), [v(2, 3, 4), value(dtype, *ends, lo=0.5)])
        yield ("rms_norm", lambda x: F.rms_norm(x, ends, eps=0.01),
               lambda x: FB["rms_norm"](x, shape(*ends), None, 0.01), [v(2, 3, 4)])
    zero = v(3, 4)
    zero[1] = 0
    for p in (2.0, 1.0, 3.0):
        for dim in (0, -1):
            yield ("normalize", lambda x: F.normalize(x, p, dim), lambda x: FB["normalize"](x, p, dim, 1e-12), [v(3, 4)])
        yield "normalize", lambda x: F.normalize(x, p, 1), lambda x: FB["normalize"](x, p, 1, 1e-12), [zero]


def cases():
    """name, PyTorch, ours, inputs"""
    for dtype in FLOATS:
        def v(*sizes, **range_):
            return value(dtype, *sizes, **range_)
        for family in (pairs, rows, classes, sequences, norms):
            yield from family(dtype, v)


if __name__ == "__main__":
    J.main(cases)
