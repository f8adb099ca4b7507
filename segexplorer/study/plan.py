"""A study: the experiments of a matrix in one folder, and which of them can be compared once they are trained.

Each experiment is trained once, and resumed where it was interrupted. Several processes may train one study: a run
belongs to the process that has the lease of its folder (`training.ownership`). The forecast is made before anything
is trained, since hours of runs that cannot be compared are expensive.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from segexplorer.core.atomic_files import atomic_write
from segexplorer.core.errors import SpecError
from segexplorer.core.spec import differences
from segexplorer.study.fairness import ALLOWANCES, Allowance, planned_incompatibility
from segexplorer.study.matrix import Point, expand
from segexplorer.study.runs import identity, labels_of, value_text
from segexplorer.training.experiment import Experiment
from segexplorer.training.history import open_run
from segexplorer.training.run_files import EVENTS, EXPERIMENT, Name, RunFile, read_run_file
from segexplorer.training.run_status import read_status

FOLDS_FILE = "folds.json"
STUDY_FILE = "study.json"
"""In a study's folder: its runs in the order of the matrix, and which of them have the file's own settings."""
Todo = Literal["new", "resume", "held", "failed", "done"]
"""What is left to do for a run. Another process holds it ("held"), or it failed there since this was planned."""
SHOWN_DIFFERENCES = 3


@dataclass(frozen=True)
class PlannedRun:
    """One experiment of a study, its run folder, and what is left to do.

    Attributes
    ----------
    written
        Bytes of its event log when that was found out.
    """

    point: Point
    folder: Path
    todo: Todo
    written: int = 0

    def now(self) -> PlannedRun:
        """Return what is left to do by now: other processes may train runs of the same study.

        Raises
        ------
        SpecError
            When the folder holds the run of another experiment by now.
        """
        found = planned_run(self.point, self.folder)
        failed = found.todo == "resume" and found.written > self.written
        if failed and open_run(self.folder).state == "failed":
            return replace(found, todo="failed")
        return found


@dataclass(frozen=True)
class StudyPlan:
    """What a study will train.

    Attributes
    ----------
    runs
        In the order of the matrix.
    reference
        Run names of the file's own settings, without its matrix; of the matrix's first where it leaves those out.
    others
        Names of run folders in the study's folder that are not of this matrix.
    """

    folder: Path
    runs: tuple[PlannedRun, ...]
    reference: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def points(self) -> list[Point]:
        """The experiments."""
        return [run.point for run in self.runs]

    def count(self, todo: str) -> int:
        """Return how many runs are at this."""
        return sum(run.todo == todo for run in self.runs)

    def save(self) -> None:
        """Write `study.json`, by which `compare` knows order and reference."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {"runs": [run.folder.name for run in self.runs], "reference": list(self.reference)}
        atomic_write(self.folder / STUDY_FILE, json.dumps(content, indent=1).encode())


def plan_study(
    file: Path, output: Path, settings: Mapping[str, Any] | None = None, *, keep: bool = False
) -> StudyPlan:
    """Return the experiments of a file with their run folders in `output`, and what is left to do for each.

    A run that is there under another name, from a matrix with fewer or other axes, is known by its experiment.

    Parameters
    ----------
    keep
        Write the assignment of folds; without it nothing is written.

    Raises
    ------
    SpecError
        From the file, or when a folder holds the run of another experiment.
    """
    points = expand(file, settings, output / FOLDS_FILE, keep=keep)
    there = {p.parent: open_run(p.parent).experiment for p in sorted(output.glob(f"*/{EXPERIMENT}"))}
    runs = tuple(_planned(point, output / point.name, there) for point in points)
    own = identity(Experiment.from_yaml(file, settings))
    reference = [r for r in runs if identity(r.point.experiment) == own] or [
        r for r in runs if identity(r.point.experiment) == identity(runs[0].point.experiment)
    ]
    used = {run.folder for run in runs}
    return StudyPlan(
        output,
        runs,
        tuple(run.folder.name for run in reference),
        tuple(folder.name for folder in there if folder not in used),
    )


def planned_run(point: Point, folder: Path) -> PlannedRun:
    """Return what is left to do for one experiment, whose run is in `folder` if it was begun.

    Raises
    ------
    SpecError
        When the folder holds the run of another experiment.
    """
    made = (folder / EXPERIMENT).exists()
    return _planned(point, folder, {folder: open_run(folder).experiment} if made else {})


def study_runs(folder: Path) -> list[str]:
    """Return the names of a study's runs in the order of its matrix; none before it was launched."""
    return list(_study(folder).runs)


def _planned(point: Point, folder: Path, there: Mapping[Path, Experiment]) -> PlannedRun:
    if folder in there:
        found = differences(_unchanged(there[folder]), _unchanged(point.experiment))
        if found:
            texts = [
                f"{path or 'it'} is {value_text(one)} there and {value_text(two)} in the file"
                for path, (one, two) in found.items()
            ]
            more = f", and {len(texts) - SHOWN_DIFFERENCES} more" if len(texts) > SHOWN_DIFFERENCES else ""
            raise SpecError(
                f"{folder} holds the run of another experiment: {'; '.join(texts[:SHOWN_DIFFERENCES])}{more}.",
                "Choose another --output for the changed file, or put the setting into its matrix.",
            )
    else:
        same = (f for f, e in there.items() if _unchanged(e) == _unchanged(point.experiment))
        folder = next(same, folder)
    if folder not in there:
        return PlannedRun(point, folder, "new")
    record = open_run(folder)
    if record.holder is not None:
        return PlannedRun(point, folder, "held")
    log = folder / EVENTS
    written = log.stat().st_size if log.exists() else 0
    return PlannedRun(point, folder, "done" if record.state == "finished" else "resume", written)


def _unchanged(experiment: Experiment) -> Experiment:
    compute = experiment.compute.model_copy(update={"devices": 1})  # the same run, however many train it
    return experiment.model_copy(update={"changes": (), "sinks": (), "compute": compute})


# ---- runs of a study and of other folders


@dataclass(frozen=True)
class FoundRuns:
    """Run folders to compare.

    Attributes
    ----------
    reference
        A run of the condition that a study is about; None where no study says so.
    left_out
        Names of runs inside study folders that are not finished.
    """

    folders: tuple[Path, ...]
    reference: Path | None
    left_out: tuple[str, ...]


def runs_of(paths: Iterable[Path], *, unfinished: bool = False) -> FoundRuns:
    """Return run folders as they are, and the run folders inside study folders, each once however it is spelled.

    Those of a study are in the order of its matrix; those that its matrix does not name come after them, and
    those of a folder without a matrix are in the order in which they were started.

    Parameters
    ----------
    unfinished
        Take runs inside folders that have not finished, too. Runs named one by one are always taken.

    Raises
    ------
    SpecError
        For a folder that neither is a run nor contains one.
    """
    folders: list[Path] = []
    references: list[Path] = []
    left_out: list[str] = []
    for path in paths:
        inside = {p.parent for p in path.glob(f"*/{EXPERIMENT}")} if path.is_dir() else set()
        if (path / EXPERIMENT).exists() or not path.is_dir():
            folders.append(path)
        elif inside:
            study = _study(path)
            order = [path / name for name in study.runs]
            later = sorted(inside - set(order), key=lambda f: (_started(f), f.name))
            for folder in [*(f for f in order if f in inside), *later]:
                if unfinished or open_run(folder).state == "finished":
                    folders.append(folder)
                else:
                    left_out.append(folder.name)
            references += [path / name for name in study.reference]
        else:
            raise SpecError(
                f"{path} is not a run folder and contains none.", "Name run folders, or a study's folder."
            )
    distinct: dict[Path, Path] = {}
    for folder in folders:
        distinct.setdefault(folder.resolve(), folder)
    reference = next((distinct[r.resolve()] for r in references if r.resolve() in distinct), None)
    return FoundRuns(tuple(distinct.values()), reference, tuple(dict.fromkeys(left_out)))


class _StudyFile(RunFile):
    """`study.json`: names of run folders."""

    runs: list[Name] = Field(default_factory=list)
    reference: list[Name] = Field(default_factory=list)


def _study(folder: Path) -> _StudyFile:
    return read_run_file(folder, STUDY_FILE, _StudyFile) or _StudyFile()


def _started(folder: Path) -> float:
    return read_status(folder).started or math.inf


# ---- what can be compared


@dataclass(frozen=True)
class PlannedCondition:
    """The runs of a study that differ only in seed and fold."""

    label: str
    experiment: Experiment
    runs: tuple[str, ...]


@dataclass(frozen=True)
class Forecast:
    """Groups inside which conditions will be compared, and why others will not.

    Attributes
    ----------
    groups
        Conditions by group; one of a single condition will have means and no comparison.
    refusals
        Sentences: which two conditions are in different groups, and why.
    allowances
        What would have to be allowed to compare across groups.
    """

    groups: tuple[tuple[PlannedCondition, ...], ...]
    refusals: tuple[str, ...]
    allowances: tuple[Allowance, ...]

    def sentences(self, reference: str = "") -> list[str]:
        """Return what will be compared with what, and what will not."""
        lines = []
        for group in self.groups:
            labels = [c.label for c in group]
            base = reference if reference in labels else labels[0]
            others = [label for label in labels if label != base]
            between = "; " if any(", " in label for label in others) else ", "
            lines.append(
                f"Will compare {between.join(others)} with {base}."
                if others
                else f"{base} has nothing to be compared with: its mean and spread will be shown."
            )
        lines += [f"Will not compare: {refusal}" for refusal in self.refusals]
        if self.allowances:
            words = " ".join(f"--allow {word}" for word in self.allowances)
            lines.append(f"Groups are compared each by itself; across them only with {words}.")
        return lines


def forecast(points: Sequence[Point], allow: Collection[Allowance] = ()) -> Forecast:
    """Return what the experiments of a matrix will allow to compare."""
    groups: list[list[PlannedCondition]] = []
    refusals: list[str] = []
    needed: set[Allowance] = set()
    for condition in planned_conditions(points):
        obstacles = [planned_incompatibility(group[0], condition, allow) for group in groups]
        home = next((g for g, (why, _) in zip(groups, obstacles, strict=True) if not why), None)
        if home is not None:
            home.append(condition)
            continue
        if obstacles:
            why, what = obstacles[0]
            refusals.append(why)
            if what is not None:
                needed.add(what)
        groups.append([condition])
    return Forecast(
        tuple(tuple(group) for group in groups), tuple(refusals), tuple(a for a in ALLOWANCES if a in needed)
    )


def planned_conditions(points: Sequence[Point]) -> list[PlannedCondition]:
    """Gather experiments that differ only in seed and fold, named as the comparison will name them."""
    members: dict[str, list[Point]] = {}
    for point in points:
        members.setdefault(identity(point.experiment), []).append(point)
    groups = list(members.values())
    labels = labels_of([g[0].experiment for g in groups], [Path(g[0].name) for g in groups])
    return [
        PlannedCondition(label, group[0].experiment, tuple(p.name for p in group))
        for label, group in zip(labels, groups, strict=True)
    ]
