"""A study: the experiments of a matrix in one folder, each trained once, resumed where it was broken off."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from segexplorer.core.errors import SpecError
from segexplorer.study.matrix import Point, expand
from segexplorer.training.experiment import Experiment
from segexplorer.training.history import open_run
from segexplorer.training.sinks import EXPERIMENT

FOLDS_FILE = "folds.json"
Todo = Literal["new", "resume", "done"]


def plan_study(
    file: Path, output: Path, settings: Mapping[str, Any] | None = None
) -> list[tuple[Point, Path, Todo]]:
    """Return the experiments of a file with their run folders in `output`, and what is left to do for each.

    Raises
    ------
    SpecError
        From the file, or when a folder holds the run of another experiment.
    """
    points = expand(file, settings, output / FOLDS_FILE)
    return [(point, output / point.name, _todo(point, output / point.name)) for point in points]


def _todo(point: Point, folder: Path) -> Todo:
    if not (folder / EXPERIMENT).exists():
        return "new"
    record = open_run(folder)
    if _without_changes(record.experiment) != _without_changes(point.experiment):
        raise SpecError(
            f"{folder} holds the run of another experiment.", "Choose another --output for the changed file."
        )
    return "done" if record.state == "finished" else "resume"


def _without_changes(experiment: Experiment) -> dict[str, Any]:
    return {k: v for k, v in experiment.plain().items() if k != "changes"}


def runs_of(paths: Iterable[Path]) -> list[Path]:
    """Return run folders as they are, and the run folders inside study folders, in order of their names.

    Raises
    ------
    SpecError
        For a folder that is no run and holds none.
    """
    found: list[Path] = []
    for path in paths:
        inside = sorted(p.parent for p in path.glob(f"*/{EXPERIMENT}")) if path.is_dir() else []
        if (path / EXPERIMENT).exists() or not path.is_dir():
            found.append(path)
        elif inside:
            found.extend(inside)
        else:
            raise SpecError(
                f"{path} is no run folder and holds none.", "Name run folders, or a study's folder."
            )
    return found
