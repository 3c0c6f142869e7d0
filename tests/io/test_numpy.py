"""NumPy judges .npy files: what it wrote is read and written again, and is the same array to it."""
import ctypes
import os
import subprocess
import sys
import tempfile

import h5py
import numpy as np

BUILD = os.environ["FLAMBEAU_BUILD"]
DTYPES = ["<f4", "<f8", "<f2", "<i4", "<i8", "|u1", "|i1", "<i2", "<u2", "|b1"]


def library():
    lib = ctypes.CDLL(os.path.join(BUILD, "lib", "libflambeau.so"))
    for name in ("fb_world_open", "fb_world_context", "fb_npy_load"):
        getattr(lib, name).restype = ctypes.c_void_p
    return lib


def check_round_trip(lib, folder):
    world = ctypes.c_void_p(lib.fb_world_open(None, None))
    ctx = ctypes.c_void_p(lib.fb_world_context(world))
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
    assert lib.fb_world_close(world) == 0
    return count


def check_import(folder):
    x = np.arange(5 * 6, dtype=np.float32).reshape(5, 2, 3)
    y = np.arange(5, dtype=np.int64)
    files = {name: os.path.join(folder, name) for name in ("x.npy", "y.npy", "out.h5")}
    np.save(files["x.npy"], x)
    np.save(files["y.npy"], y)
    subprocess.run([os.path.join(BUILD, "bin", "flambeau"), "data", "import", "npy", "--input",
                    files["x.npy"], "--target", files["y.npy"], files["out.h5"]], check=True,
                   stdout=subprocess.DEVNULL)
    with h5py.File(files["out.h5"]) as file:
        assert np.array_equal(file["input"][:], x) and np.array_equal(file["target"][:], y)


def main():
    if os.environ.get("FLAMBEAU_SANITIZE"):
        sys.exit(print("python cannot load a sanitized library: nothing done"))
    with tempfile.TemporaryDirectory() as folder:
        count = check_round_trip(library(), folder)
        check_import(folder)
    print(f"NumPy agrees on {count} arrays")


if __name__ == "__main__":
    main()
