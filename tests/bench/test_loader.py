# labels: bench
"""The programs behind tests/long/loader_speed answer, and read what they should. No time is asserted."""
import os
import subprocess
import sys
import tempfile

import h5py
import numpy

LOADER = os.path.join(os.environ["FLAMBEAU_BUILD"], "tests/bench/loader")
SAMPLES, SIZE = 1000, 50


def main():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "a.h5")
        subprocess.run([LOADER, "--make", path, str(SAMPLES), str(SIZE)], check=True)
        with h5py.File(path) as f:
            assert f["input"].shape == (SAMPLES, SIZE) and f["input"].dtype == numpy.uint8, f["input"]
            assert len(numpy.unique(f["input"][:], axis=0)) == SAMPLES
            assert (f["target"][:] == numpy.arange(SAMPLES) % 10).all()
        lines = ["samples 0", "epochs 2", "pread 2", "open 3", "resume 500", "epochs 1"]
        for threads in ("0", "3"):
            out = subprocess.run([LOADER, path, threads], input="\n".join(lines) + "\n", capture_output=True, text=True)
            assert out.returncode == 0, out.stderr
            answers = [float(line) for line in out.stdout.splitlines()]
            assert len(answers) == len(lines) and answers[0] == SAMPLES, answers
            assert all(seconds > 0 for seconds in answers[1:]), answers
        bad = subprocess.run([LOADER], capture_output=True, text=True)
        assert bad.returncode == 2 and "usage: loader FILE.h5" in bad.stderr, bad
    print("the loader's benchmark answers")
    return 0


if __name__ == "__main__":
    sys.exit(main())
