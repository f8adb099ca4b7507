"""What the layers of a watched case are going to show: prediction, truth, errors, balance over the regions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.core.types import RegionReport
from segexplorer.data.geometry import DisplayGrid, Grid
from segexplorer.data.volume import Volume
from segexplorer.faces.napari.pictures import Picture, fullest_slice, picture_of
from segexplorer.training.snapshots import PatchSnapshot, WatchedSnapshot
from segexplorer.viewmodels import maps, overlay


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
    picture = picture_of(
        key, "labels", f"prediction ({trained(snapshot)})", volume, values=values, colours="classes"
    )
    return replace(picture, open_at=fullest_slice(picture.data, list(values)))


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
    picture = picture_of(key, "labels", f"label ({snapshot.case})", volume, values=values, colours="classes")
    return replace(picture, open_at=fullest_slice(picture.data, list(values)))


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
    picture = picture_of(
        key,
        "labels",
        f"errors, {class_name(snapshot, class_index)} ({trained(snapshot)})",
        _snapshot_volume(snapshot, codes),
        values={int(entry.code): entry.name for entry in overlay.legend(class_index)},
        colours="errors",
    )
    truth = DisplayGrid.of(_snapshot_volume(snapshot, codes)).to_display(_truth(snapshot))
    wanted = [class_index] if class_index else list(range(1, len(snapshot.class_names) + 1))
    picture = replace(picture, open_at=fullest_slice(truth, wanted))
    if not outline:
        return picture
    shown = DisplayGrid.of(_snapshot_volume(snapshot, codes)).to_display(snapshot.prediction)
    return replace(picture, data=overlay.with_outline(picture.data, shown, axes))


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
        Grid(snapshot.prediction.shape, snapshot.affine),
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
        Grid(patch.case_shape, patch.case_affine),
        class_index,
        quantity,
        threshold_ml,
        key or f"patch/{name}",
        f"{maps.TITLES[quantity]}, {name} (last patch of {patch.case}, step {patch.step})",
    )


def _region_picture(
    report: RegionReport,
    affine: NDArray[np.float64],
    within: Grid,
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
    return picture_of(
        key,
        "image",
        name,
        Volume.from_array(values, affine=affine),
        within=within,
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
