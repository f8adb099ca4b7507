"""Drawing soft-edged solids into an image and a label: the few shapes that phantoms are made of."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Field = NDArray[np.float32]
Vector = tuple[float, float, float]


class Canvas:
    """An image under construction, with its label and gently warped coordinates.

    Parameters
    ----------
    shape
        Voxels along x (to the right), y (to the front), z (to the head).
    extent
        Field of view along each axis, mm; coordinate 0 is its centre.
    rng
        Draws the warp that keeps organs from being perfect ellipsoids.
    warp
        Deviation of the warp, mm.
    """

    def __init__(
        self, shape: Sequence[int], extent: Vector, rng: np.random.Generator, *, warp: float, fill: float
    ) -> None:
        self.shape = tuple(shape)
        self.spacing = np.asarray(extent, float) / np.asarray(shape)
        axes = [((np.arange(n) + 0.5) / n - 0.5) * e for n, e in zip(shape, extent, strict=True)]
        grid = np.meshgrid(*[a.astype(np.float32) for a in axes], indexing="ij", sparse=True)
        self.x, self.y, self.z = (g + smooth_noise(self.shape, 5, rng) * np.float32(warp) for g in grid)
        self.image: Field = np.full(self.shape, fill, np.float32)
        self.label: NDArray[np.uint8] = np.zeros(self.shape, np.uint8)

    def ellipsoid(self, centre: Vector, radii: Vector, turn: float = 0.0) -> Field:
        """Return the approximate signed distance (mm, negative inside) to an ellipsoid turned about z (radians)."""
        x, y, z = self.x - centre[0], self.y - centre[1], self.z - centre[2]
        if turn:
            c, s = np.float32(np.cos(turn)), np.float32(np.sin(turn))
            x, y = c * x + s * y, c * y - s * x
        scaled = np.sqrt((x / radii[0]) ** 2 + (y / radii[1]) ** 2 + (z / radii[2]) ** 2)
        return np.asarray((scaled - 1) * np.float32(min(radii)), np.float32)

    def column(self, centre: tuple[float, float], radii: tuple[float, float]) -> Field:
        """Return the approximate signed distance to an elliptic cylinder along z."""
        scaled = np.sqrt(((self.x - centre[0]) / radii[0]) ** 2 + ((self.y - centre[1]) / radii[1]) ** 2)
        return np.asarray((scaled - 1) * np.float32(min(radii)), np.float32)

    def tube(self, points: NDArray[np.floating], radius: float) -> Field:
        """Return the signed distance to a tube along a polyline (N, 3), mm."""
        found = np.full(self.shape, np.inf, np.float32)
        for start, end in pairwise(points):
            box = self._box(np.minimum(start, end), np.maximum(start, end), radius + 15)
            step = end - start
            x, y, z = self.x[box] - start[0], self.y[box] - start[1], self.z[box] - start[2]
            along = np.clip((x * step[0] + y * step[1] + z * step[2]) / max(float(step @ step), 1e-6), 0, 1)
            square = (x - along * step[0]) ** 2 + (y - along * step[1]) ** 2 + (z - along * step[2]) ** 2
            found[box] = np.minimum(found[box], np.sqrt(square))
        return np.asarray(found - np.float32(radius), np.float32)

    def _box(self, low: NDArray[np.floating], high: NDArray[np.floating], margin: float) -> tuple[slice, ...]:
        half = self.spacing * self.shape / 2
        first = np.floor((low - margin + half) / self.spacing).astype(int)
        last = np.ceil((high + margin + half) / self.spacing).astype(int)
        return tuple(
            slice(max(a, 0), max(min(b, n), 0)) for a, b, n in zip(first, last, self.shape, strict=True)
        )

    def paint(
        self, distance: Field, value: float | Field, label: int | None = None, within: Field | None = None
    ) -> None:
        """Paint where the distance is negative; the edge mixes over one voxel, as partial volume does.

        `label` None leaves the label as it is; 0 clears it.
        """
        outer = distance if within is None else np.maximum(distance, within)
        share = np.clip(np.float32(0.5) - outer / np.float32(self.spacing.mean()), 0, 1)
        self.image += share * (value - self.image)
        if label is not None:
            self.label[share > 0.5] = label


def smooth_noise(shape: Sequence[int], cells: int, rng: np.random.Generator) -> Field:
    """Return a smooth random field of about unit deviation with `cells` bumps along each axis."""
    coarse = rng.standard_normal((cells + 2,) * 3).astype(np.float32)
    field: Field = coarse
    for axis, size in enumerate(shape):
        places = np.linspace(0.5, cells + 0.5, size)
        field = _along(field, places, axis)
    return np.asarray(field / max(float(field.std()), 1e-6), np.float32)


def _along(field: Field, places: NDArray[np.float64], axis: int) -> Field:
    """Interpolate by quadratic B-splines along one axis: smooth, and separable so that it is fast."""
    weights = np.zeros((len(places), field.shape[axis]), np.float32)
    for shift in (-1, 0, 1):
        nearest = np.clip(np.round(places).astype(int) + shift, 0, field.shape[axis] - 1)
        t = np.abs(places - (np.round(places) + shift))
        spline = np.where(t < 0.5, 0.75 - t**2, 0.5 * (1.5 - t) ** 2)
        np.add.at(weights, (np.arange(len(places)), nearest), spline.astype(np.float32))
    return np.moveaxis(np.tensordot(weights, field, axes=(1, axis)), 0, axis)


def curve(knots: Sequence[Any] | NDArray[Any], points: int = 14) -> NDArray[np.float64]:
    """Return a smooth polyline (points, 3) through a few knots."""
    places = np.linspace(0, len(knots) - 1, points)
    array = np.asarray(knots, float)
    smooth = ndimage.map_coordinates
    parts = [smooth(array[:, k], [places], order=3, mode="nearest") for k in range(3)]
    return np.stack(parts, axis=1)


def union(*distances: Field) -> Field:
    """Return the signed distance to a union of solids."""
    return np.asarray(np.minimum.reduce(distances), np.float32)
