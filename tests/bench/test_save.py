# labels: bench
"""The program behind tests/long/save_speed answers, and what it saves is whole. No time is asserted."""
import os
import subprocess
import tempfile

BUILD = os.environ["FLAMBEAU_BUILD"]


def run(folder, lines):
    out = subprocess.run([os.path.join(BUILD, "tests/bench/save"), folder, "1", "2"], input="\n".join(lines) + "\n",
                         capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    return [[float(word) for word in line.split()] for line in out.stdout.splitlines()]


def main():
    with tempfile.TemporaryDirectory() as folder:
        saved, plain, during = run(os.path.join(folder, "run"), ["save", "steps 2", "during 3"])
        assert 50 < saved[0] < 51 and saved[1] > 0, saved
        assert len(plain) == 3 and plain[0] >= plain[1] and plain[0] >= plain[2], plain
        assert len(during) == 4 and during[0] >= during[2] >= during[1] > 0, during
        out = subprocess.run([os.path.join(BUILD, "bin/flambeau"), "checkpoint", "verify", os.path.join(folder, "run")],
                             capture_output=True, text=True)
        assert "is whole" in out.stdout, out
        steps = sorted(os.listdir(os.path.join(folder, "run")))
        assert "step-000000004" in steps, steps  # one to begin with, one before the save, two; then the thread's
    print("save answers, and its checkpoints are whole")


if __name__ == "__main__":
    main()
