"""What the long tests share: runs of fashion, what is left of a test that was stopped, rows of LONG.md."""
import datetime
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
import time

SOURCE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("FLAMBEAU_BUILD") or os.path.join(SOURCE, "build")
BIN = os.path.join(BUILD, "bin")
SANITIZED = bool(os.environ.get("FLAMBEAU_SANITIZE"))
LIMIT_S = 400 if SANITIZED else 90  # a run that takes longer hangs
TABLE = os.path.join(SOURCE, "tests", "LONG.md")
IMAGES = "/usr/share/datasets/fashion-mnist"
HEAD = """# Long tests

One row for each run of `launch/test --long NAME` that passed. `commit+changes`: the work tree differed from that commit.

| test | result | commit | date | CPU |
|---|---|---|---|---|
"""


def fail(text):
    print(text, file=sys.stderr)
    sys.exit(1)


def flambeau(*words):
    return subprocess.run([os.path.join(BIN, "flambeau"), *words], capture_output=True, text=True)


def dataset(folder):
    """Fashion-MNIST in HDF5, below folder; made once."""
    data = os.path.join(folder, "data")
    os.makedirs(data, exist_ok=True)
    for name, part in (("train", "train"), ("test", "t10k")):
        if os.path.exists(f"{data}/{name}.h5"):
            continue
        out = flambeau("data", "import", "idx", "--images", f"{IMAGES}/{part}-images-idx3-ubyte.gz", "--labels",
                       f"{IMAGES}/{part}-labels-idx1-ubyte.gz", f"{data}/{name}.h5")
        if out.returncode:
            fail(out.stderr)
    return data


def compile_faults(folder):
    """tests/comm/faults.c against the build's headers and library."""
    program = os.path.join(folder, "faults")
    command = [os.environ.get("FLAMBEAU_CC", "cc"), "-g", "-O1", "-std=gnu11", "-rdynamic", "-I", BUILD + "/include",
               SOURCE + "/tests/comm/faults.c", "-o", program, "-L", BUILD + "/lib", "-lflambeau",
               "-Wl,-rpath," + BUILD + "/lib"]
    if SANITIZED:
        command.append("-fsanitize=" + os.environ["FLAMBEAU_SANITIZE"])
    subprocess.run(command, check=True)
    return program


class Run:
    """fashion on some ranks; its lines are read while it runs."""

    def __init__(self, data, ranks, *options, threads=1, alone=False, **variables):
        command = [] if alone else [os.path.join(BIN, "flambeau"), "run", "-n", str(ranks)]
        command += [os.path.join(BIN, "fashion"), "--data", data, "--print-bits", "--threads", str(threads)]
        self.lines, self.news, self.ended = [], threading.Condition(), False
        self.what = f"{ranks} ranks {' '.join(map(str, options))} {variables or ''}"
        self.job = subprocess.Popen(command + [str(o) for o in options], text=True, errors="replace",
                                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                    env={**os.environ, "OMP_DYNAMIC": "false", **variables})
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        for line in self.job.stdout:
            with self.news:
                self.lines.append(line.rstrip("\n"))
                self.news.notify()
        with self.news:
            self.ended = True
            self.news.notify()

    def steps(self):
        """{step: its line} of the steps so far."""
        found = (re.fullmatch(r"step (\d+) loss .*", line) for line in list(self.lines))
        return {int(m[1]): m[0] for m in found if m}

    def digest(self):
        return next((line for line in self.lines if line.startswith("digest ")), None)

    def wait_steps(self, n):
        """Until n steps are printed, or the run has ended."""
        with self.news:
            self.news.wait_for(lambda: self.ended or len(self.steps()) >= n, LIMIT_S)

    def wait(self, limit=LIMIT_S):
        """The exit code; None, and killed, if it takes longer than it should."""
        try:
            self.job.wait(limit)
        except subprocess.TimeoutExpired:
            self.job.kill()
            return None
        self.reader.join(LIMIT_S)
        return self.job.returncode

    def text(self):
        return "\n".join(self.lines[-60:])


def good(run, limit=LIMIT_S):
    """The lines of a run that must end well."""
    rc = run.wait(limit)
    if rc != 0 or not re.fullmatch(r"digest [0-9a-f]{16}", run.digest() or ""):
        fail(f"{run.what}: exit code {rc}\n{run.text()}")
    return [*run.steps().values(), run.digest()]


def git(*words):
    return subprocess.run(["git", "-c", "safe.directory=*", "-C", SOURCE, *words], capture_output=True,
                          text=True).stdout.strip()


def commit():
    changes = git("status", "--porcelain", "--", ".", ":!tests/LONG.md")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("+changes" if changes else "")


def processor():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        names = [line.split(":", 1)[1].strip() for line in f if line.startswith("model name")]
    return f"{names[0] if names else os.uname().machine}, {len(os.sched_getaffinity(0))} cores"


class Progress:
    """What a test has done so far, in build/long/NAME: a second call with the same settings and the same
    programs goes on from there, with its seed unless another is asked for. Without `row` nothing is kept."""

    def __init__(self, name, settings, seed, row):
        self.name, self.folder = name, os.path.join(BUILD, "long", name)
        self.row = row
        if row:
            os.makedirs(self.folder, exist_ok=True)
        self.path = os.path.join(self.folder, "progress.json")
        programs = hashlib.sha256()
        for path in ("lib/libflambeau.so", "lib/libflambeau_cudasim.so", "bin/fashion", "bin/flambeau"):
            if os.path.exists(f"{BUILD}/{path}"):
                with open(f"{BUILD}/{path}", "rb") as f:
                    programs.update(f.read())
        wanted = {"settings": settings, "programs": programs.hexdigest()}
        self.state = {**wanted, "seed": int(time.time()) if seed is None else seed, "commit": commit(), "done": 0,
                      "seconds": 0.0, "notes": {}}
        try:
            with open(self.path, encoding="utf-8") as f:
                found = json.load(f)
            if row and {k: found[k] for k in wanted} == wanted and seed in (None, found["seed"]):
                self.state = found
                print(f"{name}: going on after {found['done']}")
        except (OSError, ValueError, KeyError):
            pass
        self.seed, self.notes, self.since = self.state["seed"], self.state["notes"], time.time()
        print(f"{name}: --seed {self.seed}", flush=True)

    def count(self, note, n=1):
        self.notes[note] = self.notes.get(note, 0) + n

    def advance(self, done):
        now = time.time()
        self.state["seconds"] += now - self.since
        self.since = now
        self.state["done"] = done
        if not self.row:
            return
        with open(self.path + ".tmp", "w", encoding="utf-8") as f:
            json.dump(self.state, f, indent=1)
        os.replace(self.path + ".tmp", self.path)

    def finish(self, result):
        """Everything passed: say so, and add a row to the table."""
        result = f"{result}; {self.state['seconds'] / 60:.0f} min"
        print(f"{self.name}: {result}")
        if not self.row:
            return
        if os.path.exists(self.path):
            os.remove(self.path)
        with open(TABLE, "a", encoding="utf-8") as f:
            if not f.tell():
                f.write(HEAD)
            f.write(f"| {self.name} | {result} | {self.state['commit']} | {datetime.date.today()} | {processor()} |\n")
