"""Reading the event log of a run, `events.jsonl`: every event in order of writing, damaged lines left out.

What its index (`training.event_index`) has of it is taken from there.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from segexplorer.core.errors import DataError
from segexplorer.core.events import EpochDone, Event, Notice, StepDone, ValidationDone, from_json
from segexplorer.core.untrusted_files import open_regular
from segexplorer.training.event_index import IndexedPart, broke_off, read_indexed
from segexplorer.training.run_files import COPY_AGAIN, EVENTS, LIMITS, MAX_LINE
from segexplorer.training.step_columns import RecordedEvents, StepColumns, stretches, until


@dataclass(frozen=True)
class EventLogContent:
    """What `events.jsonl` holds.

    Attributes
    ----------
    events
        In order of writing.
    damaged
        Numbers of the lines that are no events, counted from 1; not those that a killed process left unfinished.
    unfinished
        Whether the last line breaks off.
    """

    events: Sequence[Event]
    damaged: tuple[int, ...] = ()
    unfinished: bool = False

    def notices(self) -> list[Notice]:
        """Return what was left out, in sentences, at the place of the last event."""
        texts = []
        if self.damaged:
            shown = ", ".join(map(str, self.damaged[:5])) + (", ..." if len(self.damaged) > 5 else "")
            which = "line" if len(self.damaged) == 1 else "lines"
            texts.append(f"{len(self.damaged)} damaged {which} of {EVENTS} left out ({shown}).")
        if self.unfinished:
            texts.append(f"The last line of {EVENTS} is unfinished and was left out.")
        last = self.events[-1] if self.events else Event()
        return [
            Notice(attempt=last.attempt, seq=last.seq, step=last.step, time=last.time, message=text)
            for text in texts
        ]


def read_log(folder: Path, *, indexed: bool = True) -> EventLogContent:
    """Read the event log of a run folder; empty where there is none.

    Parameters
    ----------
    indexed
        Whether its index is used; without it every line is read, which gives the same events.

    Raises
    ------
    DataError
        When it is not a regular file of the folder, too large, or not a log.
    """
    with _without_collecting():
        return _read_log(folder, read_indexed(folder) if indexed else IndexedPart([]))


@contextmanager
def _without_collecting() -> Iterator[None]:
    """Let nothing search for garbage, of which there is none, among hundreds of thousands of new events."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _read_log(folder: Path, known: IndexedPart) -> EventLogContent:
    events: list[Event] = []
    damaged: list[int] = []
    unfinished = False
    for number, line in enumerate(_lines(folder, known.end), known.lines + 1):
        try:
            events.append(from_json(line))
        except ValueError:
            if not line.endswith(b"\n"):
                unfinished = True
            elif not broke_off(line):
                damaged.append(number)
    found = RecordedEvents([*known.pieces, *events]) if known.pieces else events
    return EventLogContent(found, tuple(damaged), unfinished)


def _lines(folder: Path, begin: int) -> Iterator[bytes]:
    try:
        file = open_regular(folder / EVENTS, LIMITS[EVENTS], within=folder)
    except FileNotFoundError:
        return
    with file:
        file.seek(begin)
        while line := file.readline(MAX_LINE):
            if len(line) == MAX_LINE:
                raise DataError(f"{EVENTS} is damaged: a line is too long.", COPY_AGAIN)
            if line.strip():
                yield line


def read_events(folder: Path) -> Sequence[Event]:
    """Return every event of the log in order of writing; torn lines are left out (see `RunRecord.notices`)."""
    return read_log(folder).events


def drop_superseded(events: Sequence[Event]) -> Sequence[Event]:
    """Drop events of earlier attempts about steps that a later attempt repeated."""
    kept = until(events, _limits(events).__getitem__).pieces
    steps = [p.steps if isinstance(p, StepColumns) else [p.step] for p in kept if _is_step(p)]
    if not steps or (np.diff(np.concatenate(steps)) > 0).all():
        kept = _last_of_each(kept)
    else:  # a step occurs twice, and which of its columns counts is seen one by one
        kept = _last_of_each(list(RecordedEvents(kept)))
    return RecordedEvents(kept) if isinstance(events, RecordedEvents) else cast("list[Event]", kept)


def _is_step(piece: Event | StepColumns) -> bool:
    return isinstance(piece, (StepDone, StepColumns))


def _limits(events: Sequence[Event]) -> dict[int, int | None]:
    """Return attempt -> the last of its steps that no later attempt repeated; None: all of them."""
    begins: dict[int, int] = {}
    for piece in stretches(events):
        if piece.attempt not in begins:
            begins[piece.attempt] = int(piece.steps[0]) if isinstance(piece, StepColumns) else piece.step
    limits: dict[int, int | None] = {}
    lowest: int | None = None
    for attempt in sorted(begins, reverse=True):
        limits[attempt] = lowest
        lowest = begins[attempt] if lowest is None else min(lowest, begins[attempt])
    return limits


def _last_of_each(pieces: Sequence[Event | StepColumns]) -> list[Event | StepColumns]:
    """Return of events about the same step the last: an attempt that stopped during a validation repeats it."""
    kept: dict[Any, Event | StepColumns] = {}
    for number, piece in enumerate(pieces):
        key: Any = number
        if isinstance(piece, (StepDone, EpochDone, ValidationDone)):
            key = type(piece), piece.step
        kept.pop(key, None)
        kept[key] = piece
    return list(kept.values())
