"""Images and labels that are not one file each: a channel of a picture, a label made of one file per structure."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from segexplorer.core.errors import DataError
from segexplorer.data.formats.voxels import SeveralVolumesError
from segexplorer.data.geometry import compare
from segexplorer.data.grid import aligned, same_places
from segexplorer.data.io import open_volume
from segexplorer.data.volume import Provenance, Select, Volume, value_counts

PLACES = ("stored", "rows", "slices", "rows and slices")
"""Which index axes of a label without a place are turned over: none, the second, the third, both."""

MOST_TOGETHER = 7
"""Structures whose combinations, 2^7 - 1, have label values of their own."""
_ENOUGH = 1_000_000
"""Voxels that are enough to measure the contrast of a label."""


class Recipe(ABC):
    """A source that is put together when it is opened; a small value that pickles without voxels."""

    @property
    @abstractmethod
    def files(self) -> tuple[Path, ...]:
        """The files it is made of."""

    @property
    @abstractmethod
    def recipe(self) -> str:
        """What is done with the files, for the fingerprint."""

    @abstractmethod
    def open(self, *, label: bool, like: Volume | None = None) -> Volume:
        """Open the headers.

        Parameters
        ----------
        like
            The image that a label belongs to.

        Raises
        ------
        DataError
            From a reader, or when the files do not fit together.
        """


@dataclass(frozen=True)
class Part(Recipe):
    """One of several volumes in a file: a series, a frame, a colour (`select` of `open_volume`)."""

    path: Path
    select: Select

    @property
    def files(self) -> tuple[Path, ...]:
        """The file."""
        return (self.path,)

    @property
    def recipe(self) -> str:
        """The selection."""
        return f"select {self.select}"

    def open(self, *, label: bool, like: Volume | None = None) -> Volume:
        """Open that part."""
        return open_volume(self.path, label=label, select=self.select, like=like)


def open_image(path: Path, series: str) -> Volume:
    """Open an image; of a DICOM folder or archive that holds several series, the one that a rule means.

    Parameters
    ----------
    series
        See `choose_by_rule`.

    Raises
    ------
    DataError
        From the reader, or when the rule leaves a choice.
    """
    try:
        return open_volume(path)
    except DataError as error:
        if not getattr(error, "series", ()):
            raise
        from segexplorer.data.formats.dicom.reader import image_volume
        from segexplorer.data.formats.dicom.series import SeveralSeriesError, choose_by_rule

        assert isinstance(error, SeveralSeriesError)
        chosen = choose_by_rule(error, series)
        if chosen.problem is not None:
            raise chosen.problem from error
        volume = image_volume(chosen, path)
        rest = "; ".join(one.text for one in error.series if one is not chosen)
        note = f"Of {len(error.series)} series in the folder, {chosen.text} was taken ({series}); left out: {rest}."
        return volume.with_note(note)


def sums_with(bits: int, structures: int) -> tuple[int, ...]:
    """Return the label values that hold any of some structures, where a value is the sum of its structures.

    Parameters
    ----------
    bits
        The sum of the structures' own values, each of which is a power of 2.
    structures
        How many there are in all.
    """
    return tuple(value for value in range(1, 2**structures) if value & bits)


def open_label(path: Path, like: Volume | None, *, together: bool = False) -> Volume:
    """Open a label; one of several volumes, each of 0 and 1, is one-hot: a class for each volume.

    Where every voxel is in exactly one of them, the first is background and the values are 1, 2, ... from the
    second on; else they are numbered from 1, and where two overlap the later one counts.

    Parameters
    ----------
    together
        Whether classes overlap: their values are then 1, 2, 4, ..., and a voxel of several gets the sum. The first
        volume is background where it is just what none of the others holds.

    Raises
    ------
    DataError
        From the reader, when the volumes hold other values, or when there are too many for sums.
    """
    try:
        return open_volume(path, label=True, like=like)
    except SeveralVolumesError as error:
        if len(error.counts) != 1:
            raise
        parts = tuple(open_volume(path, label=True, select=n) for n in range(error.counts[0]))
        note = f"Its {len(parts)} volumes are read as one class each (one-hot)."
        first = parts[0].provenance
        origin = replace(first, notes=(*first.notes, note))
        voxels = _OneHot(parts, path.name, together)
        return Volume(parts[0].shape, parts[0].affine, load=voxels, modality="unknown", provenance=origin)


def one_hot_masks(parts: Sequence[Volume], name: str) -> Iterator[NDArray[np.bool_]]:
    """Yield the masks of a one-hot label, volume by volume.

    Raises
    ------
    DataError
        When a volume holds other values than 0 and 1.
    """
    for part in parts:
        mask = np.asarray(part.array)
        if mask.size and not (mask.min() >= 0 and mask.max() <= 1):
            raise DataError(
                f"{name} holds {len(parts)} volumes of more than 0 and 1, so it is no one-hot label.",
                "Choose one of its volumes as the label.",
            )
        yield mask > 0


def without_background(masks: Sequence[NDArray[np.bool_]]) -> Sequence[NDArray[np.bool_]]:
    """Return the masks but for the first where that is just what none of the others holds."""
    others = masks[1:]
    return others if others and np.array_equal(masks[0], ~np.logical_or.reduce(others)) else masks


@dataclass(frozen=True)
class _OneHot:
    """Reads volumes of 0 and 1 into one label."""

    parts: tuple[Volume, ...]
    name: str
    together: bool = False

    def __call__(self) -> NDArray[Any]:
        if self.together:
            return self._sums()
        label = np.zeros(self.parts[0].shape, np.uint8)
        marked = np.zeros(self.parts[0].shape, np.uint8)
        for value, mask in enumerate(one_hot_masks(self.parts, self.name), start=1):
            label[mask] = value
            marked += mask
        return label - 1 if (marked == 1).all() else label

    def _sums(self) -> NDArray[np.uint8]:
        masks = without_background(list(one_hot_masks(self.parts, self.name)))
        if len(masks) > MOST_TOGETHER:
            raise DataError(
                f"{self.name} holds {len(masks)} classes, too many to overlap: their combinations have no values.",
                f"Set data.overlapping: false, or make a label of at most {MOST_TOGETHER} classes.",
            )
        label = np.zeros(self.parts[0].shape, np.uint8)
        for place, mask in enumerate(masks):
            label |= mask.astype(np.uint8) << np.uint8(place)
        return label


@dataclass(frozen=True)
class Structures(Recipe):
    """A label of one file per structure: voxels above 0 of each get its value, the later one wins.

    Attributes
    ----------
    parts
        (value, name, file) in the order of painting; structures may share a value (several masks of one thing).
    together
        Whether a voxel of several structures gets the sum of their values, which are powers of 2, so that none is
        lost.
    """

    parts: tuple[tuple[int, str, Path], ...]
    together: bool = False

    @property
    def files(self) -> tuple[Path, ...]:
        """The files in the order of painting."""
        return tuple(path for _, _, path in self.parts)

    @property
    def recipe(self) -> str:
        """The values in the order of painting."""
        values = " ".join(str(value) for value, _, _ in self.parts)
        return f"structures {'together ' if self.together else ''}{values}"

    def open(self, *, label: bool, like: Volume | None = None) -> Volume:
        """Open all files, painted on the image's grid, or on that of the first file."""
        opened = [open_volume(path, label=label, like=like) for path in self.files]
        base = like or opened[0]
        volumes = [aligned(volume, base, label=True) for volume in opened]
        for (_, name, _), volume in zip(self.parts, volumes, strict=True):
            if not (verdict := compare(base, volume)).same:
                raise DataError(
                    f"The structure {name} has another grid: {verdict.text}.",
                    "Resample it onto the image's grid (nearest neighbour).",
                )
        header = {**volumes[0].provenance.header, "label_names": {v: n for v, n, _ in self.parts}}
        notes = tuple(dict.fromkeys(note for volume in volumes for note in volume.provenance.notes))
        origin = Provenance(None, volumes[0].provenance.format, notes, header)
        values = tuple(value for value, _, _ in self.parts)
        voxels = _Painted(tuple(volumes), values, self.together)
        return Volume(base.shape, base.affine, load=voxels, provenance=origin)


@dataclass(frozen=True)
class _Painted:
    """Paints structures one after the other, or adds up the values of those that a voxel is in."""

    volumes: tuple[Volume, ...]
    values: tuple[int, ...]
    together: bool = False

    def __call__(self) -> NDArray[Any]:
        painted = np.zeros(self.volumes[0].shape, np.uint8 if max(self.values) < 256 else np.int32)
        for volume, value in zip(self.volumes, self.values, strict=True):
            inside = np.asarray(volume.array) > 0
            if self.together:
                painted |= inside * painted.dtype.type(value)
            else:
                painted[inside] = value
        return painted


@dataclass(frozen=True)
class PlacedByIndex(Recipe):
    """A label whose header does not say where it is: its voxels are those of the image, perhaps turned over.

    Attributes
    ----------
    place
        One of `PLACES`, or "by intensity": the one in which the label contrasts most with its surroundings
        (`contrasts`). A label whose header agrees with the image is left as it is.
    """

    path: Path
    place: str = "by intensity"

    @property
    def files(self) -> tuple[Path, ...]:
        """The label file."""
        return (self.path,)

    @property
    def recipe(self) -> str:
        """How it is placed."""
        return f"placed {self.place}"

    def open(self, *, label: bool, like: Volume | None = None) -> Volume:
        """Open the label on the image's grid where the shapes agree; else as its header says."""
        own = open_volume(self.path, label=label, like=like)
        if like is None or own.shape != like.shape or same_places(like, own):
            return own
        how = "as the intensities fit best" if self.place == "by intensity" else self.place
        note = f"Its header does not place the label on the image; it was placed by index, {how}."
        origin = Provenance(own.provenance.path, own.provenance.format, (note,), own.provenance.header)
        voxels = _Turned(own, like, self.place)
        return Volume(like.shape, like.affine, load=voxels, provenance=origin)


@dataclass(frozen=True)
class _Turned:
    """Turns a label over so that it fits its image."""

    label: Volume
    image: Volume
    place: str

    def __call__(self) -> NDArray[Any]:
        stored = np.asarray(self.label.array)
        place = self.place if self.place in PLACES else best_place(self.image.array, stored)
        return np.ascontiguousarray(turned(stored, place))


def turned(label: NDArray[Any], place: str) -> NDArray[Any]:
    """Return a view of a label (i, j, k) with the index axes of `place` turned over."""
    rows, slices = "rows" in place, "slices" in place
    return label[:, :: -1 if rows else 1, :: -1 if slices else 1]


def best_place(image: NDArray[Any], label: NDArray[Any]) -> str:
    """Return the place in which a label contrasts most with its surroundings; ties stay as stored.

    Parameters
    ----------
    label
        (i, j, k), of the image's shape; its value with most voxels decides.
    """
    fits = contrasts(image, label)
    return max(PLACES, key=lambda place: fits[place])


def contrasts(image: NDArray[Any], label: NDArray[Any]) -> dict[str, float]:
    """Return the contrast of a label with its surroundings for each place it may have; 0 for an empty one.

    The measure is the difference of the medians inside and in a shell of two voxels around, over the sum of their
    interquartile ranges: an organ has edges where its label ends, and no other place in the body has them there.
    """
    counts = {value: n for value, n in value_counts(label).items() if value != 0}
    if not counts:
        return dict.fromkeys(PLACES, 0.0)
    marked = label == max(counts, key=lambda value: counts[value])
    crop = _box(marked, margin=2)
    inside = marked[crop]
    shell = ndimage.binary_dilation(inside, iterations=2) & (label[crop] == 0)
    if not shell.any():
        return dict.fromkeys(PLACES, 0.0)
    # to turn the image over is to turn the label over
    return {place: _contrast(turned(image, place)[crop], inside, shell) for place in PLACES}


def _box(marked: NDArray[np.bool_], margin: int) -> tuple[slice, ...]:
    """Return the box around the marked voxels, in steps over which a large one has some 10^6 of them."""
    ends = []
    for axis in range(marked.ndim):
        others = tuple(a for a in range(marked.ndim) if a != axis)
        found = np.flatnonzero(marked.any(axis=others))
        ends.append((max(0, int(found[0]) - margin), int(found[-1]) + margin + 1))
    size = math.prod(last - first for first, last in ends)
    step = math.ceil((size / _ENOUGH) ** (1 / 3))
    return tuple(slice(first, last, step) for first, last in ends)


def _contrast(image: NDArray[Any], inside: NDArray[np.bool_], shell: NDArray[np.bool_]) -> float:
    own, around = (_quartiles(image[region]) for region in (inside, shell))
    width = (own[2] - own[0]) + (around[2] - around[0])
    difference = abs(own[1] - around[1])
    return float(difference / width) if width > 0 else float(difference > 0)


def _quartiles(values: NDArray[Any]) -> NDArray[np.float64]:
    sample = values[:: max(1, values.size // 200_000)].astype(np.float64)
    return np.asarray(np.percentile(sample, (25, 50, 75)))
