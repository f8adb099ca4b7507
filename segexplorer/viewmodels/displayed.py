"""What layers and the Inspect tab show of a watched case: prediction, truth, errors, balance, scores.

Snapshots come from a live run or from its recorded history; everything here is computed in a worker.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.core.events import CaseScore, RegionReport, Role
from segexplorer.data.case import CaseRef, ClassMap
from segexplorer.data.geometry import DisplayGrid, Grid, spacing
from segexplorer.data.volume import Volume
from segexplorer.metrics import score_case
from segexplorer.training.experiment import Experiment
from segexplorer.training.history import HistoryFrame, open_run
from segexplorer.training.snapshots import PatchSnapshot, WatchedSnapshot
from segexplorer.viewmodels import errors, layer_images, regions
from segexplorer.viewmodels import regions as maps
from segexplorer.viewmodels.errors import ErrorPiece, error_pieces
from segexplorer.viewmodels.layer_images import Picture, fullest_slice, picture_of
from segexplorer.viewmodels.regions import BalanceHistogram, balance_histogram

Truth = NDArray[np.uint8] | None


def frames_of(folder: Path) -> dict[Role, tuple[HistoryFrame, ...]]:
    """Return the complete frames of each role, in order of steps; also while the run writes.

    Raises
    ------
    DataError
        When the folder is no run folder.
    """
    record = open_run(folder)
    return {role: tuple(record.watched(role)) for role in get_args(Role)}


class RunHistoryLoader:
    """Loads frames of one run; the labels, which the history does not hold, are read once per case.

    Parameters
    ----------
    experiment
        Whose data set names the cases and classes.
    """

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._refs: Mapping[str, CaseRef] | None = None
        self._truths: dict[str, Truth] = {}
        self._lock = threading.Lock()

    def know(self, snapshot: WatchedSnapshot) -> None:
        """Take over the label of a snapshot that came from the run itself."""
        self._truths.setdefault(snapshot.case, snapshot.truth)

    def snapshot(self, frame: HistoryFrame) -> WatchedSnapshot:
        """Return a frame with the label of its case.

        Raises
        ------
        SegExplorerError
            When the case's files are gone or damaged.
        """
        loaded = frame.load()
        return replace(loaded, truth=self._truth(loaded.case))

    def ref(self, case: str) -> CaseRef | None:
        """Return a case of the data set by its id; None where the data set no longer has it."""
        with self._lock:
            if self._refs is None:
                self._refs = {ref.id: ref for ref in self._experiment.data.cases()}
            return self._refs.get(case)

    def _truth(self, case: str) -> Truth:
        if case not in self._truths:
            self._truths[case] = self._read_truth(case)
        return self._truths[case]

    def _read_truth(self, case: str) -> Truth:
        ref = self.ref(case)
        label = None if ref is None or ref.label is None else ref.open().label
        if label is None:
            return None
        data = self._experiment.data
        return ClassMap.from_classes(data.class_values(), data.other_labels).encode(np.asarray(label.array))


def trained(snapshot: WatchedSnapshot) -> str:
    """Return the role of a watched case ("training" or "not trained on", or its badge) and the step shown."""
    return f"{_role(snapshot)}, step {snapshot.step}"


def _role(snapshot: WatchedSnapshot) -> str:
    words = snapshot.badge or ("training" if snapshot.role == "train" else "not trained on")
    return f"{snapshot.case}, {words}"


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
    shown = np.where(truth == errors.IGNORED, 0, truth).astype(np.uint8)
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
    codes = errors.error_codes(snapshot.prediction, _truth(snapshot), class_index)
    picture = picture_of(
        key,
        "labels",
        f"errors, {class_name(snapshot, class_index)} ({trained(snapshot)})",
        _snapshot_volume(snapshot, codes),
        values={int(entry.code): entry.name for entry in errors.legend(class_index)},
        colours="errors",
    )
    truth = DisplayGrid.of(_snapshot_volume(snapshot, codes)).to_display(_truth(snapshot))
    wanted = [class_index] if class_index else list(range(1, len(snapshot.class_names) + 1))
    picture = replace(picture, open_at=fullest_slice(truth, wanted))
    if not outline:
        return picture
    shown = DisplayGrid.of(_snapshot_volume(snapshot, codes)).to_display(snapshot.prediction)
    return replace(picture, data=errors.with_outline(picture.data, shown, axes))


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
        When the loss has no regions, or does not report that quantity.
    """
    if snapshot.regions is None or snapshot.regions_affine is None:
        raise DataError("This loss has no regions, so it has no balance map.", "Choose a region-wise loss.")
    name = class_name(snapshot, class_index)
    # a slab predicted later does not change the map, whose scope names the step of the whole prediction
    scope = snapshot.regions.scope or f"step {snapshot.step}"
    return _region_picture(
        snapshot.regions,
        snapshot.regions_affine,
        Grid(snapshot.prediction.shape, snapshot.affine),
        class_index,
        quantity,
        threshold_ml,
        key or f"balance/{name}",
        f"{maps.TITLES[quantity]}, {name} ({_role(snapshot)}, {scope})",
        f"{maps.TITLES[quantity]}, {name}: {snapshot.case}, {scope}",
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
        f"{maps.TITLES[quantity]}, {name}: {patch.case}, {patch.regions.scope or 'this patch'}",
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
    caption: str,
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
        caption=caption,
    )


def _truth(snapshot: WatchedSnapshot) -> NDArray[np.uint8]:
    if snapshot.truth is None:
        raise DataError(
            f"{snapshot.case} has no label, so its errors are unknown.", "Watch a case with a label."
        )
    return snapshot.truth


Switch = Literal["prediction", "errors", "balance", "alpha", "beta", "patch"]
SWITCHES: dict[Switch, str] = {
    "prediction": "Prediction",
    "errors": "Errors",
    "balance": "FP-FN balance of the regions",
    "alpha": "Alpha: penalty for false positives",
    "beta": "Beta: penalty for false negatives",
    "patch": "FP-FN balance of the last patch",
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
    return balance_histogram(snapshot.regions, index, voxel_ml, class_name(snapshot, index))


def _joined(notes: Sequence[str]) -> str:
    return "\n".join(dict.fromkeys(notes))


def _picture(
    switch: Switch, snapshot: WatchedSnapshot, patch: PatchSnapshot | None, wanted: Wanted
) -> Picture:
    if switch == "prediction":
        return prediction_picture(snapshot, key=switch)
    if switch == "errors":
        return errors_picture(snapshot, wanted.class_index, axes=wanted.axes, key=switch)
    if switch == "patch":
        if patch is None:
            raise DataError("There is no patch with regions yet.", "It comes with the next training step.")
        return patch_picture(patch, chosen_class(patch.regions, wanted.class_index), key=switch)
    if snapshot.regions is None:
        raise DataError("This loss has no regions, so it has no balance map.", "Choose a region-wise loss.")
    return balance_picture(snapshot, chosen_class(snapshot.regions, wanted.class_index), switch, key=switch)


def chosen_class(report: RegionReport, class_index: int | None) -> int:
    """Return the class whose regions are shown: the chosen one; of all, the one with most error volume."""
    if class_index is not None:
        return class_index
    both = (report.values["fp"] + report.values["fn"]).astype(np.float64)
    error: NDArray[np.float64] = np.nansum(both, axis=1)
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
    picture = layer_images.image_picture(image, f"image ({name})")
    same = any(a.shape == picture.data.shape and np.array_equal(a, picture.data) for a in there)
    return None if same else picture


def under_cursor(snapshot: WatchedSnapshot, class_index: int | None, world: Sequence[float]) -> str:
    """Return what a watched case says at a point, in one or two sentences; "" outside its grid.

    Parameters
    ----------
    class_index
        One class; None takes the class that is there, in the truth or else in the prediction.
    world
        (z, y, x) RAS in mm, as napari's cursor gives it.
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
    region = regions.read_out(snapshot.regions, shown, [float(v) for v in voxel], millilitres)
    name = snapshot.class_names[shown - 1]
    scope = f" ({snapshot.regions.scope})" if snapshot.regions.scope else ""
    return f"{sentence}\nRegion, {name}: {region}{scope}" if region else sentence


def _voxel_sentence(snapshot: WatchedSnapshot, predicted: int, true: int | None) -> str:
    names = ("background", *snapshot.class_names)
    if true is None:
        return f"predicted {names[predicted]}"
    if true == 255:
        return f"predicted {names[predicted]}; ignored here"
    if predicted == true:
        return f"{names[true]}, correct"
    return f"{names[true]}, predicted {names[predicted]}"
