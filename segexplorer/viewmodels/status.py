"""The state of a run as sentences: progress, time left, speed, what was changed, and why it ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from segexplorer.core.events import (
    CheckpointSaved,
    EpochDone,
    Event,
    Notice,
    ParameterApplied,
    Planned,
    Progress,
    RunFinished,
    RunState,
    StateChanged,
    StepDone,
    ValidationDone,
)
from segexplorer.training.step_columns import StepColumns, stretches
from segexplorer.training.timing import Timing


def sentence(timing: Timing) -> str:
    """Return e.g. "about 2 min per epoch, 40 min in all (measured: 3 steps)"."""
    counted = f"{timing.steps} step{'' if timing.steps == 1 else 's'}"
    return f"{_about(timing.epoch)} per epoch, {duration(max(timing.total, 1))} in all (measured: {counted})"


def _about(seconds: float) -> str:
    return f"about {duration(seconds)}" if seconds >= 0.5 else "under a second"


RECENT_STEPS = 50
LOG_LINES = 500

_HEADLINES: Mapping[RunState, str] = {
    "idle": "ready to start",
    "preparing": "preparing",
    "running": "training",
    "paused": "paused",
    "stopping": "stopping after this step",
    "stopped": "stopped",
    "finished": "finished",
    "failed": "failed",
}


def duration(seconds: float) -> str:
    """Return a duration as people say it: "45 s", "3 min", "1 h 20 min"."""
    if seconds < 59.5:
        return f"{max(round(seconds), 0)} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if rest and hours < 10 else f"{hours} h"


def memory(size: int) -> str:
    """Return bytes as "812 MB" or "3.4 GB" (powers of 1000)."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def plain_value(value: Any) -> str:
    """Return a setting's value as people write it."""
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class LogLine:
    """One line of the run's log; `time` is in seconds since 1970, UTC."""

    time: float
    step: int
    text: str
    important: bool = False

    @property
    def sentence(self) -> str:
        """The line with its local time and step."""
        clock = datetime.fromtimestamp(self.time, UTC).astimezone().strftime("%H:%M:%S")
        return f"{clock}  step {self.step}: {self.text}"


class Status:
    """Consumes a run's events; its properties are what a Run panel shows. Empty sentences show nothing."""

    def __init__(self) -> None:
        self.state: RunState = "idle"
        self.badges: tuple[str, ...] = ()
        self.failure = ""
        """Why the run failed and what to do, for the user; empty unless it failed."""
        self.cause = ""
        """The traceback of a failure, for reports."""
        self.log: deque[LogLine] = deque(maxlen=LOG_LINES)
        self._activity = ""
        self._reason = ""
        self._step = self._steps = self._epoch = self._epochs = self._steps_per_epoch = 0
        self._memory = 0
        self._recent: deque[tuple[float, int]] = deque(maxlen=RECENT_STEPS)
        self._side: Progress | None = None
        self._validation_seconds = 0.0
        self._validations: list[int] = []
        self._attempt = 0

    def extend(self, events: Iterable[Event]) -> None:
        """Add events in order."""
        for piece in stretches(events):
            if isinstance(piece, StepColumns):
                self._add_steps(piece)
            else:
                self.add(piece)

    def _add_steps(self, steps: StepColumns) -> None:
        """Add consecutive steps, as `add` does one by one."""
        if steps.attempt > self._attempt:
            self._begin_attempt(steps.event(0))
        self._step = max(self._step, int(steps.steps[-1]))
        self._epoch, self._memory = int(steps.counts("epoch")[-1]), int(steps.counts("memory_bytes")[-1])
        self._side = None
        recent = slice(-RECENT_STEPS, None)
        seconds, samples = steps.numbers("seconds")[recent], steps.counts("samples")[recent]
        self._recent.extend(zip(seconds.tolist(), samples.tolist(), strict=True))

    def add(self, event: Event) -> None:
        """Add one event."""
        if event.attempt > self._attempt:
            self._begin_attempt(event)
        self._step = max(self._step, event.step)
        if isinstance(event, StepDone):
            self._epoch, self._memory, self._side = event.epoch, event.memory_bytes, None
            self._recent.append((event.seconds, event.samples))
        elif isinstance(event, EpochDone):
            self._epoch, self._epochs = event.epoch, event.epochs
        elif isinstance(event, Planned):
            self._steps, self._epochs = event.steps, event.epochs
            self._steps_per_epoch, self.badges = event.steps_per_epoch, event.badges
            for warning in event.warnings:
                self._note(event, warning, important=True)
        elif isinstance(event, StateChanged):
            self.state, self._activity, self._side = event.state, event.activity, None
        elif isinstance(event, Progress):
            self._side = event
        elif isinstance(event, ValidationDone):
            self._add_validation(event)
        elif isinstance(event, (ParameterApplied, Notice, CheckpointSaved, RunFinished)):
            self._add_message(event)

    def _begin_attempt(self, event: Event) -> None:
        resumed = self._attempt > 0
        self._attempt, self._step = event.attempt, event.step
        self.failure = self.cause = self._reason = ""
        self._recent.clear()
        self._validations = [step for step in self._validations if step <= event.step]
        if resumed:
            self._note(event, f"resumed (attempt {event.attempt})")

    def _add_validation(self, event: ValidationDone) -> None:
        self._side = None
        self._validation_seconds = event.seconds
        self._validations.append(event.step)
        best = ", the best so far" if event.best else ""
        badge = f" ({event.badge})" if event.badge else ""
        loss = f", loss {event.loss:.4g}" if event.criterion == "loss" else ""
        self._note(
            event,
            f"validated: mean Dice {event.mean_dice:.3f}{loss}{best}; "
            f"{event.n_used} used, {event.n_absent} absent, {event.n_missed} missed{badge}",
        )

    def _add_message(self, event: ParameterApplied | Notice | CheckpointSaved | RunFinished) -> None:
        if isinstance(event, ParameterApplied):
            change = f"{event.field} changed from {plain_value(event.previous)} to {plain_value(event.value)}"
            self._note(event, change)
        elif isinstance(event, Notice):
            self._note(event, f"{event.message} {event.remedy}".strip(), important=True)
        elif isinstance(event, CheckpointSaved):
            self._note(event, f"checkpoint saved ({', '.join(event.pointers)})")
        else:
            self.state, self._reason, self._side = event.state, event.reason, None
            if event.state == "failed":
                self.failure = f"{event.error or event.reason} {event.remedy}".strip()
                self.cause = event.cause
            self._note(event, self.failure or event.reason, important=event.state == "failed")

    def _note(self, event: Event, text: str, *, important: bool = False) -> None:
        self.log.append(LogLine(event.time, event.step, text, important))

    @property
    def headline(self) -> str:
        """The state in a few words, with what it is busy with or why it ended."""
        if self.state == "failed":
            return f"failed: {self.failure}"
        if self.state in ("stopped", "finished"):
            said = self._reason.startswith(self.state)  # "stopped by the user" says both
            return self._reason if said else f"{self.state}: {self._reason}" if self._reason else self.state
        side = self._side
        # a single step ends with the prediction of a slice, which no event follows while the run is paused
        ended = side is not None and self.state == "paused" and 0 < side.total <= side.done
        if side is not None and not ended:
            return side.sentence
        return self._activity or _HEADLINES[self.state]

    @property
    def fraction(self) -> float:
        """How much of the run is done, 0 to 1; before the first step, of what is being prepared."""
        if self._step == 0 and self._side is not None and self._side.total:
            return min(self._side.done / self._side.total, 1.0)
        return min(self._step / self._steps, 1.0) if self._steps else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Training and validation still to come, from the last steps' pace; None before there is one.

        Remaining steps take the mean of the last steps. Validations still to come take what the last took, at
        the interval between the last two (an epoch, before there are two).
        """
        if not self._recent or not self._steps:
            return None
        left = max(self._steps - self._step, 0)
        training = left * sum(seconds for seconds, _ in self._recent) / len(self._recent)
        if not self._validations:
            return training
        interval = self._steps_per_epoch
        if len(self._validations) > 1:
            interval = self._validations[-1] - self._validations[-2]
        return training + self._validation_seconds * (left / interval if interval > 0 else 0)

    @property
    def progress(self) -> str:
        """The progress sentence, e.g. "epoch 12 of 40, 3 min left"."""
        if not self._epochs:
            return ""
        text = f"epoch {max(self._epoch, 1)} of {self._epochs}"
        left = self.seconds_left
        if left is None or self.state in ("stopped", "finished", "failed"):
            return text
        return f"{text}, {duration(left)} left"

    @property
    def rate(self) -> str:
        """Samples per second over the last steps, e.g. "3.2 samples/s"."""
        seconds = sum(s for s, _ in self._recent)
        if seconds <= 0:
            return ""
        rate = sum(n for _, n in self._recent) / seconds
        return f"{rate:.0f} samples/s" if rate >= 10 else f"{rate:.2g} samples/s"

    @property
    def memory(self) -> str:
        """Memory in use, e.g. "1.4 GB"."""
        return memory(self._memory) if self._memory else ""
