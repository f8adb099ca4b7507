"""The main job on a real CT in the window: clicks on its buttons, settings through its forms; then without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from qtpy.QtCore import QItemSelectionModel, Qt

from segexplorer.core.events import ParameterApplied, StepDone, ValidationDone
from segexplorer.frontends.napari.dock import SegmentationExplorer
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.history import open_run
from segexplorer.training.plan import NOT_HELD_OUT
from segexplorer.training.run import Run

pytestmark = pytest.mark.gui
CLASSES = {"liver": "5", "spleen": "1", "kidneys": "2, 3", "aorta": "52"}
SMALL = """
network: {kind: unet, base_features: 4, levels: 3}
loss: squared_dice_ce_adaptive_region
sampling: {patch_size: [32, 32, 32], batch_size: 1, steps_per_epoch: 4}
schedule: {kind: polynomial, epochs: 60}
validation: {every_epochs: 2, overlap: 0.0}
compute: {device: cpu, precision: float32, threads: 1}
"""


@pytest.fixture
def dock(viewer: Any, qtbot: Any, tmp_path: Path) -> SegmentationExplorer:
    _, made = viewer.window.add_plugin_dock_widget("segexplorer")
    qtbot.waitUntil(lambda: made.tabs is not None, timeout=180_000)
    made.run.set_folder(tmp_path / "runs")
    return made


def click(qtbot: Any, button: Any) -> None:
    qtbot.waitUntil(button.isEnabled)
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


def tab(dock: SegmentationExplorer, title: str) -> None:
    dock.show_tab(title.lower())


def open_scan(viewer: Any, dock: SegmentationExplorer, folder: Path, qtbot: Any) -> None:
    files = [
        folder / "ct_abdomen_totalseg" / name for name in ("example_ct.nii.gz", "example_ct_labels.nii.gz")
    ]
    viewer.open([str(f) for f in files], plugin="segexplorer")
    click(qtbot, dock.cases.layer_source.add_button)
    table = dock.cases.class_table.table
    qtbot.waitUntil(lambda: table.rowCount() == 61)


def choose_classes(dock: SegmentationExplorer, qtbot: Any) -> None:
    """Keep the rows of four of 61 labels, name them and merge the kidneys, as a user does in the table."""
    classes = dock.cases.class_table
    table, select = classes.table, classes.table.selectionModel()
    wanted = [values.split(",")[0] for values in CLASSES.values()]
    for row in range(table.rowCount()):
        if table.item(row, 2).text() in wanted:
            rows = QItemSelectionModel.SelectionFlag.Select | QItemSelectionModel.SelectionFlag.Rows
            select.select(table.model().index(row, 0), rows)
    keep = classes.keep_button
    click(qtbot, keep)
    assert table.rowCount() == len(CLASSES)
    for row in range(table.rowCount()):
        name = next(n for n, v in CLASSES.items() if v.split(",")[0] == table.item(row, 2).text())
        table.item(row, 1).setText(name)
        table.item(row, 2).setText(CLASSES[name])
    assert {k: len(v) for k, v in classes.classes().items()} == {
        "liver": 1,
        "spleen": 1,
        "kidneys": 2,
        "aorta": 1,
    }


def steps(events: list[Any]) -> dict[int, tuple[float, float]]:
    return {e.step: (e.loss, e.learning_rate) for e in events if isinstance(e, StepDone)}


def test_one_scan_trains_on_itself_is_steered_and_repeats_without_the_window(
    dock: SegmentationExplorer, viewer: Any, qtbot: Any, shared_data: Path, tmp_path: Path
) -> None:
    # the wrong order first: nothing is open, so Start is off and says why
    tab(dock, "Run")
    assert not dock.run.buttons.start.isEnabled()
    tab(dock, "Cases")
    open_scan(viewer, dock, shared_data, qtbot)
    choose_classes(dock, qtbot)
    settings = tmp_path / "small.yaml"
    settings.write_text("data: {kind: phantom}\n" + SMALL)
    dock.experiment.form.set(Experiment.from_yaml(settings))
    tab(dock, "Run")
    # one case alone: not before it is confirmed
    assert not dock.run.buttons.start.isEnabled() and dock.run.start_reason.text()
    tab(dock, "Cases")
    click(qtbot, dock.cases.one_case)
    tab(dock, "Run")
    click(qtbot, dock.run.buttons.start)
    qtbot.waitUntil(lambda: dock.bridge.run is not None and dock.bridge.run.state == "running")
    run = dock.bridge.run
    qtbot.waitUntil(lambda: dock.inspect.seen is not None)
    assert NOT_HELD_OUT in dock.inspect.badge.text() and NOT_HELD_OUT in dock.run.progress.badge.text()
    # the user's own picture of the scan is used, not doubled
    assert [layer.name for layer in viewer.layers].count("example_ct") == 1
    assert "image" not in dock.layers.keys
    click(qtbot, dock.run.buttons.pause)
    qtbot.waitUntil(lambda: run.state == "paused")
    live = dock.run.live.form
    assert live is not None
    live.edit("loss.terms.2.loss.a", 0.25)
    live.edit("loss.terms.2.loss.b", 0.5)
    live.edit("optimiser.learning_rate", 5e-4)
    live.apply()
    click(qtbot, dock.run.buttons.step)
    qtbot.waitUntil(lambda: run.experiment.optimiser.learning_rate == 5e-4)
    qtbot.waitUntil(lambda: run.state == "paused")
    # the user tidies the layers while it runs
    viewer.layers.remove(dock.layers.layer("errors"))
    viewer.layers["example_ct"].name = "my scan"
    click(qtbot, dock.run.buttons.pause)
    before = len([e for e in open_run(run.folder).events() if isinstance(e, ValidationDone)])
    qtbot.waitUntil(
        lambda: len([e for e in open_run(run.folder).events() if isinstance(e, ValidationDone)]) > before,
    )
    click(qtbot, dock.run.buttons.stop)
    qtbot.waitUntil(lambda: not dock.bridge.busy)
    assert run.state == "stopped"
    assert dock.run.buttons.start.isEnabled(), "one click starts again"
    told = open_run(run.folder).events()
    applied = {e.field: e.value for e in told if isinstance(e, ParameterApplied)}
    assert applied == {
        "loss.terms.2.loss.a": 0.25,
        "loss.terms.2.loss.b": 0.5,
        "optimiser.learning_rate": 5e-4,
    }
    assert all(
        score.badge == NOT_HELD_OUT for e in told if isinstance(e, ValidationDone) for score in e.scores
    )
    # the run's own YAML, without the window: the same numbers, bit for bit
    expected = steps(told)
    replay = Run(RunFolder.create(Experiment.from_yaml(run.folder / "experiment.yaml"), tmp_path / "replay"))
    repeated: dict[int, tuple[float, float]] = {}
    for event in replay:
        if isinstance(event, StepDone):
            repeated[event.step] = (event.loss, event.learning_rate)
            if event.step == max(expected):
                replay.stop()
    assert repeated == expected
