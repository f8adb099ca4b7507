"""The Experiment tab: a form, a plan, and YAML."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from napari.components import ViewerModel
from qtpy.QtWidgets import QPushButton

from segexplorer.core.errors import DataError
from segexplorer.data.datasets import registry
from segexplorer.data.splits import Split
from segexplorer.frontends.forms import LiveForm
from segexplorer.frontends.napari.panels.cases import CasesPanel
from segexplorer.frontends.napari.panels.experiment import ExperimentPanel
from segexplorer.training.experiment import Experiment
from segexplorer.training.timing import Timing


class Planner:
    """Stands for a session: answers with a summary, or refuses."""

    def __init__(self) -> None:
        self.asked: list[Experiment] = []
        self.error: DataError | None = None
        self.run: Any = None

    def plan(self, experiment: Experiment, *, window: bool = False) -> Any:
        self.asked.append(experiment)
        if self.error:
            raise self.error
        return SimpleNamespace(summary=lambda: {"Memory": "about 2 GiB"}, badges=("badge",), warnings=())


@pytest.fixture
def panel(qtbot: Any, tmp_path: Path) -> Iterator[ExperimentPanel]:
    viewer, session = ViewerModel(), Planner()
    cases = CasesPanel(session, viewer, folder=tmp_path / "cases")
    made = ExperimentPanel(session, viewer, cases)
    for widget in (cases, made):
        qtbot.addWidget(widget)
        widget.show()
    yield made
    made.closing()
    cases.closing()  # before events are processed, by which the widgets are deleted
    qtbot.waitUntil(lambda: not made.box.work.busy)


def phantoms() -> Experiment:
    data = registry.spec("phantom").of({"count": 3, "size": 32})
    return Experiment(data=data, split=Split(validation_count=1), loss="tversky", seed=7)


def test_devices_are_asked_for_where_there_are_several(
    panel: ExperimentPanel, qtbot: Any, tmp_path: Path
) -> None:
    row = panel.form.row_for("compute.devices").native
    assert row.isHidden(), "this machine has one"
    panel.set_experiment(phantoms().with_settings({"compute.devices": 2}))
    assert not row.isHidden(), "an experiment of another machine"
    assert panel.experiment().compute.devices == 2
    panel.set_experiment(phantoms())
    assert row.isHidden()
    cases = CasesPanel(panel.session, panel.viewer, folder=tmp_path / "more")
    several = ExperimentPanel(panel.session, panel.viewer, cases, gpus=4)
    for widget in (cases, several):
        qtbot.addWidget(widget)
    assert not several.form.row_for("compute.devices").native.isHidden()
    several.form.widget_for("compute.devices").value = 4
    assert several.form.plain()["compute"]["devices"] == 4
    several.closing()
    cases.closing()


def test_without_cases_it_says_what_is_missing(panel: ExperimentPanel) -> None:
    panel.plan()
    assert "No case is chosen yet" in panel.box.warnings.text()


def test_an_experiment_comes_back_as_it_was_shown(panel: ExperimentPanel) -> None:
    panel.set_experiment(phantoms())
    assert panel.experiment() == phantoms()


def test_a_plan_is_shown_after_the_form_has_rested(panel: ExperimentPanel, qtbot: Any) -> None:
    panel.set_experiment(phantoms())
    qtbot.waitUntil(lambda: "about 2 GiB" in panel.box.summary.text())
    assert panel.session.asked == [phantoms()]
    assert panel.box.warnings.text() == "badge"
    panel.session.error = DataError("Too much memory.", "Reduce sampling.patch_size.")
    panel.plan()
    qtbot.waitUntil(lambda: "Too much memory" in panel.box.warnings.text())
    called = panel.label("sampling.patch_size")
    assert panel.box.warnings.text() == f"Too much memory. Reduce {called}." and "." not in called


def test_a_button_that_cannot_be_pressed_says_why(panel: ExperimentPanel) -> None:
    cases = panel._cases
    buttons = [b for part in (cases, panel) for b in part.findChildren(QPushButton) if not b.isEnabled()]
    assert {cases.layer_source.add_button, cases.class_table.keep_button} <= set(buttons)
    assert [b.text() for b in buttons if not b.toolTip()] == []
    assert "first" in cases.layer_source.add_button.toolTip()
    live = LiveForm(phantoms())
    assert live.apply_button.tooltip == "Nothing has been changed."
    live.widget_for("optimiser.learning_rate").value = "-1"
    assert not live.apply_button.enabled and "red" in live.apply_button.tooltip
    live.widget_for("optimiser.learning_rate").value = "0.002"
    assert live.apply_button.enabled and "next training step" in live.apply_button.tooltip


def test_the_time_is_measured_on_request_and_void_with_another_plan(
    panel: ExperimentPanel, qtbot: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    told: list[bool] = []

    def measure(plan: Any, *, stopped: Any) -> Timing | None:
        while not gate.is_set() and not stopped():
            gate.wait(0.01)
        told.append(stopped())
        return None if stopped() else Timing(0.1, 3, 0.1, 0.0, 120.0, 2400.0)

    monkeypatch.setattr("segexplorer.training.timing.measure", measure)
    box = panel.box
    assert box.measure_button.isHidden()
    panel.set_experiment(phantoms())
    qtbot.waitUntil(lambda: not box.measure_button.isHidden())
    box.measure_button.click()
    assert box.measure_button.text() == "Stop measuring" and "Measuring" in box.time.text()
    box.measure_button.click()
    qtbot.waitUntil(lambda: not box.timing.busy)
    assert told == [True] and box.time.isHidden() and box.measure_button.text() == "Measure the time"
    gate.set()
    box.measure_button.click()
    qtbot.waitUntil(lambda: "about 2 min per epoch, 40 min in all" in box.time.text())
    panel.plan()
    assert box.time.isHidden()


def test_nothing_is_timed_beside_a_run(panel: ExperimentPanel, qtbot: Any) -> None:
    panel.set_experiment(phantoms())
    qtbot.waitUntil(lambda: not panel.box.measure_button.isHidden())
    panel.session.run = SimpleNamespace(state="running")
    panel.box.measure_button.click()
    assert "A run is going on" in panel.box.time.text() and not panel.box.timing.busy


def test_yaml_is_written_and_read(panel: ExperimentPanel, qtbot: Any, tmp_path: Path) -> None:
    panel.set_experiment(phantoms())
    panel.save(tmp_path / "e.yaml")
    qtbot.waitUntil((tmp_path / "e.yaml").exists)  # the text that says so makes way for the plan
    assert Experiment.from_yaml(tmp_path / "e.yaml") == phantoms()
    (tmp_path / "bad.yaml").write_text("netwrk: unet\n")
    panel.load(tmp_path / "bad.yaml")
    assert "network" in panel.box.warnings.text()
    assert panel.experiment() == phantoms()
