"""What first_contact does on a machine, one function a step; each returns what the report says of it."""
import concurrent.futures
import functools
import json
import os
import pathlib
import re
import shutil
import sys

import machine
from contact import Failed, Skipped, system

sys.path.append(str(machine.SOURCE / "tests/bench"))
from sides import SideEnded, Timed  # noqa: E402

EXAMPLES = ("hello", "fashion", "chargpt")
# Tests that open the context's default device. Others of core are about the host.
HARNESS = re.compile(r"cudasim/(core/(?:ops|autograd)/[a-z_]+)@1$")
BATCHES = {"mlp": (128,), "cnn": (64,), "resnet50": (128, 64, 32), "gpt2": (64, 32, 16, 8)}


# --- the machine and the build ---

def environment(c):
    for command in ((("nvidia-smi",),) if c.cards else ()) + (("gcc", "--version"), ("python3", "--version")):
        c.run(command, env=dict(os.environ), limit=20, ok=range(-1, 256))
    nvcc = machine.tool("nvcc")
    if not nvcc:
        raise Failed("no nvcc in PATH or /usr/local/cuda: the toolkit is needed")
    release = re.search(r"release ([\d.]+)", machine.said(nvcc, "--version"))
    found = [name for name in machine.NVIDIA if all(machine.nvidia(name))]
    peer = torch_version(c.o.python, not c.dry)
    c.facts += [system(), f"nvcc {release[1] if release else '?'}; {', '.join(found) or 'no cuBLASLt'} found; "
                          f"PyTorch {peer or 'none'}; {'brought' if machine.brought() else 'own'} MPI and HDF5"]
    if not c.dry and not c.cards:
        raise Failed("nvidia-smi names no card: no driver, or a container started without its cards")
    return "" if c.dry else c.cards[0]["name"]


def architecture(c):
    return c.o.arch or (machine.architecture(c.cards[0]) if c.cards else "80")


def configure(c):
    cmake = machine.cmake()
    if not cmake:
        raise Failed("no cmake 3.22 or newer: install it, or bring it by tests/gpu/pack")
    env = machine.build_environment()
    ninja = ["-G", "Ninja"] if shutil.which("ninja", path=env["PATH"]) else []
    text = c.run([cmake, "-S", machine.SOURCE, "-B", c.build, *ninja, "-DFLAMBEAU_TESTS=ON",
                  *machine.cmake_options(architecture(c))], env=env)
    said = re.search(r"flambeau: 0.*", text)
    return cmake, env, said[0] if said else ""


def harness_programs(c):
    """{name: program} of the tests that run on a device, as CMake knows them."""
    text = machine.said(machine.ctest(), "--test-dir", str(c.build), "--show-only=json-v1", env=machine.build_environment())
    names = sorted(m[1] for m in (HARNESS.match(test["name"]) for test in json.loads(text)["tests"]) if m)
    if c.o.harness:
        names = [name for name in names if name in c.o.harness]
    if not names:
        raise Failed("the build has no test that runs on a device")
    return {name: c.build / "tests" / re.sub("([^/]+)$", r"test_\1", name) for name in names}


def targets(c):
    """Only what the steps need, by the names of tests/CMakeLists.txt."""
    tests = ["t_" + "_".join(path.relative_to(c.build / "tests").parts) for path in harness_programs(c).values()]
    plugins = ["flambeau_cuda"] + (["flambeau_cudasim"] if c.dry else [])
    return [*plugins, "flambeau_cli", *EXAMPLES, "t_bench_workloads", *tests]


def build(c):
    if c.o.built:
        return f"taken as it is: {c.build}"
    cmake, env, said = configure(c)
    c.run([cmake, "--build", c.build, "-j", machine.cores(), "--target", *targets(c)], env=env)
    return said


def doctor(c):
    text = c.run([c.build / "bin/flambeau", "doctor"])
    lines = [line for line in text.splitlines() if re.match(r"\S+\s+(CUDA|GPU|driver)\b", line)]
    if not c.dry and not re.search(r"^ok\s+CUDA\s+cuda:0 ", text, re.M):
        raise Failed("; ".join(lines))
    return "; ".join(re.sub(r"\s+", " ", line) for line in lines)


# --- tests and examples ---

def one_program(c, name, path):
    """(name, passed, total, what failed) of a cmocka program, skipped tests left out."""
    bad = []
    try:
        text = c.run([path], env=c.env(CUDASIM_SEED="1", FLAMBEAU_CUDA_BLOCKING="1"), part=name)
    except Failed as e:
        text, bad = c.log(name).read_text(encoding="utf-8", errors="replace"), [str(e)]

    def tests(pattern):
        return sum(map(int, re.findall(pattern, text)))
    passed, total = tests(r"\[  PASSED  \] (\d+) test"), tests(r"Running (\d+) test")
    total -= len(re.findall(r"^\[  SKIPPED \] \w+$", text, re.M)) // 2  # each is listed again at the end
    bad += sorted(set(re.findall(r"^\[  FAILED  \] (\w+)$", text, re.M)))
    return name, passed, max(total, passed, 1), bad


def harness(c):
    programs = harness_programs(c)
    workers = 2 if c.dry else max(4, machine.cores() // 2)
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        results = list(pool.map(lambda item: one_program(c, *item), sorted(programs.items())))
    broken = [f"{name}: {', '.join(bad)}" for name, _, _, bad in results if bad]
    passed, total = sum(r[1] for r in results), sum(r[2] for r in results)
    c.count(passed, total)
    text = f"{passed} of {total} tests in {len(results)} programs"
    if broken or passed < total or not total:
        raise Failed(f"{text}; {'; '.join(broken)}")
    return text


def must_use_device(c, *command):
    """Fails if the program would run as well without the card: then nothing that it does says anything of one."""
    absent = f"{c.o.device}:99"
    try:
        c.run(command, env=c.env(FLAMBEAU_DEVICE=absent), part="absent device")
    except Failed:
        text = c.log("absent device").read_text(encoding="utf-8", errors="replace")
        if f'"{absent}"' in text:
            c.bad.pop(c.current, None)
            return
        raise
    raise Failed(f"`{command[0].name}` stays on the CPU: with FLAMBEAU_DEVICE={absent} it ran as well")


def hello(c):
    must_use_device(c, c.build / "bin/hello")
    text = c.run([c.build / "bin/hello"])
    loss = re.search(r"loss ([\d.]+)", text)
    if not loss or not 0.3 < float(loss[1]) < 1.5:  # two classes, random: about ln 2
        raise Failed(f"it printed: {text.strip()}")
    return loss[0]


def fashion_data(c):
    data = c.work / "fashion"
    if (data / "test.h5").exists():
        return data
    usr = machine.brought()
    images = usr / "share/fashion" if usr else pathlib.Path("/usr/share/datasets/fashion-mnist")
    if not images.exists():
        raise Skipped(f"no {images}: use tests/gpu/pack, or install dataset-fashion-mnist")
    data.mkdir(exist_ok=True)
    for name, part in (("train", "train"), ("test", "t10k")):
        c.run([c.build / "bin/flambeau", "data", "import", "idx", "--images", images / f"{part}-images-idx3-ubyte.gz",
               "--labels", images / f"{part}-labels-idx1-ubyte.gz", data / f"{name}.h5"],
              env=c.env(FLAMBEAU_DEVICE="cpu"))
    return data


def fashion_command(c):
    size = ("--steps", 2, "--batch", 4, "--limit", 8) if c.dry else ("--steps", 60, "--batch", 128, "--limit", 2048)
    return c.build / "bin/fashion", "--data", fashion_data(c), "--print-bits", *size


def fashion(c, *options, ranks=0, device=None):
    """Losses of the steps, and the digest."""
    run = [c.build / "bin/flambeau", "run", "-n", ranks] if ranks else []
    text = c.run([*run, *fashion_command(c), *options],
                 env=c.env(**({"FLAMBEAU_DEVICE": device} if device else {})))
    losses = [float.fromhex(x) for x in re.findall(r"step \d+ loss (\S+)", text)]
    digest = re.search(r"digest ([0-9a-f]{16})", text)
    if not losses or not digest:
        raise Failed("it printed no losses or no digest")
    return losses, digest[1]


def digest(c):
    """The same run twice has the same bits; its first losses are those of the CPU."""
    must_use_device(c, *fashion_command(c))
    losses, first = fashion(c)
    second = fashion(c)[1]
    if first != second:
        raise Failed(f"two equal runs end with digests {first} and {second}")
    cpu = fashion(c, device="cpu")[0]
    far = max(abs(a - b) / abs(b) for a, b in zip(losses[:5], cpu[:5]))
    if far > 1e-3:
        raise Failed(f"the first losses are {far:.1e} away from the CPU's")
    if not c.dry and sum(losses[-5:]) > 0.8 * sum(losses[:5]):
        raise Failed(f"60 steps took the loss only from {losses[0]:.3f} to {losses[-1]:.3f}")
    return f"digest {first} twice; first losses within {far:.1e} of the CPU's; {losses[0]:.3f} to {losses[-1]:.3f}"


def chargpt(c):
    text, seen = machine.SOURCE / "LICENSE", {}
    size = ("--steps", 200) if not c.dry else ("--steps", 2, "--layers", 1, "--width", 16, "--heads", 2, "--context", 8,
                                              "--batch", 2, "--sample", 4)
    command = (c.build / "bin/chargpt", "--text", text, *size)
    must_use_device(c, *command)
    for device in (c.o.device, "cpu"):
        out = c.run(command, env=c.env(FLAMBEAU_DEVICE=device))
        loss = re.search(r"last 10 %: ([\d.]+)", out)
        if not loss:
            raise Failed(f"on {device} it printed no loss")
        seen[device] = float(loss[1])
    ours, cpu = seen.values()
    if abs(ours - cpu) > 0.03 * cpu:
        raise Failed(f"loss {ours} on {c.o.device}, {cpu} on the CPU")
    return f"loss {ours}, on the CPU {cpu}"


def two_ranks(c):
    """The bits of one rank, on as many cards as ranks."""
    if not c.dry and len(c.cards) < 2:
        raise Skipped("one card")
    one = fashion(c, "--shards", 2)[1]
    two = fashion(c, "--shards", 2, ranks=2)[1]
    if one != two:
        raise Failed(f"with --shards 2 one rank ends with digest {one}, two with {two}")
    return f"digest {one} for 1 and 2 ranks"


# --- speed ---

@functools.lru_cache
def torch_version(python, needs_card):
    """Its version, if that Python has PyTorch, which must see the card; "" otherwise."""
    check = "assert torch.cuda.is_available(); " if needs_card else ""
    return machine.said(python, "-c", f"import torch; {check}print(torch.__version__)")


def timed(c, command, name, env):
    """Median seconds of a step; None: it has ended (too little memory, mostly)."""
    rounds, window = (3, 0.0) if c.dry else (7, 0.2)
    with open(c.log(), "a", encoding="utf-8") as errors:
        errors.write(f"$ {' '.join(map(str, command))}\n")
        errors.flush()
        try:
            with Timed(command, name, window, env=env, errors=errors, limit=max(c.left(), 1)) as side:
                side.warm_up()
                for _ in range(rounds):
                    side.round()
                return side.median()
        except SideEnded as e:
            errors.write(f"{e}\n\n")
            c.fail(c.log(), str(e))
            return None


def ours_of(c, name, batch):
    size = ["--tiny"] if c.dry else ["--batch", str(batch)]
    return timed(c, [c.build / "tests/bench/workloads", "--device", c.o.device, *size, "4"], name, c.env())


def peer_of(c, name, batch, variant):
    size = "+tiny" if c.dry else f"+cuda+batch={batch}"
    nhwc = "+nhwc" if name == "resnet50" else ""
    return timed(c, [c.o.python, machine.SOURCE / "tests/bench/peer.py", "workloads", "4", variant + nhwc + size],
                 name, dict(os.environ))


def measure_ours(c, name):
    """With the largest batch that the memory permits."""
    for batch in ("tiny",) if c.dry else BATCHES[name]:
        ours = ours_of(c, name, batch)
        if ours:
            return {"batch": batch, "ours": ours, "eager": None, "compile": None}
    raise Failed("it ended early with every batch")


def bench(name, variant):
    """A step: ours, once, and one variant of PyTorch's with the same batch, one after the other."""
    def action(c):
        if name not in c.times and variant != "eager":
            raise Skipped("Flambeau has no time to compare with")
        if name not in c.times:
            c.times[name] = measure_ours(c, name)
        row = c.times[name]
        if not torch_version(c.o.python, not c.dry):
            if variant != "eager":
                raise Skipped("no PyTorch")
            return f"{row['ours'] * 1e3:.4g} ms; no PyTorch"
        row[variant] = peer_of(c, name, row["batch"], variant)
        theirs = f"{row[variant] * 1e3:.4g} ms" if row[variant] else "ended early"
        return f"{row['ours'] * 1e3:.4g} ms; PyTorch, {variant}: {theirs}"
    return action


# --- compute-sanitizer ---

def sanitizer(tool):
    def action(c):
        program = machine.tool("compute-sanitizer")
        if c.dry or not program:
            raise Skipped("on cudasim the simulator looks itself" if c.dry else "no compute-sanitizer")
        programs = [c.build / "bin/hello"]
        small = harness_programs(c)
        programs += [small[name] for name in ("core/ops/loss", "core/ops/norm", "core/ops/index") if name in small]
        for path in programs:
            # What a call returns we check ourselves; that memory is short, or that work is not done, is no finding.
            c.run([program, "--tool", tool, "--report-api-errors", "no", "--error-exitcode", "99", path], env=c.env(FLAMBEAU_CUDA_BLOCKING="1"))
        return f"{len(programs)} programs without a finding"
    return action


# Name, limit in seconds, action: the most telling first, so that a visit that ends early has them.
STEPS = [
    ("environment", 90, environment), ("build", 300, build), ("doctor", 20, doctor), ("hello", 30, hello),
    ("harness", 150, harness), ("fashion, twice", 60, digest), ("chargpt", 60, chargpt),
    ("two ranks", 60, two_ranks),
    *((f"bench {name}", 90, bench(name, "eager")) for name in ("gpt2", "resnet50", "cnn", "mlp")),
    ("memcheck", 60, sanitizer("memcheck")),
    *((f"bench {name}, compiled", 120, bench(name, "compile")) for name in ("gpt2", "resnet50", "cnn", "mlp")),
    *((f"{tool}", 60, sanitizer(tool)) for tool in ("racecheck", "synccheck")),
]
