"""PyTorch, NumPy and Hugging Face's safetensors (where it is installed) judge what is exchanged with them: DLPack
without copies, safetensors both ways."""
import ctypes
import os
import tempfile

import numpy as np
import torch

from test_numpy import Shared, library  # tests/io

calls = 0


def check_dlpack(lib, ctx):
    global calls
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16,
                  torch.int8, torch.uint8, torch.bool):
        for x in (torch.arange(24).reshape(2, 3, 4).to(dtype), torch.arange(24).reshape(4, 6).to(dtype).t(),
                  torch.tensor(3).to(dtype), torch.zeros(0, 2, dtype=dtype)):
            mine = Shared(lib, ctx, x.__dlpack__(max_version=(1, 0)))
            back = torch.from_dlpack(mine)
            assert x.numel() == 0 or back.data_ptr() == x.data_ptr(), "a copy was made"
            assert back.dtype == x.dtype and back.shape == x.shape and torch.equal(back, x)
            if x.numel() and x.dtype != torch.bool:
                x.add_(1)
                assert torch.equal(back, x), "a copy was made"
            calls += 2


def check_safetensors(lib, ctx, folder):
    global calls
    try:
        from safetensors.torch import load_file, save_file
    except ImportError:
        print("safetensors: not installed, not compared")
        return
    path = os.path.join(folder, "x.safetensors").encode()
    for seed in range(5):
        torch.manual_seed(seed)
        theirs = torch.nn.Linear(7 + seed, 5)
        save_file(theirs.state_dict(), path.decode(), metadata={"format": "pt"})
        mine = ctypes.c_void_p(lib.fb_nn_linear(ctx, ctypes.c_int64(7 + seed), ctypes.c_int64(5), None))
        assert lib.fb_safetensors_load(mine, path, None) == 0
        os.remove(path)
        assert lib.fb_safetensors_save(mine, path) == 0
        for name, value in load_file(path.decode()).items():
            assert torch.equal(value, theirs.state_dict()[name]), name
            calls += 1


def main():
    lib = library()
    world = ctypes.c_void_p(lib.fb_world_open(None, None))
    ctx = ctypes.c_void_p(lib.fb_world_context(world))
    check_dlpack(lib, ctx)
    with tempfile.TemporaryDirectory() as folder:
        check_safetensors(lib, ctx, folder)
    assert lib.fb_world_close(world) == 0
    print(f"PyTorch {torch.__version__}: {calls} tensors agree")


if __name__ == "__main__":
    main()
