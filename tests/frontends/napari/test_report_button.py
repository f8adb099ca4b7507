"""The button that writes a report: what is asked before, what is said after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from qtpy.QtWidgets import QFileDialog, QMessageBox

from segexplorer.frontends.napari.panels.report_button import ReportButton
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder

Answer = QMessageBox.StandardButton


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder without any training."""
    data = {"kind": "phantom", "count": 2, "size": 24, "seed": 1}
    folder = RunFolder.create(Experiment.of({"data": data}), tmp_path / "liver of Maier")
    folder.close()
    return folder.path


@pytest.fixture
def button(qtbot: Any, run: Path) -> Any:
    made = ReportButton(lambda: run)
    qtbot.addWidget(made)
    yield made
    made.closing()


@pytest.mark.parametrize(("answer", "named"), [(Answer.Yes, True), (Answer.No, False), (Answer.Cancel, None)])
def test_it_asks_whether_cases_may_be_named(
    button: ReportButton, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: Any, named: Any
) -> None:
    path, questions, opened = tmp_path / "page.html", [], []

    def exec_(box: QMessageBox) -> Any:
        questions.append(box.informativeText())
        return answer

    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(path), ""))
    monkeypatch.setattr(QMessageBox, "exec", exec_)
    button.show_page = opened.append
    button.button.click()
    qtbot.waitUntil(lambda: not button.busy)
    assert "can identify a person" in questions[0]
    assert opened == ([] if named is None else [path])
    assert path.exists() == (named is not None)
    if named is not None:
        assert ("Maier" in path.read_text("utf-8")) == named
        assert "page.html was written" in button.message.text() and button.button.isEnabled()


def test_what_cannot_be_reported_is_said(button: ReportButton, qtbot: Any, tmp_path: Path) -> None:
    button.write(tmp_path / "nowhere", tmp_path / "page", names=False)
    qtbot.waitUntil(lambda: not button.busy)
    assert "is not a run folder" in button.message.text() and button.button.isEnabled()
    without = ReportButton(lambda: None)
    qtbot.addWidget(without)
    without.button.click()
    assert "nothing to report" in without.message.text()
