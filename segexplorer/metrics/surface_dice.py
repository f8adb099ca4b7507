"""Normalised surface Dice (NSD): the share of both surfaces that is within a tolerance of the other one.

The surface consists of elements, as in the public `surface-distance` code of Nikolov et al. 2021. An element sits
where 2 x 2 x 2 neighbouring voxels (2 x 2 pixels) meet that are not all alike. Its area is that of marching cubes
within these eight voxels, so a slanting surface is not counted as a staircase, and anisotropic voxels weigh by
their size. `nsd_voxels` counts border voxels instead, as MONAI does by default.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from segexplorer.metrics.base import StructureMetric, registry
from segexplorer.metrics.surface import nearest_distances

if TYPE_CHECKING:
    from segexplorer.metrics.structure import Structure

ROUNDING = 1 + 1e-9
"""A distance of three voxels of 0.1 mm is within a tolerance of 0.3 mm, whatever the last binary digit says."""


@dataclass(frozen=True)
class SurfaceAgreement:
    """Areas of both surfaces together, mm^2 (lengths in 2D, mm): in all, and within the tolerance of the other."""

    area: float
    within: float


def surface_agreement(
    prediction: NDArray[np.bool_], truth: NDArray[np.bool_], spacing: Sequence[float], tolerance: float
) -> SurfaceAgreement:
    """Measure how much of the surfaces of two masks agrees.

    Parameters
    ----------
    prediction, truth
        Masks of one shape with 1 to 3 axes; beyond their edges is background.
    spacing
        Voxel size, mm.
    tolerance
        Largest distance that counts as agreement, mm.
    """
    areas = element_areas(tuple(spacing))
    codes = [element_codes(mask) for mask in (prediction, truth)]
    elements = [(code != 0) & (code != len(areas) - 1) for code in codes]
    area = within = 0.0
    for here, there in ((0, 1), (1, 0)):
        own = areas[codes[here][elements[here]]]
        area += float(own.sum())
        if own.size and elements[there].any():
            upper = tolerance * (1 + 1e-6) + 1e-9
            distances = nearest_distances(elements[here], elements[there], spacing, upper)
            within += float(own[distances <= tolerance * ROUNDING].sum())
    return SurfaceAgreement(area, within)


def element_codes(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return which of the voxels that meet at every corner are in a mask, a bit for each, the first voxel highest.

    One corner more than there are voxels along each axis.
    """
    padded = np.pad(mask, 1).view(np.uint8)
    codes = np.zeros([size - 1 for size in padded.shape], np.uint8)
    for corner in product((0, 1), repeat=mask.ndim):
        codes <<= 1
        codes |= padded[tuple(slice(start, start + n) for start, n in zip(corner, codes.shape, strict=True))]
    return codes


@lru_cache(maxsize=16)
def element_areas(spacing: tuple[float, ...]) -> NDArray[np.float64]:
    """Return the area of the surface element for every code, mm^2; the length in 2D, 1 in a row of voxels.

    In 3D the element separates whichever are fewer: the voxels in the mask or those off it. This settles the
    ambiguous cases of marching cubes (Lorensen and Cline 1987) as Nikolov et al. 2021 do.
    """
    if len(spacing) == 1:
        return np.array([0.0, 1.0, 1.0, 0.0])
    if len(spacing) == 2:
        first, second = spacing
        corner = math.hypot(first, second) / 2
        straight = {0b0011: second, 0b1100: second, 0b0101: first, 0b1010: first}
        opposite = {0b0110: 2 * corner, 0b1001: 2 * corner}
        return np.array([0.0, *({**straight, **opposite}.get(code, corner) for code in range(1, 15)), 0.0])
    from skimage.measure import marching_cubes, mesh_surface_area

    areas = np.zeros(256)
    for code in range(1, 255):
        inside = np.array([code >> bit & 1 for bit in range(7, -1, -1)], float).reshape(2, 2, 2)
        fewer = inside if inside.sum() <= 4 else 1 - inside
        vertices, faces, *_ = marching_cubes(fewer, 0.5, spacing=spacing, method="lorensen")
        areas[code] = mesh_surface_area(vertices, faces)
    return areas


def nsd(structure: Structure) -> float:
    """Share of the area of both surfaces within the tolerance."""
    agreement = structure.surface_agreement
    return agreement.within / agreement.area if agreement.area else math.nan


def nsd_voxels(structure: Structure) -> float:
    """Share of the border voxels of both masks within the tolerance."""
    if structure.surfaces is None:
        return math.nan
    return float(np.mean(structure.surfaces.pooled <= structure.options.tolerance(structure.name) * ROUNDING))


_NIKOLOV = "Nikolov et al. 2021, doi:10.2196/26151"

for _metric in (
    StructureMetric(
        name="nsd",
        display_name="Surface Dice (NSD)",
        short_name="NSD",
        definition="area of both surfaces within the tolerance / area of both",
        formula=r"\frac{|S_P \cap B_T^{(\tau)}| + |S_T \cap B_P^{(\tau)}|}{|S_P| + |S_T|}",
        missed=0.0,
        spurious=0.0,
        absent=math.nan,
        function=nsd,
        note="The tolerance is 1 mm unless the options say otherwise; it should be what experts differ by.",
        reference=_NIKOLOV,
        tasks={
            "organs": "Share of the boundary that needs no correction, with a tolerance that experts agree on.",
            "vessels": "Boundaries of thin structures, where a shift of one voxel already halves the overlap.",
        },
        pitfalls=("empty references", "resolution"),
    ),
    StructureMetric(
        name="nsd_voxels",
        display_name="Surface Dice of border voxels",
        short_name="NSD vox.",
        definition="border voxels within the tolerance / all border voxels",
        formula=r"\frac{|d(P, T) \le \tau| + |d(T, P) \le \tau|}{|\partial P| + |\partial T|}",
        missed=0.0,
        spurious=0.0,
        absent=math.nan,
        function=nsd_voxels,
        note="As MONAI computes it by default; every border voxel weighs the same.",
        reference=_NIKOLOV,
        pitfalls=("empty references", "resolution"),
    ),
):
    registry.register(replace(_metric, default=False))
