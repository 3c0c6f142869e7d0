"""Of workloads that missed: the floor of a step on this machine, and where ours goes."""
import json
import pathlib
import subprocess

HERE = pathlib.Path(__file__).resolve().parent
SHOWN = 6  # operators


def output(command, stream="stdout", **more):
    return getattr(subprocess.run(command, check=True, text=True, capture_output=True, **more), stream)


def peaks(o):
    """GFLOP/s and GB/s: what tests/bench/roofline measures."""
    lines = output([o.build / "tests/bench/roofline", "--peaks", str(o.threads)]).splitlines()
    return {name: float(value) for name, value in map(str.split, lines)}


def floor_of(o, name, peak):
    """Milliseconds: products at the peak of products, bytes at that of the memory."""
    cost = json.loads(output([o.python, HERE / "peer.py", "cost", name]))
    # Parameters, gradients and both moments are read, all but the gradients written; what backward
    # needs is written once and read once.
    moved = 7 * cost["parameters"] + 2 * cost["kept"]
    speed = peak["stream"] if moved > peak["cache_bytes"] else peak["stream_cached"]
    parts = {kind: flop / peak["gemm"] * 1e-6 for kind, flop in sorted(cost["flop"].items())}
    return {**parts, "bytes": moved / speed * 1e-6}


def where(o, name):
    """The operators that take most: milliseconds, phase and name."""
    text = output([o.build / "tests/bench/workloads", "--profile", str(o.threads), name], "stderr")
    lines = text.splitlines()
    steps = int(lines[0].split(", ")[1].split()[0])
    rows = [line.split() for line in lines[2:SHOWN + 2]]
    return [{"phase": r[0], "operator": r[1], "ms": float(r[4]) / steps} for r in rows]


def explain(o, names):
    """Print what is known about these workloads, and return it."""
    peak = peaks(o) if names else {}
    found = {}
    for name in names:
        floor, operators = floor_of(o, name, peak), where(o, name)
        found[name] = {"floor_ms": floor, "operators": operators, "peaks": peak}
        print(f"\n{name}: the floor is {sum(floor.values()):.3g} ms a step on this machine ("
              + ", ".join(f"{kind} {ms:.3g}" for kind, ms in floor.items()) + "); ours spends most in "
              + ", ".join(f"{r['operator']} ({r['phase']}) {r['ms']:.3g}" for r in operators) + " ms")
    return found
