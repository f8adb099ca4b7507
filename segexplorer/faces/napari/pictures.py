"""What a layer is going to show, prepared as plain arrays: pure functions that a worker calls.

A `Picture` holds everything `layers.CaseLayers` assigns on the main thread. Arrays are (z, y, x) on the closest
canonical RAS grid of their volume; scale and translate are in mm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.core.types import RegionReport
from segexplorer.data.geometry import DisplayGrid
from segexplorer.data.volume import Provenance, Volume
from segexplorer.training.snapshots import PatchSnapshot, WatchedSnapshot
from segexplorer.viewmodels import maps, overlay

WINDOWS: Mapping[str, tuple[float, float]] = {
    "abdomen": (40.0, 400.0),
    "mediastinum": (50.0, 350.0),
    "lung": (-600.0, 1500.0),
    "bone": (400.0, 1800.0),
    "brain": (40.0, 80.0),
}
"""Display windows of CT by name: (level, width) in HU."""

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
    colours: Literal["classes", "errors", "balance", "grey"] = "grey"
    open_at: int | None = None
    """Index along z with most label."""
    provenance: Provenance = field(default_factory=Provenance)
    """Header facts and notes of the volume's file, for exports and for the geometry verdict."""
    colour_map: NDArray[np.float32] | None = None
    """(n, 4) colours from the lower contrast limit to the upper; for balances."""


def _triple(values: Any) -> tuple[float, float, float]:
    z, y, x = (float(v) for v in values)
    return z, y, x


def _picture(key: str, kind: Literal["image", "labels"], name: str, volume: Volume, **rest: Any) -> Picture:
    grid = DisplayGrid.of(volume)
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
    return _picture(
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
    flat = volume.array.ravel(order="K")  # as it lies in memory: no copy
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
    picture = _picture(key, "labels", name, whole(volume), path=_path(volume), colours="classes")
    named = dict(values) if values else {v: f"label {v}" for v in label_values(picture.data)}
    return _with(picture, values=named, open_at=fullest_slice(picture.data, list(named)))


def whole(volume: Volume) -> Volume:
    """Return a label volume with an integer array, as napari's Labels want it.

    Raises
    ------
    DataError
        When a value is no whole number.
    """
    array = volume.array
    if np.issubdtype(array.dtype, np.integer):
        return volume
    if array.dtype == np.bool_:
        return volume.with_array(array.astype(np.uint8))
    rounded = np.rint(array)
    if not np.array_equal(rounded, array):
        raise DataError(
            "The label holds values that are not whole numbers.",
            "Open it as an image, or choose another label.",
        )
    return volume.with_array(rounded.astype(np.int32))


def label_values(array: NDArray[Any]) -> list[int]:
    """Return the values other than 0 that occur, in order."""
    return [int(v) for v in np.unique(array) if v != 0]


def fullest_slice(data: NDArray[Any], values: Sequence[int]) -> int | None:
    """Return the index along the first axis with most voxels of these values; None where there are none."""
    counts = (
        np.isin(data, np.asarray(values, dtype=data.dtype)).sum(axis=(1, 2)) if len(values) else np.zeros(1)
    )
    return int(counts.argmax()) if counts.max() > 0 else None


def trained(snapshot: WatchedSnapshot) -> str:
    """Return how a watched case stands to the training: "training" or "not trained on", and any badge."""
    words = snapshot.badge or ("training" if snapshot.role == "train" else "not trained on")
    return f"{snapshot.case}, {words}, step {snapshot.step}"


def _snapshot_volume(snapshot: WatchedSnapshot, array: NDArray[Any]) -> Volume:
    return Volume.from_array(array, affine=snapshot.affine)


def prediction_picture(snapshot: WatchedSnapshot, *, key: str = "prediction") -> Picture:
    """Prepare the predicted classes of a watched case, as class indices 1, 2, ..."""
    volume = _snapshot_volume(snapshot, snapshot.prediction)
    values = dict(enumerate(snapshot.class_names, 1))
    picture = _picture(
        key, "labels", f"prediction ({trained(snapshot)})", volume, values=values, colours="classes"
    )
    return _with(picture, open_at=fullest_slice(picture.data, list(values)))


def truth_picture(snapshot: WatchedSnapshot, *, key: str = "truth") -> Picture:
    """Prepare the true classes of a watched case as class indices; ignored voxels are background here.

    Raises
    ------
    DataError
        When the case has no label.
    """
    truth = _truth(snapshot)
    values = dict(enumerate(snapshot.class_names, 1))
    shown = np.where(truth == overlay.IGNORED, 0, truth).astype(np.uint8)
    volume = _snapshot_volume(snapshot, shown)
    picture = _picture(key, "labels", f"label ({snapshot.case})", volume, values=values, colours="classes")
    return _with(picture, open_at=fullest_slice(picture.data, list(values)))


def errors_picture(
    snapshot: WatchedSnapshot,
    class_index: int | None = None,
    *,
    outline: bool = True,
    axes: Sequence[int] | None = None,
    key: str = "errors",
) -> Picture:
    """Prepare errors in the codes of `viewmodels.overlay`.

    Parameters
    ----------
    class_index
        One class against the rest; None for all.
    outline
        Whether what is correct is drawn as an outline only.
    axes
        Display axes (0 = z, 1 = y, 2 = x) along which an outline counts: the two of the slice shown.

    Raises
    ------
    DataError
        When the case has no label.
    """
    codes = overlay.error_codes(snapshot.prediction, _truth(snapshot), class_index)
    picture = _picture(
        key,
        "labels",
        f"errors, {class_name(snapshot, class_index)} ({trained(snapshot)})",
        _snapshot_volume(snapshot, codes),
        values={int(entry.code): entry.name for entry in overlay.legend(class_index)},
        colours="errors",
    )
    truth = DisplayGrid.of(_snapshot_volume(snapshot, codes)).to_display(_truth(snapshot))
    wanted = [class_index] if class_index else list(range(1, len(snapshot.class_names) + 1))
    picture = _with(picture, open_at=fullest_slice(truth, wanted))
    if not outline:
        return picture
    shown = DisplayGrid.of(_snapshot_volume(snapshot, codes)).to_display(snapshot.prediction)
    return _with(picture, data=overlay.with_outline(picture.data, shown, axes))


def class_name(snapshot: WatchedSnapshot, class_index: int | None) -> str:
    """Return the name of a class index, "background" for 0, "all classes" for None."""
    if class_index is None:
        return "all classes"
    return "background" if class_index == 0 else snapshot.class_names[class_index - 1]


def balance_picture(
    snapshot: WatchedSnapshot,
    class_index: int,
    quantity: maps.Quantity = "balance",
    *,
    threshold_ml: float = 0.0,
    key: str | None = None,
) -> Picture:
    """Prepare one class's FP-FN balance, alpha or beta over the regions of the loss.

    NaN (transparent) where the loss skips the class or its soft error volume in the region is under
    `threshold_ml`. Voxels repeat their region's value; nothing is interpolated.

    Raises
    ------
    DataError
        When the loss has no regions, or does not tell the quantity there.
    """
    if snapshot.regions is None or snapshot.regions_affine is None:
        raise DataError("This loss has no regions, so it has no balance map.", "Choose a region-wise loss.")
    name = class_name(snapshot, class_index)
    return _region_picture(
        snapshot.regions,
        snapshot.regions_affine,
        class_index,
        quantity,
        threshold_ml,
        key or f"balance/{name}",
        f"{maps.TITLES[quantity]}, {name} ({trained(snapshot)})",
    )


def patch_picture(
    patch: PatchSnapshot,
    class_index: int,
    quantity: maps.Quantity = "balance",
    *,
    threshold_ml: float = 0.0,
    key: str | None = None,
) -> Picture:
    """Prepare the same for the last training patch, where it was in its case."""
    affine = patch.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ np.asarray(patch.origin, dtype=np.float64)
    name = patch.class_names[class_index - 1] if class_index else "background"
    return _region_picture(
        patch.regions,
        affine,
        class_index,
        quantity,
        threshold_ml,
        key or f"patch/{name}",
        f"{maps.TITLES[quantity]}, {name} (last patch of {patch.case}, step {patch.step})",
    )


def _region_picture(
    report: RegionReport,
    affine: NDArray[np.float64],
    class_index: int,
    quantity: maps.Quantity,
    threshold_ml: float,
    key: str,
    name: str,
) -> Picture:
    millilitres = abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    regions = maps.region_picture(
        report, class_index, millilitres, quantity=quantity, threshold_ml=threshold_ml
    )
    values, _ = regions.paint()
    return _picture(
        key,
        "image",
        name,
        Volume.from_array(values, affine=affine),
        contrast_limits=regions.limits,
        contrast_range=regions.limits,
        colours="balance",
        colour_map=regions.colour_map,
    )


def _truth(snapshot: WatchedSnapshot) -> NDArray[np.uint8]:
    if snapshot.truth is None:
        raise DataError(
            f"{snapshot.case} has no label, so its errors are unknown.", "Watch a case with a label."
        )
    return snapshot.truth


def _path(volume: Volume) -> str | None:
    path = volume.provenance.path
    return None if path is None else str(path)


def _with(picture: Picture, **changes: Any) -> Picture:
    return replace(picture, **changes)
