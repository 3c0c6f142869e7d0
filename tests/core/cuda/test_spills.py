# timeout: 60
"""No kernel keeps in memory what it has no registers for: ptxas counts the bytes of such stores and loads (-Xptxas -v,
which the build keeps beside each object). Products of matrices are cuBLASLt's, so there is no exception."""
import glob
import os
import re
import subprocess
import sys
import tempfile

SOURCE, BUILD = os.environ["FLAMBEAU_SOURCE"], os.environ["FLAMBEAU_BUILD"]
FUNCTION = re.compile(r"Function properties for (\S+)")
ENTRY = re.compile(r"Compiling entry function '(\S+)' for '(sm_\w+)'")
SPILLS = re.compile(r"bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")


def readable(names):
    out = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True)
    return dict(zip(names, out.stdout.splitlines()))


def spills(text):
    """(Kernels that ptxas speaks of, [(architecture, mangled function, bytes stored, bytes loaded)] of what spills)."""
    kernels, found, function, architecture = 0, [], "?", "?"
    for line in text.splitlines():
        entry, properties, bytes_of = ENTRY.search(line), FUNCTION.search(line), SPILLS.search(line)
        if entry:
            architecture = entry[2]
            kernels += 1
        elif properties:
            function = properties[1]
        elif bytes_of and (int(bytes_of[1]) or int(bytes_of[2])):
            found.append((architecture, function, int(bytes_of[1]), int(bytes_of[2])))
    return kernels, found


def setting(name):
    with open(os.path.join(BUILD, "CMakeCache.txt"), encoding="utf-8") as f:
        return re.search(rf"^{name}:\w+=(.*)$", f.read(), re.M)[1]


def log_of(file, folder):
    """What ptxas says of a kernel that is compiled now, as the build does it."""
    log = os.path.join(folder, "log")
    job = subprocess.run([os.path.join(SOURCE, "launch/cmake/nvcc.sh"), log, setting("FLAMBEAU_NVCC"), "-ccbin",
                          setting("FLAMBEAU_CXX"), "-arch", "sm_80", "-cubin", "-o", os.path.join(folder, "o"), file],
                         capture_output=True, text=True)
    with open(log, encoding="utf-8") as f:
        text = f.read()
    assert job.returncode == 0, f"{job.stderr}{text}"
    assert not job.stderr, f"nvcc.sh lets through: {job.stderr}"
    return text


def planted():
    """A kernel of 96 values in 32 registers must be found."""
    with tempfile.TemporaryDirectory() as folder:
        kernels, found = spills(log_of(os.path.join(SOURCE, "tests/core/cuda/planted_spills.cu"), folder))
    names = readable([f[1] for f in found])
    if kernels != 2 or len(found) != 1 or "planted_spills(" not in names[found[0][1]] or not min(found[0][2:]):
        sys.exit(f"planted_spills.cu: of {kernels} kernels these are said to spill: {found}")


planted()
broken, kernels, architectures = [], 0, set()
for path in sorted(glob.glob(os.path.join(SOURCE, "core/cuda/*.cu"))):
    name = os.path.basename(path)
    try:
        with open(os.path.join(BUILD, "cuda", name[:-3] + ".o.log"), encoding="utf-8") as f:
            text = f.read()
    except FileNotFoundError:
        broken.append(f"{name}: the build has kept no {name[:-3]}.o.log")
        continue
    n, found = spills(text)
    if not n and "__global__" in open(path, encoding="utf-8").read():
        broken.append(f"{name}: ptxas speaks of no kernel")
    kernels += n
    architectures |= {a for _, a in ENTRY.findall(text)}
    names = readable([f[1] for f in found])
    broken += [f"{name}: {names[f]} spills on {a}: {stored} bytes stored, {loaded} loaded" for a, f, stored, loaded in found]
wanted = {f"sm_{a}" for a in setting("FLAMBEAU_CUDA_ARCHITECTURES").split(";")}
if architectures != wanted:
    broken.append(f"kernels are compiled for {sorted(architectures)}, the build is for {sorted(wanted)}")
print("\n".join(broken))
print(f"{kernels} kernels for {', '.join(sorted(architectures))}: {len(broken)} broken")
sys.exit(1 if broken else 0)
