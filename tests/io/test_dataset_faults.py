# timeout: 240
"""An import, an append and a split are killed at every event of their files, and their disk is full from every event on:
the dataset is then the one before or the new one, whole, and the reason is told; the next import leaves nothing of what was there."""
import os
import subprocess
import sys
import tempfile

import h5py
import numpy as np

BUILD, SOURCE = os.environ["FLAMBEAU_BUILD"], os.environ["FLAMBEAU_SOURCE"]
FLAMBEAU = os.path.join(BUILD, "bin", "flambeau")
ENOSPC = "28"


def run(*words, **variables):
    return subprocess.run([FLAMBEAU, "data", *words], capture_output=True, text=True, env={**os.environ, **variables})


def values(path):
    with h5py.File(path) as file:
        return list(file["target"][:])


class Case:
    """A command on out.h5, which begins as samples 0 to 4."""

    def __init__(self, folder, name, words, after):
        self.folder, self.name, self.words, self.after = folder, name, words, after
        self.path = os.path.join(folder, "out.h5")
        self.before = [0, 1, 2, 3, 4]

    def begin(self):
        done = run("import", "csv", "--target", "y", "--shard-samples", "2", os.path.join(self.folder, "first.csv"), self.path)
        assert not done.returncode, done.stderr

    def disturbed(self, **variables):
        self.begin()
        return run(*self.words, LD_PRELOAD=os.path.join(self.folder, "shim.so"), SHIM_FOLDER=self.path[:-3], **variables)

    def check(self, what):
        """Whole, and one of the two."""
        done = run("check", self.path)
        assert not done.returncode, (what, done.stderr)
        assert values(self.path) in (self.before, self.after), what
        return values(self.path) == self.after

    def every_event(self):
        log = os.path.join(self.folder, self.name + ".events")
        assert not self.disturbed(SHIM_LOG=log).returncode
        self.check("undisturbed")
        with open(log, encoding="utf-8") as file:
            events = file.read().splitlines()
        assert len(events) >= 4, events
        for number, event in enumerate(events, 1):
            killed = self.disturbed(SHIM_AT=str(number))
            assert killed.returncode == -9, (event, killed)
            self.check(f"killed at {event}")
            full = self.disturbed(SHIM_AT=str(number), SHIM_ERRNO=ENOSPC)
            new = self.check(f"full at {event}")
            if full.returncode:
                assert "No space left on device" in full.stderr, (event, full.stderr)
            else:
                assert new or self.before == self.after, event
            again = run(*self.words)
            assert not again.returncode, (event, again.stderr)
        self.begin()
        left = [name for name in os.listdir(self.folder) if name.startswith("out")]
        assert len(left) == 1 + 3, left
        return len(events)


def main():
    if os.environ.get("FLAMBEAU_SANITIZE"):
        sys.exit(print("preloading a library does not go with sanitizers: nothing done"))
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([os.environ.get("FLAMBEAU_CC", "cc"), "-O1", "-shared", "-fPIC", "-o", folder + "/shim.so",
                        SOURCE + "/tests/io/shim.c", "-ldl"], check=True)
        for name, numbers in (("first", range(5)), ("second", range(5, 9))):
            np.savetxt(f"{folder}/{name}.csv", [[2 * i, i] for i in numbers], "%d", ",", header="x,y", comments="")
        second, out = folder + "/second.csv", folder + "/out.h5"
        csv = ["import", "csv", "--target", "y", "--shard-samples", "3"]
        cases = [Case(folder, "import", [*csv, second, out], [5, 6, 7, 8]),
                 Case(folder, "split", ["split", out, "train=0.5"], [0, 1, 2, 3, 4]),
                 Case(folder, "append", [*csv, "--append", second, out], list(range(9)))]
        count = sum(case.every_event() for case in cases)
    print(f"{count} events: killed and full at each")


if __name__ == "__main__":
    main()
