"""The button that proposes settings: off the main thread, into the form, with its reasons."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from napari.components import ViewerModel

from segexplorer.core.errors import DataError
from segexplorer.data.datasets import registry
from segexplorer.data.splits import Split
from segexplorer.frontends.napari.panels.cases import CasesPanel
from segexplorer.frontends.napari.panels.experiment import ExperimentPanel
from segexplorer.frontends.napari.panels.proposal_box import STOP, TITLE
from segexplorer.training import proposal


@pytest.fixture
def panel(qtbot: Any, tmp_path: Path) -> Iterator[ExperimentPanel]:
    session: Any = SimpleNamespace(
        run=None,
        plan=lambda experiment, window=False: SimpleNamespace(
            summary=lambda: {"Memory": "little"}, badges=(), warnings=()
        ),
    )
    cases = CasesPanel(session, ViewerModel(), folder=tmp_path / "cases")
    made = ExperimentPanel(session, ViewerModel(), cases)
    for widget in (cases, made):
        qtbot.addWidget(widget)
        widget.show()
    yield made
    made.closing()
    cases.closing()  # before events are processed, by which the widgets are deleted
    qtbot.waitUntil(lambda: not made.box.work.busy)


def choose_phantoms(panel: ExperimentPanel) -> Any:
    data = registry.spec("phantom").of({"count": 3, "size": 32, "anatomy": "mr_brain"})
    panel._cases.set_dataset(data, Split())
    return panel._cases.proposal


def test_a_proposal_fills_the_form_and_shows_its_reasons(
    panel: ExperimentPanel, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []
    quick = partial(proposal.propose, timed=False)

    def propose(dataset: Any, **given: Any) -> Any:
        threads.append(threading.current_thread())
        return quick(dataset, **given)

    monkeypatch.setattr(proposal, "propose", propose)
    box = choose_phantoms(panel)
    made: list[Any] = []
    box.proposed.connect(made.append)
    box.task_box.setCurrentText("Lesions")
    box.button.click()
    assert box.button.text() == STOP and "…" in box.message.text()
    qtbot.waitUntil(lambda: not box.work.busy, timeout=200_000)
    assert threads[0] is not threading.main_thread()
    assert box.button.text() == TITLE
    called = panel.label("sampling.patch_size")
    assert f"<b>{called}</b>" in box.reasons.text() and "fits in whole" in box.reasons.text()
    assert not re.search(r"<b>[a-z_]+(\.|<)", box.reasons.text()), "settings are called as on the screen"
    shown = panel.experiment()
    assert shown.validation.metrics[0] == "lesions" and shown.loss == made[0].experiment.loss
    assert shown.data.class_values() and shown.split.validation_count == 1


def test_it_says_why_there_is_no_proposal(panel: ExperimentPanel) -> None:
    box = panel._cases.proposal
    box.button.click()
    assert "No case is chosen yet" in box.message.text() and not box.work.busy
    choose_phantoms(panel)
    panel.session.run = SimpleNamespace(state="running")
    box.button.click()
    assert "A run is going on" in box.message.text() and not box.work.busy


def test_it_can_be_stopped(panel: ExperimentPanel, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = threading.Event()

    def propose(dataset: Any, *, stopped: Any, **given: Any) -> Any:
        begun.set()
        while not stopped():
            threading.Event().wait(0.01)
        raise DataError("Reading the cases was stopped.")

    monkeypatch.setattr(proposal, "propose", propose)
    box = choose_phantoms(panel)
    before = panel.experiment()
    box.button.click()
    assert begun.wait(30)
    box.button.click()
    qtbot.waitUntil(lambda: not box.work.busy)
    assert box.message.text() == "Stopped." and box.button.text() == TITLE
    assert panel.experiment() == before
