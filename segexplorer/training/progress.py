"""Where a run is: its position, the sums of its current epoch, and the changes made while it trains.

Position and sums are the plain numbers that a checkpoint keeps. A live change is recorded when it is
requested and takes effect right before a step. It carries the step at which it was requested, so that a
resumed run, or a replay by the command line, makes it at the same place and gives the same numbers. An
extension is a change of `schedule.epochs` to the new total.
"""

from __future__ import annotations

import math
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

from segexplorer.core.errors import SpecError, did_you_mean
from segexplorer.core.events import ParameterApplied, ValidationDone
from segexplorer.core.spec import get_value, live_parameters, replace_values
from segexplorer.training.experiment import Change, EarlyStopping, Experiment

if TYPE_CHECKING:
    from segexplorer.training.folder import RunFolder


WORST = -sys.float_info.max
"""Merit before the first validation; a number, since a checkpoint keeps it as JSON, which has no infinity."""


@dataclass
class Position:
    """Where training is: epoch counted from 1, steps done in it, optimiser steps done in all."""

    epoch: int = 1
    index: int = 0
    step: int = 0


@dataclass
class EpochSums:
    """Sample-weighted sums of an epoch's losses and terms."""

    samples: int = 0
    loss: float = 0.0
    values: dict[str, float] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)

    def add(self, loss: float, terms: dict[str, tuple[float, float]], samples: int) -> None:
        """Add a step."""
        self.samples += samples
        self.loss += loss * samples
        for name, (value, weight) in terms.items():
            self.values[name] = self.values.get(name, 0.0) + value * samples
            self.weights[name] = self.weights.get(name, 0.0) + weight * samples

    def mean_loss(self) -> float:
        """Return the mean loss."""
        return self.loss / max(self.samples, 1)

    def mean_terms(self) -> dict[str, tuple[float, float]]:
        """Return name -> (mean value, mean weight)."""
        n = max(self.samples, 1)
        return {k: (v / n, self.weights[k] / n) for k, v in self.values.items()}


@dataclass
class Patience:
    """What early stopping remembers: the best monitored value so far, and validations since; for checkpoints."""

    best: float | None = None
    waited: int = 0

    def take(self, done: ValidationDone, rule: EarlyStopping) -> None:
        """Take note of a validation; one whose value is not a number improves nothing."""
        value = done.mean_dice if rule.monitor == "dice" else -done.loss
        if math.isfinite(value) and (self.best is None or value > self.best + rule.min_delta):
            self.best, self.waited = value, 0
        else:
            self.waited += 1

    def is_over(self, rule: EarlyStopping) -> bool:
        """Whether training ends."""
        return rule.patience is not None and self.waited >= rule.patience

    def reason(self, rule: EarlyStopping) -> str:
        """Return why training ended."""
        what = "mean Dice" if rule.monitor == "dice" else "validation loss"
        return f"the {what} has not improved for {self.waited} validation{'' if self.waited == 1 else 's'}"


# ---- changes made while it trains

EDITED = "edited while it ran"
LONGER = "extended after early stopping"
COURSE = "schedule.extension"
"""Field name that says how the learning rate goes on in an extension."""
EXTENSION = "schedule.epochs"
"""Field name of an extension among an experiment's changes; its value is the new number of epochs."""


class LiveChanges:
    """The changes of one run: those of earlier attempts, to be replayed, and those requested now.

    Changes of one step take effect together, since settings may depend on each other. A change may be requested on
    any thread; it is made on the thread that trains.

    Parameters
    ----------
    planned
        The experiment as its folder has it, changes included.
    folder
        Where a change is recorded.
    step
        Optimiser steps done: earlier changes are in effect already.

    Attributes
    ----------
    planned
        With every change requested so far.
    effective
        The experiment as the next step uses it.
    epochs
        Total number, extensions included.

    Raises
    ------
    SpecError
        When a recorded change is of a setting that may not change, or not to that value.
    """

    def __init__(self, planned: Experiment, folder: RunFolder, step: int) -> None:
        self.planned, self.folder = planned, folder
        self.epochs = planned.schedule.epochs
        self._lock = threading.Lock()
        for change in planned.changes:
            if change.field == EXTENSION and change.step <= step:
                self.epochs = _total(change)
        self.effective = effective_at(planned, step)
        self._pending = deque(c for c in planned.changes if c.step >= step)
        _followed(
            self.effective, self._pending
        )  # a change that cannot be made is refused before anything is done

    @property
    def badges(self) -> tuple[str, ...]:
        """What figures of this run must say: that settings were changed, that the run was extended."""
        edited = any(c.field not in (EXTENSION, COURSE) for c in self.planned.changes)
        planned = self.planned.schedule.epochs
        extended = any(c.field == EXTENSION for c in self.planned.changes)
        longer = f"extended from {planned} to {self.epochs} epochs" if self.epochs > planned else LONGER
        return ((EDITED,) if edited else ()) + ((longer,) if extended else ())

    def check(self, values: Mapping[str, Any], step: int, earlier: Sequence[Mapping[str, Any]] = ()) -> None:
        """Refuse values that do not go together with each other, or with changes that are still to be made.

        Parameters
        ----------
        values
            Dotted path -> new value.
        step
            Optimiser steps done.
        earlier
            Values that were asked for before these, and have not arrived here yet.

        Raises
        ------
        SpecError
            Naming the setting.
        """
        with self._lock:
            effective, pending = self.effective, tuple(self._pending)
        check_live(effective, values)
        ahead = _followed(effective, [c for c in pending if c.step <= step])
        for given in (*earlier, values):
            ahead = replace_values(ahead, given)
        _followed(ahead, [c for c in pending if c.step > step])

    def ask(self, values: Mapping[str, Any], step: int) -> None:
        """Request live changes before the next step, as one; they are recorded at once.

        Raises
        ------
        SpecError
            When a setting does not exist, or the values do not go together, also with changes already requested.
        """
        with self._lock:
            due = [c for c in self._pending if c.step <= step]
            ahead = replace_values(_followed(self.effective, due), values)
            _followed(ahead, [c for c in self._pending if c.step > step])
            for path in values:
                self._record(Change(step=step, field=path, value=get_value(ahead, path)))
            self.folder.save_experiment(self.planned)

    def extend(self, total: int, step: int) -> None:
        """Train up to `total` epochs."""
        with self._lock:
            self.epochs = total
            self._record(Change(step=step, field=EXTENSION, value=total))
            self.folder.save_experiment(self.planned)

    def due(self, step: int) -> Iterator[ParameterApplied]:
        """Apply the changes requested up to `step`, those of one step together, whether live or replayed."""
        with self._lock:
            due: list[Change] = []
            while self._pending and self._pending[0].step <= step:
                due.append(self._pending.popleft())
            before, self.effective = self.effective, _followed(self.effective, due)
        present: dict[str, Any] = {}
        for change in due:
            if change.field == EXTENSION:
                self.epochs = _total(change)
                continue
            previous = present.get(change.field, get_value(before, change.field))
            present[change.field] = change.value
            yield ParameterApplied(field=change.field, value=change.value, previous=previous)

    def _record(self, change: Change) -> None:
        first_later = sum(c.step <= change.step for c in self._pending)
        self._pending.insert(first_later, change)
        self.planned = self.planned.model_copy(update={"changes": (*self.planned.changes, change)})


def check_live(experiment: Experiment, paths: Iterable[str]) -> None:
    """Refuse settings that may not change during a run.

    Raises
    ------
    SpecError
        Naming the setting, and the nearest one that may.
    """
    live = live_parameters(experiment)
    for path in paths:
        if path not in live:
            get_value(experiment, path)  # says which part of the path is wrong, if one is
            raise SpecError(f"{path} cannot change during a run.", did_you_mean(path, live))


def effective_at(planned: Experiment, step: int) -> Experiment:
    """Return an experiment as it was after `step` optimiser steps, the live changes before them made.

    Raises
    ------
    SpecError
        When a recorded change is of a setting that may not change, or not to that value.
    """
    return _followed(_unchanged(planned), [c for c in planned.changes if c.step < step])


def _unchanged(planned: Experiment) -> Experiment:
    return planned.model_copy(update={"changes": ()})


def _followed(experiment: Experiment, changes: Iterable[Change]) -> Experiment:
    """Return an experiment after changes, those of one step made together."""
    for _, together in groupby(changes, key=lambda change: change.step):
        values = {c.field: c.value for c in together if c.field != EXTENSION}
        check_live(experiment, values)
        if values:
            experiment = replace_values(experiment, values)
    return experiment


def _total(change: Change) -> int:
    return int(change.value or 0)
