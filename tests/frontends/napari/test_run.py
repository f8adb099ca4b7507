"""The Run tab: buttons in any order, failures with their cause, changes on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt

from segexplorer.frontends.napari.bridge import RunBridge
from segexplorer.frontends.napari.display import Display
from segexplorer.frontends.napari.layers import CaseLayers
from segexplorer.frontends.napari.panels.run import RunPanel
from segexplorer.frontends.napari.workers import Machine
from segexplorer.training.experiment import Experiment
from segexplorer.viewmodels.reality import PlanFacts
from tests.frontends.napari.scripted import ScriptedRun


class Door:
    """A session that prepares scripted runs."""

    def __init__(self) -> None:
        self.make: Callable[[], ScriptedRun] = ScriptedRun
        self.runs: list[ScriptedRun] = []
        self.folders: list[Path] = []

    def prepare(self, experiment: Experiment, *, parent: Path, window: bool = False) -> ScriptedRun:
        assert window
        self.runs.append(self.make())
        self.folders.append(parent)
        return self.runs[-1]


@pytest.fixture
def panel(qtbot: Any, tmp_path: Path) -> Iterator[RunPanel]:
    bridge = RunBridge()
    experiment = Experiment.of({"data": {"kind": "phantom"}})
    viewer = ViewerModel()
    display = Display(viewer, bridge, CaseLayers(viewer))
    display.learn(plan=PlanFacts("fits"))
    made = RunPanel(Door(), viewer, bridge, lambda: lambda: experiment, display, folder=tmp_path)
    qtbot.addWidget(made)
    made.show()
    yield made
    bridge.close()
    made.closing()
    display.closing()
    assert bridge.wait(5)


def click(qtbot: Any, button: Any) -> None:
    assert button.isEnabled()
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def start(qtbot: Any, panel: RunPanel) -> ScriptedRun:
    known = len(panel.session.runs)
    click(qtbot, panel.buttons.start)
    qtbot.waitUntil(lambda: len(panel.session.runs) > known and panel.session.runs[-1].done > 3)
    run: ScriptedRun = panel.session.runs[-1]
    return run


def test_start_pause_step_resume_stop_and_start_again(panel: RunPanel, qtbot: Any, tmp_path: Path) -> None:
    run = start(qtbot, panel)
    qtbot.waitUntil(panel.buttons.pause.isEnabled)
    assert not panel.buttons.start.isEnabled()
    click(qtbot, panel.buttons.pause)
    qtbot.waitUntil(lambda: panel.buttons.pause.text() == "Resume")
    held = run.done
    click(qtbot, panel.buttons.step)
    qtbot.waitUntil(lambda: run.done == held + 1 and run.state == "paused")
    qtbot.waitUntil(panel.buttons.pause.isEnabled)
    click(qtbot, panel.buttons.pause)
    qtbot.waitUntil(lambda: run.done > held + 5)
    click(qtbot, panel.buttons.stop)
    qtbot.waitUntil(panel.buttons.start.isEnabled)
    assert run.state == "stopped" and not panel.buttons.stop.isEnabled()
    assert panel.buttons.pause.text() == "Go on"
    again = start(qtbot, panel)
    assert again is not run and again.state == "running"
    assert set(panel.session.folders) == {tmp_path}


def test_a_stopped_run_goes_on_and_a_finished_one_is_extended(panel: RunPanel, qtbot: Any) -> None:
    panel.session.make = lambda: ScriptedRun(steps=300)
    run = start(qtbot, panel)
    qtbot.waitUntil(panel.buttons.stop.isEnabled)
    click(qtbot, panel.buttons.stop)
    qtbot.waitUntil(lambda: panel.buttons.pause.text() == "Go on")
    click(qtbot, panel.buttons.pause)
    qtbot.waitUntil(lambda: run.state == "finished" and panel.buttons.start.isEnabled())
    assert run.done == 300
    click(qtbot, panel.buttons.extend)
    qtbot.waitUntil(lambda: run.done == 350 and panel.buttons.start.isEnabled())


@pytest.mark.parametrize("raises", [False, True])
def test_a_failure_shows_its_cause(panel: RunPanel, qtbot: Any, raises: bool) -> None:
    panel.session.make = lambda: ScriptedRun(fail_at=2, raises=raises)
    click(qtbot, panel.buttons.start)
    qtbot.waitUntil(lambda: bool(panel.progress.failure.text))
    expected = "the data rotted" if raises else "The loss is not finite. Lower the learning rate."
    assert expected in panel.progress.failure.text
    assert not panel.progress.failure.cause.isVisible()
    click(qtbot, panel.progress.failure.more)
    assert (
        panel.progress.failure.cause.isVisible() and "Traceback" in panel.progress.failure.cause.toPlainText()
    )
    qtbot.waitUntil(panel.buttons.start.isEnabled)
    panel.session.make = ScriptedRun
    start(qtbot, panel)
    assert panel.progress.failure.text == ""


def test_commands_in_the_wrong_order_become_sentences(panel: RunPanel, qtbot: Any) -> None:
    for command in (panel.stop, panel.step, panel.pause_or_resume, panel.extend, panel.predict_now):
        panel.obeyed(command)
        assert "no run yet" in panel.why_not.text()
    run = start(qtbot, panel)
    panel.obeyed(panel.start)
    assert "already in progress" in panel.why_not.text() and len(panel.session.runs) == 1
    assert run.state == "running"


def test_start_says_why_it_is_not_possible_and_leads_to_the_field(panel: RunPanel, qtbot: Any) -> None:
    asked: list[str] = []
    panel.field_asked.connect(asked.append)
    panel.display.learn(
        plan=PlanFacts("refused", "Sampling › Patch size is too large.", "sampling.patch_size")
    )
    assert not panel.buttons.start.isEnabled()
    text = panel.start_reason.text()
    assert text.startswith("Start is not possible yet: Sampling › Patch size is too large.")
    panel.start_reason.linkActivated.emit("sampling.patch_size")
    assert asked == ["sampling.patch_size"] and 'href="sampling.patch_size"' in text
    panel.display.learn(plan=PlanFacts("planning"))
    assert not panel.buttons.start.isEnabled() and "being planned" in panel.start_reason.text()
    panel.display.learn(plan=PlanFacts("fits"))
    assert panel.buttons.start.isEnabled() and panel.start_reason.text() == ""


def test_beside_a_finished_run_the_reason_is_about_a_new_one(panel: RunPanel, qtbot: Any) -> None:
    panel.session.make = lambda: ScriptedRun(steps=5)
    click(qtbot, panel.buttons.start)
    qtbot.waitUntil(lambda: panel.status.state == "finished" and not panel.bridge.busy)
    panel.display.learn(plan=PlanFacts("refused", "No case is chosen yet.", "data"))
    assert panel.start_reason.text().startswith("A new run cannot start yet: No case is chosen yet.")
    assert panel.progress.headline.text() == "scripted: finished: all epochs done"


def test_a_live_change_reaches_the_run_and_the_log(panel: RunPanel, qtbot: Any) -> None:
    run = start(qtbot, panel)
    assert panel.live.form is not None
    path = next(p for p in panel.live.form.paths if p.endswith("learning_rate"))
    panel.live.form.edit(path, 0.005)
    panel.live.form.apply()
    called = panel.live.form.label(path)
    assert called.endswith("Learning rate")
    qtbot.waitUntil(lambda: f"{called} changed from 0 to 0.005" in panel.log.toPlainText())
    assert path not in panel.log.toPlainText(), "settings are called as on the screen"
    assert "set" in run.commands


def test_the_machine_is_named_with_the_cure_for_an_idle_gpu(panel: RunPanel) -> None:
    panel.show_machine(Machine("CPU, 2 cores", "Run: pip install torch"))
    assert "CPU, 2 cores" in panel.device.text()
    assert "pip install torch" in panel.remedy.text() and panel.remedy.isVisible()


def test_badges_and_progress_are_shown(panel: RunPanel, qtbot: Any) -> None:
    start(qtbot, panel)
    qtbot.waitUntil(lambda: "a badge" in panel.progress.badge.text())
    assert "samples/s" in panel.progress.figures.text() and "epoch 1 of 10" in panel.progress.bar.format()


def test_an_earlier_run_is_opened_shown_and_can_be_gone_on_with(
    panel: RunPanel, qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from segexplorer.core.events import RunFinished, StepDone
    from segexplorer.session import Session
    from segexplorer.training.folder import RunFolder

    folder = RunFolder.create(Experiment.of({"data": {"kind": "phantom"}}), tmp_path / "earlier")
    terms = {"dice": (0.5, 1.0)}
    folder.write(
        StepDone(
            attempt=1,
            step=1,
            epoch=1,
            loss=0.5,
            terms=terms,
            learning_rate=1e-3,
            gradient_norm=1.0,
            seconds=0.1,
            samples=2,
        )
    )
    folder.write(RunFinished(attempt=1, step=1, state="stopped", reason="stopped by the user"))
    folder.close()
    panel.session = Session()
    heard: list[Any] = []
    panel.bridge.events_arrived.connect(heard.extend)
    chosen = str(tmp_path / "earlier")
    monkeypatch.setattr(
        "segexplorer.frontends.napari.panels.run.QFileDialog.getExistingDirectory", lambda *_: chosen
    )
    click(qtbot, panel.buttons.open)
    qtbot.waitUntil(lambda: panel.bridge.run is not None)
    assert panel.bridge.run.folder == tmp_path / "earlier"
    assert [event.step for event in heard if isinstance(event, StepDone)] == [1]
    assert "stopped" in panel.status.headline
    assert panel.buttons.pause.text() == "Go on" and panel.buttons.pause.isEnabled()
    assert panel.buttons.extend.isEnabled() and not panel.buttons.stop.isEnabled()


@pytest.mark.parametrize("held", [False, True])
def test_a_run_of_another_process_is_named_and_one_that_died_is_stopped(
    panel: RunPanel, qtbot: Any, tmp_path: Path, held: bool
) -> None:
    from segexplorer.core.events import RunFinished, StateChanged
    from segexplorer.session import Session
    from segexplorer.training.folder import RunFolder

    folder = RunFolder.create(Experiment.of({"data": {"kind": "phantom"}}), tmp_path / "earlier")
    folder.write(StateChanged(attempt=1, state="running"))
    if held:
        folder.hold()
    ended: list[RunFinished] = []
    panel.session = Session()
    panel.bridge.ended.connect(ended.append)
    panel.open_run(folder.path)
    qtbot.waitUntil(lambda: panel.bridge.run is not None)
    if held:
        assert "in use by this process, since 20" in panel.why_not.text()
        click(qtbot, panel.buttons.pause)
        qtbot.waitUntil(lambda: len(ended) == 2)
        assert "in use by this process" in panel.status.failure
    else:
        assert panel.status.state == "stopped" and ended[0].reason == "its process has died"
    folder.release()


def test_a_folder_that_is_no_run_is_refused_in_a_sentence(
    panel: RunPanel, qtbot: Any, tmp_path: Path
) -> None:
    panel.open_run(tmp_path)
    qtbot.waitUntil(lambda: "is not a run folder" in panel.why_not.text())
    assert panel.buttons.start.isEnabled()
