"""Take the pictures of docs/ from the real window: `make pictures` (6 to 20 minutes on two cores).

The demo plays itself and photographs every moment of a run on the built-in phantom (`segexplorer demo --headless`).
This keeps those that the pages show, cut to the dock where the canvas is still empty, and adds the dialog that
chooses a loss, and what the loss asked for while the lesion was missed. It needs a screen; `python -m
segexplorer.frontends.cli.screen` gives it a virtual one. `make_pictures.py --why RUN` takes the last picture alone,
from a recorded run with a class "lesion".
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import napari
import numpy as np
from make_screens import settle, wait
from napari.qt import get_stylesheet
from PIL import Image
from qtpy.QtWidgets import QApplication

from segexplorer import losses
from segexplorer.frontends.forms.picker import PickerDialog
from segexplorer.frontends.napari.demo import run_demo

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "pictures"
DOCK = (880, 22, 1280, 560)
"""Left, top, right and bottom of the dock in the demo's window, in pixels."""

Box = tuple[int, int, int, int]
SCENES: dict[str, tuple[str, Box | None]] = {
    "1-cases": ("cases.png", DOCK),
    "2-experiment": ("experiment.png", DOCK),
    "4-first-steps": ("run.png", None),
    "5-errors-early": ("errors-early.png", None),
    "6-balance-kidneys": ("window.png", None),
    "10-inspect-finished": ("errors-late.png", None),
}
"""Scene of the demo -> name of the picture and the part of the window that it shows."""


def keep_scenes(played: Path) -> None:
    """Copy the pictures of a demo that the pages show."""
    for scene, (name, box) in SCENES.items():
        with Image.open(played / f"{scene}.png") as whole:
            picture = whole.convert("RGB")
            (picture.crop(box) if box else picture).save(PICTURES / name, optimize=True)


def photograph_picker() -> None:
    """Show the dialog that chooses a loss, searching for "tversky", in napari's dark theme."""
    app = QApplication.instance()
    assert isinstance(app, QApplication)
    dialog = PickerDialog(losses.registry, "kind:adaptive_region_tversky")
    dialog.setStyleSheet(get_stylesheet("dark"))
    dialog.search.setText("tversky")
    dialog.show()
    for _ in range(20):
        app.processEvents()
    dialog.grab().save(str(PICTURES / "choose-loss.png"))
    dialog.close()


def photograph_why(run: Path) -> None:
    """Show what the loss asks for in the lesion of the demo's run, in the last prediction that misses it."""
    viewer = napari.Viewer()
    _, dock = viewer.window.add_plugin_dock_widget("segexplorer")
    wait(lambda: dock.tabs is not None)
    viewer.window._qt_window.resize(1280, 800)
    dock.run.open_run(run)
    display = dock.display
    wait(lambda: display.seen is not None and not display.busy)
    dock.show_tab("why")
    display.issue("choose_class", display.screen.class_names.index("lesion") + 1)
    scores = {
        step: next(s.metrics["dice"] for s in done.scores if s.class_name == "lesion")
        for step, done in display.reality.run.validations.items()
    }
    missed = [step for step, dice in scores.items() if not dice > 0]
    display.issue("scrub", max(missed, default=min(scores)))
    dock.why.look.buttons["asked"].click()
    wait(lambda: display.screen.answer is not None and not display.busy)
    explanation, lesion = display.screen.answer.explanation, display.screen.answer.class_index
    voxels = np.argwhere(explanation.labels == lesion)
    x, y, z = (float(v) for v in (explanation.affine @ np.append(voxels[len(voxels) // 2], 1))[:3])
    viewer.dims.set_point(range(3), (z, y, x))
    display.ask_at((z, y, x))
    wait(lambda: not display.busy)
    settle(2)
    viewer.window._qt_window.grab().save(str(PICTURES / "why.png"))
    viewer.close()


def main() -> None:
    """Play the demo and write the pictures, or one of a recorded run."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--why", type=Path, metavar="RUN", help="take why.png alone, from this run")
    given = parser.parse_args()
    warnings.filterwarnings("ignore", category=DeprecationWarning)  # napari would show those of libraries
    PICTURES.mkdir(exist_ok=True)
    if given.why is not None:
        photograph_why(given.why)
        sys.stdout.write("docs/pictures has why.png.\n")
        return
    with tempfile.TemporaryDirectory() as folder:
        report = run_demo(Path(folder), headless=True)
        keep_scenes(Path(folder))
        run = next(path for path in Path(folder).iterdir() if path.is_dir())
        # the demo has ended Qt's event loop, after which Qt lays out no second window of the same process
        subprocess.run([sys.executable, __file__, "--why", str(run)], check=True)
    photograph_picker()
    names = [name for name, _ in SCENES.values()]
    sys.stdout.write(
        f"{len(report.pictures)} scenes played; docs/pictures has {', '.join(names)}, choose-loss.png, why.png.\n"
    )


if __name__ == "__main__":
    main()
