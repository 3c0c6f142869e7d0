"""Programs that are timed: each answers lines, most of them "NAME REPETITIONS" with seconds."""
import math
import os
import select
import statistics
import subprocess
import time


class SideEnded(Exception):
    """A side ended, or did not answer in time; its text says where."""


class Side:
    """A process, in a session of its own, that answers a line with a line."""

    def __init__(self, command, env=None, errors=None, limit=None):
        self.until = time.monotonic() + limit if limit else None
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                                        bufsize=0, env=env, start_new_session=True)

    def sessions(self):
        return {self.process.pid}

    def send(self, line):
        try:
            self.process.stdin.write(line)
        except BrokenPipeError:
            pass

    def line(self, line):
        self.send(f"{line}\n".encode())
        answer = b""
        while not answer.endswith(b"\n"):
            left = max(self.until - time.monotonic(), 0) if self.until else None
            if not select.select([self.process.stdout], [], [], left)[0]:
                raise SideEnded(f"{self.process.args} did not answer \"{line}\" in time")
            piece = self.process.stdout.read(4096)
            if not piece:
                raise SideEnded(f"{self.process.args} ended at \"{line}\"")
            answer += piece
        return answer.decode()

    def ask(self, line):
        return float(self.line(line))

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Mpirun(Side):
    """Ranks of a program that each read the lines from a pipe of their own; rank 0 answers."""

    READ = 'r=${OMPI_COMM_WORLD_RANK:-$PMI_RANK}; [ "$r" = 0 ] || exec >/dev/null; exec "$@" <"$0/$r"'

    def __init__(self, ranks, command, folder, **more):
        folder.mkdir(parents=True)
        for r in range(ranks):
            os.mkfifo(folder / str(r))
        self.pipes = [os.open(folder / str(r), os.O_RDWR) for r in range(ranks)]
        super().__init__(["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(ranks), "sh", "-c", self.READ,
                          folder, *command], **more)

    def send(self, line):
        for pipe in self.pipes:
            os.write(pipe, line)

    def close(self):
        for pipe in self.pipes:
            os.close(pipe)
        super().close()


class Pair(Side):
    """Two processes, given their commands; both hear every line, the first answers."""

    def __init__(self, first, second, **more):
        super().__init__(first, **more)
        self.second = subprocess.Popen(second, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, bufsize=0,
                                       env=more.get("env"), start_new_session=True)

    def sessions(self):
        return {self.process.pid, self.second.pid}

    def send(self, line):
        super().send(line)
        try:
            self.second.stdin.write(line)
        except BrokenPipeError:
            pass

    def close(self):
        super().close()
        self.second.stdin.close()
        self.second.wait()


class Timed:
    """One workload of one side: seconds of a repetition, in windows of equal length."""

    def __init__(self, side, name, window, **more):
        """`side`: one that runs, or the command that makes one."""
        self.side = side if isinstance(side, Side) else Side(side, **more)
        self.name, self.n = name, 100 if name in ("record", "chain") else 1
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
        return self.seen[-1]

    def median(self):
        return statistics.median(self.seen)

    def least(self):
        """Infinite if it could not be done."""
        return min((s for s in self.seen if not math.isnan(s)), default=math.inf)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.side.process.kill()
        self.side.process.wait()


def in_turn(timed, rounds):
    for _ in range(rounds):
        for one in timed:
            one.round()
