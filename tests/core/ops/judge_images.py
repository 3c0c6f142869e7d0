"""PyTorch judges convolutions, pools and samples of one, two and three dimensions, as judge_ops.py
does. Needs torch; run by launch/test --judges PYTHON."""
import ctypes as C

import torch
import torch.nn.functional as F

import judge_ops as J
from judge_ops import ALL, B, D, I, L, P, Shape, shape, value

FB = J.FB


class InterpolateOptions(C.Structure):
    _fields_ = [("mode", I), ("align_corners", B), ("antialias", B), ("scale", D * 3),
                ("recompute_scale", B)]


class GridOptions(C.Structure):
    _fields_ = [("mode", I), ("padding", I), ("align_corners", B)]


for nd in (1, 2, 3):
    for name, types in {"conv": (P,) * 5, "conv_transpose": (P,) * 5,
                        "max_pool": (P, P, *[L] * nd, P), "avg_pool": (P, P, *[L] * nd, P),
                        "adaptive_avg_pool": (P, P, *[L] * nd),
                        "adaptive_max_pool": (P, P, *[L] * nd)}.items():
        FB[f"{name}{nd}d"] = J.bind(f"{name}{nd}d", *types)
for name, types in {
        "max_pool_with_indices": (I, P, Shape, P, P, P), "max_unpool": (P, P, P, Shape),
        "adaptive_max_pool_with_indices": (I, P, Shape, P, P), "lp_pool": (P, P, D, Shape, P),
        "fractional_max_pool": (I, P, Shape, Shape, P, P, P),
        "interpolate": (P, P, Shape, P), "grid_sample": (P, P, P, P),
        "affine_grid": (P, P, Shape, B)}.items():
    FB[name] = J.bind(name, *types)
# What PyTorch computes of integers and we do not, or of what it has no kernels that we do.
J.DELIBERATE |= {(name, dtype) for dtype in J.INTS for name in (
    "interpolate", "adaptive_avg_pool", "avg_pool", "lp_pool", "conv_transpose3d")}
J.DELIBERATE |= {(name, torch.bool) for name in ("conv1d", "conv3d", "max_pool", "conv_transpose1d")}


def three(v):
    """Numbers of an option; zeros that are meant are FB_ZERO_INT."""
    v = [v] if isinstance(v, int) else list(v)
    if len(v) > 1 or v[0] == 0:
        v = [x if x else -2**63 for x in v]
    return (C.c_int64 * 3)(*v)


def options(stride=0, padding=0, dilation=1, groups=1, output_padding=0, same=False, ceil_mode=False,
            count_include_pad=True, divisor_override=0):
    o = J.ConvOptions(groups=groups, same=same, ceil_mode=ceil_mode,
                      exclude_pad=not count_include_pad, divisor=divisor_override or 0)
    o.padding, o.dilation, o.output_padding = three(padding), three(dilation), three(output_padding)
    if stride:
        o.stride = three(stride)
    return C.byref(o)


def two(name, *args):
    """values and indices"""
    def run(x):
        values, indices = C.c_void_p(), C.c_void_p()
        FB[name](x, *args, C.byref(values), C.byref(indices))
        return values.value and [values.value, indices.value]
    return run


SIZES = {1: (9,), 2: (7, 6), 3: (5, 4, 6)}
KERNEL = {1: (3,), 2: (3, 2), 3: (2, 3, 2)}


def convolutions(dtype):
    def v(*sizes):
        return value(dtype, *sizes, lo=-1, hi=1)

    for nd in (1, 2, 3):
        x, k = SIZES[nd], KERNEL[nd]
        conv, back = getattr(F, f"conv{nd}d"), getattr(F, f"conv_transpose{nd}d")
        some = {1: [{"stride": (2,), "padding": (1,)}, {"dilation": (2,), "groups": 2}],
                2: [{"stride": (2, 1), "padding": (1, 0)}, {"dilation": (2, 1), "groups": 2}],
                3: [{"stride": (2, 1, 2), "padding": (1, 0, 1)}, {"dilation": (2, 1, 1), "groups": 2},
                    {"stride": 2, "padding": 1, "groups": 4}]}[nd]
        for o in [{}, *some]:
            g = o.get("groups", 1)
            yield (f"conv{nd}d", lambda x, w, b, o=o, f=conv: f(x, w, b, **o),
                   lambda x, w, b, o=o, n=nd: FB[f"conv{n}d"](x, w, b, options(**{"stride": 1, **o})),
                   [v(2, 4, *x), v(8, 4 // g, *k), v(8)])
            extras = [{}]
            if o.get("stride"):
                extras.append({"output_padding": 1 if isinstance(o["stride"], int) else
                               tuple(s - 1 for s in o["stride"])})
            if o.get("dilation"):
                extras.append({"output_padding": tuple(d - 1 for d in o["dilation"])})
            for e in extras:
                yield (f"conv_transpose{nd}d", lambda x, w, b, o={**o, **e}, f=back: f(x, w, b, **o),
                       lambda x, w, b, o={**o, **e}, n=nd: FB[f"conv_transpose{n}d"](
                           x, w, b, options(**{"stride": 1, **o})),
                       [v(2, 4, *x), v(4, 8 // g, *k), v(8 // g * g)])
            if not o:
                yield (f"conv_transpose{nd}d", lambda x, w, f=back: f(x, w),
                       lambda x, w, n=nd: FB[f"conv_transpose{n}d"](x, w, None, None),
                       [v(2, 4, *x), v(4, 3, *k)])
                yield (f"conv{nd}d", lambda x, w, f=conv: f(x, w),
                       lambda x, w, n=nd: FB[f"conv{n}d"](x, w, None, None), [v(4, *x), v(8, 4, *k)])
        for d in (1, 2):
            yield (f"conv{nd}d", lambda x, w, f=conv, d=d: f(x, w, padding="same", dilation=d),
                   lambda x, w, n=nd, d=d: FB[f"conv{n}d"](x, w, None, options(1, 0, d, same=True)),
                   [v(2, 3, *x), v(2, 3, *k)])


def pools(dtype):
    for nd in (1, 2, 3):
        x, k = SIZES[nd], KERNEL[nd]
        one = tuple(1 for _ in k)
        for sizes in [(2, 3, *x), (3, *x)]:
            image = value(dtype, *sizes)
            if dtype.is_floating_point:
                image = (torch.randperm(image.numel()).reshape(sizes) / 8 - 3).to(dtype)
            for o in [{}, {"stride": 2, "padding": one}, {"stride": 2, "ceil_mode": True},
                      {"stride": 1, "dilation": 2}]:
                o = {**o}
                if o.get("dilation") and nd == 3:
                    o["dilation"] = (2, 1, 2)
                yield ("max_pool", lambda x, n=nd, k=k, o=o: list(getattr(F, f"max_pool{n}d")(
                           x, k, **o, return_indices=True)),
                       two("max_pool_with_indices", shape(*k), options(**o)), [image])
            for o in [{}, {"stride": 2, "padding": one}, {"stride": 2, "ceil_mode": True},
                      {"stride": 2, "padding": one, "count_include_pad": False},
                      {"stride": 2, "padding": one, "ceil_mode": True, "count_include_pad": False},
                      {"stride": 2, "padding": one, "ceil_mode": True}, {"divisor_override": 3}]:
                if nd == 1 and "divisor_override" in o:
                    continue
                yield ("avg_pool", lambda x, n=nd, k=k, o=o: getattr(F, f"avg_pool{n}d")(x, k, **o),
                       lambda x, n=nd, k=k, o=o: FB[f"avg_pool{n}d"](x, *k, options(**o)), [image])
            for out in [one, tuple(2 for _ in k), tuple(s + 2 for s in x)]:
                yield ("adaptive_avg_pool",
                       lambda x, n=nd, out=out: getattr(F, f"adaptive_avg_pool{n}d")(x, out),
                       lambda x, n=nd, out=out: FB[f"adaptive_avg_pool{n}d"](x, *out), [image])
                yield ("adaptive_max_pool",
                       lambda x, n=nd, out=out: list(getattr(F, f"adaptive_max_pool{n}d")(
                           x, out, return_indices=True)),
                       two("adaptive_max_pool_with_indices", shape(*out)), [image])
        positive = value(dtype, 2, 3, *x, lo=0.5)
        for norm, o in [(2, {}), (3, {"stride": 2}), (1.5, {"stride": 2, "ceil_mode": True})]:
            yield ("lp_pool", lambda x, n=nd, k=k, p=norm, o=o: getattr(F, f"lp_pool{n}d")(
                       x, p, k if n > 1 else k[0], **o),
                   lambda x, k=k, p=norm, o=o: FB["lp_pool"](x, p, shape(*k), options(**o)), [positive])
        if dtype.is_floating_point:
            image = (torch.randperm(6 * torch.Size(x).numel()).reshape(2, 3, *x) / 8).to(dtype)
            small, index = getattr(F, f"max_pool{nd}d")(image.float(), k, k, return_indices=True)
            yield ("max_unpool",
                   lambda v, i, n=nd, k=k, x=x: getattr(F, f"max_unpool{n}d")(v, i, k, k, output_size=x),
                   lambda v, i, x=x: FB["max_unpool"](v, i, shape(*x)), [small.to(dtype), index])
        if nd > 1 and dtype in (torch.float32, torch.float64):
            samples = torch.rand(2, 3, nd, dtype=dtype)
            for out in [tuple(2 for _ in k), tuple(s - n + 1 for s, n in zip(x, k))]:
                yield ("fractional_max_pool",
                       lambda x, u, n=nd, k=k, out=out: list(getattr(
                           F, f"fractional_max_pool{n}d_with_indices")(
                               x, k, output_size=out, _random_samples=u.detach())),
                       lambda x, u, k=k, out=out: two(
                           "fractional_max_pool", shape(*k), shape(*out), u)(x), [image, samples])


def samples(dtype):
    def v(*sizes):
        return value(dtype, *sizes, lo=-1, hi=1)

    names = {"nearest": 0, "nearest-exact": 1, "linear": 2, "bilinear": 2, "trilinear": 2, "bicubic": 3,
             "area": 4}
    calls = []
    for nd, size in [(1, (5,)), (1, (20,)), (2, (3, 11)), (2, (13, 4)), (2, (1, 1)), (3, (3, 7, 5))]:
        linear = {1: "linear", 2: "bilinear", 3: "trilinear"}[nd]
        for mode in ["nearest", "nearest-exact", "area", linear] + (["bicubic"] if nd == 2 else []):
            smooth = mode in (linear, "bicubic")
            for align in ([False, True] if smooth else [None]):
                for anti in ([False, True] if smooth and nd == 2 else [False]):
                    calls.append((nd, mode, align, anti, {"size": size}))
            calls.append((nd, mode, False if smooth else None, False, {"scale_factor": 1.7}))
            if mode != "area":
                calls.append((nd, mode, False if smooth else None, False,
                              {"scale_factor": 0.6, "recompute_scale_factor": True}))
    for nd, mode, align, anti, how in calls:
        def ours(x, nd=nd, mode=mode, align=align, anti=anti, how=how):
            s = how.get("scale_factor", 0)
            o = InterpolateOptions(names[mode], bool(align), anti, (C.c_double * 3)(s),
                                   "recompute_scale_factor" in how)
            return FB["interpolate"](x, shape(*how.get("size", ())), C.byref(o))
        yield ("interpolate", lambda x, m=mode, a=align, t=anti, how=how: F.interpolate(
                   x, mode=m, align_corners=a, antialias=t, **how), ours, [v(2, 3, *SIZES[nd])])
    for nd, out in [(2, (4, 3)), (3, (2, 3, 2))]:
        for m, mode in enumerate(["bilinear", "nearest", "bicubic"]):
            for p, padding in enumerate(["zeros", "border", "reflection"]):
                for align in (False, True):
                    if nd == 3 and mode == "bicubic":
                        continue
                    grid = value(dtype, 2, *out, nd, lo=-1.6, hi=1.6)
                    yield ("grid_sample",
                           lambda x, g, m=mode, p=padding, a=align: F.grid_sample(x, g, m, p, a),
                           lambda x, g, m=m, p=p, a=align: FB["grid_sample"](
                               x, g, C.byref(GridOptions(m, p, a))), [v(2, 3, *SIZES[nd]), grid])
        for align in (False, True):
            for size in [(2, 1, *out), (2, 1, *[1] * nd)]:
                yield ("affine_grid", lambda t, s=size, a=align: F.affine_grid(t, s, a),
                       lambda t, s=size, a=align: FB["affine_grid"](t, shape(*s), a),
                       [v(2, nd, nd + 1)])


def cases():
    for dtype in ALL:
        yield from convolutions(dtype)
        yield from pools(dtype)
        yield from samples(dtype)


if __name__ == "__main__":
    J.main(cases)
