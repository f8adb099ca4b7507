"""What a check of the loss doctor promises, what it may look at, and what it finds.

A check is declared once, as a `Check` registered in `checks`: its name, what it looks for, and the function that
looks. The function gets the `Evidence` of a run and yields a `Finding` for each thing that is wrong. Where it
cannot say, because too little was recorded or the data are elsewhere, it raises `CannotTell`: silence then is no
"healthy".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.core.events import (
    EpochDone,
    Planned,
    Role,
    RunFinished,
    StepDone,
    ValidationDone,
    WatchedDone,
)
from segexplorer.core.regions import BoxRegions
from segexplorer.core.registry import Declarations
from segexplorer.training.experiment import Experiment
from segexplorer.training.history import HistoryFrame, RunRecord
from segexplorer.training.step_columns import events_of

Severity = Literal["problem", "remark"]
Box = tuple[tuple[int, int], ...]
"""First voxel and the one behind the last, per axis, on the training grid."""


@dataclass(frozen=True)
class Place:
    """Where something was found, as far as it has a place.

    Attributes
    ----------
    class_name, case, role
        "" and None where it is no single one.
    box
        The box of the loss where it is worst; None: no single one.
    world
        Middle of that box in RAS mm, where a viewer may go.
    """

    class_name: str = ""
    case: str = ""
    role: Role | None = None
    box: Box | None = None
    world: tuple[float, ...] | None = None


@dataclass(frozen=True)
class CurveLink:
    """A curve of `viewmodels.curves` that shows a finding: key of its plot, and its name there."""

    plot: str
    name: str


@dataclass(frozen=True)
class Finding:
    """One thing that a check has found.

    Attributes
    ----------
    kind
        Name of the check.
    severity
        "problem" for what keeps the run from learning what it should; "remark" for what is worth knowing.
    sentence
        What was found, with its numbers.
    evidence
        The numbers that the sentence rests on, by readable names.
    remedy
        What can be done.
    step
        Optimiser step at which it began, or at which it shows; None: no single one.
    place, curve
        Where to look.
    """

    kind: str
    severity: Severity
    sentence: str
    evidence: Mapping[str, float] = field(default_factory=dict)
    remedy: str = ""
    step: int | None = None
    place: Place = Place()
    curve: CurveLink | None = None


class CannotTell(Exception):
    """Raised by a check that has too little to say whether something is wrong; its text says what is missing."""


@dataclass(frozen=True)
class Check:
    """A check of the loss doctor, as it is declared.

    Attributes
    ----------
    name, title, summary
        Its name for programs and for people, and what it looks for in one sentence.
    look
        Yields what it finds; raises `CannotTell`.
    """

    name: str
    title: str
    summary: str
    look: Callable[[Evidence], Iterator[Finding]] = field(repr=False)

    def facts(self) -> Mapping[str, Any]:
        """Return what it declares."""
        return {"looks for": self.summary}


checks: Declarations[Check] = Declarations("checks", "check")


def check(name: str, title: str, summary: str) -> Callable[[Look], Look]:
    """Register the decorated function as a check; the calling module is its home."""

    def register(look: Look) -> Look:
        checks.register(Check(name, title, summary, look))
        return look

    return register


Look = Callable[["Evidence"], Iterator[Finding]]


@dataclass(frozen=True)
class Evidence:
    """What a run has recorded, in the form in which checks need it."""

    record: RunRecord

    @cached_property
    def experiment(self) -> Experiment:
        """The experiment with its live changes."""
        return self.record.experiment

    @cached_property
    def events(self) -> Sequence[Any]:
        """Every event in order, steps that were repeated once."""
        return self.record.events()

    @cached_property
    def steps(self) -> list[StepDone]:
        """Optimiser steps."""
        return events_of(self.events, StepDone)

    @cached_property
    def epochs(self) -> list[EpochDone]:
        """Ends of epochs."""
        return events_of(self.events, EpochDone)

    @cached_property
    def validations(self) -> list[ValidationDone]:
        """Validations."""
        return events_of(self.events, ValidationDone)

    @cached_property
    def measured(self) -> list[StepDone]:
        """Steps at which gradients of terms and references were measured."""
        return [e for e in self.steps if e.term_gradients or e.references]

    @cached_property
    def planned(self) -> Planned | None:
        """What the last attempt planned."""
        return next(reversed(events_of(self.events, Planned)), None)

    @cached_property
    def end(self) -> RunFinished | None:
        """How it ended, where it has."""
        last = self.events[-1] if self.events else None
        return last if isinstance(last, RunFinished) else None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Foreground classes."""
        return self.planned.classes if self.planned is not None else ()

    @property
    def done(self) -> float:
        """Share of the planned steps that were made, 1 where nothing is known."""
        planned = self.planned.steps if self.planned is not None else 0
        return self.steps[-1].step / planned if planned and self.steps else 1.0

    def watched(self, role: Role) -> list[WatchedDone]:
        """Return the predictions of the watched case of a role."""
        return [e for e in events_of(self.events, WatchedDone) if e.role == role]

    def last_frame(self, role: Role, until: int | None = None) -> HistoryFrame | None:
        """Return the newest recorded frame of a role, of step `until` at most; None where there is none."""
        frames = [f for f in self.record.watched(role) if until is None or f.step <= until]
        return frames[-1] if frames else None

    def worst_box(self, class_name: str, kind: Literal["fp", "fn"], role: Role = "validation") -> Place:
        """Return the box in which the last prediction has most extra ("fp") or missed ("fn") voxels of a class."""
        frame = self.last_frame(role)
        if frame is None:
            return Place(class_name)
        try:
            shown = frame.load()
        except DataError:  # damaged: verify says so, and a finding without a box is still true
            return Place(class_name, frame.facts.case, role)
        place = Place(class_name, shown.case, role)
        if shown.regions is None or shown.regions_affine is None or class_name not in shown.class_names:
            return place
        values = shown.regions.values.get(kind)
        row = None if values is None else values[shown.class_names.index(class_name) + 1]
        if row is None or not np.nanmax(row, initial=0) > 0:
            return place
        box = box_of(shown.regions.regions, int(np.nanargmax(row)))
        if box is None:
            return place
        return Place(class_name, shown.case, role, box, middle_of(box, shown.regions_affine))


def box_of(regions: Any, index: int) -> Box | None:
    """Return the voxels of a box of a grid; None of a region of another shape."""
    if not isinstance(regions, BoxRegions):
        return None
    at = np.unravel_index(index, regions.counts)
    return tuple((int(axis[i]), int(axis[i + 1])) for axis, i in zip(regions.edges, at, strict=True))


def middle_of(box: Box, affine: NDArray[np.float64]) -> tuple[float, ...]:
    """Return the middle of a box in mm."""
    centre = np.asarray([(first + behind - 1) / 2 for first, behind in box])
    return tuple(float(v) for v in affine[:3, :3] @ centre + affine[:3, 3])


# ---- numbers that several checks need


def last_half(values: Sequence[Any], fewest: int, what: str) -> Sequence[Any]:
    """Return the later half of what was recorded.

    Raises
    ------
    CannotTell
        When it holds fewer than `fewest`.
    """
    half = values[len(values) // 2 :]
    if len(half) < fewest:
        raise CannotTell(f"only {len(values)} {what}, where {2 * fewest - 1} are needed")
    return half


def median(values: Sequence[float]) -> float:
    """Return the median of the finite values, NaN of none."""
    finite = [v for v in values if math.isfinite(v)]
    return float(np.median(finite)) if finite else math.nan


def scatter(values: Sequence[float]) -> float:
    """Return the deviation of a curve around its own course, from its second differences, which know no trend."""
    finite = [v for v in values if math.isfinite(v)]
    if len(finite) < 4:
        return 0.0
    return float(1.4826 * np.median(np.abs(np.diff(finite, 2))) / math.sqrt(6))
