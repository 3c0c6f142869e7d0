"""PyTorch judges operators: values, dtypes and gradients, for every dtype; what it refuses may work
here, what it computes must. Needs torch; run by launch/test --judges PYTHON."""
import ctypes as C
import itertools
import os
import sys

import torch
import torch.nn.functional as F

DTYPES = {torch.float32: 1, torch.float64: 2, torch.float16: 3, torch.bfloat16: 4,
          torch.int32: 5, torch.int64: 6, torch.uint8: 7, torch.bool: 8}
BACK = {v: k for k, v in DTYPES.items()}
FLOATS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
INTS = [torch.int64, torch.int32, torch.uint8, torch.bool]
ALL = FLOATS + INTS
# Of values that are computed in a wider type and rounded once.
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10, torch.float16: 2**-11, torch.bfloat16: 2**-8}
# What PyTorch has and we have not, or otherwise: any and all are BOOL, average pooling and columns are
# of floats.
DELIBERATE = {("any", torch.uint8), ("all", torch.uint8), ("avg_pool2d", torch.int64),
              ("matmul", torch.bool), ("im2col", torch.bool), ("fold", torch.bool)}
# Its gradient negates the unsigned integer.
DELIBERATE.add(("atan2", torch.uint8))
# Their constants are F32 in PyTorch's backward of F64.
COARSE = {"hardsigmoid", "celu"}


class Shape(C.Structure):
    _fields_ = [("n", C.c_int), ("d", C.c_int64 * 8)]


class Tensors(C.Structure):
    _fields_ = [("t", C.POINTER(C.c_void_p)), ("n", C.c_int)]


class GradientOptions(C.Structure):
    _fields_ = [("seeds", Tensors), ("retain_graph", C.c_bool), ("create_graph", C.c_bool),
                ("allow_unused", C.c_bool)]


class ConvOptions(C.Structure):
    _fields_ = [("stride", C.c_int64 * 3), ("padding", C.c_int64 * 3), ("dilation", C.c_int64 * 3),
                ("groups", C.c_int64), ("no_bias", C.c_bool), ("same", C.c_bool),
                ("padding_mode", C.c_int), ("output_padding", C.c_int64 * 3),
                ("ceil_mode", C.c_bool), ("exclude_pad", C.c_bool), ("divisor", C.c_int64)]


class EntropyOptions(C.Structure):
    _fields_ = [("weight", C.c_void_p), ("ignore_index", C.c_int64), ("label_smoothing", C.c_double),
                ("reduction", C.c_int)]


class MseOptions(C.Structure):
    _fields_ = [("reduction", C.c_int)]


class AttentionOptions(C.Structure):
    _fields_ = [("mask", C.c_void_p), ("causal", C.c_bool), ("dropout", C.c_double),
                ("scale", C.c_double), ("enable_gqa", C.c_bool)]


class BagOptions(C.Structure):
    _fields_ = [("mode", C.c_int), ("weights", C.c_void_p), ("pads", C.c_bool),
                ("padding_index", C.c_int64), ("include_last_offset", C.c_bool)]


LIB = C.CDLL(os.path.join(os.environ["FLAMBEAU_BUILD"], "lib", "libflambeau.so"))
P, I, L, D, B = C.c_void_p, C.c_int, C.c_int64, C.c_double, C.c_bool
SIGNATURES = {
    "context_open_v": (P, P, I), "version": (I,), "error_take": (I, P, C.c_char_p, C.c_size_t), "drop": (None, P),
    "from": (P, P, I, Shape, P), "read": (I, P, P, C.c_size_t), "dtype_of": (I, P),
    "ndim": (I, P), "size": (L, P, I), "requires_grad": (P, P, B), "needs_grad": (B, P),
    "gradients": (I, Tensors, Tensors, P, P),
    "to": (P, P, I), "clamp": (P, P, D, D), "where": (P, P, P, P),
    "matmul": (P, P, P), "linear": (P, P, P, P), "linear_act": (P, P, P, P, I),
    "gelu_tanh": (P, P), "conv2d": (P, P, P, P, P), "conv2d_relu": (P, P, P, P, P),
    "conv_transpose2d": (P, P, P, P, P), "max_pool2d": (P, P, L, L, P),
    "avg_pool2d": (P, P, L, L, P), "adaptive_avg_pool2d": (P, P, L, L),
    "softmax": (P, P, I), "log_softmax": (P, P, I), "cross_entropy": (P, P, P, P),
    "mse_loss": (P, P, P, P), "embedding": (P, P, P), "embedding_padded": (P, P, P, L),
    "index_select": (P, P, I, P), "gather": (P, P, I, P), "cat": (P, Tensors, I),
    "stack": (P, Tensors, I), "argmax": (P, P, I, B), "argmin": (P, P, I, B),
    "max_dim": (I, P, I, B, P, P), "min_dim": (I, P, I, B, P, P),
    "batch_norm": (P, P, P, P, D, P, P), "batch_norm_relu": (P, P, P, P, P, D, P, P),
    "batch_norm_eval": (P, P, P, P, P, P, D),
    "layer_norm": (P, P, Shape, P, P, D), "scaled_dot_product_attention": (P, P, P, P, P),
    "var": (P, P, Shape, B, B), "permute": (P, P, Shape), "reshape": (P, P, Shape),
    "expand": (P, P, Shape), "narrow": (P, P, I, L, L), "contiguous": (P, P),
}
SIGNATURES.update({  # of arrange.h, strided.h, fold.h, view.h, join.h, split.h
    "pad": (P, P, Shape, I, D), "flip": (P, P, Shape), "fliplr": (P, P), "flipud": (P, P),
    "roll": (P, P, Shape, Shape), "rot90": (P, P, L, I, I), "repeat": (P, P, Shape),
    "tile": (P, P, Shape), "repeat_interleave": (P, P, L, I), "tril": (P, P, L), "triu": (P, P, L),
    "as_strided": (P, P, Shape, Shape, L), "diagonal": (P, P, L, I, I), "unfold": (P, P, I, L, L),
    "diag_embed": (P, P, L, I, I), "diag": (P, P, L), "im2col": (P, P, L, L, P),
    "fold": (P, P, L, L, L, L, P), "transpose": (P, P, I, I), "swapdims": (P, P, I, I), "t": (P, P),
    "movedim": (P, P, Shape, Shape), "flatten": (P, P, I, I), "ravel": (P, P),
    "unflatten": (P, P, I, Shape), "squeeze": (P, P, I), "squeeze_dims": (P, P, Shape),
    "unsqueeze": (P, P, I), "atleast_1d": (P, P), "atleast_2d": (P, P), "atleast_3d": (P, P),
    "broadcast_to": (P, P, Shape), "select": (P, P, I, L), "hstack": (P, Tensors),
    "vstack": (P, Tensors), "dstack": (P, Tensors), "column_stack": (P, Tensors),
    "chunk": (I, P, I, I, P), "split": (I, P, L, I, I, P),
    "split_with_sizes": (I, P, P, I, I, P), "tensor_split": (I, P, I, I, P),
    "tensor_split_at": (I, P, P, I, I, P), "unbind": (I, P, I, I, P),
    "broadcast_tensors": (I, Tensors, P), "meshgrid": (I, Tensors, B, P),
})
SIGNATURES.update({  # of scatter.h, mask.h, embedding.h, create.h
    "scatter": (P, P, I, P, P), "scatter_value": (P, P, I, P, D), "scatter_add": (P, P, I, P, P),
    "scatter_reduce": (P, P, I, P, P, I, B), "index_copy": (P, P, I, P, P),
    "index_add": (P, P, I, P, P, D), "index_fill": (P, P, I, P, D),
    "index_reduce": (P, P, I, P, P, I, B), "index": (P, P, Tensors),
    "index_put": (P, P, Tensors, P, B), "take": (P, P, P), "put": (P, P, P, P, B),
    "take_along_dim": (P, P, P, I), "one_hot": (P, P, L), "masked_select": (P, P, P),
    "masked_scatter": (P, P, P, P), "nonzero": (P, P), "argwhere": (P, P),
    "embedding_bag": (P, P, P, P, P), "linspace": (P, P, I, D, D, L),
    "logspace": (P, P, I, D, D, L, D), "eye": (P, P, I, L, L), "arange": (P, P, I, D, D, D),
    "tril_indices": (P, P, L, L, L), "triu_indices": (P, P, L, L, L), "full_like": (P, P, D),
    "ones_like": (P, P), "zeros_like": (P, P), "swapaxes": (P, P, I, I),
    "moveaxis": (P, P, Shape, Shape), "pixel_shuffle": (P, P, L), "pixel_unshuffle": (P, P, L),
    "channel_shuffle": (P, P, L), "select_scatter": (P, P, P, I, L),
    "slice_scatter": (P, P, P, I, L, L, L), "diagonal_scatter": (P, P, P, L, I, I),
    "repeat_interleave_each": (P, P, P, I),
})
UNARY = ["neg", "exp", "log", "log1p", "sqrt", "rsqrt", "reciprocal", "sin", "cos", "tanh", "erf",
         "sigmoid", "relu", "gelu", "silu", "softplus", "abs", "square"]
SCALAR = ["add_scalar", "mul_scalar", "pow_scalar", "leaky_relu", "elu"]
BINARY = ["add", "sub", "mul", "div", "pow", "maximum", "minimum", "eq", "ne", "lt", "le", "gt", "ge"]
REDUCTIONS = ["sum", "mean", "amax", "amin", "any", "all"]
FUNCTIONS = ["exp2", "expm1", "log2", "log10", "logsigmoid", "tan", "asin", "acos", "atan", "sinh",
             "cosh", "asinh", "acosh", "atanh", "sinc", "deg2rad", "rad2deg", "erfc", "erfinv", "lgamma",
             "digamma", "i0", "ndtr", "entr", "trunc", "ceil", "floor", "round", "frac", "sign", "positive",
             "hardswish", "hardsigmoid", "relu6", "mish", "softsign", "selu", "tanhshrink"]
PREDICATES = ["logical_not", "isnan", "isinf", "isfinite", "isposinf", "isneginf", "signbit"]
FUNCTIONS_2 = ["atan2", "hypot", "fmod", "remainder", "floor_divide", "copysign", "logaddexp", "logaddexp2",
               "xlogy", "xlog1py", "heaviside", "fmax", "fmin", "clamp_min", "clamp_max", "logical_and",
               "logical_or", "logical_xor"]
BITS = ["bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_left_shift", "bitwise_right_shift", "gcd",
        "lcm"]
# name, ours after the tensor, PyTorch's
WITH_SCALARS = [("celu", (0.7,), lambda x: F.celu(x, 0.7)), ("hardshrink", (0.5,), F.hardshrink),
                ("softshrink", (0.5,), F.softshrink), ("logit", (-1.0,), torch.logit),
                ("logit", (0.25,), lambda x: torch.logit(x, 0.25)),
                ("hardtanh", (-1.0, 1.0), F.hardtanh), ("threshold", (1.0, 20.0), lambda x: F.threshold(x, 1, 20))]
NAN_SUMS = ["nansum", "nanmean", "logsumexp", "prod"]
SIGNATURES.update({n: (P, P, Shape, B) for n in NAN_SUMS})
SIGNATURES.update({n: (P, P, I) for n in ["cumsum", "cumprod", "logcumsumexp", "glu", "softmin"]})
SIGNATURES.update({n: (I, P, I, P, P) for n in ["cummax", "cummin"]})
SIGNATURES.update({n: (I, P, I, B, P, P) for n in ["sort", "median", "nanmedian", "mode"]})
SIGNATURES.update({n: (I, P, Shape, B, B, P, P) for n in ["std_mean", "var_mean"]})
SIGNATURES.update({n: (I, P, P, P, P) for n in ["unique", "unique_consecutive"]})
SIGNATURES.update({n: (P, P) for n in ["max", "min", "bitwise_not", "msort"]})
SIGNATURES.update({n: (P, P, P) for n in ["ldexp", "float_power", "isin"]})
SIGNATURES.update({
    "std": (P, P, Shape, B, B), "norm": (P, P, D, Shape, B), "dist": (P, P, P, D),
    "count_nonzero": (P, P, Shape), "aminmax": (I, P, Shape, B, P, P), "diff": (P, P, I, I),
    "argsort": (P, P, I, B), "topk": (I, P, L, I, B, P, P), "kthvalue": (I, P, L, I, B, P, P),
    "quantile": (P, P, D, I, B), "searchsorted": (P, P, P, B), "bucketize": (P, P, P, B),
    "bincount": (P, P, P, L), "histc": (P, P, L, D, D), "addcmul": (P, P, P, P, D),
    "addcdiv": (P, P, P, P, D), "lerp": (P, P, P, P), "lerp_scalar": (P, P, P, D),
    "clamp_tensor": (P, P, P, P), "masked_fill": (P, P, P, D), "nan_to_num": (P, P, D, D, D),
    "isclose": (P, P, P, D, D, B)})
SIGNATURES.update({n: (P, P) for n in FUNCTIONS + PREDICATES})
SIGNATURES.update({n: (P, P, P) for n in FUNCTIONS_2 + BITS + ["prelu"]})
SIGNATURES.update({n: (P, P) + (D,) * len(scalars) for n, scalars, _ in WITH_SCALARS})
SIGNATURES["polygamma"] = (P, I, P)
SIGNATURES.update({n: (P, P) for n in UNARY})
SIGNATURES.update({n: (P, P, D) for n in SCALAR})
SIGNATURES.update({n: (P, P, P) for n in BINARY})
SIGNATURES.update({n: (P, P, Shape, B) for n in REDUCTIONS})


def bind(name, result, *args):
    function = getattr(LIB, "fb_" + name)
    function.restype, function.argtypes = result, args
    return function


FB = {name: bind(name, *types) for name, types in SIGNATURES.items()}
CTX = FB["context_open_v"](None, FB["version"]())


def fb(name):
    return FB[name]


def shape(*sizes):
    return Shape(len(sizes), (C.c_int64 * 8)(*sizes))


def tensors(handles):
    array = (C.c_void_p * max(len(handles), 1))(*handles)
    return Tensors(array, len(handles))


def conv(stride=1, padding=0, dilation=1, groups=1):
    three = C.c_int64 * 3
    return C.byref(ConvOptions(three(stride), three(padding), three(dilation), groups, False))


def into(t):
    """Our copy of a torch tensor."""
    if t is None:
        return None
    t = t.detach().contiguous()
    return FB["from"](CTX, DTYPES[t.dtype], shape(*t.shape), t.data_ptr())


def out_of(handle):
    sizes = [FB["size"](handle, i) for i in range(FB["ndim"](handle))]
    t = torch.empty(sizes, dtype=BACK[FB["dtype_of"](handle)])
    assert FB["read"](handle, t.data_ptr(), t.numel() * t.element_size()) == 0
    return t


def error():
    text = C.create_string_buffer(1024)
    FB["error_take"](CTX, text, 1024)
    return text.value.decode()


def pair(op, dim):
    """values and indices of max_dim, min_dim"""
    def run(x):
        values, indices = C.c_void_p(), C.c_void_p()
        FB[op](x, dim, False, C.byref(values), C.byref(indices))
        return values.value and [values.value, indices.value]
    return run


def several(op, n, *args):
    """The n results of a function that fills `out`, its last argument; those that it leaves out are
    not there."""
    out = (C.c_void_p * n)()
    FB[op](*args, out)
    return [h for h in out if h]


def numbers(*list_):
    return (C.c_int64 * len(list_))(*list_)


def shape_cases(v):
    """name, PyTorch, ours, inputs of the operators that move elements"""
    modes = ["constant", "reflect", "replicate", "circular"]
    for m, mode in enumerate(modes):
        for pads, sizes in [((2, 1), (2, 3, 4)), ((1, 2, 2, 1), (2, 2, 4, 3)), ((0, 3), (2, 2, 4)),
                            ((-1, 2), (2, 3, 4)), ((3, 0), (2, 2, 3))]:
            def theirs(x, pads=pads, mode=mode):
                return F.pad(x, pads, mode=mode, **({"value": 1} if mode == "constant" else {}))
            yield ("pad", theirs, lambda x, p=pads, m=m: FB["pad"](x, shape(*p), m, 1), [v(*sizes)])
    for dims in [(0,), (1, -1), (0, 1, 2), ()]:
        for sizes in [(2, 3, 4), (2, 0, 4)]:
            yield ("flip", lambda x, d=dims: x.flip(d), lambda x, d=dims: FB["flip"](x, shape(*d)),
                   [v(*sizes)])
    yield "fliplr", torch.fliplr, FB["fliplr"], [v(2, 3)]
    yield "flipud", torch.flipud, FB["flipud"], [v(2, 3)]
    for shifts, dims in [((1,), (0,)), ((-5, 2), (1, 2)), ((4,), ()), ((1, 1), (0, 0)), ((0,), (-1,))]:
        for sizes in [(2, 3, 4), (2, 0, 4)]:
            yield ("roll", lambda x, s=shifts, d=dims: torch.roll(x, s, d) if d else torch.roll(x, s),
                   lambda x, s=shifts, d=dims: FB["roll"](x, shape(*s), shape(*d)), [v(*sizes)])
    for k in range(-2, 5):
        yield ("rot90", lambda x, k=k: torch.rot90(x, k, [1, -1]),
               lambda x, k=k: FB["rot90"](x, k, 1, -1), [v(2, 3, 4)])
    for n in ("repeat", "tile"):
        for times in [(2,), (2, 3), (1, 0), (2, 1, 3), ()]:
            for sizes in [(2, 3), (3,), (), (0, 2)]:
                yield (n, lambda x, n=n, t=times: getattr(x, n)(t),
                       lambda x, n=n, t=times: FB[n](x, shape(*t)), [v(*sizes)])
    for r, d in [(3, 0), (2, -1), (0, 1)]:
        yield ("repeat_interleave", lambda x, r=r, d=d: x.repeat_interleave(r, d),
               lambda x, r=r, d=d: FB["repeat_interleave"](x, r, d), [v(2, 3)])
    for k in (-5, -1, 0, 1, 9):
        for sizes in [(3, 4), (2, 4, 3), (0, 3)]:
            for n in ("tril", "triu"):
                yield (n, lambda x, n=n, k=k: getattr(x, n)(k), lambda x, n=n, k=k: FB[n](x, k),
                       [v(*sizes)])
            yield ("diagonal", lambda x, k=k: x.diagonal(k, -2, -1).clone(),
                   lambda x, k=k: FB["contiguous"](FB["diagonal"](x, k, -2, -1)), [v(*sizes)])
        yield "diag", lambda x, k=k: x.diag(k), lambda x, k=k: FB["diag"](x, k), [v(3)]
        yield "diag", lambda x, k=k: x.diag(k), lambda x, k=k: FB["diag"](x, k), [v(3, 4)]
        yield ("diag_embed", lambda x, k=k: torch.diag_embed(x, k, 0, -1),
               lambda x, k=k: FB["diag_embed"](x, k, 0, -1), [v(2, 3)])
    for sizes, strides, at in [((3, 2), (2, 1), 1), ((4, 3), (1, 2), 0), ((2, 2, 2), (0, 3, 1), 2)]:
        yield ("as_strided", lambda x, a=(sizes, strides, at): x.as_strided(*a),
               lambda x, a=(sizes, strides, at): FB["as_strided"](x, shape(*a[0]), shape(*a[1]), a[2]),
               [v(3, 5)])
    for d, n, step in [(1, 3, 1), (-1, 2, 2), (0, 2, 3), (0, 0, 1)]:
        yield ("unfold", lambda x, a=(d, n, step): x.unfold(*a),
               lambda x, a=(d, n, step): FB["unfold"](x, *a), [v(2, 5, 4)])
    for k, o in [((2, 3), {}), ((3, 2), {"stride": 2, "padding": 1}), ((2, 2), {"dilation": 2})]:
        for sizes in [(2, 3, 5, 6), (3, 5, 6)]:
            yield ("im2col", lambda x, k=k, o=o: F.unfold(x, k, **o),
                   lambda x, k=k, o=o: FB["im2col"](x, *k, conv(**o)), [v(*sizes)])
        n = F.unfold(torch.zeros(1, 2, 5, 6), k, **o).shape
        yield ("fold", lambda x, k=k, o=o: F.fold(x, (5, 6), k, **o),
               lambda x, k=k, o=o: FB["fold"](x, 5, 6, *k, conv(**o)), [v(3, *n[1:])])
    for r in (1, 2):
        yield ("pixel_shuffle", lambda x, r=r: F.pixel_shuffle(x, r),
               lambda x, r=r: FB["pixel_shuffle"](x, r), [v(2, 8, 2, 3)])
        yield ("pixel_unshuffle", lambda x, r=r: F.pixel_unshuffle(x, r),
               lambda x, r=r: FB["pixel_unshuffle"](x, r), [v(3, 4, 6)])
    yield ("channel_shuffle", lambda x: F.channel_shuffle(x, 3),
           lambda x: FB["channel_shuffle"](x, 3), [v(2, 6, 2, 2)])
    yield ("select_scatter", lambda x, s: x.select_scatter(s, 1, -1),
           lambda x, s: FB["select_scatter"](x, s, 1, -1), [v(2, 3, 4), v(2, 4)])
    for lo, hi, step, n in [(1, -1, 2, 2), (-9, 9, 1, 6), (4, 2, 1, 0)]:
        yield ("slice_scatter", lambda x, s, k=(lo, hi, step): x.slice_scatter(s, 1, *k),
               lambda x, s, k=(lo, hi, step): FB["slice_scatter"](x, s, 1, *k), [v(2, 6), v(2, n)])
    yield ("diagonal_scatter", lambda x, s: x.diagonal_scatter(s, 1, 0, -1),
           lambda x, s: FB["diagonal_scatter"](x, s, 1, 0, -1), [v(3, 2, 4), v(2, 3)])
    yield ("repeat_interleave_each", lambda x, n: x.repeat_interleave(n, 1),
           lambda x, n: FB["repeat_interleave_each"](x, n, 1), [v(2, 3, 2), torch.tensor([0, 3, 1])])
    yield "narrow", lambda x: x.narrow(1, -2, 2), lambda x: FB["narrow"](x, 1, -2, 2), [v(2, 5)]
    yield ("moveaxis", lambda x: x.moveaxis(0, -1),
           lambda x: FB["moveaxis"](x, shape(0), shape(-1)), [v(2, 3, 4)])
    for n in ("transpose", "swapdims", "swapaxes"):
        yield n, lambda x, n=n: getattr(x, n)(0, -1), lambda x, n=n: FB[n](x, 0, -1), [v(2, 3, 4)]
    for n, dims in [("t", 2), ("t", 1), ("ravel", 3), ("atleast_1d", 0), ("atleast_2d", 0),
                    ("atleast_3d", 0), ("atleast_2d", 1), ("atleast_3d", 1), ("atleast_3d", 2)]:
        yield n, getattr(torch, n), FB[n], [v(*(2, 3, 4)[:dims])]
    yield ("movedim", lambda x: x.movedim((0, -1), (2, 0)),
           lambda x: FB["movedim"](x, shape(0, -1), shape(2, 0)), [v(2, 3, 4, 5)])
    for a, b, sizes in [(0, -1, (2, 3, 4)), (1, 2, (2, 3, 0, 2)), (0, 0, ())]:
        yield ("flatten", lambda x, a=a, b=b: x.flatten(a, b),
               lambda x, a=a, b=b: FB["flatten"](x, a, b), [v(*sizes)])
    yield ("unflatten", lambda x: x.unflatten(1, (2, -1)),
           lambda x: FB["unflatten"](x, 1, shape(2, -1)), [v(3, 6, 2)])
    for d in (0, 1, -1):
        yield "squeeze", lambda x, d=d: x.squeeze(d), lambda x, d=d: FB["squeeze"](x, d), [v(2, 1, 1)]
        yield ("unsqueeze", lambda x, d=d: x.unsqueeze(d), lambda x, d=d: FB["unsqueeze"](x, d),
               [v(2, 3)])
    yield "squeeze", torch.squeeze, lambda x: FB["squeeze_dims"](x, shape()), [v(1, 2, 1)]
    yield ("broadcast_to", lambda x: torch.broadcast_to(x, (2, 3, 4)),
           lambda x: FB["broadcast_to"](x, shape(2, 3, 4)), [v(3, 1)])
    yield "select", lambda x: x.select(1, -2), lambda x: FB["select"](x, 1, -2), [v(2, 3, 4)]
    for n in ("hstack", "vstack", "dstack", "column_stack"):
        for sizes in [(), (3,), (2, 3), (2, 3, 4)]:
            yield (n, lambda *t, n=n: getattr(torch, n)(t), lambda *t, n=n: FB[n](tensors(t)),
                   [v(*sizes), v(*sizes)])
    for n, d in [(3, 0), (2, 1), (4, 1), (7, 0)]:
        yield ("chunk", lambda x, n=n, d=d: list(x.chunk(n, d)),
               lambda x, n=n, d=d: several("chunk", n, x, n, d), [v(6, 5)])
        yield ("tensor_split", lambda x, n=n, d=d: list(x.tensor_split(n, d)),
               lambda x, n=n, d=d: several("tensor_split", n, x, n, d), [v(6, 5)])
    yield ("split", lambda x: list(x.split(4, 0)), lambda x: several("split", 3, x, 4, 0, 3), [v(9, 2)])
    yield ("split_with_sizes", lambda x: list(x.split_with_sizes([2, 0, 3], 1)),
           lambda x: several("split_with_sizes", 3, x, numbers(2, 0, 3), 3, 1), [v(2, 5)])
    yield ("tensor_split_at", lambda x: list(x.tensor_split([1, -2, 9], 1)),
           lambda x: several("tensor_split_at", 4, x, numbers(1, -2, 9), 3, 1), [v(2, 5)])
    yield ("unbind", lambda x: list(x.unbind(1)), lambda x: several("unbind", 3, x, 1, 3), [v(2, 3)])
    yield ("broadcast_tensors", lambda *t: list(torch.broadcast_tensors(*t)),
           lambda *t: several("broadcast_tensors", 2, tensors(t)), [v(2, 1, 3), v(4, 1)])
    for i, indexing in enumerate(["ij", "xy"]):
        yield ("meshgrid", lambda *t, i=indexing: list(torch.meshgrid(*t, indexing=i)),
               lambda *t, i=i: several("meshgrid", 3, tensors(t), i), [v(2), v(3), v(4)])


def index_cases(v):
    """name, PyTorch, ours, inputs of the operators that write and choose by index"""
    def once(n, *sizes):  # no index twice along dimension 0 of a column
        return torch.stack([torch.randperm(n)[:sizes[0]] for _ in range(sizes[1])], 1)
    yield ("scatter", lambda x, i, s: x.scatter(0, i, s), lambda x, i, s: FB["scatter"](x, 0, i, s),
           [v(6, 3), once(6, 4, 3), v(4, 3)])
    yield ("scatter", lambda x, i, s: x.scatter(0, i, s[:4, :2]),
           lambda x, i, s: FB["scatter"](x, -2, i, s), [v(6, 3), once(6, 4, 2), v(5, 3)])
    yield ("scatter_value", lambda x, i: x.scatter(1, i, 1), lambda x, i: FB["scatter_value"](x, 1, i, 1),
           [v(3, 5), index(5, 2, 4)])
    yield ("scatter_add", lambda x, i, s: x.scatter_add(1, i, s),
           lambda x, i, s: FB["scatter_add"](x, 1, i, s), [v(3, 5), index(5, 3, 9), v(3, 9)])
    for how, name in enumerate(["sum", "prod", "mean", "amax", "amin"]):
        for own in (True, False):
            for lo in (0.5, -2):
                yield ("scatter_reduce",
                       lambda x, i, s, n=name, o=own: x.scatter_reduce(0, i, s, n, include_self=o),
                       lambda x, i, s, h=how, o=own: FB["scatter_reduce"](x, 0, i, s, h, o),
                       [v(4, 3, lo=lo), index(4, 6, 3), v(6, 3, lo=lo)])
            if how:
                yield ("index_reduce",
                       lambda x, i, s, n=name, o=own: x.index_reduce(0, i, s, n, include_self=o),
                       lambda x, i, s, h=how, o=own: FB["index_reduce"](x, 0, i, s, h, o),
                       [v(4, 3, lo=0.5), index(4, 6), v(6, 3, lo=0.5)])
    yield ("index_copy", lambda x, i, s: x.index_copy(1, i, s),
           lambda x, i, s: FB["index_copy"](x, 1, i, s), [v(3, 5, 2), torch.randperm(5)[:3], v(3, 3, 2)])
    for alpha in (1, 2):
        yield ("index_add", lambda x, i, s, a=alpha: x.index_add(1, i, s, alpha=a),
               lambda x, i, s, a=alpha: FB["index_add"](x, 1, i, s, a),
               [v(3, 5, 2), index(5, 7), v(3, 7, 2)])
    yield ("index_fill", lambda x, i: x.index_fill(1, i, 1), lambda x, i: FB["index_fill"](x, 1, i, 1),
           [v(3, 5, 2), index(5, 3)])
    yield ("index", lambda x, i, j: x[i, j], lambda x, i, j: FB["index"](x, tensors([i, j])),
           [v(4, 3, 2), index(4, 2, 1) - 4, index(3, 5)])
    yield ("index", lambda x, i: x[i], lambda x, i: FB["index"](x, tensors([i])),
           [v(4, 3), index(4, 0)])
    yield ("index_put", lambda x, i, s: x.index_put((i,), s),
           lambda x, i, s: FB["index_put"](x, tensors([i]), s, False),
           [v(6, 2), torch.randperm(6)[:4], v(4, 2)])
    yield ("index_put", lambda x, i, j, s: x.index_put((i, j), s, accumulate=True),
           lambda x, i, j, s: FB["index_put"](x, tensors([i, j]), s, True),
           [v(4, 3, 2), index(4, 5, 1), index(3, 6) - 3, v(6, 2)])
    yield "take", torch.take, FB["take"], [v(3, 4), index(12, 2, 5) - 6]
    for add in (False, True):
        yield ("put", lambda x, i, s, a=add: x.put(i, s, accumulate=a),
               lambda x, i, s, a=add: FB["put"](x, i, s, a), [v(3, 4), torch.randperm(12)[:5], v(5)])
    yield ("take_along_dim", lambda x, i: torch.take_along_dim(x, i, 1),
           lambda x, i: FB["take_along_dim"](x, i, 1), [v(3, 4, 2), index(4, 1, 5, 2)])
    for classes in (5, -1):
        yield ("one_hot", lambda i, c=classes: F.one_hot(i, c), lambda i, c=classes: FB["one_hot"](i, c),
               [index(5, 3, 2)])
    for mask in [(3, 4), (4,), (2, 1, 1)]:
        yield ("masked_select", torch.masked_select, FB["masked_select"],
               [v(3, 4), value(torch.bool, *mask)])
        yield ("masked_scatter", torch.masked_scatter, FB["masked_scatter"],
               [v(3, 4), value(torch.bool, *mask), v(30)])
    for sizes in [(3, 4), (), (0, 2), (70,)]:
        yield "nonzero", torch.nonzero, FB["nonzero"], [v(*sizes)]
        yield "argwhere", torch.argwhere, FB["argwhere"], [v(*sizes)]
    for m, mode in enumerate(["sum", "mean", "max"]):
        def bag(w, i, o=None, m=m, weights=None, last=False):
            return FB["embedding_bag"](w, i, o, C.byref(BagOptions(m, weights, False, 0, last)))
        offsets = torch.tensor([0, 2, 2, 5])
        yield ("embedding_bag", lambda w, i, o, m=mode: F.embedding_bag(i, w, o, mode=m), bag,
               [v(6, 3), index(6, 9), offsets])
        yield ("embedding_bag", lambda w, i, m=mode: F.embedding_bag(i, w, mode=m), bag,
               [v(6, 3), index(6, 4, 3)])
        yield ("embedding_bag",
               lambda w, i, o, m=mode: F.embedding_bag(i, w, o, mode=m, include_last_offset=True),
               lambda w, i, o, bag=bag: bag(w, i, o, last=True),
               [v(6, 3), index(6, 5), offsets])
    yield ("embedding_bag with factors",
           lambda w, i, o, f: F.embedding_bag(i, w, o, mode="sum", per_sample_weights=f),
           lambda w, i, o, f: FB["embedding_bag"](w, i, o, C.byref(BagOptions(0, f, False, 0, False))),
           [v(6, 3), index(6, 9), torch.tensor([0, 4]), v(9)])
    yield ("embedding_bag padded", lambda w, i: F.embedding_bag(i, w, mode="mean", padding_idx=2),
           lambda w, i: FB["embedding_bag"](w, i, None, C.byref(BagOptions(1, None, True, 2, False))),
           [v(6, 3), index(6, 4, 3)])


def made_cases(dtype):
    """name, PyTorch, ours, [a tensor of the dtype] of what makes tensors"""
    d, x = DTYPES[dtype], [value(dtype, 2, 3)]
    for a, b, n in [(-1, 2, 7), (0, 10, 4), (3, 3, 1), (5, -4, 2), (0, 1, 0)]:
        if dtype == torch.uint8 and min(a, b) < 0:
            continue  # what a negative number becomes is not defined
        yield ("linspace", lambda _, k=(a, b, n): torch.linspace(*k, dtype=dtype),
               lambda _, k=(a, b, n): FB["linspace"](CTX, d, *k), x)
    yield ("logspace", lambda _: torch.logspace(0, 2, 5, base=2, dtype=dtype),
           lambda _: FB["logspace"](CTX, d, 0, 2, 5, 2), x)
    for rows, cols in [(3, 3), (2, 4), (4, 2), (0, 2)]:
        yield ("eye", lambda _, k=(rows, cols): torch.eye(*k, dtype=dtype),
               lambda _, k=(rows, cols): FB["eye"](CTX, d, *k), x)
        for at in (-1, 0, 2):
            for n in ("tril_indices", "triu_indices"):
                yield (n, lambda _, n=n, k=(rows, cols, at): getattr(torch, n)(*k),
                       lambda _, n=n, k=(rows, cols, at): FB[n](CTX, *k), x)
    yield "full_like", lambda t: torch.full_like(t, 1), lambda t: FB["full_like"](t, 1), x
    for n in ("zeros_like", "ones_like"):
        yield n, getattr(torch, n), FB[n], x


def value(dtype, *sizes, lo=-2.0, hi=2.0):
    """Random values that the dtype holds; None sizes: scalar."""
    if dtype == torch.bool:
        return torch.rand(sizes) < 0.5
    if dtype.is_floating_point:
        return (torch.rand(sizes, dtype=torch.float64) * (hi - lo) + lo).to(dtype)
    lo = max(lo, 0.0) if dtype == torch.uint8 else lo
    return torch.randint(int(lo), int(hi) + 3, sizes, dtype=dtype)


def edges(dtype):
    """Where functions have kinks, poles and steps; NaN, infinities and zeros of both signs."""
    v = [float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1.0, -1.0, 3.0, -3.0, 6.0, 0.5, -0.5, 2.5, -2.5, 20.0,
         -30.0, 0.001]
    if not dtype.is_floating_point:
        v = [0, 1, 2, 3, 6, 20]
    return torch.tensor(v).to(dtype)


def without_poles(x):
    """PyTorch's trigamma is a large number at the poles of the gamma function."""
    return torch.where((x < 0) & (x == x.double().round()), torch.ones_like(x), x)


def named(n):
    """PyTorch's function of our name."""
    return getattr(torch, n, None) or getattr(F, n, None) or getattr(torch.special, n)


def functions(dtype):
    """Calls of the rows of functions.def."""
    def v(*sizes, **range_):
        return value(dtype, *sizes, **range_)

    for n in FUNCTIONS + PREDICATES:
        for x in [v(3, 5), v(), v(0, 2), edges(dtype)]:
            yield n, named(n), FB[n], [without_poles(x) if n == "digamma" else x]
    for n, scalars, torch_fn in WITH_SCALARS:
        for x in [v(4, 3), edges(dtype)]:
            yield n, torch_fn, lambda x, n=n, s=scalars: FB[n](x, *s), [x]
    for order in range(4):
        for x in [v(4, 3, lo=-3), edges(dtype)]:
            yield ("polygamma", lambda x, k=order: torch.polygamma(k, x),
                   lambda x, k=order: FB["polygamma"](k, x), [without_poles(x)])
    ends = edges(dtype)
    for n in FUNCTIONS_2 + BITS:
        torch_fn = torch.special.xlog1py if n == "xlog1py" else getattr(torch, n, None)
        for a, b in [((3, 4), (3, 4)), ((2, 3, 1), (4,)), ((0, 4), (1, 4)), ((3,), ())]:
            yield n, torch_fn, FB[n], [v(*a), v(*b, lo=0.25)]
        if n not in BITS[-4:]:
            yield n, torch_fn, FB[n], [ends.reshape(-1, 1), ends]
        for other in ALL:
            if other != dtype:
                yield n, torch_fn, FB[n], [v(3, 4), value(other, 4, lo=0.25)]
    if dtype.is_floating_point:
        yield ("prelu", lambda x, w: torch.where(x > 0, x, w * x), FB["prelu"], [v(3, 4), v(4, lo=0.25)])


def list_of(op, *arguments, n=2):
    """The results of a function that has n places for them."""
    out = [C.c_void_p() for _ in range(n)]
    FB[op](*arguments, *[C.byref(o) for o in out])
    return [o.value for o in out] if out[0].value else None


def reductions(dtype):
    """Calls of reductions, running results and blends."""
    def v(*sizes, **range_):
        return value(dtype, *sizes, **range_)

    inf = float("inf")
    ends = edges(dtype)
    for dims, keep in [((), False), ((1,), True), ((0, -1), False)]:
        d = dims or None
        for x in [v(3, 4, 2), ends.reshape(-1, 1, 1).expand(-1, 2, 2)]:
            for n in NAN_SUMS[:3]:
                if n != "logsumexp" or dims:
                    yield (n, lambda x, n=n: getattr(torch, n)(x, dim=d, keepdim=keep),
                           lambda x, n=n: FB[n](x, shape(*dims), keep), [x])
            yield ("std", lambda x: torch.std(x, dim=d, correction=1, keepdim=keep),
                   lambda x: FB["std"](x, shape(*dims), True, keep), [x])
            yield ("count_nonzero", lambda x: torch.count_nonzero(x, dim=d),
                   lambda x: FB["count_nonzero"](x, shape(*dims)), [x])
        for n in ("std_mean", "var_mean"):
            yield (n, lambda x, n=n: list(getattr(torch, n)(x, dim=d, correction=0, keepdim=keep)),
                   lambda x, n=n: list_of(n, x, shape(*dims), False, keep), [v(3, 4, 2)])
        for p in (2, 1, 3, 1.5, -1, inf, -inf):
            yield ("norm", lambda x, p=p: torch.linalg.vector_norm(x, p, dim=d, keepdim=keep),
                   lambda x, p=p: FB["norm"](x, p, shape(*dims), keep), [v(3, 4, 2)])
    yield "norm of 0", lambda x: x.norm(), lambda x: FB["norm"](x, 2, shape(), False), [v(3) * 0]
    yield "dist", lambda a, b: torch.dist(a, b, 3), lambda a, b: FB["dist"](a, b, 3), [v(3, 4), v(4)]
    for x in [v(3, 4), torch.tensor([[1, 0, 2], [0, 3, 0]]).to(dtype), v(0, 3)]:
        yield "prod", torch.prod, lambda x: FB["prod"](x, shape(), False), [x]
        yield "prod", lambda x: torch.prod(x, 1), lambda x: FB["prod"](x, shape(1), False), [x]
    for n in ("max", "min"):
        yield n, getattr(torch, n), FB[n], [v(3, 4)]
    yield ("aminmax", lambda x: list(torch.aminmax(x, dim=1)),
           lambda x: list_of("aminmax", x, shape(1), False), [v(3, 4)])
    for dim in (0, 1, -1):
        for x in [v(3, 4), ends.reshape(-1, 1).expand(-1, 2), torch.tensor([[1, 0, 2], [3, 0, 0]]).to(dtype), v(0, 2)]:
            for n in ("cumsum", "cumprod", "logcumsumexp"):
                yield n, lambda x, n=n: getattr(torch, n)(x, dim), lambda x, n=n: FB[n](x, dim), [x]
            for n in ("cummax", "cummin"):
                yield (n, lambda x, n=n: list(getattr(torch, n)(x, dim)),
                       lambda x, n=n: list_of(n, x, dim), [x])
        yield "diff", lambda x: torch.diff(x, 2, dim), lambda x: FB["diff"](x, 2, dim), [v(3, 4)]
    for shapes in [((3, 4), (3, 4), (3, 4)), ((3, 4), (4,), (3, 1))]:
        a, b, c = (v(*s, lo=0.5) for s in shapes)
        for n in ("addcmul", "addcdiv"):
            yield (n, lambda x, a, b, n=n: getattr(torch, n)(x, a, b, value=2),
                   lambda x, a, b, n=n: FB[n](x, a, b, 2), [a, b, c])
        yield "lerp", torch.lerp, FB["lerp"], [a, b, c]
        yield "clamp_tensor", torch.clamp, FB["clamp_tensor"], [v(3, 4), b * 0, b * 0 + 1]
    yield "lerp_scalar", lambda a, b: torch.lerp(a, b, 0.7), lambda a, b: FB["lerp_scalar"](a, b, 0.7), [v(3, 4), v(3, 4)]
    yield ("masked_fill", lambda x, m: x.masked_fill(m, 1), lambda x, m: FB["masked_fill"](x, m, 1),
           [v(3, 4), value(torch.bool, 4)])
    for x in [v(3, 4), ends]:
        yield "nan_to_num", torch.nan_to_num, lambda x: FB["nan_to_num"](x, 0, inf, -inf), [x]
        yield "nan_to_num", lambda x: torch.nan_to_num(x, 1, 2, 3), lambda x: FB["nan_to_num"](x, 1, 2, 3), [x]
        yield "bitwise_not", torch.bitwise_not, FB["bitwise_not"], [x]
    yield "glu", lambda x: F.glu(x, 1), lambda x: FB["glu"](x, 1), [v(3, 4)]
    yield "softmin", lambda x: F.softmin(x, 1), lambda x: FB["softmin"](x, 1), [v(3, 4)]
    yield "ldexp", torch.ldexp, FB["ldexp"], [v(3, 4), v(4)]
    yield "float_power", torch.float_power, FB["float_power"], [v(3, 4, lo=0.5), v(4, lo=0)]
    for equal in (False, True):
        yield ("isclose", lambda a, b: torch.isclose(a, b, 0.5, 0.1, equal),
               lambda a, b: FB["isclose"](a, b, 0.5, 0.1, equal), [ends.reshape(-1, 1), ends])


def whole(t):
    return t.double().round().to(t.dtype)


def orders(dtype):
    """Calls of sorting and what follows from it. Values differ where an index is chosen among equal ones."""
    def distinct(*sizes):
        n = torch.Size(sizes).numel()
        return torch.randperm(n).reshape(sizes).to(dtype) if dtype != torch.bool else value(dtype, *sizes)

    def v(*sizes, **range_):
        return value(dtype, *sizes, **range_)

    ends = edges(dtype).reshape(-1, 1).expand(-1, 2).contiguous()
    for dim in (0, -1):
        for x in [v(3, 9), ends, v(0, 3), v()]:
            for down in (False, True):
                yield ("sort", lambda x, down=down: list(torch.sort(x, dim=dim, descending=down, stable=True)),
                       lambda x, down=down: list_of("sort", x, dim, down), [x])
                yield ("argsort", lambda x, down=down: torch.argsort(x, dim=dim, descending=down, stable=True),
                       lambda x, down=down: FB["argsort"](x, dim, down), [x])
        yield "msort", torch.msort, FB["msort"], [v(5, 3)]
        x = distinct(5, 7) if dtype != torch.bool else distinct(2, 1)
        for n in ("median", "nanmedian", "mode"):
            yield (n, lambda x, n=n: list(getattr(torch, n)(x, dim, True)),
                   lambda x, n=n: list_of(n, x, dim, True), [x])
        for k in (1, 3):
            for largest in (False, True):
                yield ("topk", lambda x, k=k, big=largest: list(torch.topk(x, k, dim, big)),
                       lambda x, k=k, big=largest: list_of("topk", x, k, dim, big), [x])
            yield ("kthvalue", lambda x, k=k: list(torch.kthvalue(x, k, dim)),
                   lambda x, k=k: list_of("kthvalue", x, k, dim, False), [x])
        for q in (0.0, 0.3, 1.0):
            yield ("quantile", lambda x, q=q: torch.quantile(x, q, dim, True),
                   lambda x, q=q: FB["quantile"](x, q, dim, True), [v(5, 7)])
    for n in ("median", "nanmedian"):
        yield (n, lambda x, n=n: getattr(torch, n)(x, 0)[0], lambda x, n=n: (list_of(n, x, 0, False) or [])[:1], [ends])
    yield "mode", lambda x: torch.mode(x, 1)[0], lambda x: (list_of("mode", x, 1, False) or [])[:1], [whole(v(5, 9))]
    for right in (False, True):
        sorted_, x = torch.sort(v(3, 6))[0], v(3, 4)
        yield ("searchsorted", lambda s, x: torch.searchsorted(s, x, right=right),
               lambda s, x: FB["searchsorted"](s, x, right), [sorted_, x])
        yield ("bucketize", lambda x, s: torch.bucketize(x, s, right=right),
               lambda x, s: FB["bucketize"](x, s, right), [ends, sorted_[0].contiguous()])
    yield "isin", torch.isin, FB["isin"], [whole(v(3, 4)), whole(v(5))]
    for x in [whole(v(4, 6)), ends, v(0, 2), v()]:
        yield ("unique", lambda x: list(torch.unique(x, return_inverse=True, return_counts=True)),
               lambda x: list_of("unique", x, n=3), [x])
        yield ("unique_consecutive",
               lambda x: list(torch.unique_consecutive(x, return_inverse=True, return_counts=True)),
               lambda x: list_of("unique_consecutive", x, n=3), [x])
    if dtype in INTS:
        x = value(dtype, 20, lo=0, hi=6)
        yield "bincount", torch.bincount, lambda x: FB["bincount"](x, None, 0), [x]
        for w in (torch.rand(20), torch.rand(20, dtype=torch.float64), index(5, 20)):
            yield ("bincount", lambda x, w: torch.bincount(x, w.detach(), 9),
                   lambda x, w: FB["bincount"](x, w, 9), [x, w])
    for lo, hi in [(0, 0), (-1, 1.5)]:
        yield "histc", lambda x: torch.histc(x.detach(), 5, lo, hi), lambda x: FB["histc"](x, 5, lo, hi), [v(40)]


def index(n, *sizes, dtype=torch.int64):
    return torch.randint(0, n, sizes, dtype=dtype)


def cases():
    """name, PyTorch, ours, inputs, dtypes"""
    for dtype in ALL:
        wide = torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype

        def v(*sizes, **range_):
            return value(dtype, *sizes, **range_)

        for n in UNARY:
            torch_fn = getattr(torch, n, None) or getattr(F, n)
            for sizes in [(3, 5), (), (0, 2)]:
                yield n, torch_fn, FB[n], [v(*sizes, lo=0.25)]
        for n, s, torch_fn in [("add_scalar", 2, lambda x: x + 2), ("mul_scalar", -3, lambda x: x * -3),
                               ("pow_scalar", 3, lambda x: x**3),
                               ("leaky_relu", 0.1, lambda x: F.leaky_relu(x, 0.1)),
                               ("elu", 0.7, lambda x: F.elu(x, 0.7))]:
            yield n, torch_fn, lambda x, n=n, s=s: FB[n](x, s), [v(4, 3)]
        yield from functions(dtype)
        yield from reductions(dtype)
        yield from orders(dtype)
        yield "clamp", lambda x: x.clamp(-1, 1), lambda x: FB["clamp"](x, -1, 1), [v(4, 3)]
        for n in BINARY:
            for a, b in [((3, 4), (3, 4)), ((2, 3, 1), (4,)), ((0, 4), (1, 4)), ((3,), ())]:
                lo = 0.25 if n in ("div", "pow") else -2
                yield n, getattr(torch, n), FB[n], [v(*a, lo=0.25), v(*b, lo=lo)]
            for other in ALL:
                if other != dtype:
                    yield (n, getattr(torch, n), FB[n],
                           [v(3, 4, lo=0.25), value(other, 4, lo=0.25)])
        yield "where", torch.where, FB["where"], [value(torch.bool, 3, 1), v(3, 4), v(4)]
        for n in REDUCTIONS:
            for dims, keep in [((), False), ((1,), True), ((0, -1), False)]:
                def theirs(x, n=n, dims=dims, keep=keep):
                    if n in ("any", "all"):
                        return getattr(torch, n)(x, dim=dims or None, keepdim=keep)
                    return getattr(torch, n)(x, dim=dims, keepdim=keep)
                yield n, theirs, lambda x, n=n, d=dims, k=keep: FB[n](x, shape(*d), k), [v(3, 4, 2)]
        yield "var", lambda x: x.var(1), lambda x: FB["var"](x, shape(1), True, False), [v(3, 7)]
        yield "sum of nothing", torch.sum, lambda x: FB["sum"](x, shape(), False), [v(0, 3)]
        for n in ("argmax", "argmin"):
            yield n, lambda x, n=n: getattr(torch, n)(x, 1), lambda x, n=n: FB[n](x, 1, False), [v(3, 9)]
        yield "max_dim", lambda x: list(torch.max(x, 1)), pair("max_dim", 1), [v(3, 9)]
        yield "min_dim", lambda x: list(torch.min(x, 0)), pair("min_dim", 0), [v(3, 9)]
        for a, b in [((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((2, 1, 3, 4), (3, 4, 2)), ((4,), (4,)),
                     ((70, 130), (130, 65)), ((0, 4), (4, 2)), ((3, 0), (0, 2))]:
            yield "matmul", torch.matmul, FB["matmul"], [v(*a, lo=-1, hi=1), v(*b, lo=-1, hi=1)]
        if dtype.is_floating_point:
            def tanh_form(x):
                return F.gelu(x, approximate="tanh")
            yield "gelu_tanh", tanh_form, FB["gelu_tanh"], [v(3, 5)]
            for act, torch_act in [(1, torch.relu), (2, tanh_form)]:
                yield ("linear_act", lambda x, w, b, f=torch_act: f(F.linear(x, w, b)),
                       lambda x, w, b, act=act: FB["linear_act"](x, w, b, act),
                       [v(2, 3, 4), v(8, 4), v(8)])
        yield "linear", F.linear, FB["linear"], [v(2, 3, 4), v(5, 4), v(5)]
        yield ("linear", lambda x, w: F.linear(x, w), lambda x, w: FB["linear"](x, w, None),
               [v(3, 4), v(5, 4)])
        for o in [{}, {"stride": 2, "padding": 1}, {"dilation": 2, "groups": 2}]:
            c = 4 // o.get("groups", 1)
            yield ("conv2d", lambda x, w, b, o=o: F.conv2d(x, w, b, **o),
                   lambda x, w, b, o=o: FB["conv2d"](x, w, b, conv(**o)),
                   [v(2, 4, 7, 6, lo=-1, hi=1), v(4, c, 3, 2, lo=-1, hi=1), v(4)])
            yield ("conv2d_relu", lambda x, w, b, o=o: F.relu(F.conv2d(x, w, b, **o)),
                   lambda x, w, b, o=o: FB["conv2d_relu"](x, w, b, conv(**o)),
                   [v(2, 4, 7, 6, lo=-1, hi=1), v(4, c, 3, 2, lo=-1, hi=1), v(4)])
        yield ("conv_transpose2d", lambda x, w, b: F.conv_transpose2d(x, w, b, stride=2),
               lambda x, w, b: FB["conv_transpose2d"](x, w, b, conv(stride=2)),
               [v(2, 4, 3, 3, lo=-1, hi=1), v(4, 3, 3, 3, lo=-1, hi=1), v(3)])
        yield ("max_pool2d", lambda x: F.max_pool2d(x, 3, 2, 1),
               lambda x: FB["max_pool2d"](x, 3, 3, conv(stride=2, padding=1)), [v(2, 3, 7, 6)])
        yield ("avg_pool2d", lambda x: F.avg_pool2d(x, 2), lambda x: FB["avg_pool2d"](x, 2, 2, None),
               [v(2, 3, 6, 4)])
        yield ("adaptive_avg_pool2d", lambda x: F.adaptive_avg_pool2d(x, (3, 2)),
               lambda x: FB["adaptive_avg_pool2d"](x, 3, 2), [v(2, 3, 7, 5)])
        for n in ("softmax", "log_softmax"):
            yield n, lambda x, n=n: getattr(F, n)(x, 1), lambda x, n=n: FB[n](x, 1), [v(3, 7, 2)]
        target = index(7, 5, dtype=torch.int64)
        yield ("cross_entropy", F.cross_entropy, lambda x, t: FB["cross_entropy"](x, t, None),
               [v(5, 7), target])
        yield ("cross_entropy",
               lambda x, t: F.cross_entropy(x, t, ignore_index=3, label_smoothing=0.1, reduction="sum"),
               lambda x, t: FB["cross_entropy"](x, t, C.byref(EntropyOptions(None, 3, 0.1, 1))),
               [v(5, 7), target])
        for r, reduction in enumerate(["mean", "sum", "none"]):
            yield ("mse_loss", lambda x, y, r=reduction: F.mse_loss(x, y, reduction=r),
                   lambda x, y, r=r: FB["mse_loss"](x, y, C.byref(MseOptions(r))), [v(4, 5), v(4, 5)])
        yield ("embedding", lambda w, i: F.embedding(i, w), FB["embedding"], [v(6, 3), index(6, 4, 2)])
        yield ("embedding_padded", lambda w, i: F.embedding(i, w, padding_idx=2),
               lambda w, i: FB["embedding_padded"](w, i, 2), [v(6, 3), index(6, 4, 2)])
        yield ("index_select", lambda x, i: torch.index_select(x, 1, i),
               lambda x, i: FB["index_select"](x, 1, i), [v(3, 5, 2), index(5, 7)])
        yield ("gather", lambda x, i: torch.gather(x, 1, i), lambda x, i: FB["gather"](x, 1, i),
               [v(3, 5), index(5, 3, 4)])
        for other in ALL:
            yield ("cat", lambda *t: torch.cat(t, 1), lambda *t: FB["cat"](tensors(t), 1),
                   [v(2, 3), value(other, 2, 1), v(2, 0)])
        yield ("stack", lambda *t: torch.stack(t, 1), lambda *t: FB["stack"](tensors(t), 1),
               [v(2, 3), v(2, 3)])
        for params in {dtype, wide}:
            w, b = value(params, 4, lo=0.5), value(params, 4)
            yield ("batch_norm", lambda x, w, b: F.batch_norm(x, None, None, w, b, True),
                   lambda x, w, b: FB["batch_norm"](x, w, b, 1e-5, None, None), [v(5, 4, 3, 2), w, b])
            mean, var = value(params, 4), value(params, 4, lo=0.5)
            yield ("batch_norm_relu",
                   lambda x, w, b, r: F.relu(F.batch_norm(x, None, None, w, b, True) + r),
                   lambda x, w, b, r: FB["batch_norm_relu"](x, w, b, r, 1e-5, None, None),
                   [v(5, 4, 3, 2), w, b, v(5, 4, 3, 2)])
            yield ("batch_norm_eval", lambda x, w, b, m, s: F.batch_norm(x, m, s, w, b, False),
                   lambda x, w, b, m, s: FB["batch_norm_eval"](x, w, b, m, s, 1e-5),
                   [v(5, 4, 3, 2), w, b, mean.requires_grad_(False), var])
            yield ("layer_norm", lambda x, w, b: F.layer_norm(x, (4,), w, b),
                   lambda x, w, b: FB["layer_norm"](x, shape(4), w, b, 1e-5), [v(5, 3, 4), w, b])
        for causal in (False, True):
            yield ("attention",
                   lambda q, k, u, c=causal: F.scaled_dot_product_attention(q, k, u, is_causal=c),
                   lambda q, k, u, c=causal: FB["scaled_dot_product_attention"](
                       q, k, u, C.byref(AttentionOptions(None, c, 0, 0))),
                   [v(2, 2, 5, 4), v(2, 2, 5, 4), v(2, 2, 5, 3)])
        yield ("attention with a mask",
               lambda q, k, u, m: F.scaled_dot_product_attention(q, k, u, attn_mask=m),
               lambda q, k, u, m: FB["scaled_dot_product_attention"](
                   q, k, u, C.byref(AttentionOptions(m, False, 0, 0))),
               [v(2, 2, 5, 4), v(2, 2, 5, 4), v(2, 2, 5, 3),
                torch.ones(5, 5, dtype=torch.bool).tril()])
        dead = torch.ones(2, 1, 5, 6, dtype=torch.bool).tril()
        dead[1, 0, 2] = False  # nothing takes part in this row
        for mask in (v(5, 6), v(2, 1, 1, 6), v(1, 4, 5, 6), dead):
            for heads in (4, 2, 1):
                yield ("attention of grouped heads with a mask",
                       lambda q, k, u, m: F.scaled_dot_product_attention(
                           q, k, u, attn_mask=m, enable_gqa=True),
                       lambda q, k, u, m: FB["scaled_dot_product_attention"](
                           q, k, u, C.byref(AttentionOptions(m, False, 0, 0, True))),
                       [v(2, 4, 5, 4), v(2, heads, 6, 4), v(2, heads, 6, 3), mask])
        for other in ALL:
            yield "to", lambda x, o=other: x.to(o), lambda x, o=other: FB["to"](x, DTYPES[o]), [v(3, 4, lo=0)]
        yield ("views", lambda x: x.permute(2, 0, 1).reshape(4, 6)[1:3].expand(2, 2, 6).contiguous(),
               lambda x: FB["contiguous"](FB["expand"](FB["narrow"](FB["reshape"](
                   FB["permute"](x, shape(2, 0, 1)), shape(4, 6)), 0, 1, 2), shape(2, 2, 6))),
               [v(2, 3, 4)])


def other_cases():
    """The same of further families: after those, whose random numbers stay what they were."""
    for dtype in ALL:
        def v(*sizes, **range_):
            return value(dtype, *sizes, **range_)
        yield from shape_cases(v)
        yield from index_cases(v)
        yield from made_cases(dtype)


def differs(ours, dtype, theirs, units=1.01):
    """What is different, or None. theirs may be wider than dtype, which ours should have."""
    if ours.dtype != dtype:
        return f"{ours.dtype}, not {dtype}"
    if ours.shape != theirs.shape:
        return f"{tuple(ours.shape)}, not {tuple(theirs.shape)}"
    if not ours.dtype.is_floating_point:
        return None if torch.equal(ours, theirs) else f"{ours.flatten()[:6]}, not {theirs.flatten()[:6]}"
    a, b = ours.double(), theirs.double()
    beyond = b.abs() > torch.finfo(dtype).max * (1 + TOLERANCE[dtype] / 2)
    b = torch.where(beyond, b.sign() * float("inf"), b)
    finite = b[b.isfinite()].abs()
    scale = finite.max().item() if finite.numel() else 0
    tol = units * TOLERANCE[dtype] * (b.abs() + (units > 2) * scale) + min(1e-5, TOLERANCE[dtype]) * (1 + scale)
    bad = ((a - b).abs() > tol) & (a != b) & ~(a.isnan() & b.isnan())
    if not bad.any():
        return None
    at = bad.flatten().nonzero()[0].item()
    return f"element {at} is {a.flatten()[at].item():.9g}, not {b.flatten()[at].item():.9g}"


def as_list(x):
    return list(x) if isinstance(x, (list, tuple)) else [x]


def seed_like(t):
    return (1 + torch.arange(t.numel()) % 5).reshape(t.shape).to(t.dtype)


# Their second derivatives jump at a point among the inputs (0, limits), where ours is that of another side;
# lgamma's overflows earlier; cumprod's is not exact where elements are 0; PyTorch's of binary_cross_entropy
# is what large terms leave of each other.
SECOND_APART = {"binary_cross_entropy", "hardswish", "softsign", "selu", "celu", "logit", "lgamma", "cumprod"}
BY_STRIDES = {"as_strided"}  # what memory looks like is seen


def given(t, number):
    """Our copy of an input; in every second call its dimensions lie in memory the other way round."""
    if t is None or t.dim() < 2 or number % 2 == 0:
        return into(t)
    return FB["transpose"](into(t.transpose(0, -1)), 0, -1)


def gradients(outs, handles, inputs, again=False):
    """Ours, of every float input; None: no gradient. `again`: they have gradients, too."""
    seeds = [into(seed_like(out_of(o))) for o in outs]
    options = GradientOptions(tensors(seeds), again, again, True)
    got = (C.c_void_p * len(handles))()
    if FB["gradients"](tensors(outs), tensors(handles), C.byref(options), got):
        return None
    return [got[i] for i, t in enumerate(inputs)]


def reference(theirs, inputs, linked):
    """PyTorch's outputs and gradients, with every float as `inputs` has it."""
    want = as_list(theirs(*inputs))
    wrt = [t for t in inputs if t.requires_grad]
    outs = [w for w in want if w.requires_grad] if linked else []
    grads = []
    if outs and wrt:
        seeds = [seed_like(w.detach()) for w in outs]
        grads = torch.autograd.grad(outs, wrt, seeds, allow_unused=True)
    return want, grads


def second_reference(theirs, inputs):
    """PyTorch's gradients of its gradients, zeros where nothing depends; None: it has none."""
    wrt = [t for t in inputs if t.requires_grad]
    outs = [w for w in as_list(theirs(*inputs)) if w.requires_grad]
    try:
        first = torch.autograd.grad(outs, wrt, [seed_like(w.detach()) for w in outs], create_graph=True,
                                    allow_unused=True)
        first = [g for g in first if g is not None and g.requires_grad]
        if not first:
            return [torch.zeros_like(t) for t in wrt]
        return torch.autograd.grad(first, wrt, [seed_like(g.detach()) for g in first], materialize_grads=True)
    except (RuntimeError, NotImplementedError):
        return None


def check_second(theirs, ours, inputs, number):
    """Complaint or None about the gradients of the gradients."""
    want = second_reference(theirs, inputs)
    if want is None:
        return None
    handles = [given(t, number) for t in inputs]
    wrt = [i for i, t in enumerate(inputs) if t is not None and t.requires_grad]
    for i in wrt:
        FB["requires_grad"](handles[i], True)
    outs = [g for g in as_list(ours(*handles)) if FB["needs_grad"](g)]
    first = gradients(outs, handles, inputs, True)
    if first is None:
        return f"backward to be differentiated: {error()}"
    first = [first[i] for i in wrt if first[i] and FB["needs_grad"](first[i])]
    mine = gradients(first, handles, inputs) if first else [None] * len(inputs)
    if mine is None:
        return f"second backward: {error()}"
    for i, w in zip(wrt, want):
        wrong = differs(out_of(mine[i]) if mine[i] else torch.zeros_like(w), w.dtype, w.detach(), 1e3)
        if wrong:
            return f"second gradient {i}: {wrong}"
    return None


def check(name, theirs, ours, inputs, number):
    """Complaint or None; and whether PyTorch refuses the call, the number-th."""
    label = f"{name}({', '.join(f'{str(t.dtype)[6:]}{list(t.shape)}' for t in inputs)})"
    linked = name != "batch_norm_eval"
    number = 0 if name in BY_STRIDES else number
    handles = [given(t, number) for t in inputs]
    floats = [i for i, t in enumerate(inputs) if t.is_floating_point() and linked]
    for i in floats:
        inputs[i] = inputs[i].clone().requires_grad_()
        FB["requires_grad"](handles[i], True)
    exact = [t.detach().double().requires_grad_(t.requires_grad) if t.is_floating_point() else t
             for t in inputs]
    got = ours(*handles)
    try:
        want, grads = reference(theirs, inputs, linked)
    except (RuntimeError, ValueError, IndexError, NotImplementedError):
        error()
        return None, True
    if (name, inputs[0].dtype) in DELIBERATE:
        error()
        return None, False
    if not got:
        return f"{label}: {error() or 'refused'}", False
    got = as_list(got)
    if name != "to":
        exact_want, exact_grads = reference(theirs, exact, linked)
    else:
        exact_want, exact_grads = want, grads
    for g, w, e in zip(got, want, exact_want):
        wrong = differs(out_of(g), w.dtype, e.detach())
        if wrong:
            return f"{label}: {wrong}", False
    outs = [g for g, w in zip(got, want) if w.requires_grad]
    if [g for g in got if FB["needs_grad"](g)] != outs:
        return f"{label}: other outputs have gradients", False
    mine = gradients(outs, handles, inputs) if outs and floats else [None] * len(inputs)
    if mine is None:
        return f"{label}: backward: {error()}", False
    for i, w, e in zip(floats, grads, exact_grads):
        if (w is None) != (not mine[i]):
            return f"{label}: gradient {i} is missing on one side", False
        units = 1e3 if name in COARSE and w.dtype == torch.float64 else 8
        wrong = w is not None and differs(out_of(mine[i]), w.dtype, e, units)
        if wrong:
            return f"{label}: gradient {i}: {wrong}", False
    if outs and floats and name not in SECOND_APART and all(inputs[i].dtype == torch.float64 for i in floats):
        wrong = check_second(theirs, ours, inputs, number)
        return wrong and f"{label}: {wrong}", False
    return None, False


def every_case():
    return itertools.chain(cases(), other_cases())


def main(of=every_case):
    """Exits with 1 if a call differs."""
    if os.environ.get("FLAMBEAU_SANITIZE"):
        sys.exit(print("python cannot load a sanitized library: nothing done"))
    torch.manual_seed(7)
    torch.set_num_threads(2)
    count = refused = 0
    wrong = []
    for name, theirs, ours, inputs in of():
        complaint, other = check(name, theirs, ours, inputs, count)
        count += 1
        refused += other
        if complaint:
            wrong.append(complaint)
    print("\n".join(wrong))
    print(f"PyTorch {torch.__version__}: {count} calls, {refused} that it refuses, {len(wrong)} differ")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
