"""PyTorch judges layers with parameters of their own: names, shapes, what they compute, gradients of
inputs and parameters, and of these gradients, in F32 and F64. Needs torch; run by launch/test
--judges PYTHON."""
import ctypes as C
import os
import sys
import warnings

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "ops"))
import judge_ops as J
from judge_ops import B, D, I, L, P, Shape, Tensors, into, out_of, shape, tensors

FB = J.FB
VISIT = C.CFUNCTYPE(C.c_int, C.c_char_p, C.c_void_p, C.c_void_p)


class Outs(C.Structure):
    _fields_ = [("t", C.POINTER(C.POINTER(C.c_void_p))), ("n", C.c_int)]


class RnnOptions(C.Structure):
    _fields_ = [("layers", L), ("dropout", D), ("batch_first", B), ("bidirectional", B),
                ("no_bias", B), ("proj_size", L), ("relu", B)]


class MhaOptions(C.Structure):
    _fields_ = [("kdim", L), ("vdim", L), ("dropout", D), ("no_bias", B), ("add_bias_kv", B),
                ("add_zero_attn", B), ("batch_first", B)]


class AttendOptions(C.Structure):
    _fields_ = [("mask", P), ("padding", P), ("causal", B), ("per_head", B)]


class TransformerOptions(C.Structure):
    _fields_ = [("ff", L), ("dropout", D), ("gelu", B), ("eps", D), ("batch_first", B),
                ("norm_first", B), ("no_bias", B), ("final_norm", B)]


class CellOptions(C.Structure):
    _fields_ = [("no_bias", B), ("relu", B)]


for name, types in {
        "nn_forward_n": (I, P, Tensors, Outs), "nn_param": (P, P, C.c_char_p), "nn_to": (I, P, I),
        "nn_each_param": (I, P, VISIT, P), "nn_eval": (None, P), "nn_close": (None, P),
        "write": (I, P, P, C.c_size_t), "pad_sequence": (P, Tensors, B, D),
        "nn_multihead_attention": (P, P, L, L, P), "nn_attend": (P, P, P, P, P, P, P),
        "nn_transformer_encoder_layer": (P, P, L, L, P),
        "nn_transformer_decoder_layer": (P, P, L, L, P),
        "nn_transformer_encoder": (P, P, L, L, L, P), "nn_transformer_decoder": (P, P, L, L, L, P),
        "nn_transformer": (P, P, L, L, L, L, P), "nn_transformer_encode": (P, P, P, P),
        "nn_transformer_decode": (P, P, P, P, P, P),
        "nn_transformer_apply": (P, P, P, P, P, P, P),
        **{f"nn_{n}{c}": (P, P, L, L, P) for n in ("rnn", "lstm", "gru") for c in ("", "_cell")}}.items():
    FB[name] = J.bind(name, *types)


class Model:
    """A module of ours with the parameters of one of PyTorch."""

    def __init__(self, ours, theirs, dtype):
        self.m = ours
        assert ours, J.error()
        assert FB["nn_to"](ours, J.DTYPES[dtype]) == 0, J.error()
        FB["nn_eval"](ours)
        names = []
        FB["nn_each_param"](ours, VISIT(lambda n, t, u: names.append(n.decode()) or 0), None)
        want = [n for n, _ in theirs.named_parameters()]
        assert names == want, f"parameters {names}, not {want}"
        self.handles = []
        for n, p in theirs.named_parameters():
            t = FB["nn_param"](ours, n.encode())
            sizes = [FB["size"](t, i) for i in range(FB["ndim"](t))]
            assert sizes == list(p.shape), f"{n} is {sizes}, not {list(p.shape)}"
            data = p.detach().contiguous()
            FB["write"](t, data.data_ptr(), data.numel() * data.element_size())
            self.handles.append(t)

    def __call__(self, inputs, n_out):
        """fb_nn_forward_n; the handles of the outputs."""
        places = [C.c_void_p() for _ in range(n_out)]
        array = (C.POINTER(C.c_void_p) * n_out)(*[C.pointer(p) for p in places])
        if FB["nn_forward_n"](self.m, tensors(inputs), Outs(array, n_out)):
            return None
        return [p.value for p in places]


def our_gradients(outs, wrt, seeds, again):
    options = J.GradientOptions(tensors([into(s) for s in seeds]), False, again, True)
    got = (C.c_void_p * len(wrt))()
    if FB["gradients"](tensors(outs), tensors(wrt), C.byref(options), got):
        return None
    return list(got)


def compare(what, ours, theirs, units):
    """Complaint or None, of lists in which both may lack the same."""
    for i, (a, b) in enumerate(zip(ours, theirs)):
        if (a is None) != (b is None):
            return f"{what} {i} is missing on one side"
        wrong = a is not None and J.differs(out_of(a), b.dtype, b.detach(), units)
        if wrong:
            return f"{what} {i}: {wrong}"
    return None


def check(theirs, ours, inputs, dtype, run, call):
    """Complaint or None. run(module, *inputs): PyTorch's list of outputs; call(model, handles): ours;
    inputs: torch tensors or None."""
    theirs = theirs.to(dtype).eval()
    model = Model(ours, theirs, dtype)
    inputs = [t.to(dtype) if t is not None and t.is_floating_point() else t for t in inputs]
    floats = [i for i, t in enumerate(inputs) if t is not None and t.is_floating_point()]
    handles = [into(t) for t in inputs]
    for i in floats:
        inputs[i] = inputs[i].clone().requires_grad_()
        FB["requires_grad"](handles[i], True)
    with sdpa_kernel(SDPBackend.MATH):  # the only one with second derivatives
        want = run(theirs, *inputs)
    got = call(model, handles)
    if not got:
        return J.error() or "refused"
    wrong = compare("output", got, want, 8)
    if wrong:
        return wrong
    wrt = [inputs[i] for i in floats] + list(theirs.parameters())
    mine = [handles[i] for i in floats] + model.handles
    want, got = zip(*[(w, g) for w, g in zip(want, got) if w.requires_grad])
    seeds = [J.seed_like(w.detach()) for w in want]
    first = torch.autograd.grad(want, wrt, seeds, create_graph=True, allow_unused=True)
    ours_first = our_gradients(got, mine, seeds, True)
    if ours_first is None:
        return f"backward: {J.error()}"
    coarse = isinstance(theirs, (nn.Hardsigmoid, nn.CELU))  # PyTorch's backward has F32 constants
    wrong = compare("gradient", ours_first, first, 1e3 if coarse else 64)
    if wrong:
        return wrong
    if not any(g is not None and g.requires_grad for g in first):
        return None
    there = [i for i, g in enumerate(first) if g is not None and g.requires_grad]
    seeds = [J.seed_like(first[i].detach()) / 5 for i in there]
    try:
        second = torch.autograd.grad([first[i] for i in there], wrt, seeds, allow_unused=True)
    except RuntimeError as e:
        if "not implemented" in str(e):  # in PyTorch
            return None
        raise
    # A bias's gradient may be constant here and a function that happens to be constant there.
    linked = [(i, s) for i, s in zip(there, seeds) if FB["needs_grad"](ours_first[i])]
    ours_second = [None] * len(mine)
    if linked:
        ours_second = our_gradients([ours_first[i] for i, _ in linked], mine, [s for _, s in linked],
                                    False)
    if ours_second is None:
        return f"second backward: {J.error()}"
    # What is zero on one side may be absent on the other.
    second = [torch.zeros_like(w) if s is None and o else s for s, w, o in zip(second, wrt, ours_second)]
    ours_second = [into(torch.zeros_like(w)) if o is None and s is not None else o
                   for o, s, w in zip(ours_second, second, wrt)]
    wrong = compare("second gradient", ours_second, second, 512)
    FB["nn_close"](model.m)
    return wrong


# --- recurrent layers ---

def packed(module, x, states, lengths, batch_first):
    """What PyTorch makes of sequences of these lengths, padded to the steps of x."""
    if lengths is None:
        y, s = module(x, states)
        return y, s
    p = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=batch_first, enforce_sorted=False)
    y, s = module(p, states)
    total = x.shape[1 if batch_first else 0]
    return nn.utils.rnn.pad_packed_sequence(y, batch_first=batch_first, total_length=total)[0], s


def recurrent(kind, o, lengths, with_state, single=False):
    """theirs, ours, inputs, run, call"""
    maker = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[kind]
    t, n, features, hidden = 5, 4, 3, 6
    layers, both = o.get("num_layers", 1), 2 if o.get("bidirectional") else 1
    theirs = maker(features, hidden, **o)
    options = RnnOptions(layers, 0, o.get("batch_first", False), both == 2, not o.get("bias", True),
                         o.get("proj_size", 0), o.get("nonlinearity") == "relu")
    ours = FB[f"nn_{kind}"](J.CTX, features, hidden, C.byref(options))
    x = torch.randn((t, features) if single else
                    (n, t, features) if o.get("batch_first") else (t, n, features))
    batch = () if single else (n,)
    out = o.get("proj_size") or hidden
    states = [torch.randn(layers * both, *batch, w) for w in [out] + [hidden] * (kind == "lstm")]
    inputs = [x] + (states if with_state else [None] * len(states))
    inputs.append(None if lengths is None else torch.tensor(lengths))

    def run(module, x, *rest):
        *s, l = rest
        s = None if s[0] is None else s[0] if len(s) == 1 else tuple(s)
        y, last = packed(module, x, s, l, o.get("batch_first", False))
        return [y, *last] if kind == "lstm" else [y, last]

    return theirs, ours, inputs, run, lambda model, h: model(h, 3 if kind == "lstm" else 2)


def cell(kind, bias, relu, single, with_state):
    maker = {"rnn": nn.RNNCell, "lstm": nn.LSTMCell, "gru": nn.GRUCell}[kind]
    theirs = maker(3, 5, bias=bias, **({"nonlinearity": "relu"} if relu else {}))
    ours = FB[f"nn_{kind}_cell"](J.CTX, 3, 5, C.byref(CellOptions(not bias, relu)))
    batch = () if single else (4,)
    states = [torch.randn(*batch, 5) for _ in range(2 if kind == "lstm" else 1)]
    inputs = [torch.randn(*batch, 3)] + (states if with_state else [])

    def run(module, x, *s):
        out = module(x, *([tuple(s)] if kind == "lstm" and s else s))
        return list(out) if kind == "lstm" else [out]

    return theirs, ours, inputs, run, lambda model, h: model(h, len(states))


def recurrent_cases():
    for kind in ("rnn", "lstm", "gru"):
        for o in [{}, {"num_layers": 2}, {"bidirectional": True}, {"bias": False, "batch_first": True},
                  {"num_layers": 2, "bidirectional": True, "batch_first": True}]:
            if kind == "lstm":
                o = [o, {**o, "proj_size": 2}]
            elif kind == "rnn":
                o = [o, {**o, "nonlinearity": "relu"}]
            for option in o if isinstance(o, list) else [o]:
                for lengths in (None, [3, 5, 1, 4], [2, 2, 3, 1]):
                    yield f"{kind} {option} {lengths}", recurrent(kind, option, lengths, True)
                yield f"{kind} {option} without states", recurrent(kind, option, None, False)
                yield f"{kind} {option} without a batch", recurrent(kind, option, None, True, True)
        for bias in (True, False):
            for single in (True, False):
                yield f"{kind} cell", cell(kind, bias, kind == "rnn" and single, single, bias)


# --- attention and transformers ---

T, S, N, E, H = 4, 5, 3, 8, 2


def sequence(length, features, o, single):
    """[T, N, E] as the options have it."""
    sizes = (length,) if single else (N, length) if o.get("batch_first") else (length, N)
    return torch.randn(*sizes, features)


def masks(kind, t, s, single):
    """attn_mask, key_padding_mask, causal"""
    mask = padding = None
    if "bool" in kind:
        mask = torch.rand(t, s) < 0.3
        mask[:, 0] = False
    if "float" in kind:
        mask = torch.randn(t, s)
    if "heads" in kind:
        mask = torch.randn(H if single else N * H, t, s)
    if "padding" in kind:
        padding = torch.zeros(*(() if single else (N,)), s, dtype=torch.bool)
        padding[..., -1] = True
        if not single:
            padding[0, 1:3] = True
    if "added" in kind:
        padding = torch.randn(*(() if single else (N,)), s)
    return mask, padding, "causal" in kind


def triangle(mask, t, s, causal):
    """PyTorch's mask where causal is a part of it."""
    late = torch.ones(t, s, dtype=torch.bool).triu(1)
    if not causal:
        return mask
    if mask is None:
        return late
    return mask | late if mask.dtype == torch.bool else mask.masked_fill(late, float("-inf"))


def options_of(mask, padding, causal, per_head=False):
    return C.byref(AttendOptions(mask, padding, causal, per_head))


def attention(o, kind, same, single, weights, per_head=False):
    theirs = nn.MultiheadAttention(E, H, **o)
    ours = FB["nn_multihead_attention"](J.CTX, E, H, C.byref(MhaOptions(
        o.get("kdim", 0), o.get("vdim", 0), 0, not o.get("bias", True), o.get("add_bias_kv", False),
        o.get("add_zero_attn", False), o.get("batch_first", False))))
    q = sequence(T, E, o, single)
    s = T if same == "q" else S
    k = None if same == "q" else sequence(S, o.get("kdim", E), o, single)
    v = None if same else sequence(s, o.get("vdim", E), o, single)
    mask, padding, causal = masks(kind, T, s, single)

    def run(module, q, k, v, mask, padding):
        k = q if k is None else k
        v = k if v is None else v
        y, w = module(q, k, v, key_padding_mask=padding, need_weights=weights,
                      attn_mask=triangle(mask, T, s, causal), average_attn_weights=not per_head)
        return [y, w] if weights else [y]

    def call(model, h):
        q, k, v, mask, padding = h
        k = k or q
        w = C.c_void_p()
        y = FB["nn_attend"](model.m, q, k, v or k, options_of(mask, padding, causal, per_head),
                            C.byref(w) if weights else None)
        return y and ([y, w.value] if weights else [y])

    return theirs, ours, [q, k, v, mask, padding], run, call


def attention_cases():
    plain = [{}, {"batch_first": True}, {"bias": False}, {"kdim": 6, "vdim": 7},
             {"add_bias_kv": True}, {"add_zero_attn": True, "add_bias_kv": True, "batch_first": True}]
    for o in plain:
        for kind in ("", "bool", "float padding", "heads", "bool padding", "added", "float added",
                     "causal", "causal padding", "causal float"):
            for same in [None] if "kdim" in o else [None, "k", "q"]:
                single = same == "k" and kind in ("", "bool", "float padding")
                for weights in (False, True):
                    yield (f"attention {o} {kind} {same} {weights}",
                           attention(o, kind, same, single, weights, same == "q"))


def transformer_options(o, final_norm=False):
    return C.byref(TransformerOptions(
        o.get("dim_feedforward", 2048), 0, o.get("activation") == "gelu", o.get("layer_norm_eps", 0),
        o.get("batch_first", False), o.get("norm_first", False), not o.get("bias", True), final_norm))


def encoder(o, kind, layers):
    theirs = nn.TransformerEncoderLayer(E, H, **o)
    if layers:
        theirs = nn.TransformerEncoder(theirs, layers, nn.LayerNorm(
            E, o.get("layer_norm_eps", 1e-5), bias=o.get("bias", True)), enable_nested_tensor=False)
        ours = FB["nn_transformer_encoder"](J.CTX, E, H, layers, transformer_options(o, True))
    else:
        ours = FB["nn_transformer_encoder_layer"](J.CTX, E, H, transformer_options(o))
    mask, padding, causal = masks(kind, T, T, False)

    def run(module, x, mask, padding):
        name = "mask" if layers else "src_mask"
        return [module(x, src_key_padding_mask=padding, **{name: triangle(mask, T, T, causal)})]

    def call(model, h):
        y = FB["nn_transformer_encode"](model.m, h[0], options_of(h[1], h[2], causal))
        return y and [y]

    return theirs, ours, [sequence(T, E, o, False), mask, padding], run, call


def decoder(o, kind, layers):
    theirs = nn.TransformerDecoderLayer(E, H, **o)
    if layers:
        theirs = nn.TransformerDecoder(theirs, layers)
        ours = FB["nn_transformer_decoder"](J.CTX, E, H, layers, transformer_options(o))
    else:
        ours = FB["nn_transformer_decoder_layer"](J.CTX, E, H, transformer_options(o))
    mask, padding, causal = masks(kind, T, T, False)
    cross, gap, _ = masks("bool padding", T, S, False)
    padding = None if padding is None else padding.bool()

    def run(module, x, memory, mask, padding, cross, gap):
        return [module(x, memory, triangle(mask, T, T, causal), cross, padding, gap)]

    def call(model, h):
        x, memory, mask, padding, cross, gap = h
        y = FB["nn_transformer_decode"](model.m, x, memory, options_of(mask, padding, causal),
                                        options_of(cross, gap, False))
        return y and [y]

    x, memory = sequence(T, E, o, False), sequence(S, E, o, False)
    return theirs, ours, [x, memory, mask, padding, cross, gap], run, call


def transformer(o):
    theirs = nn.Transformer(E, H, 2, 1, **o)
    ours = FB["nn_transformer"](J.CTX, E, H, 2, 1, transformer_options(o))
    late = torch.ones(T, T, dtype=torch.bool).triu(1)

    def call(model, h):
        y = FB["nn_transformer_apply"](model.m, *h, None, options_of(None, None, True), None)
        return y and [y]

    return (theirs, ours, [sequence(S, E, o, False), sequence(T, E, o, False)],
            lambda m, s, t: [m(s, t, tgt_mask=late)], call)


def transformer_cases():
    for o in [{}, {"norm_first": True}, {"activation": "gelu", "batch_first": True},
              {"bias": False, "norm_first": True}, {"layer_norm_eps": 0.1}]:
        o = {"dim_feedforward": 12, **o}
        for kind in ("", "causal", "bool padding"):
            for layers in (0, 2):
                yield f"encoder {o} {kind} {layers}", encoder(o, kind, layers)
                yield f"decoder {o} {kind} {layers}", decoder(o, kind, layers)
        yield f"transformer {o}", transformer(o)


# --- layers of one function, and what embeds, pools and pads ---

class BagOptions(C.Structure):
    _fields_ = [("mode", I), ("weights", P), ("pads", B), ("padding_index", L), ("last", B)]


class EmbeddingOptions(C.Structure):
    _fields_ = [("tie", P), ("pads", B), ("padding_index", L)]


def simple(theirs, maker, types, arguments, inputs, n_out=1, run=None):
    ours = J.bind(f"nn_{maker}", P, P, *types)(J.CTX, *arguments)
    return (theirs, ours, inputs, run or (lambda m, *x: J.as_list(m(*x))),
            lambda model, h: model(h, n_out))


def pad_layers():
    modes = {"Constant": 0, "Reflection": 1, "Replication": 2, "Circular": 3, "Zero": 0}
    for nd in (1, 2, 3):
        x = torch.randn(2, 3, *(5, 4, 6)[:nd])
        pads = (2, 1, 1, 0, 1, 2)[:2 * nd]
        for mode, number in modes.items():
            maker = getattr(nn, f"{mode}Pad{nd}d")
            value = 1.5 if mode == "Constant" else 0
            yield f"{mode}Pad{nd}d", simple(
                maker(pads, value) if mode == "Constant" else maker(pads), "pad", (Shape, I, D),
                (shape(*pads), number, value), [x])


def pool_layers():
    for nd in (1, 2, 3):
        x = (torch.randperm(2 * 3 * (7, 42, 336)[nd - 1]) / 8.0).reshape(
            2, 3, *(7, 6, 8)[:nd])
        yield f"MaxPool{nd}d", simple(getattr(nn, f"MaxPool{nd}d")(2, return_indices=True),
                                      f"max_pool{nd}d", (L, P), (2, None), [x], 2)
        yield f"MaxPool{nd}d alone", simple(getattr(nn, f"MaxPool{nd}d")(2), f"max_pool{nd}d", (L, P),
                                            (2, None), [x])
        for o in ({}, {"stride": 3, "padding": 1}):
            k = 3 if o else 2
            whole = torch.randn(2, 3, *((7, 4, 10) if o else (6, 4, 8))[:nd])
            v, i = getattr(nn.functional, f"max_pool{nd}d")(whole, k, **o, return_indices=True)
            options = J.ConvOptions()
            options.stride[0], options.padding[0] = o.get("stride", 0), o.get("padding", 0)
            yield f"MaxUnpool{nd}d {o}", simple(getattr(nn, f"MaxUnpool{nd}d")(k, **o),
                                                f"max_unpool{nd}d", (L, P), (k, C.byref(options)), [v, i])
        yield f"LPPool{nd}d", simple(getattr(nn, f"LPPool{nd}d")(2, 2), f"lp_pool{nd}d", (D, L, P),
                                     (2, 2, None), [x + 1])


def layer_cases():
    x, image = torch.randn(3, 4, 5) * 3, torch.randn(2, 4, 3, 6)
    plain = {"relu": nn.ReLU, "relu6": nn.ReLU6, "selu": nn.SELU, "gelu": nn.GELU, "silu": nn.SiLU,
             "mish": nn.Mish, "hardswish": nn.Hardswish, "hardsigmoid": nn.Hardsigmoid, "tanh": nn.Tanh,
             "tanhshrink": nn.Tanhshrink, "sigmoid": nn.Sigmoid, "logsigmoid": nn.LogSigmoid,
             "softsign": nn.Softsign, "identity": nn.Identity, "flatten": nn.Flatten}
    for name, maker in plain.items():
        yield name, simple(maker(), name, (), (), [x])
    yield "softmax2d", simple(nn.Softmax2d(), "softmax2d", (), (), [image])
    yield "gelu_tanh", simple(nn.GELU("tanh"), "gelu_tanh", (), (), [x])
    for name, maker, a in [("leaky_relu", nn.LeakyReLU, 0.1), ("elu", nn.ELU, 0.7),
                           ("celu", nn.CELU, 0.7), ("hardshrink", nn.Hardshrink, 0.5),
                           ("softshrink", nn.Softshrink, 0.5), ("dropout", nn.Dropout, 0.5),
                           ("dropout1d", nn.Dropout1d, 0.5), ("alpha_dropout", nn.AlphaDropout, 0.5),
                           ("feature_alpha_dropout", nn.FeatureAlphaDropout, 0.5)]:
        yield name, simple(maker(a), name, (D,), (a,), [x])
    for name, maker, a in [("hardtanh", nn.Hardtanh, (-1.5, 0.5)), ("threshold", nn.Threshold, (0.5, -2)),
                           ("softplus", nn.Softplus, (1, 20)), ("softplus", nn.Softplus, (2, 3)),
                           ("rrelu", nn.RReLU, (0.1, 0.4))]:
        yield f"{name} {a}", simple(maker(*a), name, (D, D), a, [x])
    for name, maker in [("softmax", nn.Softmax), ("log_softmax", nn.LogSoftmax), ("softmin", nn.Softmin),
                        ("glu", nn.GLU)]:
        yield name, simple(maker(dim=1), name, (I,), (1,), [x])
    for n in (1, 4):
        yield f"prelu {n}", simple(nn.PReLU(n, 0.3), "prelu", (L, D), (n, 0.3), [x])
        yield f"prelu {n} of a matrix", simple(nn.PReLU(n), "prelu", (L, D), (n, 0.25), [x[:, :, 0]])
    yield "prelu of a line", simple(nn.PReLU(), "prelu", (L, D), (1, 0.25), [x[:, 0, 0]])
    yield "flatten", simple(nn.Flatten(0, 1), "flatten_dims", (I, I), (0, 1), [x])
    yield "unflatten", simple(nn.Unflatten(1, (2, -1)), "unflatten", (I, Shape), (1, shape(2, -1)), [x])
    yield "channel_shuffle", simple(nn.ChannelShuffle(2), "channel_shuffle", (L,), (2,), [image])
    yield "unfold", simple(nn.Unfold((2, 3)), "unfold", (L, L, P), (2, 3, None), [image])
    columns = nn.functional.unfold(image, (2, 3))
    yield "fold", simple(nn.Fold((3, 6), (2, 3)), "fold", (L, L, L, L, P), (3, 6, 2, 3, None), [columns])
    for bias in (True, False):
        linear = (C.c_bool * 16)(not bias)  # fb_linear_options begins with no_bias
        yield "bilinear", simple(nn.Bilinear(3, 4, 2, bias), "bilinear", (L, L, L, P),
                                 (3, 4, 2, linear), [torch.randn(2, 5, 3), torch.randn(2, 5, 4)])
    rows = [torch.randn(4, 5), torch.randn(4, 5)]
    yield "cosine", simple(nn.CosineSimilarity(1, 1e-3), "cosine_similarity", (I, D), (1, 1e-3), rows)
    yield "pairwise", simple(nn.PairwiseDistance(3, 1e-4, True), "pairwise_distance", (D, D, B),
                             (3, 1e-4, True), rows)
    index, offsets = torch.randint(0, 6, (9,)), torch.tensor([0, 4, 4, 7])
    for mode, number in [("sum", 0), ("mean", 1), ("max", 2)]:
        for pad in (None, 2):
            options = C.byref(BagOptions(number, None, pad is not None, pad or 0, False))
            yield f"bag {mode} {pad}", simple(
                nn.EmbeddingBag(6, 3, mode=mode, padding_idx=pad), "embedding_bag", (L, L, P),
                (6, 3, options), [index, offsets])
    yield "bag weighted", simple(nn.EmbeddingBag(6, 3, mode="sum"), "embedding_bag", (L, L, P),
                                 (6, 3, None), [index, offsets, torch.randn(9)])
    yield "embedding", simple(nn.Embedding(6, 3, padding_idx=-2), "embedding", (L, L, P),
                              (6, 3, C.byref(EmbeddingOptions(None, True, -2))), [index])
    yield from pad_layers()
    yield from pool_layers()


def cases():
    yield from recurrent_cases()
    yield from layer_cases()
    yield from attention_cases()
    yield from transformer_cases()


def main():
    """Exits with 1 if a case differs."""
    if os.environ.get("FLAMBEAU_SANITIZE"):
        sys.exit(print("python cannot load a sanitized library: nothing done"))
    warnings.simplefilter("ignore")  # of what PyTorch does more slowly
    torch.manual_seed(7)
    torch.set_num_threads(2)
    wrong, count = [], 0
    only = sys.argv[1] if len(sys.argv) > 1 else ""
    for dtype in (torch.float32, torch.float64):
        for label, (theirs, ours, inputs, run, call) in cases():
            if only not in label:
                continue
            complaint = check(theirs, ours, inputs, dtype, run, call)
            count += 1
            if complaint:
                wrong.append(f"{str(dtype)[6:]} {label}: {complaint}")
    print("\n".join(wrong))
    print(f"PyTorch {torch.__version__}: {count} modules, {len(wrong)} differ")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
