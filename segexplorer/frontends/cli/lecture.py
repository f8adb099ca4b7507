"""`segexplorer lecture`: a lecture in the window, over its recorded run; without a name, what there is."""

from __future__ import annotations

import importlib

from rich.progress import BarColumn, Progress

from segexplorer.frontends.cli.terminal import remark, remarks, results, whole
from segexplorer.frontends.viewing import require_window
from segexplorer.training.lecture_runs import Making, Recording
from segexplorer.viewmodels.lectures import LECTURES, lecture_named


def run_lecture(name: str | None, *, make: bool) -> int:
    """List the lectures, open one, or only make its recorded run (of all without a name); return the exit code."""
    chosen = None if name is None else lecture_named(name)
    if make:
        for found in LECTURES.values() if chosen is None else [chosen]:
            _make(found.recording)
    elif chosen is None:
        out = results()
        for found in LECTURES.values():
            out.print(f"{found.name}: {found.title}. {found.about}", markup=False, soft_wrap=True)
        remark("Open one with: segexplorer lecture NAME")
    else:
        require_window()
        importlib.import_module("segexplorer.frontends.napari.lectures").show_lecture(chosen.name)
    return 0


def _make(recording: Recording) -> None:
    """Make a recorded run with a bar over its steps; Ctrl-C leaves nothing."""
    console = remarks()
    columns = (whole("{task.description}"), BarColumn(bar_width=None))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(recording.name)

        def report(making: Making) -> None:
            bar.update(task, description=making.sentence(), completed=making.done, total=making.total)

        folder = recording.make(report)
    remark(f"{recording.name}: {folder}")
