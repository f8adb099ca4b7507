"""Take the pictures of docs/ from the real window: `make pictures` (some six minutes on two cores).

The demo plays itself and photographs every moment of a run on the built-in phantom (`segexplorer demo --headless`).
This keeps those that the pages show, cut to the dock where the canvas is still empty, and adds the dialog that
chooses a loss. It needs a screen; `python -m segexplorer.frontends.cli.screen` gives it a virtual one.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

import napari
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


def main() -> None:
    """Play the demo and write the pictures."""
    warnings.filterwarnings("ignore", category=DeprecationWarning)  # napari would show those of libraries
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        report = run_demo(Path(folder), headless=True)
        keep_scenes(Path(folder))
    napari.Viewer(show=False).close()
    photograph_picker()
    names = [name for name, _ in SCENES.values()]
    sys.stdout.write(
        f"{len(report.pictures)} scenes played; docs/pictures has {', '.join(names)}, choose-loss.png.\n"
    )


if __name__ == "__main__":
    main()
