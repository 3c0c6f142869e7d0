"""The rules of the house that a machine can check: arrows, headers, format, names, READMEs."""
import os
import re
import subprocess
import sys
import tempfile

SOURCE = os.environ.get("FLAMBEAU_SOURCE") or os.path.dirname(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("FLAMBEAU_BUILD") or os.path.join(SOURCE, "build")

# A room may include itself and those listed.
CORE = ["core/base", "core/tensor", "core/autograd", "core/ops", "core/nn", "core/optim"]
ARROWS = {
    "core/base": [],
    "core/tensor": ["core/base"],
    "core/autograd": ["core/tensor", "core/base"],
    "core/ops": ["core/autograd", "core/tensor", "core/base"],
    "core/cpu": ["core/ops", "core/tensor", "core/base"],
    "core/nn": ["core/ops", "core/autograd", "core/tensor", "core/base"],
    "core/optim": ["core/nn", "core/ops", "core/autograd", "core/tensor", "core/base"],
    "comm": CORE,
    "parallel": CORE + ["comm"],
    "io": CORE + ["comm"],
    "launch": CORE + ["comm", "parallel", "io"],
}
# Exceptions, each with its reason.
ALLOWED = {
    ("core/autograd", "core/ops/op_priv.h"),  # backward calls a node's row through the table
    ("core/autograd", "core/ops/backend.h"),
}
PRIVATE = {"core/ops/backend.h", "core/base/vmath.h", "core/base/half.h", "core/ops/ops_begin.h",
           "core/ops/ops_end.h"}
TOP = {"CMakeLists.txt", "core", "comm", "parallel", "io", "launch", "tests", "examples",
       "README.md", "LICENSE", ".ci", ".clang-format", ".gitignore"}

failures = []


def fail(text):
    failures.append(text)


def tracked():
    out = subprocess.run(["git", "-C", SOURCE, "ls-files"], capture_output=True, text=True)
    return out.stdout.split() if out.returncode == 0 else []


def room_of(path):
    parts = path.split("/")
    return "/".join(parts[:2]) if parts[0] == "core" else parts[0]


def check_arrows(files):
    pattern = re.compile(r'#\s*include\s*[<"](?:flambeau/)?([a-z_]+/[^">]+)[">]')
    for path in files:
        room = room_of(path)
        if room not in ARROWS or not path.endswith((".c", ".h", ".def")):
            continue
        for line in open(os.path.join(SOURCE, path)):
            found = pattern.match(line)
            if not found:
                continue
            target = room_of(found.group(1))
            if target in ARROWS and target != room and target not in ARROWS[room] and (
                    room, found.group(1)) not in ALLOWED:
                fail(f"{path}: {room} may not include {found.group(1)}")


def public_headers(files):
    return [f for f in files if f.endswith(".h") and room_of(f) in ARROWS and not
            f.endswith("_priv.h") and f not in PRIVATE and not f.startswith("core/cpu/")]


def check_headers(files):
    include = ["-I", os.path.join(BUILD, "include")]
    mpi = subprocess.run(["mpicc", "--showme:compile"], capture_output=True, text=True)
    for path in public_headers(files):
        name = "flambeau/flambeau.h" if path == "launch/flambeau.h" else "flambeau/" + path
        extra = mpi.stdout.split() if path == "comm/mpi.h" else []
        for language, std in (("c", "c11"), ("c++", "c++20")):
            with tempfile.NamedTemporaryFile("w", suffix=".c") as unit:
                unit.write(f"#include <{name}>\nint main(void) {{ return 0; }}\n")
                unit.flush()
                out = subprocess.run(["gcc", "-x", language, "-std=" + std, "-Wall", "-Wextra",
                                      "-Werror", "-fsyntax-only", *include, *extra, unit.name],
                                     capture_output=True, text=True)
                if out.returncode and "cannot execute" not in out.stderr:
                    fail(f"{path} does not compile alone as {std}:\n{out.stderr[:600]}")


def check_umbrella(files):
    path = os.path.join(SOURCE, "launch/flambeau.h")
    text = open(path).read() if os.path.exists(path) else ""
    for header in public_headers(files):
        if header not in ("launch/flambeau.h", "comm/mpi.h") and f"<flambeau/{header}>" not in text:
            fail(f"launch/flambeau.h does not include {header}")


def check_format(files):
    sources = [os.path.join(SOURCE, f) for f in files if f.endswith((".c", ".h"))]
    out = subprocess.run(["clang-format", "--dry-run", "--Werror", "--ferror-limit=1", *sources],
                         capture_output=True, text=True)
    for line in out.stderr.splitlines():
        if "error:" in line:
            fail("not formatted: " + line)


def check_files(files):
    for path in files:
        if path.split("/")[0] not in TOP:
            fail(f"{path}: not a room of the house")
        if path.endswith((".c", ".h")):
            lines = sum(1 for _ in open(os.path.join(SOURCE, path)))
            if lines > 600:
                fail(f"{path}: {lines} lines; one concept a file, at most 600")
    folders = {room_of(f) for f in files if room_of(f) in ARROWS} | {"core", "tests", "examples"}
    folders |= {os.path.dirname(f) for f in files if f.startswith("examples/") and f.count("/") > 1}
    for folder in sorted(folders):
        if folder + "/README.md" not in files:
            fail(f"{folder}: no README.md")


def main():
    files = tracked()
    if not files:
        print("not a git checkout: skipped")
        return 77
    files = [f for f in files if os.path.exists(os.path.join(SOURCE, f))]
    for check in (check_arrows, check_headers, check_umbrella, check_format, check_files):
        check(files)
    for text in failures:
        print(text)
    print(f"{len(files)} files, {len(failures)} broken rules")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
