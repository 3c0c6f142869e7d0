"""timeout: 600
What the survivors say: ranks that disagree, die, leave, fail, stop or wait for each other. Nothing is timed: all stay until
all have spoken. A job that hangs is ended after HANG seconds, and that is a failure. Not if it is mpirun that hangs: that of
Debian 12 sometimes (about once in 50 jobs) locks itself up in PMIx_server_finalize when all ranks are gone."""
import json
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

build, source = os.environ["FLAMBEAU_BUILD"], os.environ["FLAMBEAU_SOURCE"]
sanitize = os.environ.get("FLAMBEAU_SANITIZE", "")
MPIEXEC = os.environ.get("FLAMBEAU_MPIEXEC", "mpirun --oversubscribe").split()
RANK = os.environ.get("FLAMBEAU_RANK", "").split()
HANG = 100
AT_ONCE = 3  # jobs: most of the time they wait
env = dict(os.environ, FLAMBEAU_STOPPED_SECONDS="1", FLAMBEAU_STUCK_SECONDS="1", OMP_NUM_THREADS="1")
failures = []


def compile_program(folder):
    program = os.path.join(folder, "faults")
    command = [os.environ.get("FLAMBEAU_CC", "cc"), "-g", "-O1", "-std=gnu11", "-rdynamic", "-I", build + "/include",
               source + "/tests/comm/faults.c", "-o", program, "-L", build + "/lib", "-lflambeau",
               "-Wl,-rpath," + build + "/lib"]
    if sanitize:
        command.append("-fsanitize=" + sanitize)
    subprocess.run(command, check=True)
    return program


def ranks_of(mpirun):
    """Its children that are not dead."""
    stats = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
                stats.append(f.read().rpartition(")")[2].split())
        except OSError:
            pass  # it has ended meanwhile
    return sum(1 for state, parent, *_ in stats if int(parent) == mpirun and state not in "ZX")


def run(program, scenario, ranks, *arguments, **variables):
    command = [*MPIEXEC, "-n", str(ranks), *RANK, program, scenario, *arguments]
    job = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                           env=dict(env, **variables))
    alone = 0
    for _ in range(HANG):
        try:
            return job.communicate(timeout=1)[0], job.returncode
        except subprocess.TimeoutExpired:
            alone = 0 if ranks_of(job.pid) else alone + 1
        if alone == 5:
            job.kill()
            return job.communicate()[0], "mpirun hangs"
    job.terminate()  # mpirun ends its ranks
    return job.communicate()[0] + f"ended after {HANG} s", None


def read_verdict(path):
    try:
        with open(path, encoding="utf-8") as f:
            return json.load(f)
    except OSError:
        return {}


def check(scenario, speakers, *wanted, ranks=3, code=True, verdict=None, **variables):
    """Every rank of `speakers` prints a line that has all of `wanted`; the job fails; verdict.json says `verdict`."""
    with tempfile.TemporaryDirectory() as run_dir:
        out, rc = run(program, scenario, ranks, FLAMBEAU_RUN_DIR=run_dir, **variables)
        found = read_verdict(run_dir + "/verdict.json")
    wrong = [f"verdict.json: {name} is not {value}: {found}" for name, value in (verdict or {}).items()
             if found.get(name) != value]
    if verdict and (not any(w["rank"] in speakers for w in found.get("waiting", [])) or not found.get("text")):
        wrong.append(f"verdict.json does not say who waits: {found}")
    if rc is None or (rc != 0) != code:
        wrong.append(f"exit code {rc}")
    for rank in speakers:
        lines = [line for line in out.splitlines() if re.search(rf"flambeau: rank {rank}: ", line)]
        if not any(all(re.search(w, line) for w in wanted) for line in lines):
            wrong.append(f"rank {rank} does not say {wanted}")
    if wrong:
        failures.append(f"{scenario} {variables}: {'; '.join(wrong)}\n{out}")
    return out


def slow():
    out, rc = run(program, "trial", 3, "slow", "1", "0", FLAMBEAU_SLOW_SECONDS="1")
    if rc != 0 or out.count("is slow") != 1 or not re.search(r"flambeau: rank 1 \(.*\) is slow: it computes 0.03\d* s a step, the others ", out):
        failures.append(f"slow: exit code {rc}, or the slow rank is not named once:\n{out}")


def crashed():
    if sanitize:
        return  # theirs speak instead
    out = check("crashed", (0, 2), r"rank 1 \(.*\) is dead", "all_reduce #5")
    if not re.search(r"flambeau: rank 1 \(.*\): SIGSEGV \(invalid memory access\)\n  last calls: all_reduce #4 at .*, before "
                     r"it all_reduce #3 at .*\n(.*\n)*.*faults\(", out):
        failures.append("crashed: does not say where:\n" + out)


def same_error():
    out = check("same_error", ())
    if out.count("no such file") != 1 or "ranks 0-2: dataset x.h5: no such file" not in out:
        failures.append("same_error: is not said once for all ranks:\n" + out)


def disagrees():
    out = check("disagrees", ())
    if not re.search(r"ranks 0-2: agree: train.h5: rank 1 \(.*\) has 0xbad, ranks 0,2 have 0x600d", out):
        failures.append("disagrees: does not name the rank:\n" + out)


def asked_to_stop():
    out, rc = run(program, "asked_to_stop", 3)
    if rc != 75 or out.count("stopped after 8") != 3:
        failures.append(f"asked_to_stop: exit code {rc}, or ranks stop at different steps:\n{out}")


def start(test, *arguments, **variables):
    tests.append(pool.submit(test, *arguments, **variables))


tests = []
with tempfile.TemporaryDirectory() as folder:
    program = compile_program(folder)
    pool = ThreadPoolExecutor(AT_ONCE)
    ways = ({}, {"FLAMBEAU_COMM": "messages"}, {"FLAMBEAU_RANKS_PER_NODE": "2"})
    for way in ways:
        start(check, "other_count", (0, 1, 2), r"rank 1 \(.*\): all_reduce #0 at .*wants F32 \[1001\] SUM, ranks 0,2 brought "
              r"F32 \[1000\] SUM: do all ranks build the same model", **way)
        start(check, "other_kind", (0, 1, 2), r"rank 1 \(.*\): barrier #0 at", r"ranks 0,2 are in all_reduce #0 at .* with F32 "
              r"\[1000\] SUM: do all ranks make the same calls in the same order\?",
              verdict={"verdict": "diverging", "rank": 1, "call": "barrier", "sequence": 0}, **way)
        # What a dead rank sent last may not have arrived: then others still wait in the sum before.
        start(check, "killed", (0, 2), r"rank 1 \(.*, pid \d+\) is dead: killed, or it ended without fb_world_close",
              r"it last called all_reduce #4", r"rank [02] waits for it in all_reduce #[45] at",
              verdict={"verdict": "dead", "rank": 1, "call": "all_reduce", "sequence": 4}, **way)
        start(check, "stopped", (0, 2), r"rank 1 \(.*\) has been stopped for 1 s \(SIGSTOP\)", r"in all_reduce #3",
              verdict={"verdict": "stopped", "rank": 1, "call": "all_reduce", "sequence": 2}, **way)
        start(check, "endless", (0, 2), r"rank 1 \(.*\) is stuck: it runs, but has called nothing for 2 s; it last called all_reduce "
              r"#2 at", r"waits for it in all_reduce #3",
              verdict={"verdict": "stuck", "rank": 1, "call": "all_reduce", "sequence": 2}, FLAMBEAU_TIMEOUT_SECONDS="2", **way)
    each = {"FLAMBEAU_RANKS_PER_NODE": "1", "FLAMBEAU_SILENT_SECONDS": "2"}  # the control plane alone can tell
    start(check, "killed", (0, 2), r"rank 1 \(.*, pid \d+\) is dead: killed", "in all_reduce #5 at",
          verdict={"verdict": "dead", "rank": 1}, **each)
    start(check, "killed", (0,), r"rank 1 \(.*, pid \d+\) is dead: killed", ranks=2, verdict={"verdict": "dead", "rank": 1}, **each)
    start(check, "stopped", (0, 2), r"rank 1 \(.*, pid \d+\) has not been heard of for 2 s, nor any other of its host",
          "in all_reduce #3", verdict={"verdict": "unreachable", "rank": 1}, **each)
    start(check, "endless", (0, 2), r"rank 1 \(.*\) is stuck: it runs, but has called nothing for 2 s", "in all_reduce #3",
          verdict={"verdict": "stuck", "rank": 1}, FLAMBEAU_TIMEOUT_SECONDS="2", **each)
    start(check, "circle", (0, 1, 2), r"ranks wait for each other: rank \d waits for rank \d in recv #0",
          verdict={"verdict": "stuck"}, **each)
    start(crashed)
    start(same_error)
    start(disagrees)
    start(asked_to_stop)
    start(check, "silent_exit", (0, 2), r"rank 1 .* is dead", "all_reduce #3")
    start(check, "leaves_early", (0, 2), r"rank 1 \(.*\) has ended its program \(fb_world_close\)", "in all_reduce #0")
    for way in ({}, {"FLAMBEAU_RANKS_PER_NODE": "1"}):
        start(check, "own_error", (0, 2), r"rank 1 \(.*\) has ended with an error: the disk is on fire", "in all_reduce #1", **way)
    start(check, "error_then_collective", (0, 1, 2), r"rank 1 \(.*\) failed before barrier #0 at .*: the disk is on fire")
    start(check, "error_taken", (), code=False)
    start(check, "skipped", (0, 2), r"rank 1 \(.*\) has ended its program", "in all_reduce #9", verdict={"verdict": "left", "rank": 1})
    start(check, "endless_in_a_group", (0, 2), r"rank 1 \(.*\) is stuck: .* for 1 s", r"rank 2 waits for it in barrier #0 of group 3",
          verdict={"verdict": "stuck", "rank": 1}, FLAMBEAU_TIMEOUT_SECONDS="0")
    start(check, "circle", (0, 1, 2), r"ranks wait for each other: rank \d waits for rank \d in recv #0")
    start(check, "wrong_parcel", (0, 1), r"recv #0 at .* wants F32 \[5\], rank 0 sent F32 \[4\]", ranks=2)
    for test in tests:
        test.result()  # raises what it raised
    pool.shutdown()
    slow()  # alone: it tells by how much

print("\n".join(failures) or "all ranks say what happened")
sys.exit(len(failures) > 0)
