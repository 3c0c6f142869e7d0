"""PyTorch judges what a loader's transforms made of known samples (tests/io/test_transform_cases.c)."""
import numpy as np
import torch
import torch.nn.functional as F

from test_transformed import MEL, cases, mel_filters  # tests/io

calls = 0


def agree(got, wanted, limit, what):
    global calls
    got, wanted = torch.as_tensor(got).double(), wanted.double()
    assert got.shape == wanted.shape, f"{what}: {got.shape} and {wanted.shape}"
    error = (got - wanted).abs().max().item()
    assert error <= limit, f"{what}: off by {error}"
    calls += 1


def check_sizes(found):
    for name in ("smaller", "larger", "both", "cubic", "plain", "plain_cubic", "nearest"):
        options = {"mode": "bicubic" if "cubic" in name else "bilinear", "antialias": "plain" not in name}
        if name == "nearest":
            options = {"mode": "nearest-exact"}
        for ending in ("", "_u8"):
            case = found[f"resize_{name}{ending}"]
            x = torch.as_tensor(case["in"])
            size = case["out"].shape[2:]
            if ending and "cubic" in name:  # of U8 PyTorch also limits what is between the two axes
                agree(case["out"], F.interpolate(x.float(), size, **options).clamp(0, 255), 0.501, name + ending)
                continue
            limit = (0 if name == "nearest" else 1) if ending else 2e-6  # U8 is rounded twice there
            agree(case["out"], F.interpolate(x, size, **options), limit, name + ending)


def check_padding(found):
    for mode, theirs in (("constant", "constant"), ("edge", "replicate"), ("reflect", "reflect")):
        case = found["pad_" + mode]
        more = {"value": 9} if mode == "constant" else {}
        agree(case["out"], F.pad(torch.as_tensor(case["in"]).float(), (1, 3, 2, 4), mode=theirs, **more), 0, mode)


def check_affine(found):
    """grid_sample with the matrix that the image of its own places shows."""
    y, x = np.mgrid[:40, :50]
    place = np.stack([x - 24.5, y - 19.5, np.ones_like(x)], -1).reshape(-1, 3)
    for name in ("affine", "shear"):
        for before, after in zip(found[name]["in"], found[name]["out"].astype(np.float64)):
            inside = (after[2] > 1 - 1e-6).ravel()
            source = after[:2].reshape(2, -1)[:, inside] - [[24.5], [19.5]]
            m = np.linalg.lstsq(place[inside], source.T, rcond=None)[0].T
            unit = np.array([25.0, 20.0])  # half the image: -1 .. 1 of the grid
            theta = torch.tensor(m * [[25, 20, 1]] / unit[:, None])[None]
            grid = F.affine_grid(theta, (1, 3, 40, 50), align_corners=False)
            wanted = F.grid_sample(torch.tensor(before)[None].double() + 1, grid, align_corners=False) - 1  # fill -1
            agree(after, wanted[0], 5e-3, name)


def check_mel(found):
    for name, o in MEL.items():
        case = found["mel_" + name]
        x = torch.as_tensor(case["in"])
        stereo = x.ndim == 3
        x = x.transpose(1, 2).flatten(0, 1) if stereo else x
        n_fft, power = o.get("n_fft", 400), o.get("power", 2)
        window = o.get("window", n_fft)
        spectrum = torch.stft(x, n_fft, o.get("hop", window // 2), window, torch.hann_window(window),
                              center=o.get("center", True), pad_mode="reflect", return_complex=True).abs() ** power
        rate = o.get("rate", 16000)
        filters = mel_filters(rate, n_fft, o.get("n_mels", 128), o.get("f_min", 0), o.get("f_max", rate / 2),
                              o.get("slaney", False))
        y = torch.as_tensor(filters) @ spectrum.double()
        if "log" in o:
            y = y.clamp(min=1e-10)
            y = y.log() if o["log"] == "ln" else 20 / power * y.log10()
        y = y.unflatten(0, (-1, 2)) if stereo else y
        agree(case["out"], y, 5e-3 if "log" in o else 1e-5 * y.max().item(), "mel " + name)


def main():
    found = cases()
    for check in (check_sizes, check_padding, check_affine, check_mel):
        check(found)
    print(f"PyTorch {torch.__version__}: {calls} results of transforms agree")


if __name__ == "__main__":
    main()
