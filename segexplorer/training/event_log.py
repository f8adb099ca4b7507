"""Reading the event log of a run, `events.jsonl`: every event in order of writing, damaged lines left out."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segexplorer.core.errors import DataError
from segexplorer.core.events import EpochDone, Event, Notice, StepDone, ValidationDone, from_json
from segexplorer.core.untrusted_files import open_regular
from segexplorer.training.run_files import COPY_AGAIN, EVENTS, LIMITS, MAX_LINE


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

    events: list[Event]
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


def read_log(folder: Path) -> EventLogContent:
    """Read the event log of a run folder; empty where there is none.

    Raises
    ------
    DataError
        When it is not a regular file of the folder, too large, or not a log.
    """
    with _without_collecting():
        return _read_log(folder)


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


def _read_log(folder: Path) -> EventLogContent:
    events: list[Event] = []
    damaged: list[int] = []
    unfinished = False
    for number, line in enumerate(_lines(folder), 1):
        try:
            events.append(from_json(line))
        except ValueError:
            if not line.endswith(b"\n"):
                unfinished = True
            elif not _broke_off(line):
                damaged.append(number)
    return EventLogContent(events, tuple(damaged), unfinished)


def _lines(folder: Path) -> Iterator[bytes]:
    try:
        file = open_regular(folder / EVENTS, LIMITS[EVENTS], within=folder)
    except FileNotFoundError:
        return
    with file:
        while line := file.readline(MAX_LINE):
            if len(line) == MAX_LINE:
                raise DataError(f"{EVENTS} is damaged: a line is too long.", COPY_AGAIN)
            if line.strip():
                yield line


def _broke_off(line: bytes) -> bool:
    """Whether a line is the beginning of an event, which a killed process left and a resume closed."""
    return line.startswith(b'{"event"'[: len(line.rstrip())]) and not line.rstrip().endswith(b"}")


def read_events(folder: Path) -> list[Event]:
    """Return every event of the log in order of writing; torn lines are left out (see `RunRecord.notices`)."""
    return read_log(folder).events


def drop_superseded(events: Sequence[Event]) -> list[Event]:
    """Drop events of earlier attempts about steps that a later attempt repeated."""
    begins: dict[int, int] = {}
    for event in events:
        begins.setdefault(event.attempt, event.step)
    limits: dict[int, int | None] = {}
    lowest: int | None = None
    for attempt in sorted(begins, reverse=True):
        limits[attempt] = lowest
        lowest = begins[attempt] if lowest is None else min(lowest, begins[attempt])
    kept: dict[Any, Event] = {}
    for number, event in enumerate(events):
        limit = limits[event.attempt]
        if limit is not None and event.step > limit:
            continue
        # the end of an epoch may be recorded twice: an attempt stopped during a validation repeats it
        once = isinstance(event, (StepDone, EpochDone, ValidationDone))
        key: Any = (type(event), event.step) if once else number
        kept.pop(key, None)
        kept[key] = event
    return list(kept.values())
