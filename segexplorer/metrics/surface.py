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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from segexplorer.metrics.base import Better, Metric, NotScored, registry
from segexplorer.metrics.overlap import SLAB, in_memory_order

if TYPE_CHECKING:
    from segexplorer.metrics.structure import Structure

T = TypeVar("T", bound=np.generic)
Distances = NDArray[np.float64]
Box = tuple[slice, ...]
Places = NDArray[np.int64]
"""Voxels of a volume by their number in C order, ascending."""

DENSE_SHARE = 1 / 8
"""Above this share of border voxels in the box (a prediction that is all noise) a distance transform of the whole
box is quicker than a tree of the border voxels, which would take 40 bytes for each."""
_AT_ONCE = 2**18
"""Voxels whose coordinates are in memory at a time."""
_COLUMN_VOXELS = 2**20
"""Voxels of the columns in which the distance transform looks across the planes at a time, 20 bytes each."""
_SMALL_BOX = 2**21
"""Up to so many voxels scipy's distance transform of all axes is quicker, with its 13 bytes for each."""
_FEW = 2**22
"""Up to so many distances, statistics may make copies of them."""


@dataclass(frozen=True)
class Surfaces:
    """The two lists of distances, mm: border of the prediction to that of the truth, and back."""

    to_truth: Distances
    to_prediction: Distances

    @property
    def size(self) -> int:
        """Number of distances in both lists."""
        return self.to_truth.size + self.to_prediction.size

    @property
    def pooled(self) -> Distances:
        """Both lists as one, a copy."""
        return np.concatenate([self.to_truth, self.to_prediction])


def _p95(*lists: Distances) -> float:
    """Return the 95th percentile of lists together, as numpy interpolates it; long ones are not copied."""
    size = sum(distances.size for distances in lists)
    if size <= _FEW:
        return float(np.percentile(np.concatenate(lists), 95))
    rank, between = divmod(0.95 * (size - 1), 1)
    low = _ranked(lists, int(rank))
    if not between or sum(np.count_nonzero(part <= low) for part in _pieces(lists)) > rank + 1:
        return low
    above = min(float(part[part > low].min(initial=math.inf)) for part in _pieces(lists))
    return above - (above - low) * (1 - between) if between >= 0.5 else low + (above - low) * between


def _ranked(lists: Sequence[Distances], rank: int) -> float:
    """Return the value of a rank, counted from 0 at the least, by counting 16 bits after the other.

    Numbers that are not negative are in the order of their bits.
    """
    found = np.uint64(0)
    for shift in (48, 32, 16, 0):
        counts = np.zeros(2**16, np.int64)
        for part in _pieces(lists):
            bits = part.view(np.uint64) >> np.uint64(shift)
            same = bits[bits >> np.uint64(16) == found] if shift < 48 else bits
            counts += np.bincount((same & np.uint64(0xFFFF)).astype(np.int64), minlength=2**16)
        below = np.cumsum(counts)
        digit = int(np.searchsorted(below, rank, "right"))
        rank -= int(below[digit] - counts[digit])
        found = found << np.uint64(16) | np.uint64(digit)
    return float(found.view(np.float64))


def _pieces(lists: Sequence[Distances]) -> Iterator[Distances]:
    for distances in lists:
        for start in range(0, distances.size, _AT_ONCE):
            yield distances[start : start + _AT_ONCE]


def hd(s: Surfaces) -> float:
    """Hausdorff distance: the largest distance of either list."""
    return float(max(s.to_truth.max(), s.to_prediction.max()))


def hd95(s: Surfaces) -> float:
    """Larger of the two directed 95th percentiles, as in MONAI."""
    return max(_p95(s.to_truth), _p95(s.to_prediction))


def hd95_pooled(s: Surfaces) -> float:
    """95th percentile of both lists together, as in medpy."""
    return _p95(s.to_truth, s.to_prediction)


def hd95_mean(s: Surfaces) -> float:
    """Mean of the two directed 95th percentiles (Chen 2023)."""
    return (_p95(s.to_truth) + _p95(s.to_prediction)) / 2


def asd(s: Surfaces) -> float:
    """Mean distance from the prediction's surface to the truth's; blind to what the prediction leaves out."""
    return float(s.to_truth.mean())


def assd(s: Surfaces) -> float:
    """Mean of both lists together, as in MONAI's symmetric average surface distance."""
    if s.size <= _FEW:
        return float(s.pooled.mean())
    return float(s.to_truth.sum() + s.to_prediction.sum()) / s.size


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
    return border_distances(border(prediction), border(truth), spacing)


def border_distances(
    prediction: NDArray[np.bool_], truth: NDArray[np.bool_], spacing: Sequence[float]
) -> Surfaces:
    """Return the distances between the border voxels of two masks, marked in one grid, mm; both have some."""
    return Surfaces(
        nearest_distances(prediction, truth, spacing), nearest_distances(truth, prediction, spacing)
    )


def border(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the voxels of a mask that have a face neighbour off the mask or off the image."""
    return find_borders(mask.view(np.uint8), 1).labels.view(bool)


def class_borders(labels: NDArray[Any], n_classes: int) -> list[Places]:
    """Return the border voxels of each of the classes 1, 2, ..."""
    borders = find_borders(labels, n_classes).labels.reshape(-1)
    places = np.flatnonzero(borders)
    values = borders[places]
    return [places[values == index] for index in range(1, n_classes + 1)]


@dataclass(frozen=True)
class Borders:
    """The border voxels of the values of a volume: those with a face neighbour of another value.

    Attributes
    ----------
    labels
        The volume with all other voxels set to 0, in C order.
    boxes
        Box around the voxels of each of the values 1, 2, ...; None where it does not occur.
    """

    labels: NDArray[Any]
    boxes: list[Box | None]


def find_borders(labels: NDArray[Any], n_values: int) -> Borders:
    """Return the border voxels of all values in one pass, in the memory of one more volume, however many there are.

    Voxels on a face of the volume are border voxels, too.
    """
    borders = np.zeros(labels.shape, labels.dtype)
    volume = in_memory_order(labels)
    into = borders if volume is labels else borders.T
    met = [np.zeros((n_values + 1, size), bool) for size in volume.shape]
    thickness = max(1, SLAB // max(volume[:1].size, 1))
    for start in range(0, len(volume), thickness):
        slab = volume[start : start + thickness]
        here = np.flatnonzero(_differs_from_neighbours(volume, start, slab) & (slab != 0))
        places = np.unravel_index(here, slab.shape)
        values = slab[places]
        into[start : start + thickness][places] = values
        known = np.where(values <= n_values, values, 0)
        for axis, (where, indices) in enumerate(zip(met, places, strict=True)):
            where[known, indices + start if axis == 0 else indices] = True
    boxes = [_box([where[value] for where in met]) for value in range(1, n_values + 1)]
    return Borders(borders, boxes if volume is labels else [box and box[::-1] for box in boxes])


def _box(met: Sequence[NDArray[np.bool_]]) -> Box | None:
    """Return the box around what is met along each axis."""
    if not met[0].any():
        return None
    return tuple(slice(int(where.argmax()), where.size - int(where[::-1].argmax())) for where in met)


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


def nearest_distances(
    points: NDArray[np.bool_], others: NDArray[np.bool_], spacing: Sequence[float], upper: float = np.inf
) -> Distances:
    """Return the distance of every marked point of a grid to the nearest of others, mm, in the order of the grid.

    Beside the result it takes 6 bytes for each voxel of the grid at most, and some 100 MB, whatever is marked.

    Parameters
    ----------
    points, others
        Marked voxels of one grid; `others` has at least one.
    upper
        Distances from here on may be infinite, which saves time.
    """
    marked = np.count_nonzero(points) + np.count_nonzero(others)
    if marked > DENSE_SHARE * points.size and points.size > 2**15:
        return (_by_transform if points.size <= _SMALL_BOX else _by_planes)(points, others, spacing)
    return _by_tree(np.flatnonzero(points), np.flatnonzero(others), points.shape, spacing, upper)


def _by_tree(
    points: Places, others: Places, shape: Sequence[int], spacing: Sequence[float], upper: float
) -> Distances:
    from scipy.spatial import KDTree

    distances: Distances = np.zeros(points.size)
    tree: KDTree | None = None
    for start in range(0, points.size, _AT_ONCE):
        part, own = points[start : start + _AT_ONCE], distances[start : start + _AT_ONCE]
        # a point of both is at 0 mm, and good predictions share most of theirs
        away = others[np.minimum(np.searchsorted(others, part), others.size - 1)] != part
        if not away.any():
            continue
        if tree is None:
            # points on a grid fill space evenly, so the sliding-midpoint tree is as good as a balanced one and
            # built sooner
            coordinates = _millimetres(others, shape, spacing)
            tree = KDTree(coordinates, leafsize=32, balanced_tree=False, compact_nodes=False)
        own[away] = tree.query(_millimetres(part[away], shape, spacing), distance_upper_bound=upper)[0]
    return distances


def _millimetres(places: Places, shape: Sequence[int], spacing: Sequence[float]) -> Distances:
    coordinates = np.empty((places.size, len(shape)))
    for start in range(0, places.size, _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        for axis, indices in enumerate(np.unravel_index(places[part], tuple(shape))):
            np.multiply(indices, float(spacing[axis]), out=coordinates[part, axis])
    return coordinates


# ---- the distance transform


def _by_transform(here: NDArray[np.bool_], other: NDArray[np.bool_], spacing: Sequence[float]) -> Distances:
    """Return distances by scipy's transform, which takes 13 bytes per voxel, and 50 if it makes the distances."""
    from scipy.ndimage import distance_transform_edt

    nearest = distance_transform_edt(~other, sampling=spacing, return_distances=False, return_indices=True)
    places = np.nonzero(here)
    distances: Distances = np.zeros(places[0].size)
    for axis, (place, size) in enumerate(zip(places, spacing, strict=True)):
        distances += ((nearest[axis][places] - place) * float(size)) ** 2
    return np.sqrt(distances, out=distances)


def _by_planes(here: NDArray[np.bool_], other: NDArray[np.bool_], spacing: Sequence[float]) -> Distances:
    """Return the same distances by a transform that holds 4 bytes per voxel.

    In every plane of the first axis scipy finds the nearest voxel of that plane. What is left is the nearest plane
    for each voxel, column by column: the lower envelope of parabolas (Felzenszwalb and Huttenlocher 2012,
    doi:10.4086/toc.2012.v008a019), in many columns at once.
    """
    from scipy.ndimage import distance_transform_edt

    lacking = 3 - here.ndim
    here, other = (mask.reshape((1,) * lacking + mask.shape) for mask in (here, other))
    size, across, along = (1.0,) * lacking + tuple(map(float, spacing))
    n, height, width = here.shape
    area = height * width
    planes = np.flatnonzero([bool(plane.any()) for plane in other])
    nearest = np.empty((len(planes), area), np.int32)
    for row, plane in zip(nearest, planes, strict=True):
        y, x = distance_transform_edt(
            ~other[plane], sampling=(across, along), return_distances=False, return_indices=True
        )
        np.add(y.reshape(-1) * np.int32(width), x.reshape(-1), out=row)

    def in_plane(found: NDArray[np.int32], columns: NDArray[np.int64]) -> tuple[Distances, Distances]:
        """Return the squares of the ways along the two axes from columns to the voxels that were found, mm^2."""
        (y, x), (own_y, own_x) = np.divmod(found, np.int32(width)), np.divmod(columns, width)
        return ((y - own_y) * across) ** 2, ((x - own_x) * along) ** 2

    step = max(1, _COLUMN_VOXELS // n)
    points = here.reshape(n, area)
    starts = np.arange(0, area, step)
    counts = np.stack([np.add.reduceat(plane, starts, dtype=np.int64) for plane in points])
    ends = np.cumsum(counts).reshape(counts.shape)
    distances: Distances = np.empty(int(ends[-1, -1]))
    for number, start in enumerate(starts.tolist()):
        columns = np.arange(start, min(start + step, area))
        found = nearest[:, start : start + step]
        squares = np.empty(found.shape)
        for index, row in enumerate(found):
            np.add(*in_plane(row, columns), out=squares[index])
        rows = _nearest_rows(squares, planes, n, size)
        for place, row in enumerate(rows):
            marked = np.flatnonzero(points[place, start : start + step])
            chosen = row[marked]
            own = ((planes[chosen] - place) * size) ** 2
            for part in in_plane(found[chosen, marked], columns[marked]):
                own += part
            end = ends[place, number]
            np.sqrt(own, out=distances[end - own.size : end])
    return distances


def _nearest_rows(
    squares: Distances, places: NDArray[np.int64], n: int, size: float
) -> Iterator[NDArray[np.int32]]:
    """Yield for the places 0 to n - 1 in turn, in every column, the row from which the squared distance is least.

    Parameters
    ----------
    squares
        (rows, columns): squared distance within a row, mm^2.
    places
        Place of every row, ascending.
    size
        Between two places, mm.
    """
    n_rows, n_columns = squares.shape
    every = np.arange(n_columns)
    # in each column a stack of the rows that are nearest somewhere, and the places from which on they are
    stack = np.zeros((n_rows, n_columns), np.int32)
    begins = np.full((n_rows + 1, n_columns), -math.inf)
    depth = np.zeros(n_columns, np.int64)
    highest, its_square, its_begin = np.full(n_columns, places[0]), squares[0].copy(), begins[0].copy()

    def meeting(row: int, other: NDArray[np.int64], rise: Distances) -> Distances:
        place = int(places[row])
        return rise / (2 * size**2 * (place - other)) + (place + other) / 2

    for row in range(1, n_rows):
        meet = meeting(row, highest, squares[row] - its_square)
        hidden = np.flatnonzero(meet <= its_begin)
        while hidden.size:
            depth[hidden] -= 1
            under = stack[depth[hidden], hidden]
            meet[hidden] = meeting(row, places[under], squares[row, hidden] - squares[under, hidden])
            hidden = hidden[meet[hidden] <= begins[depth[hidden], hidden]]
        nearer = meet < n
        depth += nearer
        pushed = np.flatnonzero(nearer)
        stack[depth[pushed], pushed] = row
        begins[depth[pushed], pushed] = meet[pushed]
        highest[pushed], its_square[pushed], its_begin[pushed] = (
            places[row],
            squares[row, pushed],
            meet[pushed],
        )
    begins[depth + 1, every] = math.inf
    depth[:] = 0
    rows, ends = stack[0].copy(), begins[1].copy()
    for place in range(n):
        passed = np.flatnonzero(ends <= place)
        while passed.size:
            depth[passed] += 1
            rows[passed] = stack[depth[passed], passed]
            ends[passed] = begins[depth[passed] + 1, passed]
            passed = passed[ends[passed] <= place]
        yield rows
