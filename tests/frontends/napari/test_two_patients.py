"""A walk with mouse and keyboard through two patients in one window: nothing of one is left beside the other."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QApplication,
    QComboBox,
    QDockWidget,
    QFileDialog,
    QLabel,
    QLineEdit,
    QPlainTextEdit,
    QWidget,
)

from segexplorer.data.io import save_volume
from segexplorer.data.volume import Volume
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.run import Run

pytestmark = [pytest.mark.gui, pytest.mark.slow, pytest.mark.timeout(1800)]
LEFT = Qt.MouseButton.LeftButton
PATIENCE = 600_000
"""Milliseconds, on a machine that may be busy."""


@dataclass(frozen=True)
class Patient:
    """A run on two visits of one patient, and its files."""

    name: str
    organ: str
    run: Path
    files: tuple[Path, Path]
    steps: tuple[int, ...]

    @property
    def words(self) -> tuple[str, ...]:
        """What can be read only of this patient."""
        return (f"{self.name}-visit", self.organ, self.run.name, *(f"step {step}" for step in self.steps))


def make_patient(folder: Path, name: str, organ: str, steps_per_epoch: int, *, shift: int) -> Patient:
    """Train a few steps on images in which a box is an organ."""
    pairs, files = [], []
    for visit in (1, 2):
        label = np.zeros((24, 24, 24), np.uint8)
        label[4 + shift : 14 + shift, 6:16, 5 + visit : 15 + visit] = 1
        noise = np.random.default_rng(shift + visit).normal(0, 10, label.shape)
        image = Volume.from_array((100 * label + noise).astype(np.int16), spacing=(2, 2, 2 + shift / 10))
        paths = folder / f"{name}-visit{visit}.nii.gz", folder / f"{name}-visit{visit}-label.nii.gz"
        save_volume(image, paths[0])
        save_volume(image.with_array(label), paths[1], integer=True)
        role = "train" if visit == 1 else "validation"
        pairs.append(
            {"case": f"{name}-visit{visit}", "image": str(paths[0]), "label": str(paths[1]), "role": role}
        )
        files.append(paths)
    experiment = Experiment.of(
        {
            "data": {"kind": "pairs", "pairs": pairs, "classes": {organ: 1}},
            "sampling": {"patch_size": [16, 16, 16], "batch_size": 1, "steps_per_epoch": steps_per_epoch},
            "network": {"kind": "unet", "base_features": 4, "levels": 2},
            "loss": "dice_cross_entropy",
            "schedule": {"kind": "constant", "epochs": 3},
            "compute": {"device": "cpu", "precision": "float32", "threads": 1},
        }
    )
    made = RunFolder.create(experiment, folder / f"run-of-{name}")
    assert list(Run(made))[-1].state == "finished"
    steps = tuple(steps_per_epoch * epoch for epoch in (1, 2, 3))
    return Patient(name, organ, made.path, files[0], steps)


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> tuple[Patient, Patient]:
    folder = tmp_path_factory.mktemp("patients")
    return (
        make_patient(folder, "anna", "gallbladder", 7, shift=0),
        make_patient(folder, "berta", "pancreas", 11, shift=4),
    )


class Reader:
    """Somebody who works with the window by mouse and keyboard."""

    def __init__(self, viewer: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.viewer, self.qtbot, self._monkeypatch = viewer, qtbot, monkeypatch
        self.window = viewer.window._qt_window
        self.window.resize(1280, 800)
        self.dock: Any = None
        self.open_dock()

    def open_dock(self) -> None:
        _, self.dock = self.viewer.window.add_plugin_dock_widget("segexplorer")
        self.wait(lambda: self.dock.tabs is not None)
        self.display = self.dock.display

    def close_dock(self) -> None:
        """Press the cross in the dock's title."""
        holder = next(d for d in self.window.findChildren(QDockWidget) if d.isAncestorOf(self.dock))
        self.qtbot.mouseClick(holder.titleBarWidget().close_button, LEFT)
        self.wait(lambda: self.dock.parent() is None)
        self.qtbot.wait(100)

    def wait(self, condition: Any) -> None:
        self.qtbot.waitUntil(condition, timeout=PATIENCE)

    def settle(self) -> None:
        display = self.display
        self.wait(lambda: not (display.busy or display.screen.request or display.reality.making))
        self.wait(lambda: not self.dock.cases.busy)
        self.qtbot.wait(50)

    def tab(self, kind: str) -> None:
        tabs = self.dock.tabs
        at = tabs.indexOf(getattr(self.dock, kind))
        self.qtbot.mouseClick(tabs.tabBar(), LEFT, pos=tabs.tabBar().tabRect(at).center())
        assert tabs.currentIndex() == at

    def click(self, button: Any) -> None:
        parent = button.parentWidget()
        while parent is not None and not hasattr(parent, "ensureWidgetVisible"):
            parent = parent.parentWidget()
        if parent is not None:
            parent.ensureWidgetVisible(button)
        QApplication.processEvents()
        self.qtbot.mouseClick(button, LEFT)

    def choose(self, box: QComboBox, text: str) -> None:
        """Choose an entry with the arrow keys; letters that come slowly would choose one after the other."""
        box.setFocus()
        wanted = next(i for i in range(box.count()) if box.itemText(i).startswith(text))
        while box.currentIndex() != wanted:
            before = box.currentIndex()
            self.qtbot.keyClick(box, Qt.Key.Key_Down if before < wanted else Qt.Key.Key_Up)
            assert box.currentIndex() != before
            self.settle()

    def open_folder(self, folder: Path) -> None:
        """Press "Open run…" and choose a folder in the dialog of the system, which no test can click."""
        self._monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(folder))
        self.tab("run")
        self.click(self.dock.run.buttons.open)
        self.settle()

    def open_run(self, patient: Patient) -> None:
        self.open_folder(patient.run)
        self.wait(lambda: self.display.displayed.run == str(patient.run) and self.display.seen is not None)
        self.settle()

    def open_files(self, patient: Patient) -> None:
        """Open image and label by the menu of the tab Cases, and add them as a case."""
        chosen = [str(path) for path in patient.files]
        self._monkeypatch.setattr(QFileDialog, "getOpenFileNames", lambda *_: (chosen, ""))
        self.tab("cases")
        source = self.dock.cases.layer_source
        before = len(self.viewer.layers)
        opener = next(b for b in source.findChildren(QAbstractButton) if b.text() == "Open")
        opener.menu().actions()[0].trigger()  # a menu that is open would wait for the mouse itself
        self.wait(lambda: len(self.viewer.layers) >= before + 2)
        cases = len(self.dock.cases.cases)
        self.click(source.add_button)
        self.wait(lambda: len(self.dock.cases.cases) == cases + 1)
        self.settle()

    def row(self, table: Any, row: int, column: int = 0) -> None:
        """Click into a row of a table."""
        item = table.model().index(row, column)
        table.scrollTo(item)
        self.qtbot.mouseClick(table.viewport(), LEFT, pos=table.visualRect(item).center())
        self.settle()

    def mouse_over_the_middle(self) -> None:
        canvas = self.viewer.window._qt_viewer.canvas.native
        for way in (0, 2, 4):
            at = QPointF(canvas.rect().center()) + QPointF(way, way)
            where = QPointF(canvas.mapToGlobal(at.toPoint()))
            none = Qt.MouseButton.NoButton
            QApplication.sendEvent(
                canvas,
                QMouseEvent(
                    QMouseEvent.Type.MouseMove, at, where, none, none, Qt.KeyboardModifier.NoModifier
                ),
            )

    def key(self, key: Any) -> None:
        """Press a key over the picture."""
        canvas = self.viewer.window._qt_viewer.canvas.native
        canvas.setFocus()
        self.qtbot.keyClick(canvas, key)
        self.settle()

    # -- what can be read ---------------------------------------------------------------------------------

    def texts(self) -> Iterator[tuple[str, str]]:
        """Everything that can be read or hovered in the window, in every tab of the dock, and where."""
        pages = [self.dock.tabs.widget(i) for i in range(self.dock.tabs.count())]
        for root in (*pages, self.window):
            for widget in root.findChildren(QWidget):
                if widget.isVisibleTo(root):
                    where = f"{type(root).__name__} {type(widget.parent()).__name__} {type(widget).__name__}"
                    yield from ((f"{where} {widget.accessibleName()}", text) for text in _read(widget))
        yield from (("colour bar", text) for text in self.dock.notes.bar.texts)
        yield from (("layer", layer.name) for layer in self.viewer.layers if layer.visible)
        yield "status bar", str(self.viewer.status)
        for pane in self.dock.plots.panes:
            if pane.cursor.isVisible():
                yield "cursor of a plot", f"step {pane.cursor.value():g}"

    def reads(self, *words: str) -> dict[str, str]:
        """Return which of these words can be read, and where; numbers only whole."""
        return {
            word: f"{where}: {text}"
            for where, text in self.texts()
            for word in words
            if re.search(re.escape(word) + (r"\b" if word[-1].isdigit() else ""), text)
        }


def _read(widget: QWidget) -> Iterator[str]:
    yield widget.toolTip()
    if isinstance(widget, (QLabel, QLineEdit, QAbstractButton)):
        yield widget.text()
    elif isinstance(widget, QPlainTextEdit):
        yield widget.toPlainText()
    elif isinstance(widget, QComboBox):
        for place in range(widget.count()):
            yield widget.itemText(place)
    elif isinstance(widget, QAbstractItemView):
        model = widget.model()
        for row in range(0 if model is None else model.rowCount()):
            # the number of columns of a list is private
            cells = itertools.takewhile(
                lambda cell: cell.isValid(), (model.index(row, c) for c in itertools.count())
            )
            for cell in cells:
                for role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ToolTipRole):
                    yield str(cell.data(role) or "")


@pytest.fixture
def reader(viewer: Any, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    made = Reader(viewer, qtbot, monkeypatch)
    yield made
    made.dock.closing()


def look_around(reader: Reader, patient: Patient) -> None:
    """Leave traces everywhere: a class, an overlay, an error, a read-out, an earlier step, the tab Why."""
    dock = reader.dock
    reader.tab("inspect")
    inspect = dock.inspect
    reader.choose(inspect.choices.class_picker, patient.organ)
    reader.choose(inspect.choices.map_picker, inspect.choices.map_picker.itemText(1)[:6])
    if dock.inspect.errors.table.rowCount():
        reader.row(inspect.errors.table, 0)
    reader.key(Qt.Key.Key_N)
    reader.mouse_over_the_middle()
    slider = inspect.history.slider
    slider.setFocus()
    reader.qtbot.keyClick(slider, Qt.Key.Key_Left)
    reader.settle()
    reader.tab("why")
    reader.click(dock.why.look.buttons["asked"])
    reader.settle()
    reader.wait(lambda: reader.display.screen.why_request is None)
    reader.tab("inspect")
    assert set(reader.reads(*patient.words)) >= {
        f"{patient.name}-visit",
        patient.organ,
        patient.run.name,
        f"step {patient.steps[1]}",
    }
    assert inspect.badge.text() == f"{patient.name}-visit2: not trained on"
    assert f"{patient.name}-visit2" in dock.notes.caption.text


def test_of_one_patient_nothing_is_left_beside_the_other(
    reader: Reader, patients: tuple[Patient, Patient]
) -> None:
    anna, berta = patients
    dock = reader.dock
    reader.open_run(anna)
    look_around(reader, anna)
    reader.choose(dock.inspect.choices.case_picker, "anna-visit1")
    assert "training" in dock.inspect.badge.text() and "anna-visit1" in dock.notes.caption.text
    assert "visit2" not in dock.notes.caption.text

    reader.open_run(berta)
    assert reader.reads(*anna.words) == {}
    assert dock.inspect.badge.text() == "berta-visit2: not trained on"
    assert dock.inspect.history.follows and dock.plots.panes[0].cursor.value() == berta.steps[-1]
    assert dock.inspect.choices.class_index is None, "a class of anna is none of berta's"
    look_around(reader, berta)

    # wrong orders: a folder that is no run, then the run that is open already, then the one before
    reader.open_folder(anna.run.parent)
    assert dock.run.why_not.text() and reader.display.displayed.run == str(berta.run)
    assert reader.reads(*anna.words) == {} and reader.display.seen is not None
    reader.open_run(berta)
    reader.open_run(anna)
    assert reader.reads(*berta.words) == {}
    assert not reader.display.screen.mark and reader.display.displayed.error is None


def test_files_of_one_patient_beside_the_run_of_another(
    reader: Reader, patients: tuple[Patient, Patient]
) -> None:
    anna, berta = patients
    dock, viewer = reader.dock, reader.viewer
    reader.open_files(anna)
    own = {layer.name for layer in viewer.layers if not layer.name.endswith(")")}
    assert len(own) == 2
    reader.row(dock.cases.table, 0)
    assert any(layer.visible and "anna" in layer.name for layer in viewer.layers)

    reader.open_run(berta)
    shown = {layer.name for layer in viewer.layers if layer.visible}
    assert not any("anna" in name for name in shown), "the scan of another patient is hidden under the run"
    assert "anna" not in dock.notes.caption.text and "anna" not in dock.inspect.badge.text()
    reader.tab("inspect")
    reader.row(dock.inspect.errors.table, 0)

    # back to the case of the files, by a click into the table of cases
    reader.tab("cases")
    reader.row(dock.cases.table, 0)
    reader.wait(lambda: any(layer.visible and "anna" in layer.name for layer in viewer.layers))
    reader.settle()
    assert not any(layer.visible and "berta" in layer.name for layer in viewer.layers)
    assert "berta" not in dock.notes.caption.text and "berta" not in dock.inspect.badge.text()
    assert dock.inspect.errors.table.rowCount() == 0 or not dock.inspect.errors.isVisibleTo(dock.inspect)
    assert not dock.notes.outlines.lines and not dock.notes.mark.lines
    assert not dock.plots.panes[0].cursor.isVisible()

    # the case goes, the run is opened once more, and the files are still there
    reader.click(dock.cases.remove_button)
    reader.settle()
    reader.open_run(berta)
    assert dock.inspect.badge.text() == "berta-visit2: not trained on"
    assert own <= {layer.name for layer in viewer.layers}


def test_a_dock_that_is_closed_by_its_cross_comes_back_empty(
    reader: Reader, patients: tuple[Patient, Patient]
) -> None:
    anna, berta = patients
    reader.open_run(anna)
    look_around(reader, anna)
    reader.close_dock()
    assert len(reader.viewer.layers) == 0
    seen = "\n".join(text for w in reader.window.findChildren(QWidget) if w.isVisible() for text in _read(w))
    assert not [word for word in anna.words if word in seen]
    reader.open_dock()
    assert reader.reads(*anna.words) == {} and reader.display.seen is None
    # keys and buttons before anything is open
    reader.key(Qt.Key.Key_N)
    reader.qtbot.mouseClick(reader.dock.run.buttons.pause, LEFT)
    assert reader.display.seen is None and not reader.dock.run.buttons.pause.isEnabled()
    reader.open_run(berta)
    assert reader.reads(*anna.words) == {}
    look_around(reader, berta)
    reader.close_dock()
    reader.open_dock()
    reader.open_run(anna)
    assert reader.reads(*berta.words) == {}
