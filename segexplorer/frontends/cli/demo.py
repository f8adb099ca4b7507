"""`segexplorer demo`: the window with training running; on a virtual screen where there is none."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from segexplorer.frontends.cli.screen import has_screen, run_with_screen
from segexplorer.frontends.viewing import require_window


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
            "segexplorer.frontends.cli",
            "demo",
            "--headless",
            "--output",
            str(output),
        ]
        return run_with_screen(command)
    report = importlib.import_module("segexplorer.frontends.napari.demo").run_demo(output, headless)
    if headless:
        _tell(report, output)
    return 0


def _tell(report: Any, output: Path) -> None:
    """Print what a headless demo reached and left."""
    if report.last is not None:
        scores = ", ".join(f"{name} {dice:.3f}" for name, dice in report.last.class_dice.items())
        print(f"Held-out phantoms, whole volumes: mean Dice {report.last.mean_dice:.3f} ({scores}).")
    if report.end is not None and report.end.state == "stopped":
        print(f"The run was stopped after step {report.end.step}, since it takes too long on this machine.")
    print(f"{len(report.pictures)} pictures and the curves are in {output}; the run is {report.run_folder}.")
