"""NumPy and colorsys judge what a loader's transforms made of known samples (tests/io/test_transform_cases.c): each
result must be what some choice of its random numbers gives, computed another way."""
import colorsys
import glob
import os
import subprocess
import sys
import tempfile

import numpy as np

BUILD = os.environ["FLAMBEAU_BUILD"]
N = 24
PAD = ((0, 0), (2, 4), (1, 3))  # top 2, bottom 4, left 1, right 3


def cases():
    """name -> {"in", "out", "class", "target"}"""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run([os.path.join(BUILD, "tests/io/test_transform_cases")], capture_output=True, text=True,
                             env=dict(os.environ, FLAMBEAU_CASES=folder))
        if run.returncode:
            sys.exit(run.stdout + run.stderr)
        for path in glob.glob(os.path.join(folder, "*.npy")):
            name, what = os.path.basename(path)[:-4].rsplit("-", 1)
            found.setdefault(name, {})[what] = np.load(path)
    return found


def close(got, wanted, limit, what):
    error = np.abs(np.asarray(got, np.float64) - wanted).max() if np.size(wanted) else 0
    assert got.shape == np.shape(wanted) and error <= limit, f"{what}: {got.shape}, off by {error}"


# --- sizes: every weight of the two-dimensional filter at once, in double ---

def kernel(x, cubic, a):
    x = np.abs(x)
    if not cubic:
        return np.maximum(0, 1 - x)
    near, far = (a + 2) * x**3 - (a + 3) * x**2 + 1, a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def matrix(old, new, cubic=False, plain=False):
    """Weights [new, old] of one axis."""
    scale = old / new
    centre, width = (np.arange(new) + 0.5) * scale, 1 if plain else max(scale, 1)
    if plain:  # places outside belong to the outermost element
        m = np.zeros((new, old))
        for place in range(-3, old + 3):
            m[:, min(max(place, 0), old - 1)] += kernel(place + 0.5 - centre, cubic, -0.75)
        return m
    m = kernel((np.arange(old)[None, :] + 0.5 - centre[:, None]) / width, cubic, -0.5)
    return m / m.sum(1, keepdims=True)


def judge_sizes(all_cases):
    for name in ("smaller", "larger", "both", "cubic", "plain", "plain_cubic", "nearest"):
        for ending in ("", "_u8"):
            case = all_cases[f"resize_{name}{ending}"]
            x, y = case["in"].astype(np.float64), case["out"]
            if name == "nearest":
                rows, columns = ((np.arange(n) * 2 + 1) * old // (2 * n) for n, old in zip(y.shape[2:], x.shape[2:]))
                assert np.array_equal(y, case["in"][:, :, rows][:, :, :, columns])
                continue
            options = {"cubic": "cubic" in name, "plain": "plain" in name}
            wanted = np.einsum("yh,nchw,xw->ncyx", matrix(x.shape[2], y.shape[2], **options), x,
                               matrix(x.shape[3], y.shape[3], **options))
            assert y.dtype == case["in"].dtype
            close(y, np.clip(wanted, 0, 255) if ending else wanted, 0.5001 if ending else 2e-6, name + ending)


# --- places ---

def windows(x, height, width):
    """Every window of this size of the last two dimensions."""
    for top in range(x.shape[-2] - height + 1):
        for left in range(x.shape[-1] - width + 1):
            yield (top, left), x[..., top:top + height, left:left + width]


def judge_crops(all_cases):
    for mode in ("constant", "edge", "reflect", "symmetric"):
        more = {"constant_values": 9} if mode == "constant" else {}
        places = set()
        crop, pad = all_cases["crop_" + mode], all_cases["pad_" + mode]
        for before, after, whole in zip(crop["in"], crop["out"], pad["out"]):
            padded = np.pad(before, PAD, mode=mode, **more)
            assert np.array_equal(whole, padded), mode
            found = [place for place, window in windows(padded, 10, 8) if np.array_equal(window, after)]
            assert len(found) == 1, (mode, found)
            places.add(found[0])
        assert len(places) > N / 2, "the places are not random"
    case = all_cases["center_crop"]  # 12 x 9 to 5 x 12: rows 4 .. 8, one column of zeros before, two behind
    assert np.array_equal(case["out"], np.pad(case["in"][:, :, 4:9], ((0, 0), (0, 0), (0, 0), (1, 2))))


def judge_flips(all_cases):
    case, seen = all_cases["flips"], []
    for before, after in zip(case["in"], case["out"]):
        ways = [before, before[:, :, ::-1], before[:, ::-1], before[:, ::-1, ::-1]]
        seen += [i for i, way in enumerate(ways) if np.array_equal(way, after)]
    assert len(seen) == N and set(seen) == {0, 1, 2, 3}, seen
    case = all_cases["permute"]
    assert np.array_equal(case["out"], case["in"].transpose(0, 2, 3, 1))


def rectangle(mask):
    """(top, bottom, left, right) of what is True, which must be a rectangle."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not rows.size:
        return 0, 0, 0, 0
    box = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    assert mask.sum() == (box[1] - box[0]) * (box[3] - box[2]), mask
    return box


def judge_erasing(all_cases):
    for name in ("erasing", "cutout"):
        case, boxes = all_cases[name], set()
        for before, after in zip(case["in"], case["out"]):
            mask = (after == 255).all(0) & (before != 255).any(0)  # 256 is limited to what U8 has
            top, bottom, left, right = box = rectangle(mask)
            boxes.add(box)
            inside = np.zeros(mask.shape, bool)
            inside[top:bottom, left:right] = True
            assert np.array_equal(after[:, ~inside], before[:, ~inside])
            height, width = bottom - top, right - left
            if name == "erasing":
                assert 1 <= height * width <= 0.33 * 108 + 6, box
            else:
                assert (height == 4 or top == 0 or bottom == 12) and (width == 4 or left == 0 or right == 9), box
        assert len(boxes) > N / 2


def judge_resized_crops(all_cases):
    """Images hold their own places, so that the part shows in the result: parts of 8 % to 100 %."""
    case, areas = all_cases["resized_crop"], []
    for before, out in zip(case["in"], case["out"].astype(np.float64)):
        x, y = out[0, 8], out[1, :, 10]
        step_x, step_y = (x[-3] - x[2]) / 15, (y[-3] - y[2]) / 11
        height, width = np.rint([step_y * 16, step_x * 20]).astype(int)
        top, left = np.rint([y[2] + 0.5 - 2.5 * step_y, x[2] + 0.5 - 2.5 * step_x]).astype(int)
        part = before[:, top:top + height, left:left + width]
        assert part.shape == (3, height, width), (top, left, height, width)
        close(out, np.einsum("yh,chw,xw->cyx", matrix(height, 16), part, matrix(width, 20)), 2e-5, "resized crop")
        assert 0.7 < width / height < 1.42
        areas.append(height * width / 2000)
    assert 0.07 < min(areas) < 0.35 and 0.6 < max(areas) <= 1, areas


def judge_affine(all_cases):
    """The same: where an element comes from is a linear function of its place."""
    y, x = np.mgrid[:40, :50]
    place = np.stack([x - 24.5, y - 19.5, np.ones_like(x)], -1).reshape(-1, 3)
    for name in ("affine", "shear", "affine_nearest"):
        angles = []
        for out in all_cases[name]["out"].astype(np.float64):
            inside = (out[2] > 1 - 1e-6).ravel()
            assert inside.sum() > 600 and (out[:, (out[2] == -1)] == -1).all()
            # of bilinear edges only those elements whose four neighbours are inside are exact
            source = out[:2].reshape(2, -1)[:, inside] - [[24.5], [19.5]]
            m, *_ = np.linalg.lstsq(place[inside], source.T, rcond=None)
            limit = 0.75 if "nearest" in name else 2e-3
            close(place[inside] @ m, source.T, limit, name)
            wanted = place @ m + [24.5, 19.5]
            mine = ((wanted > 0.6) & (wanted < [48.4, 38.4])).all(1)
            assert inside[mine].all() and not inside[((wanted < -0.6) | (wanted > [49.6, 39.6])).any(1)].any()
            scale = abs(np.linalg.det(m[:2])) ** -0.5
            if name == "affine":
                assert 0.79 < scale < 1.21
                close(m[:2] @ m[:2].T * scale**2, np.eye(2), 2e-3, "rotation")
                move = -np.linalg.solve(m[:2].T, m[2])  # by whole pixels, at most a tenth
                close(move, np.rint(move), 0.02, "whole pixels")
                assert (np.abs(move) <= [5.01, 4.01]).all()
            if name == "shear":
                assert abs(scale - 1) < 2e-3
            angles.append(np.degrees(np.arctan2(m[1, 0], m[0, 0])))
        limit = {"affine": 30, "shear": 21, "affine_nearest": 47}[name]
        assert max(np.abs(angles)) <= limit and max(angles) - min(angles) > limit / 2, angles


# --- values ---

def weigh(x):
    return 0.2989 * x[0] + 0.587 * x[1] + 0.114 * x[2]


def blend_factor(before, after, other):
    """The factor f of f x + (1 - f) other, from the elements that were not limited; and what it gives."""
    free = (after > 0.01) & (after < 0.99) & (np.abs(before - other) > 0.05)
    f = np.median((after - other)[free] / (before - other)[free])
    return f, np.clip(f * before + (1 - f) * other, 0, 1)


def judge_colors(all_cases):
    for name in ("brightness", "contrast", "saturation", "hue"):
        for ending, unit, limit in (("", 1, 4e-6), ("_u8", 255, 0.51 / 255 + 0.01)):
            case, factors = all_cases[name + ending], []
            for before, after in zip(case["in"] / np.float64(unit), case["out"] / np.float64(unit)):
                if name == "hue":
                    f = turn(before, after, limit * 40)
                else:
                    grey = weigh(before)
                    other = {"brightness": 0, "contrast": grey.mean(), "saturation": grey[None]}[name]
                    f, wanted = blend_factor(before, after, other + np.zeros_like(before))
                    close(after, wanted, limit, name + ending)
                factors.append(f)
            low, high = (-0.41, 0.41) if name == "hue" else (0.19, 1.81)
            assert low < min(factors) < (low + high) / 2 < max(factors) < high, (name, factors)
    case = all_cases["normalize"]
    mean, std = (np.array(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    close(case["out"], (case["in"] / 255.0 - mean) / std, 1e-5, "normalize")


def turn(before, after, limit):
    """By how much of a circle all hues were turned; saturation and value stay."""
    turns = []
    for old, new in zip(before.reshape(3, -1).T, after.reshape(3, -1).T):
        (h, s, v), (g, r, w) = colorsys.rgb_to_hsv(*old), colorsys.rgb_to_hsv(*new)
        assert abs(v - w) < limit and abs(s - r) < limit / max(v, 0.1)
        if s * v > 0.4:
            turns.append((g - h + 0.5) % 1 - 0.5)
    f = np.median(turns)
    assert max(abs(t - f) for t in turns) < limit, (f, turns)
    return f


def judge_mixtures(all_cases):
    """Some other sample of the dataset, the same share in image and target."""
    for name in ("mixup", "mixup_u8", "cutmix"):
        case, shares = all_cases[name], []
        source, classes = case["in"].astype(np.float64), case["class"]
        for i in range(N):
            out, target = case["out"][i].astype(np.float64), case["target"][i].astype(np.float64)
            assert abs(target.sum() - 1) < 1e-6 and (target >= 0).all()
            found = []
            for j in range(N):
                if name == "cutmix":
                    box = rectangle_of(out, source[i], source[j])
                    if box is None:
                        continue
                    share = 1 - box / out[0].size
                else:
                    d = source[i] - source[j]
                    share = 1 if i == j else ((out - source[j]) * d).sum() / (d * d).sum()
                    if np.abs(share * source[i] + (1 - share) * source[j] - out).max() > (0.8 if "u8" in name else 1e-5):
                        continue
                wanted = share * (np.arange(10) == classes[i]) + (1 - share) * (np.arange(10) == classes[j])
                if np.abs(wanted - target).max() < (1e-2 if "u8" in name else 1e-4):
                    found.append(share)
            assert found, f"{name}: sample {i} is a mixture of no two samples"
            shares.append(found[0])
        assert min(shares) < (0.7 if name == "cutmix" else 0.3) and max(shares) > 0.7, shares


def rectangle_of(out, mine, other):
    """How many pixels of `other` are in `mine`; None: it is none."""
    changed = (out != mine).any(0)
    if not changed.any():
        return 0 if np.array_equal(out, mine) else None
    rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    if not np.array_equal(out[:, top:bottom, left:right], other[:, top:bottom, left:right]):
        return None
    return (bottom - top) * (right - left)


# --- sound and text ---

MEL = {"default": dict(n_mels=40), "window": dict(n_fft=512, window=400, hop=160, n_mels=80, log="ln"),
       "slaney": dict(rate=22050, n_fft=1024, hop=256, slaney=True, log="db"),
       "magnitude": dict(n_fft=486, power=1, center=False, n_mels=20, f_min=50, f_max=7000),
       "prime": dict(n_fft=254, n_mels=16, hop=90), "stereo": dict(n_mels=30)}


def mel_filters(rate, n_fft, n_mels, f_min, f_max, slaney):
    if slaney:  # linear below 1 kHz, then 27 bands for a factor of 6.4
        low = lambda f: np.where(f < 1000, 3 * f / 200, 15 + 27 * np.log(np.maximum(f, 1e-9) / 1000) / np.log(6.4))
        high = lambda m: np.where(m < 15, 200 * m / 3, 1000 * np.exp((m - 15) * np.log(6.4) / 27))
    else:
        low, high = lambda f: 1127.01048 * np.log1p(f / 700), lambda m: 700 * np.expm1(m / 1127.01048)
    edges = high(np.linspace(low(np.float64(f_min)), low(np.float64(f_max)), n_mels + 2))
    bins = np.arange(n_fft // 2 + 1) * rate / n_fft
    filters = np.stack([np.interp(bins, edges[i:i + 3], [0, 1, 0], left=0, right=0) for i in range(n_mels)])
    return filters * (2 / (edges[2:] - edges[:-2]))[:, None] if slaney else filters


def mel(x, rate=16000, n_fft=400, window=0, hop=0, n_mels=128, power=2, center=True, f_min=0, f_max=0, slaney=False,
        log=None):
    """[..., time] to [..., n_mels, frames], in double."""
    window = window or n_fft
    hop = hop or window // 2
    w = np.pad(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window), ((n_fft - window) // 2,) * 2)
    x = np.asarray(x, np.float64)
    if center:
        x = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(n_fft // 2,) * 2], mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(x, n_fft, -1)[..., ::hop, :]
    y = np.abs(np.fft.rfft(frames * w)) ** power @ mel_filters(rate, n_fft, n_mels, f_min, f_max or rate / 2, slaney).T
    y = {None: lambda v: v, "ln": lambda v: np.log(np.maximum(v, 1e-10)),
         "db": lambda v: 20 / power * np.log10(np.maximum(v, 1e-10))}[log](y)
    return np.swapaxes(y, -1, -2)


def judge_mel(all_cases):
    for name, options in MEL.items():
        case = all_cases["mel_" + name]
        x = case["in"].transpose(0, 2, 1) if case["in"].ndim == 3 else case["in"]
        wanted = mel(x, **options)
        close(case["out"], wanted, 2e-3 if options.get("log") else 3e-6 * wanted.max(), "mel_" + name)


def judge_sequences(all_cases):
    for name in ("shift", "roll"):
        case, moves = all_cases[name], set()
        for before, after in zip(case["in"], case["out"]):
            most, found = len(before) // 5, []
            for by in range(-most, most + 1):
                wanted = np.roll(before, by, 0)
                if name == "shift":
                    wanted[:by] = 0 if by > 0 else wanted[:by]
                    wanted[len(before) + by:] = 0 if by < 0 else wanted[len(before) + by:]
                found += [by] if np.array_equal(wanted, after) else []
            assert len(found) == 1, (name, found)
            moves.add(found[0])
        assert min(moves) < 0 < max(moves)
    case, places = all_cases["window"], set()
    for before, after in zip(case["in"], case["out"]):
        places |= {i for i in range(2001) if np.array_equal(before[i:i + 1000], after)}
    assert len(places) == N
    case, widths = all_cases["masks"], []
    for before, after in zip(mel(case["in"], n_mels=40), case["out"]):
        time, bands = (after == -7).any(0), (after == -8).all(1)
        assert time.sum() < 6 and bands.sum() < 15
        assert time.sum() == 0 or np.ptp(np.flatnonzero(time)) == time.sum() - 1
        assert bands.sum() == 0 or np.ptp(np.flatnonzero(bands)) == bands.sum() - 1
        wanted = np.where(bands[:, None], -8, np.where(time[None], -7, before))
        close(after, wanted, 3e-6 * before.max(), "masks")
        widths.append((time.sum(), bands.sum()))
    assert len(set(widths)) > N / 2


def judge_tokens(all_cases):
    case = all_cases["tokens"]
    before, after, labels = case["in"], case["out"], case["target"]
    chosen = labels != -100
    assert np.array_equal(labels[chosen], before[chosen]) and np.array_equal(after[~chosen], before[~chosen])
    assert not np.isin(before[chosen], [3, 4, 5]).any()
    masked, random = after[chosen] == 5000, (after[chosen] != 5000) & (after[chosen] != before[chosen])
    assert after[chosen][random].max() < 1000
    n = chosen.sum()  # within 4.5 standard deviations of 15 %, and of 80 % and 10 % of these
    for count, of, p in ((n, before.size, 0.15), (masked.sum(), n, 0.8), (random.sum(), n, 0.1)):
        assert abs(count - of * p) < 4.5 * (of * p * (1 - p)) ** 0.5 + of * 0.0005, (count, of, p)


def main():
    found = cases()
    for judge in (judge_sizes, judge_crops, judge_flips, judge_erasing, judge_resized_crops, judge_affine, judge_colors,
                  judge_mixtures, judge_mel, judge_sequences, judge_tokens):
        judge(found)
    print(f"NumPy {np.__version__}: {len(found)} cases of {N} samples agree")


if __name__ == "__main__":
    main()
