"""Calibration: how often voxels are right for which the network states a probability.

A network is calibrated if 80 % of the voxels to which it gives a probability of 0.8 belong to the class. Voxels are
counted in bins of the stated probability (a reliability diagram), for two regions:

"box"
    The box around the truth's foreground, widened by 10 mm on every side. It depends on the truth alone, so it is
    the same for every network. A case without foreground has none.
"all"
    All voxels of the volume. Most of them are background that any network knows: the figures are near 0 by volume.

Per class the probability is that of the class, and a voxel is right where the truth is that class (class-wise
calibration; Nixon 2019). For "any class" it is the largest of all classes, background included, and a voxel is
right where that class is the true one (confidence calibration; Guo 2017). Voxels whose truth is ignored, or whose
probabilities are not finite, count nowhere.

References
----------
Brier 1950, doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2.
Naeini, Cooper and Hauskrecht 2015, AAAI (expected calibration error).
Guo, Pleiss, Sun and Weinberger 2017, arXiv:1706.04599 (reliability diagram and ECE of networks).
Nixon et al. 2019, arXiv:1904.01685 (class-wise errors, bins of equal mass).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.events import CalibrationRegion, Reliability
from segexplorer.core.label_scheme import EXCLUSIVE, LabelScheme
from segexplorer.metrics.base import IGNORED, Metric, registry

if TYPE_CHECKING:
    from segexplorer.metrics.structure import Structure

Binning = Literal["width", "mass"]

BINS = 15
"""Bins of the error and of a diagram, as in Guo 2017."""
FINE = 200
"""Finer bins in each of these: bins of equal mass are put together from them."""
MARGIN_MM = 10.0
"""By which the box around the foreground is widened on every side."""
LEAST_PROBABILITY = 1e-7
"""Probabilities are raised to this in the negative log-likelihood: softmax in float32 rounds smaller ones to 0."""
ANY_CLASS = "any class"
"""Name of the curve of the predicted class, whichever it is."""
REGIONS: tuple[CalibrationRegion, ...] = ("box", "all")

_CHUNK = 2**16  # voxels, so that what is computed of them stays in the cache
_TOTAL = BINS * FINE
_LOW, _HIGH = np.float32(1 / _TOTAL), np.float32(1 - 1 / _TOTAL)


# ---- counting


class CalibrationCounts:
    """Sums over voxels, gathered over one case or many: bins of every class, Brier score and log-likelihood.

    Counts are integers and sums float64, so that they are exact for volumes of any size.

    Parameters
    ----------
    class_names
        Names of the foreground classes, for the values 1, 2, ...
    scheme
        What label indices mean, where classes overlap. "Any class" is then whether there is one at all, and its
        Brier score and log-likelihood are the sums of those of the classes.
    """

    def __init__(self, class_names: Sequence[str], scheme: LabelScheme = EXCLUSIVE) -> None:
        self.names, self.scheme = (*class_names, ANY_CLASS), scheme
        shape = 2, len(self.names)  # inside the box, and outside
        self.count: NDArray[np.int64] = np.zeros((*shape, _TOTAL), np.int64)
        self.correct: NDArray[np.int64] = np.zeros((*shape, _TOTAL), np.int64)
        self.confidence: NDArray[np.float64] = np.zeros((*shape, _TOTAL))
        self.brier: NDArray[np.float64] = np.zeros(shape)
        self.nll: NDArray[np.float64] = np.zeros(shape)

    def add(
        self,
        probabilities: NDArray[np.floating[Any]],
        prediction: NDArray[np.integer[Any]],
        truth: NDArray[np.integer[Any]],
        spacing: Sequence[float],
    ) -> None:
        """Count one case.

        Parameters
        ----------
        probabilities
            (C, *spatial), background first; they add up to 1, unless classes overlap.
        prediction, truth
            (*spatial) label indices; voxels whose truth is 255 are left out.
        spacing
            Voxel size along each axis, mm.
        """
        whole = tuple(slice(0, n) for n in truth.shape)
        CasePart(self, truth, spacing).add(whole, probabilities, prediction)

    def merge(self, other: CalibrationCounts) -> None:
        """Add the sums of other cases."""
        for name in ("count", "correct", "confidence", "brier", "nll"):
            getattr(self, name).__iadd__(getattr(other, name))

    def _add_part(
        self,
        part: int,
        probabilities: NDArray[np.floating[Any]],
        prediction: NDArray[np.integer[Any]],
        truth: NDArray[np.integer[Any]],
    ) -> None:
        classes = [own.ravel() for own in probabilities]
        truth, right = truth.ravel(), (prediction == truth).ravel()
        keep = truth != IGNORED
        if not math.isfinite(sum(float(own.sum()) for own in classes)):
            keep &= np.isfinite(classes).all(0)
        if not keep.all():
            classes, truth, right = [own[keep] for own in classes], truth[keep], right[keep]
        overall = len(self.names) - 1
        overlapping = self.scheme.overlapping
        voxels = self.scheme.class_counts(np.bincount(truth, minlength=256), overall)
        nowhere = np.zeros(truth.size, np.bool_)
        largest = classes[0]
        for index, own in enumerate(classes):
            largest = np.maximum(largest, own)
            true = self.scheme.mask(truth, index) if voxels[index] else nowhere
            of_class = own.astype(np.float64)
            total, squares = float(of_class.sum()), float(of_class @ of_class)
            of_true = of_class[true] if voxels[index] else of_class[:0]
            brier = squares - 2 * float(of_true.sum()) + of_true.size
            likelihood = -float(np.log(np.maximum(of_true, LEAST_PROBABILITY)).sum())
            if index or not overlapping:
                self.brier[part, overall] += brier
                self.nll[part, overall] += likelihood
            if not index:
                continue
            some = np.flatnonzero(own >= _LOW)
            likely, likely_true = of_class[some], true[some]
            self._bin(part, index - 1, likely, likely_true, 0, own.size, total, of_true.size)
            self.brier[part, index - 1] += brier
            # -log(1 - p) = p + p^2 / 2 + p^3 / 3 + ...: below 1/3000 what follows is below 1e-11
            low_true = of_true[of_true < _LOW]
            low = total - float(likely.sum()) - float(low_true.sum())
            low += (squares - float(likely @ likely) - float(low_true @ low_true)) / 2
            against = -float(np.log(np.maximum(1 - likely[~likely_true], LEAST_PROBABILITY)).sum())
            self.nll[part, index - 1] += likelihood + max(0.0, low) + against
            if overlapping:
                self.nll[part, overall] += max(0.0, low) + against
        if overlapping:
            largest = np.maximum(classes[0], 1 - classes[0])
            right = (classes[0] < 0.5) == (truth > 0)
        of_largest = largest.astype(np.float64)
        some = np.flatnonzero(largest < _HIGH)
        n_right = int(np.count_nonzero(right))
        total = float(of_largest.sum())
        self._bin(part, overall, of_largest[some], right[some], -1, right.size, total, n_right)

    def case(self, truth: NDArray[np.integer[Any]], spacing: Sequence[float]) -> CasePart:
        """Return what counts one case part by part; arguments as in `add`."""
        return CasePart(self, truth, spacing)

    def _bin(
        self,
        part: int,
        row: int,
        some: NDArray[np.float64],
        right: NDArray[np.bool_],
        end: int,
        n: int,
        total: float,
        n_right: int,
    ) -> None:
        """Sort `some` voxels of `n` into bins; all others are in the bin `end`, the first or the last one.

        Most probabilities of a class are close to 0, and most of the likeliest class close to 1. What they add to
        that bin is what the others leave over of the sum of all probabilities, `total`, and of the right ones,
        `n_right`.
        """
        places = np.minimum((some * _TOTAL).astype(np.int32), _TOTAL - 1)
        self.count[part, row] += np.bincount(places, minlength=_TOTAL)
        self.confidence[part, row] += np.bincount(places, weights=some, minlength=_TOTAL)
        self.correct[part, row] += np.bincount(places[right], minlength=_TOTAL)
        if n > some.size:
            self.count[part, row, end] += n - some.size
            self.confidence[part, row, end] += max(0.0, total - float(some.sum()))
            self.correct[part, row, end] += n_right - int(np.count_nonzero(right))

    # ---- what follows from the sums

    def reliability(self) -> tuple[Reliability, ...]:
        """Return the curve of every class and of any class, in both regions, in a form of bounded size."""
        curves = []
        for region in REGIONS:
            count, correct, confidence, brier, nll = (
                values[0] if region == "box" else values.sum(axis=0)
                for values in (self.count, self.correct, self.confidence, self.brier, self.nll)
            )
            curves += [
                Reliability(
                    class_name=name,
                    region=region,
                    counts=tuple(map(int, _merged(count[row]))),
                    confidences=tuple(map(float, _merged(confidence[row]))),
                    corrects=tuple(map(int, _merged(correct[row]))),
                    brier=float(brier[row]),
                    nll=float(nll[row]),
                    ece_mass=_ece_mass(count[row], confidence[row], correct[row]),
                )
                for row, name in enumerate(self.names)
            ]
        return tuple(curves)


class CasePart:
    """Counts a case part by part, so that its probabilities need not be in memory at once.

    Parameters
    ----------
    counts
        What the parts are added to.
    truth, spacing
        Of the whole case, as in `CalibrationCounts.add`.
    """

    def __init__(
        self, counts: CalibrationCounts, truth: NDArray[np.integer[Any]], spacing: Sequence[float]
    ) -> None:
        self.counts, self.truth = counts, truth
        self.box = foreground_box(truth, spacing)

    def add(
        self,
        place: tuple[slice, ...],
        probabilities: NDArray[np.floating[Any]],
        prediction: NDArray[np.integer[Any]],
    ) -> None:
        """Count the voxels of a part.

        Parameters
        ----------
        place
            Where it is in the case.
        probabilities, prediction
            (C, *part) and (*part).
        """
        truth = self.truth[place]
        box = self._box_within(place)
        parts = [(0, box)] if box is not None else []
        parts += [(1, beside) for beside in _outside(truth.shape, box)]
        for part, there in parts:
            inside = probabilities[(slice(None), *there)], prediction[there], truth[there]
            for chunk in _chunks(inside[1].shape):
                self.counts._add_part(
                    part, inside[0][(slice(None), *chunk)], inside[1][chunk], inside[2][chunk]
                )

    def add_background(self, place: tuple[slice, ...], classes: int) -> None:
        """Count a part that is background for certain, since it was cropped off."""
        shape = self.truth[place].shape
        certain = np.zeros((classes, *(1,) * len(shape)), np.float32)
        certain[0] = 1
        self.add(place, np.broadcast_to(certain, (classes, *shape)), np.broadcast_to(np.uint8(0), shape))

    def _box_within(self, place: tuple[slice, ...]) -> tuple[slice, ...] | None:
        if self.box is None:
            return None
        found = []
        for own, there, size in zip(self.box, place, self.truth.shape, strict=True):
            first, end, _ = there.indices(size)
            low, high = max(own.start, first), min(own.stop, end)
            if low >= high:
                return None
            found.append(slice(low - first, high - first))
        return tuple(found)


def foreground_box(truth: NDArray[np.integer[Any]], spacing: Sequence[float]) -> tuple[slice, ...] | None:
    """Return the box around all voxels of a class, widened by `MARGIN_MM`; None where there is none."""
    marked = (truth != 0) & (truth != IGNORED)
    box = []
    for axis, size in enumerate(spacing):
        others = tuple(a for a in range(truth.ndim) if a != axis)
        there = np.flatnonzero(marked.any(axis=others))
        if not there.size:
            return None
        margin = math.ceil(MARGIN_MM / size)
        box.append(slice(max(0, int(there[0]) - margin), int(there[-1]) + 1 + margin))
    return tuple(box)


def _chunks(shape: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """Yield slabs along the first axis, of about `_CHUNK` voxels; a slab of one slice is divided once more."""
    slice_voxels = math.prod(shape[1:])
    step = max(1, _CHUNK // max(1, slice_voxels))
    for begin in range(0, shape[0], step):
        slab = slice(begin, begin + step)
        if step == 1 and len(shape) > 1 and slice_voxels > 2 * _CHUNK:
            yield from ((slab, *place) for place in _chunks(shape[1:]))
        else:
            yield (slab,)


def _outside(shape: Sequence[int], box: tuple[slice, ...] | None) -> Iterator[tuple[slice, ...]]:
    """Yield boxes that together are everything but the box."""
    if box is None:
        yield tuple(slice(0, size) for size in shape)
        return
    for axis, size in enumerate(shape):
        begin, end, _ = box[axis].indices(size)
        for side in (slice(0, begin), slice(end, size)):
            if side.start < side.stop:
                yield (*box[:axis], side, *(slice(0, n) for n in shape[axis + 1 :]))


def _merged(fine: NDArray[Any]) -> NDArray[Any]:
    merged: NDArray[Any] = fine.reshape(BINS, FINE).sum(axis=1)
    return merged


def _of_equal_mass(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each fine bin the bin of equal mass that its middle voxel is in.

    A fine bin is not divided, so a probability that most voxels share is a bin by itself.
    """
    total = max(1, int(counts.sum()))
    middle = counts.cumsum() - counts / 2
    return np.minimum((middle * BINS / total).astype(np.int64), BINS - 1)


def _ece_mass(count: NDArray[np.int64], confidence: NDArray[np.float64], correct: NDArray[np.int64]) -> float:
    bins = _of_equal_mass(count)
    return _error(
        *(np.bincount(bins, weights=values, minlength=BINS) for values in (count, confidence, correct))
    )


def _error(counts: NDArray[Any], confidences: NDArray[Any], corrects: NDArray[Any]) -> float:
    """Return the mean over voxels of |share right - mean confidence| of their bin; NaN without voxels."""
    total = float(np.sum(counts))
    return float(np.abs(np.asarray(corrects) - confidences).sum()) / total if total else math.nan


# ---- the figures of a curve


def ece(curve: Reliability, binning: Binning = "width") -> float:
    """Return the expected calibration error, 0 to 1: sum over bins of n_b / N |share right - mean confidence|.

    Parameters
    ----------
    binning
        "width": 15 bins of equal width; "mass": 15 bins with about as many voxels each.
    """
    if binning == "mass":
        return curve.ece_mass
    return _error(np.asarray(curve.counts), np.asarray(curve.confidences), np.asarray(curve.corrects))


def brier_score(curve: Reliability) -> float:
    """Return the mean squared error of the probability; of any class, the sum over classes (0 to 2; Brier 1950)."""
    return curve.brier / curve.voxels if curve.voxels else math.nan


def negative_log_likelihood(curve: Reliability) -> float:
    """Return the mean negative log-likelihood, nats; of a class, that of "this class or not"."""
    return curve.nll / curve.voxels if curve.voxels else math.nan


@dataclass(frozen=True)
class DiagramBar:
    """One bin of a reliability diagram that has voxels."""

    low: float
    high: float
    confidence: float
    right: float
    voxels: int


def diagram(curve: Reliability) -> tuple[DiagramBar, ...]:
    """Return the bins that have voxels: mean confidence, share right, and how many there are."""
    return tuple(
        DiagramBar(place / BINS, (place + 1) / BINS, confidence / count, right / count, count)
        for place, (count, confidence, right) in enumerate(
            zip(curve.counts, curve.confidences, curve.corrects, strict=True)
        )
        if count
    )


def curve_of(
    curves: Sequence[Reliability], class_name: str = ANY_CLASS, region: CalibrationRegion = "box"
) -> Reliability:
    """Return the curve of a class in a region."""
    return next(c for c in curves if c.class_name == class_name and c.region == region)


# ---- metrics, so that tables, files and comparisons have them


@dataclass(frozen=True, kw_only=True)
class CalibrationMetric(Metric):
    """A metric of the probabilities of one class; only a run's own predictions have it, label files do not."""

    function: Callable[[Reliability], float]
    region: CalibrationRegion

    def value(self, structure: Structure) -> float:
        """Return NaN: two label volumes say nothing of probabilities; `calibration_values` does."""
        return math.nan


_BOX = "In the box around the truth's foreground, widened by 10 mm."
_ALL = "Over all voxels: near 0 by volume, since background is easy."
_OWN = "From probabilities: of the watched cases in training, and of `evaluate RUN --split`."
_NIXON = "Nixon et al. 2019, arXiv:1904.01685; Guo et al. 2017, arXiv:1706.04599"
_metric = partial(CalibrationMetric, better="lower", best=0.0, default=False)

_IN_BOX = (
    _metric(
        name="ece",
        display_name="ECE",
        definition="sum over 15 bins of equal width: n / N |share right - mean p|",
        formula=r"\sum_b \frac{n_b}{N} \left|\bar y_b - \bar p_b\right|",
        function=ece,
        region="box",
        note=f"{_BOX} {_OWN}",
        reference=_NIXON,
    ),
    _metric(
        name="brier",
        display_name="Brier score",
        short_name="Brier",
        definition="mean (p - y)^2",
        formula=r"\frac1N \sum_i (p_i - y_i)^2",
        function=brier_score,
        region="box",
        note=f"{_BOX} {_OWN}",
        reference="Brier 1950, Monthly Weather Review 78(1):1-3",
    ),
    _metric(
        name="nll",
        highest=math.inf,
        display_name="Negative log-likelihood",
        short_name="NLL",
        definition="mean -(y log p + (1 - y) log(1 - p))",
        formula=r"-\frac1N \sum_i y_i \log p_i + (1 - y_i) \log(1 - p_i)",
        function=negative_log_likelihood,
        region="box",
        note=f"In nats; p is at least 1e-7. {_BOX} {_OWN}",
        reference="Guo et al. 2017, arXiv:1706.04599",
    ),
)
_BY_MASS = replace(
    _IN_BOX[0],
    name="ece_mass",
    display_name="ECE, bins of equal mass",
    short_name="ECE mass",
    definition="as ECE, with 15 bins of as many voxels each",
    function=partial(ece, binning="mass"),
)


def _over_all_voxels(metric: CalibrationMetric) -> CalibrationMetric:
    short = metric.short_name or metric.display_name
    return replace(
        metric,
        name=f"{metric.name}_all",
        display_name=f"{metric.display_name}, all voxels",
        short_name=f"{short} all",
        definition=f"as {short if short == 'NLL' else metric.display_name}, over all voxels",
        region="all",
        note=metric.note.replace(_BOX, _ALL),
    )


CALIBRATION_METRICS: Mapping[str, CalibrationMetric] = {
    metric.name: registry.register(metric)
    for metric in (_IN_BOX[0], _BY_MASS, *_IN_BOX[1:], *map(_over_all_voxels, _IN_BOX))
}
"""Every metric of calibration by name."""


def calibration_values(curves: Sequence[Reliability], class_name: str) -> dict[str, float]:
    """Return every calibration metric of one class; NaN where its region has no voxel."""
    return {
        name: metric.function(curve_of(curves, class_name, metric.region))
        for name, metric in CALIBRATION_METRICS.items()
    }
