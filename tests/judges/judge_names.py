"""Which functions of torch.nn.functional, torch.Tensor and torch.linalg have no counterpart here, by name. Needs
torch; run by launch/test --judges PYTHON. Fails if a name of the lists below is in none of the three, or if what
is said not to be ours is there after all."""
import os
import re
import subprocess
import sys

import torch
import torch.nn.functional

SOURCE = os.environ.get("FLAMBEAU_SOURCE") or os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("FLAMBEAU_BUILD") or os.path.join(SOURCE, "build")

# PyTorch's name: ours, where rules do not find it.
ALIASES = {
    "absolute": "abs", "arccos": "acos", "arccosh": "acosh", "arcsin": "asin", "arcsinh": "asinh", "arctan": "atan",
    "arctan2": "atan2", "arctanh": "atanh", "clip": "clamp", "multiply": "mul", "divide": "div", "true_divide": "div",
    "subtract": "sub", "negative": "neg", "greater": "gt", "greater_equal": "ge", "less": "lt", "less_equal": "le",
    "not_equal": "ne", "fix": "trunc", "swapaxes": "transpose", "swapdims": "transpose", "t": "transpose",
    "moveaxis": "movedim", "size": "size", "dim": "ndim", "ndimension": "ndim", "nelement": "numel",
    "data_ptr": "data", "numpy": "read", "tolist": "read", "requires_grad_": "requires_grad", "element_size": "dtype_size",
    "float": "to", "double": "to", "half": "to", "bfloat16": "to", "int": "to", "long": "to", "bool": "to", "byte": "to",
    "char": "to", "short": "to", "type": "to", "type_as": "to", "cpu": "to_device", "cuda": "to_device",
    "get_device": "device_of", "register_hook": "hook_grad", "detach_": "detach", "new_tensor": "from",
    "new_zeros": "zeros", "new_ones": "ones", "new_empty": "empty", "new_full": "full", "random_": "randint_like",
    "uniform_": "uniform", "normal_": "normal", "exponential_": "exponential", "matmul": "matmul", "mm": "matmul",
    "resize_as_": "resize_", "reshape_as": "reshape", "view_as": "view", "expand_as": "expand", "copy_": "copy_",
    "upsample": "interpolate", "upsample_bilinear": "interpolate", "upsample_nearest": "interpolate", "inverse": "inv",
    "pinverse": "pinv", "dropout1d": "dropout", "lu_factor": "lu_factor", "multi_head_attention_forward": "nn_multihead_attention",
    "permute": "permute", "eq_": "eq_", "is_same_size": "shape_equal", "untyped_storage": "data", "set_": "set",
    "zero_": "zero_", "native_channel_shuffle": "channel_shuffle", "unflatten": "reshape",
}
# No functions of a tensor in a C library: Python's, other devices', other kinds of tensors.
NOT_OURS = {
    "helpers of Python": "Callable DType Optional ScalingType SwizzleType Tensor LinAlgError assert_int_or_pair "
        "boolean_dispatch handle_torch_function has_torch_function has_torch_function_unary has_torch_function_variadic "
        "apply_ map_ map2_ as_subclass module_load reinforce share_memory_ is_shared register_post_accumulate_grad_hook "
        "storage storage_offset storage_type is_set_to record_stream pin_memory is_pinned retain_grad dim_order new "
        "reduce_ragged",
    "other devices": "cudnn hpu ipu mtia xpu mkldnn to_mkldnn",
    "sparse tensors": "coalesce col_indices crow_indices ccol_indices row_indices dense_dim sparse_dim indices values "
        "is_coalesced sparse_mask sparse_resize_ sparse_resize_and_clear_ to_sparse to_sparse_coo to_sparse_csr to_sparse_csc "
        "to_sparse_bsr to_sparse_bsc to_dense smm sspaddmm hspmm to_padded_tensor",
    "quantized tensors": "dequantize int_repr q_per_channel_axis q_per_channel_scales q_per_channel_zero_points q_scale "
        "q_zero_point qscheme scaled_mm scaled_grouped_mm grouped_mm scaled_addmm scaled_addmm_",
    "names of dimensions": "align_as align_to refine_names rename rename_",
    "complex numbers": "angle conj conj_physical conj_physical_ resolve_conj resolve_neg is_complex is_conj is_neg "
        "istft stft chalf cfloat cdouble adjoint is_inference is_signed is_floating_point",
}


def functions(module):
    return {n for n in dir(module) if not n.startswith("_") and callable(getattr(module, n))}


def ours():
    names = set()
    for folder, _, files in os.walk(os.path.join(SOURCE, "core")):
        for name in files:
            if name.endswith(".h") and not name.endswith(("_priv.h", "_t.h")):
                with open(os.path.join(folder, name), encoding="utf-8") as f:
                    names |= set(re.findall(r"\bfb_(\w+)\(", f.read()))
    command = os.path.join(BUILD, "bin/flambeau")
    if os.path.exists(command):
        rows = subprocess.run([command, "ops"], capture_output=True, text=True).stdout.split("\n")[1:]
        names |= {row.split()[0] for row in rows if row.strip()}
    return names


def counterpart(name, known):
    plain = name.rstrip("_")
    for n in (name, ALIASES.get(name), plain, ALIASES.get(plain)):
        if not n:
            continue
        flat = re.sub(r"\dd", "", n)
        for candidate in (n, n + "_", flat, "nn_" + n, "linalg_" + n, n + "_dim", n + "_scalar", "tensor_" + n):
            if candidate in known:
                return candidate
    return None


def main():
    known, broken = ours(), []
    groups = {"torch.nn.functional": functions(torch.nn.functional), "torch.Tensor": functions(torch.Tensor),
              "torch.linalg": functions(torch.linalg)}
    everything = set().union(*groups.values())
    foreign = {n for text in NOT_OURS.values() for n in text.split()}
    broken += [f"{n}: ALIASES has it, PyTorch has it not" for n in sorted(set(ALIASES) - everything)]
    broken += [f"{n}: fb_{n} is there, and NOT_OURS has it" for n in sorted(foreign & known)]
    for group, names in groups.items():
        wanted = sorted(names - foreign)
        missing = [n for n in wanted if not counterpart(n, known)]
        print(f"{group}: {len(wanted) - len(missing)} of {len(wanted)} have a counterpart; none have: {' '.join(missing) or '-'}")
    for text in broken:
        print(text)
    print(f"names of PyTorch {torch.__version__}: {len(broken)} broken")
    sys.exit(1 if broken else 0)


main()
