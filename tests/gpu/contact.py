"""Commands under a time limit with a log each, steps that go on after a failure, and the report."""
import datetime
import os
import platform
import re
import shutil
import signal
import subprocess
import time

import machine

KEEP_S = 6  # of the budget, for the report
README_LINE = "last run on a card: {commit}, {card}, {passed}/{total} ({date})"


class Failed(Exception):
    """A step that failed; its text says what."""


class Skipped(Exception):
    """A step that this machine cannot make; its text says why."""


class Contact:
    """One visit to a machine."""

    def __init__(self, options):
        self.o = options
        self.dry = options.device != "cuda"
        self.build, self.out, self.work = options.build, options.out, options.work
        self.out.mkdir(parents=True, exist_ok=True)
        self.logs = self.work / "logs"
        shutil.rmtree(self.logs, ignore_errors=True)
        self.logs.mkdir(parents=True)
        self.started = time.monotonic()
        self.cards = [] if self.dry else machine.cards()
        self.rows, self.facts = [], []
        self.times = {}  # workload: {"batch", "ours", "eager", "compile"}
        self.passed = self.total = 0
        self.limit = 0.0  # when the step that runs must end
        self.current, self.bad = "", {}  # its name; logs of what failed, by step

    def seconds(self):
        return time.monotonic() - self.started

    def left(self):
        """Seconds that the step that runs may still take."""
        return self.limit - self.seconds()

    def env(self, **more):
        return {**machine.environment(self.o.device, self.build), **more}

    def log(self, part=""):
        """The file that the step's commands write to, or one of several."""
        name = re.sub(r"[^a-z0-9]+", "-", f"{self.current} {part}".lower()).strip("-")
        return self.logs / f"{name}.txt"

    def fail(self, path, text):
        """The end of a log goes into the report."""
        self.bad.setdefault(self.current, {})[path] = text
        return Failed(text)

    def run(self, command, env=None, limit=None, ok=(0,), part=""):
        """Run to the end or the limit, appending to the step's log; what it printed. Failed otherwise."""
        path, begun = self.log(part), time.monotonic()
        limit = min(self.left(), limit or self.left())
        command = [str(word) for word in command]
        with open(path, "a+", encoding="utf-8", errors="replace") as f:
            f.write(f"$ {' '.join(command)}\n")
            f.flush()
            at = f.tell()
            if limit <= 0:
                raise Failed("no time left")
            job = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=f, stderr=subprocess.STDOUT,
                                   env=env or self.env(), cwd=self.work, start_new_session=True)
            try:
                code = job.wait(limit)
            except BaseException as e:  # too late, or somebody stops us
                os.killpg(job.pid, signal.SIGKILL)
                job.wait()
                if not isinstance(e, subprocess.TimeoutExpired):
                    raise
                f.write(f"\nstopped after {limit:.0f} s\n")
                raise self.fail(path, f"`{os.path.basename(command[0])}` took more than {limit:.0f} s") from None
            f.seek(at)
            text = f.read()
            f.seek(0, os.SEEK_END)
            f.write(f"exit code {code} after {time.monotonic() - begun:.1f} s\n\n")
        if code not in ok:
            raise self.fail(path, f"`{os.path.basename(command[0])}` ended with {code}")
        return text

    def count(self, passed, total):
        self.passed += passed
        self.total += total

    def step(self, name, limit, action):
        """Make one step; a failure is noted and the next one follows."""
        begun, budget = self.seconds(), self.o.budget - KEEP_S
        self.limit = min(budget, begun + limit * (10 if self.dry else 1))
        self.current = name
        counted = self.total
        state, text = "passed", ""
        try:
            if begun >= budget:
                raise Skipped("the time was up")
            text = action(self) or ""
        except Skipped as e:
            state, text = "skipped", str(e)
        except Failed as e:
            state, text = "FAILED", str(e)
        except (OSError, ValueError, KeyError, IndexError, subprocess.SubprocessError) as e:
            state, text = "FAILED", f"{type(e).__name__}: {e}"
        if state != "skipped" and self.total == counted:  # a step that counts nothing else is one check
            self.count(state == "passed", 1)
        self.rows.append((name, state, self.seconds() - begun, text))
        print(f"first_contact: {name}: {state} after {self.seconds() - begun:.1f} s{': ' if text else ''}{text}",
              flush=True)
        self.write()

    def failed(self):
        return [row for row in self.rows if row[1] == "FAILED"]

    # --- the report ---

    def header(self):
        card = self.cards[0] if self.cards else None
        yield "# First contact" + (" (dry run on cudasim)" if self.dry else "")
        yield ""
        if self.dry:
            yield "Dry run on cudasim: no card was there, nothing below says anything about one."
            yield ""
        yield f"- commit {machine.commit()}"
        if card:
            yield (f"- {len(self.cards)} x {card['name']}, {card['memory']}, compute capability {card['capability']}, "
                   f"driver {card['driver']}")
        yield f"- {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC, {self.seconds():.0f} s so far"
        for fact in self.facts:
            yield f"- {fact}"
        yield f"- **{self.passed} of {self.total} checks passed**, {len(self.failed())} steps failed"
        if card and not self.dry:
            yield "- `" + README_LINE.format(commit=machine.commit(), card=card["name"], passed=self.passed,
                                             total=self.total, date=f"{datetime.date.today()}") + "`"
        yield ""

    def tables(self):
        yield "| step | result | s | |"
        yield "|---|---|---|---|"
        for name, state, seconds, text in self.rows:
            yield f"| {name} | {state} | {seconds:.1f} | {text} |"
        if not self.times:
            return
        yield ""
        yield "## Times"
        yield ("Milliseconds a step of a tiny network, PyTorch on the CPU: only that it runs." if self.dry else
               "Milliseconds a step, medians; a ratio is Flambeau's advantage over the quicker PyTorch.")
        yield ""
        yield "| workload | batch | Flambeau | PyTorch eager | compiled | ratio |"
        yield "|---|---|---|---|---|---|"
        for name, row in self.times.items():
            times = [row[who] for who in ("ours", "eager", "compile")]
            best = min(filter(None, times[1:]), default=None)
            ratio = f"{best / times[0]:.2f}" if best and not self.dry else ""
            cells = (f"{t * 1e3:.4g}" if t else "" for t in times)
            yield f"| {name} | {row['batch']} | {' | '.join(cells)} | {ratio} |"

    def failures(self):
        for name, _, _, text in self.failed():
            yield ""
            yield f"## Failed: {name}"
            yield text
            for path in self.bad.get(name, {}):
                yield ""
                yield f"The end of {path.name}:"
                yield "```"
                yield from path.read_text(encoding="utf-8", errors="replace").splitlines()[-25:]
                yield "```"

    def write(self):
        lines = [*self.header(), *self.tables(), *self.failures()]
        (self.out / "report.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def system():
    release = re.search(r'PRETTY_NAME="(.*)"', open("/etc/os-release", encoding="utf-8").read())
    return f"{release[1] if release else platform.system()}, glibc {platform.libc_ver()[1]}, {machine.cores()} cores"
