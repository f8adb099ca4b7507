"""A run's numbers as named curves, grouped by plot, built from its events; long ones are thinned for drawing."""

from __future__ import annotations

import csv
import io
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.colours import ClassColours
from segexplorer.core.events import (
    CheckpointSaved,
    EpochDone,
    Event,
    ParameterApplied,
    StepDone,
    ValidationDone,
    WatchedDone,
)
from segexplorer.metrics.calibration import ANY_CLASS, ece
from segexplorer.metrics.overlap import METRICS
from segexplorer.metrics.summary import ClassSummary, summarise
from segexplorer.metrics.surface import SURFACE_METRICS
from segexplorer.training.step_columns import StepColumns, stretches

Floats = NDArray[np.float64]


def decimate(x: Floats, y: Floats, limit: int = 2000) -> tuple[Floats, Floats]:
    """Thin a curve to at most `limit` points, keeping the lowest and highest of every stretch.

    A spike one step long stays visible, whatever the thinning. First and last point are kept; a stretch of
    NaN keeps one NaN, so a gap stays a gap.

    Parameters
    ----------
    x, y
        (N,) coordinates in order of x.
    limit
        Most points to return, at least 4.
    """
    n = len(y)
    if n <= limit:
        return x, y
    width = -(-n // ((limit - 2) // 2))
    rows = -(-n // width)
    padded = np.full(rows * width, np.nan)
    padded[:n] = y
    table = padded.reshape(rows, width)
    empty = np.isnan(table)
    start = np.arange(rows) * width
    lowest = start + np.where(empty, np.inf, table).argmin(axis=1)
    highest = start + np.where(empty, -np.inf, table).argmax(axis=1)
    kept = np.unique(np.concatenate(([0], lowest, highest, [n - 1])))
    return x[kept], y[kept]


def smooth(y: Floats, weight: float) -> Floats:
    """Return the exponential moving average, without the pull towards zero at its start.

    Value t is the mean of the values so far, weighted by `weight ** age`; NaN stay NaN and weigh nothing.

    Parameters
    ----------
    y
        (N,) values.
    weight
        From 0 (no smoothing) to below 1; 0.9 remembers about ten values.
    """
    if not 0 <= weight < 1:
        raise ValueError(f"the smoothing weight must be from 0 to below 1, not {weight}")
    if weight == 0 or not len(y):
        return y
    from scipy.signal import lfilter

    finite = np.isfinite(y)
    values = y[finite]
    mean = lfilter([1 - weight], [1, -weight], values) / (1 - weight ** np.arange(1, len(values) + 1))
    result = np.array(y, dtype=float)
    result[finite] = mean
    return result


Domain = Literal["training, patches", "whole volumes"]
X_TITLE = "optimiser step"
DISTANCES = ("hd95", "hd95_penalised", "assd")
"""Surface distances that have a plot, in mm; what was not found is counted in the plot `NOT_FOUND`."""
NOT_FOUND = "not_found"
CALIBRATION = "ece"
EMPTY: dict[Domain, str] = {
    "training, patches": "The curves appear when training starts",
    "whole volumes": "The curves appear with the first validation",
}
NO_DISTANCES = "No distances were recorded; segexplorer evaluate measures them"
NONE_FOUND = "No structure was both in a prediction and in its truth"


@dataclass(frozen=True)
class Plot:
    """One pair of axes; `y_title` says what the numbers were measured on."""

    key: str
    title: str
    y_title: str
    domain: Domain
    logarithmic: bool = False
    limits: tuple[float, float] | None = None
    """Ends of the vertical axis where they are fixed: ratios are compared by eye between runs."""

    @property
    def x_title(self) -> str:
        """Title of the horizontal axis."""
        return X_TITLE


_WHOLES = frozenset({"total", "mean", ANY_CLASS})
_FOR_TERMS = (10, 12, 8, 7, 11, 9, *range(6, 0, -1))
"""Colours of terms and weights: those first that few experiments have for a class, the farthest from each other."""


def line_colour(name: str, names: Iterable[str], palette: ClassColours) -> str | None:
    """Return the colour of a curve; None for a sum or mean, which is drawn in the colour of the text.

    Parameters
    ----------
    name
        A class, also followed by ", missed" or ", extra"; or a term, a weight.
    names
        Of all curves of the plot, in order. A term has the same colour in every plot.
    """
    if name in _WHOLES:
        return None
    class_name = name.partition(", ")[0]
    if class_name in palette.names:
        return palette.colour(class_name)
    terms = [other for other in names if other not in _WHOLES]
    return palette.colour(_FOR_TERMS[terms.index(name) % len(_FOR_TERMS)])


def line_title(name: str, palette: ClassColours) -> str:
    """Return what a legend calls a curve: a class has the name that it was given, a term is words."""
    return name if name.partition(", ")[0] in palette.names else name.replace("_", " ")


def _plot(key: str, title: str, quantity: str, domain: Domain, logarithmic: bool = False) -> Plot:
    return Plot(key, title, f"{quantity} ({domain})", domain, logarithmic)


PLOTS: tuple[Plot, ...] = (
    _plot("loss", "Loss and its terms", "loss", "training, patches"),
    _plot("weights", "Weights of the terms", "weight", "training, patches"),
    _plot("validation_loss", "Validation loss", "loss", "whole volumes"),
    *(
        replace(_plot(m.name, m.display_name, m.display_name, "whole volumes"), limits=(0.0, 1.0))
        for m in METRICS.values()
    ),
    *(_plot(m.name, m.title, m.title, "whole volumes") for m in map(SURFACE_METRICS.__getitem__, DISTANCES)),
    _plot(NOT_FOUND, "Structures missed, spurious", "cases", "whole volumes"),
    _plot(CALIBRATION, "Calibration error (ECE), watched case", "ECE around the foreground", "whole volumes"),
    _plot("error_volume", "Error volumes", "ml per case", "whole volumes"),
    _plot("learning_rate", "Learning rate", "learning rate", "training, patches", logarithmic=True),
    _plot("gradient_norm", "Gradient norm", "norm", "training, patches", logarithmic=True),
    _plot(
        "term_gradients",
        "How strongly each term pulls",
        "gradient on the logits",
        "training, patches",
        logarithmic=True,
    ),
    _plot("references", "Loss beside trivial predictions", "loss", "training, patches"),
)


@dataclass(frozen=True)
class Mark:
    """A vertical line in every plot: a live change, or the best checkpoint so far."""

    step: int
    kind: Literal["change", "best"]
    text: str


class _Series:
    """Steps and values of one curve; grows in place, holds every point."""

    def __init__(self) -> None:
        self.steps = array("q")
        self.values = array("d")

    def add_all(self, steps: NDArray[np.int64], values: Floats) -> None:
        """Add points, at least one, whose steps rise."""
        if self.steps and self.steps[-1] >= steps[0]:
            self.cut(bisect_left(self.steps, int(steps[0])))
        self.steps.frombytes(np.ascontiguousarray(steps, np.int64).tobytes())
        self.values.frombytes(np.ascontiguousarray(values, np.float64).tobytes())

    def cut(self, position: int) -> None:
        del self.steps[position:]
        del self.values[position:]

    def arrays(self) -> tuple[Floats, Floats]:
        return np.array(self.steps, dtype=float), np.array(self.values, dtype=float)


class Curves:
    """Collects events; answers with curves thinned for drawing, with marks, and with CSV.

    Every point is kept (16 bytes each); thinning happens when a curve is asked for. Not for several threads
    at once: frontends feed it where they draw.

    Parameters
    ----------
    limit
        Most points of a curve handed out for drawing.
    """

    def __init__(self, limit: int = 2000) -> None:
        self.limit = limit
        self._series: dict[str, dict[str, _Series]] = {plot.key: {} for plot in PLOTS}
        self._marks: list[Mark] = []
        self._attempt = 0
        self._revisions: dict[Domain, int] = dict.fromkeys(get_args(Domain), 0)

    @property
    def revision(self) -> int:
        """Grows whenever a curve or mark changes; lets a frontend skip drawing."""
        return sum(self._revisions.values())

    def revision_of(self, domain: Domain) -> int:
        """Return a number that grows whenever a curve of this domain or a mark changes."""
        return self._revisions[domain]

    def _change(self, *domains: Domain, by: int = 1) -> None:
        """Count a change of what is measured on these, or on everything."""
        for domain in domains or self._revisions:
            self._revisions[domain] += by

    def extend(self, events: Iterable[Event]) -> None:
        """Add events in order; steps that are recorded in columns are added as columns."""
        for piece in stretches(events):
            if isinstance(piece, StepColumns):
                self._add_columns(piece)
            else:
                self.add(piece)

    def add(self, event: Event) -> None:
        """Add one event; kinds that carry no curve are passed over.

        The first event of a later attempt carries the step k it resumed from: points behind k are dropped,
        since the attempt does those steps again.
        """
        if event.attempt > self._attempt:
            self._begin(event)
        if not isinstance(
            event, (StepDone, EpochDone, ValidationDone, WatchedDone, ParameterApplied, CheckpointSaved)
        ):
            return
        if isinstance(event, WatchedDone):
            self._add_calibration(event)
            self._change("whole volumes")
        elif isinstance(event, StepDone):
            self._add_step(event)
            self._change("training, patches")
        elif isinstance(event, EpochDone):
            self._change("training, patches")
            for name, value in event.adaptive.items():
                # the weight that a term gets from here on is that of its next steps, which are drawn
                if name.removeprefix("weight of ") not in self._series["weights"]:
                    self._point("weights", name, event.step, value)
        elif isinstance(event, ValidationDone):
            self._add_validation(event)
            self._change("whole volumes")
        elif isinstance(event, ParameterApplied):
            self._marks.append(Mark(event.step, "change", f"{event.field}: {event.previous} → {event.value}"))
            self._change()
        elif "best" in event.pointers:
            self._marks.append(Mark(event.step, "best", f"best checkpoint, step {event.step}"))
            self._change()

    def _begin(self, event: Event) -> None:
        """Begin an attempt with its first event."""
        if self._attempt:
            self._drop_from(event)
        self._attempt = event.attempt

    def _drop_from(self, event: Event) -> None:
        """Forget what a later attempt does again: the step itself when it is redone, else what follows it."""
        redone = isinstance(event, StepDone)
        find = bisect_left if redone else bisect_right
        for group in self._series.values():
            for series in group.values():
                series.cut(find(series.steps, event.step))
        self._marks = [m for m in self._marks if m.step < event.step or (m.step == event.step and not redone)]
        self._change()

    def _point(self, plot: str, name: str, step: int, value: float) -> None:
        series = self._of(plot, name)
        steps = series.steps
        if steps and steps[-1] >= step:  # a second time, e.g. validation at the step of a resume
            series.cut(bisect_left(steps, step))
        steps.append(step)
        series.values.append(value)

    def _of(self, plot: str, name: str) -> _Series:
        found = self._series[plot].get(name)
        if found is None:
            found = self._series[plot][name] = _Series()
        return found

    def _add_step(self, event: StepDone) -> None:
        self._point("loss", "total", event.step, event.loss)
        for name, (value, weight) in event.terms.items():
            self._point("loss", name, event.step, value)
            self._point("weights", name, event.step, weight)
        self._point("learning_rate", "learning rate", event.step, event.learning_rate)
        self._point("gradient_norm", "gradient norm", event.step, event.gradient_norm)
        for name, norm in event.term_gradients.items():
            self._point("term_gradients", name, event.step, norm)
        if event.references:
            self._point("references", "this run", event.step, event.loss)
            for name, value in event.references.items():
                self._point("references", name, event.step, value)

    def _add_columns(self, columns: StepColumns) -> None:
        """Add consecutive steps, as `add` does one by one."""
        if columns.attempt > self._attempt:
            self._begin(columns.event(0))
        steps, loss = columns.steps, columns.numbers("loss")
        self._points("loss", "total", steps, loss)
        for name, values, weights in columns.terms():
            self._points("loss", name, steps, values)
            self._points("weights", name, steps, weights)
        self._points("learning_rate", "learning rate", steps, columns.numbers("learning_rate"))
        self._points("gradient_norm", "gradient norm", steps, columns.numbers("gradient_norm"))
        at, gradients, references = columns.measured()
        for name, norms in gradients.items():
            self._points("term_gradients", name, steps[at], norms)
        if references:
            self._points("references", "this run", steps[at], loss[at])
        for name, values in references.items():
            self._points("references", name, steps[at], values)
        self._change("training, patches", by=len(columns))

    def _points(self, plot: str, name: str, steps: NDArray[np.int64], values: Floats) -> None:
        if len(steps):
            self._of(plot, name).add_all(steps, values)

    def _add_validation(self, event: ValidationDone) -> None:
        self._point("validation_loss", "total", event.step, event.loss)
        summary = summarise(event.scores)
        cases = max(summary.n_cases, 1)
        for name in METRICS:
            mean = event.mean_dice if name == "dice" else summary.mean.get(name, np.nan)
            self._point(name, "mean", event.step, mean)
        self._add_distances("mean", event.step, summary.overall)
        for class_name, of_class in summary.per_class.items():
            for name in METRICS:
                self._point(name, class_name, event.step, of_class.mean[name])
            extra, missed = of_class.false_positive_ml / cases, of_class.false_negative_ml / cases
            self._point("error_volume", f"{class_name}, extra", event.step, extra)
            self._point("error_volume", f"{class_name}, missed", event.step, missed)
            self._add_distances(class_name, event.step, of_class)
            self._point(NOT_FOUND, f"{class_name}, missed", event.step, of_class.n_missed)
            self._point(NOT_FOUND, f"{class_name}, spurious", event.step, of_class.n_spurious)
        if not event.scores:
            for class_name, dice in event.class_dice.items():
                self._point("dice", class_name, event.step, dice)

    def _add_calibration(self, event: WatchedDone) -> None:
        """Add the calibration errors of the watched validation case."""
        if event.role == "validation":
            for curve in event.calibration:
                if curve.region == "box" and curve.voxels:
                    self._point(CALIBRATION, curve.class_name, event.step, ece(curve))

    def _add_distances(self, name: str, step: int, summary: ClassSummary) -> None:
        """Add the means over found structures; NaN, a gap in the curve, where none was found."""
        for metric in DISTANCES:
            if metric in summary.mean:
                self._point(metric, name, step, summary.mean[metric])

    def partial(self, plot: str) -> dict[str, tuple[Floats, Floats]]:
        """Return name -> (steps, values) of those means of distances that leave structures out.

        A structure that was missed, or is spurious, has no distance: a mean over the others may fall because the
        hard ones are missed.
        """
        if plot not in DISTANCES or SURFACE_METRICS[plot].penalised:
            return {}
        lost: dict[str, set[int]] = {"mean": set()}
        for name, series in self._series[NOT_FOUND].items():
            these = {step for step, n in zip(series.steps, series.values, strict=True) if n}
            lost.setdefault(name.rpartition(", ")[0], set()).update(these)
            lost["mean"] |= these
        marked = {}
        for name in self.names(plot):
            steps, values = self._series[plot][name].arrays()
            there = np.isin(steps, list(lost.get(name, ()))) & np.isfinite(values)
            if there.any():
                marked[name] = (steps[there], values[there])
        return marked

    def remark(self, plot: str) -> str:
        """Return which structures the means of distances leave out or penalise; nothing where all are found."""
        if plot not in DISTANCES:
            return ""
        last = {name: series.values[-1] for name, series in self._series[NOT_FOUND].items() if series.values}
        shown = "; ".join(f"{name.replace(', ', ': ')} in {n:.0f}" for name, n in last.items() if n)
        if SURFACE_METRICS[plot].penalised:
            return f"counted as the diagonal, last: {shown}" if shown else ""
        if shown:
            return f"× some left out, last: {shown}"
        return "× some left out" if self.partial(plot) else ""

    def why_empty(self, plot: Plot) -> str:
        """Return why there is nothing to draw in a plot; nothing where there is."""
        curves = [series.values for series in self._series[plot.key].values() if series.values]
        if any(np.isfinite(values).any() for values in curves):
            return ""
        if plot.key in DISTANCES and self._series["validation_loss"]:
            return NONE_FOUND if curves else NO_DISTANCES
        return EMPTY[plot.domain]

    def plots(self) -> tuple[Plot, ...]:
        """Return the plots that have points, in order."""
        return tuple(p for p in PLOTS if any(s.steps for s in self._series[p.key].values()))

    def names(self, plot: str) -> list[str]:
        """Return the names of a plot's curves, in order of first appearance."""
        return [name for name, series in self._series[plot].items() if series.steps]

    def series(self, plot: str, smoothing: float = 0.0) -> dict[str, tuple[Floats, Floats]]:
        """Return name -> (steps, values) of a plot, smoothed over all points and then thinned."""
        curves = {}
        for name in self.names(plot):
            steps, values = self._series[plot][name].arrays()
            curves[name] = decimate(steps, smooth(values, smoothing), self.limit)
        return curves

    def marks(self) -> tuple[Mark, ...]:
        """Return the changes, and of the best checkpoints the last, in order of steps."""
        best = [m for m in self._marks if m.kind == "best"][-1:]
        return tuple(sorted([m for m in self._marks if m.kind == "change"] + best, key=lambda m: m.step))

    def to_csv(self) -> str:
        """Return every point of every curve: plot, measured on, curve, step, value; and the marks."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("plot", "measured_on", "curve", "step", "value"))
        for plot in self.plots():
            for name in self.names(plot.key):
                series = self._series[plot.key][name]
                rows = zip(series.steps, series.values, strict=True)
                writer.writerows((plot.key, plot.domain, name, step, repr(value)) for step, value in rows)
        writer.writerows(("mark", "", mark.kind, mark.step, mark.text) for mark in self.marks())
        return text.getvalue()


def has_lone_point(values: Floats) -> bool:
    """Return whether a value has none beside it, so that no line would show it."""
    there = np.concatenate([[False], np.isfinite(values), [False]])
    return bool((there[1:-1] & ~there[:-2] & ~there[2:]).any())
