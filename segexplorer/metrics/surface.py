"""Surface distances per case and class, in mm, from one pass per class.

The surface of a mask is its border voxels: those with a neighbour across a face that is off the mask or off the
image. Every border voxel has a distance, centre to centre, to the other mask's nearest border voxel; all metrics
are statistics of these two lists. Packages of the same metric names differ in definition (HD95 by some 5 %, ASSD
by some 17 % on one pair of ellipsoids), so each definition has its own name here. Where a class is missed or
spurious there is no distance: those metrics are NaN, the counts beside a mean say so, and the penalised ones take
the diagonal of the image instead.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.label_scheme import EXCLUSIVE, LabelScheme
from segexplorer.metrics.base import Better, Metric, NotScored, registry
from segexplorer.metrics.overlap import SLAB, in_memory_order

if TYPE_CHECKING:
    from segexplorer.metrics.structure import Structure

Distances = NDArray[np.float64]
Places = NDArray[np.int64]
"""Voxels of a volume by their number in C order, ascending."""

_PLANES = 16
"""Planes of which coordinates are made at a time."""
DENSE_SHARE = 1 / 8
"""Above this share of border voxels in the box (a prediction that is all noise) the distance transform of the
whole box is quicker than a tree of the border voxels."""


@dataclass(frozen=True)
class Surfaces:
    """The two lists of distances, mm: border of the prediction to that of the truth, and back."""

    to_truth: Distances
    to_prediction: Distances

    @property
    def pooled(self) -> Distances:
        """Both lists as one."""
        return np.concatenate([self.to_truth, self.to_prediction])


def _p95(distances: Distances) -> float:
    return float(np.percentile(distances, 95))


def hd(s: Surfaces) -> float:
    """Hausdorff distance: the largest distance of either list."""
    return float(max(s.to_truth.max(), s.to_prediction.max()))


def hd95(s: Surfaces) -> float:
    """Larger of the two directed 95th percentiles, as in MONAI."""
    return max(_p95(s.to_truth), _p95(s.to_prediction))


def hd95_pooled(s: Surfaces) -> float:
    """95th percentile of both lists together, as in medpy."""
    return _p95(s.pooled)


def hd95_mean(s: Surfaces) -> float:
    """Mean of the two directed 95th percentiles (Chen 2023)."""
    return (_p95(s.to_truth) + _p95(s.to_prediction)) / 2


def asd(s: Surfaces) -> float:
    """Mean distance from the prediction's surface to the truth's; blind to what the prediction leaves out."""
    return float(s.to_truth.mean())


def assd(s: Surfaces) -> float:
    """Mean of both lists together, as in MONAI's symmetric average surface distance."""
    return float(s.pooled.mean())


def assd_mean(s: Surfaces) -> float:
    """Mean of the two directed means; what Chen 2023 calls ASD."""
    return float(s.to_truth.mean() + s.to_prediction.mean()) / 2


@dataclass(frozen=True, kw_only=True)
class SurfaceMetric(Metric):
    """A metric of surface distances; a penalised one is the image's diagonal where the class was not found."""

    function: Callable[[Surfaces], float]
    penalised: bool = False
    better: Better = "lower"
    best: float = 0.0
    highest: float = math.inf
    unit: str = "mm"
    missed: NotScored = math.nan
    spurious: NotScored = math.nan
    absent: NotScored = math.nan

    def __post_init__(self) -> None:
        if self.penalised:
            object.__setattr__(self, "missed", "diagonal")
            object.__setattr__(self, "spurious", "diagonal")

    def value(self, structure: Structure) -> float:
        """Return what the function gives; NaN where the class is not in both volumes."""
        return math.nan if structure.surfaces is None else self.function(structure.surfaces)


_FOUND = "Mean over structures that are found; read it with the numbers missed and spurious."
_PENALTY = "The image's diagonal where the structure is missed or spurious, so no mean gains by a miss."
_HUTTENLOCHER = "Huttenlocher et al. 1993, doi:10.1109/34.232073"
_HEIMANN = "Heimann et al. 2009, doi:10.1109/TMI.2009.2013851"
_P95_MAX = r"\max\left(P_{95}\,d(P, T),\; P_{95}\,d(T, P)\right)"
_MEAN_POOLED = r"\frac{\sum d(P, T) + \sum d(T, P)}{|\partial P| + |\partial T|}"

for _metric in (
    SurfaceMetric(
        name="hd95",
        display_name="HD95",
        definition="max(P95 d(P, T), P95 d(T, P))",
        formula=_P95_MAX,
        function=hd95,
        note=f"The larger of the directed 95th percentiles, as in MONAI. {_FOUND}",
        reference=_HUTTENLOCHER,
        tasks={
            "organs": "The largest deviations of the boundary without its stray voxels, in mm.",
            "vessels": "How far the prediction strays, in mm.",
        },
        pitfalls=("empty references", "resolution"),
    ),
    SurfaceMetric(
        name="hd95_penalised",
        display_name="HD95, penalised",
        short_name="HD95 pen.",
        definition="HD95, or the diagonal",
        formula=_P95_MAX,
        function=hd95,
        penalised=True,
        note=_PENALTY,
        reference=_HUTTENLOCHER,
        tasks={"organs": "The same where structures may be missed: a miss cannot improve its mean."},
        pitfalls=("resolution",),
    ),
    SurfaceMetric(
        name="assd",
        display_name="ASSD",
        definition="mean of d(P, T) and d(T, P) together",
        formula=_MEAN_POOLED,
        function=assd,
        note=f"Every border voxel weighs the same, as in MONAI's symmetric form. {_FOUND}",
        reference=_HEIMANN,
        tasks={"organs": "The mean deviation of the boundary, which no single place decides."},
        pitfalls=("empty references", "resolution"),
    ),
    SurfaceMetric(
        name="assd_penalised",
        display_name="ASSD, penalised",
        short_name="ASSD pen.",
        definition="ASSD, or the diagonal",
        formula=_MEAN_POOLED,
        function=assd,
        penalised=True,
        note=_PENALTY,
        reference=_HEIMANN,
        pitfalls=("resolution",),
    ),
    SurfaceMetric(
        name="hd",
        display_name="Hausdorff distance",
        short_name="HD",
        definition="max(max d(P, T), max d(T, P))",
        formula=r"\max\left(\max d(P, T),\; \max d(T, P)\right)",
        function=hd,
        note=f"One stray voxel decides it. {_FOUND}",
        reference=_HUTTENLOCHER,
        papers=("Perera 2025 (HD, unit not stated)",),
        pitfalls=("outliers", "empty references", "resolution"),
    ),
    SurfaceMetric(
        name="hd95_pooled",
        display_name="HD95, pooled",
        short_name="HD95 pooled",
        definition="P95 of d(P, T) and d(T, P) together",
        formula=r"P_{95}\left(d(P, T) \cup d(T, P)\right)",
        function=hd95_pooled,
        note=f"The percentile of both lists as one, as in medpy. {_FOUND}",
        reference=_HUTTENLOCHER,
        pitfalls=("empty references", "resolution"),
    ),
    SurfaceMetric(
        name="hd95_mean",
        display_name="HD95, mean of directed",
        short_name="HD95 mean",
        definition="(P95 d(P, T) + P95 d(T, P)) / 2",
        formula=r"\tfrac12\left(P_{95}\,d(P, T) + P_{95}\,d(T, P)\right)",
        function=hd95_mean,
        note=f"What Chen 2023 calls HD95; never above HD95. {_FOUND}",
        reference="Chen 2023, eq. 13",
        papers=("Chen 2023 (eq. 13, HD95)",),
        pitfalls=("empty references", "resolution"),
    ),
    SurfaceMetric(
        name="asd",
        display_name="ASD, prediction to truth",
        short_name="ASD",
        definition="mean d(P, T)",
        formula=r"\operatorname{mean} d(P, T)",
        function=asd,
        note=f"One-sided: blind to what the prediction leaves out. {_FOUND}",
        reference=_HEIMANN,
        papers=("Perera 2025 (ASD, form not stated)",),
        pitfalls=("empty references", "resolution"),
    ),
    SurfaceMetric(
        name="assd_mean",
        display_name="ASSD, mean of directed",
        short_name="ASSD mean",
        definition="(mean d(P, T) + mean d(T, P)) / 2",
        formula=r"\tfrac12\left(\operatorname{mean} d(P, T) + \operatorname{mean} d(T, P)\right)",
        function=assd_mean,
        note=f"What Chen 2023 calls ASD: both surfaces weigh the same, whatever their sizes. {_FOUND}",
        reference="Chen 2023, eq. 12",
        papers=("Chen 2023 (eq. 12, ASD)",),
        pitfalls=("empty references", "resolution"),
    ),
):
    registry.register(_metric)

SURFACE_METRICS: Mapping[str, SurfaceMetric] = registry.of(SurfaceMetric)
"""Every metric of surface distances by name, those of plug-ins included."""


def image_diagonal(shape: Sequence[int], spacing: Sequence[float]) -> float:
    """Return the length of the image's diagonal from corner to corner, mm."""
    return float(np.linalg.norm(np.asarray(shape, float) * np.asarray(spacing, float)))


def surface_distances(
    prediction: NDArray[np.bool_], truth: NDArray[np.bool_], spacing: Sequence[float]
) -> Surfaces:
    """Return the distances between the surfaces of two masks that both have voxels, mm."""
    one, other = (class_borders(mask, 1)[0] for mask in (prediction, truth))
    return border_distances(one, other, prediction.shape, spacing)


def border_distances(
    prediction: Places, truth: Places, shape: Sequence[int], spacing: Sequence[float]
) -> Surfaces:
    """Return the distances between two sets of border voxels, both of at least one, in a grid of this shape, mm."""
    size = math.prod(shape)
    if (prediction.size + truth.size) / size > DENSE_SHARE and size > 2**15:
        one, other = (_marked(places, shape) for places in (prediction, truth))
        return Surfaces(_by_transform(one, other, spacing), _by_transform(other, one, spacing))
    return Surfaces(_nearest(prediction, truth, shape, spacing), _nearest(truth, prediction, shape, spacing))


def class_borders(labels: NDArray[Any], n_classes: int, scheme: LabelScheme = EXCLUSIVE) -> list[Places]:
    """Return the border voxels of each of the classes 1, 2, ...: those with a face neighbour of another value.

    Voxels on a face of the volume are border voxels, too. One pass over the volume finds those of all classes,
    unless they overlap.
    """
    if scheme.overlapping:
        masks = (scheme.mask(labels, c).view(np.uint8) for c in range(1, n_classes + 1))
        return [class_borders(mask, 1)[0] for mask in masks]
    volume = in_memory_order(labels)
    slice_size = volume[:1].size
    thickness = max(1, SLAB // max(slice_size, 1))
    places, values = [np.zeros(0, np.int64)], [np.zeros(0, labels.dtype)]
    for start in range(0, len(volume), thickness):
        slab = volume[start : start + thickness]
        here = np.flatnonzero(_differs_from_neighbours(volume, start, slab) & (slab != 0))
        values.append(slab.reshape(-1)[here])
        places.append(here + start * slice_size)
    found, kinds = np.concatenate(places), np.concatenate(values)
    if volume is not labels and labels.ndim > 1:
        indices = np.unravel_index(found, volume.shape)
        found = np.ravel_multi_index(indices[::-1], labels.shape)
    return [np.sort(found[kinds == index]) for index in range(1, n_classes + 1)]


def _differs_from_neighbours(volume: NDArray[Any], start: int, slab: NDArray[Any]) -> NDArray[np.bool_]:
    """Return where a slab of a volume has a face neighbour of another value, or none on some side."""
    edge = np.zeros(slab.shape, bool)
    for axis in range(slab.ndim):
        marked, values = np.moveaxis(edge, axis, 0), np.moveaxis(slab, axis, 0)
        differs = values[1:] != values[:-1]
        marked[1:] |= differs
        marked[:-1] |= differs
        if axis > 0:
            marked[0] = marked[-1] = True
    end = start + len(slab)
    edge[0] |= slab[0] != volume[start - 1] if start else True
    edge[-1] |= slab[-1] != volume[end] if end < len(volume) else True
    return edge


def border(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the voxels of a mask that have a face neighbour off the mask or off the image."""
    return _marked(class_borders(mask, 1)[0], mask.shape)


def _marked(places: Places, shape: Sequence[int]) -> NDArray[np.bool_]:
    mask = np.zeros(shape, bool)
    mask.reshape(-1)[places] = True
    return mask


def nearest_distances(
    points: NDArray[np.bool_], others: NDArray[np.bool_], spacing: Sequence[float], upper: float = np.inf
) -> Distances:
    """Return the distance of every marked point of a grid to the nearest of others, mm, in the order of the grid.

    Parameters
    ----------
    points, others
        Marked voxels of one grid; `others` has at least one.
    upper
        Distances from here on may be infinite, which saves time.
    """
    return _nearest(np.flatnonzero(points), np.flatnonzero(others), points.shape, spacing, upper)


def _nearest(
    points: Places, others: Places, shape: Sequence[int], spacing: Sequence[float], upper: float = np.inf
) -> Distances:
    from scipy.spatial import KDTree

    distances: Distances = np.zeros(points.size)
    # a point of both is at 0 mm, and good predictions share most of theirs
    away = others[np.minimum(np.searchsorted(others, points), others.size - 1)] != points
    if away.any():
        # points on a grid fill space evenly, so the sliding-midpoint tree is as good as a balanced one and built
        # sooner
        tree = KDTree(
            _millimetres(others, shape, spacing), leafsize=32, balanced_tree=False, compact_nodes=False
        )
        apart = _millimetres(points[away], shape, spacing)
        distances[away] = tree.query(apart, distance_upper_bound=upper)[0]
    return distances


def _millimetres(places: Places, shape: Sequence[int], spacing: Sequence[float]) -> Distances:
    indices = np.unravel_index(places, tuple(shape))
    return np.stack([index * size for index, size in zip(indices, map(float, spacing), strict=True)], axis=1)


def _by_transform(here: NDArray[np.bool_], other: NDArray[np.bool_], spacing: Sequence[float]) -> Distances:
    """Return distances from the nearest voxels alone: scipy's map of distances takes four times their memory."""
    from scipy.ndimage import distance_transform_edt

    nearest = distance_transform_edt(~other, sampling=spacing, return_distances=False, return_indices=True)
    distances: Distances = np.zeros(np.count_nonzero(here))
    done = 0
    for start in range(0, len(here), _PLANES):
        part = slice(start, start + _PLANES)
        places = np.nonzero(here[part])
        own = distances[done : done + len(places[0])]
        for axis, (place, size) in enumerate(zip(places, spacing, strict=True)):
            apart = nearest[axis][part][places] - place - (start if axis == 0 else 0)
            own += (apart * float(size)) ** 2
        done += len(own)
    return np.sqrt(distances, out=distances)
