"""Scrubbing through a run's history: slider, plots, an opened run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import Qt

from segexplorer.core.events import ValidationDone
from segexplorer.frontends.napari.bridge import RunBridge
from segexplorer.frontends.napari.display import Display
from segexplorer.frontends.napari.layers import CaseLayers
from segexplorer.frontends.napari.panels.inspect import InspectPanel
from segexplorer.frontends.napari.plots import PlotDock
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.history import HistoryWriter
from segexplorer.viewmodels.watched_case import RunHistoryLoader, frames_of
from tests.frontends.napari.scripted import score, snapshot

EXPERIMENT = {"data": {"kind": "phantom", "anatomy": "ct_abdomen", "count": 2, "size": 16, "seed": 0}}


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """A run folder with three frames of the first phantom, each with less of it marked."""
    experiment = Experiment.of(EXPERIMENT)
    ref = experiment.data.cases()[0]
    label = ref.open().label
    assert label is not None
    names = tuple(experiment.data.class_values())
    folder = RunFolder.create(experiment, tmp_path / "run").path
    writer = HistoryWriter(folder)
    for index, step in enumerate((10, 20, 40)):
        predicted = np.where(label.array == 1, index == 2, 0).astype(np.uint8)
        writer.write(
            replace(
                snapshot(step, case=ref.id),
                index=index,
                class_names=names,
                prediction=predicted,
                affine=label.affine,
                regions=None,
                regions_affine=None,
            ),
            1,
        )
    return SimpleNamespace(
        folder=folder, experiment=experiment, plan=None, case=ref.id, accepts=lambda _: False
    )


@pytest.fixture
def panel(qtbot: Any) -> Iterator[InspectPanel]:
    viewer = ViewerModel()
    made = InspectPanel(Display(viewer, RunBridge(), CaseLayers(viewer)))
    qtbot.addWidget(made)
    made.show()
    yield made
    made.closing()
    made.display.closing()


def validated(step: int, dice: float) -> ValidationDone:
    return ValidationDone(
        step=step,
        epoch=1,
        loss=0.5,
        scores=(score("liver", "scored", dice),),
        mean_dice=dice,
        class_dice={},
        n_used=1,
        n_absent=0,
        n_missed=0,
        best=False,
        seconds=0.1,
    )


def settle(panel: InspectPanel, qtbot: Any, step: int) -> None:
    qtbot.waitUntil(lambda: panel.seen is not None and panel.seen.snapshot.step == step)


def opened(panel: InspectPanel, run: Any, qtbot: Any) -> None:
    panel.display.bridge.open(run, [validated(10, 0.1), validated(20, 0.2), validated(40, 0.4)])
    settle(panel, qtbot, 40)


def test_an_opened_run_shows_its_newest_prediction_with_the_label_of_its_data_set(
    panel: InspectPanel, run: Any, qtbot: Any
) -> None:
    opened(panel, run, qtbot)
    assert panel.history.isVisible() and panel.history.steps == (10, 20, 40) and panel.history.follows
    assert "step 40" in panel.layers.layer("errors").name
    assert panel.seen is not None and panel.seen.scores
    qtbot.waitUntil(lambda: panel.layers.layer("image") is not None)


def test_the_slider_goes_back_and_newest_returns(panel: InspectPanel, run: Any, qtbot: Any) -> None:
    opened(panel, run, qtbot)
    panel.history.slider.setFocus()
    qtbot.keyClick(panel.history.slider, Qt.Key.Key_Left)
    settle(panel, qtbot, 20)
    assert not panel.history.follows and "step 20" in panel.layers.layer("errors").name
    assert panel.scores.table.row_texts(0)[1] == "0.200"
    assert "Prediction 2 of 3, step 20" in panel.history.text.text()
    qtbot.mouseClick(panel.history.newest, Qt.MouseButton.LeftButton)
    settle(panel, qtbot, 40)
    assert panel.history.follows and panel.scores.table.row_texts(0)[1] == "0.400"


def test_what_a_run_brings_does_not_take_an_earlier_prediction_away(
    panel: InspectPanel, run: Any, qtbot: Any
) -> None:
    opened(panel, run, qtbot)
    panel.history.slider.setValue(0)
    settle(panel, qtbot, 10)
    newer = replace(snapshot(50, case=run.case), class_names=tuple(run.experiment.data.class_values()))
    panel.display.bridge.watched_arrived.emit({"validation": newer})
    qtbot.wait(50)
    assert panel.seen is not None and panel.seen.snapshot.step == 10
    panel.history.follow()
    settle(panel, qtbot, 50)


def test_the_line_in_the_plots_and_the_slider_move_each_other(
    panel: InspectPanel, run: Any, qtbot: Any
) -> None:
    plots = PlotDock(panel.viewer, panel.display.bridge)
    qtbot.addWidget(plots)
    plots.show()
    plots.step_dragged.connect(panel.history.go_to)
    panel.display.changed.connect(lambda screen, parts: plots.show_step(screen.cursor))
    opened(panel, run, qtbot)
    assert plots.panes[1].cursor.isVisible() and plots.panes[1].cursor.value() == 40
    line = plots.panes[1].cursor
    line.setValue(12.0)
    line.sigDragged.emit(line)
    settle(panel, qtbot, 10)
    assert plots.panes[0].cursor.value() == 10
    assert plots.panes[1].canvas.viewRange()[1] == pytest.approx([-0.02, 1.02], abs=1e-6)
    plots.closing()


def test_choosing_a_class_goes_to_a_slice_that_holds_it(panel: InspectPanel, qtbot: Any) -> None:
    panel.display.bridge.watched_arrived.emit({"validation": snapshot(1)})
    settle(panel, qtbot, 1)
    panel.viewer.dims.set_point(0, 0.0)
    panel.choices.class_picker.setCurrentText("lesion")
    qtbot.waitUntil(lambda: 24 <= panel.viewer.dims.point[0] <= 26)


def test_frames_are_read_from_the_folder_and_labels_once(run: Any) -> None:
    frames = frames_of(run.folder)
    assert [frame.step for frame in frames["validation"]] == [10, 20, 40] and not frames["train"]
    past = RunHistoryLoader(run.experiment)
    first = past.snapshot(frames["validation"][0])
    assert first.truth is not None and first.truth.shape == first.prediction.shape
    assert past.snapshot(frames["validation"][2]).truth is first.truth
    assert past.ref("nobody") is None
