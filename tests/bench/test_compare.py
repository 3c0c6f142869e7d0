# labels: bench
"""What compare judges by, on numbers whose verdict is known; and that workloads reads what peers write."""
import contextlib
import io
import itertools
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy

HERE = pathlib.Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE))
import quiet  # noqa: E402
import sides  # noqa: E402
import verdicts  # noqa: E402

WORKLOADS = pathlib.Path(os.environ["FLAMBEAU_BUILD"]) / "tests/bench/workloads"


def pairs(*ratios):
    return [{"ours": 1.0, "peer": r, "foreign": 0.0, "clean": True} for r in ratios]


def test_the_verdict_is_that_of_the_lower_end():
    steady = verdicts.row("gpt", 1.0, 1.4, ratios=[1.4] * 15)
    assert (steady["ratio"], steady["low"], steady["verdict"]) == (1.4, 1.4, "passed")
    wide = verdicts.row("gpt", 1.0, 1.4, ratios=[1.2, 1.3, 1.36, 1.4, 1.41, 1.42, 1.5, 1.2, 1.3, 1.42])
    assert wide["low"] < 1.35 < wide["ratio"] and wide["verdict"] == "missed"
    assert verdicts.row("loader", 1.0, 0.5, ratios=[0.5] * 15)["verdict"] == "information"
    assert verdicts.unmeasured("gpt", "noise")["verdict"] == "unmeasured"


def test_the_bound_is_numpys_bootstrap():
    ratios = [2 + math.sin(i * i) / 5 for i in range(21)]
    drawn = numpy.random.default_rng(3).choice(ratios, size=(20000, len(ratios)))
    expected = numpy.quantile(numpy.median(drawn, axis=1), 0.025)
    assert abs(verdicts.lower_end(verdicts.resampled(ratios, times=20000)) - expected) < 0.02


def test_a_geometric_mean_needs_all_six():
    rows = [verdicts.row(name, 1.0, 2.0, ratios=[2.0] * 15, pairs=pairs(*[2.0] * 15)) for name in verdicts.STEPS]
    rows[0] = verdicts.row("mlp", 1.0, 8.0, ratios=[8.0] * 15, pairs=pairs(*[8.0] * 15))
    mean = verdicts.geometric_mean(rows)
    assert abs(mean["ratio"] - (8 * 2.0 ** 5) ** (1 / 6)) < 1e-12 and mean["verdict"] == "passed"
    assert verdicts.geometric_mean(rows[1:])["verdict"] == "unmeasured"
    rows[3] = verdicts.missed("gpt", "losses differ")
    assert verdicts.geometric_mean(rows)["verdict"] == "unmeasured"


def test_exit_codes():
    passed, missed, none = ({"verdict": v} for v in ("passed", "missed", "unmeasured"))
    information = {"verdict": "information"}
    assert verdicts.exit_code([passed, information]) == 0
    assert verdicts.exit_code([passed, missed]) == 1
    assert verdicts.exit_code([passed, missed, none]) == 3


def test_losses_that_are_not_finite_or_not_as_many_are_apart():
    assert verdicts.apart([1.0, 2.0], [1.0, 2.002]) < 1e-3 < verdicts.apart([1.0, 2.0], [1.0, 2.01])
    assert verdicts.apart([1.0, math.nan], [1.0, math.nan]) == math.inf
    assert verdicts.apart([1.0], [1.0, 2.0]) == math.inf


def combined(*runs):
    """What --combine prints of runs with these rows, and its exit code."""
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for i, rows in enumerate(runs):
            paths.append(pathlib.Path(folder) / f"{i}.json")
            paths[-1].write_text(json.dumps({"head": "machine", "rows": rows}), encoding="utf-8")
        with contextlib.redirect_stdout(io.StringIO()) as out:
            code = verdicts.combine(paths)
    return code, out.getvalue()


def test_runs_are_combined_by_their_medians():
    def run(ratio):
        return [verdicts.row("gpt", 0.1, 0.1 * ratio, ratios=[ratio] * 15, note="eager")]
    code, text = combined(run(1.3), run(1.5), run(1.4))
    assert code == 0 and "| gpt, ms a step | 100 | 140 (eager) | 1.4 (1.4) | 1.35 | 1.8 | passed |" in text, text
    assert combined(run(1.3), run(1.5), run(1.2))[0] == 1
    noise = [verdicts.unmeasured("gpt", "noise")]
    assert combined(run(1.4), noise, run(1.4))[0] == 0
    assert combined(run(1.4), noise, noise)[0] == 3
    assert combined(run(1.4), [verdicts.missed("gpt", "losses differ")], run(1.4))[0] == 1


def test_processor_time_of_a_session_is_seen():
    burn = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", burn], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          start_new_session=True) as child:
        child.stdout.readline()
        assert quiet.own_seconds({child.pid}) - quiet.own_seconds(set()) > 0.2
        child.stdin.write(b"\n")


# --- weights and batches that workloads reads ---

SIZES = [784, 256, 256, 10]


def write_mlp(place):
    """As peer.py does; the network and the first batch, in double."""
    draw = numpy.random.default_rng(1)
    layers = [(draw.normal(0, 0.05, (n, m)), draw.normal(0, 0.05, n)) for m, n in itertools.pairwise(SIZES)]
    place.mkdir()
    for i, (w, b) in enumerate(layers):
        numpy.save(place / f"{2 * i}.weight.npy", w.astype("float32"))
        numpy.save(place / f"{2 * i}.bias.npy", b.astype("float32"))
    batches = [(draw.normal(size=(128, 784)), draw.integers(0, 10, 128)) for _ in range(20)]
    for i, (x, y) in enumerate(batches):
        numpy.save(place / f"x{i}.npy", x.astype("float32"))
        numpy.save(place / f"y{i}.npy", y)
    return layers, *batches[0]


def loss(layers, x, y):
    for i, (w, b) in enumerate(layers):
        x = (numpy.maximum(x, 0) if i else x) @ w.T + b
    x = x - x.max(axis=1, keepdims=True)
    return float(numpy.mean(numpy.log(numpy.exp(x).sum(axis=1)) - x[range(len(y)), y]))


def losses_of(side):
    """Those of all batches; then two steps of the next ones, which take some time."""
    losses = list(map(float, side.line("losses mlp").split()))
    assert len(set(losses)) == 20 and side.ask("mlp 2") > 0, losses
    side.close()
    return losses


def test_workloads_begins_with_the_weights_and_batches_of_the_folder():
    with tempfile.TemporaryDirectory() as folder:
        layers, x, y = write_mlp(pathlib.Path(folder) / "mlp")
        first = losses_of(sides.Side([WORKLOADS, "--data", folder, "1"]))[0]
    assert abs(first - loss(layers, x, y)) < 1e-5 * first


def test_ranks_share_a_batch():
    with tempfile.TemporaryDirectory() as folder:
        layers, x, y = write_mlp(pathlib.Path(folder) / "mlp")
        command = [WORKLOADS, "--ranks", "--data", folder, "1"]
        first = losses_of(sides.Mpirun(2, command, pathlib.Path(folder) / "pipes"))[0]
    assert abs(first - loss(layers, x[:64], y[:64])) < 1e-5 * first  # that of rank 0's half


for name, test in list(globals().items()):
    if name.startswith("test_"):
        test()
        print(f"passed: {name}")
