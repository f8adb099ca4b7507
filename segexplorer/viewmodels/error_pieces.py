"""The single errors of a prediction: what kind each is, how large, how deep and where, the largest first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from segexplorer.core.errors import DataError
from segexplorer.core.label_scheme import EXCLUSIVE, LabelScheme
from segexplorer.data.geometry import DisplayGrid, Grid, spacing
from segexplorer.metrics.surface import class_borders
from segexplorer.training.verdicts import ErrorKind, Family
from segexplorer.viewmodels.errors import IGNORED, Code
from segexplorer.viewmodels.regions import millilitres

KINDS: dict[ErrorKind, str] = {
    "missed_object": "missed object",
    "spurious_object": "spurious object",
    "too_little": "too little at the boundary",
    "too_much": "too much at the boundary",
    "wrong_organ": "wrong organ",
}
"""Kinds of error and what they are called."""
KIND_CODES: dict[ErrorKind, Code] = {
    "missed_object": Code.FALSE_NEGATIVE,
    "spurious_object": Code.FALSE_POSITIVE,
    "too_little": Code.FALSE_NEGATIVE,
    "too_much": Code.FALSE_POSITIVE,
    "wrong_organ": Code.WRONG_CLASS,
}
"""In which colour of the error map a kind is drawn."""


@dataclass(frozen=True)
class Place:
    """Where an error is, in words: those of its deepest point.

    Attributes
    ----------
    side
        "left" or "right" of the patient, "central" between them; "" where that cannot be said.
    third
        "lower", "middle" or "upper"; "" where the structure has fewer than three slices.
    of
        What sides and thirds refer to: the class, or "the volume" for what is outside of the structure.
    slices
        Number of the axial, coronal and sagittal slice as the viewer counts them, from 0.
    """

    side: str
    third: str
    of: str
    slices: tuple[int, int, int]

    @property
    def words(self) -> str:
        """The whole description, e.g. "right, upper third of liver, slice 47"."""
        third = f"{self.third} third of {self.of}" if self.third else self.of
        return ", ".join(part for part in (self.side, third, f"slice {self.slices[0]}") if part)

    @property
    def short(self) -> str:
        """The same for a narrow column, e.g. "R upper 47"."""
        side = self.side[:1].upper() if self.side in ("left", "right") else ""
        third = "mid" if self.third == "middle" else self.third
        return " ".join(part for part in (side, third, str(self.slices[0])) if part)


@dataclass(frozen=True, eq=False)
class ErrorPiece:
    """One error: a structure that was missed or invented, or a connected piece of a wrong boundary.

    Attributes
    ----------
    kind
        One of `KINDS`.
    class_index, class_name
        The true class; for what is spurious or too much, the predicted one.
    volume_ml, voxels
        Its size.
    depth_mm
        How far it reaches. At a boundary: the largest distance from one of its voxels to the nearest voxel of the
        class in the other volume, so the largest of all is the Hausdorff distance of the class. Of an object
        without overlap: the largest distance from one of its voxels to the nearest voxel outside of it.
    voxel
        The voxel that far away, in array indices; of several, the one nearest to the centroid.
    world
        That voxel's centre through the affine, mm.
    centre, size_mm
        The same place and the size of the box around the error as viewers have them: (z, y, x), mm.
    place
        The place in words.
    box
        First and last index + 1 along each array axis.
    runs, order
        (n, 2) first and last index + 1 of the runs of its voxels in the array flattened in this order.
    shape
        Of the array.
    instead_index, instead
        The organ that most of it was taken for, or was taken from; 0 and "" where that is background.
    scheme
        What label indices mean; the errors of classes that overlap are those of each class by itself.
    """

    kind: ErrorKind
    class_index: int
    class_name: str
    volume_ml: float
    voxels: int
    depth_mm: float
    voxel: tuple[int, int, int]
    world: tuple[float, float, float]
    centre: tuple[float, float, float]
    size_mm: tuple[float, float, float]
    place: Place
    box: tuple[tuple[int, int], ...]
    runs: NDArray[np.int64] = field(repr=False)
    shape: tuple[int, int, int]
    order: Literal["C", "F"] = "C"
    instead_index: int = 0
    instead: str = ""
    scheme: LabelScheme = field(default=EXCLUSIVE, repr=False)

    @property
    def family(self) -> Family:
        """What the error is compared with at other steps: the missing or the extra voxels of its class."""
        return "extra" if self.kind in ("spurious_object", "too_much") else "missing"

    @property
    def sentence(self) -> str:
        """The error in one line, e.g. "3.1 ml of spleen: missed object (called liver)"."""
        text = f"{millilitres(self.volume_ml)} of {self.class_name}: {KINDS[self.kind]}"
        if not self.instead:
            return text
        return f"{text} ({'is' if self.family == 'extra' else 'called'} {self.instead})"

    @property
    def voxel_indices(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Indices of its voxels along each axis of the array."""
        i, j, k = np.unravel_index(_indices(self.runs), self.shape, order=self.order)
        return i, j, k

    def mask(self, margin: int = 0) -> tuple[NDArray[np.bool_], tuple[int, int, int]]:
        """Return the error in its box, with a margin where the array has one, and the box's first voxel."""
        starts = [max(0, start - margin) for start, _ in self.box]
        stops = [min(n, stop + margin) for (_, stop), n in zip(self.box, self.shape, strict=True)]
        filled = np.zeros([b - a for a, b in zip(starts, stops, strict=True)], bool)
        filled[tuple(p - a for p, a in zip(self.voxel_indices, starts, strict=True))] = True
        return filled, (starts[0], starts[1], starts[2])


def error_pieces(
    prediction: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    class_names: Sequence[str],
    affine: NDArray[np.float64],
    *,
    minimum_ml: float = 0.05,
    limit: int = 200,
    class_index: int | None = None,
    scheme: LabelScheme = EXCLUSIVE,
) -> tuple[ErrorPiece, ...]:
    """List the errors, the largest first; every wrong voxel is in exactly one of them.

    Where classes overlap, that is so for each class, which is compared with everything else.

    Voxels connect through faces, edges and corners. A true structure without any overlap with the prediction of
    its class is one error as a whole, a wrong organ where most of it has the class of another. So is a predicted
    structure without overlap with the truth, unless most of it is another organ. Of the rest, connected voxels with
    the same true class and the same predicted one are one error. Voxels whose truth is 255 are no error; a
    predicted structure that goes on into them is not called spurious.

    Parameters
    ----------
    prediction, truth
        (i, j, k) uint8 label indices.
    class_names
        Foreground classes for indices 1, 2, ...
    affine
        (4, 4) voxel -> RAS mm.
    minimum_ml
        Smaller errors are left out.
    limit
        Most errors returned.
    class_index
        Errors in which one class takes part; None for all.
    scheme
        What the label indices mean.

    Raises
    ------
    DataError
        When the shapes differ or are not those of volumes.
    """
    if prediction.shape != truth.shape or prediction.ndim != 3:
        raise DataError(
            f"The prediction has shape {prediction.shape}, the truth {truth.shape}.",
            "Errors need both on the same grid, with three axes.",
        )
    if scheme.overlapping:
        found_of = [
            replace(piece, class_index=index, scheme=scheme)
            for index, name in enumerate(class_names, start=1)
            if class_index in (None, index)
            for piece in error_pieces(
                scheme.mask(prediction, index).astype(np.uint8),
                scheme.alone(truth, index),
                (name,),
                affine,
                minimum_ml=minimum_ml,
                limit=limit,
            )
        ]
        return tuple(sorted(found_of, key=lambda piece: -piece.voxels)[:limit])
    voxel_ml = abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    fewest = max(1, int(np.ceil(minimum_ml / voxel_ml - 1e-9)))
    order: Literal["C", "F"] = "C"
    if (
        truth.flags.f_contiguous and not truth.flags.c_contiguous
    ):  # as nibabel reads: quicker turned than copied
        prediction, truth, affine, order = prediction.T, truth.T, affine[:, [2, 1, 0, 3]], "F"
    search = _Search(
        np.ascontiguousarray(prediction),
        np.ascontiguousarray(truth),
        fewest,
        limit if class_index is None else prediction.size,
    )
    found = [f for f in search.errors() if f.class_index <= len(class_names)]
    if class_index is not None:
        found = [f for f in found if class_index in (f.class_index, f.instead_index)]
    found.sort(key=lambda f: -f.size)
    surveyor = _Surveyor(search, class_names, affine, order)
    return tuple(surveyor.describe(f) for f in found[:limit])


Lines = Sequence[tuple[int, int]]
AHEAD: Lines = ((0, 1), (1, -1), (1, 0), (1, 1))
"""The neighbouring lines of an array that come after a line; the two axes before the last."""
AROUND: Lines = tuple((i, j) for i in (-1, 0, 1) for j in (-1, 0, 1))


@dataclass(frozen=True)
class _Runs:
    """Voxels of a C-contiguous array as runs of one value along its last axis, in order; zeros are left out.

    An error of a million voxels has few runs, so that components of all classes are found in a second.
    """

    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    value: NDArray[Any]
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, volume: NDArray[Any]) -> _Runs:
        """Return the runs of an array."""
        flat, width = volume.reshape(-1), volume.shape[-1]
        change = np.empty(len(flat) + 1, bool)
        np.not_equal(flat[1:], flat[:-1], out=change[1:-1])
        change[::width] = True
        edges = np.flatnonzero(change)
        values = flat[edges[:-1]]
        kept = np.flatnonzero(values)
        return cls(edges[kept], edges[kept + 1], values[kept], volume.shape)

    @property
    def sizes(self) -> NDArray[np.int64]:
        return self.stop - self.start

    def touching(self, other: _Runs, lines: Lines) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return which runs have the value of a run of `other` and touch it by a face, an edge or a corner.

        Parameters
        ----------
        lines
            The lines, relative to that of a run, in which the other one is looked for.
        """
        rows, columns, width = self.shape
        step = width + 2  # no run of a line reaches the keys of the next
        theirs = other.start // width
        their_start, their_stop = (
            theirs * step + other.start % width,
            theirs * step + other.stop - theirs * width,
        )
        line = self.start // width
        ones, others = [], []
        for down, right in lines:
            row, column = line // columns + down, line % columns + right
            mine = np.flatnonzero((row >= 0) & (row < rows) & (column >= 0) & (column < columns))
            base = (row[mine] * columns + column[mine]) * step
            offset = base - line[mine] * width
            first = np.searchsorted(their_stop, self.start[mine] + offset)
            last = np.searchsorted(their_start, self.stop[mine] + offset, side="right")
            counts = np.maximum(last - first, 0)
            one = np.repeat(mine, counts)
            other_one = np.arange(len(one)) + np.repeat(first - np.cumsum(counts) + counts, counts)
            same = self.value[one] == other.value[other_one]
            ones.append(one[same])
            others.append(other_one[same])
        return np.concatenate(ones), np.concatenate(others)

    def components(self) -> NDArray[np.int64]:
        """Return the number of each run's component: voxels of one value, connected through corners too."""
        count = len(self.start)
        ones, others = self.touching(self, AHEAD)
        graph = coo_matrix((np.ones(len(ones), bool), (ones, others)), (count, count))
        return np.asarray(connected_components(graph, directed=False)[1], np.int64)

    def of_each(
        self, components: NDArray[np.int64], chosen: NDArray[np.int64]
    ) -> Iterator[NDArray[np.int64]]:
        """Yield the (n, 2) first and last index + 1 of the runs of each of these components."""
        order = np.argsort(components, kind="stable")
        ends = np.searchsorted(components[order], chosen, side="right")
        begins = np.searchsorted(components[order], chosen)
        for begin, end in zip(begins, ends, strict=True):
            which = order[begin:end]
            yield np.stack([self.start[which], self.stop[which]], axis=1)


def _indices(runs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the indices that runs (n, 2) contain, in order."""
    sizes = runs[:, 1] - runs[:, 0]
    ends = np.cumsum(sizes)
    indices: NDArray[np.int64] = np.arange(int(sizes.sum())) + np.repeat(runs[:, 0] - ends + sizes, sizes)
    return indices


def _joined(runs: _Runs, which: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.stack([runs.start[which], runs.stop[which]], axis=1)


@dataclass(frozen=True)
class _Found:
    kind: ErrorKind
    class_index: int
    runs: NDArray[np.int64]
    instead_index: int = 0

    @property
    def size(self) -> int:
        return int((self.runs[:, 1] - self.runs[:, 0]).sum())


_INVENTED = 2
"""Mark of voxels of a predicted structure without overlap most of which is in other organs."""
_NOWHERE = 255
"""Stands for the true class of these voxels, where it is background."""


class _Search:
    """Finds the errors of all classes in C-contiguous volumes.

    Parameters
    ----------
    fewest, limit
        Fewest voxels of an error; most errors wanted.
    """

    def __init__(
        self, prediction: NDArray[np.uint8], truth: NDArray[np.uint8], fewest: int, limit: int
    ) -> None:
        self.prediction, self.truth, self._fewest, self._limit = prediction, truth, fewest, limit
        self._wrong = (prediction != truth) & (truth != IGNORED)
        self._left = self._wrong.astype(np.uint8)
        """Wrong voxels that no object has."""

    def errors(self) -> Iterator[_Found]:
        """Yield the errors; objects come first, since what belongs to one is in no other error."""
        yield from self._missed_objects()
        yield from self._spurious_objects()
        yield from self._others()

    def _missed_objects(self) -> Iterator[_Found]:
        wrong = _Runs.of(np.where(self._wrong, self.truth, 0))
        correct = _Runs.of(np.where(self._wrong | (self.truth == IGNORED), 0, self.truth))
        components, alone = _without(wrong, correct)
        sizes = np.bincount(components, wrong.sizes)
        elsewhere = np.bincount(components, self._count(wrong, self.prediction > 0), len(sizes))
        for component, runs in self._largest(wrong, components, alone, sizes):
            taken = bool(2 * elsewhere[component] > sizes[component])
            index = int(self.truth.flat[runs[0, 0]])
            instead = self._mostly(self.prediction, runs, organ=taken)
            yield _Found("wrong_organ" if taken else "missed_object", index, runs, instead)
        self._left.reshape(-1)[_indices(_joined(wrong, alone[components]))] = 0

    def _spurious_objects(self) -> Iterator[_Found]:
        wrong = _Runs.of(np.where(self._wrong, self.prediction, 0))
        correct = _Runs.of(np.where(self._wrong, 0, self.prediction))
        components, alone = _without(wrong, correct)
        sizes = np.bincount(components, wrong.sizes)
        organs = self._count(wrong, (self.truth > 0) & (self.truth != IGNORED))
        elsewhere = 2 * np.bincount(components, organs, len(sizes)) > sizes
        objects = alone & ~elsewhere
        flat = self._left.reshape(-1)
        flat[_indices(_joined(wrong, (alone & elsewhere)[components]))] *= _INVENTED
        # without what belongs to a missed object
        left = _indices(_joined(wrong, objects[components]))
        kept = np.zeros_like(self._left)
        kept.reshape(-1)[left] = self.prediction.reshape(-1)[left] * (flat[left] > 0)
        flat[left] = 0
        rest = _Runs.of(kept)
        owner = components[np.searchsorted(wrong.start, rest.start, side="right") - 1]
        sizes = np.bincount(owner, rest.sizes, len(sizes))
        for _, runs in self._largest(rest, owner, objects, sizes):
            index = int(self.prediction.flat[runs[0, 0]])
            yield _Found("spurious_object", index, runs, self._mostly(self.truth, runs))

    def _others(self) -> Iterator[_Found]:
        true = np.where((self._left == _INVENTED) & (self.truth == 0), _NOWHERE, self.truth)
        pairs = np.where(self._left > 0, true.astype(np.uint16) << 8 | self.prediction, 0).astype(np.uint16)
        runs = _Runs.of(pairs)
        components = runs.components()
        sizes = np.bincount(components, runs.sizes)
        for _, found in self._largest(runs, components, np.ones(len(sizes), bool), sizes):
            truth, predicted = divmod(int(pairs.flat[found[0, 0]]), 256)
            if truth == _NOWHERE:
                yield _Found("spurious_object", predicted, found)
            elif truth == 0:
                yield _Found("too_much", predicted, found)
            elif predicted == 0:
                yield _Found("too_little", truth, found)
            else:
                yield _Found("wrong_organ", truth, found, predicted)

    def _largest(
        self, runs: _Runs, components: NDArray[np.int64], wanted: NDArray[np.bool_], sizes: NDArray[Any]
    ) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Yield the largest components that are wanted, with their runs."""
        chosen = np.flatnonzero(wanted & (sizes >= self._fewest))
        chosen = np.sort(chosen[np.argsort(-sizes[chosen], kind="stable")[: self._limit]])
        if chosen.size:
            yield from zip(map(int, chosen), runs.of_each(components, chosen), strict=True)

    @staticmethod
    def _count(runs: _Runs, where: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return how many voxels of each run a mask contains."""
        if not len(runs.start):
            return np.zeros(0, np.int64)
        inside = where.reshape(-1)[_indices(np.stack([runs.start, runs.stop], axis=1))]
        begins = np.cumsum(runs.sizes) - runs.sizes
        return np.add.reduceat(inside, begins, dtype=np.int64)

    @staticmethod
    def _mostly(volume: NDArray[np.uint8], runs: NDArray[np.int64], *, organ: bool = False) -> int:
        """Return the class that most voxels of an error have; of organs alone where `organ`."""
        counts = np.bincount(volume.reshape(-1)[_indices(runs)], minlength=IGNORED + 1)
        counts[IGNORED] = 0
        if organ:
            counts[0] = 0
        return int(counts.argmax())


def _without(wrong: _Runs, correct: _Runs) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the components of wrong voxels, and for each whether no correct voxel of its class is beside it.

    A structure is connected: if it had a correct voxel anywhere, one would touch the wrong part.
    """
    components = wrong.components()
    alone = np.ones(int(components.max(initial=-1)) + 1, bool)
    alone[components[wrong.touching(correct, AROUND)[0]]] = False
    return components, alone


# ---- how deep, and where


_BLOCK = 4
"""Edge in voxels of the blocks of which one voxel is measured first."""
_MOST = 2_000_000
"""Most voxels of an error that are measured; of a larger one, a regular sample is."""


class _Surveyor:
    """Measures the errors of one search and says where they are.

    Parameters
    ----------
    affine
        (4, 4) of the volumes as the search has them.
    order
        "F" where these are the transposed volumes of the user.
    """

    def __init__(
        self,
        search: _Search,
        class_names: Sequence[str],
        affine: NDArray[np.float64],
        order: Literal["C", "F"],
    ) -> None:
        self._search, self._names, self._affine, self._order = search, class_names, affine, order
        self._shape = search.truth.shape
        self._spacing = np.asarray(spacing(affine))
        self._voxel_ml = abs(float(np.linalg.det(affine[:3, :3]))) / 1000
        self._grid = DisplayGrid.of(Grid(self._shape, affine))
        self._to_display = (np.linalg.inv(self._grid.canonical_affine) @ affine)[2::-1]
        self._trees: dict[tuple[bool, int], KDTree | None] = {}
        self._borders = tuple(class_borders(v, len(class_names)) for v in (search.truth, search.prediction))
        """Border voxels of the classes in the truth and in the prediction, as indices into the flattened array."""

    def describe(self, found: _Found) -> ErrorPiece:
        """Return an error with its measures."""
        start = self._places(found.runs[:, 0]).min(axis=0)
        stop = self._places(found.runs[:, 1] - 1).max(axis=0) + 1
        depth, voxel = self._deepest(found, start, stop)
        x, y, z = (float(v) for v in self._affine[:3, :3] @ voxel + self._affine[:3, 3])
        shown = self._shown(voxel)
        scale = np.asarray(self._grid.scale)
        size = (np.abs(self._shown(stop - 1) - self._shown(start)) + 1) * scale
        other = found.instead_index if found.instead_index <= len(self._names) else 0
        own = slice(None, None, -1 if self._order == "F" else 1)
        i, j, k = (int(v) for v in voxel[own])
        ni, nj, nk = self._shape[own]
        return ErrorPiece(
            kind=found.kind,
            class_index=found.class_index,
            class_name=self._names[found.class_index - 1],
            volume_ml=found.size * self._voxel_ml,
            voxels=found.size,
            depth_mm=depth,
            voxel=(i, j, k),
            world=(x, y, z),
            centre=_triple(np.asarray(self._grid.translate) + shown * scale),
            size_mm=_triple(size),
            place=self._place(shown, found.class_index),
            box=tuple((int(a), int(b)) for a, b in zip(start[own], stop[own], strict=True)),
            runs=found.runs,
            shape=(ni, nj, nk),
            order=self._order,
            instead_index=other,
            instead=self._names[other - 1] if other else "",
        )

    def _deepest(
        self, found: _Found, start: NDArray[np.int64], stop: NDArray[np.int64]
    ) -> tuple[float, NDArray[np.int64]]:
        """Return the depth and the voxel that has it."""
        indices = _indices(found.runs)
        extra = found.kind in ("spurious_object", "too_much")
        alone = found.kind in ("spurious_object", "missed_object")
        tree = None if alone else self._tree(extra, found.class_index)
        if tree is None:  # an object, or nothing of the class in the other volume
            mask = np.zeros(self._shape, bool)
            mask.reshape(-1)[indices] = True
            box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
            tree = self._tree_of(np.argwhere(_beside(mask[box])) + start - 1)
        sample = indices[:: -(-len(indices) // _MOST)]
        places = self._places(sample)
        depth, candidates = _largest_distance(places, tree, self._spacing)
        offsets = (candidates - places.mean(axis=0)) * self._spacing
        return depth, candidates[int((offsets**2).sum(axis=1).argmin())]

    def _tree(self, extra: bool, index: int) -> KDTree | None:
        """Return the border of a class in the volume that an error is compared with."""
        key = extra, index
        if key not in self._trees:
            border = self._borders[0 if extra else 1][index - 1]
            self._trees[key] = self._tree_of(self._places(border)) if border.size else None
        return self._trees[key]

    def _places(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the (n, 3) voxels of indices into the flattened array."""
        return np.stack(np.unravel_index(indices, self._shape), axis=1)

    def _tree_of(self, places: NDArray[np.int64]) -> KDTree:
        return KDTree(places * self._spacing, balanced_tree=False, compact_nodes=False)

    def _shown(self, voxel: NDArray[Any]) -> NDArray[np.float64]:
        """Return the displayed index (z, y, x) of a voxel."""
        return np.asarray(self._to_display[:, :3] @ voxel + self._to_display[:, 3])

    def _place(self, shown: NDArray[np.float64], index: int) -> Place:
        z, y, x = (int(v) for v in np.rint(shown))
        of, first, last = "the volume", np.zeros(3), np.asarray(self._grid.shape) - 1.0
        structure = self._places(self._borders[0][index - 1])
        if structure.size:
            one, other = self._shown(structure.min(axis=0)), self._shown(structure.max(axis=0))
            low, high = np.minimum(one, other), np.maximum(one, other)
            if _holds(low, high, shown):
                of, first, last = self._names[index - 1], low, high
        up, _, right = (shown - first + 0.5) / (last - first + 1)  # x grows to the patient's right
        tall, _, wide = last - first + 1
        third = ("lower", "middle", "upper")[int(np.clip(up * 3, 0, 2))] if tall >= 3 else ""
        side = "" if wide < 3 else "left" if right < 0.45 else "right" if right > 0.55 else "central"
        return Place(side, third, of, (z, y, x))


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    z, y, x = (float(v) for v in values)
    return z, y, x


def _holds(low: NDArray[np.float64], high: NDArray[np.float64], shown: NDArray[np.float64]) -> bool:
    """Whether a point is in a box, or so near that the box still says where it is."""
    room = 0.1 * (high - low + 1) + 1
    return bool((shown >= low - room).all() and (shown <= high + room).all())


def _beside(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the voxels outside of a mask that share a face with it, in an array one voxel larger all around."""
    whole = np.pad(mask, 1)
    near = np.zeros_like(whole)
    for axis in range(3):
        source, target = np.moveaxis(whole, axis, 0), np.moveaxis(near, axis, 0)
        target[1:] |= source[:-1]
        target[:-1] |= source[1:]
    return near & ~whole


def _largest_distance(
    places: NDArray[np.int64], tree: KDTree, spacing_mm: NDArray[np.float64]
) -> tuple[float, NDArray[np.int64]]:
    """Return the largest distance in mm from some voxels to a set, and the voxels that have it.

    Equal to the largest value of the Euclidean distance transform, but only few voxels are measured: a distance
    changes by no more than the way between two voxels, so most blocks cannot contain the largest one.
    """
    blocks = places // _BLOCK
    number = np.ravel_multi_index(tuple(blocks.T), tuple(blocks.max(axis=0) + 1))
    _, first, block = np.unique(number, return_index=True, return_inverse=True)
    measured, _ = tree.query(places[first] * spacing_mm)
    across = float(np.linalg.norm((_BLOCK - 1) * spacing_mm))
    promising = (measured + across >= measured.max())[block.ravel()]
    candidates = places[promising]
    distances, _ = tree.query(candidates * spacing_mm)
    largest = float(distances.max())
    return largest, candidates[distances >= largest - 1e-9]
