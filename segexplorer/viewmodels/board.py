"""A board of many runs: where each of them is, from its small status file alone; sorted, filtered, kept up to date.

The terminal (`segexplorer watch`) and the window draw the same rows. Runs are the folders with a `run.json` in or
below the folder that is watched, in a study or anywhere; nobody has to announce them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from segexplorer.core.errors import SegExplorerError, SpecError, did_you_mean
from segexplorer.training.ownership import holder_of
from segexplorer.training.run_files import EVENTS, RUN, STATUS
from segexplorer.training.run_status import RecordedState, RunStatus, read_status
from segexplorer.viewmodels.status import duration

DEEPEST = 4
"""Levels of folders below the watched one that are looked through."""
_INSIDE = {"cache", "cases", "checkpoints", "history.zarr", "scores", "flight"}
"""Folders of a run or of its parent that hold no runs."""
Column = Literal["name", "state", "progress", "best", "loss", "left", "updated", "problem"]
ORDER: dict[RecordedState, int] = {
    "running": 0,
    "preparing": 1,
    "paused": 2,
    "stopping": 3,
    "idle": 4,
    "interrupted": 5,
    "failed": 6,
    "stopped": 7,
    "finished": 8,
}
"""Order of states: what goes on, what waits, what needs somebody, what is over."""
UNREADABLE = "unreadable"


@dataclass(frozen=True)
class BoardRow:
    """One run.

    Attributes
    ----------
    name
        Its path below the watched folder; "." for that folder itself.
    folder
        Where it is.
    status
        What it says of itself; None where its files are damaged.
    problem
        What somebody should look at, a sentence; empty where all is well.
    """

    name: str
    folder: Path
    status: RunStatus | None
    problem: str = ""

    @property
    def state(self) -> str:
        """One word."""
        return self.status.state if self.status is not None else UNREADABLE

    @property
    def progress(self) -> float | None:
        """Share of the planned steps that are done, 0 to 1; None before it is planned."""
        if self.status is None or not self.status.steps:
            return None
        return min(1.0, self.status.step / self.status.steps)

    @property
    def best(self) -> float | None:
        """Mean Dice of the best validation."""
        return self.status.best_dice if self.status is not None else None

    def cells(self, now: float) -> dict[Column, str]:
        """Return what is shown in each column, at a time in seconds since the epoch."""
        status, progress = self.status, self.progress
        if status is None:
            return {
                **dict.fromkeys(COLUMNS, ""),
                "name": self.name,
                "state": self.state,
                "problem": self.problem,
            }
        left = status.seconds_left
        loss = status.mean_loss if status.mean_loss is not None else status.loss
        return {
            "name": self.name,
            "state": f"{status.state}: {status.activity}"
            if status.activity and status.active
            else status.state,
            "progress": ""
            if progress is None
            else f"{100 * progress:.0f} % ({status.step} of {status.steps})",
            "best": "" if status.best_dice is None else f"{status.best_dice:.3f}",
            "loss": "" if loss is None else f"{loss:.4g}",
            "left": "" if left is None else duration(left),
            "updated": "" if not status.updated else f"{duration(max(0.0, now - status.updated))} ago",
            "problem": self.problem,
        }


COLUMNS: dict[Column, str] = {
    "name": "Run",
    "state": "State",
    "progress": "Progress",
    "best": "Best Dice",
    "loss": "Loss",
    "left": "Time left",
    "updated": "Last event",
    "problem": "Problem",
}
"""Column -> its heading."""


def column_named(name: str) -> Column:
    """Return a column by its name.

    Raises
    ------
    SpecError
        When there is none of that name.
    """
    for column in COLUMNS:
        if column == name:
            return column
    raise SpecError(f"The board has no column {name!r}.", did_you_mean(name, COLUMNS))


_LARGE_FIRST = {"progress", "best", "updated"}
_KEYS: dict[Column, Callable[[BoardRow], float | str | None]] = {
    "name": lambda row: row.name,
    "state": lambda row: ORDER[row.status.state] if row.status is not None else len(ORDER),
    "progress": lambda row: row.progress,
    "best": lambda row: row.best,
    "loss": lambda row: None if row.status is None else row.status.mean_loss,
    "left": lambda row: None if row.status is None else row.status.seconds_left,
    "updated": lambda row: None if row.status is None or not row.status.updated else row.status.updated,
    "problem": lambda row: row.problem or None,
}


@dataclass(frozen=True)
class BoardView:
    """How a board is looked at: which runs, in which order. Commands return a new one.

    Attributes
    ----------
    text
        Words that a run's name, state or problem must contain, all of them; upper and lower case are alike.
    by
        The column that decides the order; runs that have nothing in it come last.
    backwards
        Whether the order is the other way round than usual for that column.
    """

    text: str = ""
    by: Column = "state"
    backwards: bool = False

    def sorted_by(self, column: Column) -> BoardView:
        """Sort by a column; the other way round where it is sorted by it already."""
        return replace(self, by=column, backwards=self.by == column and not self.backwards)

    def rows(self, board: Board) -> list[BoardRow]:
        """Return the rows to show."""
        words = self.text.lower().split()
        shown = [row for row in board.rows if all(word in _searched(row) for word in words)]
        key = _KEYS[self.by]
        known = [(value, row) for row in shown if (value := key(row)) is not None]
        rest = [row for row in shown if key(row) is None]
        reverse = (self.by in _LARGE_FIRST) is not self.backwards
        known.sort(key=lambda item: item[1].name)
        known.sort(key=lambda item: item[0], reverse=reverse)
        return [*(row for _, row in known), *sorted(rest, key=lambda row: row.name)]


def _searched(row: BoardRow) -> str:
    return f"{row.name} {row.state} {row.problem}".lower()


class Board:
    """The runs in a folder, read again at each `refresh`, where something has changed.

    Parameters
    ----------
    folder
        A folder of runs, at any depth down to `DEEPEST`, or a run itself.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: tuple[BoardRow, ...] = ()
        self._known: dict[Path, tuple[tuple[int, int], BoardRow]] = {}

    def refresh(self) -> None:
        """Look for new runs, and read again those whose status has changed."""
        known: dict[Path, tuple[tuple[int, int], BoardRow]] = {}
        for run in run_folders(self.folder):
            mark = _mark(run)
            before = self._known.get(run)
            if before is not None and before[0] == mark and mark != _NEVER:
                row = before[1]
                if row.status is not None and row.status.active and holder_of(run) is None:
                    row = self._read(run)
            else:
                row = self._read(run)
            known[run] = (mark, row)
        self._known = known
        self.rows = tuple(row for _, row in known.values())

    def _read(self, run: Path) -> BoardRow:
        name = str(run.relative_to(self.folder))
        try:
            status = read_status(run)
        except SegExplorerError as error:
            return BoardRow(name, run, None, error.message)
        return BoardRow(name, run, status, _problem(status))

    def counts(self) -> dict[str, int]:
        """Return state -> number of runs, those that go on first."""
        order = [*ORDER, UNREADABLE]
        states = sorted((row.state for row in self.rows), key=order.index)
        return {state: states.count(state) for state in dict.fromkeys(states)}

    def summary(self) -> str:
        """Return e.g. "12 runs: 3 running, 8 finished, 1 failed"."""
        if not self.rows:
            return "No run yet"
        runs = "1 run" if len(self.rows) == 1 else f"{len(self.rows)} runs"
        return f"{runs}: {', '.join(f'{n} {state}' for state, n in self.counts().items())}"


def _problem(status: RunStatus) -> str:
    if status.state == "interrupted":
        return "Its process is gone."
    if status.state == "failed":
        return status.error or status.reason
    if status.active and status.loss is None and status.step:
        return "The loss is not a number."
    return ""


_NEVER = (-1, -1)


def _mark(run: Path) -> tuple[int, int]:
    """Return what changes with the status file; it is replaced whole."""
    for name in (STATUS, EVENTS):  # runs of earlier versions have the log alone
        try:
            facts = (run / name).stat()
        except OSError:
            continue
        return facts.st_mtime_ns, facts.st_size
    return _NEVER


def run_folders(folder: Path, depth: int = DEEPEST) -> Iterator[Path]:
    """Yield the run folders in and below a folder, in order of name; links are not followed."""
    if (folder / RUN).is_file():
        yield folder
        return
    if depth < 0:
        return
    try:
        with os.scandir(folder) as entries:
            below = sorted(e.name for e in entries if e.is_dir(follow_symlinks=False))
    except OSError:
        return
    for name in below:
        if not name.startswith(".") and name not in _INSIDE:
            yield from run_folders(folder / name, depth - 1)


def is_run(folder: Path) -> bool:
    """Whether a folder is a run itself, and no folder of runs."""
    return (folder / RUN).is_file()


def columns_with(rows: Sequence[BoardRow], now: float) -> list[Column]:
    """Return the columns in which any row has something."""
    cells = [row.cells(now) for row in rows]
    return [column for column in COLUMNS if any(c[column] for c in cells)]
