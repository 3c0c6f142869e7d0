"""timeout: 240
What the survivors say, and how soon: ranks that disagree, die, leave, fail, stop or wait for each other."""
import os
import re
import subprocess
import sys
import tempfile
import time

build, source = os.environ["FLAMBEAU_BUILD"], os.environ["FLAMBEAU_SOURCE"]
sanitize = os.environ.get("FLAMBEAU_SANITIZE", "")
env = dict(os.environ, FLAMBEAU_STOPPED_SECONDS="1", FLAMBEAU_STUCK_SECONDS="1", OMP_NUM_THREADS="1")
slow = 4 if sanitize else 1
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


def run(program, scenario, ranks, **variables):
    start = time.time()
    job = subprocess.run(["mpirun", "--oversubscribe", "-n", str(ranks), program, scenario], stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, errors="replace", timeout=60,
                         env=dict(env, **variables))
    return job.returncode, job.stdout, time.time() - start


def check(scenario, speakers, *wanted, ranks=3, seconds=4, code=True, **variables):
    """Every rank of `speakers` prints a line that has all of `wanted`; the job fails, in time."""
    rc, out, took = run(program, scenario, ranks, **variables)
    wrong = []
    if (rc != 0) != code:
        wrong.append(f"exit code {rc}")
    if took > seconds * slow:
        wrong.append(f"took {took:.1f} s")
    for rank in speakers:
        lines = [line for line in out.splitlines() if re.search(rf"flambeau: rank {rank}: ", line)]
        if not any(all(re.search(w, line) for w in wanted) for line in lines):
            wrong.append(f"rank {rank} does not say {wanted}")
    if wrong:
        failures.append(f"{scenario} {variables}: {'; '.join(wrong)}\n{out}")
    return out


with tempfile.TemporaryDirectory() as folder:
    program = compile_program(folder)
    ways = ({}, {"FLAMBEAU_COMM": "messages"}, {"FLAMBEAU_RANKS_PER_NODE": "2"})
    for way in ways:
        check("other_count", (0, 1, 2), r"rank 1 \(.*\): all_reduce #0 at .*wants F32 \[1001\] SUM, ranks 0,2 brought "
              r"F32 \[1000\] SUM: do all ranks build the same model", **way)
        check("other_kind", (0, 1, 2), r"rank 1 \(.*\): barrier #0 at", r"ranks 0,2 are in all_reduce #0 at .* with F32 "
              r"\[1000\] SUM: do all ranks make the same calls in the same order\?", **way)
        check("killed", (0, 2), r"rank 1 \(.*, pid \d+\) is dead: killed, or it ended without fb_world_close",
              r"it last called all_reduce #4", r"rank [02] waits for it in all_reduce #5 at", **way)
        check("stopped", (0, 2), r"rank 1 \(.*\) has been stopped for 1 s \(SIGSTOP\)", r"in all_reduce #3", seconds=6,
              **way)
    check("killed", (0,), "rank 1 .* does not answer, and SIGTERM asks rank 0 to end", "all_reduce #5", ranks=2,
          FLAMBEAU_RANKS_PER_NODE="1")
    check("silent_exit", (0, 2), r"rank 1 .* is dead", "all_reduce #3")
    check("leaves_early", (0, 2), r"rank 1 \(.*\) has ended its program \(fb_world_close\)", "in all_reduce #0")
    for way in ({}, {"FLAMBEAU_RANKS_PER_NODE": "1"}):
        check("own_error", (0, 2), r"rank 1 \(.*\) has ended with an error: the disk is on fire", "in all_reduce #1", **way)
    check("error_then_collective", (0, 1, 2), r"rank 1 \(.*\) failed before barrier #0 at .*: the disk is on fire")
    check("error_taken", (), code=False)
    out = check("same_error", ())
    if out.count("no such file") != 1 or "ranks 0-2: dataset x.h5: no such file" not in out:
        failures.append("same_error: is not said once for all ranks:\n" + out)
    check("circle", (0, 1, 2), r"ranks wait for each other: rank \d waits for rank \d in recv #0", seconds=6)
    check("wrong_parcel", (0, 1), r"recv #0 at .* wants F32 \[5\], rank 0 sent F32 \[4\]", ranks=2)
    out = check("asked_to_stop", (), code=False)
    if out.count("stopped after 8") != 3:
        failures.append("asked_to_stop: ranks stop at different steps:\n" + out)

print("\n".join(failures) or "all ranks say what happened")
sys.exit(len(failures) > 0)
