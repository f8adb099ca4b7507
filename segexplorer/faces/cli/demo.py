"""`segexplorer demo`: the window with training running; on a virtual screen where there is none."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from segexplorer.faces.cli.screen import has_screen, run_with_screen
from segexplorer.faces.viewing import require_window


def run_demo(output: Path, *, headless: bool) -> int:
    """Run the demo and return its exit code.

    Without a screen it runs in a child process that has a virtual one, since Qt reads the display as it
    starts; there it is headless: it stops by itself and leaves pictures.
    """
    require_window()
    if not has_screen():
        command = [
            sys.executable,
            "-m",
            "segexplorer.faces.cli",
            "demo",
            "--headless",
            "--output",
            str(output),
        ]
        return run_with_screen(command)
    importlib.import_module("segexplorer.faces.napari.demo").run_demo(output, headless)
    return 0
