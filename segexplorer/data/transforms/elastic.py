"""Elastic deformation: a coarse grid of points is pushed about at random, and tissue follows it smoothly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from segexplorer.core.fields import parameter
from segexplorer.core.spec import Spec

_DEGREE = 3
_WITHOUT_FOLDS = 0.4
"""Displacement per distance of the points below which a cubic B-spline field folds nowhere in three dimensions."""


class Elastic(Spec):
    """How far tissue is pushed about, and how smoothly.

    The free-form deformation of Rueckert et al. 1999: cubic B-splines on a regular grid of control points, here
    with random displacements. Below 0.4 of the points' distance it folds nowhere (Choi and Lee 2000).
    """

    display_name = "Elastic deformation"
    probability: float = parameter(
        0.0, title="Chance", description="Share of the patches that vary.", ge=0, le=1
    )
    displacement: float = parameter(
        5.0,
        title="Displacement",
        description="Largest displacement along each axis, in voxels of the finest axis; "
        "thick slices move by fewer.",
        unit="voxels",
        ge=0,
    )
    distance: float = parameter(
        16.0,
        title="Distance of points",
        description="Distance of the displaced points, in voxels of the finest axis; larger is smoother.",
        unit="voxels",
        ge=2,
    )

    @model_validator(mode="after")
    def _folds_nowhere(self) -> Elastic:
        if self.displacement > _WITHOUT_FOLDS * self.distance:
            raise ValueError(
                f"displacement must be at most {_WITHOUT_FOLDS} of the distance of points, or tissue would fold"
            )
        return self

    def memory(self, shape: Sequence[int], spacing: Sequence[float]) -> int:
        """Return the bytes that deforming one patch takes: its control points, and a displacement per voxel.

        Axes with thick voxels have points at a shorter distance in voxels, so that a spacing far from cubic takes
        many times the memory of the patch.
        """
        thick = [s for s, n in zip(spacing, shape, strict=True) if n > 1]
        if not self.probability or not thick:
            return 0
        finest = min(thick)
        counts = [_points(n, self.distance * finest / s) for n, s in zip(shape, spacing, strict=True)]
        weights = sum(n * c for n, c in zip(shape, counts, strict=True))
        # the sum over the points goes axis by axis; its first result is the largest one besides the field
        between = 3 * max(shape[0] * counts[1] * counts[2], shape[0] * shape[1] * counts[2])
        return 8 * (2 * 3 * math.prod(counts) + between + 3 * math.prod(shape) + weights)

    def draw(
        self, rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]
    ) -> DrawnElastic | None:
        """Return a random deformation of patches of a shape (voxels) and spacing (mm), or None.

        With a chance of 0 nothing is drawn. An axis of one voxel has no displacement, so that slices stay in plane.
        """
        if not self.probability:
            return None
        varies = rng.random() < self.probability
        thick = np.asarray(shape) > 1
        if not thick.any():
            return None
        finest = np.asarray(spacing, float)[thick].min()
        distances = self.distance * finest / np.asarray(spacing, float)  # in voxels of each axis
        counts = [_points(n, d) for n, d in zip(shape, distances, strict=True)]
        pushes = rng.uniform(-1, 1, (3, *counts)) * (self.displacement / self.distance)
        pushes *= (distances * thick)[:, np.newaxis, np.newaxis, np.newaxis]
        a, b, c = distances.tolist()
        return DrawnElastic(pushes, (a, b, c)) if varies else None


@dataclass(frozen=True)
class DrawnElastic:
    """One random deformation.

    Attributes
    ----------
    pushes
        (3, i, j, k) displacements of the control points, voxels.
    distances
        Distance of the points along each axis, voxels.
    """

    pushes: NDArray[np.float64]
    distances: tuple[float, float, float]

    def field(self, shape: Sequence[int]) -> NDArray[np.float64]:
        """Return the displacement (3, x, y, z) of every voxel of a patch, voxels."""
        x, y, z = (_weights(n, d) for n, d in zip(shape, self.distances, strict=True))
        return np.asarray(np.einsum("aijk,xi,yj,zk->axyz", self.pushes, x, y, z, optimize=True))


def _points(voxels: int, distance: float) -> int:
    """Return how many control points a patch needs along an axis: one before it and two behind."""
    return 1 if voxels == 1 else math.floor((voxels - 1) / distance) + _DEGREE + 1


def _weights(voxels: int, distance: float) -> NDArray[Any]:
    """Return the weight (voxels, points) of every control point at every voxel; they add to 1."""
    from scipy.interpolate import BSpline  # a third of a second that reading an experiment need not wait for

    if voxels == 1:
        return np.ones((1, 1))
    knots = np.arange(_points(voxels, distance) + _DEGREE + 1, dtype=float) - _DEGREE
    places = np.arange(voxels) / distance
    return np.asarray(BSpline.design_matrix(places, knots, _DEGREE).toarray())
