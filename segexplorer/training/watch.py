"""A run that another process trains, shown while it goes on: its events as they are written.

A `Watch` has the part of `training.run.Run` that front ends use, as a `Replay` has: what was recorded comes at
once, what follows when it appears in the run folder, on a file system that both see or in a copy that is kept up
to date (`training.remote`). It writes nothing, needs no torch, and its reader takes the folder for anybody's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from psygnal import Signal

from segexplorer.core.errors import DataError, ExitCode, RunStateError, SegExplorerError
from segexplorer.core.events import Event, Notice, RunFinished, RunState, StateChanged, WatchedDone, from_json
from segexplorer.core.untrusted_files import open_regular
from segexplorer.training.event_index import IndexedPart, read_indexed
from segexplorer.training.event_log import drop_superseded
from segexplorer.training.history import HistoryFrame, open_run
from segexplorer.training.ownership import holder_of
from segexplorer.training.run_files import COPY_AGAIN, EVENTS, LIMITS, MAX_LINE
from segexplorer.training.snapshots import LatestValues, PatchSnapshot, WatchedSnapshot
from segexplorer.training.step_columns import RecordedEvents, events_of, stretches
from segexplorer.training.stored_frames import read_frame_facts
from segexplorer.training.trained_patch import TrainedPatch

EVERY_SECONDS = 1.0
_ALIVE_EVERY = 5.0
"""Seconds between two looks whether the process that trains is alive."""
_FRAME_SECONDS = 30.0
"""How long a frame may be behind its event: NFS clients keep what they know of a folder for up to a minute."""
_END = RunFinished(state="stopped", reason="")


class LogTail:
    """The end of an event log that grows; lines are taken once they are whole.

    Parameters
    ----------
    folder
        Of the run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._offset = folder, 0

    def take(self) -> Sequence[Event]:
        """Return the events that have come since the last call; lines that are no events are left out.

        What came before the first call is taken from the log's index, as far as it goes.

        Raises
        ------
        DataError
            When the log is no log, or was replaced by a shorter one.
        """
        try:
            file = open_regular(self._folder / EVENTS, LIMITS[EVENTS], within=self._folder)
        except FileNotFoundError:
            return []
        known = read_indexed(self._folder) if not self._offset else IndexedPart([])
        self._offset = known.end or self._offset
        events: list[Event] = []
        with file:
            file.seek(0, 2)
            if file.tell() < self._offset:
                raise DataError(f"{EVENTS} was replaced by a shorter one.", "Open the run again.")
            file.seek(self._offset)
            while line := file.readline(MAX_LINE):
                if len(line) == MAX_LINE:
                    raise DataError(f"{EVENTS} is damaged: a line is too long.", COPY_AGAIN)
                if not line.endswith(b"\n"):
                    break  # it is being written
                self._offset += len(line)
                try:
                    events.append(from_json(line))
                except ValueError:
                    continue  # damaged: `segexplorer verify` says so
        return RecordedEvents([*known.pieces, *events]) if known.pieces else events


class Watch:
    """The events of a run folder that grows, iterated.

    Parameters
    ----------
    folder
        A run folder; its run may not have begun yet.
    load
        Reads a frame of the history into the slots of the watched cases, for a viewer; None: nobody looks.
    pull
        Brings the folder up to date, where it is a copy of one on another computer; called before each look.
    every
        Seconds between two looks.

    Raises
    ------
    DataError
        When the folder is not a run folder.
    """

    events = Signal(Event)
    plan = None
    """A plan belongs to training; who wants one takes the `Planned` event."""

    def __init__(
        self,
        folder: str | Path,
        *,
        load: Callable[[HistoryFrame], WatchedSnapshot] | None = None,
        pull: Callable[[], None] | None = None,
        every: float = EVERY_SECONDS,
    ) -> None:
        record = open_run(folder)
        self.folder, self.experiment = record.folder, record.experiment
        self._load, self._pull, self._every = load, pull, every
        self._wanted: list[tuple[float, WatchedDone]] = []
        self.state: RunState = "idle"
        self.watched: LatestValues[WatchedSnapshot] = LatestValues()
        self.patch: LatestValues[PatchSnapshot] = LatestValues()
        self.trained: LatestValues[TrainedPatch | str] = LatestValues()
        self._stopped = threading.Event()

    # ---- commands: from any thread

    def accepts(self, command: str) -> bool:
        """Whether a command makes sense now: looking on may end, and nothing reaches the run itself."""
        ended = self.state in ("finished", "stopped", "failed")
        return command == "stop" and not ended and self.state != "idle"

    def stop(self) -> None:
        """Look no longer; the run itself goes on."""
        self._stopped.set()

    def set(self, path: str, value: object) -> NoReturn:
        """Refuse: the run belongs to another process."""
        raise RunStateError(f"{path} cannot be changed from here.", "Another process trains this run.")

    def extend(self, epochs: int) -> NoReturn:
        """Refuse: the run belongs to another process."""
        raise RunStateError("It cannot be extended from here.", "Another process trains this run.")

    def pause(self) -> NoReturn:
        """Refuse: the run belongs to another process."""
        raise RunStateError("It cannot be paused from here.", "Another process trains this run.")

    def unpause(self) -> NoReturn:
        """Refuse: the run belongs to another process."""
        raise RunStateError("It cannot go on from here.", "Another process trains this run.")

    def step(self, view: object = None) -> NoReturn:
        """Refuse: the run belongs to another process."""
        raise RunStateError("It cannot be stepped from here.", "Another process trains this run.")

    def predict_now(self) -> NoReturn:
        """Refuse: there is no network here."""
        raise RunStateError(
            "Nothing can be predicted from here.", "Drag through the history to see other steps."
        )

    # ---- iteration

    def __iter__(self) -> Iterator[Event]:
        for batch in self.batches():
            for event in batch:
                self.events.emit(event)
                yield event

    def batches(self) -> Iterator[Sequence[Event]]:
        """Yield the events as they are found: at first all that were recorded, whose steps may be in columns.

        `events` is not emitted.
        """
        self._stopped.clear()
        for batch in self._follow():
            for event in events_of(batch, StateChanged, RunFinished):
                if isinstance(event, (StateChanged, RunFinished)):
                    self.state = event.state
            yield batch

    def _follow(self) -> Iterator[Sequence[Event]]:
        tail, last = LogTail(self.folder), Event()
        recorded = drop_superseded(tail.take())
        newest = {e.role: e for e in events_of(recorded, WatchedDone)}
        looked = time.monotonic()
        end: RunFinished | None = None
        batch = recorded
        while True:
            if batch:
                last = batch[-1]
                end = last if isinstance(last, RunFinished) else None
                for event in events_of(batch, WatchedDone):
                    if batch is not recorded or newest[event.role] is event:
                        self._wanted.append((time.monotonic(), event))
                yield RecordedEvents(p for p in stretches(batch) if not isinstance(p, RunFinished))
            self._show_frames()
            if end is not None and end.exit_code != ExitCode.PREEMPTED:
                yield [end]
                return
            if batch and end is not None:
                text = "The run was stopped to make room, and is waited for: it may go on elsewhere."
                yield [_beside(end, text)]
            if self._stopped.wait(self._every):
                yield [replace(_END, reason="no longer watched", **_place(last))]
                return
            problem = self._brought_up_to_date()
            if problem is not None:
                yield [_beside(last, problem.message, problem.remedy)]
            batch = tail.take()
            if batch:
                looked = time.monotonic()
            elif end is None and time.monotonic() - looked >= _ALIVE_EVERY and last.attempt:
                looked = time.monotonic()
                if holder_of(self.folder) is None:
                    batch = tail.take()  # its last words may have come in between
                    if not batch:
                        yield [replace(_END, reason="its process has died", **_place(last))]
                        return

    def _brought_up_to_date(self) -> SegExplorerError | None:
        """Pull; what goes wrong is said once, and tried again."""
        if self._pull is None:
            return None
        try:
            self._pull()
        except SegExplorerError as error:
            known, self._problem = self._problem, str(error)
            return None if known == self._problem else error
        self._problem = ""
        return None

    _problem = ""

    def _show_frames(self) -> None:
        """Put the frames that were announced into the slots, once they can be read."""
        if self._load is None:
            self._wanted.clear()
        if not self._wanted:
            return
        waiting = []
        for since, event in self._wanted:
            try:
                shown = self._show(event)
            except SegExplorerError:  # a part of it may not have arrived yet
                shown = False
            if not shown and time.monotonic() - since < _FRAME_SECONDS:
                waiting.append((since, event))
        self._wanted = waiting

    def _show(self, event: WatchedDone) -> bool:
        """Put the frame of an event into its slot; False where it is not whole yet."""
        assert self._load is not None
        facts = read_frame_facts(self.folder, event.role, f"{event.index:06d}")
        if facts is None:
            return False
        frame = HistoryFrame(event.role, event.index, facts.step, facts.attempt, self.folder, facts)
        self.watched.put(event.role, self._load(frame))
        return True


def _place(event: Event) -> dict[str, Any]:
    return {"attempt": event.attempt, "seq": event.seq, "step": event.step, "time": event.time}


def _beside(event: Event, message: str, remedy: str = "") -> Notice:
    """Return a notice that the run itself has not given, at the place of an event."""
    return replace(Notice(message=message, remedy=remedy), **_place(event))
