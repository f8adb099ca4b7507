"""What the Inspect tab shows of a watched case, computed in a worker: pictures, scores, pieces of error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.core.events import CaseScore
from segexplorer.core.types import RegionReport
from segexplorer.data.geometry import spacing
from segexplorer.data.volume import Volume
from segexplorer.faces.napari import pictures, watched_pictures
from segexplorer.faces.napari.pictures import Picture
from segexplorer.metrics import score_case
from segexplorer.training.snapshots import PatchSnapshot, WatchedSnapshot
from segexplorer.viewmodels import maps
from segexplorer.viewmodels.balance import BalanceHistogram, balance_histogram
from segexplorer.viewmodels.errors import ErrorPiece, error_pieces

Switch = Literal["prediction", "errors", "balance", "alpha", "beta", "patch"]
SWITCHES: dict[Switch, str] = {
    "prediction": "Prediction",
    "errors": "Errors",
    "balance": "FP-FN balance of the regions",
    "alpha": "Alpha: penalty for false positives",
    "beta": "Beta: penalty for false negatives",
    "patch": "The last patch's own boxes",
}
"""Layers that can be switched; their keys and titles."""


@dataclass(frozen=True)
class Wanted:
    """What is asked for: the switches that are on, one class or all, and the axes of the slice looked at."""

    switches: frozenset[Switch]
    class_index: int | None = None
    axes: tuple[int, ...] | None = None
    listed: bool = True
    """Whether the list of errors is asked for."""


@dataclass(frozen=True)
class Seen:
    """A watched case, ready to be shown."""

    snapshot: WatchedSnapshot
    wanted: Wanted
    pictures: tuple[Picture, ...]
    scores: tuple[CaseScore, ...]
    pieces: tuple[ErrorPiece, ...]
    note: str = ""
    balance: BalanceHistogram | None = None
    """How the error volume of the shown class spreads over the balances of its regions."""


def see(snapshot: WatchedSnapshot, patch: PatchSnapshot | None, wanted: Wanted) -> Seen:
    """Compute everything that is asked for; what a case or loss cannot show becomes a note."""
    made: list[Picture] = []
    notes: list[str] = []
    for switch in SWITCHES:
        if switch in wanted.switches:
            try:
                made.append(_picture(switch, snapshot, patch, wanted))
            except DataError as error:
                notes.append(str(error))
    return Seen(
        snapshot,
        wanted,
        tuple(made),
        _scores(snapshot),
        _pieces(snapshot, wanted),
        _joined(notes),
        _balance(snapshot, wanted),
    )


def _balance(snapshot: WatchedSnapshot, wanted: Wanted) -> BalanceHistogram | None:
    if snapshot.regions is None or snapshot.regions_affine is None:
        return None
    index = chosen_class(snapshot.regions, wanted.class_index)
    voxel_ml = abs(float(np.linalg.det(snapshot.regions_affine[:3, :3]))) / 1000
    return balance_histogram(snapshot.regions, index, voxel_ml, watched_pictures.class_name(snapshot, index))


def _joined(notes: Sequence[str]) -> str:
    return "\n".join(dict.fromkeys(notes))


def _picture(
    switch: Switch, snapshot: WatchedSnapshot, patch: PatchSnapshot | None, wanted: Wanted
) -> Picture:
    if switch == "prediction":
        return watched_pictures.prediction_picture(snapshot, key=switch)
    if switch == "errors":
        return watched_pictures.errors_picture(snapshot, wanted.class_index, axes=wanted.axes, key=switch)
    if switch == "patch":
        if patch is None:
            raise DataError("There is no patch with regions yet.", "It comes with the next training step.")
        return watched_pictures.patch_picture(
            patch, chosen_class(patch.regions, wanted.class_index), key=switch
        )
    if snapshot.regions is None:
        raise DataError("This loss has no regions, so it has no balance map.", "Choose a region-wise loss.")
    return watched_pictures.balance_picture(
        snapshot, chosen_class(snapshot.regions, wanted.class_index), switch, key=switch
    )


def chosen_class(report: RegionReport, class_index: int | None) -> int:
    """Return the class whose regions are shown: the chosen one; of all, the one with most error volume."""
    if class_index is not None:
        return class_index
    error = np.nansum(report.values["fp"] + report.values["fn"], axis=1)
    return int(error[1:].argmax()) + 1


def _scores(snapshot: WatchedSnapshot) -> tuple[CaseScore, ...]:
    if snapshot.truth is None:
        return ()
    return score_case(
        snapshot.prediction,
        snapshot.truth,
        snapshot.class_names,
        spacing(snapshot.affine),
        case=snapshot.case,
        role=snapshot.role,
        badge=snapshot.badge,
    )


def _pieces(snapshot: WatchedSnapshot, wanted: Wanted) -> tuple[ErrorPiece, ...]:
    if snapshot.truth is None or not wanted.listed:
        return ()
    return error_pieces(
        snapshot.prediction,
        snapshot.truth,
        snapshot.class_names,
        snapshot.affine,
        class_index=wanted.class_index,
        limit=100,
    )


def image_of(open_case: Callable[[], Any], name: str, there: Sequence[NDArray[Any]]) -> Picture | None:
    """Return the picture of a case's image; None where a layer of the user's shows the same voxels already.

    Parameters
    ----------
    open_case
        Opens the case (`CaseRef.open`).
    there
        Arrays of the image layers in the viewer.
    """
    image: Volume = open_case().images[0]
    picture = pictures.image_picture(image, f"image ({name})")
    same = any(a.shape == picture.data.shape and np.array_equal(a, picture.data) for a in there)
    return None if same else picture


def under_cursor(snapshot: WatchedSnapshot, class_index: int | None, world: Sequence[float]) -> str:
    """Return what a watched case says at a point, in one or two sentences; "" outside its grid.

    Parameters
    ----------
    class_index
        One class; None takes the class that is there, in the truth or else in the prediction.
    world
        (z, y, x) RAS in mm, as napari's cursor tells it.
    """
    point = np.append(np.asarray(world, dtype=float)[::-1], 1.0)
    place = np.rint(np.linalg.solve(snapshot.affine, point)[:3]).astype(int)
    if (place < 0).any() or (place >= snapshot.prediction.shape).any():
        return ""
    at = tuple(int(i) for i in place)
    predicted = int(snapshot.prediction[at])
    true = None if snapshot.truth is None else int(snapshot.truth[at])
    sentence = _voxel_sentence(snapshot, predicted, true)
    shown = class_index if class_index is not None else (true if true not in (None, 0, 255) else predicted)
    if not shown or snapshot.regions is None or snapshot.regions_affine is None:
        return sentence
    affine = snapshot.regions_affine
    voxel = np.linalg.solve(affine, point)[:3]
    millilitres = abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    region = maps.read_out(snapshot.regions, shown, [float(v) for v in voxel], millilitres)
    name = snapshot.class_names[shown - 1]
    return f"{sentence}\nRegion, {name}: {region}" if region else sentence


def _voxel_sentence(snapshot: WatchedSnapshot, predicted: int, true: int | None) -> str:
    names = ("background", *snapshot.class_names)
    if true is None:
        return f"predicted {names[predicted]}"
    if true == 255:
        return f"predicted {names[predicted]}; ignored here"
    if predicted == true:
        return f"{names[true]}, correct"
    return f"{names[true]}, predicted {names[predicted]}"
