"""Where a run is, in one small file: `status.json`, which a board of a thousand runs reads instead of their logs.

The process that trains a run replaces the file whenever the state changes, an epoch or a validation ends, and every
few seconds of steps in between. `read_status` reads it, without torch and whatever the length of the run; where it
is missing (runs of earlier versions, shared copies) it is made from the event log. It says nothing that the log
does not say.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, TypeAdapter
from pydantic.dataclasses import dataclass

from segexplorer.core.atomic_files import atomic_write
from segexplorer.core.errors import DataError
from segexplorer.core.events import (
    ACTIVE_STATES,
    Count,
    EpochDone,
    Event,
    Planned,
    RunFinished,
    RunState,
    Seconds,
    StateChanged,
    StepDone,
    ValidationDone,
)
from segexplorer.core.untrusted_files import with_checksum
from segexplorer.training.event_log import drop_superseded, read_events
from segexplorer.training.ownership import holder_of
from segexplorer.training.run_files import STATUS, RunFile, read_run_file
from segexplorer.training.step_columns import StepColumns, stretches

RecordedState = RunState | Literal["interrupted"]
"""State of a run folder. A run is interrupted when its process died, or has shown no sign of life for minutes."""
EVERY_SECONDS = 5.0
"""Steps alone replace the file no more often than this."""
_SMOOTHING = 0.05
"""Weight of the newest step in the mean seconds of a step."""
_LONGEST = 500

_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Text = Annotated[str, StringConstraints(max_length=4096)]


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """What is known of a run without reading its log.

    Attributes
    ----------
    state, activity
        As the run recorded it, "interrupted" where its process is gone; and what it is doing, in words.
    attempt
        Number of the attempt, 0 before the first.
    step, steps, epoch, epochs
        Optimiser steps done and planned; the epoch in hand, counted from 1, and how many there will be. `steps`
        and `epochs` are 0 until the run is planned.
    loss, mean_loss
        Of the last step, and the mean of the last whole epoch; None before.
    mean_dice, best_dice, best_step
        Of the last validation, and of the one that was judged the best; None before the first.
    badges
        What goes with every figure, e.g. "training case, not held out".
    step_seconds
        Seconds of a step, a running mean.
    started, updated
        When the first attempt began and the last event came, seconds since the epoch (UTC); 0 before.
    reason, error, exit_code
        How the run ended; empty and 0 while it goes on.
    """

    state: RecordedState = "idle"
    activity: _Text = ""
    attempt: Count = 0
    step: Count = 0
    steps: Count = 0
    epoch: Count = 0
    epochs: Count = 0
    loss: _Finite | None = None
    mean_loss: _Finite | None = None
    mean_dice: _Finite | None = None
    best_dice: _Finite | None = None
    best_step: Count | None = None
    badges: tuple[_Text, ...] = ()
    step_seconds: Seconds | None = None
    started: Seconds = 0.0
    updated: Seconds = 0.0
    reason: _Text = ""
    error: _Text = ""
    exit_code: int = 0

    @property
    def active(self) -> bool:
        """Whether a process is training it."""
        return self.state in ACTIVE_STATES

    @property
    def seconds_left(self) -> float | None:
        """Seconds of steps that are left, without validations; None where it is not known."""
        if self.step_seconds is None or not self.steps or not self.active:
            return None
        return max(0, self.steps - self.step) * self.step_seconds

    def after(self, event: Event) -> RunStatus:
        """Return the status after one more event."""
        facts: dict[str, Any] = {"attempt": event.attempt, "step": event.step, "updated": event.time}
        if not self.started:
            facts["started"] = event.time
        match event:
            case StateChanged():
                facts |= {"state": event.state, "activity": _shortened(event.activity)}
                if event.state == "preparing":
                    facts |= {"reason": "", "error": "", "exit_code": 0}
            case Planned():
                badges = tuple(map(_shortened, event.badges))
                facts |= {"steps": event.steps, "epochs": event.epochs, "badges": badges}
            case StepDone():
                before = self.step_seconds
                mean = event.seconds if before is None else before + _SMOOTHING * (event.seconds - before)
                facts |= {"epoch": event.epoch, "loss": _number(event.loss), "step_seconds": mean}
            case EpochDone():
                facts |= {"epoch": event.epoch, "epochs": event.epochs, "mean_loss": _number(event.loss)}
            case ValidationDone():
                facts["mean_dice"] = _number(event.mean_dice)
                if event.best:
                    facts |= {"best_dice": _number(event.mean_dice), "best_step": event.step}
            case RunFinished():
                facts |= {"state": event.state, "activity": "", "reason": _shortened(event.reason)}
                facts |= {"error": _shortened(event.error), "exit_code": event.exit_code}
        return replace(self, **facts)

    def after_steps(self, steps: StepColumns) -> RunStatus:
        """Return the status after consecutive steps, as `after` one by one."""
        status = self.after(steps.event(0))
        mean = status.step_seconds
        for seconds in steps.numbers("seconds")[1:].tolist():
            mean = seconds if mean is None else mean + _SMOOTHING * (seconds - mean)
        return replace(status.after(steps.event(len(steps) - 1)), step_seconds=mean)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def status_of(events: Iterable[Event]) -> RunStatus:
    """Return the status after all events of a log, without steps that were done again."""
    status = RunStatus()
    for piece in stretches(events):
        status = status.after_steps(piece) if isinstance(piece, StepColumns) else status.after(piece)
    return status


_adapter = TypeAdapter(RunStatus)


class _StatusFile(RunFile):
    """`status.json`."""

    status: RunStatus


def read_status(folder: Path) -> RunStatus:
    """Return where a run is, from its small file; from its event log where it has none.

    Parameters
    ----------
    folder
        A run folder. It is not checked to be one: a board that lists folders has done so.

    Raises
    ------
    DataError
        When the event log is needed and is no log.
    """
    try:
        found = read_run_file(folder, STATUS, _StatusFile)
    except DataError:  # a power cut may leave it empty; `segexplorer verify` says so
        found = None
    status = found.status if found is not None else status_of(drop_superseded(read_events(folder)))
    return replace(status, state="interrupted") if status.active and holder_of(folder) is None else status


class StatusWriter:
    """Keeps `status.json` up to date.

    Parameters
    ----------
    earlier
        Events that were recorded before, without those that will be done again.
    """

    def __init__(self, folder: Path, earlier: Iterable[Event] = ()) -> None:
        self.path, self.status = folder / STATUS, status_of(earlier)
        self._written = -math.inf

    def write(self, event: Event) -> None:
        """Take an event, and replace the file where something but a step happened, or some seconds have passed."""
        self.status = self.status.after(event)
        rare = isinstance(event, (StateChanged, Planned, EpochDone, ValidationDone, RunFinished))
        if rare or time.monotonic() - self._written >= EVERY_SECONDS:
            self.save()

    def save(self) -> None:
        """Replace the file now; a run folder that was deleted does not come back by it."""
        if not self.path.parent.is_dir():
            return  # the next check of who owns the folder says so
        plain = _adapter.dump_python(self.status, mode="json")
        atomic_write(self.path, json.dumps(with_checksum({"status": plain})).encode())
        self._written = time.monotonic()
