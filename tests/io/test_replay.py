# timeout: 240
"""The power fails after any step of a run's saves, and what was not on the disk is lost: a whole checkpoint is there.

tests/io/shim.c records what a run does to the folder of its checkpoints. Each prefix of that is replayed as the disk
may be found afterwards: a file has what it had at its last fsync; a name that was made, changed or removed is so for
certain only after an fsync of its folder. Of the names that are not certain all are lost, or none, or some by chance."""
import os
import random
import shutil
import subprocess
import sys
import tempfile

SOURCE, BUILD = os.environ["FLAMBEAU_SOURCE"], os.environ["FLAMBEAU_BUILD"]
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(SOURCE, "tests/long"))
from trials import dataset  # noqa: E402

BIN = os.path.join(BUILD, "bin")


class Disk:
    """Files are numbers with contents; names are (folder, name): number, or None for a folder."""

    def __init__(self):
        self.written, self.synced = {}, {}  # number: bytes
        self.names, self.certain = {}, {}  # path: number or "folder"
        self.pending = []  # (path, number or "folder" or None): changes of names that may be lost
        self.next = 0

    def change(self, path, what):
        if what is None:
            self.names.pop(path, None)
        else:
            self.names[path] = what
        self.pending.append((path, what))

    def apply(self, line, data):
        what, *words = line
        if what == "open":
            if words[0] not in self.names:
                self.next += 1
                self.change(words[0], self.next)
            self.written[self.names[words[0]]] = b""
        elif what == "write":
            number = self.names[words[2]]
            old, at = self.written[number], int(words[0])
            self.written[number] = old[:at].ljust(at, b"\0") + data + old[at + len(data):]
        elif what in ("fsync", "fdatasync"):
            path = words[0]
            if self.names.get(path, "folder") == "folder":
                still = []
                for change in self.pending:
                    if os.path.dirname(change[0]) == path:
                        self.settle(self.certain, change)
                    else:
                        still.append(change)
                self.pending = still
            else:
                self.synced[self.names[path]] = self.written[self.names[path]]
        elif what == "rename":
            number = self.names[words[0]]
            self.change(words[1], number)
            self.change(words[0], None)
        elif what in ("unlink", "rmdir"):
            self.change(words[0], None)
        elif what == "mkdir":
            self.change(words[0], "folder")

    @staticmethod
    def settle(names, change):
        path, what = change
        if what is None:
            names.pop(path, None)
        else:
            names[path] = what

    def found(self, keep):
        """{path: bytes or "folder"}: keep says of each pending change whether it is there."""
        names = dict(self.certain)
        for change in self.pending:
            if keep():
                self.settle(names, change)
        return {path: what if what == "folder" else self.synced.get(what, b"") for path, what in names.items()}


def read_record(path):
    with open(path, "rb") as f:
        for line in f:
            words = line.decode().split()
            yield words, f.read(int(words[2])) if words[0] == "write" else None


def put(found, run, to):
    """The files of the run as they were found, in another folder."""
    shutil.rmtree(to, ignore_errors=True)
    os.mkdir(to)
    for path, data in sorted(found.items()):
        place = to + path[len(run):]
        if not os.path.isdir(os.path.dirname(place)):
            continue  # its folder's name is lost
        if data == "folder":
            os.makedirs(place, exist_ok=True)
        else:
            with open(place, "wb") as f:
                f.write(data)


def verified(folder):
    out = subprocess.run([os.path.join(BIN, "flambeau"), "checkpoint", "verify", folder], capture_output=True, text=True)
    return out.returncode == 0, out.stdout + out.stderr


def saved_run(folder, data, shim, options):
    """A run of three saves; its record. The third removes the first."""
    run, record = os.path.join(folder, "run"), os.path.join(folder, "record")
    shutil.rmtree(run, ignore_errors=True)
    if os.path.exists(record):
        os.remove(record)
    subprocess.run([os.path.join(BIN, "fashion"), "--data", data, "--limit", "64", "--batch", "16", "--threads", "1",
                    "--steps", "6", "--save-every", "2", "--checkpoint", run, *options], check=True,
                   stdout=subprocess.DEVNULL,
                   env={**os.environ, "LD_PRELOAD": shim, "SHIM_FOLDER": run, "SHIM_RECORD": record})
    return run, list(read_record(record))


def replay(folder, run, record, chance):
    disk, to, exists, prefixes, states = Disk(), os.path.join(folder, "found"), False, 0, {}
    ways = [lambda: False, lambda: True, lambda: chance.random() < 0.5, lambda: chance.random() < 0.5]
    for i, (words, data) in enumerate(record):
        disk.apply(words, data)
        prefixes += 1
        for way in ways:
            found = disk.found(way)
            key = hash(frozenset(found.items()))
            if key not in states:
                put(found, run, to)
                states[key] = verified(to)
            good, text = states[key]
            assert good or not exists, f"after {i + 1} of {len(record)}: {' '.join(words)}: {text}\n{sorted(found)}"
        # From the first manifest that is certain on, there is always one.
        exists = exists or any(p.endswith("/manifest.json") for p in disk.certain)
    assert exists
    return prefixes, len(states)


def main():
    if os.environ.get("FLAMBEAU_SANITIZE"):
        print("preloading a library does not go with sanitizers: nothing done")
        return
    with tempfile.TemporaryDirectory() as folder:
        shim = os.path.join(folder, "shim.so")
        subprocess.run([os.environ.get("FLAMBEAU_CC", "cc"), "-O1", "-shared", "-fPIC", "-o", shim,
                        os.path.join(SOURCE, "tests/io/shim.c"), "-ldl"], check=True)
        data = dataset(folder)
        for options in ([], ["--set", "trainer.save_async=true"]):
            run, record = saved_run(folder, data, shim, options)
            names = [words[0] for words, _ in record]
            assert names.count("rename") >= 9 and names.count("fsync") >= 15, names
            prefixes, states = replay(folder, run, record, random.Random(1))
            print(f"{' '.join(options) or 'at once'}: {prefixes} prefixes, {states} states of the disk: each has a "
                  "whole checkpoint from the first save on")


if __name__ == "__main__":
    main()
