"""h5py, h5dump and NumPy read what io writes, as ordinary files."""
import glob
import gzip
import json
import os
import struct
import subprocess
import tempfile

import h5py
import numpy as np

SOURCE = os.environ["FLAMBEAU_SOURCE"]
BIN = os.path.join(os.environ["FLAMBEAU_BUILD"], "bin")


def flambeau(*args):
    subprocess.run([os.path.join(BIN, "flambeau"), *args], check=True, stdout=subprocess.DEVNULL)


def write_idx(path, array):
    head = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    with gzip.open(path, "wb") as file:
        file.write(head + array.tobytes())


def check_dataset(folder, images, labels):
    path = os.path.join(folder, "train.h5")
    with h5py.File(path) as file:
        assert np.array_equal(file["input"][:], images)
        assert np.array_equal(file["target"][:], labels)
        assert abs(file["input"].attrs["scale"] - 1 / 255) < 1e-12
        assert list(file["input"].attrs["sample_shape"]) == [1, 28, 28]
        assert file.attrs["samples"] == len(labels)
    out = subprocess.run(["h5dump", "-d", "/target", "-c", "3", path], check=True,
                         capture_output=True, text=True).stdout
    assert str(labels[0]) in out


def check_format_2(folder):
    """What tests/io/test_dataset_fields.c has written: texts of i * i % 23 tokens."""
    subprocess.run(["tar", "-C", folder, "-xzf", os.path.join(SOURCE, "tests", "io", "formats", "dataset-2.tar.gz")],
                   check=True)
    path = os.path.join(folder, "old.h5")
    with h5py.File(path) as file:
        offsets, tokens = file["text/offsets"][:], file["text/values"][:]
        assert offsets.dtype == np.int64 and tokens.dtype == np.uint16 and len(offsets) == 13
        for i in range(12):
            assert list(tokens[offsets[i]:offsets[i + 1]]) == [1000 * i + k for k in range(i * i % 23)]
        assert file["path/values"].shape == (offsets[-1], 2)
        assert list(file["target"][:]) == [i % 3 for i in range(12)]
        assert file["text"].attrs["longest"] == 18
        notes = json.loads(file["flambeau_shards"][()])
        assert notes["labels"]["target"][1] == "green" and notes["splits"][0]["name"] == "train"
    out = subprocess.run(["h5dump", "-d", "/text/values", "-c", "3", path], check=True,
                         capture_output=True, text=True).stdout
    assert str(tokens[2]) in out


def check_missing_shard(folder):
    shard = sorted(glob.glob(os.path.join(folder, "train-*.h5")))[0]
    os.rename(shard, shard + ".away")
    with h5py.File(os.path.join(folder, "train.h5")) as file:
        assert np.all(file["input"][:5] == 255), "a missing shard must not read as zeros"
    os.rename(shard + ".away", shard)


def check_files(folder, path, manifest):
    """Values in several files are whole tensors again, put together by what their data sets say."""
    flambeau("checkpoint", "reshard", path, os.path.join(folder, "again"), "3")
    again = glob.glob(os.path.join(folder, "again", "step-*"))[0]
    whole, cut = {}, 0
    for name in json.load(open(os.path.join(again, "manifest.json")))["files"][1:]:
        with h5py.File(os.path.join(again, name["name"])) as file:
            for key in manifest["tensors"]:
                if key not in file:
                    continue
                piece = file[key]
                shape = piece.attrs.get("whole_shape", piece.shape)
                tensor = whole.setdefault(key, np.empty(shape, piece.dtype))
                cut += "whole_shape" in piece.attrs
                if "begin_flat" in piece.attrs:
                    begin = piece.attrs["begin_flat"][0]
                    tensor.reshape(-1)[begin:begin + piece.size] = piece[:]
                elif "begin" in piece.attrs:
                    tensor[piece.attrs["begin"][0]:][:len(piece)] = piece[:]
                else:
                    tensor[...] = piece[()]
    assert cut >= 4, cut
    with h5py.File(os.path.join(path, "data.h5")) as file:
        for key in manifest["tensors"]:
            assert np.array_equal(whole[key], file[key][()]), key
    with h5py.File(os.path.join(again, "index.h5")) as file:
        assert len(file["pieces"]) == sum(t["pieces"][1] for t in manifest["tensors"].values()) + cut // 2


def check_checkpoint(folder):
    subprocess.run([os.path.join(BIN, "fashion"), "--data", folder, "--batch", "50", "--steps", "3",
                    "--print-bits", "--checkpoint", os.path.join(folder, "run")], check=True,
                   stdout=subprocess.DEVNULL)
    path = sorted(glob.glob(os.path.join(folder, "run", "step-*")))[-1]
    manifest = json.load(open(os.path.join(path, "manifest.json")))
    assert manifest["format"] == 2 and manifest["values"]["data/step"] == 3
    with h5py.File(os.path.join(path, "data.h5")) as file:
        for name, entry in manifest["tensors"].items():
            assert list(file[name].shape) == entry["shape"], name
        weight = file["model/0.weight"][:]
        moment = file["optimizer/0.weight.exp_avg"][:]
    check_files(folder, path, manifest)
    assert weight.shape == moment.shape == (32, 1, 3, 3) and weight.dtype == np.float32
    assert np.all(np.isfinite(weight)) and np.any(moment != 0)


def main():
    random = np.random.default_rng(1)
    images = random.integers(0, 255, (600, 28, 28), dtype=np.uint8)
    labels = random.integers(0, 10, 600, dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        idx = [os.path.join(folder, name) for name in ("images.gz", "labels.gz")]
        write_idx(idx[0], images)
        write_idx(idx[1], labels)
        for name in ("train.h5", "test.h5"):
            flambeau("data", "import", "idx", "--images", idx[0], "--labels", idx[1],
                     "--shard-samples", "128", os.path.join(folder, name))
        check_dataset(folder, images, labels)
        check_missing_shard(folder)
        check_format_2(folder)
        check_checkpoint(folder)
    print("h5py and h5dump read the dataset and the checkpoint")


if __name__ == "__main__":
    main()
