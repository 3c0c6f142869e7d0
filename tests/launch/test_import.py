"""flambeau data import of images, sound, text, HDF5 and CSV: what was put in is what h5py finds, on one rank and on
three; and what is damaged is named."""
import base64
import json
import os
import random
import re
import struct
import subprocess
import sys
import tempfile
import unicodedata
import wave
import zlib

import h5py
import numpy as np

FLAMBEAU = os.path.join(os.environ["FLAMBEAU_BUILD"], "bin", "flambeau")
MPIEXEC = os.environ.get("FLAMBEAU_MPIEXEC", "mpirun --oversubscribe").split()
# 8 x 16: left (200, 40, 60), right (20, 180, 240); 80 frames from -12000 on, 300 apart, at 8 kHz.
JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAIBAQEBAQIBAQECAgICAgQDAgICAgUEBAMEBgUGBgYFBgYGBwkIBgcJBwYGCAsICQoKCgoKBggLDAsK"
    "DAkKCgr/2wBDAQICAgICAgUDAwUKBwYHCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgoKCgr/wAARCAAIABAD"
    "AREAAhEBAxEB/8QAFAABAAAAAAAAAAAAAAAAAAAACP/EABQQAQAAAAAAAAAAAAAAAAAAAAD/xAAWAQEBAQAAAAAAAAAAAAAAAAAJBwr/xAAUEQEA"
    "AAAAAAAAAAAAAAAAAAAA/9oADAMBAAIRAxEAPwAzp2TgxCUMub//2Q==")
FLAC = base64.b64decode(
    "ZkxhQwAAACIQABAAAAAZAAAZAfQA8AAAAFDRdmIiuI8Z+EFHVF9ljmTnhAAAKCAAAAByZWZlcmVuY2UgbGliRkxBQyAxLjQuMyAyMDIzMDYyMwAA"
    "AAD/+GQIAE8JFXRI0kwA/////////////G7E")


def run(*args, ranks=1, code=0, says=""):
    command = [FLAMBEAU, "data", *map(str, args)]
    if ranks > 1:
        command = [*MPIEXEC, "-n", str(ranks), *command]
    done = subprocess.run(command, capture_output=True, text=True)
    text = done.stdout + done.stderr
    assert done.returncode == code and says in text, (command, done.returncode, says, text)
    return text


def lacks():
    """What this build goes without: `flambeau doctor` says so, and the import how to get it."""
    line = re.search(r"data import.*", subprocess.run([FLAMBEAU, "doctor"], capture_output=True, text=True).stdout)[0]
    without = re.search(r"not in this build:(.*?)\(", line)
    without = without[1].split() if without else []
    put("probe/x/1.png", png(np.zeros((2, 2, 3), np.uint8)))
    put("photo/x/1.jpg", JPEG)
    put("flac/x/1.flac", FLAC)
    for what, command, library in (("PNG", ("images", "probe"), "libpng"), ("JPEG", ("images", "photo"), "libjpeg"),
                                   ("sound", ("sound", "flac"), "libsndfile")):
        run("import", *command, "probe.h5", code=1 if what in without else 0,
            says=f"cannot be read by this build, which has no {library}: install" if what in without else "1 samples")
    return without


def png(pixels):
    height, width, channels = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    head = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2}[channels], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def put(path, data):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "wb") as file:
        file.write(data if isinstance(data, bytes) else data.encode())


def labels(file):
    return json.loads(file["flambeau_shards"][()])["labels"]


def images():
    rng = np.random.default_rng(1)
    pixels = [rng.integers(0, 255, (5, 7, 3), dtype=np.uint8) for _ in range(10)]
    for i, image in enumerate(pixels):
        put(f"set/{'cat' if i < 4 else 'dog'}/{i}.png", png(image))
    put("set/cat/notes.txt", "no image")
    for ranks in (1, 3):
        run("import", "images", "set", "images.h5", ranks=ranks, says="2 labels: cat, dog")
        with h5py.File("images.h5") as file:
            assert np.array_equal(file["input"][:], np.stack(pixels).transpose(0, 3, 1, 2))
            assert list(file["target"][:]) == [0] * 4 + [1] * 6
            assert abs(file["input"].attrs["scale"] - 1 / 255) < 1e-9
            assert labels(file)["target"] == ["cat", "dog"]
    run("check", "images.h5", says="every shard is as it was written")
    # Halving the size is the mean of 4 x 4 pixels under a triangle.
    run("import", "images", "--size", "10x14", "set", "images.h5")
    with h5py.File("images.h5") as file:
        assert file["input"].shape == (10, 3, 10, 14)
    flat = np.full((40, 60, 1), 77, np.uint8)
    put("flat/x/1.png", png(flat))
    run("import", "images", "--size", "9x9", "--fit", "crop", "--channels", "1", "flat", "flat.h5")
    with h5py.File("flat.h5") as file:
        assert file["input"].shape == (1, 1, 9, 9) and np.all(file["input"][:] == 77)
    put("set/dog/99.png", png(pixels[0][:3]))
    run("import", "images", "set", "no.h5", code=1, says="is 3 x 7, the first image is 5 x 7: use --size HxW")
    run("import", "images", "set", "no.h5", ranks=2, code=1, says="use --size HxW")
    put("set/dog/99.png", png(pixels[0])[:60])
    run("import", "images", "set", "no.h5", code=1, says="99.png: is no PNG image, or is damaged")
    assert not os.path.exists("no.h5")
    run("import", "images", "nowhere", "no.h5", code=1, says="import nowhere: No such file")
    run("import", "images", "set/cat", "no.h5", code=1, says="no png files in folders of classes")
    run("import", "images", "--size", "9", "set", "no.h5", code=2, says="--size 9: HEIGHTxWIDTH is needed")
    run("import", "images", "--channels", "2", "set", "no.h5", code=1, says="--channels 2: images have 1 or 3")


def jpeg():
    put("photos/x/1.jpg", JPEG)
    run("import", "images", "photos", "photos.h5")
    with h5py.File("photos.h5") as file:
        image = file["input"][0].astype(int)
    assert np.abs(image[:, :, :7] - np.array([200, 40, 60])[:, None, None]).max() < 12
    assert np.abs(image[:, :, 9:] - np.array([20, 180, 240])[:, None, None]).max() < 12
    put("photos/x/2.jpg", JPEG[:-60])
    run("import", "images", "photos", "no.h5", code=1, says="2.jpg: is no JPEG image, or is damaged: Premature end")
    put("photos/x/2.jpg", b"hello")
    run("import", "images", "photos", "no.h5", code=1, says="Not a JPEG file: starts with 0x68 0x65")


def write_wave(path, frames, rate=8000):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with wave.open(path, "wb") as file:
        file.setnchannels(frames.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(frames.astype("<i2").tobytes())


def sound():
    rng = np.random.default_rng(2)
    made = [rng.integers(-32768, 32767, (n, 1)) for n in (50, 200, 7)]
    for i, frames in enumerate(made):
        write_wave(f"sound/yes/{i}.wav", frames)
    put("sound/zero/ramp.flac", FLAC)
    made.append(np.arange(-40, 40)[:, None] * 300)
    for ranks in (1, 3):
        run("import", "sound", "sound", "sound.h5", ranks=ranks, says="2 labels: yes, zero")
        with h5py.File("sound.h5") as file:
            at = file["input/offsets"][:]
            for i, frames in enumerate(made):
                assert np.array_equal(file["input/values"][at[i]:at[i + 1]], frames[:, 0])
            assert list(file["target"][:]) == [0, 0, 0, 1] and list(file["rate"][:]) == [8000] * 4
    run("import", "sound", "--seconds", "0.01", "sound", "sound.h5")
    with h5py.File("sound.h5") as file:
        assert file["input"].shape == (4, 80) and np.array_equal(file["input"][1], made[1][:80, 0])
        assert np.array_equal(file["input"][2], np.concatenate([made[2][:, 0], np.zeros(73)]))
    two = rng.integers(-30000, 30000, (30, 2))
    write_wave("stereo/x/1.wav", two)
    run("import", "sound", "stereo", "stereo.h5")
    with h5py.File("stereo.h5") as file:
        assert np.abs(file["input/values"][:] - two.mean(1)).max() <= 0.5
    run("import", "sound", "--channels", "2", "stereo", "stereo.h5")
    with h5py.File("stereo.h5") as file:
        assert np.array_equal(file["input/values"][:], two)
    write_wave("stereo/x/2.wav", two, 9000)
    run("import", "sound", "stereo", "no.h5", code=1, says="2.wav: has 1 channels at 9000 Hz, wanted are 1 at 8000 Hz")
    put("stereo/x/2.wav", "hello")
    run("import", "sound", "stereo", "no.h5", code=1, says="2.wav: cannot be read: ")


# --- text: a small encoding of our own, and the same thing written differently ---

def seen_bytes():
    """GPT-2's characters for bytes."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in kept]
    return {**{b: chr(b) for b in kept}, **{b: chr(256 + i) for i, b in enumerate(rest)}}


def kind(c):
    if c.isspace():
        return "s"
    return unicodedata.category(c)[0] if unicodedata.category(c)[0] in "LN" else "o"


def words(text):
    """GPT-2's pattern on a text in which every character is replaced by one of its kind, so that Python's re can
    do it."""
    simple = "".join({"s": " " if c == " " else "\n", "L": "a", "N": "1", "o": "!"}[kind(c)] for c in text)
    out, at = [], 0
    while at < len(text):
        suffix = re.match(r"'s|'t|'re|'ve|'m|'ll|'d", text[at:])
        found = suffix or re.match(r" ?a+| ?1+| ?!+|\s+(?!\S)|\s+", simple[at:])
        out.append(text[at:at + found.end()])
        at += found.end()
    return out


def encode(text, vocab, merges):
    seen, out = seen_bytes(), []
    rank = {pair: i for i, pair in enumerate(merges)}
    for word in words(text):
        parts = [seen[b] for b in word.encode()]
        while len(parts) > 1:
            best = min(zip(parts, parts[1:]), key=lambda pair: rank.get(pair, 1 << 30))
            if best not in rank:
                break
            i = 0
            while i + 1 < len(parts):
                if (parts[i], parts[i + 1]) == best:
                    parts[i:i + 2] = [parts[i] + parts[i + 1]]
                i += 1
        out += [vocab[part] for part in parts]
    return out


def make_encoding():
    merges, seen = [], seen_bytes()
    blank = seen[32]
    for pair in ("t h", "th e", "i n", "a n", f"{blank} the", f"{blank} t", f"{blank}t h", "l l", f"{blank} an", "an d",
                 f"{seen[0xc3]} {seen[0xa4]}", f"{blank} {blank}", "1 2", "e r", "th er"):
        merges.append(tuple(pair.split(" ")))
    tokens = list(seen.values()) + [a + b for a, b in merges] + ["<|endoftext|>"]
    vocab = {token: (7 * i) % len(tokens) for i, token in enumerate(tokens)}
    assert len(set(vocab.values())) == len(tokens)
    put("encoder.json", json.dumps(vocab))
    put("vocab.bpe", "#version: 0.2\n" + "\n".join(map(" ".join, merges)) + "\n")
    return vocab, merges


TEXTS = ["the thing and  the\n\nother 1212 things'll  \t be täglich there's", "x", "  \n ",
         "über 12½ Жизнь 漢字 🙂 'tis the end!! \u00a0 \u3000y"]


def text():
    vocab, merges = make_encoding()
    made = TEXTS
    long = "".join(random.Random(5).choice(["the", "th", "an", "and", "in", "l", "ll", "er", "x"]) for _ in range(300))
    made = [*made, long, long + " " * 90 + "12" * 80]
    paths = []
    for i, words_of in enumerate(made):
        paths.append(f"text{i}.txt")
        put(paths[-1], words_of)
    files = ["--vocab", "encoder.json", "--merges", "vocab.bpe"]
    want = [encode(t, vocab, merges) for t in made]
    for ranks in (1, 3):
        run("import", "text", *files, *paths, "text.h5", ranks=ranks)
        with h5py.File("text.h5") as file:
            at = file["input/offsets"][:]
            for i in range(len(made)):
                assert list(file["input/values"][at[i]:at[i + 1]]) == want[i], made[i]
    end = vocab["<|endoftext|>"]
    stream = sum(([*tokens, end] for tokens in want), [])
    run("import", "text", *files, "--length", "8", *paths, "windows.h5")
    with h5py.File("windows.h5") as file:
        n = (len(stream) - 1) // 8
        assert list(file["input"][:].ravel()) == stream[:8 * n] and list(file["target"][:].ravel()) == stream[1:8 * n + 1]
    put("lines.txt", "the one\n\nan other\n\n\nlast")
    for how, parts in (("line", ["the one", "an other", "last"]), ("blank", ["the one", "an other", "last"]),
                       ("file", ["the one\n\nan other\n\n\nlast"])):
        run("import", "text", *files, "--documents", how, "lines.txt", "lines.h5")
        with h5py.File("lines.h5") as file:
            at = file["input/offsets"][:]
            got = [list(file["input/values"][at[i]:at[i + 1]]) for i in range(len(at) - 1)]
            assert got == [encode(part, vocab, merges) for part in parts], how
    put("bad.json", "{")
    run("import", "text", "--vocab", "bad.json", "--merges", "vocab.bpe", "text0.txt", "no.h5", code=1,
        says="vocabulary: is no JSON object: line 1")
    put("bad.json", '{"a": 1}')
    run("import", "text", "--vocab", "bad.json", "--merges", "vocab.bpe", "text0.txt", "no.h5", code=1,
        says="has no token")
    put("bad.bpe", "#version\nt h\nt zebra\n")
    run("import", "text", "--vocab", "encoder.json", "--merges", "bad.bpe", "text0.txt", "no.h5", code=1,
        says='merges: line 3: "t zebra" is not two tokens')
    run("import", "text", *files, "nowhere.txt", "no.h5", code=1, says="import nowhere.txt: cannot read it: No such file")
    run("import", "text", "text0.txt", "no.h5", code=2, says="--vocab FILE, --merges FILE, FILES and OUT.h5 are needed")
    run("import", "text", *files, "--documents", "page", "x", "no.h5", code=2, says="file, line or blank is needed")


def hdf5():
    rng = np.random.default_rng(3)
    arrays = {"a/x": rng.normal(size=(23, 4, 3)).astype(">f4"), "y": rng.integers(-5, 5, 23).astype(np.int16),
              "z": rng.integers(0, 1 << 32, 23).astype(np.uint32), "flag": rng.integers(0, 2, (23, 2)).astype(bool),
              "half": rng.normal(size=(23, 2)).astype(np.float16), "d": rng.normal(size=23)}
    with h5py.File("foreign.h5", "w") as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=values, chunks=(5, *values.shape[1:]), compression="gzip", shuffle=True)
        file["words"] = ["a", "b"]
        file["big"] = np.zeros(23, np.uint64)
        file["short"] = np.zeros(22)
    for ranks in (1, 3):
        run("import", "hdf5", "--input", "/a/x", "--target", "/y", *(f"--field={n}=/{n}" for n in ("z", "flag", "half", "d")),
            "foreign.h5", "own.h5", ranks=ranks)
        with h5py.File("own.h5") as file:
            assert np.array_equal(file["input"][:], arrays["a/x"]) and file["input"].dtype == np.dtype("<f4")
            assert np.array_equal(file["target"][:], arrays["y"]) and file["target"].dtype == np.int16
            assert np.array_equal(file["z"][:], arrays["z"]) and file["z"].dtype == np.int64
            assert np.array_equal(file["flag"][:], arrays["flag"]) and file["flag"].attrs["dtype"] == b"BOOL"
            assert np.array_equal(file["half"][:], arrays["half"].astype(np.float32))
            assert np.array_equal(file["d"][:], arrays["d"])
    for path, says in (("/none", 'has no dataset /none: "h5ls -r" lists what it has'),
                       ("/words", "which no dtype here can hold"),
                       ("/big", "/big holds values of 8-byte integer, which no dtype here can hold"),
                       ("/short", "/a/x has 23 samples, /short has 22")):
        run("import", "hdf5", "--input", "/a/x", "--target", path, "foreign.h5", "no.h5", code=1, says=says)
    put("text.txt", "hello")
    run("import", "hdf5", "--input", "/x", "text.txt", "no.h5", code=1, says="is not there, or no HDF5 file")
    run("import", "hdf5", "foreign.h5", "no.h5", code=2, says="--input /PATH or --field NAME=/PATH")
    run("import", "hdf5", "--field", "x", "foreign.h5", "no.h5", code=2, says="--field x: NAME=/PATH is needed")


def csv():
    put("pets.csv", 'kind,age,"home, sweet",weight,code\ncat,3,"a ""b""",4.5,7\ndog,NA,"two\nlines",20,8\n\n'
                    'cat,5,,?,7\ndog,1,x,10,9\n')
    run("import", "csv", "--target", "kind", "pets.csv", "no.h5", code=1,
        says='line 3, column 2 (age): "NA" is missing: use --missing nan, mean or skip')
    for ranks in (1, 3):
        run("import", "csv", "--target", "kind", "--missing", "mean", "--category", "code", "pets.csv", "pets.h5", ranks=ranks)
        with h5py.File("pets.h5") as file:
            names = labels(file)
            assert names["target"] == ["cat", "dog"] and list(file["target"][:]) == [0, 1, 0, 1]
            assert np.allclose(file["input"][:], [[3, 4.5], [3, 20], [5, 34.5 / 3], [1, 10]])
            assert names["home, sweet"] == ["(missing)", 'a "b"', "two\nlines", "x"]
            assert list(file["home, sweet"][:]) == [1, 2, 0, 3]
            assert [names["code"][i] for i in file["code"][:]] == ["7", "8", "7", "9"]
    run("import", "csv", "--target", "weight", "--labels-are", "float", "--missing", "skip", "--ignore", "home, sweet",
        "pets.csv", "pets.h5")
    with h5py.File("pets.h5") as file:
        assert np.allclose(file["target"][:], [4.5, 10]) and np.allclose(file["input"][:], [[3, 7], [1, 9]])
    run("import", "csv", "--target", "code", "--missing", "nan", "pets.csv", "pets.h5")
    with h5py.File("pets.h5") as file:
        assert np.isnan(file["input"][1, 0]) and np.isnan(file["input"][2, 1])
    put("semi.csv", "a;b\n1;2\n")
    run("import", "csv", "--target", "b", "--separator", ";", "semi.csv", "semi.h5", says="1 samples")
    put("open.csv", 'a,b\n1,"2\n')
    run("import", "csv", "--target", "b", "open.csv", "no.h5", code=1, says="ends within a quoted cell")
    run("import", "csv", "--target", "a", "--ignore", "c", "semi.csv", "no.h5", code=1, says="no column")
    run("import", "csv", "--target", "b", "--ignore", "c", "--separator", ";", "semi.csv", "no.h5", code=1,
        says="--ignore c: no column has this name")
    run("import", "csv", "--target", "weight", "pets.csv", "no.h5", code=1, says='"NA" is missing')
    put("gap.csv", "a,b\n1,\n")
    run("import", "csv", "--target", "b", "--missing", "mean", "gap.csv", "no.h5", code=1,
        says="is missing, and is the target: use --missing skip")


def append():
    put("one.csv", "a,b,y\n1,2,0\n3,4,1\n")
    put("two.csv", "a,b,y\n5,6,1\n7,8,0\n9,1,1\n")
    for ranks in (1, 3):
        run("import", "csv", "--target", "y", "one.csv", "both.h5")
        run("import", "csv", "--append", "--target", "y", "two.csv", "both.h5", ranks=ranks, says="5 samples")
        with h5py.File("both.h5") as file:
            assert np.array_equal(file["input"][:], [[1, 2], [3, 4], [5, 6], [7, 8], [9, 1]])
            assert list(file["target"][:]) == [0, 1, 1, 0, 1]
        run("import", "csv", "--append", "--target", "y", "--ignore", "a", "two.csv", "both.h5", ranks=ranks, code=1,
            says="field input is F32 [2], x * 0 + 0; F32 [1], x * 0 + 0 would be appended")
    put("words.csv", "a,b,y\n5,6,no\n")
    run("import", "csv", "--append", "--target", "y", "words.csv", "both.h5", code=1, says="has other labels")
    put("more.csv", "a,b,c,y\n5,6,x,1\n")
    run("import", "csv", "--append", "--target", "y", "more.csv", "both.h5", code=1,
        says='its field 0 is "input" of 2, "input" of 3 would be appended')
    run("import", "csv", "--append", "--target", "y", "one.csv", "nowhere.h5", code=1, says="nowhere.h5: No such file")
    run("check", "both.h5", says="every shard is as it was written")


def look():
    """show, stats and split."""
    put("six.csv", "x,y\n" + "".join(f"{i},{'odd' if i % 2 else 'even'}\n" for i in range(20)))
    run("import", "csv", "--target", "y", "six.csv", "six.h5")
    text = run("stats", "six.h5")
    assert "input: 20 values, 0 to 19, mean 9.5, standard deviation 5.76628" in text, text
    assert re.search(r"even +10\n +odd +10", text), text
    text = run("split", "--seed", "3", "six.h5", "train=0.7", "valid=0.15", "test=0.15", says="split train  14 samples, seed 3")
    assert "split valid  3 samples" in text and "split test   3 samples" in text, text
    run("check", "six.h5", says="every shard is as it was written")
    run("split", "--seed", "0", "six.h5", "all=1", says="split all    20 samples from 0 on")
    assert "split" not in run("split", "six.h5").split("\n", 1)[1]
    run("split", "six.h5", "a=0.8", "b=0.3", code=2, says="the shares are 1.1 together: at most 1 is possible")
    run("split", "six.h5", "a", code=2, says="a: NAME=SHARE is needed, e.g. train=0.8")
    run("split", "six.h5", "a=2", code=2, says="a share is above 0 and at most 1")
    run("split", "nowhere.h5", "a=1", code=1, says="dataset nowhere.h5: No such file")
    bar = subprocess.run([FLAMBEAU, "data", "import", "csv", "--target", "y", "six.csv", "bar.h5"], capture_output=True,
                         text=True, env={**os.environ, "FLAMBEAU_PROGRESS": "1"}).stderr
    assert "lines [" in bar and "100 % of 20" in bar, bar


def main():
    os.environ["OMPI_ALLOW_RUN_AS_ROOT"] = os.environ["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        without = lacks()
        if "Unicode" in without:
            TEXTS.pop()
        checks = [csv, hdf5, text, append, look]
        for what, check in (("PNG", images), ("JPEG", jpeg), ("sound", sound)):
            checks += [check] if what not in without else []
        for check in checks:
            check()
        os.chdir("/")
    print("imports agree" + "".join(f"; this build goes without {name}" for name in without))


if __name__ == "__main__":
    sys.exit(main())
