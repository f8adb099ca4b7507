"""Two patients one after the other in one window: of the first nothing is left in any widget, layer or caption."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from napari.components import ViewerModel
from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QApplication, QComboBox, QLabel, QLineEdit, QTableWidget, QWidget

from segexplorer.core.events import ValidationDone
from segexplorer.data.case import ClassMap
from segexplorer.frontends.napari.bridge import RunBridge
from segexplorer.frontends.napari.display import Display
from segexplorer.frontends.napari.layers import CaseLayers, layer_arguments
from segexplorer.frontends.napari.panels.inspect import InspectPanel
from segexplorer.frontends.napari.plots import PlotDock
from segexplorer.metrics import score_case
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.history import HistoryWriter
from segexplorer.training.snapshots import WatchedSnapshot
from segexplorer.viewmodels import layer_images


def run_of(experiment: Experiment, folder: Path, steps: tuple[int, ...]) -> Any:
    """A run folder with predictions of its first two cases, which get better and are never right."""
    path = RunFolder.create(experiment, folder).path
    refs = experiment.data.cases()[:2]
    classes = experiment.data.class_values()
    writer = HistoryWriter(path)
    events: list[Any] = []
    first: Any = None
    for role, ref in zip(("validation", "train"), refs, strict=True):
        label = ref.open().label
        assert label is not None
        truth = ClassMap.from_classes(classes, experiment.data.other_labels).encode(np.asarray(label.array))
        for index, step in enumerate(steps):
            snapshot = WatchedSnapshot(
                case=ref.id,
                role=role,  # type: ignore[arg-type]
                step=step,
                index=index,
                class_names=tuple(classes),
                affine=label.affine,
                prediction=np.roll(truth, len(steps) - index, axis=0),
            )
            writer.write(snapshot, 1)
            first = first or replace(snapshot, truth=truth)
            if role == "validation":
                scores = score_case(
                    snapshot.prediction, truth, tuple(classes), (1, 1, 1), case=ref.id, role="validation"
                )
                events.append(
                    ValidationDone(
                        step=step,
                        epoch=1,
                        loss=0.5,
                        scores=scores,
                        mean_dice=0.5,
                        class_dice={},
                        n_used=1,
                        n_absent=0,
                        n_missed=0,
                        best=False,
                        seconds=0.1,
                    )
                )
    return SimpleNamespace(
        folder=path,
        experiment=experiment,
        plan=None,
        accepts=lambda _: False,
        events=events,
        cases=[ref.id for ref in refs],
        classes=tuple(classes),
        refs=refs,
        first=first,
    )


@pytest.fixture
def phantom(tmp_path: Path) -> Any:
    data = {"kind": "phantom", "anatomy": "ct_abdomen", "count": 2, "size": 24, "seed": 0}
    return run_of(Experiment.of({"data": data}), tmp_path / "phantoms", (10, 20, 40))


@pytest.fixture
def hippocampus(tmp_path: Path, shared_data: Path) -> Any:
    data = {"kind": "decathlon", "root": str(shared_data / "Task04_Hippocampus")}
    return run_of(Experiment.of({"data": data}), tmp_path / "hippocampi", (13, 26))


class Window:
    """The tab Inspect and the plots over a viewer, as the dock puts them together."""

    def __init__(self, qtbot: Any) -> None:
        self.viewer, self.bridge, self.qtbot = ViewerModel(), RunBridge(), qtbot
        self.display = Display(self.viewer, self.bridge, CaseLayers(self.viewer))
        self.panel = InspectPanel(self.display)
        self.plots = PlotDock(self.viewer, self.bridge)
        self.display.changed.connect(self._draw)
        self.canvas = QWidget()
        self.display.watch_canvas(self.canvas)
        for widget in (self.panel, self.plots, self.canvas):
            qtbot.addWidget(widget)
            widget.show()

    def _draw(self, screen: Any, parts: frozenset[str]) -> None:
        if "cursor" in parts:
            self.plots.show_step(screen.cursor)
        if "seen" in parts:
            self.plots.show_prediction(screen.seen)

    def open(self, run: Any) -> None:
        self.bridge.open(run, run.events)
        self.settle(run.cases)

    def settle(self, cases: list[str]) -> None:
        def ready() -> bool:
            screen = self.display.screen
            return screen.seen is not None and screen.request is None and screen.displayed.case in cases

        self.qtbot.waitUntil(ready)

    def point_at_label(self) -> None:
        """Put the mouse over a voxel of the case's first class."""
        assert self.display.seen is not None
        snapshot = self.display.seen.snapshot
        assert snapshot.truth is not None
        voxel = np.argwhere(snapshot.truth == 1)[0]
        world = (snapshot.affine @ [*voxel, 1.0])[:3][::-1]
        self.display.point_at(tuple(float(v) for v in world))

    def texts(self) -> list[str]:
        """Everything that can be read: labels, tables, lists, pickers, layers, captions, legends of the plots."""
        found: list[str] = []
        for root in (self.panel, self.plots):
            found += [label.text() for label in root.findChildren(QLabel) if not label.isHidden()]
            for table in root.findChildren(QTableWidget):
                cells = [
                    table.item(r, c) for r in range(table.rowCount()) for c in range(table.columnCount())
                ]
                found += [cell.text() for cell in cells if cell is not None]
            found += [edit.text() for edit in root.findChildren(QLineEdit)]
            for picker in root.findChildren(QComboBox):
                found += [picker.itemText(i) for i in range(picker.count())]
        for layer in self.viewer.layers:
            if layer.visible:
                found += [layer.name]
        return [*found, self.display.screen.caption.text]

    def says(self, *words: str) -> list[str]:
        """Return which of these words can be read somewhere."""
        everything = "\n".join(self.texts())
        return [word for word in words if word in everything]

    def closing(self) -> None:
        self.panel.closing()
        self.plots.closing()
        self.display.closing()
        self.bridge.close()


@pytest.fixture
def window(qtbot: Any) -> Iterator[Window]:
    made = Window(qtbot)
    yield made
    made.closing()


def test_a_hippocampus_after_a_phantom_leaves_nothing_of_the_phantom(
    window: Window, phantom: Any, hippocampus: Any
) -> None:
    window.open(phantom)
    window.point_at_label()
    window.display.issue("choose_class", 1)
    window.display.issue("scrub", 11.0)
    window.settle(phantom.cases)
    assert phantom.cases[0] in window.panel.badge.text()
    assert window.says(*phantom.classes) and "step 10" in window.display.screen.caption.text
    assert window.panel.read_out.text().startswith(phantom.classes[0])
    window.open(hippocampus)
    old = [*phantom.cases, *phantom.classes, "step 10", "step 40", phantom.folder.name]
    assert window.says(*old) == []
    assert window.panel.badge.text() == f"{hippocampus.cases[0]}: not trained on"
    assert window.panel.choices.class_index is None, "a class of the phantom is none of the hippocampus"
    assert window.panel.history.steps == (13, 26) and window.plots.panes[1].cursor.value() == 26
    assert {window.panel.choices.class_picker.itemText(i) for i in (1, 2)} == set(hippocampus.classes)
    assert "not of this case" not in window.display.screen.caption.text
    image = window.display.layers.layer("image")
    assert hippocampus.cases[0] in image.name and window.viewer.layers[0] == image
    assert len([layer for layer in window.viewer.layers if layer.visible]) == 2  # image and errors
    window.point_at_label()
    window.open(phantom)
    assert window.says(*hippocampus.cases, *hippocampus.classes, "step 26", "step 13") == []


def test_before_the_first_prediction_of_a_new_run_nothing_of_the_old_is_shown(
    window: Window, phantom: Any, hippocampus: Any
) -> None:
    """As it was found: errors of a phantom, and its badge, over the hippocampus that had just been started."""
    window.open(phantom)
    window.point_at_label()
    empty = SimpleNamespace(**{**vars(hippocampus), "folder": Path("runs/new"), "events": []})
    window.bridge.open(empty, [])
    old = [*phantom.cases, *phantom.classes, "step 40"]
    assert window.says(*old) == [] and len(window.viewer.layers) == 0
    assert window.panel.errors.table.rowCount() == 0 and window.panel.scores.table.rowCount() == 0
    assert not window.plots.panes[1].cursor.isVisible()
    window.bridge.watched_arrived.emit({"validation": hippocampus.first})
    window.settle(hippocampus.cases)
    assert window.says(*old) == [] and window.panel.badge.text().startswith(hippocampus.cases[0])


def test_an_answer_that_comes_late_is_dropped(window: Window, phantom: Any, hippocampus: Any) -> None:
    window.open(phantom)
    window.display.issue("scrub", 11.0)
    late = window.display.screen.request
    assert late is not None
    window.open(hippocampus)
    window.display._on_answer((late, late.answer()))
    assert window.says(*phantom.cases, *phantom.classes) == []


def test_old_scans_of_the_user_are_hidden_under_a_case_of_a_run_and_come_back(
    window: Window, phantom: Any, hippocampus: Any, qtbot: Any
) -> None:
    case = hippocampus.refs[0].open()
    own = layer_images.image_picture(case.images[0], "my hippocampus")
    other = layer_images.image_picture(phantom.refs[0].open().images[0], "my old CT")
    mine, old = (window.viewer.add_image(p.data, **layer_arguments(p)) for p in (own, other))
    window.open(hippocampus)
    assert mine.visible and not old.visible, "the CT has no business under a hippocampus"
    assert window.display.layers.layer("image") is None, "the user's own picture of the case is used"
    window.open(phantom)
    assert old.visible and not mine.visible
    mine.visible = True  # the user may look at it all the same, and the caption says so
    assert window.display.screen.caption.text.endswith("; not of this case: my hippocampus")
    old.visible = False
    for key in list(window.display.layers.keys):
        window.viewer.layers.remove(window.display.layers.layer(key))
    caption = window.display.screen.caption
    assert caption.case == f"Not {phantom.cases[0]}" and caption.remark.startswith("shown: my hippocampus")
    mine.visible, old.visible = False, True
    assert window.display.screen.caption.text.startswith(phantom.cases[0])
    assert "my hippocampus" not in window.display.screen.caption.text
    window.display.issue("close")
    assert mine.visible and old.visible
    assert [layer.name for layer in window.viewer.layers] == ["my hippocampus", "my old CT"]


def test_the_label_of_the_case_gives_way_to_its_outline(
    window: Window, phantom: Any, hippocampus: Any
) -> None:
    case = hippocampus.refs[0].open()
    picture = layer_images.label_picture(case.label, "my label")
    mine = window.viewer.add_labels(picture.data, **layer_arguments(picture))
    window.open(hippocampus)
    assert not mine.visible, "its fills would mix with those of the errors"
    mine.visible = True
    assert "my label" not in window.display.screen.caption.text, "it is of this case"
    window.display.issue("close")
    assert mine.visible


def test_a_read_out_goes_with_the_mouse_and_with_the_case(window: Window, phantom: Any) -> None:
    window.open(phantom)
    window.point_at_label()
    assert phantom.classes[0] in window.panel.read_out.text()
    QApplication.sendEvent(window.canvas, QEvent(QEvent.Type.Leave))
    assert window.display.screen.read_out == "" and phantom.classes[0] not in window.panel.read_out.text()
    window.point_at_label()
    window.display.issue("next_case")
    assert phantom.cases[0] not in window.panel.badge.text()
    window.settle(phantom.cases)
    assert window.panel.badge.text().startswith(phantom.cases[1])


def test_the_step_that_is_named_is_the_step_that_is_drawn(window: Window, phantom: Any) -> None:
    """As it was found: "step 20 (newest)" over a layer of step 13."""
    window.open(phantom)
    newer = replace(phantom.first, step=60)
    window.bridge.events_arrived.emit([replace(phantom.events[-1], step=60)])
    window.bridge.watched_arrived.emit({"validation": newer})
    screen = window.display.screen
    assert "step 40 is still shown" in window.panel.history.text.text() and screen.cursor == 40
    assert "step 40" in window.display.layers.layer("errors").name
    window.settle(phantom.cases)
    assert window.panel.history.text.text().endswith("step 60 (newest)")
    assert "step 60" in window.display.layers.layer("errors").name and window.says("step 40") == []


def test_a_dock_that_is_closed_and_opened_again_begins_with_nothing(
    qtbot: Any, phantom: Any, hippocampus: Any
) -> None:
    first = Window(qtbot)
    first.open(phantom)
    viewer = first.viewer
    first.closing()
    first.display.leave_viewer()
    assert len(viewer.layers) == 0
    display = Display(viewer, RunBridge(), CaseLayers(viewer))
    assert display.screen.scene is None and display.screen.seen is None and not display.screen.layers
    display.closing()
