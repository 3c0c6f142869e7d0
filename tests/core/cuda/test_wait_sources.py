"""labels: core core/cuda
Read from the text: nothing in the rooms waits for an event of CUDA but the two functions of core/cuda/queue.c behind
fbi_cuda_wait_here, and each number of FBI_WAITS has one place, so that test_waits.c can leave out every wait there is."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.environ["FLAMBEAU_SOURCE"], "tests", "house"))
from tree import ROOMS, files, finish, read, room_of  # noqa: E402

WAIT = re.compile(r"\bcu(?:da)?(StreamWaitEvent|EventSynchronize|EventQuery)\w*\s*\(")
# Where each is: the last only looks, for fbi_cuda_event_done, whose answer is not a wait.
ALLOWED = {"StreamWaitEvent": ["fbi_cuda_wait_here"], "EventSynchronize": ["stand"],
           "EventQuery": ["has_passed", "fbi_cuda_event_done"]}
QUEUE = "core/cuda/queue.c"
ROWS = re.compile(r"^\s*X\((\w+), \w+, ", re.M)


def function_around(text, at):
    """The last one that begins, at the left margin, before text[at]."""
    heads = re.findall(r"^\w[^;{}=]*?\b(\w+)\([^;{}]*\)\n\{", text[:at], re.M)
    return heads[-1] if heads else "no function"


def calls(sources):
    """(path, which, function) of every wait and look."""
    for path, text in sources.items():
        for match in WAIT.finditer(text):
            yield path, match[1], function_around(text, match.start())


def problems(sources):
    found = [f"{path}: {which} in {function}: use fbi_cuda_wait_here, which has a number for it"
             for path, which, function in calls(sources)
             if path != QUEUE or function not in ALLOWED[which]]
    if not any(which == "StreamWaitEvent" for _, which, _ in calls(sources)):
        found.append(f"{QUEUE}: no wait was found: is this test blind?")
    for row in ROWS.findall(read("core/tensor/queue_priv.h")):
        places = [path for path, text in sources.items() for _ in re.finditer(rf"\bFBI_WAIT_{row}\b", text)]
        if len(places) != 1:
            found.append(f"FBI_WAIT_{row}: {len(places)} places ({', '.join(places)}), each wait has a number of its own")
    return found


sources = {path: read(path) for path in files() if room_of(path) in ROOMS and path.endswith((".c", ".cu", ".h"))}
broken = problems(sources)
# It sees what it is to see.
planted = dict(sources, **{"io/planted.c": "static int f(void)\n{\n    return cudaStreamWaitEvent(s, e, FBI_WAIT_BATCH);\n}\n"})
seen = problems(planted)
for wanted in ("io/planted.c: StreamWaitEvent in f:", "FBI_WAIT_BATCH: 2 places"):
    if not any(line.startswith(wanted) for line in seen):
        broken.append(f"a planted mistake is not seen: {wanted}")
finish(f"{len(sources)} files", broken)
