"""Look at the window: every tab and view at three sizes in both themes, on scans of your own.

    python -m segexplorer.frontends.cli.screen python scripts/make_screens.py OUT \\
        --ct IMAGE LABEL --mr IMAGE LABEL [--sizes 1024x768 ...] [--themes dark light] [--stages many ...]

The stages are one session, as somebody has it who does things in the wrong order: nothing is open; a CT with all
its labels; a run on it, in every view; then an MRI after it; at last 104 classes with names of 60 letters.
A picture is called `STAGE-TAB-SIZE-THEME.png`. `fit.txt` lists what is clipped, or wider than the tab that it is
in; it should be empty.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import napari
import numpy as np
from qtpy.QtCore import QEvent, QItemSelectionModel
from qtpy.QtWidgets import (
    QAbstractButton,
    QAbstractSpinBox,
    QApplication,
    QLabel,
    QScrollArea,
    QStyle,
    QStyleOptionSpinBox,
    QWidget,
)

from segexplorer.data.io import open_volume
from segexplorer.frontends.napari.dock import panels
from segexplorer.frontends.napari.layers import layer_arguments
from segexplorer.frontends.napari.workbench import LAYOUTS
from segexplorer.training.experiment import Experiment
from segexplorer.viewmodels.layer_images import label_picture

SIZES = ("1024x768", "1280x800", "1920x1080")
THEMES = ("dark", "light")
STAGES = ("empty", "ct", "run", "views", "mr", "many")
TABS = tuple(kind for kind, _ in panels())
SETTLE_S = 0.6
"""How long a picture waits for workers to bring what belongs to it."""
SETTINGS: dict[str, Any] = {
    "network": {"kind": "unet", "base_features": 4, "levels": 3},
    "loss": "squared_dice_ce_adaptive_region",
    "sampling": {"patch_size": [32, 32, 16], "batch_size": 1, "steps_per_epoch": 4},
    "schedule": {"kind": "polynomial", "epochs": 400},
    "validation": {"every_epochs": 2, "overlap": 0.0},
    "compute": {"device": "cpu", "precision": "float32", "threads": 1},
}
KEPT = 5
"""Classes of CT and MRI that are trained."""
MANY = 104
LONG = "left superior segment of the lower lobe of the lung, part"
"""With a number behind it, a name of 60 letters."""


def wait(until: Callable[[], object], seconds: float = 900) -> None:
    """Let the window live until something is so."""
    end = time.monotonic() + seconds
    while not until():
        if time.monotonic() > end:
            raise TimeoutError(f"The window did not come to the next stage within {seconds:g} s.")
        QApplication.processEvents()
        # outside of exec nothing else deletes what was let go of
        QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        time.sleep(0.01)


def settle(seconds: float = SETTLE_S) -> None:
    """Let the window live for a while."""
    end = time.monotonic() + seconds
    wait(lambda: time.monotonic() > end)


def misfits(tab: QWidget) -> list[str]:
    """Return what is clipped in a tab, or wider than the place that it scrolls in."""
    found = []
    for area in tab.findChildren(QScrollArea):
        if area.isVisible() and area.widget() is not None:
            over = area.widget().minimumSizeHint().width() - area.viewport().width()
            if over > 0:
                found.append(f"{over} px wider than its place: {widest(area.widget())}")
    for widget in tab.findChildren(QWidget):
        if not widget.isVisible():
            continue
        text = ""
        if isinstance(widget, QLabel) and not widget.wordWrap() and not widget.pixmap():
            text, need = widget.text(), widget.sizeHint().width()
        elif isinstance(widget, QAbstractButton) and not widget.property("whole"):
            text, need = widget.text(), widget.minimumSizeHint().width()
        elif isinstance(widget, QAbstractSpinBox):
            text = widget.text()
            option = QStyleOptionSpinBox()
            widget.initStyleOption(option)
            edit = widget.style().subControlRect(
                QStyle.ComplexControl.CC_SpinBox, option, QStyle.SubControl.SC_SpinBoxEditField, widget
            )
            need = widget.width() - edit.width() + widget.fontMetrics().horizontalAdvance(text) + 2
        if text and need > widget.width() + 1:
            found.append(f"{type(widget).__name__} {text!r}: {widget.width()} px of {need}")
    return found


def widest(widget: QWidget) -> str:
    """Return the innermost widget that asks for the width."""
    children = [c for c in widget.children() if isinstance(c, QWidget) and c.isVisible()]
    most = max(children, key=lambda child: child.minimumSizeHint().width(), default=None)
    if most is None or most.minimumSizeHint().width() < widget.minimumSizeHint().width() - 60:
        label = widget.accessibleName() or getattr(widget, "text", lambda: "")()
        return f"{type(widget).__name__} {label!r} ({widget.minimumSizeHint().width()} px)"
    return widest(most)


class Photographer:
    """Takes the pictures of one window.

    Parameters
    ----------
    viewer, dock
        napari's viewer and our dock in it.
    folder
        Where the pictures go.
    sizes, themes
        Of every picture.
    """

    def __init__(self, viewer: Any, dock: Any, folder: Path, sizes: list[str], themes: list[str]) -> None:
        self.viewer, self.dock, self.folder, self.sizes, self.themes = viewer, dock, folder, sizes, themes
        self.taken = 0
        self.misfits: list[str] = []

    def take(self, stage: str, *tabs: str) -> None:
        """Take every tab at every size in every theme."""
        window = self.dock.window()
        for size in self.sizes:
            width, height = (int(part) for part in size.split("x"))
            window.resize(width, height)
            settle(0.1)
            if window.width() > width or window.height() > height:
                got = f"{window.width()}x{window.height()}"
                self.misfits.append(f"{stage}, {size}: the window cannot be smaller than {got}")
            for theme in self.themes:
                self.viewer.theme = theme
                for tab in tabs or TABS:
                    self.dock.show_tab(tab)
                    settle()
                    name = f"{stage}-{tab}-{size}-{theme}"
                    window.grab().save(str(self.folder / f"{name}.png"))
                    self.taken += 1
                    self.misfits += [f"{name}: {found}" for found in misfits(self.dock.tabs.currentWidget())]


def add_case(viewer: Any, dock: Any, image: Path, label: Path) -> None:
    """Open image and label as layers and add the pair, as a user does in the tab Cases."""
    before = len(dock.cases.cases)
    viewer.open([str(image), str(label)], plugin="segexplorer")
    dock.cases.source_box.setCurrentIndex(0)
    wait(dock.cases.layer_source.add_button.isEnabled)
    dock.cases.layer_source.add_button.click()
    wait(lambda: len(dock.cases.cases) > before and not dock.cases.busy)
    dock.cases.show_case(dock.cases.cases[-1])
    wait(lambda: not dock.cases.busy)


def keep_first_classes(dock: Any) -> None:
    """Keep the first classes of the table, so that training is quick."""
    classes = dock.cases.class_table
    for row in range(min(KEPT, classes.table.rowCount())):
        kind = QItemSelectionModel.SelectionFlag
        classes.table.selectionModel().select(classes.table.model().index(row, 0), kind.Select | kind.Rows)
    classes.keep_button.click()
    settle()


def begin_run(dock: Any) -> None:
    """Train on the one case that is there until its first prediction is shown, and hold."""
    dock.cases.one_case.setChecked(True)
    wait(dock.run.buttons.start.isEnabled)
    dock.run.buttons.start.click()
    dock.display.issue("toggle", "errors", True)  # off since its layer was deleted
    wait(lambda: dock.inspect.seen is not None)
    wait(lambda: {"errors"} <= set(dock.layers.keys))
    dock.run.buttons.pause.click()
    wait(lambda: dock.bridge.run.state == "paused")


def look_at_an_error(dock: Any) -> None:
    """Choose a class, its balance, and the first error of the list."""
    dock.display.issue("choose_class", 1)
    dock.display.issue("toggle", "balance", True)
    wait(lambda: dock.display.screen.request is None and not dock.display.busy)
    dock.display.look_at_next_error()
    settle(2)


def end_run(dock: Any) -> None:
    """Stop the run and wait until it is saved."""
    dock.run.buttons.stop.click()
    wait(lambda: not dock.bridge.busy)


def many_labels(viewer: Any, image: Path) -> None:
    """Open an image with 104 made-up labels, boxes of one size."""
    scan = open_volume(image)
    index = [np.arange(n) * 5 // n for n in scan.shape]
    boxes = 1 + index[0][:, None, None] * 25 + index[1][None, :, None] * 5 + index[2][None, None, :]
    boxes[boxes > MANY] = 0
    viewer.open([str(image)], plugin="segexplorer")
    picture = label_picture(scan.with_array(boxes.astype(np.uint8)), f"{MANY} boxes")
    viewer.add_labels(picture.data, **layer_arguments(picture))


def play(viewer: Any, dock: Any, photographer: Photographer, wanted: argparse.Namespace, runs: Path) -> None:
    """Go through the stages."""
    stages = wanted.stages
    dock.run.set_folder(runs)
    if "empty" in stages:
        photographer.take("empty")
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        Experiment.of({"data": {"kind": "phantom"}, **SETTINGS}).save(Path(file.name + "l"))
        dock.experiment.form.set(Experiment.from_yaml(Path(file.name + "l")))
        Path(file.name + "l").unlink()
    add_case(viewer, dock, *wanted.ct)
    if "ct" in stages:
        photographer.take("ct")
    if "run" in stages or "views" in stages:
        keep_first_classes(dock)
        begin_run(dock)
        viewer.dims.set_current_step(0, viewer.dims.nsteps[0] // 2)
        if "run" in stages:
            photographer.take("run", "run", "inspect")
        if "views" in stages:
            for layout in LAYOUTS:
                dock.view_menu.layouts[layout].trigger()
                settle(2)
                photographer.take(f"views-{layout}", "inspect")
            dock.view_menu.layouts["one"].trigger()
            viewer.dims.ndisplay = 3
            settle(2)
            photographer.take("views-3D", "inspect")
            viewer.dims.ndisplay = 2
            look_at_an_error(dock)
            photographer.take("views-error", "inspect")
            dock.presenter.toggle()
            settle(2)
            photographer.take("views-presenter", "inspect")
            dock.presenter.toggle()
        end_run(dock)
    if "mr" in stages:
        add_case(viewer, dock, *wanted.mr)
        photographer.take("mr-after-ct", "cases", "run")
        dock.cases.table.selectRow(0)
        dock.cases.remove_button.click()
        settle()
        photographer.take("mr", "cases", "experiment")
        keep_first_classes(dock)
        begin_run(dock)
        photographer.take("mr-run", "run", "inspect")
        end_run(dock)
    if "many" in stages:
        while dock.cases.cases:
            dock.cases.remove_button.click()
        viewer.layers.clear()
        many_labels(viewer, wanted.ct[0])
        wait(dock.cases.layer_source.add_button.isEnabled)
        dock.cases.layer_source.add_button.click()
        wait(lambda: dock.cases.cases and not dock.cases.busy)
        dock.cases.class_table.set_classes({f"{LONG} {n:03}": (n,) for n in range(1, MANY + 1)})
        photographer.take("many", "cases")
        begin_run(dock)
        photographer.take("many-run", "run", "inspect")
        dock.view_menu.layouts["four"].trigger()
        look_at_an_error(dock)
        photographer.take("many-four-error", "inspect")
        dock.view_menu.layouts["one"].trigger()
        end_run(dock)


def main() -> None:
    """Open the window and take the pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder for the pictures; made if it is not there")
    for name in ("ct", "mr"):
        parser.add_argument(f"--{name}", nargs=2, type=Path, metavar=("IMAGE", "LABEL"), required=True)
    parser.add_argument("--sizes", nargs="+", default=list(SIZES))
    parser.add_argument("--themes", nargs="+", default=list(THEMES), choices=THEMES)
    parser.add_argument("--stages", nargs="+", default=list(STAGES), choices=STAGES)
    wanted = parser.parse_args()
    warnings.filterwarnings("ignore", category=DeprecationWarning)  # napari would show those of libraries
    wanted.out.mkdir(parents=True, exist_ok=True)
    viewer = napari.Viewer(title="Segmentation Explorer")
    _, dock = viewer.window.add_plugin_dock_widget("segexplorer")
    wait(lambda: dock.tabs is not None)
    photographer = Photographer(viewer, dock, wanted.out, wanted.sizes, wanted.themes)
    try:
        with tempfile.TemporaryDirectory() as runs:
            play(viewer, dock, photographer, wanted, Path(runs))
            viewer.close()
    finally:
        (wanted.out / "fit.txt").write_text("".join(f"{line}\n" for line in photographer.misfits))
    sys.stdout.write(f"{photographer.taken} pictures and fit.txt in {wanted.out}\n")


if __name__ == "__main__":
    main()
