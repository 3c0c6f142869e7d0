"""timeout: 600 slots: 3
Every way to choose samples gives the same ones in the same order on 1 to 4 ranks, and goes on so when a rank is killed in
the middle of an epoch and another number of ranks resumes; other options than those of the checkpoint are refused by name."""
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile

import numpy

build, source = os.environ["FLAMBEAU_BUILD"], os.environ["FLAMBEAU_SOURCE"]
sanitize = os.environ.get("FLAMBEAU_SANITIZE", "")
MPIEXEC = os.environ.get("FLAMBEAU_MPIEXEC", "mpirun --oversubscribe").split()
RANK = os.environ.get("FLAMBEAU_RANK", "").split()
SAMPLES, OTHER, BATCH, EPOCHS = 136, 75, 10, 3
LENGTHS = 1 + numpy.arange(SAMPLES) * 29 % 60
env = dict(os.environ, OMP_NUM_THREADS="1")
failures = []


def compile_program(folder):
    program = os.path.join(folder, "orders")
    command = [os.environ.get("FLAMBEAU_CC", "cc"), "-g", "-O1", "-std=gnu11", "-I", build + "/include",
               source + "/tests/io/orders.c", "-o", program, "-L", build + "/lib", "-lflambeau", "-Wl,-rpath," + build + "/lib"]
    if sanitize:
        command.append("-fsanitize=" + sanitize)
    subprocess.run(command, check=True)
    return program


def run(ranks, *arguments):
    job = subprocess.run([*MPIEXEC, "-n", str(ranks), *RANK, program, *map(str, arguments)], stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, errors="replace", env=env, timeout=120, check=False)
    return job.returncode, job.stdout


def read(out):
    """{(epoch, position): samples of the step, leaf after leaf}; what all ranks together wrote."""
    steps = {}
    for path in glob.glob(out + ".*"):
        with open(path, encoding="utf-8") as f:
            for line in filter(lambda text: text.endswith("\n"), f):
                place, samples = line.split(":")
                epoch, position, leaf = map(int, place.split())
                steps.setdefault((epoch, position), {})[leaf] = list(map(int, samples.split()))
        os.remove(path)
    return {at: sum((leaves[leaf] for leaf in sorted(leaves)), []) for at, leaves in steps.items()}


def orders(ranks, stops_after, modes):
    """What each mode gives on so many ranks, from its last checkpoint on."""
    out = os.path.join(folder, "out")
    code, text = run(ranks, folder, out, stops_after, *modes)
    check((code != 0) == bool(stops_after), f"{modes} on {ranks}: exit code {code}\n{text}")
    return {mode: read(f"{out}.{mode}") for mode in modes}


def fresh():
    for mode in MODES:
        shutil.rmtree(os.path.join(folder, mode), ignore_errors=True)
        os.mkdir(os.path.join(folder, mode))


def same_for_any_number():
    fresh()
    whole = orders(1, 0, MODES)
    for ranks in (2, 3, 4):
        fresh()
        for mode, steps in orders(ranks, 0, MODES).items():
            check(steps == whole[mode], f"{mode}: {ranks} ranks give other samples than one")
    return whole


def go_on_with_others(whole):
    fresh()
    seen = {mode: {} for mode in MODES}
    for ranks, stops_after in ((3, 8), (1, 5), (4, 4), (2, 0)):
        for mode, steps in orders(ranks, stops_after, MODES).items():
            check(all(whole[mode][at] == samples for at, samples in steps.items()), f"{mode}: {ranks} ranks go on with others")
            check(stops_after == 0 or len(steps) == stops_after, f"{mode}: {ranks} ranks give {len(steps)} steps")
            seen[mode].update(steps)
    for mode in MODES:
        check(seen[mode] == whole[mode], f"{mode}: {len(whole[mode]) - len(seen[mode])} steps were never seen")


def check(right, what):
    if not right:
        failures.append(what)


def epochs_of(whole):
    return [sum((whole[at] for at in sorted(whole) if at[0] == epoch), []) for epoch in range(EPOCHS)]


def permutations(name, whole, n=SAMPLES):
    epochs = epochs_of(whole)
    check(all(sorted(e) == list(range(n)) for e in epochs), f"{name}: an epoch does not have every sample once")
    check(len({tuple(e) for e in epochs}) == EPOCHS, f"{name}: epochs have the same order")


def blocks(name, whole):
    permutations(name, whole)
    for epoch in epochs_of(whole):
        runs = [len({i // 8 for i in epoch[at:at + 24]}) for at in range(0, SAMPLES, 24)]
        check(max(runs) == 3, f"{name}: windows of {runs} blocks")


def weights(name, whole):
    drawn = numpy.bincount(numpy.concatenate(epochs_of(whole)) % 4, minlength=4)
    check(drawn[2] == 0 and drawn[0] > drawn[3] > drawn[1], f"{name}: classes are drawn {drawn} times")


def epochs(name, whole):
    stream = sum(epochs_of(whole), [])
    check(len(stream) == 3 * 50 and sorted(stream[:SAMPLES]) == list(range(SAMPLES)), f"{name}: no pass through all samples")


def buckets(name, whole):
    permutations(name, whole)
    spans = [numpy.ptp(LENGTHS[samples]) for at, samples in whole.items() if len(samples) == BATCH]
    check(max(spans) < 40 and numpy.mean(spans) < 20, f"{name}: lengths of a batch differ by {spans}")
    first = [samples for at, samples in sorted(whole.items()) if at[0] == 0 and at[1] < 40]
    means = [LENGTHS[samples].mean() for samples in first]
    ordered = sorted(first, key=lambda samples: LENGTHS[samples].mean())
    check(all(LENGTHS[a].max() <= LENGTHS[b].min() for a, b in zip(ordered, ordered[1:])), f"{name}: buckets overlap: {means}")


def mix(name, whole):
    stream = numpy.concatenate(epochs_of(whole))
    theirs = [(stream[at:at + 20] < SAMPLES).sum() for at in range(0, len(stream) - 19, 20)]
    check(set(theirs) == {15}, f"{name}: of 20 draws the first source has {theirs}")
    second = stream[stream >= SAMPLES] - SAMPLES
    check(sorted(second[:OTHER]) == list(range(OTHER)), f"{name}: no pass through the second source")


def whatever(name, whole):
    check(len(whole) > 3, f"{name}: {len(whole)} steps")


MODES = {"plain": permutations, "blocks": blocks, "weights": weights, "even": whatever, "epochs": epochs, "buckets": buckets,
         "mix": mix, "mixed_blocks": whatever, "weighted_buckets": whatever,
         "pack": lambda name, whole: permutations(name, whole, 1 + max(max(samples) for samples in whole.values()))}
REFUSED = [("blocks", "wider_blocks", r"shuffle_window is 5, and was 3 when the checkpoint was made"),
           ("blocks", "plain", r"data/shuffle_block is in it and not in the program"),
           ("plain", "weights", r"data/weights is not in it"),
           ("mix", "pack", r"sources is another one when the checkpoint was made")]


def refused(before, after, text):
    fresh()
    orders(2, 5, [before])
    os.rename(os.path.join(folder, before), os.path.join(folder, "kept"))
    shutil.rmtree(os.path.join(folder, after), ignore_errors=True)
    os.rename(os.path.join(folder, "kept"), os.path.join(folder, after))
    code, said = run(2, folder, os.path.join(folder, "out"), 0, after)
    check(code != 0 and re.search(text, said), f"{before} then {after}: exit code {code}:\n{said}")


with tempfile.TemporaryDirectory() as folder:
    program = compile_program(folder)
    code, said = run(1, "make", folder)
    if code:
        sys.exit(said)
    every = same_for_any_number()
    for name, check_order in MODES.items():
        check_order(name, every[name])
    go_on_with_others(every)
    for case in REFUSED:
        refused(*case)

if failures:
    sys.exit("\n".join(failures))
print(f"{len(MODES)} orders")
