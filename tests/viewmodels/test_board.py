"""The board of runs: rows from status files, sorted, filtered, kept up to date."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from segexplorer.core.errors import SpecError
from segexplorer.core.events import (
    Event,
    Planned,
    RunFinished,
    StateChanged,
    StepDone,
    ValidationDone,
)
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.viewmodels.board import COLUMNS, Board, BoardView, column_named, is_run

NOW = 1_800_000_000.0
PLANNED = Planned(
    steps=100, epochs=10, steps_per_epoch=10, summary={}, warnings=(), badges=(), classes=("a",)
)


def _events(step: int, dice: float, seconds: float = 2.0) -> list[Event]:
    done = StepDone(
        step=step,
        epoch=1,
        loss=0.5,
        terms={},
        learning_rate=0.1,
        gradient_norm=1.0,
        seconds=seconds,
        samples=1,
    )
    validated = ValidationDone(
        epoch=1,
        step=step,
        loss=0.4,
        scores=(),
        mean_dice=dice,
        class_dice={},
        n_used=1,
        n_absent=0,
        n_missed=0,
        seconds=1.0,
        best=True,
    )
    return [StateChanged(state="running"), PLANNED, done, validated]


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., RunFolder]:
    """Make a run folder with events, held or not."""
    held = []

    def write(name: str, *events: Event, hold: bool = False) -> RunFolder:
        folder = RunFolder.create(Experiment.of({"data": {"kind": "phantom"}}), tmp_path / "runs" / name)
        if hold:
            folder.hold()
            held.append(folder)
        for number, event in enumerate(events, 1):
            folder.write(replace(event, attempt=1, seq=number, time=NOW - 100 + number))
        folder.close()
        return folder

    yield write
    for folder in held:
        folder.release()


@pytest.fixture
def board(make: Callable[..., RunFolder], tmp_path: Path) -> Board:
    """Five runs: one that goes on, one that waits, and three that have ended in different ways."""
    make("study/fast", *_events(40, 0.7), hold=True)
    make("study/slow", *_events(10, 0.5), hold=True)
    make("lost", *_events(20, 0.9))
    make("done", *_events(100, 0.8), RunFinished(state="finished", reason="all epochs are done"))
    make(
        "broken", *_events(5, 0.1), RunFinished(state="failed", reason="failed", error="The loss became nan.")
    )
    make("new")
    made = Board(tmp_path / "runs")
    made.refresh()
    return made


def _names(board: Board, view: BoardView) -> list[str]:
    return [row.name for row in view.rows(board)]


def test_every_run_has_a_row(board: Board) -> None:
    rows = {row.name: row for row in board.rows}
    assert rows.keys() == {"study/fast", "study/slow", "lost", "done", "broken", "new"}
    assert {name: row.state for name, row in rows.items()} == {
        "study/fast": "running",
        "study/slow": "running",
        "lost": "interrupted",
        "done": "finished",
        "broken": "failed",
        "new": "idle",
    }
    assert rows["study/fast"].cells(NOW) == {
        "name": "study/fast",
        "state": "running",
        "progress": "40 % (40 of 100)",
        "best": "0.700",
        "loss": "0.5",
        "left": "2 min",
        "updated": "2 min ago",
        "problem": "",
    }
    assert "gone" in rows["lost"].problem and rows["broken"].problem == "The loss became nan."
    assert board.summary() == "6 runs: 2 running, 1 idle, 1 interrupted, 1 failed, 1 finished"


def test_rows_are_sorted_with_empty_ones_last(board: Board) -> None:
    assert _names(board, BoardView()) == ["study/fast", "study/slow", "new", "lost", "broken", "done"]
    best = BoardView().sorted_by("best")
    assert _names(board, best) == ["lost", "done", "study/fast", "study/slow", "broken", "new"]
    assert _names(board, best.sorted_by("best")) == [
        "broken",
        "study/slow",
        "study/fast",
        "done",
        "lost",
        "new",
    ]
    assert _names(board, BoardView(by="left"))[:2] == ["study/fast", "study/slow"]
    for column in COLUMNS:
        assert sorted(_names(board, BoardView(by=column))) == sorted(_names(board, BoardView()))


def test_words_choose_rows(board: Board) -> None:
    assert _names(board, BoardView(text="STUDY running")) == ["study/fast", "study/slow"]
    assert _names(board, BoardView(text="nan")) == ["broken"]
    assert _names(board, BoardView(text="nothing of the kind")) == []


def test_a_refresh_sees_what_is_new(board: Board, make: Callable[..., RunFolder]) -> None:
    before = {row.name: row for row in board.rows}
    make("later", *_events(1, 0.2), hold=True)
    folder = RunFolder.open(before["study/slow"].folder)
    # the lease is another object's of this process, as if of another process
    (folder.path / "status.json").unlink()
    board.refresh()
    after = {row.name: row for row in board.rows}
    assert after.keys() - before.keys() == {"later"}
    assert after["study/slow"].status == before["study/slow"].status, "read from the log"
    assert after["done"] is before["done"], "what has not changed is not read again"


def test_a_process_that_dies_is_seen_though_its_files_stay(
    make: Callable[..., RunFolder], tmp_path: Path
) -> None:
    folder = make("a", *_events(10, 0.5), hold=True)
    board = Board(tmp_path / "runs")
    board.refresh()
    assert board.rows[0].state == "running"
    folder.release()
    board.refresh()
    assert board.rows[0].state == "interrupted"


def test_damaged_folders_are_rows_too(make: Callable[..., RunFolder], tmp_path: Path) -> None:
    folder = make("a").path
    (folder / "status.json").unlink(missing_ok=True)
    (folder / "events.jsonl").mkdir()
    board = Board(tmp_path / "runs")
    board.refresh()
    assert [row.state for row in board.rows] == ["unreadable"] and board.rows[0].problem
    assert board.summary() == "1 run: 1 unreadable"


def test_links_are_not_followed(make: Callable[..., RunFolder], tmp_path: Path) -> None:
    make("a")
    (tmp_path / "runs" / "round").symlink_to(tmp_path / "runs")
    board = Board(tmp_path / "runs")
    board.refresh()
    assert [row.name for row in board.rows] == ["a"]
    assert is_run(tmp_path / "runs" / "a") and not is_run(tmp_path / "runs")


def test_columns_have_names() -> None:
    assert column_named("best") == "best"
    with pytest.raises(SpecError, match="Did you mean best"):
        column_named("bets")


def test_rows_go_into_json(board: Board) -> None:
    assert json.dumps([row.cells(NOW) for row in board.rows])
