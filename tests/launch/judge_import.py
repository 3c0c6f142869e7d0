"""Imports against those who define the formats: Pillow, soundfile, tiktoken; each where it is installed.
GPT-2's two files: FLAMBEAU_GPT2 names their folder."""
import glob
import importlib
import os
import random
import subprocess
import tempfile

import h5py
import numpy as np

FLAMBEAU = os.path.join(os.environ["FLAMBEAU_BUILD"], "bin", "flambeau")
SOURCE = os.environ["FLAMBEAU_SOURCE"]


def flambeau(*args):
    subprocess.run([FLAMBEAU, "data", "import", *map(str, args)], check=True, stdout=subprocess.DEVNULL)


def images(folder, pil):
    """Decoding is exact for PNG, within 1 of Pillow's for JPEG, resizing within 1."""
    rng = np.random.default_rng(3)
    made = []
    for i in range(12):
        kind, ending = ("b", "png") if i % 2 else ("a", "jpg")
        os.makedirs(os.path.join(folder, "set", kind), exist_ok=True)
        height, width = int(rng.integers(20, 90)), int(rng.integers(20, 90))
        wave = np.add.outer(np.arange(height) * 3, np.arange(width) * 5)
        pixels = (128 + 90 * np.sin(wave[..., None] / [7, 11, 23]) + rng.normal(0, 8, (height, width, 3)))
        path = os.path.join(folder, "set", kind, f"{i:02}.{ending}")
        pil.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
        made.append((kind, path))
    made.sort()
    out = os.path.join(folder, "images.h5")
    box = pil.Resampling.BILINEAR
    for size, extra in (((32, 40), []), ((64, 64), ["--fit", "crop"]), ((100, 30), ["--channels", "1"])):
        flambeau("images", "--size", f"{size[0]}x{size[1]}", *extra, os.path.join(folder, "set"), out)
        with h5py.File(out) as file:
            for i, (kind, path) in enumerate(made):
                image = pil.open(path).convert("L" if "--channels" in extra else "RGB")
                part = None
                if "crop" in extra:
                    side = min(image.size)
                    left, top = (image.width - side) / 2, (image.height - side) / 2
                    part = (left, top, left + side, top + side)
                want = np.asarray(image.resize(size[::-1], box, part), dtype=int)
                want = want[None] if want.ndim == 2 else want.transpose(2, 0, 1)
                gap = np.abs(file["input"][i].astype(int) - want).max()
                # Grey: of PNG, libpng weighs the colours in linear light, Pillow as they are stored.
                if not ("--channels" in extra and path.endswith("png")):
                    assert gap <= (2 if "--channels" in extra else 1), (path, size, extra, gap)
                assert file["target"][i] == (0 if kind == "a" else 1)
    print("Pillow: images agree")


def sound(folder, soundfile):
    rng = np.random.default_rng(4)
    made = []
    for i, (ending, subtype) in enumerate((("wav", "PCM_16"), ("wav", "FLOAT"), ("flac", "PCM_16"), ("flac", "PCM_24"),
                                           ("ogg", "VORBIS"), ("wav", "PCM_U8"))):
        os.makedirs(os.path.join(folder, "sound", "x"), exist_ok=True)
        n = int(rng.integers(2000, 9000))
        data = 0.8 * np.sin(np.arange(n)[:, None] / [9, 17]) if i % 2 else 0.5 * np.sin(np.arange(n) / 5)
        path = os.path.join(folder, "sound", "x", f"{i}.{ending}")
        soundfile.write(path, data, 16000, subtype=subtype)
        made.append(path)
    out = os.path.join(folder, "sound.h5")
    flambeau("sound", os.path.join(folder, "sound"), out)
    with h5py.File(out) as file:
        offsets, values = file["input/offsets"][:], file["input/values"][:]
        for i, path in enumerate(made):
            want, rate = soundfile.read(path, always_2d=True)
            got = values[offsets[i]:offsets[i + 1]] / 32768
            assert rate == file["rate"][i] and len(got) == len(want)
            assert np.abs(got - want.mean(1)).max() < 1.1 / 32768, path
    print("soundfile: recordings agree")


def texts(folder, tiktoken, files):
    ranks = importlib.import_module("tiktoken.load").data_gym_to_mergeable_bpe_ranks(
        os.path.join(files, "vocab.bpe"), os.path.join(files, "encoder.json"))
    pattern = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
    judge = tiktoken.Encoding("gpt2", pat_str=pattern, mergeable_ranks=ranks,
                              special_tokens={"<|endoftext|>": 50256})
    random.seed(5)
    alphabet = list("abcXYZ019 .,;'\n\t \u00a0\u2003") + list("äßéπЖ漢字かな한글عربी१२３Ⅷ½🙂👩‍🚀\u200b\u0301")
    made = ["".join(random.choice(alphabet) for _ in range(random.randint(1, 400))) for _ in range(400)]
    made += ["I'll we've they're DON'T it's 'tis  two  spaces \n\n\n three\t\ttabs   ", " " * 50, "a" * 1000, "a" * 100003,
             "".join(random.choice("ACGT") for _ in range(20000)), "".join(random.choice("etaoinshr") for _ in range(3000)), "\n" * 33 + "x"]
    for path in glob.glob(os.path.join(SOURCE, "**", "*.md"), recursive=True)[:40]:
        made.append(open(path, encoding="utf-8").read())
    extra = os.environ.get("FLAMBEAU_TEXT")
    if extra:
        made.append(open(extra, encoding="utf-8").read())
    paths = []
    for i, text in enumerate(made):
        paths.append(os.path.join(folder, f"{i:04}.txt"))
        open(paths[-1], "w", encoding="utf-8", newline="").write(text)
    out = os.path.join(folder, "text.h5")
    flambeau("text", "--vocab", os.path.join(files, "encoder.json"), "--merges", os.path.join(files, "vocab.bpe"),
             *paths, out)
    tokens = 0
    with h5py.File(out) as file:
        offsets, values = file["input/offsets"][:], file["input/values"][:]
        assert len(offsets) == len(made) + 1
        for i, text in enumerate(made):
            want = judge.encode(text, disallowed_special=())
            got = list(values[offsets[i]:offsets[i + 1]])
            assert got == want, (i, text[:200], got[:20], want[:20])
            tokens += len(want)
    print(f"tiktoken: {tokens} tokens agree")


def main():
    with tempfile.TemporaryDirectory() as folder:
        for name, check in (("PIL.Image", images), ("soundfile", sound)):
            try:
                module = importlib.import_module(name)
            except ImportError:
                print(f"{name}: not installed, not compared")
                continue
            check(folder, module)
        files = os.environ.get("FLAMBEAU_GPT2")
        try:
            module = importlib.import_module("tiktoken")
        except ImportError:
            files = None
        if files:
            texts(folder, module, files)
        else:
            print("tiktoken: no FLAMBEAU_GPT2, or not installed: not compared")


if __name__ == "__main__":
    main()
