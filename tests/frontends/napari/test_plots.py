"""The plot dock: empty states, curves of the run, themes, export."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel

from segexplorer.core.events import ParameterApplied, ValidationDone, WatchedDone
from segexplorer.frontends.napari.bridge import RunBridge
from segexplorer.frontends.napari.plots import PlotDock, fitting
from segexplorer.metrics import score_case
from segexplorer.metrics.calibration import CalibrationCounts
from segexplorer.viewmodels import watched_case
from tests.frontends.napari.scripted import ScriptedRun, snapshot


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
    qtbot.waitUntil(lambda: not dock.bridge.busy)
    training, whole = dock.panes
    assert set(training.drawn) == {"total", "dice"}
    assert {"mean", "liver", "lesion"} <= set(whole.drawn)
    assert len(training.drawn["total"].getData()[0]) == 60
    assert not any(pane.is_empty for pane in dock.panes)
    assert "whole volumes" in whole.canvas.getAxis("bottom").labelText
    assert "training, patches" in training.canvas.getAxis("bottom").labelText


def test_a_narrow_plot_has_its_legend_above_and_titles_that_fit(dock: PlotDock, qtbot: Any) -> None:
    dock.bridge.start(ScriptedRun(steps=20))
    qtbot.waitUntil(lambda: not dock.bridge.busy)
    pane = dock.panes[0]
    for width, beside in ((900, True), (480, False), (390, False)):
        dock.resize(width, 220)
        key = pane.legend.parentWidget().parentWidget()
        qtbot.waitUntil(lambda p=pane, k=key, b=beside: (k.geometry().left() > p.canvas.width() / 2) == b)
        assert key.isVisible() and {"total", "dice"} <= set(re.findall(r"\w+", pane.legend.text()))
        assert not key.verticalScrollBar().isVisible(), "two names fit"
        axis = pane.canvas.getAxis("bottom")
        qtbot.waitUntil(lambda a=axis: a.label.boundingRect().width() <= a.width() + 24)
        middle = axis.label.pos().x() + axis.label.boundingRect().width() / 2
        assert abs(middle - axis.width() / 2) <= 2, "the title is not beside its axis"
        assert axis.labelText and (axis.labelText == axis.toolTip() or "patches" in axis.labelText)


def test_a_pane_that_was_hidden_shows_what_came_meanwhile_once_there_is_room(
    dock: PlotDock, qtbot: Any
) -> None:
    training, whole = dock.panes
    whole.hide()  # as where a window is narrow
    dock.bridge.start(ScriptedRun(steps=40))
    qtbot.waitUntil(lambda: not dock.bridge.busy and not training.is_empty)
    assert whole.is_empty
    dock.resize(950, 220)
    qtbot.waitUntil(lambda: whole.isVisible() and not whole.is_empty)


def test_titles_lose_words_before_letters() -> None:
    title = "optimiser step; training, patches"
    assert [fitting(title, room, len) for room in (40, 23, 14, 5)] == [
        title,
        "step; training, patches",
        "step; patches",
        "step",
    ]
    assert fitting("surface distance", 9, len) == "surf…ance"


def test_the_sentence_of_an_empty_plot_is_read_whole_in_a_narrow_dock(dock: PlotDock, qtbot: Any) -> None:
    for width in (900, 520):
        dock.resize(width, 220)
        for pane in dock.panes:
            box = pane.canvas.getPlotItem().vb

            def inside(pane: Any = pane, box: Any = box) -> bool:
                text = pane.empty_text.mapRectToScene(pane.empty_text.boundingRect())
                return bool(box.sceneBoundingRect().contains(text))

            qtbot.waitUntil(inside)


def test_another_plot_can_be_picked_and_theme_changes_colours(dock: PlotDock, qtbot: Any) -> None:
    dock.bridge.start(ScriptedRun(steps=30))
    qtbot.waitUntil(lambda: not dock.bridge.busy)
    pane = dock.panes[0]
    before = pane.drawn["total"].opts["pen"].color().name()
    dock.viewer.theme = "light"
    assert pane.drawn["total"].opts["pen"].color().name() != before
    pane.picker.setCurrentIndex(pane.picker.findData("learning_rate"))
    assert set(pane.drawn) == {"learning rate"}


def test_a_live_change_is_marked(dock: PlotDock) -> None:
    dock.curves.add(ParameterApplied(step=5, field="optimiser.learning_rate", value=0.1, previous=0.2))
    dock.refresh()
    assert [mark.value() for mark in dock.panes[0].marks] == [5]


def test_a_hidden_dock_draws_nothing(dock: PlotDock, qtbot: Any) -> None:
    dock.hide()
    dock.bridge.start(ScriptedRun(steps=30))
    qtbot.waitUntil(lambda: not dock.bridge.busy)
    assert not dock.panes[0].drawn
    dock.show()
    qtbot.waitUntil(lambda: bool(dock.panes[0].drawn))


def test_export(dock: PlotDock, qtbot: Any, tmp_path: Path) -> None:
    dock.bridge.start(ScriptedRun(steps=30))
    qtbot.waitUntil(lambda: not dock.bridge.busy)
    (table,) = dock.export(tmp_path / "curves.csv")
    assert table.read_text(encoding="utf-8").startswith("plot,measured_on,curve,step,value\nloss,")
    pictures = [*dock.export(tmp_path / "curves.png"), *dock.export(tmp_path / "curves.svg")]
    assert [p.name for p in pictures[:2]] == ["curves-loss.png", "curves-dice.png"]
    assert all(p.stat().st_size > 1000 for p in pictures)
    assert "liver" in (tmp_path / "curves-dice.svg").read_text(encoding="utf-8")


def test_distances_cross_out_means_that_leave_structures_out(dock: PlotDock) -> None:
    truth = np.zeros((6, 6, 6), np.uint8)
    truth[1:3, 1:3, 1:3], truth[4, 4, 4] = 1, 2
    pane = dock.panes[1]
    pane.picker.setCurrentIndex(pane.picker.findData("hd95"))
    for step, found in ((10, truth), (20, np.where(truth == 2, 0, truth))):
        scores = score_case(found, truth, ("liver", "lesion"), (1, 1, 1), case="a", surfaces=True)
        dock.curves.add(
            ValidationDone(
                step=step,
                epoch=1,
                loss=0.5,
                scores=scores,
                mean_dice=0.5,
                class_dice={},
                n_used=2,
                n_absent=0,
                n_missed=0,
                best=False,
                seconds=0.1,
            )
        )
    dock.refresh()
    assert set(pane.drawn) == {"mean", "liver", "lesion"}
    assert "mm" in pane.canvas.getAxis("left").labelText
    assert [spot.pos().x() for spot in pane.partial.points()] == [20]
    assert pane.drawn["lesion"].opts["symbol"] == "o"  # its one point would not show as a line
    assert pane.drawn["liver"].opts["symbol"] is None
    assert "lesion: missed in 1" in pane.legend.text()
    pane.picker.setCurrentIndex(pane.picker.findData("dice"))
    assert len(pane.partial.points()) == 0 and "missed" not in pane.legend.text()


def test_a_plot_without_distances_says_so(dock: PlotDock, qtbot: Any) -> None:
    dock.bridge.start(ScriptedRun(steps=30))  # its validations carry no distances
    qtbot.waitUntil(lambda: not dock.bridge.busy)
    pane = dock.panes[1]
    pane.picker.setCurrentIndex(pane.picker.findData("assd"))
    assert pane.is_empty and "segexplorer evaluate" in pane.empty_text.toPlainText()


def test_reliability_of_the_prediction_shown(dock: PlotDock, tmp_path: Path) -> None:
    shown = snapshot()
    assert shown.truth is not None
    sure = np.eye(len(shown.class_names) + 1, dtype=np.float32)[shown.prediction]
    probabilities = np.moveaxis(0.8 * sure + 0.2 / sure.shape[-1], -1, 0)
    counts = CalibrationCounts(shown.class_names)
    counts.add(probabilities, shown.prediction, shown.truth, (1.0, 1.0, 1.0))
    pane = dock.panes[1]
    pane.picker.setCurrentIndex(pane.picker.findData("reliability"))
    assert pane.is_empty
    # the picture comes before the event that has its calibration
    dock.show_prediction(watched_case.see(shown, None, watched_case.Wanted(frozenset())))
    assert pane.is_empty
    event = WatchedDone(case=shown.case, role=shown.role, index=shown.index, calibration=counts.reliability())
    dock.bridge.events_arrived.emit([event])
    assert not pane.is_empty and "any class" in pane.legend.text() and "ECE" in pane.legend.text()
    dock.show_prediction(watched_case.see(shown, None, watched_case.Wanted(frozenset(), class_index=1)))
    assert shown.class_names[0] in pane.legend.text()
    pane.export(tmp_path / "reliability.svg")
    assert (tmp_path / "reliability.svg").stat().st_size > 1000
    pane.picker.setCurrentIndex(pane.picker.findData("dice"))
    pane.change(dock.curves)
    assert "any class" not in pane.legend.text()
