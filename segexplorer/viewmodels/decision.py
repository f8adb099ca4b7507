"""What-if of the decision: a bias on one class moves the prediction, without any training.

The class with the highest logit is predicted; of classes that overlap, each whose own logit is above 0. A bias
added to the logit of one class makes it win more voxels, or fewer, as another threshold does for two classes (a
bias b is the threshold 1 / (1 + exp(b))). How many voxels it wins follows from its *margins*: its logit less the
highest of the others. They are sorted once; every count after that takes microseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.core.label_scheme import EXCLUSIVE, IGNORED, LabelScheme
from segexplorer.metrics import ALL_METRICS, score_case
from segexplorer.metrics.formatting import NONE, value_text

REACH = 10.0
"""Largest bias that a slider offers: odds change by a factor of 22,000."""


@dataclass(frozen=True)
class Counts:
    """Voxels of one class under a bias, and the metrics that follow; NaN where a ratio has no denominator."""

    bias: float
    tp: int
    fp: int
    fn: int

    @property
    def dice(self) -> float:
        """2 TP / (2 TP + FP + FN)."""
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)

    @property
    def precision(self) -> float:
        """TP / (TP + FP)."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def sensitivity(self) -> float:
        """TP / (TP + FN), also called recall."""
        return _ratio(self.tp, self.tp + self.fn)


def counts_of(
    prediction: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    class_index: int,
    scheme: LabelScheme = EXCLUSIVE,
) -> Counts:
    """Return the voxels of a class in a prediction; parameters as of `figures_at_rest`."""
    counted = labels != IGNORED
    true, found = scheme.mask(labels, class_index), scheme.mask(prediction, class_index) & counted
    hits = int((true & found).sum())
    return Counts(0.0, hits, int(found.sum()) - hits, int((true & counted).sum()) - hits)


def _ratio(above: int, below: int) -> float:
    return above / below if below else float("nan")


def counts_text(now: Counts, before: Counts) -> str:
    """Return the metrics of counts under a bias, beside those of the prediction, and their voxels."""
    rows = (("Dice", now.dice), ("precision", now.precision), ("sensitivity", now.sensitivity))
    figures = ", ".join(f"{name} {_short(value)}" for name, value in rows)
    was = "" if now == before else f" (prediction: Dice {_short(before.dice)})"
    return f"{figures}{was}\n{now.fp} voxels extra, {now.fn} missed"


def _short(value: float) -> str:
    return "none" if value != value else f"{value:.3f}"


AT_REST = ("hd95", "assd", "lesion_sensitivity", "lesion_ppv", "lesion_fp")
"""Metrics of surfaces and lesions, which take too long for a slider that moves."""


def figures_at_rest(
    prediction: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    class_index: int,
    spacing: Sequence[float],
    scheme: LabelScheme = EXCLUSIVE,
) -> dict[str, float]:
    """Return the metrics `AT_REST` of one class against the rest; NaN where one has no meaning.

    Parameters
    ----------
    prediction, labels
        (x, y, z) label indices; 255 in the labels does not count.
    spacing
        Voxel size, mm.
    scheme
        What the label indices mean.
    """
    truth, found = scheme.alone(labels, class_index), scheme.mask(prediction, class_index).astype(np.uint8)
    (score,) = score_case(found, truth, ("class",), spacing, surfaces=True, metrics=("lesions",))
    return {name: float(score.metrics.get(name, np.nan)) for name in AT_REST}


def rest_text(now: Mapping[str, float], before: Mapping[str, float]) -> str:
    """Return surfaces and lesions under a bias in a line, each beside the prediction's where it differs."""
    if not now:
        return ""
    parts = []
    for name in AT_REST:
        metric, value = ALL_METRICS[name], value_text(now[name], name)
        was = value_text(before[name], name) if name in before else value
        unit = f" {metric.unit}" if metric.unit and value != NONE else ""
        parts.append(f"{metric.head} {value}{unit}{'' if was == value else f' ({was})'}")
    text = f"{', '.join(parts)}."
    return f"{text} In brackets: the prediction." if "(" in text else text


@dataclass(frozen=True)
class DecisionCurve:
    """Counts under many biases: Dice against bias, and precision against sensitivity.

    Attributes
    ----------
    bias, dice, precision, sensitivity
        (N,) each.
    best
        The bias of the highest Dice on this case. It was chosen by looking at the truth, so its Dice is flattered.
    """

    bias: NDArray[np.float64]
    dice: NDArray[np.float64]
    precision: NDArray[np.float64]
    sensitivity: NDArray[np.float64]
    best: float


@dataclass(frozen=True)
class BesideCurve:
    """Where the prediction of another network lies beside the curve on which a bias moves one.

    Attributes
    ----------
    counts
        Of the other prediction.
    bias
        Under which bias the curve comes nearest to it.
    distance
        How near, in the plane of sensitivity and precision; NaN where either has none.
    """

    counts: Counts
    bias: float
    distance: float


def beside_curve(curve: DecisionCurve, counts: Counts) -> BesideCurve:
    """Return where counts lie beside a curve; between two of its points it is straight."""
    places = np.stack([curve.sensitivity, curve.precision], axis=1)
    point = np.array([counts.sensitivity, counts.precision])
    start, way = places[:-1], np.diff(places, axis=0)
    length = np.maximum((way**2).sum(axis=1), np.finfo(float).tiny)
    along = np.clip(((point - start) * way).sum(axis=1) / length, 0, 1)
    distances = np.hypot(*(start + along[:, np.newaxis] * way - point).T)
    if not np.isfinite(distances).any():
        return BesideCurve(counts, float("nan"), float("nan"))
    nearest = int(np.nanargmin(distances))
    bias = curve.bias[nearest] + along[nearest] * (curve.bias[nearest + 1] - curve.bias[nearest])
    return BesideCurve(counts, float(bias), float(distances[nearest]))


def lanes_text(curve: DecisionCurve, lanes: Mapping[str, Counts]) -> str:
    """Say of lane B of a race whether it is on the curve of lane A, beside its controls; "" without a lane B.

    Parameters
    ----------
    curve
        Of lane A.
    lanes
        Lane -> counts of its own prediction; "B", and the controls.
    """
    if "B" not in lanes:
        return ""
    b = beside_curve(curve, lanes["B"])
    head = f"B: sensitivity {_short(b.counts.sensitivity)}, precision {_short(b.counts.precision)}."
    if b.distance != b.distance:
        return f"{head} Nothing is compared: B or A predicts none of the class."
    text = f"{head} Under a bias of {b.bias:+.1f}, A comes to within {b.distance:.3f} of that."
    found = [beside_curve(curve, counts).distance for name, counts in lanes.items() if name != "B"]
    known = [distance for distance in found if distance == distance]
    if not known:
        return f"{text} Without a control nobody can tell whether that is near."
    who = "The control is" if len(known) == 1 else "The farthest control is"
    verdict = (
        "B is farther off A's curve than chance takes a run: no threshold on A would have done the same."
        if b.distance > max(known)
        else "B is no farther off A's curve than chance takes a run: a threshold on A would have done the same."
    )
    return f"{text} {who} {max(known):.3f} off. {verdict}"


class Decision:
    """The decision for one class of a prediction.

    Parameters
    ----------
    logits
        (C, x, y, z).
    labels
        (x, y, z) label indices, 255 for voxels that do not count.
    class_index
        Whose bias moves; 0 is the background.
    approximate
        Whether the logits come from probabilities of 8 bits.
    scheme
        What the label indices mean.

    Raises
    ------
    DataError
        When the two do not fit, or there is no such class.
    """

    def __init__(
        self,
        logits: NDArray[Any],
        labels: NDArray[np.uint8],
        class_index: int,
        *,
        approximate: bool = False,
        scheme: LabelScheme = EXCLUSIVE,
    ) -> None:
        if logits.ndim != 4 or logits.shape[1:] != labels.shape:
            raise DataError(f"The logits have shape {logits.shape}, the label {labels.shape}.")
        if not 0 <= class_index < len(logits):
            raise DataError(f"There is no class {class_index}.", f"Classes go from 0 to {len(logits) - 1}.")
        self.labels, self.class_index, self.approximate = labels, class_index, approximate
        self._scheme = scheme
        self.runner_up: NDArray[np.uint8]
        """(x, y, z) what is predicted where this class does not win."""
        self.margins: NDArray[np.float32]
        """(x, y, z) the class is predicted where margin + bias is at least 0."""
        if scheme.overlapping:
            self.runner_up, self._winner, self.margins = _by_itself(logits, class_index, scheme)
            return
        self._winner = np.asarray(class_index, np.uint8)
        others = np.asarray(logits, np.float32).copy()
        others[class_index] = -np.inf
        self.runner_up = others.argmax(axis=0).astype(np.uint8)
        top = np.take_along_axis(others, self.runner_up[np.newaxis].astype(np.intp), axis=0)[0]
        margins = np.asarray(logits[class_index], np.float32) - top
        # of equal logits the first class wins, as argmax decides
        self.margins = np.where((margins == 0) & (self.runner_up < class_index), -np.float32(1e-30), margins)

    @cached_property
    def _sorted(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        counted = self.labels != IGNORED
        true = self._scheme.mask(self.labels, self.class_index)
        return np.sort(self.margins[true]), np.sort(self.margins[counted & ~true])

    def counts(self, bias: float = 0.0) -> Counts:
        """Return the voxels of the class under a bias; at 0 those of the prediction."""
        inside, outside = self._sorted
        tp = len(inside) - int(np.searchsorted(inside, np.float32(-bias), side="left"))
        fp = len(outside) - int(np.searchsorted(outside, np.float32(-bias), side="left"))
        return Counts(bias, tp, fp, len(inside) - tp)

    def curve(self, points: int = 201) -> DecisionCurve:
        """Return the counts under `points` biases from -`REACH` to `REACH`."""
        biases = np.linspace(-REACH, REACH, points)
        inside, outside = self._sorted
        tp = len(inside) - np.searchsorted(inside, np.float32(-biases), side="left")
        fp = len(outside) - np.searchsorted(outside, np.float32(-biases), side="left")
        with np.errstate(invalid="ignore", divide="ignore"):
            dice: NDArray[np.float64] = np.asarray(2 * tp / (len(inside) + tp + fp))
            precision: NDArray[np.float64] = np.asarray(tp / (tp + fp))
            sensitivity: NDArray[np.float64] = np.asarray(tp / np.float64(len(inside)))
        best = float(biases[np.nanargmax(dice)]) if np.isfinite(dice).any() else 0.0
        return DecisionCurve(biases, dice, precision, sensitivity, best)

    def prediction(self, bias: float = 0.0, part: tuple[slice | int, ...] = ()) -> NDArray[np.uint8]:
        """Return the predicted label indices under a bias; of one slice, for instance, where `part` names it."""
        wins = self.margins[part] >= np.float32(-bias)
        winner = self._winner[part] if self._scheme.overlapping else self._winner
        return np.where(wins, winner, self.runner_up[part])


def _by_itself(
    logits: NDArray[Any], class_index: int, scheme: LabelScheme
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]:
    """Return the labels without an overlapping class and with it, and its margins.

    Where there is no label that has it, or none that lacks it, beside the other classes, its bias moves nothing.

    Raises
    ------
    DataError
        For the background, which is what no class claims.
    """
    if not class_index:
        raise DataError("The background of overlapping classes has no bias.", "Choose a class.")
    moved = np.asarray(logits, np.float32) - np.asarray(logits[:1], np.float32)
    own = moved[class_index].copy()
    moved[class_index] = -1
    without = scheme.decide_logits(moved)
    moved[class_index] = 1
    with_it = scheme.decide_logits(moved)
    own[own == 0] = -np.float32(1e-30)  # a probability of exactly 1/2 is none
    own[scheme.mask(without, class_index)] = np.inf
    own[~scheme.mask(with_it, class_index)] = -np.inf
    return without, with_it, own
