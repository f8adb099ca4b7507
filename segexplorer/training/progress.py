"""Where a run is: its position, the sums of its current epoch, and the changes made while it trains.

Position and sums are the plain numbers that a checkpoint keeps. A live change is recorded when it is
requested and takes effect right before a step. It carries the step at which it was requested, so that a
resumed run, or a replay by the command line, makes it at the same place and gives the same numbers. An
extension is a change of `schedule.epochs` to the new total.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from segexplorer.core.events import ParameterApplied
from segexplorer.core.spec import get_value, replace_value
from segexplorer.training.experiment import Change, Experiment

if TYPE_CHECKING:
    from segexplorer.training.folder import RunFolder


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


# ---- changes made while it trains

EDITED = "edited while it ran"
EXTENSION = "schedule.epochs"
"""Field name of an extension among an experiment's changes; its value is the new number of epochs."""


class LiveChanges:
    """The changes of one run: those of earlier attempts, to be replayed, and those requested now.

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
    """

    def __init__(self, planned: Experiment, folder: RunFolder, step: int) -> None:
        self.planned, self.folder = planned, folder
        self.effective = planned.model_copy(update={"changes": ()})
        self.epochs = planned.schedule.epochs
        for change in planned.changes:
            if change.field == EXTENSION and change.step <= step:
                self._extend_to(change)
            elif change.field != EXTENSION and change.step < step:
                self.effective = replace_value(self.effective, change.field, change.value)
        self._pending = deque(c for c in planned.changes if c.step >= step)

    @property
    def badges(self) -> tuple[str, ...]:
        """What figures of this run must say: that settings were changed, that the run was extended."""
        edited = any(c.field != EXTENSION for c in self.planned.changes)
        planned = self.planned.schedule.epochs
        longer = (f"extended from {planned} to {self.epochs} epochs",) if self.epochs > planned else ()
        return ((EDITED,) if edited else ()) + longer

    def ask(self, path: str, value: Any, step: int) -> None:
        """Request a live change before the next step; it is recorded at once.

        Raises
        ------
        SpecError
            When the setting does not exist or may not take the value.
        """
        ahead = self.effective
        for pending in self._pending:
            if pending.step == step and pending.field != EXTENSION:
                ahead = replace_value(ahead, pending.field, pending.value)
        applied = get_value(replace_value(ahead, path, value), path)
        self._record(Change(step=step, field=path, value=applied))

    def extend(self, epochs: int, step: int) -> None:
        """Train `epochs` more, at the schedule's floor."""
        self.epochs += epochs
        self._record(Change(step=step, field=EXTENSION, value=self.epochs))

    def due(self, step: int) -> Iterator[ParameterApplied]:
        """Apply the changes requested up to `step` one by one, whether live or replayed."""
        while self._pending and self._pending[0].step <= step:
            change = self._pending.popleft()
            if change.field == EXTENSION:
                self._extend_to(change)
                continue
            previous = get_value(self.effective, change.field)
            self.effective = replace_value(self.effective, change.field, change.value)
            yield ParameterApplied(field=change.field, value=change.value, previous=previous)

    def _extend_to(self, change: Change) -> None:
        self.epochs = max(self.epochs, int(change.value or 0))

    def _record(self, change: Change) -> None:
        first_later = sum(c.step <= change.step for c in self._pending)
        self._pending.insert(first_later, change)
        self.planned = self.planned.model_copy(update={"changes": (*self.planned.changes, change)})
        self.folder.save_experiment(self.planned)
