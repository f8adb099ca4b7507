"""What the images of training looked like, kept in checkpoints so that prediction notices images of another kind.

Kept are spacings and, for each channel, quantiles of the scaled intensities: numbers from which no image can be
made.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segexplorer.data.geometry import canonical_grid, spacing
from segexplorer.data.transforms.preprocessing import Prepared

QUANTILES = (1, 10, 25, 50, 75, 90, 99)
_MEDIAN = QUANTILES.index(50)
CASES = 8
"""Training cases that are enough to know what images look like."""
_MOST_CHANNELS = 6
_SAMPLES = 100_000
_FAR = 4.0
"""How many times the training cases' own spread the intensities of an image may differ on average."""
_LEAST_SPREAD = 0.05
"""Smallest spread that counts, of the range between the outer quantiles: a few cases may agree by chance."""
_CLEARLY = 0.5
"""An order of channels is called another one where it fits at least so many times better."""
_TIMES = 1.5
"""How many times the spacing may be beyond that of any training case."""


@dataclass(frozen=True)
class SeenImages:
    """Spacings and intensities of training images.

    Attributes
    ----------
    finest, coarsest
        Smallest and largest spacing along x, y, z, mm, of any case that was looked at.
    middles, spreads
        (channels, quantiles): mean of the quantiles of scaled intensities over cases, and their standard deviation.
    """

    finest: tuple[float, ...]
    coarsest: tuple[float, ...]
    middles: tuple[tuple[float, ...], ...]
    spreads: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, plain: Any) -> SeenImages | None:
        """Read back what `plain` gave; None for a checkpoint without, or with something else."""
        try:
            finest, coarsest = (tuple(float(s) for s in plain[key]) for key in ("finest", "coarsest"))
            middles, spreads = (
                tuple(tuple(float(q) for q in channel) for channel in plain[key])
                for key in ("middles", "spreads")
            )
        except (KeyError, TypeError, ValueError):
            return None
        numbers = [*finest, *coarsest, *itertools.chain(*middles, *spreads)]
        shapes = {len(channel) for channel in (*middles, *spreads)}
        if (
            len(finest) != 3
            or len(coarsest) != 3
            or len(middles) != len(spreads)
            or shapes != {len(QUANTILES)}
        ):
            return None
        return cls(finest, coarsest, middles, spreads) if all(map(math.isfinite, numbers)) else None

    def plain(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "finest": list(self.finest),
            "coarsest": list(self.coarsest),
            "middles": [list(channel) for channel in self.middles],
            "spreads": [list(channel) for channel in self.spreads],
        }

    def concerns(self, own_spacing: Sequence[float] | None, image: NDArray[np.float32]) -> list[str]:
        """Return what is unlike training in a case, as sentences.

        Parameters
        ----------
        own_spacing
            Of the case before it was resampled, along x, y, z, mm; None where every case is resized.
        image
            (C, x, y, z), prepared as for training.
        """
        said = [] if own_spacing is None else self._spacing_concerns(own_spacing)
        channels = len(self.middles)
        if len(image) != channels:
            return said
        own = _quantiles(image)
        distances = np.array([[self._distance(quantiles, c) for c in range(channels)] for quantiles in own])
        given = np.diagonal(distances)
        if 1 < channels <= _MOST_CHANNELS and given.max() > 1:
            orders = itertools.permutations(range(channels))
            fitting = min(orders, key=lambda order: sum(distances[i, c] for i, c in enumerate(order)))
            total = sum(distances[i, c] for i, c in enumerate(fitting))
            if total < _CLEARLY * given.sum():
                changed = [(i, c) for i, c in enumerate(fitting) if i != c]
                looks = ", ".join(f"image {i + 1} looks like image {c + 1} of training" for i, c in changed)
                return [*said, f"The images seem to be in another order than in training: {looks}."]
        for channel in np.flatnonzero(given > _FAR):
            which = f"image {channel + 1}" if channels > 1 else "the image"
            said.append(
                f"The intensities of {which} are unlike those of training (median after scaling "
                f"{own[channel][_MEDIAN]:.2g}, in training {self.middles[channel][_MEDIAN]:.2g}). "
                "Is it another modality or sequence?"
            )
        return said

    def _spacing_concerns(self, own: Sequence[float]) -> list[str]:
        pairs = list(zip(own, self.finest, self.coarsest, strict=True))
        if all(low / _TIMES <= size <= high * _TIMES for size, low, high in pairs):
            return []
        numbers = " × ".join(f"{size:.3g}" for size in own)
        seen = " × ".join(
            f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}" for _, low, high in pairs
        )
        return [f"The voxels of {numbers} mm are unlike those of training ({seen} mm)."]

    def _distance(self, quantiles: NDArray[np.float64], channel: int) -> float:
        """Return how many spreads of the training cases the quantiles are away on average."""
        middle, spread = np.array(self.middles[channel]), np.array(self.spreads[channel])
        least = _LEAST_SPREAD * max(middle[-1] - middle[0], 1e-6)
        return float(np.mean(np.abs(quantiles - middle) / np.maximum(spread, least)))


def look_at_training(prepared: Iterable[Prepared]) -> SeenImages | None:
    """Return what prepared training cases look like; None where there is none."""
    sizes, quantiles = [], []
    for case in prepared:
        sizes.append(own_spacing(case))
        quantiles.append(_quantiles(case.image))
    if not sizes:
        return None
    values = np.array(quantiles)
    return SeenImages(
        tuple(np.min(sizes, axis=0).tolist()),
        tuple(np.max(sizes, axis=0).tolist()),
        tuple(map(tuple, values.mean(axis=0).tolist())),
        tuple(map(tuple, values.std(axis=0).tolist())),
    )


def own_spacing(case: Prepared) -> tuple[float, float, float]:
    """Return a case's spacing along x, y, z before it was resampled, mm."""
    return spacing(canonical_grid(case.grid.shape, case.grid.affine).affine)


def _quantiles(image: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return (C, quantiles) of an even sample of the voxels of an image (C, x, y, z)."""
    step = max(1, round((image[0].size / _SAMPLES) ** (1 / 3)))
    sample = image[:, ::step, ::step, ::step].reshape(len(image), -1)
    return np.asarray(np.percentile(sample, QUANTILES, axis=1).T, np.float64)
