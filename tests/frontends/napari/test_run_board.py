"""The board of runs in the window, and a run of another process that is shown as it goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt

from segexplorer.core.events import Event, Planned, RunFinished, StateChanged, StepDone, ValidationDone
from segexplorer.frontends.napari.bridge import RunBridge
from segexplorer.frontends.napari.display import Display
from segexplorer.frontends.napari.layers import CaseLayers
from segexplorer.frontends.napari.panels.run import RunPanel
from segexplorer.frontends.napari.panels.run_board import RunBoard
from segexplorer.session import Session
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.watch import Watch
from segexplorer.viewmodels.board import COLUMNS

TINY = {
    "data": {"kind": "phantom", "count": 3, "size": 32, "seed": 1},
    "split": {"validation_count": 1},
    "sampling": {"patch_size": [16, 16, 16], "batch_size": 1, "steps_per_epoch": 3},
    "network": {"kind": "unet", "base_features": 4, "levels": 2},
    "loss": "dice_cross_entropy",
    "schedule": {"epochs": 2000},
    "compute": {"device": "cpu", "precision": "float32", "threads": 1},
}


def _made(folder: Path, *events: Event) -> RunFolder:
    made = RunFolder.create(Experiment.of(TINY), folder)
    for number, event in enumerate(events, 1):
        made.write(replace(event, attempt=1, seq=number, time=time.time()))
    made.close()
    return made


def _events(dice: float) -> list[Event]:
    return [
        StateChanged(state="running"),
        Planned(steps=10, epochs=1, steps_per_epoch=10, summary={}, warnings=(), badges=(), classes=("a",)),
        StepDone(step=5, epoch=1, loss=0.5, terms={}, learning_rate=1, gradient_norm=1, seconds=2, samples=1),
        ValidationDone(
            epoch=1,
            loss=0.4,
            scores=(),
            mean_dice=dice,
            class_dice={},
            n_used=1,
            n_absent=0,
            n_missed=0,
            seconds=1.0,
            best=True,
        ),
    ]


def _texts(board: RunBoard, column: str) -> list[str]:
    at = list(COLUMNS).index(column)  # type: ignore[arg-type]
    return [board.model.index(row, at).data() for row in range(board.model.rowCount())]


def test_the_board_follows_a_folder(qtbot: Any, tmp_path: Path) -> None:
    for name, dice in (("a", 0.3), ("b", 0.8)):
        _made(tmp_path / name, *_events(dice), RunFinished(state="finished", reason="done"))
    _made(tmp_path / "c", *_events(0.5), RunFinished(state="failed", reason="failed", error="Out of memory."))
    board = RunBoard()
    qtbot.addWidget(board)
    board.watch(tmp_path)
    qtbot.waitUntil(lambda: board.model.rowCount() == 3)
    assert _texts(board, "name") == ["c", "a", "b"] and _texts(board, "problem")[0] == "Out of memory."
    assert "3 runs: 1 failed, 2 finished" in board.summary.text()
    header = board.table.horizontalHeader()
    best = list(COLUMNS).index("best")
    header.sectionClicked.emit(best)
    assert _texts(board, "best") == ["0.800", "0.500", "0.300"]
    header.sectionClicked.emit(best)
    assert _texts(board, "best") == ["0.300", "0.500", "0.800"]
    # what is chosen stays chosen while rows move
    board.table.selectRow(2)
    qtbot.keyClicks(board.filter, "finished")
    assert _texts(board, "name") == ["a", "b"]
    assert board.chosen is not None and board.chosen.name == "b"
    board.filter.clear()
    _made(tmp_path / "d", *_events(0.9), RunFinished(state="finished", reason="done"))
    board.look()
    qtbot.waitUntil(lambda: board.model.rowCount() == 4)
    assert board.chosen is not None and board.chosen.name == "b"
    shown: list[Path] = []
    board.run_chosen.connect(shown.append)
    qtbot.mouseClick(board.show_button, Qt.MouseButton.LeftButton)
    assert shown == [tmp_path / "b"]
    board.closing()


def test_a_narrow_board_shows_what_matters_without_a_sideways_scroll(qtbot: Any, tmp_path: Path) -> None:
    _made(tmp_path / "a", *_events(0.3), RunFinished(state="failed", reason="failed", error="Out of memory."))
    board = RunBoard()
    qtbot.addWidget(board)
    board.show()
    board.watch(tmp_path)
    qtbot.waitUntil(lambda: board.model.rowCount() == 1)
    titles = list(COLUMNS)
    for width in (320, 480, 620, 1200):
        board.resize(width, 260)
        qtbot.wait(20)
        assert board.table.horizontalScrollBar().maximum() == 0
        shown = {column for number, column in enumerate(titles) if not board.table.isColumnHidden(number)}
        assert {"name", "state", "progress"} <= shown and board.table.columnWidth(0) >= 80
        assert ("problem" in shown) == (width >= 620)
    tip = board.model.index(0, 0).data(Qt.ItemDataRole.ToolTipRole)
    assert "Problem: Out of memory." in tip and "Best Dice: 0.300" in tip
    board.closing()


def test_a_board_whose_copy_cannot_be_renewed_says_so(qtbot: Any, tmp_path: Path) -> None:
    from segexplorer.training.remote import RemoteError

    def pull() -> None:
        raise RemoteError("gpu7 cannot be reached.", "Try: ssh gpu7.")

    _made(tmp_path / "a")
    board = RunBoard()
    qtbot.addWidget(board)
    board.watch(tmp_path, pull)
    qtbot.waitUntil(lambda: "gpu7 cannot be reached" in board.problem.text())
    assert _texts(board, "name") == ["a"]
    board.closing()


@pytest.mark.slow
def test_a_run_of_another_process_is_shown_as_it_goes_on(qtbot: Any, tmp_path: Path) -> None:
    folder = RunFolder.create(Experiment.of(TINY), tmp_path / "run").path
    process = subprocess.Popen(
        [sys.executable, "-m", "segexplorer.frontends.cli", "train", "--resume", str(folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    viewer, bridge = ViewerModel(), RunBridge()
    display = Display(viewer, bridge, CaseLayers(viewer))
    panel = RunPanel(Session(), viewer, bridge, lambda: lambda: Experiment.of(TINY), display)
    qtbot.addWidget(panel)
    try:
        deadline = time.monotonic() + 120
        while not (folder / "events.jsonl").exists() and time.monotonic() < deadline:
            assert process.poll() is None, "the process has ended"
            time.sleep(0.1)
        steps: list[int] = []
        bridge.events_arrived.connect(
            lambda events: steps.extend(e.step for e in events if isinstance(e, StepDone))
        )
        panel.open_run(folder)
        qtbot.waitUntil(lambda: bridge.run is not None and len(steps) > 3)
        assert isinstance(bridge.run, Watch) and bridge.busy and not bridge.trains
        before = max(steps)
        qtbot.waitUntil(lambda: max(steps) > before + 3)
        assert f"in use by process {process.pid}" in panel.why_not.text()
        assert "shown as it goes on" in display.screen.title
        assert panel.buttons.stop.isEnabled() and not panel.buttons.pause.isEnabled()
        # another run may be opened over it: looking on ends, and the run itself goes on
        other = _made(tmp_path / "other", *_events(0.5), RunFinished(state="finished", reason="done"))
        panel.open_run(other.path)
        qtbot.waitUntil(lambda: not bridge.busy and Path(bridge.run.folder) == other.path)
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGTERM if os.name == "posix" else signal.SIGINT)
        process.wait(60)
        panel.closing()
        display.closing()
        bridge.close()
