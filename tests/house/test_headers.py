"""Public headers compile alone as C11 and as C++20; each function has a comment; flambeau.h has all;
macros work in C++."""
import concurrent.futures
import os
import re
import subprocess

from tree import BUILD, SOURCE, finish, public_headers, read

CC = os.environ.get("FLAMBEAU_CC", "cc")
INCLUDES = ["-I", os.path.join(BUILD, "include")]
# No function: pieces of declarations, or constants that need no C++ form.
PLAIN = re.compile(r"FB_(BEGIN|END|API|USE_RESULT|PRINTF|VERSION\w*|MAX_\w+|ZERO|ZERO_INT)$")
STANDARDS = [("c", "-std=c11"), ("c++", "-std=c++20")]


def name_of(path):
    return "flambeau/flambeau.h" if path == "launch/flambeau.h" else "flambeau/" + path


def compile_text(text, language, standard, extra=()):
    pedantic = [] if language == "c++" else ["-Wpedantic"]
    out = subprocess.run([CC, "-x", language, standard, "-Wall", "-Wextra", "-Werror", *pedantic,
                          "-fsyntax-only", *INCLUDES, *extra, "-"],
                         input=text, capture_output=True, text=True)
    return out.stderr if out.returncode else ""


def alone(path):
    extra = []
    if path == "comm/mpi.h":
        # As a system's folder: its C++ part does not compile without warnings.
        flags = subprocess.run(["mpicc", "--showme:incdirs"], capture_output=True, text=True)
        extra = [word for folder in flags.stdout.split() for word in ("-isystem", folder)]
    broken = []
    for language, standard in STANDARDS:
        # Twice: the guard works too.
        text = f"#include <{name_of(path)}>\n" * 2 + "int main(void) { return 0; }\n"
        errors = compile_text(text, language, standard, extra)
        if errors:
            broken.append(f"{path} alone, {standard}:\n{errors[:800]}")
    return broken


def undocumented(path):
    """Functions without a comment above them or behind their name."""
    lines = read(path).split("\n")
    for i, line in enumerate(lines):
        if not line.startswith("FB_API"):
            continue
        statement = line
        for more in lines[i + 1:i + 4]:
            if ";" in statement:
                break
            statement += more
        if "/**<" not in statement and not lines[i - 1].rstrip().endswith("*/"):
            yield f"{path}:{i + 1}: no comment says what {statement.split('(')[0].split()[-1]} does"


def main():
    headers = public_headers()
    broken = [line for path in headers for line in undocumented(path)]
    umbrella = read("launch/flambeau.h")
    for path in headers:
        if path not in ("launch/flambeau.h", "comm/mpi.h") and f"<flambeau/{path}>" not in umbrella:
            broken.append(f"launch/flambeau.h does not include {path}")
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for found in pool.map(alone, headers):
            broken += found
    # Every macro for users is used in macros.cpp, which compiles.
    with open(os.path.join(SOURCE, "tests/house/macros.cpp"), encoding="utf-8") as f:
        program = f.read()
    macros = {m for path in headers
              for m in re.findall(r"^\s*#\s*define\s+((?:FB|fb)_\w+)", read(path), re.M)}
    for macro in sorted(macros):
        if not PLAIN.match(macro) and not re.search(rf"\b{macro}\b", program):
            broken.append(f"tests/house/macros.cpp does not use {macro}")
    # Fields that are left out are what FB_OPTS is for.
    errors = compile_text(program, "c++", "-std=c++20", ["-Wno-missing-field-initializers"])
    if errors:
        broken.append(f"tests/house/macros.cpp:\n{errors[:2000]}")
    finish(f"{len(headers)} headers", broken)


main()
