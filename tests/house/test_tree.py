"""The top level, READMEs, lengths, formatting, feature #ifdefs, promises left in the source."""
import os
import re
import subprocess

from tree import ROOMS, SOURCE, TOP, files, finish, read, room_of

MAX_LINES = 600
# #if of these is not about features: C++, guards, repeated inclusion, the compiler's own facts, and the
# version of oneDNN, whose types differ.
PLAIN_IF = re.compile(r"__cplusplus|FLAMBEAU_(\w+_)?H|EXAMPLES_\w+_H|DNNL_VERSION_MAJOR|TESTS_\w+_H|__SANITIZE_\w+__|__(x86_64|AVX\w*|FMA|F16C"
                      r"|SSE\w*|GNUC|clang)__|__BYTE_ORDER__")
# core/ops/ops_begin.h gives rows that an includer did not define an empty meaning;
# kernels_isa.h gives FBI_ISA its value where a tool compiles a file without one.
# half.h and philox_priv.h are compiled for host and device; the simulator of CUDA is plain C++.
IF_ALLOWED = {"core/ops/ops_begin.h", "core/cpu/kernels_isa.h", "core/base/half.h",
              "core/base/philox_priv.h", "core/cuda/launch_priv.h"}
PROMISE = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")

broken = []
tree = files()
code = [f for f in tree if f.endswith((".c", ".cu", ".h")) or
        f.startswith("tests/cudasim/") and f.endswith(".cpp")]

for name in {f.split("/")[0] for f in tree} - set(TOP):
    broken.append(f"{name}: not on the list of the top level")
for name in set(TOP) - {f.split("/")[0] for f in tree}:
    broken.append(f"{name}: missing from the top level")

folders = {room_of(f) for f in tree if room_of(f) in ROOMS}
folders |= {"core", "tests", "examples", "tests/cudasim"}
folders |= {os.path.dirname(f) for f in tree if re.match(r"examples/[^/]+/", f)}
for folder in sorted(folders):
    if folder + "/README.md" not in tree:
        broken.append(f"{folder}: no README.md")

for path in code:
    text = read(path)
    lines = text.count("\n")
    if lines > MAX_LINES:
        broken.append(f"{path}: {lines} lines; one concept a file, at most {MAX_LINES}")
    if path in IF_ALLOWED or path.startswith("tests/cudasim/"):
        continue
    for condition in re.findall(r"^\s*#\s*(?:if|ifdef|ifndef|elif)\b(.*)$", text, re.M):
        if not PLAIN_IF.search(condition):
            broken.append(f"{path}: #if{condition}: the build picks files (x.c, x_none.c) instead")
for path in tree:
    if path.endswith((".c", ".h", ".cpp", ".def", ".md", ".txt", ".cmake", ".sh")):
        for match in PROMISE.findall(read(path)):
            broken.append(f"{path}: {match}")

out = subprocess.run(["clang-format", "--version"], capture_output=True, text=True)
if " 14." not in out.stdout:
    print(f"formatting not checked: that of clang-format 14 is meant, this is {out.stdout.strip()}")
else:
    for start in range(0, len(code), 50):
        out = subprocess.run(["clang-format", "--dry-run", "--Werror", "--ferror-limit=1",
                              *code[start:start + 50]], cwd=SOURCE, capture_output=True, text=True)
        broken += re.findall(r"^.*: error: .*$", out.stderr, re.M)
finish(f"{len(tree)} files", broken)
