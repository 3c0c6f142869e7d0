"""Gates and goals of tests/bench/compare, what a row of its table is, and how runs are combined."""
import json
import math
import random
import statistics

ENOUGH = 10  # clean pairs below which nothing is said
STEPS = ["mlp", "cnn", "resnet18", "gpt", "nanogpt", "lstm"]
# Row: gate and goal of the ratio PyTorch / Flambeau. A row that is not here is information.
TARGETS = {
    "mlp": (2.2, 2.5), "cnn": (2.2, 2.7), "resnet18": (2.0, 2.3), "gpt": (1.35, 1.8), "nanogpt": (1.2, 1.5),
    "lstm": (1.2, 1.5), "geometric mean": (1.65, 2.0), "record": (8, 20), "chain": (8, 20), "start mlp": (20, None),
    **{f"start {name}": (1, None) for name in STEPS[1:]}, **{f"memory {name}": (2, 4) for name in STEPS},
    "ddp mlp": (2, 3), "ddp cnn": (2, 3), "ddp gpt": (1.4, 1.8),
    "all_reduce 4 KiB": (3, 10), "all_reduce 1 MiB": (3, 10), "all_reduce 16 MiB": (3, 10),
    "all_reduce 256 MiB": (2, 10),
}
UNITS = {"record": "ns an operator", "chain": "ns an operator", "start": "s", "memory": "MB", "all_reduce": "us",
         "loader": "ms an epoch"}
SCALES = {"ns": 1e9, "ms": 1e3, "us": 1e6}


def resampled(values, times=2000, seed=1):
    """Medians of samples drawn with replacement."""
    draw = random.Random(seed)
    return [statistics.median(draw.choices(values, k=len(values))) for _ in range(times)]


def lower_end(medians):
    """Of the interval that holds 95 % of them."""
    return sorted(medians)[int(len(medians) * 0.025)]


def row(name, ours, peer, *, ratios=None, ratio=None, low=None, note="", **more):
    """A row as it goes to the JSON file. Without `low` it is the lower end of the ratios' median."""
    if ratios:
        ratio = statistics.median(ratios)
        low = lower_end(resampled(ratios)) if low is None else low
    gate, goal = TARGETS.get(name, (None, None))
    return {"row": name, "unit": UNITS.get(name.split()[0], "ms a step"), "ours": ours, "peer": peer, "note": note,
            "ratio": ratio, "low": low, "gate": gate, "goal": goal, "verdict": judge(ratio, low, gate), **more}


def unmeasured(name, note, **more):
    return row(name, None, None, note=note, **more)


def missed(name, note, **more):
    """Without a ratio: the two sides do not compute the same."""
    return {**unmeasured(name, note, **more), "verdict": "missed"}


def judge(ratio, low, gate):
    if gate is None:
        return "information"
    if ratio is None:
        return "unmeasured"
    return "passed" if low >= gate else "missed"


def geometric_mean(rows):
    """Of the six workloads; its bound from samples of all of them. Unmeasured without all ratios."""
    pairs = {r["row"]: [p["peer"] / p["ours"] for p in r.get("pairs", []) if p["clean"]] for r in rows}
    if any(r["row"] in STEPS and r["ratio"] is None for r in rows) or not all(pairs.get(s) for s in STEPS):
        return unmeasured("geometric mean", "a workload has no ratio", unit="")
    medians = zip(*(resampled(pairs[name], seed=i) for i, name in enumerate(STEPS)))
    means = [statistics.geometric_mean(m) for m in medians]
    middle = statistics.geometric_mean([statistics.median(pairs[name]) for name in STEPS])
    return row("geometric mean", None, None, ratio=middle, low=lower_end(means), unit="")


# --- the table ---

HEAD = ("| | Flambeau | PyTorch | ratio (at least) | gate | goal | verdict |\n"
        "|---|---|---|---|---|---|---|")


def figure(value, unit):
    if value is None:
        return ""
    value *= SCALES.get(unit.split(" ")[0], 1)
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"


def line(r):
    name = f"{r['row']}, {r['unit']}" if r["unit"] else r["row"]
    note = f" ({r['note']})" if r["note"] else ""
    ratio = "" if r["ratio"] is None else f"{r['ratio']:.3g} ({r['low']:.3g})"
    gate, goal = ("" if v is None else f"{v:g}" for v in (r["gate"], r["goal"]))
    reached = r["verdict"] == "passed" and r["goal"] and r["low"] >= r["goal"]
    return (f"| {name} | {figure(r['ours'], r['unit'])} | {figure(r['peer'], r['unit'])}{note} | {ratio} | {gate} "
            f"| {goal} | {r['verdict']}{', and the goal' if reached else ''} |")


def exit_code(rows):
    verdicts = {r["verdict"] for r in rows}
    return 3 if "unmeasured" in verdicts else 1 if "missed" in verdicts else 0


# --- several runs ---

def median_of(rows, key):
    values = [r[key] for r in rows if r[key] is not None]
    return statistics.median(values) if values else None


def combine(paths):
    """Print the table of medians of several runs. A row that most of them could not measure has none."""
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    merged = []
    for first in runs[0]["rows"]:
        same = [r for run in runs for r in run["rows"] if r["row"] == first["row"]]
        found = [r for r in same if r["ratio"] is not None]
        notes = statistics.multimode(r["note"] for r in found or same)
        both = {key: median_of(same, key) for key in ("ours", "peer", "ratio", "low")}
        r = {**first, **both, "note": notes[0]}
        if any(s["verdict"] == "missed" and s["ratio"] is None for s in same):
            r.update(ratio=None, low=None, verdict="missed")
        elif 2 * len(found) <= len(same):
            r.update(ratio=None, low=None, verdict=judge(None, None, r["gate"]))
        else:
            r["verdict"] = judge(r["ratio"], r["low"], r["gate"])
        merged.append(r)
    heads = {run["head"] for run in runs}
    print("\n".join(sorted(heads)) + f"\nMedians of {len(runs)} runs.\n\n{HEAD}")
    for r in merged:
        print(line(r))
    return exit_code(merged)


def apart(ours, peer):
    """The largest relative difference of two runs' losses; infinite if one is not finite."""
    if len(ours) != len(peer) or not all(map(math.isfinite, ours + peer)):
        return math.inf
    return max(abs(a - b) / max(abs(b), 1e-30) for a, b in zip(ours, peer))
