"""The plot dock: empty states, curves of the run, themes, export."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from napari.components import ViewerModel

from segexplorer.core.events import ParameterApplied
from segexplorer.faces.napari.bridge import RunBridge
from segexplorer.faces.napari.plots import PlotDock

sys.path.insert(0, str(Path(__file__).parent))
from scripted import ScriptedRun


class Themed(ViewerModel):
    """A viewer model is enough: it has a theme and its event."""


@pytest.fixture
def dock(qtbot: Any) -> Iterator[PlotDock]:
    bridge = RunBridge()
    made = PlotDock(Themed(), bridge)
    qtbot.addWidget(made)
    made.resize(900, 220)
    made.show()
    made.bridge = bridge
    yield made
    bridge.close()
    made.closing()
    assert bridge.wait(5)


def test_panes_are_empty_with_a_sentence_and_then_filled(dock: PlotDock, qtbot: Any) -> None:
    assert all(pane.is_empty for pane in dock.panes)
    dock.bridge.start(ScriptedRun(steps=60))
    qtbot.waitUntil(lambda: not dock.bridge.busy, timeout=5000)
    training, whole = dock.panes
    assert set(training.drawn) == {"total", "dice"}
    assert {"mean", "liver", "lesion"} <= set(whole.drawn)
    assert len(training.drawn["total"].getData()[0]) == 60
    assert not any(pane.is_empty for pane in dock.panes)
    assert "whole volumes" in whole.canvas.getAxis("bottom").labelText
    assert "training, patches" in training.canvas.getAxis("bottom").labelText


def test_another_plot_can_be_picked_and_theme_changes_colours(dock: PlotDock, qtbot: Any) -> None:
    dock.bridge.start(ScriptedRun(steps=30))
    qtbot.waitUntil(lambda: not dock.bridge.busy, timeout=5000)
    pane = dock.panes[0]
    before = pane.drawn["total"].opts["pen"].color().name()
    dock.viewer.theme = "light"
    assert pane.drawn["total"].opts["pen"].color().name() != before
    pane.picker.setCurrentIndex(pane.picker.findData("learning_rate"))
    assert set(pane.drawn) == {"learning rate"}


def test_a_live_change_is_marked(dock: PlotDock) -> None:
    dock.curves.add(ParameterApplied(step=5, field="optimiser.learning_rate", value=0.1, previous=0.2))
    dock.refresh()
    assert [mark.value() for mark in dock.panes[0]._marks] == [5]


def test_a_hidden_dock_draws_nothing(dock: PlotDock, qtbot: Any) -> None:
    dock.hide()
    dock.bridge.start(ScriptedRun(steps=30))
    qtbot.waitUntil(lambda: not dock.bridge.busy, timeout=5000)
    assert not dock.panes[0].drawn
    dock.show()
    qtbot.waitUntil(lambda: bool(dock.panes[0].drawn), timeout=2000)


def test_export(dock: PlotDock, qtbot: Any, tmp_path: Path) -> None:
    dock.bridge.start(ScriptedRun(steps=30))
    qtbot.waitUntil(lambda: not dock.bridge.busy, timeout=5000)
    (table,) = dock.export(tmp_path / "curves.csv")
    assert table.read_text(encoding="utf-8").startswith("plot,measured_on,curve,step,value\nloss,")
    pictures = [*dock.export(tmp_path / "curves.png"), *dock.export(tmp_path / "curves.svg")]
    assert [p.name for p in pictures[:2]] == ["curves-loss.png", "curves-dice.png"]
    assert all(p.stat().st_size > 1000 for p in pictures)
    assert "liver" in (tmp_path / "curves-dice.svg").read_text(encoding="utf-8")
