"""`segexplorer watch`: a run, or a board of many, that other processes and other computers train."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.live import Live
from rich.table import Table

from segexplorer.core.errors import DataError, ExitCode, SegExplorerError, clip
from segexplorer.core.events import Event, RunFinished, to_json
from segexplorer.core.printable import printable_json
from segexplorer.frontends.cli.terminal import RunDisplay, print_json, remarks, results
from segexplorer.frontends.cli.train import best_of, tell_best
from segexplorer.frontends.viewing import require_window

if TYPE_CHECKING:
    from segexplorer.training.remote import RemoteCopy
    from segexplorer.viewmodels.board import Board, BoardView, Column


@dataclass(frozen=True)
class _Place:
    """What is watched: a folder of this computer, or the copy of one elsewhere."""

    folder: Path
    copy: RemoteCopy | None
    name: str

    def pull(self, *, run: bool) -> None:
        if self.copy is not None:
            self.copy.pull("run" if run else "states")


def run_watch(
    target: str, *, every: float, once: bool, sort: Column, words: str, window: bool, as_json: bool
) -> int:
    """Watch a folder until Ctrl-C, or until the run in it ends; `once` shows it as it is now."""
    from segexplorer.viewmodels.board import is_run

    try:
        with _opened(target) as place:
            if window:
                require_window()
                dock = importlib.import_module("segexplorer.frontends.napari.dock")
                dock.show_watched(place.folder, place.copy)
                return ExitCode.DONE
            if is_run(place.folder) and not once:
                return _watch_run(place, every, as_json=as_json)
            return _watch_board(place, every, once=once, sort=sort, words=words, as_json=as_json)
    except KeyboardInterrupt:
        return ExitCode.DONE  # looking on has no other end


@contextmanager
def _opened(target: str) -> Iterator[_Place]:
    from segexplorer.training.remote import RemoteCopy, RemoteFolder

    remote = RemoteFolder.of(target)
    if remote is None:
        folder = Path(target)
        if not folder.is_dir():
            raise DataError(
                f"There is no folder {target}.",
                "Name a run, a folder of runs, or HOST:FOLDER on another computer.",
            )
        yield _Place(folder, None, str(folder))
        return
    with RemoteCopy(remote) as copy:
        copy.pull()
        yield _Place(copy.folder, copy, str(remote))


# ---- one run


def _watch_run(place: _Place, every: float, *, as_json: bool) -> int:
    from segexplorer.training.watch import Watch

    place.pull(run=True)
    watch = Watch(place.folder, pull=(lambda: place.pull(run=True)) if place.copy else None, every=every)
    if as_json:
        for event in watch:
            print(printable_json(to_json(event)), flush=True)
        return ExitCode.DONE
    out = remarks()
    shown: list[Event] = []
    with RunDisplay(out) as display:
        for event in watch:
            shown.append(event)
            display.show(event)
    end = shown[-1]
    assert isinstance(end, RunFinished), "a run that is watched ends with RunFinished"
    tell_best(out, best_of(shown))
    why = (end.error or end.reason).rstrip(".")
    out.print(f"{place.name}: {end.state} at step {end.step}: {why}.", markup=False, soft_wrap=True)
    return ExitCode.DONE


# ---- many runs


def _watch_board(place: _Place, every: float, *, once: bool, sort: Column, words: str, as_json: bool) -> int:
    from segexplorer.viewmodels.board import Board, BoardView

    board, view = Board(place.folder), BoardView(text=words, by=sort)
    out = results()
    board.refresh()
    if as_json:
        print_json(_plain(board, view))
        return ExitCode.DONE
    if once or not out.is_terminal:
        out.print(_table(board, view, place.name, None, out.width))
        return ExitCode.DONE
    problem = ""
    with Live(console=out, auto_refresh=False, screen=True) as live:
        while True:
            live.update(_table(board, view, place.name, out.height - 5, out.width, problem), refresh=True)
            time.sleep(every)
            try:
                place.pull(run=False)
                problem = ""
            except SegExplorerError as error:  # the other computer may answer again
                problem = str(error)
            board.refresh()


_SHORTEST = 24
"""Columns of the terminal that the name of a run takes at least; its middle is left out first."""


def _table(
    board: Board, view: BoardView, name: str, most: int | None, width: int, problem: str = ""
) -> Table:
    from segexplorer.viewmodels.board import COLUMNS, columns_with

    rows = view.rows(board)
    shown = rows if most is None else rows[: max(1, most)]
    now = time.time()
    columns = columns_with(shown, now) or ["name", "state"]
    left_out = f"; {len(rows) - len(shown)} more" if len(shown) < len(rows) else ""
    caption = f"{board.summary()}{left_out}" + (f". {problem}" if problem else "")
    table = Table(title=name, caption=caption, title_justify="left", caption_justify="left", expand=False)
    for column in columns:
        right = column in ("progress", "best", "loss", "left", "updated")
        table.add_column(COLUMNS[column], justify="right" if right else "left", no_wrap=column != "problem")
    cells = [row.cells(now) for row in shown]
    wide = {c: max([len(COLUMNS[c]), *(len(of[c]) for of in cells)], default=0) + 3 for c in columns}
    room = max(_SHORTEST, width - 1 - sum(n for c, n in wide.items() if c not in ("name", "problem")))
    share = room // 2 if "problem" in columns else room
    for of in cells:
        shortened = {**of, "name": clip(of["name"], share - 3)}
        table.add_row(*(_plain_text(shortened[column]) for column in columns))
    return table


def _plain_text(text: str) -> Any:
    from rich.text import Text

    return Text(text)  # names come from files of others: no markup


def _plain(board: Board, view: BoardView) -> dict[str, Any]:
    runs = []
    for row in view.rows(board):
        status = row.status
        facts: dict[str, Any] = {"run": row.name, "folder": str(row.folder), "state": row.state}
        if status is not None:
            facts |= {
                "step": status.step,
                "steps": status.steps,
                "epoch": status.epoch,
                "epochs": status.epochs,
                "loss": status.mean_loss,
                "best_dice": status.best_dice,
                "seconds_left": status.seconds_left,
                "updated": status.updated,
            }
        runs.append({**facts, "problem": row.problem})
    return {"runs": runs, "counts": board.counts()}
