"""PyTorch judges mixed precision: the dtype of every result under torch.autocast("cpu"), from inputs in
F32 and in the half, and its value. Needs torch; run by launch/test --judges PYTHON."""
import itertools
import os
import sys

import torch

import judge_images
import judge_linalg
import judge_losses
import judge_ops as J
import judge_rest

AUTOCAST = J.bind("autocast", None, J.P, J.I)
HALVES = [torch.bfloat16, torch.float16]
# Not on PyTorch's lists: there, what they are made of decides. Powers and pseudoinverses keep F32 here; products
# of vectors are products here and sums there; prelu is written out in judge_ops.py; a pool of volumes that gives
# places is another operator there. Floats do not fill BOOL.
DELIBERATE = {"matrix_power", "pinv", "einsum", "inner", "prelu", "max_pool", "masked_fill_tensor"}


def main():
    """Exits with 1 if a dtype differs."""
    if os.environ.get("FLAMBEAU_SANITIZE"):
        sys.exit(print("python cannot load a sanitized library: nothing done"))
    torch.manual_seed(7)
    wrong, judged, refused = {}, 0, 0
    cases = itertools.chain(J.every_case(), *(judge.cases() for judge in (judge_linalg, judge_images, judge_losses,
                                                                          judge_rest)))
    for name, theirs, ours, inputs in cases:
        floats = {t.dtype for t in inputs if t.is_floating_point()}
        for half in HALVES:
            if name in DELIBERATE or len(floats) != 1 or not floats <= {torch.float32, half}:
                continue
            try:
                with torch.autocast("cpu", half), torch.no_grad():
                    want = J.as_list(theirs(*[t.detach() for t in inputs]))
            except (RuntimeError, ValueError, IndexError, NotImplementedError):
                refused += 1
                continue
            handles = [J.into(t) for t in inputs]
            AUTOCAST(J.CTX, J.DTYPES[half])
            got = ours(*handles)
            AUTOCAST(J.CTX, J.DTYPES[torch.float32])
            judged += 1
            label = f"{name} of {floats} under {half}"
            if not got:
                wrong[label] = J.error() or "refused"
                continue
            for g, w in zip((J.out_of(g) for g in J.as_list(got)), want):
                if g.dtype != w.dtype:
                    wrong[label] = f"{g.dtype}, PyTorch {w.dtype}"
    for label, text in sorted(wrong.items()):
        print(f"{label}: {text}")
    print(f"PyTorch {torch.__version__}: {judged} calls, {refused} that it refuses, {len(wrong)} differ")
    sys.exit(bool(wrong) or not judged)


if __name__ == "__main__":
    main()
