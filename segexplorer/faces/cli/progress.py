"""A run on the terminal: one bar with the time left, and a line for everything worth keeping."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from segexplorer.core import events
from segexplorer.core.events import Event


class RunDisplay:
    """Show events on a console; where it is no terminal, lines only.

    Use as a context; `show` takes every event of a run, in order.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task: TaskID = self._bar.add_task("preparing", total=None, numbers="")
        self._steps, self._steps_per_epoch = 0, 1
        self._planned: set[str] = set()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._bar.console.print(text, markup=False, soft_wrap=True)

    def show(self, event: Event) -> None:
        """Take the next event."""
        match event:
            case events.Planned():
                self._start(event)
            case events.StepDone():
                self._move(event)
            case events.Progress():
                self._bar.update(self._task, description=f"{event.activity} {event.done}/{event.total}")
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
        self._steps, self._steps_per_epoch = plan.epochs * plan.steps_per_epoch, plan.steps_per_epoch
        self._bar.update(self._task, description="training", total=self._steps, completed=plan.step)

    def _move(self, step: events.StepDone) -> None:
        numbers = f"step {step.step}/{self._steps}, loss {step.loss:.4g}"
        self._bar.update(self._task, description=f"epoch {step.epoch}", completed=step.step, numbers=numbers)

    def _end_epoch(self, epoch: events.EpochDone) -> None:
        self._steps = epoch.epochs * self._steps_per_epoch
        self._bar.update(self._task, total=self._steps)
        if not self._console.is_terminal:
            self.say(f"epoch {epoch.epoch}/{epoch.epochs}: loss {epoch.loss:.4g}")


def validation_line(done: events.ValidationDone) -> str:
    """Return one line: the mean, how many pairs it is over, and each class."""
    classes = ", ".join(f"{name} {dice:.3f}" for name, dice in done.class_dice.items())
    counts = f"{done.n_used} used, {done.n_absent} absent, {done.n_missed} missed"
    marks = (" best" if done.best else "") + (f" [{done.badge}]" if done.badge else "")
    return f"epoch {done.epoch}: mean Dice {done.mean_dice:.3f} ({classes}; {counts}){marks}"
