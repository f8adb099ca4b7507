"""The colours of classes: find the list in `segexplorer/core/colours.py` (search), or measure it (measure).

What a colour of a class has to keep, and what the search makes as large as it can:

- its distance from every other class and from the four colours of errors, in CIEDE2000 (Sharma, Wu and Dalal 2005),
  as normal readers see them, and those with deuteranopia or protanopia (Machado, Oliveira and Fernandes 2009);
- its hue, some degrees away from the hues of errors, so that no shade of them is a class: in CIELAB, and in OKLab
  (Ottosson 2020), since CIELAB calls blues of equal hue different;
- some colour, so that it is seen on grey images, and some contrast with napari's two backgrounds (WCAG 2).

`python scripts/class_colours.py measure` prints the least distances among the first n classes;
`python scripts/class_colours.py search` takes a minute and prints the list.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from skimage.color import deltaE_ciede2000, rgb2lab

from segexplorer.core import colours

Array = NDArray[np.float64]

SIGHT: dict[str, Array] = {
    "normal": np.eye(3),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
}
"""Matrices on linear sRGB, Machado et al. 2009, table for severity 1.0."""

DARK, LIGHT = "#262930", "#EFEBE9"
"""napari's backgrounds."""
ERRORS = (colours.FALSE_POSITIVE, colours.FALSE_NEGATIVE, colours.WRONG_CLASS, colours.TRUE_POSITIVE)
FIRST = 12
"""Classes that colour-blind readers can tell apart."""
MOST = 255


@dataclass(frozen=True)
class Demands:
    """What is asked of candidates, and the distances that count as enough for each sight; 0: none is asked."""

    chroma: float
    hue_gap: float
    contrast_dark: float
    contrast_light: float
    classes: tuple[float, float, float]
    errors: tuple[float, float, float]


TWELVE = Demands(30, 20, 2.2, 1.5, (14, 7, 7), (20, 7, 7))
MORE = Demands(12, 18, 1.5, 1.2, (10, 4, 4), (12, 3.5, 3.5))


def rgb(texts: tuple[str, ...] | list[str]) -> Array:
    """Return (n, 3) sRGB from 0 to 1."""
    return np.array([colours.rgba(text)[:3] for text in texts])


def linear(values: Array) -> Array:
    """Return sRGB without its transfer curve (IEC 61966-2-1)."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def seen(values: Array, sight: str) -> Array:
    """Return (n, 3) CIELAB of sRGB colours as a reader sees them."""
    light = np.clip(linear(values) @ SIGHT[sight].T, 0, 1)
    shown = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray(rgb2lab(np.clip(shown, 0, 1)[np.newaxis])[0])


def oklab(values: Array) -> Array:
    """Return (n, 3) OKLab of sRGB colours (Ottosson 2020, https://bottosson.github.io/posts/oklab/)."""
    cones = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    opponents = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    return np.cbrt(linear(values) @ cones.T) @ opponents.T


def contrast(values: Array, background: str) -> Array:
    """Return the contrast ratio of WCAG 2 with a background."""
    weights = np.array([0.2126, 0.7152, 0.0722])
    one, other = linear(values) @ weights, linear(rgb([background])) @ weights
    return np.asarray((np.maximum(one, other) + 0.05) / (np.minimum(one, other) + 0.05))


def candidates(demands: Demands, step: int = 15) -> Array:
    """Return the colours of a grid in sRGB that may be classes."""
    levels = np.arange(0, 256, step) / 255
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    lab = seen(grid, "normal")
    allowed = np.hypot(lab[:, 1], lab[:, 2]) >= demands.chroma
    for space in (lambda values: seen(values, "normal"), oklab):
        hue, error_hue = (np.degrees(np.arctan2(x[:, 2], x[:, 1])) for x in (space(grid), space(rgb(ERRORS))))
        gap = np.abs((hue[:, np.newaxis] - error_hue + 180) % 360 - 180).min(axis=1)
        allowed &= gap >= demands.hue_gap
    allowed &= contrast(grid, DARK) >= demands.contrast_dark
    allowed &= contrast(grid, LIGHT) >= demands.contrast_light
    return np.asarray(grid[allowed])


def distances(pool: Array, demands: Demands) -> tuple[Array, Array]:
    """Return (n, n) distances between candidates and (n,) from errors; 1 is what `demands` count as enough."""
    between, from_errors = [], []
    for sight, enough, enough_errors in zip(SIGHT, demands.classes, demands.errors, strict=True):
        lab, errors = seen(pool, sight), seen(rgb(ERRORS), sight)
        between.append(np.stack([deltaE_ciede2000(lab, one[np.newaxis]) for one in lab]) / enough)
        if enough_errors:
            to_errors = deltaE_ciede2000(lab[:, np.newaxis], errors[np.newaxis])
            from_errors.append(to_errors.min(axis=1) / enough_errors)
    return np.min(between, axis=0), np.min(from_errors, axis=0)


def farthest(between: Array, from_errors: Array, chosen: list[int], n: int) -> list[int]:
    """Add the candidate farthest from everything chosen until there are n."""
    near = np.minimum(from_errors, between[chosen].min(axis=0))
    near[chosen] = -1
    while len(chosen) < n:
        chosen.append(int(near.argmax()))
        near = np.minimum(near, between[chosen[-1]])
        near[chosen[-1]] = -1
    return chosen


def least(between: Array, from_errors: Array, chosen: list[int]) -> Array:
    """Return the distance of each chosen colour from whatever is nearest to it."""
    among = between[np.ix_(chosen, chosen)] + np.diag(np.full(len(chosen), np.inf))
    return np.asarray(np.minimum(among.min(axis=1), from_errors[chosen]))


def exchange(between: Array, from_errors: Array, chosen: list[int]) -> list[int]:
    """Exchange single colours as long as the least distance grows."""
    while True:
        now = least(between, from_errors, chosen)
        for place in np.argsort(now):
            others = chosen[:place] + chosen[place + 1 :]
            near = np.minimum(from_errors, between[others].min(axis=0))
            near[others] = -1
            trial = [*others, int(near.argmax())]
            if least(between, from_errors, trial).min() > now.min() + 1e-9:
                chosen = trial
                break
        else:
            return chosen


def order(between: Array, from_errors: Array, chosen: list[int]) -> list[int]:
    """Sort so that the beginnings of the list are far apart: the best six first, then the farthest in turn."""
    six = max(combinations(chosen, 6), key=lambda s: float(least(between, from_errors, list(s)).min()))
    ordered: list[int] = [max(six, key=lambda one: float(from_errors[one]))]
    while len(ordered) < len(chosen):
        left = [one for one in (six if len(ordered) < len(six) else chosen) if one not in ordered]
        ordered.append(left.pop(int(between[np.ix_(left, ordered)].min(axis=1).argmax())))
    return ordered


def search(tries: int = 2000) -> tuple[str, ...]:
    """Find the list."""
    random = np.random.default_rng(0)
    pool = candidates(TWELVE)
    between, from_errors = distances(pool, TWELVE)
    found: list[int] = []
    best = 0.0
    for _ in range(tries):
        start = farthest(between, from_errors, [int(random.integers(len(pool)))], FIRST)
        trial = exchange(between, from_errors, start)
        value = float(least(between, from_errors, trial).min())
        if value > best:
            best, found = value, trial
    twelve = pool[order(between, from_errors, found)]
    pool = np.concatenate([twelve, candidates(MORE, step=12)])
    between, from_errors = distances(pool, MORE)
    from_errors[from_errors < 1] = 0  # too near for any class
    from_errors[from_errors >= 1] = np.inf
    chosen = farthest(between, from_errors, list(range(FIRST)), MOST)
    return tuple("#{:02X}{:02X}{:02X}".format(*np.rint(255 * pool[one]).astype(int)) for one in chosen)


def measure(listed: tuple[str, ...]) -> str:
    """Return a table of the least distances among the first n classes and from the colours of errors."""
    numbers = [*range(2, FIRST + 1), 20, 50, 104, len(listed)]
    lines = ["| classes | " + " | ".join(f"{s}, classes | {s}, errors" for s in SIGHT) + " |"]
    lines.append("|---" * (1 + 2 * len(SIGHT)) + "|")
    for n in numbers:
        cells = [f"{n}"]
        for sight in SIGHT:
            lab, errors = seen(rgb(listed[:n]), sight), seen(rgb(ERRORS), sight)
            among = deltaE_ciede2000(lab[:, np.newaxis], lab[np.newaxis]) + np.diag(np.full(n, np.inf))
            to_errors = deltaE_ciede2000(lab[:, np.newaxis], errors[np.newaxis])
            cells += [f"{among.min():.1f}", f"{to_errors.min():.1f}"]
        lines.append("| " + " | ".join(cells) + " |")
    twelve = rgb(listed[:FIRST])
    ratios = (f"{contrast(twelve, ground).min():.2f} on {ground}" for ground in (DARK, LIGHT))
    lines.append(f"\nleast contrast of the first {FIRST}: {', '.join(ratios)}")
    return "\n".join(lines)


if __name__ == "__main__":
    what = sys.argv[1] if len(sys.argv) > 1 else ""
    if what == "measure":
        sys.stdout.write(measure(colours.CLASSES) + "\n")
    elif what == "search":
        result = search()
        sys.stdout.write(f"{' '.join(result)}\n{measure(result)}\n")
    else:
        sys.exit(__doc__)
