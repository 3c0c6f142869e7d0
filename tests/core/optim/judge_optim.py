"""PyTorch judges optimizers and schedules: 100 steps of each, in F32 and F64, from the same gradients.
Lion and LAMB, which PyTorch has not, are written out here. Needs torch; launch/test --judges PYTHON."""
import ctypes as C
import math
import os
import sys

import torch

P, I, L, D, B = C.c_void_p, C.c_int, C.c_int64, C.c_double, C.c_bool
DTYPES = {torch.float32: 1, torch.float64: 2}
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-11}
STEPS = 100
SHAPES = [(7, 5), (5,), (3, 4, 2), (4, 9)]
LIB = None


class Shape(C.Structure):
    _fields_ = [("n", I), ("d", L * 8)]


def options(*fields):
    names = [f.split(":")[0] for f in fields]
    kinds = {"": D, "b": B, "l": L, "i": I, "p": P}
    return type("Options", (C.Structure,),
                {"_fields_": [(n, kinds[(f.split(":") + [""])[1]]) for n, f in zip(names, fields)]})


OPTIONS = {
    "sgd": options("lr", "momentum", "dampening", "weight_decay", "nesterov:b", "maximize:b"),
    "adam": options("lr", "beta1", "beta2", "eps", "weight_decay", "amsgrad:b", "maximize:b"),
    "rmsprop": options("lr", "alpha", "eps", "weight_decay", "momentum", "centered:b", "maximize:b"),
    "adagrad": options("lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps", "maximize:b"),
    "adadelta": options("lr", "rho", "eps", "weight_decay", "maximize:b"),
    "adamax": options("lr", "beta1", "beta2", "eps", "weight_decay", "maximize:b"),
    "nadam": options("lr", "beta1", "beta2", "eps", "weight_decay", "momentum_decay",
                     "decoupled_weight_decay:b", "maximize:b"),
    "radam": options("lr", "beta1", "beta2", "eps", "weight_decay", "decoupled_weight_decay:b",
                     "maximize:b"),
    "rprop": options("lr", "etaminus", "etaplus", "step_min", "step_max", "maximize:b"),
    "lion": options("lr", "beta1", "beta2", "weight_decay", "maximize:b"),
    "lamb": options("lr", "beta1", "beta2", "eps", "weight_decay", "maximize:b"),
    "adafactor": options("lr", "beta2_decay", "eps1", "eps2", "d", "weight_decay", "maximize:b"),
    "muon": options("lr", "weight_decay", "momentum", "plain:b", "a", "b", "c", "eps", "ns_steps:l", "rate:i",
                    "adamw_lr", "beta1", "beta2", "adamw_eps"),
    "lbfgs": options("lr", "max_iter:l", "max_eval:l", "tolerance_grad", "tolerance_change",
                     "history_size:l", "strong_wolfe:b", "maximize:b"),
}
OPTIONS["adamw"] = OPTIONS["adam"]
CLOSURE = C.CFUNCTYPE(P, P)
LAMBDA = C.CFUNCTYPE(D, L, P)
SIGNATURES = {
    "context_open_v": (P, P, I), "version": (I,), "error_take": (I, P, C.c_char_p, C.c_size_t),
    "from": (P, P, I, Shape, P), "read": (I, P, P, C.c_size_t), "requires_grad": (P, P, B),
    "set_grad": (I, P, P), "drop": (None, P), "optim_add_tensor": (I, P, C.c_char_p, P),
    "optim_step": (I, P), "optim_step_closure": (P, P, CLOSURE, P), "optim_close": (None, P),
    "optim_lr": (D, P), "optim_set_lr": (I, P, D), "optim_momentum": (D, P), "backward": (I, P),
    "optim_clip_value": (I, P, D), "retain": (P, P), "no_grad": (None, P), "enable_grad": (None, P),
    "sum": (P, P, Shape, B), "mul": (P, P, P), "sub": (P, P, P), "add": (P, P, P), "square": (P, P),
    "mul_scalar": (P, P, D), "add_scalar": (P, P, D), "narrow": (P, P, I, L, L),
}
SIGNATURES.update({f"optim_{n}": (P, P, P, P) for n in OPTIONS})
SIGNATURES.update({f"schedule_{n}": (P, P, *args) for n, args in {
    "step_lr": (L, D), "lambda": (LAMBDA, P), "multiplicative": (LAMBDA, P), "multistep": (P, I, D),
    "constant": (D, L), "linear": (D, D, L), "exponential": (D,), "polynomial": (L, D),
    "cosine_annealing": (L, D), "warm_restarts": (L, L, D), "cyclic": (P,), "one_cycle": (P,), "plateau": (P,),
    "swa": (D, L, B), "sequence": (I, P), "chain": (I,)}.items()})
SIGNATURES.update({"schedule_step": (I, P), "schedule_step_metric": (I, P, D), "schedule_lr": (D, P)})
Cyclic = options("base_lr", "max_lr", "up:l", "down:l", "mode:i", "gamma", "keep_momentum:b", "base_momentum",
                 "max_momentum", "scale:p", "user:p", "scale_steps:b")
OneCycle = options("max_lr", "total:l", "pct_start", "div_factor", "final_div_factor", "linear:b", "three_phase:b",
                   "keep_momentum:b", "base_momentum", "max_momentum")
Plateau = options("max:b", "factor", "patience:l", "threshold", "absolute:b", "cooldown:l", "min_lr", "eps")
ctx = None
broken = []
judged = 0


def fb(name, *args):
    f = getattr(LIB, "fb_" + name)
    f.restype, f.argtypes = SIGNATURES[name][0], SIGNATURES[name][1:]
    return f(*args)


def error():
    message = C.create_string_buffer(1024)
    fb("error_take", ctx, message, 1024)
    return message.value.decode()


def shape(sizes):
    return Shape(len(sizes), (L * 8)(*sizes))


def give(t):
    t = t.detach().contiguous()
    return fb("from", ctx, DTYPES[t.dtype], shape(t.shape), t.data_ptr())


def take(handle, like):
    out = torch.empty_like(like.detach(), memory_format=torch.contiguous_format)
    if fb("read", handle, out.data_ptr(), out.numel() * out.element_size()):
        raise RuntimeError(error())
    return out


def compare(what, got, want, dtype, scale=1):
    global judged
    judged += 1
    difference = ((got - want).abs() / (1e-3 + want.abs())).max().item()
    if not difference <= TOLERANCE[dtype] * scale:
        broken.append(f"{what}: differs by {difference:.3g}")


class Ours:
    """The same parameters under an optimizer of ours."""

    def __init__(self, method, opts, tensors):
        packed = OPTIONS[method](**opts)
        self.opt = fb("optim_" + method, ctx, None, C.byref(packed))
        if not self.opt:
            raise RuntimeError(error())
        self.leaves = [fb("requires_grad", fb("retain", give(t)), True) for t in tensors]
        for i, leaf in enumerate(self.leaves):
            fb("optim_add_tensor", self.opt, f"p{i}".encode(), leaf)

    def step(self, gradients):
        for leaf, g in zip(self.leaves, gradients):
            handle = give(g)
            fb("set_grad", leaf, handle)
            fb("drop", handle)
        if fb("optim_step", self.opt):
            raise RuntimeError(error())


def tensors(dtype, shapes=None):
    g = torch.Generator().manual_seed(5)
    return [torch.randn(s, generator=g, dtype=torch.float64).to(dtype) for s in shapes or SHAPES]


def gradient(p, target, step, i):
    """Of a bowl, with noise, so that signs change."""
    noise = torch.sin(torch.arange(p.numel(), dtype=torch.float64) * 1.7 + step * 3.1 + i).reshape(p.shape)
    return ((p.detach().double() - target.double()) + noise).to(p.dtype)


def trajectory(what, dtype, method, opts, theirs, each=None, scale=1, shapes=None):
    start = tensors(dtype, shapes)
    params = [torch.nn.Parameter(t.clone()) for t in start]
    targets = [t.flip(0) for t in start]
    other = theirs(params)
    ours = Ours(method, opts, start)
    for step in range(STEPS):
        gradients = [gradient(p, t, step, i) for i, (p, t) in enumerate(zip(params, targets))]
        for p, g in zip(params, gradients):
            p.grad = g.clone()
        ours.step(gradients)
        other.step()
        if each:
            each(step, ours, other)
        if step in (0, 1, 9, STEPS - 1):
            for i, (leaf, p) in enumerate(zip(ours.leaves, params)):
                compare(f"{what} {dtype} parameter {i} step {step}", take(leaf, p), p.detach(), dtype, scale)
    fb("optim_close", ours.opt)


class Lion(torch.optim.Optimizer):
    def __init__(self, params, lr=1e-4, beta1=0.9, beta2=0.99, weight_decay=0.0, maximize=False):
        super().__init__(params, dict(lr=lr, b1=beta1, b2=beta2, wd=weight_decay, sign=-1 if maximize else 1))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                g, m = group["sign"] * p.grad, self.state[p].setdefault("m", torch.zeros_like(p))
                p.mul_(1 - group["lr"] * group["wd"])
                p.sub_(group["lr"] * (group["b1"] * m + (1 - group["b1"]) * g).sign())
                m.mul_(group["b2"]).add_((1 - group["b2"]) * g)


class Lamb(torch.optim.Optimizer):
    def __init__(self, params, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-6, weight_decay=0.0, maximize=False):
        super().__init__(params, dict(lr=lr, b1=beta1, b2=beta2, eps=eps, wd=weight_decay,
                                      sign=-1 if maximize else 1))
        self.t = 0

    @torch.no_grad()
    def step(self):
        self.t += 1
        for group in self.param_groups:
            b1, b2 = group["b1"], group["b2"]
            for p in group["params"]:
                g, s = group["sign"] * p.grad, self.state[p]
                m = s["m"] = b1 * s.get("m", 0) + (1 - b1) * g
                v = s["v"] = b2 * s.get("v", 0) + (1 - b2) * g * g
                r = m / (1 - b1**self.t) / ((v / (1 - b2**self.t)).sqrt() + group["eps"]) + group["wd"] * p
                ratio = p.norm() / r.norm() if p.norm() > 0 and r.norm() > 0 else 1
                p.sub_(group["lr"] * ratio * r)


class MuonAndAdamW:
    """torch.optim.Muon of matrices, with products in the parameters' dtype; AdamW of the rest."""

    def __init__(self, params, other=1e-3, **opts):
        import torch.optim._muon as muon

        def orthogonal(grad, coefficients, steps, eps):
            a, b, c = coefficients
            x = grad.T if grad.size(0) > grad.size(1) else grad
            x = x / x.norm().clamp(min=eps)
            for _ in range(steps):
                gram = x @ x.T
                x = a * x + (b * gram + c * gram @ gram) @ x
            return x.T if grad.size(0) > grad.size(1) else x
        muon._zeropower_via_newtonschulz = orthogonal
        decay = opts.get("weight_decay", 0.1)
        self.parts = [torch.optim.Muon([p for p in params if p.ndim == 2], **opts),
                      torch.optim.AdamW([p for p in params if p.ndim != 2], lr=other, weight_decay=decay)]

    def step(self):
        for part in self.parts:
            part.step()


def without(opts, **names):
    """Options by their names in PyTorch."""
    out = {names.get(k, k): v for k, v in opts.items() if k not in ("beta1", "beta2", "etaminus", "etaplus", "step_min",
                                                                      "step_max", "eps1", "eps2")}
    if "beta1" in opts:
        out["betas"] = (opts["beta1"], opts["beta2"])
    if "etaminus" in opts:
        out["etas"] = (opts["etaminus"], opts["etaplus"])
    if "step_min" in opts:
        out["step_sizes"] = (opts["step_min"], opts["step_max"])
    if "eps2" in opts:
        out["eps"] = (opts.get("eps1"), opts["eps2"])
    return out


CASES = [
    ("sgd", torch.optim.SGD, [dict(lr=0.1), dict(lr=0.05, momentum=0.9, weight_decay=0.01),
                              dict(lr=0.05, momentum=0.8, nesterov=True, maximize=True, weight_decay=2.5),
                              dict(lr=0.05, momentum=0.8, dampening=0.3)]),
    ("adam", torch.optim.Adam, [dict(lr=0.02), dict(lr=0.02, weight_decay=0.1, amsgrad=True, beta1=0.8,
                                                    beta2=0.95), dict(lr=0.01, maximize=True)]),
    ("adamw", torch.optim.AdamW, [dict(lr=0.02, weight_decay=0.1), dict(lr=0.02, weight_decay=0.1, amsgrad=True,
                                                                        maximize=True)]),
    ("rmsprop", torch.optim.RMSprop, [dict(lr=0.01), dict(lr=0.01, momentum=0.9, weight_decay=0.1),
                                      dict(lr=0.01, centered=True, alpha=0.9), dict(lr=0.01, centered=True, alpha=0.9,
                                                                                    momentum=0.5, maximize=True)]),
    ("adagrad", torch.optim.Adagrad, [dict(lr=0.1), dict(lr=0.1, lr_decay=0.05, weight_decay=0.1, eps=1e-6,
                                                         initial_accumulator_value=0.3, maximize=True)]),
    ("adadelta", torch.optim.Adadelta, [dict(), dict(lr=0.5, rho=0.8, eps=1e-4, weight_decay=0.1, maximize=True)]),
    ("adamax", torch.optim.Adamax, [dict(lr=0.02), dict(lr=0.02, beta1=0.8, beta2=0.95, weight_decay=0.1, eps=1e-4,
                                                        maximize=True)]),
    ("nadam", torch.optim.NAdam, [dict(lr=0.02), dict(lr=0.02, beta1=0.8, beta2=0.95, weight_decay=0.1,
                                                      momentum_decay=0.02),
                                  dict(lr=0.02, weight_decay=0.1, decoupled_weight_decay=True, maximize=True)]),
    ("radam", torch.optim.RAdam, [dict(lr=0.02), dict(lr=0.02, beta1=0.8, beta2=0.95, weight_decay=0.1),
                                  dict(lr=0.02, weight_decay=0.1, decoupled_weight_decay=True, maximize=True)]),
    ("rprop", torch.optim.Rprop, [dict(), dict(lr=0.1, etaminus=0.4, etaplus=1.3, step_min=1e-3, step_max=0.5,
                                               maximize=True)]),
    ("lion", Lion, [dict(lr=0.01), dict(lr=0.01, beta1=0.8, beta2=0.9, weight_decay=0.1, maximize=True)]),
    ("lamb", Lamb, [dict(lr=0.02), dict(lr=0.02, beta1=0.8, beta2=0.95, weight_decay=0.1, eps=1e-4, maximize=True)]),
    ("adafactor", torch.optim.Adafactor, [dict(lr=0.05), dict(lr=0.02, beta2_decay=-0.6, eps1=1e-5, eps2=1e-2, d=2.0,
                                                              weight_decay=0.1, maximize=True)]),
]
RATES = [None, "match_rms_adamw", "spectral_unclamped"]


def optimizers(dtype):
    # Newton and Schulz lead small singular values to 1, and their roundings with them.
    muon = 20 if dtype == torch.float64 else 200
    for method, theirs, cases in CASES:
        for opts in cases:
            names = dict(opts) if method in ("lion", "lamb") else without(opts)
            trajectory(f"{method} {opts}", dtype, method, opts, lambda p: theirs(p, **names),
                       scale={"adafactor": 5, "lamb": 5, "radam": 5}.get(method, 1))
    for rate, adjust in enumerate(RATES):
        opts = dict(lr=0.02, weight_decay=0.05, momentum=0.9, adamw_lr=0.01, rate=rate)
        trajectory(f"muon {opts}", dtype, "muon", opts,
                   lambda p: MuonAndAdamW(p, other=0.01, lr=0.02, weight_decay=0.05, momentum=0.9,
                                          adjust_lr_fn=adjust), scale=muon)
    opts = dict(plain=True, ns_steps=3, eps=1e-3)
    trajectory(f"muon {opts}", dtype, "muon", opts,
               lambda p: MuonAndAdamW(p, nesterov=False, ns_steps=3, eps=1e-3), scale=muon)


def lbfgs(dtype):
    """Rosenbrock's valley of 6 unknowns."""
    start = torch.tensor([-1.2, 1.0, -0.5, 2.0, 0.3, -0.7], dtype=dtype)

    def valley(x):
        return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()
    for opts in [dict(), dict(lr=0.5, max_iter=4, history_size=3, strong_wolfe=True),
                 dict(strong_wolfe=True, max_iter=10), dict(lr=0.3, max_iter=5, history_size=2, maximize=True)]:
        sign = -1 if opts.get("maximize") else 1
        if not opts.get("strong_wolfe"):
            opts["lr"] = opts.get("lr", 1) * 0.001
        names = {k: v for k, v in opts.items() if k != "strong_wolfe"}
        names["line_search_fn"] = "strong_wolfe" if opts.get("strong_wolfe") else None
        p = torch.nn.Parameter(start.clone())
        other = torch.optim.LBFGS([p], **names)
        ours = Ours("lbfgs", opts, [start])
        leaf = ours.leaves[0]

        def theirs():
            other.zero_grad()
            loss = sign * valley(p)
            loss.backward()
            return loss

        @CLOSURE
        def mine(_):
            a = fb("narrow", leaf, 0, 1, 5)
            b = fb("narrow", leaf, 0, 0, 5)
            bend = fb("mul_scalar", fb("square", fb("sub", a, fb("square", b))), 100 * sign)
            flat = fb("mul_scalar", fb("square", fb("add_scalar", fb("mul_scalar", b, -1), 1)), sign)
            loss = fb("sum", fb("add", bend, flat), shape(()), False)
            return loss if loss and not fb("backward", loss) else None
        for step in range(5):
            want = other.step(theirs).detach()
            handle = fb("optim_step_closure", ours.opt, mine, None)
            if not handle:
                raise RuntimeError(error())
            far = 1 if dtype == torch.float64 else 50
            # every iteration multiplies what roundings differ by
            compare(f"lbfgs {opts} {dtype} loss {step}", take(handle, want), want, dtype, far * 1e5**min(step, 1))
            compare(f"lbfgs {opts} {dtype} step {step}", take(leaf, p), p.detach(), dtype, far * 1e5)
        fb("optim_close", ours.opt)


def listed(values):
    return (L * len(values))(*values)


def many(name, schedules, *args):
    """A sequence or a chain of ours."""
    return lambda opt: fb("schedule_" + name, (P * len(schedules))(*[make(opt) for make in schedules]), len(schedules),
                          *args)


def of(name, *args):
    return lambda opt: fb("schedule_" + name, opt, *args)


S = torch.optim.lr_scheduler
shrink = LAMBDA(lambda step, _: 0.97 ** step)
wobble = LAMBDA(lambda step, _: 0.95 if step % 3 else 1.05)
bell = C.CFUNCTYPE(D, D, P)(lambda x, _: 1 / (1 + 0.1 * x))
SCHEDULES = [
    ("step_lr", of("step_lr", 7, 0.5), lambda o: S.StepLR(o, 7, 0.5)),
    ("lambda", of("lambda", shrink, None), lambda o: S.LambdaLR(o, lambda t: 0.97 ** t)),
    ("multiplicative", of("multiplicative", wobble, None),
     lambda o: S.MultiplicativeLR(o, lambda t: 0.95 if t % 3 else 1.05)),
    ("multistep", of("multistep", listed([5, 20, 20, 60]), 4, 0.3), lambda o: S.MultiStepLR(o, [5, 20, 20, 60], 0.3)),
    ("constant", of("constant", 0.25, 9), lambda o: S.ConstantLR(o, 0.25, 9)),
    ("linear", of("linear", 1 / 3, 0.8, 13), lambda o: S.LinearLR(o, 1 / 3, 0.8, 13)),
    ("exponential", of("exponential", 0.93), lambda o: S.ExponentialLR(o, 0.93)),
    ("polynomial", of("polynomial", 40, 1.7), lambda o: S.PolynomialLR(o, 40, 1.7)),
    ("cosine_annealing", of("cosine_annealing", 17, 0.02), lambda o: S.CosineAnnealingLR(o, 17, 0.02)),
    ("cosine_annealing 0", of("cosine_annealing", 10, 0), lambda o: S.CosineAnnealingLR(o, 10)),
    ("warm_restarts", of("warm_restarts", 6, 2, 0.01), lambda o: S.CosineAnnealingWarmRestarts(o, 6, 2, 0.01)),
    ("warm_restarts 1", of("warm_restarts", 9, 1, 0), lambda o: S.CosineAnnealingWarmRestarts(o, 9)),
    ("cyclic", of("cyclic", C.byref(Cyclic(base_lr=0.01, max_lr=0.2, up=8, down=5))),
     lambda o: S.CyclicLR(o, 0.01, 0.2, 8, 5)),
    ("cyclic 2", of("cyclic", C.byref(Cyclic(base_lr=0.01, max_lr=0.2, up=8, mode=1, base_momentum=0.6,
                                             max_momentum=0.95))),
     lambda o: S.CyclicLR(o, 0.01, 0.2, 8, mode="triangular2", base_momentum=0.6, max_momentum=0.95)),
    ("cyclic exp", of("cyclic", C.byref(Cyclic(base_lr=0.01, max_lr=0.2, up=4, down=9, mode=2, gamma=0.98,
                                               keep_momentum=True))),
     lambda o: S.CyclicLR(o, 0.01, 0.2, 4, 9, mode="exp_range", gamma=0.98, cycle_momentum=False)),
    ("cyclic scale", of("cyclic", C.byref(Cyclic(base_lr=0.01, max_lr=0.2, up=4, scale=C.cast(bell, P),
                                                 scale_steps=True))),
     lambda o: S.CyclicLR(o, 0.01, 0.2, 4, scale_fn=lambda x: 1 / (1 + 0.1 * x), scale_mode="iterations")),
    ("one_cycle", of("one_cycle", C.byref(OneCycle(max_lr=0.3, total=100))), lambda o: S.OneCycleLR(o, 0.3, 100)),
    ("one_cycle 3", of("one_cycle", C.byref(OneCycle(max_lr=0.3, total=110, pct_start=0.4, linear=True,
                                                     three_phase=True, div_factor=10, final_div_factor=100,
                                                     base_momentum=0.7, max_momentum=0.9))),
     lambda o: S.OneCycleLR(o, 0.3, 110, pct_start=0.4, anneal_strategy="linear", three_phase=True, div_factor=10,
                            final_div_factor=100, base_momentum=0.7, max_momentum=0.9)),
    ("swa", of("swa", 0.02, 12, False), lambda o: torch.optim.swa_utils.SWALR(o, 0.02, 12)),
    ("swa line", of("swa", 0.2, 30, True), lambda o: torch.optim.swa_utils.SWALR(o, 0.2, 30, "linear")),
    ("swa 0", of("swa", 0.2, 0, True), lambda o: torch.optim.swa_utils.SWALR(o, 0.2, 0, "linear")),
    ("sequence", many("sequence", [of("linear", 0.1, 1.0, 10), of("exponential", 0.9), of("constant", 0.5, 20),
                                   of("cosine_annealing", 15, 0.01)], listed([10, 30, 60])),
     lambda o: S.SequentialLR(o, [S.LinearLR(o, 0.1, 1.0, 10), S.ExponentialLR(o, 0.9), S.ConstantLR(o, 0.5, 20),
                                  S.CosineAnnealingLR(o, 15, 0.01)], [10, 30, 60])),
    ("chain", many("chain", [of("constant", 0.1, 12), of("exponential", 0.95), of("multistep", listed([40]), 1, 0.5)]),
     lambda o: S.ChainedScheduler([S.ConstantLR(o, 0.1, 12), S.ExponentialLR(o, 0.95), S.MultiStepLR(o, [40], 0.5)])),
    ("chain with swa", many("chain", [of("exponential", 0.97), of("swa", 0.05, 20, False)]),
     lambda o: S.ChainedScheduler([S.ExponentialLR(o, 0.97), torch.optim.swa_utils.SWALR(o, 0.05, 20)])),
]
METRICS = [math.cos(i / 7) + 0.3 / (1 + i) for i in range(STEPS)]
PLATEAUS = [
    (dict(patience=3), dict(patience=3)),
    (dict(max=True, factor=0.5, patience=2, cooldown=4, min_lr=0.01),
     dict(mode="max", factor=0.5, patience=2, cooldown=4, min_lr=0.01)),
    (dict(factor=0.7, patience=-1, threshold=0.05, absolute=True),
     dict(factor=0.7, patience=0, threshold=0.05, threshold_mode="abs")),
    (dict(max=True, patience=1, threshold=0.1, absolute=True, eps=0.01),
     dict(mode="max", patience=1, threshold=0.1, threshold_mode="abs", eps=0.01)),
]


def same(what, got, want):
    global judged
    judged += 1
    if not abs(got - want) <= 1e-12 * abs(want) + 1e-15:
        broken.append(f"{what}: {got!r}, PyTorch {want!r}")


def rates(what, ours, theirs, steps, way):
    """Rates and momenta, of SGD and of Adam."""
    for method, base in (("sgd", torch.optim.SGD), ("adam", torch.optim.Adam)):
        extra = dict(momentum=0.9) if method == "sgd" else {}
        other = base([torch.nn.Parameter(torch.zeros(1))], lr=0.1, **extra)
        mine = Ours(method, dict(lr=0.1, **extra), [torch.zeros(1)])
        theirs_now, ours_now = theirs(other), ours(mine.opt)
        if not ours_now:
            raise RuntimeError(error())
        for step in range(steps + 1):
            group = other.param_groups[0]
            same(f"{what} {method} step {step}", fb("optim_lr", mine.opt), float(group["lr"]))
            same(f"{what} {method} step {step} of the schedule", fb("schedule_lr", ours_now), float(group["lr"]))
            momentum = group["betas"][0] if method == "adam" else group["momentum"]
            same(f"{what} {method} momentum {step}", fb("optim_momentum", mine.opt), momentum)
            if step < steps:
                other.step()
                way(step, ours_now, theirs_now)


def schedules():
    def both(step, ours, theirs):
        theirs.step()
        if fb("schedule_step", ours):
            raise RuntimeError(error())

    def metric(step, ours, theirs):
        theirs.step(METRICS[step])
        if fb("schedule_step_metric", ours, METRICS[step]):
            raise RuntimeError(error())
    for name, ours, theirs in SCHEDULES:
        rates(name, ours, theirs, STEPS - ("one_cycle" == name), both)
    for ours, theirs in PLATEAUS:
        rates(f"plateau {ours}", of("plateau", C.byref(Plateau(**ours))), lambda o: S.ReduceLROnPlateau(o, **theirs),
              STEPS, metric)


def main():
    """Exits with 1 if a number differs."""
    global LIB, ctx
    if os.environ.get("FLAMBEAU_SANITIZE"):
        sys.exit(print("python cannot load a sanitized library: nothing done"))
    LIB = C.CDLL(os.path.join(os.environ["FLAMBEAU_BUILD"], "lib", "libflambeau.so"))
    ctx = fb("context_open_v", None, fb("version"))
    assert ctx
    torch.set_default_dtype(torch.float64)  # of PyTorch's scalars
    for dtype in DTYPES:
        optimizers(dtype)
        lbfgs(dtype)
    schedules()
    for line in broken:
        print(line)
    print(f"PyTorch {torch.__version__}: {judged} comparisons, {len(broken)} differ")
    sys.exit(bool(broken) or not judged)


if __name__ == "__main__":
    main()
