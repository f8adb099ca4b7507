"""What layers and the Inspect tab show of a watched case: prediction, truth, errors, balance, scores.

Snapshots come from a live run or from its recorded history; everything here is computed in a worker.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError, SegExplorerError
from segexplorer.core.events import CaseScore, RegionReport, Role
from segexplorer.data.case import CaseRef
from segexplorer.data.geometry import DisplayGrid, Grid, spacing
from segexplorer.data.volume import Volume, value_counts
from segexplorer.metrics import score_case
from segexplorer.training.experiment import Experiment
from segexplorer.training.explanation import explain_patch, logits_from_probabilities
from segexplorer.training.history import HistoryFrame, open_run
from segexplorer.training.snapshots import PatchSnapshot, WatchedSnapshot
from segexplorer.training.trained_patch import TrainedPatch
from segexplorer.viewmodels import errors, layer_images, regions
from segexplorer.viewmodels import regions as maps
from segexplorer.viewmodels.decision import Counts, Decision, DecisionCurve, figures_at_rest
from segexplorer.viewmodels.error_pieces import ErrorPiece, error_pieces
from segexplorer.viewmodels.layer_images import Picture, filled_slices, fullest_slice, picture_of
from segexplorer.viewmodels.outlines import Outlines
from segexplorer.viewmodels.regions import BalanceHistogram, balance_histogram
from segexplorer.viewmodels.surfaces import Part, SurfacePicture, shown_class, surfaces_of

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
        return replace(loaded, truth=self.truth(loaded.case))

    def ref(self, case: str) -> CaseRef | None:
        """Return a case of the data set by its id; None where the data set no longer has it."""
        with self._lock:
            if self._refs is None:
                self._refs = {ref.id: ref for ref in self._experiment.data.cases()}
            return self._refs.get(case)

    def truth(self, case: str) -> Truth:
        """Return the label of a case as class indices, on its own grid; None where it has none, or is not here.

        Raises
        ------
        SegExplorerError
            When its files are damaged.
        """
        if case not in self._truths:
            self._truths[case] = self._read_truth(case)
        return self._truths[case]

    def _read_truth(self, case: str) -> Truth:
        ref = self.ref(case)
        label = None if ref is None or ref.label is None else ref.open().label
        if label is None:
            return None
        data = self._experiment.data
        return data.class_map().encode(np.asarray(label.array))


def trained(snapshot: WatchedSnapshot) -> str:
    """Return the role of a watched case ("training" or "not trained on", or its badge) and the step shown.

    Predictions of other programs, whose role is "test", have no step.
    """
    return words(snapshot) if snapshot.role == "test" else f"{words(snapshot)}, step {snapshot.step}"


def words(snapshot: WatchedSnapshot) -> str:
    """Return a case with "training", "not trained on" or its badge."""
    return words_of(snapshot.case, snapshot.role, snapshot.badge)


def held(snapshot: WatchedSnapshot) -> str:
    """Return whether a case was trained on, or its badge."""
    return held_of(snapshot.role, snapshot.badge)


def words_of(case: str, role: Role, badge: str = "") -> str:
    """Return a case with what it is in its run, as `words` does."""
    return f"{case}, {held_of(role, badge)}"


def held_of(role: Role, badge: str = "") -> str:
    """Return whether a case of a role was trained on, or its badge."""
    return badge or ("training" if role == "train" else "not trained on")


def badge(snapshot: WatchedSnapshot) -> str:
    """Return a case with what must be known of its figures: whether it was held out."""
    known = snapshot.badge or (
        "training case, not held out" if snapshot.role == "train" else "not trained on"
    )
    return f"{snapshot.case}: {known}"


def _snapshot_volume(snapshot: WatchedSnapshot, array: NDArray[Any]) -> Volume:
    return Volume.from_array(array, affine=snapshot.affine)


def prediction_picture(
    snapshot: WatchedSnapshot, class_index: int | None = None, *, key: str = "prediction"
) -> Picture:
    """Prepare the predicted classes of a watched case, as class indices 1, 2, ...

    Of classes that overlap, the chosen one is drawn whole; of all, the last one in each voxel. It opens where most
    of the chosen class was predicted, or where it should have been.
    """
    volume = _snapshot_volume(snapshot, shown_class(snapshot, snapshot.prediction, class_index))
    values = dict(enumerate(snapshot.class_names, 1))
    picture = picture_of(
        key, "labels", f"prediction ({trained(snapshot)})", volume, values=values, colours="classes"
    )
    wanted = [class_index] if class_index else list(values)
    opened = fullest_slice(picture.data, wanted)
    if opened is None and snapshot.truth is not None:
        opened = _fullest_of_truth(snapshot, class_index)
    return replace(picture, open_at=opened)


def errors_picture(
    snapshot: WatchedSnapshot, class_index: int | None = None, *, key: str = "errors"
) -> Picture:
    """Prepare errors in the codes of `viewmodels.errors`; what is correct is not filled.

    Parameters
    ----------
    class_index
        One class against the rest; None for all.

    Raises
    ------
    DataError
        When the case has no label.
    """
    codes = errors.error_codes(snapshot.prediction, _truth(snapshot), class_index, snapshot.scheme)
    codes[codes == errors.Code.TRUE_POSITIVE] = errors.Code.NOTHING
    picture = picture_of(
        key,
        "labels",
        f"errors, {class_name(snapshot, class_index)} ({trained(snapshot)})",
        _snapshot_volume(snapshot, codes),
        values={int(code): name for code, name in errors.NAMES.items()},
        colours="errors",
    )
    return replace(picture, open_at=_fullest_of_truth(snapshot, class_index))


def _fullest_of_truth(snapshot: WatchedSnapshot, class_index: int | None) -> int | None:
    """Return the slice that shows most of a class, or of all, in the truth."""
    own = shown_class(snapshot, _truth(snapshot), class_index)
    truth = DisplayGrid.of(_snapshot_volume(snapshot, own)).to_display(own)
    wanted = [class_index] if class_index else list(range(1, len(snapshot.class_names) + 1))
    return fullest_slice(truth, wanted)


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
    penalties: tuple[float, float] | None = None,
    key: str | None = None,
) -> Picture:
    """Prepare one class's FP-FN balance, alpha or beta over the regions of the loss, as colour indices.

    0 (transparent) where the loss skips the class or its soft error volume in the region is under
    `threshold_ml`. Voxels repeat their region's value; nothing is interpolated.

    Parameters
    ----------
    penalties
        Least and greatest alpha and beta under the loss, the limits of their maps.

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
        threshold_ml,
        penalties,
        key or f"balance/{name}",
        f"{maps.TITLES[quantity]}, {name} ({words(snapshot)}, {scope})",
        maps.Scale(quantity, f"{maps.TITLES[quantity]}, {name}", scope),
    )


def patch_picture(
    patch: PatchSnapshot,
    class_index: int,
    quantity: maps.Quantity = "balance",
    *,
    threshold_ml: float = 0.0,
    penalties: tuple[float, float] | None = None,
    key: str | None = None,
) -> Picture:
    """Prepare the same for the last training patch, where it was in its case."""
    affine = patch.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ np.asarray(patch.origin, dtype=np.float64)
    name = patch.class_names[class_index - 1] if class_index else "background"
    scope = patch.regions.scope or "this patch"
    return _region_picture(
        patch.regions,
        affine,
        Grid(patch.case_shape, patch.case_affine),
        class_index,
        threshold_ml,
        penalties,
        key or f"patch/{name}",
        f"{maps.TITLES[quantity]}, {name} (last patch of {patch.case}, step {patch.step})",
        maps.Scale(quantity, f"{maps.TITLES[quantity]}, {name}", f"{patch.case}, {scope}"),
    )


def _region_picture(
    report: RegionReport,
    affine: NDArray[np.float64],
    within: Grid,
    class_index: int,
    threshold_ml: float,
    penalties: tuple[float, float] | None,
    key: str,
    name: str,
    scale: maps.Scale,
) -> Picture:
    millilitres = abs(float(np.linalg.det(affine[:3, :3]))) / 1000
    regions = maps.region_picture(
        report, class_index, millilitres, quantity=scale.quantity, threshold_ml=threshold_ml, limits=penalties
    )
    picture = picture_of(
        key,
        "labels",
        name,
        Volume.from_array(regions.paint(), affine=affine),
        within=within,
        values=regions.names,
        colours="map",
        colour_scale=replace(scale, limits=regions.limits, full_ml=regions.full_ml),
    )
    return replace(picture, open_at=fullest_slice(picture.data))


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
    "balance": "FP-FN balance",
    "alpha": "Alpha: penalty for false positives",
    "beta": "Beta: penalty for false negatives",
    "patch": "FP-FN balance of the last patch",
}
"""Layers that can be switched; their keys and titles."""


MOST_LISTED = 100
"""So many errors of a prediction are listed, the largest."""


MAPS: tuple[Switch, ...] = ("balance", "alpha", "beta", "patch")
"""Overlays of which one at most is on: alpha, beta and balance show one fact, and so does the last patch."""


LAYER_ORDER: tuple[Switch, ...] = (*MAPS, "prediction", "errors")
"""From the bottom to the top: what is filled lies under what is outlined."""


@dataclass(frozen=True)
class Wanted:
    """What is asked for: the switches that are on, and one class or all."""

    switches: frozenset[Switch]
    class_index: int | None = None
    listed: bool = True
    """Whether the list of errors is asked for."""
    penalties: tuple[float, float] | None = None
    """Limits of alpha and beta under the loss of the run."""
    over_map: bool = False
    """Whether a map of the loss lies below, so that everything else is an outline."""
    bias: float | None = None
    """Added to the logit of the class before the decision: a what-if of the prediction. None: nobody asks."""
    settled: bool = True
    """Whether the bias rests; while it moves, only what can be counted at once is computed."""
    solid: bool = False
    """Whether surfaces are asked for, since something is shown in 3D."""

    @property
    def surfaces(self) -> tuple[Part, ...]:
        """Which surfaces that makes: errors come with the truth around them."""
        if not self.solid:
            return ()
        of_errors: tuple[Part, ...] = ("errors", "truth") if "errors" in self.switches else ()
        return (*of_errors, *(("prediction",) if "prediction" in self.switches else ()))


@dataclass(frozen=True)
class Seen:
    """A watched case, ready to be shown."""

    snapshot: WatchedSnapshot
    wanted: Wanted
    pictures: tuple[Picture, ...]
    scores: tuple[CaseScore, ...]
    pieces: tuple[ErrorPiece, ...]
    balance: BalanceHistogram | None = None
    """How the error volume of the shown class spreads over the balances of its regions."""
    reasons: Mapping[Switch, str] = field(default_factory=dict)
    """Why a switch that is on draws nothing."""
    outlines: Outlines | None = None
    """Lines of truth and prediction, where the errors are drawn."""
    predicted: tuple[int, ...] = ()
    """Class indices that occur in the prediction, where it is drawn."""
    base: WatchedSnapshot | None = None
    """The prediction before a bias moved the decision; None where none did."""
    decision: Decision | None = None
    """The decision for the chosen class, where a bias was asked for."""
    counts: Counts | None = None
    """Voxels of the class under the bias."""
    counts_before: Counts | None = None
    """The same of the prediction as it was made."""
    curve: DecisionCurve | None = None
    """The same under every bias."""
    no_decision: str = ""
    """Why the decision cannot be moved here."""
    surfaces: Mapping[Part, SurfacePicture] = field(default_factory=dict)
    """Surfaces for views in 3D."""
    rest: Mapping[str, float] = field(default_factory=dict)
    """Surfaces and lesions of the class under a bias that rests (`decision.AT_REST`)."""
    rest_before: Mapping[str, float] = field(default_factory=dict)
    """The same of the prediction as it was made."""

    @property
    def recorded(self) -> WatchedSnapshot:
        """The prediction as the network made it."""
        return self.snapshot if self.base is None else self.base

    @property
    def note(self) -> str:
        """All reasons, each once."""
        return "\n".join(dict.fromkeys(self.reasons.values()))


def decision_of(snapshot: WatchedSnapshot, class_index: int | None) -> Decision:
    """Return the decision for a class of a watched case, on the case's own grid.

    It is exact where the logits were recorded on that grid; from probabilities of 8 bits the margins are rounded.

    Raises
    ------
    DataError
        When there is no single class, no label, or neither logits nor probabilities.
    """
    index = class_of_maps(snapshot.class_names, class_index)
    if index is None:
        raise DataError("A decision is moved for one class.", "Choose a class above.")
    truth = _truth(snapshot)
    own = snapshot.logits is not None and snapshot.logits.shape[1:] == truth.shape
    if own and snapshot.logits_affine is not None and np.allclose(snapshot.logits_affine, snapshot.affine):
        assert snapshot.logits is not None
        return Decision(snapshot.logits, truth, index, scheme=snapshot.scheme)
    if snapshot.all_probabilities is not None:
        logits = logits_from_probabilities(snapshot.all_probabilities, snapshot.scheme)
        return Decision(logits, truth, index, approximate=True, scheme=snapshot.scheme)
    raise DataError(
        "Neither logits nor probabilities of this prediction were kept on its own grid.",
        "Switch on “Keep probabilities” in the experiment's validation settings.",
    )


def _moved(
    snapshot: WatchedSnapshot, wanted: Wanted, known: Decision | None
) -> tuple[WatchedSnapshot, Decision | None, str]:
    """Return the prediction under the bias that is wanted, the decision, and why there is none."""
    if wanted.bias is None:
        return snapshot, None, ""
    try:
        decision = decision_of(snapshot, wanted.class_index) if known is None else known
    except DataError as error:
        return snapshot, None, str(error)
    # at 0 it is the prediction itself, which margins of 8 bits would not give back exactly
    if not wanted.bias:
        return snapshot, decision, ""
    return replace(snapshot, prediction=decision.prediction(wanted.bias)), decision, ""


def see(
    snapshot: WatchedSnapshot,
    patch: PatchSnapshot | None,
    wanted: Wanted,
    *,
    threshold_ml: float = 0.0,
    known: Seen | None = None,
    decision: Decision | None = None,
) -> Seen:
    """Compute everything that is asked for; what a case or loss cannot show becomes a reason.

    Parameters
    ----------
    threshold_ml
        Regions with less error volume are left out of the maps.
    known
        What was seen of the same prediction before: its scores, and its errors where the class is the same.
    decision
        The decision for the chosen class of this prediction, where it is known.
    """
    base = snapshot
    snapshot, decision, no_decision = _moved(base, wanted, decision)
    made: list[Picture] = []
    reasons: dict[Switch, str] = {}
    for switch in SWITCHES:
        if switch in wanted.switches:
            try:
                made.append(_picture(switch, snapshot, patch, wanted, threshold_ml))
            except DataError as error:
                reasons[switch] = str(error)
    drawn = {picture.key for picture in made}
    rest, rest_before = _at_rest(snapshot, base, decision, wanted, known)
    return Seen(
        snapshot,
        wanted,
        tuple(
            replace(p, form=_form(p, drawn, over_map=wanted.over_map), filled=filled_slices(p.data))
            for p in made
        ),
        *_figures(snapshot, wanted, known),
        _balance(snapshot, wanted),
        reasons,
        Outlines.of(snapshot, wanted.class_index) if "errors" in drawn else None,
        _predicted(snapshot) if "prediction" in drawn else (),
        None if snapshot is base else base,
        decision,
        None if decision is None else decision.counts(wanted.bias or 0.0),
        None if decision is None else decision.counts(0.0),
        None if decision is None else decision.curve(),
        no_decision,
        surfaces=_surfaces(snapshot, wanted, known),
        rest=rest,
        rest_before=rest_before,
    )


def _at_rest(
    snapshot: WatchedSnapshot,
    base: WatchedSnapshot,
    decision: Decision | None,
    wanted: Wanted,
    known: Seen | None,
) -> tuple[dict[str, float], dict[str, float]]:
    """Return surfaces and lesions of the class, and those before; none while the bias moves or nobody asks."""
    if decision is None or not wanted.settled or base.truth is None:
        return {}, {}
    index, mm = decision.class_index, spacing(base.affine)
    same = known is not None and known.decision is decision
    before = dict(known.rest_before) if known is not None and same else {}
    before = before or figures_at_rest(base.prediction, base.truth, index, mm, base.scheme)
    now = (
        before
        if snapshot is base
        else figures_at_rest(snapshot.prediction, base.truth, index, mm, base.scheme)
    )
    return now, before


def _surfaces(snapshot: WatchedSnapshot, wanted: Wanted, known: Seen | None) -> dict[Part, SurfacePicture]:
    """Return the surfaces that are asked for; those of the same prediction and class are not made again."""
    if not wanted.settled:
        return {}
    same = known is not None and (known.wanted.class_index, known.wanted.bias) == (
        wanted.class_index,
        wanted.bias,
    )
    before = known.surfaces if known is not None and same else {}
    title = f"{class_name(snapshot, wanted.class_index)}, {trained(snapshot)}"
    missing = [part for part in wanted.surfaces if part not in before]
    found = surfaces_of(snapshot, wanted.class_index, missing, title)
    if known is not None and same:
        found |= known.surfaces
    return {part: found[part] for part in wanted.surfaces if part in found}


def _form(picture: Picture, drawn: Container[str], *, over_map: bool) -> Literal["fill", "outline"]:
    """Return how an overlay is drawn: of all that are on, one at most is filled, so that colours never mix."""
    over = {"errors": MAPS, "prediction": (*MAPS, "errors")}.get(picture.key, ())
    return "outline" if over_map or any(other in drawn for other in over) else "fill"


def _predicted(snapshot: WatchedSnapshot) -> tuple[int, ...]:
    counts, scheme = value_counts(snapshot.prediction), snapshot.scheme
    there = {index for value in counts for index in scheme.class_indices(int(value))}
    return tuple(index for index in range(1, len(snapshot.class_names) + 1) if index in there)


def _balance(snapshot: WatchedSnapshot, wanted: Wanted) -> BalanceHistogram | None:
    index = class_of_maps(snapshot.class_names, wanted.class_index)
    if snapshot.regions is None or snapshot.regions_affine is None or index is None:
        return None
    voxel_ml = abs(float(np.linalg.det(snapshot.regions_affine[:3, :3]))) / 1000
    return balance_histogram(snapshot.regions, index, voxel_ml, class_name(snapshot, index))


def class_of_maps(class_names: Sequence[str], class_index: int | None) -> int | None:
    """Return the class whose regions are drawn; None for all of several, whose balances differ in each region."""
    return 1 if class_index is None and len(class_names) == 1 else class_index


def _require_one_class(class_names: Sequence[str], report: RegionReport, class_index: int | None) -> int:
    found = class_of_maps(class_names, class_index)
    if found is None:
        worst = class_names[chosen_class(report, None) - 1]
        raise DataError(
            "Maps of regions are drawn for one class.",
            f"Choose a class above; {worst} has the most error here.",
        )
    return found


def _picture(
    switch: Switch,
    snapshot: WatchedSnapshot,
    patch: PatchSnapshot | None,
    wanted: Wanted,
    threshold_ml: float = 0.0,
) -> Picture:
    if switch == "prediction":
        return prediction_picture(snapshot, wanted.class_index, key=switch)
    if switch == "errors":
        return errors_picture(snapshot, wanted.class_index, key=switch)
    if switch == "patch":
        if patch is None:
            raise DataError("There is no patch with regions yet.", "It comes with the next training step.")
        index = _require_one_class(snapshot.class_names, patch.regions, wanted.class_index)
        return patch_picture(patch, index, threshold_ml=threshold_ml, penalties=wanted.penalties, key=switch)
    if snapshot.regions is None:
        raise DataError("This loss has no regions, so it has no balance map.", "Choose a region-wise loss.")
    index = _require_one_class(snapshot.class_names, snapshot.regions, wanted.class_index)
    return balance_picture(
        snapshot, index, switch, threshold_ml=threshold_ml, penalties=wanted.penalties, key=switch
    )


def chosen_class(report: RegionReport, class_index: int | None) -> int:
    """Return the chosen class; of all, the one with most error volume in the regions."""
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
        scheme=snapshot.scheme,
    )


def _figures(
    snapshot: WatchedSnapshot, wanted: Wanted, known: Seen | None
) -> tuple[tuple[CaseScore, ...], tuple[ErrorPiece, ...]]:
    """Return scores and errors, of the same voxels as they are known; none while a bias moves."""
    if not wanted.settled:
        return (), ()
    moved = known is not None and (known.wanted.bias or 0.0) != (wanted.bias or 0.0)
    if known is None or moved or not known.wanted.settled:
        return _scores(snapshot), _pieces(snapshot, wanted, None)
    return known.scores, _pieces(snapshot, wanted, known)


def _pieces(snapshot: WatchedSnapshot, wanted: Wanted, known: Seen | None) -> tuple[ErrorPiece, ...]:
    if known is not None and (known.wanted.class_index, known.wanted.listed) == (
        wanted.class_index,
        wanted.listed,
    ):
        return known.pieces
    if snapshot.truth is None or not wanted.listed:
        return ()
    return error_pieces(
        snapshot.prediction,
        snapshot.truth,
        snapshot.class_names,
        snapshot.affine,
        class_index=wanted.class_index,
        limit=MOST_LISTED,
        scheme=snapshot.scheme,
    )


@dataclass(frozen=True)
class ImageOfCase:
    """The image of a case, and which of the layers in the viewer belong to the case.

    Attributes
    ----------
    picture
        None where a layer in the viewer shows the same voxels already.
    own
        Places of the arrays that are an image or the label of the case.
    """

    picture: Picture | None = None
    own: frozenset[int] = frozenset()


def image_of(open_case: Callable[[], Any], name: str, there: Sequence[NDArray[Any]]) -> ImageOfCase:
    """Return the picture of a case's image, and which layers of the user's show the case.

    Parameters
    ----------
    open_case
        Opens the case (`CaseRef.open`).
    there
        Arrays of the layers in the viewer that are not ours.
    """
    case = open_case()
    picture = layer_images.image_picture(case.images[0], f"image ({name})")
    others = [*case.images[1:], *([] if case.label is None else [case.label])]
    shown = _equal_to(picture.data, there)
    own = shown.union(*(_equal_to(DisplayGrid.of(v).to_display(v.array), there) for v in others if there))
    return ImageOfCase(None if shown else picture, own)


def patch_snapshot(patch: TrainedPatch) -> WatchedSnapshot:
    """Return a training patch as a prediction with its truth on a grid of its own, as whole cases are looked at."""
    explained = explain_patch(patch)
    limit = np.finfo(np.float16).max
    return WatchedSnapshot(
        case=patch.case,
        role="train",
        step=patch.step,
        index=-1,
        class_names=patch.class_names,
        scheme=patch.scheme,
        affine=patch.affine,
        prediction=patch.scheme.decide_logits(explained.logits),
        truth=explained.labels,
        regions=explained.regions(),
        regions_affine=patch.affine,
        logits=np.clip(explained.logits, -limit, limit).astype(np.float16),
        logits_affine=patch.affine,
        loss_state=patch.loss_state,
    )


def image_of_patch(patch: TrainedPatch) -> ImageOfCase:
    """Return the picture of a training patch, as the network saw it."""
    volume = Volume.from_array(patch.image[0], affine=patch.affine)
    return ImageOfCase(layer_images.image_picture(volume, f"image (patch of {patch.case})"))


def _equal_to(data: NDArray[Any], there: Sequence[NDArray[Any]]) -> frozenset[int]:
    return frozenset(
        place
        for place, other in enumerate(there)
        if other.shape == data.shape and np.array_equal(other, data)
    )


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
    of = snapshot.scheme.class_indices
    there = (true is not None and of(true)) or of(predicted)
    shown = class_index if class_index is not None else (there[-1] if there else 0)
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
    found = snapshot.scheme.name(predicted, snapshot.class_names)
    if true is None:
        return f"predicted {found}"
    if true == 255:
        return f"predicted {found}; ignored here"
    if predicted == true:
        return f"{found}, correct"
    return f"{snapshot.scheme.name(true, snapshot.class_names)}, predicted {found}"


def frame_loader(folder: Path) -> Callable[[HistoryFrame], WatchedSnapshot]:
    """Return what reads a frame with the label of its case, or alone where the data is not on this machine."""
    past = RunHistoryLoader(open_run(folder).experiment)

    def load(frame: HistoryFrame) -> WatchedSnapshot:
        try:
            return past.snapshot(frame)
        except SegExplorerError:  # a shared run, another machine: the prediction is shown without its errors
            return frame.load()

    return load
