"""timeout: 400  slots: 2  labels: cudasim
What goes wrong between simulated cards (NCCL): ranks that disagree, die, leave or fail, errors of the library, a library that
is missing. Every rank says it, none hangs; where NCCL cannot serve, the host does, and says so once."""
import os
import re
import subprocess
import sys
import tempfile

build, source = os.environ["FLAMBEAU_BUILD"], os.environ["FLAMBEAU_SOURCE"]
HANG = 60
env = dict(os.environ, FLAMBEAU_STOPPED_SECONDS="1", FLAMBEAU_STUCK_SECONDS="1", OMP_NUM_THREADS="1", FLAMBEAU_DEVICE="cudasim",
           FLAMBEAU_PLUGINS=build + "/lib", CUDASIM_DEVICES="3")
HOST = "device tensors go between ranks 0 to 2 through host memory: "
failures = []

if not os.path.exists(build + "/lib/libflambeau_cudasim.so"):
    print("no simulated card in this build")
    sys.exit(77)


def compile_program(folder):
    program = os.path.join(folder, "link_faults")
    subprocess.run([os.environ.get("FLAMBEAU_CC", "cc"), "-g", "-O1", "-std=gnu11", "-rdynamic", "-I", build + "/include",
                    source + "/tests/comm/link_faults.c", "-o", program, "-L", build + "/lib", "-lflambeau",
                    "-Wl,-rpath," + build + "/lib"], check=True)
    return program


def run(program, scenario, ranks, **variables):
    """What it prints and its exit code; None: it hung. mpirun gets SIGTERM then, and ends its ranks."""
    job = subprocess.Popen(["mpirun", "--oversubscribe", "-n", str(ranks), program, scenario], stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True, errors="replace", env=dict(env, **variables))
    try:
        return job.communicate(timeout=HANG)[0], job.returncode
    except subprocess.TimeoutExpired:
        job.terminate()
        return job.communicate()[0] + f"ended after {HANG} s", None


def check(scenario, *wanted, speakers=(0, 1, 2), code=False, lines=None, **variables):
    """Each speaker prints a line that has all of `wanted`; `lines`: so often it is in the whole output."""
    out, rc = run(program, scenario, 3, **variables)
    wrong = []
    if rc is None or (rc == 0) != code:
        wrong.append(f"exit code {rc}")
    if "cudasim: " in out:
        wrong.append("the simulator has found something")
    for rank in speakers:
        said = [line for line in out.splitlines() if re.search(rf"flambeau: rank {rank}: ", line)]
        if not any(all(re.search(w, line) for w in wanted) for line in said):
            wrong.append(f"rank {rank} does not say {wanted}")
    if lines is not None and len(re.findall(wanted[0], out, re.M)) != lines:
        wrong.append(f"{wanted[0]!r} is not said {lines} times")
    if code and out.count("has 3\n") != 3:
        wrong.append("wrong sums")
    if wrong:
        failures.append(f"{scenario} {variables}: {'; '.join(wrong)}\n{out}")


with tempfile.TemporaryDirectory() as folder:
    program = compile_program(folder)
    if "found no nccl.h" in run(program, "right", 3)[0]:
        print("this build has no NCCL")
        sys.exit(77)
    # Nothing is wrong, and nothing is said.
    for seed in "1", "7":
        check("right", "through host memory", speakers=(), code=True, lines=0, CUDASIM_SEED=seed)
        check("right", "through host memory", speakers=(), code=True, lines=0, CUDASIM_SEED=seed, FLAMBEAU_COMM="messages")
    # A library that is older than the header of the build.
    check("right", "through host memory", speakers=(), code=True, lines=0, CUDASIM_NCCL_VERSION="21800")
    # The ranks differ: signatures tell, while NCCL would hang.
    check("other_count", r"rank 1 \(.*\): all_reduce #0 at .*wants F32 \[1001\] SUM, ranks 0,2 brought F32 \[1000\] SUM")
    check("other_kind", r"rank 1 \(.*\): broadcast_ #0 at .*wants F32 \[1000\] from rank 0, ranks 0,2 are in all_reduce #0")
    check("killed", r"rank 1 \(.*, pid \d+\) is dead", "all_reduce #3 at", speakers=(0, 2))
    check("killed_later", r"rank 1 \(.*, pid \d+\) is dead", "all_reduce #[34] at", speakers=(0, 2))
    check("leaves_early", r"rank 1 \(.*\) has ended its program \(fb_world_close\)", "all_reduce #2", speakers=(0, 2))
    check("own_error", r"rank 1 \(.*\) has ended with an error: the disk is on fire", "all_reduce #1", speakers=(0, 2))
    # A kernel faults on one card; a card is busy.
    check("right", r"rank 1 \(.*\) has ended with an error: .*cudaErrorIllegalAddress .*the card's context is lost", speakers=(0, 2),
          RANK1_FAIL="kernel:700:3")
    check("right", r"^flambeau: .*cudasim:1: cudaErrorDevicesUnavailable .*the card is busy or in exclusive mode", speakers=(), lines=1,
          RANK1_FAIL="cudaSetDevice:46")
    # The library fails on one rank, or hangs although all ranks are there.
    check("right", r"rank 1 \(.*\): NCCL failed in all_reduce #\d at .*: cudasim:1: ncclSystemError \(unhandled system error\) of "
          r"ncclCommGetAsyncError: injected: the network is gone", CUDASIM_NCCL_FAULT="error@1:3")
    check("right", r"has waited 2 s for its device, last in all_reduce #2 at .*, which every rank has called: NCCL does not get on",
          CUDASIM_NCCL_FAULT="hang@1:3", FLAMBEAU_LINK_SECONDS="2")
    # It cannot serve: the host does.
    served = {"speakers": (), "code": True, "lines": 1}
    check("right", HOST + r"rank 1 \(.*\): NCCL is not used: .*version 21700", RANK1_NCCL="21700", **served)
    check("right", HOST + r"rank 0 \(.*\) and rank 1 \(.*\) use the same card \(0:00:00\), which NCCL refuses: give each rank a card",
          FLAMBEAU_DEVICE="cudasim:0", **served)
    check("right", HOST + r"rank 0 \(.*\): not all ranks have joined within 2 s", CUDASIM_NCCL_FAULT="absent@1",
          FLAMBEAU_LINK_SECONDS="2", **served)
    check("right", HOST + r"rank 0 \(.*\): NCCL is not used: FLAMBEAU_NCCL=off", FLAMBEAU_NCCL="off", **served)

    # The host does it, and what goes wrong then.
    host = {"FLAMBEAU_NCCL": "off"}
    check("other_count", r"rank 1 \(.*\): all_reduce #0 at .*wants F32 \[1001\] SUM, ranks 0,2 brought F32 \[1000\] SUM", **host)
    check("killed", r"rank 1 \(.*, pid \d+\) is dead", "all_reduce #3 at", speakers=(0, 2), **host)
    check("killed_later", r"rank 1 \(.*, pid \d+\) is dead", "all_reduce #[34] at", speakers=(0, 2), **host)
    check("leaves_early", r"rank 1 \(.*\) has ended its program \(fb_world_close\)", "all_reduce #2", speakers=(0, 2), **host)
    check("own_error", r"rank 1 \(.*\) has ended with an error: the disk is on fire", "all_reduce #1", speakers=(0, 2), **host)
    # Ranks on devices of two kinds do not begin.
    check("right", r'world_open: rank 0 \(.*\) computes on "cudasim", rank 1 \(.*\) on "cpu": all ranks need the same kind',
          speakers=(), lines=1, RANK1_DEVICE="cpu")

print("\n".join(failures) or "all ranks say what happened")
sys.exit(len(failures) > 0)
