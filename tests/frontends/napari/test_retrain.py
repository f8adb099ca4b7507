"""The button that puts corrected labels together: what it hands over, and what it says instead."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from segexplorer.frontends.napari.panels.retrain import RetrainButton, folder_of
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from tests.training.test_relabel import without_first, written


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder without any training; its weights are not looked at here."""
    data = {"kind": "phantom", "count": 2, "size": 24, "seed": 1}
    folder = RunFolder.create(Experiment.of({"data": data}), tmp_path / "run")
    folder.close()
    return folder.path


@pytest.fixture
def button(qtbot: Any, run: Path) -> Any:
    made = RetrainButton(lambda: run)
    qtbot.addWidget(made)
    yield made
    made.closing()


def test_an_experiment_that_goes_on_is_handed_over(
    button: RetrainButton, qtbot: Any, run: Path, tmp_path: Path
) -> None:
    ref = Experiment.from_yaml(run / "experiment.yaml").data.cases()[0]
    written(tmp_path / "corrected", ref, without_first)
    made: list[Path] = []
    button.prepared.connect(made.append)
    for _ in range(2):
        button.prepare(run, str(tmp_path / "corrected"), tmp_path / "v2")
        qtbot.waitUntil(lambda: not button.busy)
    assert [path.parent.name for path in made] == ["v2", "v2-2"], "nothing is overwritten"
    assert Experiment.from_yaml(made[0]).network_weights.path == str(run)
    assert "1 label differs" in button.message.text() and button.button.isEnabled()


def test_labels_that_are_not_there_are_said(
    button: RetrainButton, qtbot: Any, run: Path, tmp_path: Path
) -> None:
    button.prepare(run, str(tmp_path / "nowhere"), tmp_path / "v2")
    qtbot.waitUntil(lambda: not button.busy)
    assert "no folder" in button.message.text() and not (tmp_path / "v2").exists()


def test_a_run_that_goes_on_is_not_retrained(run: Path) -> None:
    going, held = (SimpleNamespace(run=SimpleNamespace(folder=run), busy=busy) for busy in (True, False))
    assert folder_of(going) is None and folder_of(held) == run
    assert folder_of(SimpleNamespace(run=None, busy=False)) is None
