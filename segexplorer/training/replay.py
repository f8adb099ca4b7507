"""A recorded run, played again: its events in order and at a chosen speed, for any front end that follows runs.

A `Replay` has the part of `training.run.Run` that front ends use, so that the command line, the window and
the notebook show it as they show a run. It changes nothing, computes nothing and needs no torch.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from psygnal import Signal

from segexplorer.core.errors import DataError, RunStateError, SpecError
from segexplorer.core.events import Event, RunFinished, RunState, StateChanged, StepDone, WatchedDone
from segexplorer.training.event_log import drop_superseded, read_log
from segexplorer.training.history import HistoryFrame, open_run
from segexplorer.training.snapshots import LatestValues, PatchSnapshot, WatchedSnapshot
from segexplorer.training.step_columns import RecordedEvents, StepColumns, stretches
from segexplorer.training.trained_patch import TrainedPatch

LONGEST_WAIT = 2.0
"""Seconds; a long validation, or a night between two attempts, is not waited for."""

_GOES = {"pause", "step", "stop"}
_ACCEPTED = {
    "idle": {"start"},
    "running": _GOES,
    "preparing": _GOES,
    "paused": {"unpause", "step", "stop"},
    "finished": {"start"},
    "stopped": {"start"},
    "failed": {"start"},
}


class Replay:
    """The events of a run folder, iterated again.

    Parameters
    ----------
    folder
        A run folder; of a run still in progress, what it has recorded so far.
    speed
        How many times as fast as it was; `math.inf`: without waiting.
    load
        Reads a frame of the history into the slots of the watched cases, for a viewer; None: nobody looks.

    Raises
    ------
    DataError
        When the folder is not a run folder, or nothing happened in it yet.
    SpecError
        When the speed is not above 0.
    """

    events = Signal(Event)
    plan = None
    """A plan belongs to training; who wants one takes the `Planned` event."""

    def __init__(
        self,
        folder: str | Path,
        speed: float = 1.0,
        *,
        load: Callable[[HistoryFrame], WatchedSnapshot] | None = None,
    ) -> None:
        if not speed > 0:
            raise SpecError(f"A replay needs a speed above 0, not {speed:g}.", "1 is as fast as it was.")
        record = open_run(folder)
        self.folder, self.experiment, self.speed = record.folder, record.experiment, speed
        log = read_log(record.folder)
        if not log.events:
            raise DataError(f"Nothing has happened in {folder} yet.", "Train it first.")
        self._events = RecordedEvents([*log.notices(), *_without_repeats(drop_superseded(log.events))])
        frames = [*record.watched("train"), *record.watched("validation")] if load is not None else []
        self._frames = {(frame.role, frame.index): frame for frame in frames}
        self._load = load
        self.state: RunState = "idle"
        self.watched: LatestValues[WatchedSnapshot] = LatestValues()
        self.patch: LatestValues[PatchSnapshot] = LatestValues()
        self.trained: LatestValues[TrainedPatch | str] = LatestValues()
        self._changed = threading.Condition()
        self._paused = self._stopped = False
        self._steps_left: int | None = None

    def __len__(self) -> int:
        return len(self._events)

    # ---- commands: from any thread

    def accepts(self, command: str) -> bool:
        """Whether a command makes sense now; nothing that would change the run ever does."""
        return command in _ACCEPTED.get(self.state, set())

    def pause(self) -> None:
        """Hold before the next event."""
        self._obey(paused=True)

    def unpause(self) -> None:
        """Go on after a pause."""
        self._obey(paused=False)

    def step(self, view: object = None) -> None:
        """Go on to the end of the next step, and hold there."""
        self._obey(paused=False, steps=1)

    def stop(self) -> None:
        """End the replay."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def set(self, path: str, value: Any) -> NoReturn:
        """Refuse: a replay shows what was."""
        raise RunStateError(f"{path} cannot change in a replay.", "It shows what was; start a new run.")

    def extend(self, epochs: int) -> NoReturn:
        """Refuse: a replay trains nothing."""
        raise RunStateError("A replay cannot be extended.", "Open the run itself to train it longer.")

    def predict_now(self) -> NoReturn:
        """Refuse: a replay has no network."""
        raise RunStateError("A replay predicts nothing.", "Drag through the history to see other steps.")

    def _obey(self, *, paused: bool, steps: int | None = None) -> None:
        with self._changed:
            self._paused, self._steps_left = paused, steps
            self._changed.notify_all()

    # ---- iteration

    def __iter__(self) -> Iterator[Event]:
        self._paused = self._stopped = False
        self._steps_left = None
        for event in self._play():
            self.events.emit(event)
            yield event

    def _play(self) -> Iterator[Event]:
        before: Event | None = None
        for event in self._events:
            yield from self._wait(before, event)
            if self._stopped:
                yield self._end(replace(_END, reason="the replay was stopped", step=event.step))
                return
            if isinstance(event, RunFinished):
                yield self._end(event)
                return
            if isinstance(event, StateChanged):
                self.state = event.state
            if isinstance(event, WatchedDone):
                self._show(event)
            if isinstance(event, StepDone) and self._steps_left is not None:
                self._steps_left, self._paused = None, True
            yield event
            before = event
        assert before is not None
        yield self._end(replace(_END, reason="the record ends here", step=before.step, time=before.time))

    def _end(self, event: RunFinished) -> RunFinished:
        self.state = event.state
        return event

    def _wait(self, before: Event | None, event: Event) -> Iterator[Event]:
        """Let the time between two events pass, and report pauses as a run does."""
        gap = event.time - before.time if before is not None and before.attempt == event.attempt else 0.0
        until = time.monotonic() + min(LONGEST_WAIT, max(0.0, gap) / self.speed)
        while not self._stopped:
            with self._changed:
                self._changed.wait_for(self._interrupted, max(0.0, until - time.monotonic()))
            if self._stopped or not self._paused:
                return
            playing, self.state = self.state, "paused"
            yield _beside(event, "paused")
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or not self._paused)
            self.state, until = playing, time.monotonic()
            yield _beside(event, playing)

    def _interrupted(self) -> bool:
        return self._stopped or self._paused

    def _show(self, event: WatchedDone) -> None:
        frame = self._frames.get((event.role, event.index))
        if frame is not None and self._load is not None:
            self.watched.put(event.role, self._load(frame))


_END = RunFinished(state="stopped", reason="")


def _beside(event: Event, state: RunState) -> StateChanged:
    """Return a change of state that the recorded run did not have, at the place of an event."""
    return StateChanged(
        attempt=event.attempt, seq=event.seq, step=event.step, time=event.time, state=state, activity=""
    )


def _without_repeats(events: Sequence[Event]) -> list[Event | StepColumns]:
    """Drop the ends of earlier attempts, since front ends take a `RunFinished` as the last event of all."""
    pieces = list(stretches(events))
    last = len(pieces) - 1
    return [p for number, p in enumerate(pieces) if number == last or not isinstance(p, RunFinished)]
