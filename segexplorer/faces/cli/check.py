"""`segexplorer check`: what would stand in the way of training, found before it starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import segexplorer
from segexplorer.core.errors import DataError, SegExplorerError, SpecError
from segexplorer.faces.cli.check_cropping import check_cropping
from segexplorer.faces.cli.check_report import Report, print_report, write_csv
from segexplorer.faces.cli.output import print_json, remarks
from segexplorer.faces.cli.series import selected

if TYPE_CHECKING:
    from segexplorer.core.types import Role
    from segexplorer.data.case import CaseRef, ClassMap
    from segexplorer.data.checks import Problem
    from segexplorer.data.datasets.base import DatasetSpec
    from segexplorer.data.survey import CaseFacts
    from segexplorer.data.volume import Volume
    from segexplorer.training.experiment import Experiment
    from segexplorer.training.plan import Plan

YAML = (".yaml", ".yml")
LISTS = (".csv", ".tsv", ".json")


def run_check(
    path: Path,
    label: Path | None,
    *,
    quick: bool,
    as_json: bool,
    csv: Path | None = None,
    kind: str = "",
    settings: Mapping[str, Any] | None = None,
    select: str | None = None,
    timed: bool = False,
) -> int:
    """Check an experiment file, a data set or an image; print what was found, return the exit code.

    Parameters
    ----------
    quick
        Whether only headers are read.
    csv
        Where the table of cases is written, too.
    kind, settings
        Of a data set: its layout where it should not be found out by looking, and settings of that kind. Of an
        experiment: values set in it, as for `train`.
    select
        Of an image: the part of a file or folder with several, see `open_volume`.
    timed
        Whether some steps of the experiment are taken, to tell how long it will train.
    """
    if not path.exists():
        raise SpecError(f"There is no {path}.", "Check the path.")
    if path.suffix.lower() in YAML:
        report = check_experiment(path, settings or {}, quick=quick, timed=timed)
    elif timed:
        raise SpecError(
            f"{path} is no experiment, so there is nothing to time.", "Name an experiment file (YAML)."
        )
    elif select is None and label is None and (kind or path.is_dir() or path.suffix.lower() in LISTS):
        report = check_folder(path, kind, settings or {}, quick=quick)
    else:
        report = check_image(path, label, select)
    if csv is not None:
        write_csv(report, csv)
    if as_json:
        print_json(report.plain())
    else:
        print_report(report)
    return 2 if any(problem.severity == "error" for problem in report.problems) else 0


def check_experiment(
    path: Path, settings: Mapping[str, Any], *, quick: bool = False, timed: bool = False
) -> Report:
    """Check an experiment file and the data it names; all that is missing is told at once."""
    from segexplorer.data.checks import Problem
    from segexplorer.data.splits import assign_roles
    from segexplorer.training.experiment import Experiment
    from segexplorer.training.weights import check_weights

    experiment = Experiment.from_yaml(path, settings)
    choices = {
        "Experiment": path.name,
        "Network": experiment.network.display_name,
        "Loss": experiment.loss.display_name,
    }
    problems = [*check_weights(experiment.network_weights)]
    try:
        cases = experiment.data.examine().cases
    except DataError as error:
        problems.append(Problem("error", "no_data", error.message, error.remedy))
        return Report({**choices, "Data": experiment.data.display_name}, (), None, tuple(problems))
    roles = None
    try:
        roles = assign_roles(cases, experiment.split, experiment.seed)
    except (DataError, SpecError) as error:
        problems.append(Problem("error", "split", error.message, error.remedy))
    left_out = frozenset(experiment.split.excluded)
    report = check_data(experiment.data, roles, quick=quick, left_out=left_out)
    problems += report.problems
    crop = experiment.preprocessing.crop
    if crop.to != "none":
        choices["Cropping"] = (
            f"to {'the body' if crop.to == 'body' else 'what is not 0'}, {crop.margin:g} mm around"
        )
    if crop.to != "none" and not quick and report.classes is not None:
        kept = [ref for ref in cases if ref.id not in left_out]
        problems += check_cropping(kept, crop, report.classes)
    problems += _matrix_problems(path, settings)
    facts = {**choices, **report.facts}
    if (timed or not quick) and not any(problem.severity == "error" for problem in problems):
        plan, amiss = _planned(experiment)
        problems += amiss
        if timed and plan is not None:
            facts["Time"] = _time(plan)
    return Report(facts, report.rows, report.classes, tuple(dict.fromkeys(problems)))


def _planned(experiment: Experiment) -> tuple[Plan | None, list[Problem]]:
    """Plan as `train` does, and return what the plan says beside what the data do."""
    from segexplorer.data.checks import Problem
    from segexplorer.training.plan import resolve

    try:
        plan = resolve(experiment)
    except SegExplorerError as error:
        return None, [Problem("error", "plan", error.message, error.remedy)]
    return plan, list(plan.problems)


def _matrix_problems(path: Path, settings: Mapping[str, Any]) -> list[Problem]:
    """Return what keeps a run of the file's matrix from starting."""
    from segexplorer.data.checks import Problem
    from segexplorer.study.matrix import expand

    try:
        expand(path, settings, keep=False)
    except SegExplorerError as error:
        return [Problem("error", "matrix", error.message, error.remedy)]
    return []


def _time(plan: Plan) -> str:
    from segexplorer.training.timing import measure
    from segexplorer.viewmodels.timing import sentence

    with remarks().status("Timing some steps"):
        timing = measure(plan)
    assert timing is not None  # only a caller's wish to stop gives none
    return sentence(timing)


def check_folder(path: Path, kind: str, settings: Mapping[str, Any], *, quick: bool) -> Report:
    """Check a data set, its layout found by looking unless `kind` names it."""
    from segexplorer.data.datasets import recognise

    if kind:
        return check_data(segexplorer.open_dataset(path, kind=kind, **settings), None, quick=quick)
    if _is_series(path):
        return check_image(path, None)
    seen = recognise(path)
    data = segexplorer.open_dataset(seen.folder, kind=seen.kind, **{**seen.settings, **settings})
    report = check_data(data, None, quick=quick)
    facts = {"Folder": str(seen.folder), "Recognised by": seen.reason}
    return Report({**facts, **report.facts}, report.rows, report.classes, report.problems)


def check_image(path: Path, label: Path | None, select: str | None = None) -> Report:
    """Check an image, and its label if one is named."""
    from segexplorer.data.checks import check_case
    from segexplorer.data.verdict import describe

    case = segexplorer.open_case(selected(path, select), label, name=path.name if select else "")
    volume = case.images[0]
    low, high = float(volume.array.min()), float(volume.array.max())
    facts = {
        "File": path.name,
        **describe(volume).facts(),
        "Modality": volume.modality,
        "Values": f"{low:.5g} .. {high:.5g}",
    }
    if case.label is not None:
        facts["Label"] = _label_text(case.label)
    return Report(facts, (), None, tuple(check_case(case, None)))


def check_data(
    data: DatasetSpec,
    roles: Mapping[str, Role] | None,
    *,
    quick: bool,
    left_out: frozenset[str] = frozenset(),
) -> Report:
    """Check the cases of a data set but those left out, their voxels too unless `quick`."""
    from segexplorer.data.checks import Problem
    from segexplorer.data.survey import survey

    listing = data.examine()
    if left_out:
        listing = replace(
            listing,
            cases=[ref for ref in listing.cases if ref.id not in left_out],
            problems=[problem for problem in listing.problems if problem.case not in left_out],
        )
    classes, amiss = _classes(data, listing.cases)
    facts = {
        "Data": data.display_name,
        "Cases": str(len(listing.cases)),
        "Patients": str(len({ref.patient or ref.id for ref in listing.cases})),
        "Classes": _class_text(classes),
    }
    if roles is not None:
        counts = {role: list(roles.values()).count(role) for role in dict.fromkeys(roles.values())}
        facts["Split"] = ", ".join(f"{count} {role}" for role, count in counts.items())
    out = remarks()
    bar = Progress(
        TextColumn("reading cases"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=out,
        transient=True,
        disable=not out.is_terminal,
    )
    with bar:
        task = bar.add_task("reading cases", total=len(listing.cases))

        def looked(_: CaseFacts) -> None:
            bar.advance(task)

        rows, across = survey(listing.cases, classes, roles, voxels=not quick, looked=looked)
    problems = [*listing.problems, *amiss, *(p for row in rows for p in row.problems), *across]
    if rows and not any(row.labelled for row in rows):
        text = "No case has a label."
        problems.append(Problem("error", "no_label", text, "Training needs some; say where they are."))
    return Report(facts, tuple(rows), classes, tuple(dict.fromkeys(problems)))


def _classes(data: DatasetSpec, cases: Sequence[CaseRef]) -> tuple[ClassMap, list[Problem]]:
    """Return the classes of a data set, of its readable labels if need be; and why it names none."""
    from segexplorer.data.case import ClassMap
    from segexplorer.data.checks import Problem
    from segexplorer.data.label_values import present_values

    try:
        return ClassMap.from_classes(data.class_values(), data.unselected), []
    except DataError as error:
        # what is wrong with one case is told in its row
        own = any(error.message.startswith(f"{ref.id}: ") for ref in cases)
        problems = [] if own else [Problem("error", "classes", error.message, error.remedy)]
    try:
        return ClassMap.from_classes(present_values(cases, skip=True), data.unselected), problems
    except DataError:  # no label holds anything: the same sentence as before
        return ClassMap((), ()), problems


def _class_text(classes: ClassMap) -> str:
    groups = [*zip(classes.names, classes.values, strict=True)]
    if classes.ignored:
        groups.append(("ignored", classes.ignored))
    return ", ".join(f"{name} ({', '.join(map(str, values))})" for name, values in groups) or "none"


def _label_text(label: Volume) -> str:
    """Return the values of a label with their volumes, e.g. "1: 3.2 ml, 2: 0.5 ml"."""
    import numpy as np

    from segexplorer.data.case import whole_numbers
    from segexplorer.data.counting import value_counts

    names = label.label_names
    counts = value_counts(whole_numbers(np.asarray(label.array)))
    parts = [
        f"{value}{f' ({names[value]})' if value in names else ''}: {count * label.voxel_ml:.3g} ml"
        for value, count in counts.items()
        if value != 0
    ]
    return ", ".join(parts) or "nothing marked"


def _is_series(path: Path) -> bool:
    """Whether a folder holds DICOM slices directly: an image, not a data set."""
    from segexplorer.data.readers import format_of

    first: Sequence[Path] = [p for p in sorted(path.iterdir()) if p.is_file() and p.name[0] != "."][:3]
    return bool(first) and all((found := format_of(p)) and found.name == "DICOM" for p in first)
