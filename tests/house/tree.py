"""What the checks of the house share: the files of the source tree and how rooms are named."""
import os
import subprocess
import sys

SOURCE = os.environ.get("FLAMBEAU_SOURCE") or os.path.dirname(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("FLAMBEAU_BUILD") or os.path.join(SOURCE, "build")

TOP = ["CMakeLists.txt", "core", "comm", "parallel", "io", "launch", "tests", "examples",
       "README.md", "LICENSE", ".ci", ".clang-format", ".gitignore"]
ROOMS = ["core/base", "core/tensor", "core/autograd", "core/ops", "core/cpu", "core/cuda",
         "core/nn", "core/optim", "comm", "parallel", "io", "launch"]
# Private although their names end neither in _priv.h nor in _t.h (a body included several times):
# vmath.h and half.h are shared with device code, the others are the seam and the row macros.
PRIVATE = ["core/ops/backend.h", "core/ops/ops_begin.h", "core/ops/ops_end.h", "core/base/vmath.h",
           "core/base/half.h"]


def files():
    """Paths from the root: what git tracks or would track; without git, everything but builds."""
    out = subprocess.run(["git", "-c", "safe.directory=*", "-C", SOURCE, "ls-files", "-co",
                          "--exclude-standard"], capture_output=True, text=True)
    if out.returncode == 0:
        found = out.stdout.splitlines()
    else:
        found = []
        for folder, folders, names in os.walk(SOURCE):
            folders[:] = [f for f in folders if f != ".git" and not f.startswith("build")]
            found += [os.path.relpath(os.path.join(folder, n), SOURCE) for n in names]
    return sorted(f for f in found if os.path.isfile(os.path.join(SOURCE, f)))


def read(path):
    with open(os.path.join(SOURCE, path), encoding="utf-8") as f:
        return f.read()


def room_of(path):
    """core/ops for core/ops/x.c, io for io/x.c."""
    parts = path.split("/")
    return "/".join(parts[:2]) if parts[0] == "core" else parts[0]


def public_headers():
    return [f for f in files() if f.endswith(".h") and room_of(f) in ROOMS and
            not f.endswith(("_priv.h", "_t.h")) and f not in PRIVATE and room_of(f) != "core/cpu"]


def finish(what, broken):
    """Print what is broken and leave with an exit code."""
    for text in broken:
        print(text)
    print(f"{what}: {len(broken)} broken")
    sys.exit(1 if broken else 0)
