"""How much of the processors others took while two sides were measured."""
import os
import time

TICK = 1 / os.sysconf("SC_CLK_TCK")


def own_seconds(sessions):
    """Processor time so far of all processes of these sessions, and of this one."""
    total = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
                fields = f.read().rpartition(")")[2].split()
            if int(fields[3]) not in sessions and int(pid) != os.getpid():
                continue
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/schedstat", encoding="ascii") as f:
                    total += int(f.read().split()[0])
        except OSError:
            continue  # it has just ended
    return total * 1e-9


def idle_and_stolen():
    """Seconds that the processors we may use were idle, and that the hypervisor took."""
    idle = stolen = 0
    ours = {f"cpu{n}" for n in os.sched_getaffinity(0)}
    with open("/proc/stat", encoding="ascii") as f:
        for line in f:
            fields = line.split()
            if fields[0] in ours:
                idle += int(fields[4]) + int(fields[5])
                stolen += int(fields[8])
    return idle * TICK, stolen * TICK


class Watch:
    """The share of the processors' time since it was made that was neither idle nor the sides'."""

    def __init__(self, *sides):
        self.sessions = set().union(*(s.sessions() for s in sides))
        self.begun = self.now()

    def now(self):
        return (time.monotonic(), own_seconds(self.sessions), *idle_and_stolen())

    def foreign(self, ended=0):
        """`ended`: processor time of sides that began and ended since."""
        wall, own, idle, stolen = (b - a for a, b in zip(self.begun, self.now()))
        own += ended
        whole = wall * len(os.sched_getaffinity(0))
        # Stolen time may or may not be counted as the process's that it was stolen from.
        return max(whole - idle - own, stolen, 0) / whole
