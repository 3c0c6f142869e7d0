"""NumPy judges .npy and .npz files and DLPack: what it wrote or holds is read and given back, and is the same array to
it. A safetensors file is written by hand."""
import ctypes
import gc
import json
import os
import struct
import subprocess
import sys
import tempfile

import h5py
import numpy as np

BUILD = os.environ["FLAMBEAU_BUILD"]
DTYPES = ["<f4", "<f8", "<f2", "<i4", "<i8", "|u1", "|i1", "<i2", "<u2", "|b1"]


def library():
    lib = ctypes.CDLL(os.path.join(BUILD, "lib", "libflambeau.so"))
    for name in ("fb_world_open", "fb_world_context", "fb_npy_load", "fb_npy_map", "fb_npz_load", "fb_data",
                 "fb_dlpack_export", "fb_dlpack_import", "fb_dlpack_export_old", "fb_dlpack_import_old", "fb_nn_linear",
                 "fb_retain", "fb_nn_param"):
        getattr(lib, name).restype = ctypes.c_void_p
    lib.fb_item_int.restype = ctypes.c_int64
    return lib


class Shared:
    """A tensor of the library on the memory of a DLPack capsule, and itself a thing with __dlpack__."""
    api = ctypes.pythonapi
    api.PyCapsule_New.restype = ctypes.py_object
    api.PyCapsule_New.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    api.PyCapsule_GetPointer.restype = ctypes.c_void_p
    api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    api.PyCapsule_GetName.restype = ctypes.c_char_p
    api.PyCapsule_GetName.argtypes = [ctypes.py_object]
    api.PyCapsule_SetName.argtypes = [ctypes.py_object, ctypes.c_char_p]

    def __init__(self, lib, ctx, capsule):
        self.lib = lib
        name = self.api.PyCapsule_GetName(capsule)
        take = lib.fb_dlpack_import if name == b"dltensor_versioned" else lib.fb_dlpack_import_old
        self.tensor = ctypes.c_void_p(take(ctx, ctypes.c_void_p(self.api.PyCapsule_GetPointer(capsule, name))))
        if self.tensor.value is None:
            raise ValueError("not taken")
        self.used = b"used_" + name  # a capsule keeps the pointer to its name
        self.api.PyCapsule_SetName(capsule, self.used)
        self.capsule = capsule

    def __dlpack_device__(self):
        return 1, 0

    def __dlpack__(self, max_version=None, **_):
        new = max_version is not None and max_version[0] >= 1
        give = self.lib.fb_dlpack_export if new else self.lib.fb_dlpack_export_old
        self.name = b"dltensor_versioned" if new else b"dltensor"
        return self.api.PyCapsule_New(give(self.tensor), self.name, None)


def check_round_trip(lib, ctx, folder):
    random = np.random.default_rng(2)
    paths = [os.path.join(folder, name).encode() for name in ("in.npy", "out.npy")]
    count = 0
    for dtype in DTYPES:
        for shape in [(), (1,), (0,), (7, 1, 3), (2,) * 8]:
            for version in [(1, 0), (2, 0), (3, 0)]:
                x = np.asarray(random.integers(0, 2, shape) * random.random(shape) * 100).astype(dtype)
                for y in (x, np.asfortranarray(x)):
                    with open(paths[0], "wb") as file:
                        np.lib.format.write_array(file, y, version=version)
                    t = ctypes.c_void_p(lib.fb_npy_load(ctx, paths[0]))
                    assert lib.fb_npy_save(t, paths[1]) == 0
                    z = np.load(paths[1])
                    assert z.dtype == y.dtype and z.shape == y.shape and np.array_equal(y, z)
                    count += 1
    return count


def check_other_types(lib, ctx, folder):
    """Byte orders, unsigned integers; mapped as well as read."""
    random = np.random.default_rng(3)
    path, back = (os.path.join(folder, name).encode() for name in ("other.npy", "back.npy"))
    for dtype in (">f4", ">f8", ">f2", ">i4", ">i8", ">i2", ">u2", "<u4", ">u4", "<u8", ">u8", "<f4", "|u1", "<i8"):
        for load in (lib.fb_npy_load, lib.fb_npy_map):
            x = (random.random((5, 3)) * 200).astype(dtype)
            np.save(path.decode(), np.asfortranarray(x) if load == lib.fb_npy_map else x)
            assert lib.fb_npy_save(ctypes.c_void_p(load(ctx, path)), back) == 0
            y = np.load(back)
            assert np.array_equal(x, y) and y.dtype == (np.int64 if dtype[1:] in ("u4", "u8") else x.dtype.newbyteorder("="))


def check_npz(lib, ctx, folder):
    path = os.path.join(folder, "x.npz").encode()
    arrays = {"a": np.arange(1000, dtype=np.float32).reshape(10, 100), "b_2": np.array(5), "c d": np.zeros((0, 3), np.int8)}
    for save in (np.savez, np.savez_compressed):
        save(path.decode(), **arrays)
        tensors = [ctypes.c_void_p(lib.fb_npz_load(ctx, path, name.encode())) for name in arrays]
        names = (ctypes.c_char_p * 3)(*(name.encode() for name in arrays))
        assert lib.fb_npz_save(ctx, path, names, (ctypes.c_void_p * 3)(*tensors), 3) == 0
        with np.load(path.decode()) as file:
            assert file.files == list(arrays)
            for name, value in arrays.items():
                assert np.array_equal(file[name], value) and file[name].dtype == value.dtype
    subprocess.run([sys.executable, "-m", "zipfile", "-t", path.decode()], check=True, stdout=subprocess.DEVNULL)


def check_dlpack(lib, ctx):
    new = tuple(map(int, np.__version__.split(".")[:2])) >= (2, 1)  # before, NumPy knew only DLPack before 1.0
    for dtype in ("f4", "f8", "f2", "i1", "i2", "i4", "i8", "u1", "u2") + (("?",) if new else ()):
        base = (np.arange(60).reshape(3, 4, 5) % 7).astype(dtype)
        for x in (base, base.T, base[:, ::2, 1:], base[0, 0, 0], base[:, :0]):
            x = np.asarray(x)
            for version in ({"max_version": (1, 0)}, {})[0 if new else 1:]:
                mine = Shared(lib, ctx, x.__dlpack__(**version))
                y = np.from_dlpack(mine)
                assert y.dtype == x.dtype and y.shape == x.shape and np.array_equal(x, y)
                assert not x.size or (y.ctypes.data == x.ctypes.data and y.strides == x.strides), "a copy was made"
    kept = np.arange(5.0)
    mine = Shared(lib, ctx, kept.__dlpack__())
    seen = np.from_dlpack(mine)
    kept[2] = 40
    assert seen[2] == 40
    del mine
    gc.collect()
    assert list(seen) == [0, 1, 40, 3, 4]
    for bad in (np.arange(6)[::-1], np.zeros(3, np.complex64), np.zeros(3, np.uint32)):
        try:
            Shared(lib, ctx, bad.__dlpack__())
        except ValueError:
            message = ctypes.create_string_buffer(300)
            assert lib.fb_error_take(ctx, message, 300) != 0
            text = message.value.decode()
            assert "negative" in text or "no dtype is code" in text, text
        else:
            raise AssertionError("taken")


def check_safetensors(lib, ctx, folder):
    path = os.path.join(folder, "x.safetensors").encode()
    weight, bias = np.random.default_rng(4).normal(size=(2, 3)).astype("<f4"), np.array([0.5, -2.0])
    head = json.dumps({"b": {"dtype": "F64", "shape": [2], "data_offsets": [0, 16]},
                       "weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [16, 40]}}).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(head)) + head + bias.tobytes() + weight.tobytes())

    class Rename(ctypes.Structure):
        _fields_ = [("source", ctypes.c_char_p), ("to", ctypes.c_char_p)]

    class Options(ctypes.Structure):
        _fields_ = [("rename", ctypes.POINTER(Rename)), ("rest", ctypes.c_void_p * 3)]
    rules = (Rename * 2)(Rename(b"b", b"bias"), Rename())
    module = ctypes.c_void_p(lib.fb_nn_linear(ctx, ctypes.c_int64(3), ctypes.c_int64(2), None))
    assert lib.fb_safetensors_load(module, path, ctypes.byref(Options(rename=rules))) == 0
    assert lib.fb_safetensors_save(module, path) == 0
    with open(path, "rb") as file:
        data = file.read()
    length, = struct.unpack("<Q", data[:8])
    head = json.loads(data[8:8 + length])
    assert length % 8 == 0 and set(head) == {"weight", "bias"}
    for name, want in (("weight", weight), ("bias", bias.astype("<f4"))):
        begin, end = head[name]["data_offsets"]
        got = np.frombuffer(data[8 + length + begin:8 + length + end], "<f4").reshape(head[name]["shape"])
        assert head[name]["dtype"] == "F32" and np.array_equal(got, want)


def check_import(folder):
    x = np.arange(5 * 6, dtype=np.float32).reshape(5, 2, 3)
    y = np.arange(5, dtype=np.int64)
    files = {name: os.path.join(folder, name) for name in ("x.npy", "y.npy", "out.h5")}
    np.save(files["x.npy"], x)
    np.save(files["y.npy"], y)
    pair = os.path.join(folder, "pair.npz")
    np.savez_compressed(pair, x=x, y=y)
    for inputs in ((files["x.npy"], files["y.npy"]), (pair + ":x", pair + ":y")):
        subprocess.run([os.path.join(BUILD, "bin", "flambeau"), "data", "import", "npy", "--input",
                        inputs[0], "--target", inputs[1], files["out.h5"]], check=True,
                       stdout=subprocess.DEVNULL)
        with h5py.File(files["out.h5"]) as file:
            assert np.array_equal(file["input"][:], x) and np.array_equal(file["target"][:], y)


def main():
    if os.environ.get("FLAMBEAU_SANITIZE"):
        sys.exit(print("python cannot load a sanitized library: nothing done"))
    lib = library()
    world = ctypes.c_void_p(lib.fb_world_open(None, None))
    ctx = ctypes.c_void_p(lib.fb_world_context(world))
    with tempfile.TemporaryDirectory() as folder:
        count = check_round_trip(lib, ctx, folder)
        check_other_types(lib, ctx, folder)
        check_npz(lib, ctx, folder)
        check_dlpack(lib, ctx)
        check_safetensors(lib, ctx, folder)
        check_import(folder)
    assert lib.fb_world_close(world) == 0
    print(f"NumPy agrees on {count} arrays")


if __name__ == "__main__":
    main()
