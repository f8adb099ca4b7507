"""Presenter mode: docks folded, large captions, sliders of the running loss, and everything back as it was."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from qtpy.QtWidgets import QDockWidget

from segexplorer.frontends.napari.bridge import RunBridge
from segexplorer.frontends.napari.display import Display
from segexplorer.frontends.napari.layers import CaseLayers
from segexplorer.frontends.napari.presenter import Presenter
from segexplorer.frontends.napari.workbench import Workbench
from segexplorer.training.experiment import Experiment
from segexplorer.viewmodels.sliders import penalty_sliders
from tests.frontends.napari.scripted import ScriptedRun

Window = tuple[Any, RunBridge, Workbench, Presenter]


def experiment(loss: Any) -> Experiment:
    return Experiment.of({"data": {"kind": "phantom"}, "loss": loss})


def test_penalties_of_nested_losses_have_sliders_and_other_settings_have_none() -> None:
    found = penalty_sliders(experiment("squared_dice_ce_adaptive_region"))
    assert [item.title for item in found] == ["Base penalty A", "Adaptive penalty B"]
    assert [item.value for item in found] == [0.3, 0.4]
    assert all(item.path.startswith("loss.terms.2.loss.") for item in found)
    letters = [item.title[-1] for item in penalty_sliders(experiment("tversky"))]
    assert letters == ["α", "β"]
    assert penalty_sliders(experiment("cross_entropy")) == ()


@pytest.fixture
def window(viewer: Any, qtbot: Any) -> Iterator[Window]:
    bridge, layers = RunBridge(), CaseLayers(viewer)
    display = Display(viewer, bridge, layers)
    workbench = Workbench(viewer, layers, display.point_at)
    workbench.attach(viewer.window._qt_window)
    presenter = Presenter(workbench, display, bridge)
    yield viewer, bridge, workbench, presenter
    presenter.closing()
    if bridge.busy:
        bridge.current.stop()
        qtbot.waitUntil(lambda: not bridge.busy)
    workbench.closing()
    display.closing()
    bridge.close()


@pytest.mark.gui
def test_a_hall_sees_large_captions_and_moves_the_penalties_of_the_run(window: Window, qtbot: Any) -> None:
    viewer, bridge, workbench, presenter = window
    docks = viewer.window._qt_window.findChildren(QDockWidget)
    shown = {dock for dock in docks if dock.isVisible()}
    assert shown
    presenter.toggle()
    bar = presenter.bar
    assert bar is not None and bar.isVisible() and not any(dock.isVisible() for dock in docks)
    assert "run goes on" in bar.note.text() and bar.sliders == {}
    run = ScriptedRun(steps=10**6)
    run.experiment = experiment("tversky")
    bridge.start(run)
    qtbot.waitUntil(lambda: len(bar.sliders) == 2)
    qtbot.waitUntil(lambda: "step" in bar.caption.text() and len(bar.legend) >= 3)
    assert "font-size: 22px" in workbench.number.label.styleSheet() and workbench.number.text
    slider = bar.sliders["loss.alpha"]
    slider.setValue(slider.maximum())
    qtbot.waitUntil(lambda: "set" in run.commands)
    run.pause()
    qtbot.waitUntil(lambda: run.state == "paused")
    run.stop()
    qtbot.waitUntil(lambda: not bridge.busy)
    assert bar.sliders == {}, "a run that has ended takes no values"
    bar.back.click()
    assert not presenter.on and {dock for dock in docks if dock.isVisible()} == shown
    assert "font-size" not in workbench.number.label.styleSheet()
