"""What a layer is going to show, prepared as plain arrays: pure functions that a worker calls.

A `Picture` holds everything that `CaseLayers` assigns on the main thread. Arrays are (z, y, x) on the closest
canonical RAS grid of their volume; scale and translate are in mm. Beside it: which side of the patient is at
which edge of a slice, and how an image and its label look to the Cases tab before any training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.data.case import integer_labels
from segexplorer.data.geometry import DisplayGrid, Grid, compare
from segexplorer.data.grid import aligned
from segexplorer.data.volume import Provenance, Volume

_TOWARDS = {0: ("S", "I"), 1: ("A", "P"), 2: ("R", "L")}
"""Axis of a (z, y, x) RAS array -> letters of its positive and of its negative end."""
_NAMES = {0: "axial", 1: "coronal", 2: "sagittal"}


@dataclass(frozen=True)
class EdgeLetters:
    """Letters at the edges of the picture: R, L, A, P, S, I for right, left, anterior, ..., inferior."""

    left: str
    right: str
    top: str
    bottom: str


def edge_letters(order: Sequence[int], orientation: Sequence[str]) -> EdgeLetters:
    """Return the letters at the edges of a slice of a (z, y, x) RAS array.

    Parameters
    ----------
    order
        The order in which a viewer shows the three axes, as a permutation of (0, 1, 2): the slice is across
        the first, the second runs along the height, the third along the width.
    orientation
        Which way positive axes point on the screen: (depth, "up" or "down", "left" or "right").

    Raises
    ------
    ValueError
        When the order is no permutation of three axes.
    """
    if sorted(order) != [0, 1, 2]:
        raise ValueError(f"the order must be a permutation of 0, 1, 2, not {tuple(order)}")
    positive_v, negative_v = _TOWARDS[order[1]]
    positive_h, negative_h = _TOWARDS[order[2]]
    top, bottom = (positive_v, negative_v) if orientation[1] == "up" else (negative_v, positive_v)
    left, right = (positive_h, negative_h) if orientation[2] == "left" else (negative_h, positive_h)
    return EdgeLetters(left, right, top, bottom)


def plane_name(order: Sequence[int]) -> str:
    """Return "axial", "coronal" or "sagittal" for an order of axes."""
    return _NAMES[order[0]]


WINDOWS: Mapping[str, tuple[float, float]] = {
    "abdomen": (40.0, 400.0),
    "mediastinum": (50.0, 350.0),
    "lung": (-600.0, 1500.0),
    "bone": (400.0, 1800.0),
    "brain": (40.0, 80.0),
}
"""Display windows of CT by name: (level, width) in HU."""

LABEL_OPACITIES: Mapping[str, float] = {
    "classes": 0.5,
    "errors": 0.75,
    "map": 0.6,
    "pull": 1.0,
    "lanes": 0.75,
}
"""Sort of colours -> how opaque labels of it are drawn; a pull is as opaque as its colours."""

_SAMPLES = 200_000
"""Voxels that percentiles are taken from; more would not move them visibly."""


@dataclass(frozen=True)
class Picture:
    """One layer to be.

    Attributes
    ----------
    key
        What it is within its case, e.g. "image", "prediction", "balance/liver": one layer each.
    kind
        Which sort of napari layer.
    name
        The layer's name, unless the user has given it another.
    data
        (z, y, x) array.
    scale, translate
        mm per voxel and the centre of the first voxel, (z, y, x), RAS.
    affine
        (4, 4) voxel -> RAS mm of the volume in its own index order, which may be oblique.
    shape
        Shape of the volume in its own index order.
    path
        File the volume came from, or None.
    contrast_limits, contrast_range
        Values shown black and white, and how far they can be moved; for images.
    """

    key: str
    kind: Literal["image", "labels"]
    name: str
    data: NDArray[Any]
    scale: tuple[float, float, float]
    translate: tuple[float, float, float]
    affine: NDArray[np.float64]
    shape: tuple[int, ...]
    path: str | None = None
    contrast_limits: tuple[float, float] | None = None
    contrast_range: tuple[float, float] | None = None
    values: Mapping[int, str] = field(default_factory=dict)
    """Label value -> name of its class, in the order of the classes; for labels."""
    colours: Literal["classes", "errors", "map", "pull", "lanes", "grey"] = "grey"
    open_at: int | None = None
    """Index along z with most label."""
    provenance: Provenance = field(default_factory=Provenance)
    """Header facts and notes of the volume's file, for exports and for the geometry verdict."""
    editable: bool = False
    """Whether the user may paint in it: in labels of theirs, never in a prediction or what is made of it."""
    form: Literal["fill", "outline"] = "fill"
    """Whether labels are filled, or drawn as outlines since they are over something that is."""
    colour_scale: Any = None
    """What the colours of a map mean: a `regions.Scale`, whose map holds colour indices, or a `why.PullScale`."""
    filled: tuple[NDArray[np.bool_], ...] = ()
    """Which slices across each axis have something in them; for overlays."""


def _triple(values: Any) -> tuple[float, float, float]:
    z, y, x = (float(v) for v in values)
    return z, y, x


def picture_of(
    key: str,
    kind: Literal["image", "labels"],
    name: str,
    volume: Volume,
    *,
    within: Grid | None = None,
    **rest: Any,
) -> Picture:
    """Prepare a volume on its display grid; `within`: as the part that it is of that one; `rest` are further
    attributes of the picture."""
    grid = DisplayGrid.of(volume, within)
    data = grid.to_display(volume.array)
    return Picture(
        key=key,
        kind=kind,
        name=name,
        # napari paints into the array that it is given; a volume's own voxels must stay as they are
        data=data.copy() if kind == "labels" else data,
        scale=_triple(grid.scale),
        translate=_triple(grid.translate),
        affine=np.asarray(volume.affine, dtype=np.float64),
        shape=tuple(int(n) for n in volume.shape),
        provenance=volume.provenance,
        **rest,
    )


def image_picture(volume: Volume, name: str, *, window: str | None = None, key: str = "image") -> Picture:
    """Prepare an image: CT in a display window by name (abdomen when none is given), others by percentiles."""
    limits, full = display_limits(volume, window)
    return picture_of(
        key, "image", name, volume, path=_path(volume), contrast_limits=limits, contrast_range=full
    )


def display_limits(
    volume: Volume, window: str | None = None
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return (lower, upper) limits of grey and the whole range of an image, both in its own unit.

    Raises
    ------
    DataError
        For a window that has no such name.
    """
    if window is not None and window not in WINDOWS:
        raise DataError(f"There is no display window {window!r}.", f"Known: {', '.join(WINDOWS)}.")
    flat = volume.array.ravel(order="K")  # in memory order: no copy
    sample = np.asarray(flat[:: max(1, flat.size // _SAMPLES)], dtype=np.float64)
    sample = sample[np.isfinite(sample)]
    if sample.size == 0:
        return (0.0, 1.0), (0.0, 1.0)
    low, high = float(sample.min()), float(sample.max())
    if window is not None or volume.modality == "CT":
        level, width = WINDOWS[window or "abdomen"]
        limits = level - width / 2, level + width / 2
    else:
        first, last = np.percentile(sample, (0.5, 99.5))
        limits = (float(first), float(last)) if last > first else (low, max(high, low + 1.0))
    return limits, (min(low, limits[0]), max(high, limits[1]))


def label_picture(
    volume: Volume, name: str, values: Mapping[int, str] | None = None, *, key: str = "label"
) -> Picture:
    """Prepare a label map with its own values; `values` names them, in the order of the classes."""
    picture = picture_of(key, "labels", name, whole(volume), path=_path(volume), colours="classes")
    named = dict(values) if values else {v: f"label {v}" for v in label_values(picture.data)}
    return replace(picture, values=named, open_at=fullest_slice(picture.data, list(named)), editable=True)


def whole(volume: Volume) -> Volume:
    """Return a label volume with an integer array, as napari's Labels want it.

    Raises
    ------
    DataError
        When a value is not a whole number.
    """
    integers = integer_labels(volume.array)
    return volume if integers is volume.array else volume.with_array(integers)


def label_values(array: NDArray[Any]) -> list[int]:
    """Return the values other than 0 that occur, in order."""
    return [int(v) for v in np.unique(array) if v != 0]


def fullest_slice(data: NDArray[Any], values: Sequence[int] | None = None) -> int | None:
    """Return the index along the first axis with most voxels of these values, or of all but 0; None without any."""
    wanted = data if values is None else np.isin(data, np.asarray(values, dtype=data.dtype))
    counts = np.count_nonzero(wanted, axis=(1, 2))
    return int(counts.argmax()) if counts.max() > 0 else None


def filled_slices(data: NDArray[Any]) -> tuple[NDArray[np.bool_], ...]:
    """Return which slices across each of three axes have anything but 0 in them."""
    there = data != 0
    flat = there.any(axis=0)
    return there.any(axis=(1, 2)), flat.any(axis=1), flat.any(axis=0)


def _path(volume: Volume) -> str | None:
    path = volume.provenance.path
    return None if path is None else str(path)


MOST_VALUES = 1000
"""A label map with more different values is taken for an image chosen by mistake."""


@dataclass(frozen=True)
class Examination:
    """One pair, looked at.

    Attributes
    ----------
    severity
        "error" keeps the pair from training.
    verdict
        A short sentence on the geometry, or what is wrong.
    remedy
        What to do, where something is wrong.
    volumes_ml
        Label value (0 left out) -> volume in ml.
    total_ml
        Volume of the whole picture in ml, for imbalance.
    """

    severity: Literal["ok", "note", "error"]
    verdict: str
    remedy: str = ""
    volumes_ml: Mapping[int, float] | None = None
    total_ml: float = 0.0

    @property
    def values(self) -> tuple[int, ...]:
        """Label values that occur, 0 left out."""
        return tuple(self.volumes_ml or ())


def examine(image: Volume, label: Volume) -> Examination:
    """Compare the grids of a pair and measure its labels; whatever is wrong with them becomes the verdict.

    A label that comes onto the image's grid without loss is measured there, as training does.
    """
    label = aligned(label, image, label=True)
    try:
        values, counts = np.unique(whole(label).array, return_counts=True)
    except DataError as error:
        return Examination("error", error.message, error.remedy)
    if len(values) > MOST_VALUES:
        return Examination(
            "error", f"The label has {len(values)} different values.", "Is it an image, chosen by mistake?"
        )
    voxel_ml = abs(float(np.linalg.det(label.affine[:3, :3]))) / 1000
    volumes = {int(v): float(n) * voxel_ml for v, n in zip(values, counts, strict=True) if v != 0}
    total = float(counts.sum()) * voxel_ml
    grid = compare(image, label)
    if not grid.same:
        return Examination(
            "error", grid.text, "Choose both above and bring the label onto the image's grid.", volumes, total
        )
    if not volumes:
        return Examination(
            "error", "The label is empty: every voxel is 0.", "Choose another label.", {}, total
        )
    notes = tuple(dict.fromkeys((*image.provenance.notes, *label.provenance.notes)))
    if notes:  # what reading assumed: forms that disagree, units converted, a tilted grid
        return Examination("note", f"same grid; {' '.join(notes)}", "", volumes, total)
    return Examination("ok", "same grid", "", volumes, total)


def offered_classes(volumes: Mapping[int, float], names: Mapping[int, str]) -> dict[str, tuple[int, ...]]:
    """Return the classes that a label offers at first: one per value, under its name where it has one.

    One value alone, such as the 255 of a mask stored as {0, 255}, is offered as one class "structure".
    """
    if len(volumes) == 1:
        (value,) = volumes
        return {names.get(value, "structure"): (value,)}
    offered: dict[str, tuple[int, ...]] = {}
    for value in sorted(volumes):
        name = names.get(value, f"label {value}")
        offered[name] = (*offered.get(name, ()), value)
    return offered


def clashing_names(named: Mapping[str, Mapping[int, str]], classes: Mapping[str, tuple[int, ...]]) -> str:
    """Return in which cases a label value of a class has different names in the files; "" where they agree.

    A class that the user has given a name of their own, which is in no file, is taken as they mean it.

    Parameters
    ----------
    named
        Case -> label value -> name in its file.
    classes
        Class name -> its label values.
    """
    for name, values in classes.items():
        for value in values:
            said = [(case, names[value]) for case, names in named.items() if value in names]
            if name.casefold() not in {text.casefold() for _, text in said}:
                continue
            first, one = said[0]
            for other, text in said:
                if text.casefold() != one.casefold():
                    return f"Label {value} is “{one}” in {first}, but “{text}” in {other}."
    return ""


def class_volume(volumes: Mapping[int, float], values: tuple[int, ...]) -> float:
    """Return the volume of a class in ml."""
    return sum(volumes.get(value, 0.0) for value in values)
