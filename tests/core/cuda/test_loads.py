# timeout: 120
"""Kernels made for groups of V elements move 16 bytes with one instruction: read from the PTX that nvcc makes of them."""
import os
import re
import subprocess
import sys

SOURCE, BUILD = os.environ["FLAMBEAU_SOURCE"], os.environ["FLAMBEAU_BUILD"]
FILES = ["softmax", "norm", "loss", "reduce"]
WRITERS = {"softmax", "softmax_bwd", "layer", "layer_dx", "batch", "batch_dx", "ce_slopes", "mse_items", "mse_slopes"}
READERS = {"ce_items", "mse_blocks", "sum_columns", "reduce_rows", "reduce_columns"}
LOAD = re.compile(r"\bld(\.global)?(\.nc)?\.v(4\.[bfu]32|2\.[bfu]64)")
STORE = re.compile(r"\bst(\.global)?\.v(4\.[bfu]32|2\.[bfu]64)")
ENTRY = re.compile(r"\.entry (\w+)\((.*?)\n}", re.S)


def setting(name):
    with open(os.path.join(BUILD, "CMakeCache.txt"), encoding="utf-8") as f:
        return re.search(rf"^{name}:\w+=(.*)$", f.read(), re.M)[1]


def ptx(name):
    job = subprocess.run([setting("FLAMBEAU_NVCC"), "-ccbin", setting("FLAMBEAU_CXX"), "-std=c++17", "-O3", "-DFB_BUILD",
                          "-arch", "compute_80", "-ptx", "-o", "-", "-isystem", setting("FLAMBEAU_cublas_INCLUDE"),
                          "-I", os.path.join(BUILD, "include"), "-I", SOURCE,
                          os.path.join(SOURCE, "core/cuda", name + ".cu")], capture_output=True, text=True)
    if job.returncode:
        sys.exit(f"{name}.cu: {job.stderr}")
    return job.stdout


def grouped_kernels(text):
    """{kernel<types, V>: its PTX} of those with V > 1."""
    entries = dict(ENTRY.findall(text))
    names = subprocess.run(["c++filt"], input="\n".join(entries), capture_output=True, text=True, check=True).stdout
    found = {}
    for name, body in zip(names.splitlines(), entries.values()):
        whole = re.match(r"void (\w+)<(.*)>\(", name)
        numbers = re.findall(r"(?:^|, )(\d+)(?=,|$)", whole[2]) if whole else []
        if numbers and int(numbers[-1]) > 1:
            found[f"{whole[1]}<{whole[2]}>"] = body
    return found


def broken_of(kernels):
    broken = []
    for name, body in kernels.items():
        short = name.split("<")[0]
        if short not in WRITERS | READERS:
            broken.append(f"{name}: is not on the lists of this test")
        if not LOAD.search(body):
            broken.append(f"{name}: loads no 16 bytes at once")
        if short in WRITERS and not STORE.search(body):
            broken.append(f"{name}: stores no 16 bytes at once")
    return broken


kernels = {}
for file in FILES:
    kernels.update(grouped_kernels(ptx(file)))
broken = broken_of(kernels)
broken += [f"{name}: no such kernel takes groups" for name in sorted(WRITERS | READERS)
           if not any(k.startswith(name + "<") for k in kernels)]
one_by_one = {name: LOAD.sub("ld.global.f32", STORE.sub("st.global.f32", body)) for name, body in kernels.items()}
if len(broken_of(one_by_one)) < len(kernels):
    broken.append("kernels without such instructions are not found")
print("\n".join(broken))
print(f"{len(kernels)} kernels of groups: {len(broken)} broken")
sys.exit(1 if broken else 0)
