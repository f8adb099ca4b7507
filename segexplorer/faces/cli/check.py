"""`segexplorer check`: what would stand in the way of training, found before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.progress import track

import segexplorer
from segexplorer.core.errors import SegExplorerError, SpecError
from segexplorer.faces.cli.output import print_json, remarks, results

if TYPE_CHECKING:
    from segexplorer.core.types import Role
    from segexplorer.data.case import CaseRef, ClassMap
    from segexplorer.data.checks import Problem
    from segexplorer.data.datasets.base import DatasetSpec

YAML = (".yaml", ".yml")


def run_check(path: Path, label: Path | None, *, quick: bool, as_json: bool) -> int:
    """Check an experiment file, a data set folder or an image; print what was found, return the exit code."""
    if not path.exists():
        raise SpecError(f"There is no {path}.", "Check the path.")
    if path.suffix.lower() in YAML:
        facts, problems = check_experiment(path, quick=quick)
    elif path.is_dir() and label is None:
        facts, problems = _check_data(segexplorer.open_dataset(path), None, quick=quick)
    else:
        facts, problems = check_image(path, label)
    if as_json:
        print_json({"facts": facts, "problems": [asdict(problem) for problem in problems]})
    else:
        _print(facts, problems)
    return 2 if any(problem.severity == "error" for problem in problems) else 0


def check_experiment(path: Path, *, quick: bool) -> tuple[dict[str, str], list[Problem]]:
    """Check an experiment file and the data it names."""
    from segexplorer.data.splits import assign_roles
    from segexplorer.training.experiment import Experiment

    experiment = Experiment.from_yaml(path)
    cases = experiment.data.cases()
    roles = assign_roles(cases, experiment.split, experiment.seed)
    facts, problems = _check_data(experiment.data, roles, quick=quick)
    choices = {
        "Experiment": path.name,
        "Network": experiment.network.display_name,
        "Loss": experiment.loss.display_name,
    }
    return {**choices, **facts}, problems


def check_image(path: Path, label: Path | None) -> tuple[dict[str, str], list[Problem]]:
    """Check an image, and its label if one is named."""
    from segexplorer.data.checks import check_case

    case = segexplorer.open_case(path, label)
    volume = case.images[0]
    facts = {
        "File": path.name,
        "Size": " x ".join(str(n) for n in volume.shape) + " voxels",
        "Spacing": " x ".join(f"{mm:.4g}" for mm in volume.spacing) + " mm",
        "Orientation": volume.orientation,
        "Modality": volume.modality,
    }
    return facts, list(check_case(case, None))


def _check_data(
    data: DatasetSpec, roles: dict[str, Role] | None, *, quick: bool
) -> tuple[dict[str, str], list[Problem]]:
    from segexplorer.data.case import ClassMap
    from segexplorer.data.checks import check_dataset

    cases = data.cases()
    values = data.class_values()
    classes = ClassMap.from_classes(values, data.unselected)
    facts = {
        "Data": data.display_name,
        "Cases": str(len(cases)),
        "Classes": ", ".join(values) or "none named",
    }
    if roles is not None:
        counts = {role: list(roles.values()).count(role) for role in dict.fromkeys(roles.values())}
        facts["Split"] = ", ".join(f"{count} {role}" for role, count in counts.items())
    problems = list(check_dataset(cases, roles or {}, classes))
    if not quick:
        problems += _check_cases(cases, classes)
    return facts, list(dict.fromkeys(problems))


def _check_cases(cases: Sequence[CaseRef], classes: ClassMap) -> list[Problem]:
    from segexplorer.data.checks import Problem, check_case

    out = remarks()
    found: list[Problem] = []
    for ref in track(cases, "reading cases", console=out, transient=True, disable=not out.is_terminal):
        try:
            found += check_case(ref.open(), classes)
        except SegExplorerError as error:
            found.append(
                Problem(
                    severity="error",
                    code="unreadable",
                    message=error.message,
                    remedy=error.remedy,
                    case=ref.id,
                )
            )
    return found


def _print(facts: dict[str, Any], problems: Sequence[Problem]) -> None:
    out = results()
    width = max(len(name) for name in facts)
    for name, text in facts.items():
        out.print(f"{name:{width}}  {escape(str(text))}", soft_wrap=True)
    for problem in problems:
        colour = "red" if problem.severity == "error" else "yellow"
        where = f"{problem.case}: " if problem.case else ""
        text = escape(f"{where}{problem.message} {problem.remedy}".rstrip())
        out.print(f"[{colour}]{problem.severity}[/{colour}]  {text}", soft_wrap=True)
    if not problems:
        out.print("No problems found.")
