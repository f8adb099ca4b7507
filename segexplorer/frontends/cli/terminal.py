"""The command line's terminal: results on stdout; progress, time left and notices on stderr."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.segment import Segment
from rich.table import Column
from rich.text import Text

from segexplorer.core import events
from segexplorer.core.events import Event
from segexplorer.core.printable import printable, printable_json
from segexplorer.viewmodels.status import Status

PIPE_WIDTH, LEAST_WIDTH = 120, 40


class _Console(Console):
    """A console on which no text acts as a command of the terminal: names come from files of others."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield what is to be written; rich's own colours and movements are not part of the texts."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(printable(segment.text, lines=True), segment.style)


def results() -> Console:
    """Return a console on stdout; in a pipe it is as wide as COLUMNS says, else wide enough for tables."""
    return _Console(width=_width(sys.stdout.isatty()), highlight=False)


def remarks() -> Console:
    """Return a console on stderr."""
    return _Console(width=_width(sys.stderr.isatty()), stderr=True, highlight=False)


def _width(terminal: bool) -> int | None:
    """Return the width of what is no terminal; rich measures one itself."""
    if terminal:
        return None
    columns = os.environ.get("COLUMNS", "")
    return max(int(columns), LEAST_WIDTH) if columns.isdecimal() else PIPE_WIDTH


def remark(text: str) -> None:
    """Print a sentence on stderr."""
    remarks().print(text, markup=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print strict JSON; non-finite numbers become null."""
    print(printable_json(json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False)))


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return value


class EtaEstimator:
    """Two rates, each measured where it arises: seconds per window, and per case for all else.

    Reading, resampling and writing a case take as long as many windows, so that one rate over both would promise
    too little at a case's beginning and too much at its end. Times are of any clock, in seconds.

    Parameters
    ----------
    windows
        Of each case, in order.
    now
        When the first case is begun.
    """

    def __init__(self, windows: Sequence[int], now: float) -> None:
        self.windows = windows
        self._finished: list[float] = []  # seconds of each finished case beside its windows
        self._beside = self._window_seconds = 0.0
        self._done = 0
        self._at = now

    @property
    def case(self) -> int:
        """Index of the present case."""
        return len(self._finished)

    @property
    def done(self) -> int:
        """Windows done over all cases."""
        return sum(self.windows[: self.case]) + self._done

    def update(self, done: int, now: float) -> None:
        """Take down that `done` windows of the present case are done; as many as before: it was something else."""
        if done > self._done:
            self._window_seconds += now - self._at
        else:
            self._beside += now - self._at
        self._done, self._at = done, now

    def tell_case(self, now: float) -> None:
        """Take down that the present case is done with."""
        self._finished.append(self._beside + now - self._at)
        self._beside, self._done, self._at = 0.0, 0, now

    def left(self) -> float | None:
        """Return the seconds left; None before the first window, when it cannot be known."""
        if not self.done:
            return None
        waiting = len(self.windows) - self.case
        windows = (sum(self.windows) - self.done) * self._window_seconds / self.done
        if not self._finished:  # what the first case will need after its windows nobody knows yet
            return windows + (waiting - 1) * self._beside
        beside = sum(self._finished) / len(self._finished)
        present = max(0.0, beside - self._beside) if waiting else 0.0
        return windows + max(0, waiting - 1) * beside + present


class TimeLeft(ProgressColumn):
    """Counts down to the task's field `ends`, a time of `time.monotonic`; None where it is not known."""

    def render(self, task: Task) -> Text:
        """Return "0:01:30 left"."""
        ends = task.fields["ends"]
        if ends is None:
            return Text("-:--:-- left")
        seconds = max(0, round(ends - time.monotonic()))
        return Text(f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02} left")


SECONDS_PER_LINE = 30.0
"""Where there is no terminal, a line says at this interval how far the windows of a case are."""


class PlainProgress:
    """Says in lines how far a long prediction is, for logs: none for what is done within the interval."""

    def __init__(self, console: Console, now: float) -> None:
        self._console, self._last = console, now

    def show(self, at: events.Progress, now: float) -> None:
        """Print a line where the last one is long ago; `now` is `time.monotonic()`."""
        if now - self._last >= SECONDS_PER_LINE:
            self._last = now
            self._console.print(at.sentence, markup=False, soft_wrap=True)

    def rest(self, now: float) -> None:
        """Note that something else was printed."""
        self._last = now


def whole(text: str) -> TextColumn:
    """Return a column whose text is never broken over lines."""
    return TextColumn(text, table_column=Column(no_wrap=True))


class RunDisplay:
    """Show events on a console; where it is no terminal, lines only.

    Use as a context; `show` takes every event of a run, in order. `speed` is that of a replay.
    """

    def __init__(self, console: Console, speed: float = 1.0) -> None:
        self._console, self._speed = console, speed
        self._status = Status()
        self._bar = Progress(
            whole("{task.description}"),
            BarColumn(bar_width=None),
            whole("{task.fields[numbers]}"),
            TimeLeft(table_column=Column(no_wrap=True)),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task: TaskID = self._bar.add_task("preparing", total=None, numbers="", ends=None)
        self._steps, self._steps_per_epoch, self._ends_early = 0, 1, False
        self._planned: set[str] = set()
        self._lines = PlainProgress(console, time.monotonic())

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def refresh(self) -> None:
        """Draw the bar now."""
        self._bar.refresh()

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._bar.console.print(text, markup=False, soft_wrap=True)
        self._lines.rest(time.monotonic())

    def show(self, event: Event) -> None:
        """Take the next event."""
        self._status.add(event)
        self._show(event)
        if isinstance(event, (events.StepDone, events.ValidationDone, events.EpochDone)):
            left = self._status.seconds_left  # training and validations to come
            ends = None if left is None else time.monotonic() + left / self._speed
            self._bar.update(self._task, ends=ends)

    def _show(self, event: Event) -> None:
        match event:
            case events.Planned():
                self._start(event)
            case events.StepDone():
                self._move(event)
            case events.Progress():
                self._bar.update(self._task, description=f"{event.activity} {event.done}/{event.total}")
                if not self._console.is_terminal:
                    self._lines.show(event, time.monotonic())
            case events.StateChanged():
                self._bar.update(self._task, description=event.activity or event.state)
            case events.EpochDone():
                self._end_epoch(event)
            case events.ValidationDone():
                self.say(validation_line(event))
            case events.ParameterApplied():
                self.say(f"step {event.step}: {event.field} is now {event.value} (was {event.previous})")
            case events.Notice():
                self.say(f"{event.message} {event.remedy}".rstrip())

    def _start(self, plan: events.Planned) -> None:
        width = max((len(label) for label in plan.summary), default=0)
        notes = tuple(f"Note: {warning}" for warning in plan.warnings)
        lines = [*(f"{label:{width}}  {text}" for label, text in plan.summary.items()), *notes]
        for line in lines:
            if line not in self._planned:  # a later attempt's plan: what is new in it
                self.say(line)
        self._planned.update(lines)
        for badge in plan.badges:
            self.say(f"[{badge}]")
        self._steps, self._steps_per_epoch = plan.steps, plan.steps_per_epoch
        self._ends_early = plan.steps != plan.epochs * plan.steps_per_epoch  # a fork of so many steps
        self._bar.update(self._task, description="training", total=self._steps, completed=plan.step)

    def _move(self, step: events.StepDone) -> None:
        numbers = f"step {step.step}/{self._steps}, loss {step.loss:.4g}"
        self._bar.update(self._task, description=f"epoch {step.epoch}", completed=step.step, numbers=numbers)

    def _end_epoch(self, epoch: events.EpochDone) -> None:
        if not self._ends_early:
            self._steps = epoch.epochs * self._steps_per_epoch
        self._bar.update(self._task, total=self._steps)
        if not self._console.is_terminal:
            self.say(f"epoch {epoch.epoch}/{epoch.epochs}: loss {epoch.loss:.4g}")


def validation_line(done: events.ValidationDone) -> str:
    """Return one line: the mean, how many pairs it is over, and each class."""
    classes = ", ".join(f"{name} {dice:.3f}" for name, dice in done.class_dice.items())
    counts = f"{done.n_used} used, {done.n_absent} absent, {done.n_missed} missed"
    marks = (" best" if done.best else "") + (f" [{done.badge}]" if done.badge else "")
    loss = f", loss {done.loss:.4g}" if done.criterion == "loss" else ""
    return f"epoch {done.epoch}: mean Dice {done.mean_dice:.3f} ({classes}; {counts}){loss}{marks}"
