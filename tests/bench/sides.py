"""Programs that are timed: each answers lines "NAME REPETITIONS" with seconds."""
import select
import statistics
import subprocess
import time


class SideEnded(Exception):
    """A side ended, or did not answer in time; its text says where."""


class Side:
    """A process that answers a line with a number."""

    def __init__(self, command, env=None, errors=None, limit=None):
        self.until = time.monotonic() + limit if limit else None
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                                        bufsize=0, env=env)

    def ask(self, line):
        try:
            self.process.stdin.write(f"{line}\n".encode())
        except BrokenPipeError:
            pass
        answer = b""
        while not answer.endswith(b"\n"):
            left = max(self.until - time.monotonic(), 0) if self.until else None
            if not select.select([self.process.stdout], [], [], left)[0]:
                raise SideEnded(f"{self.process.args} did not answer \"{line}\" in time")
            piece = self.process.stdout.read(100)
            if not piece:
                raise SideEnded(f"{self.process.args} ended at \"{line}\"")
            answer += piece
        return float(answer)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Timed:
    """One workload of one side: seconds of a repetition, in windows of equal length."""

    def __init__(self, command, name, window, **more):
        self.side, self.name, self.n = Side(command, **more), name, 100 if name in ("record", "chain") else 1
        self.seen = []
        self.window = window

    def warm_up(self):
        self.side.ask(f"{self.name} {self.n}")
        self.side.ask(f"{self.name} {self.n}")
        while (took := self.side.ask(f"{self.name} {self.n}")) < self.window:
            self.n = max(self.n + 1, int(self.n * min(10.0, 1.1 * self.window / took)))
        return self

    def round(self):
        self.seen.append(self.side.ask(f"{self.name} {self.n}") / self.n)

    def median(self):
        return statistics.median(self.seen)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.side.process.kill()
        self.side.process.wait()


def in_turn(sides, rounds):
    for _ in range(rounds):
        for side in sides:
            side.round()
