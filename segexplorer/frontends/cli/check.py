"""`segexplorer check`: everything that would stop or spoil a training, found before it starts.

Findings are printed as tables for people, CSV for spreadsheets and JSON for programs; what cropping would cut
off the labels is measured, not estimated.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn, track
from rich.table import Table

import segexplorer
from segexplorer.core.errors import DataError, ExitCode, SegExplorerError, SpecError, disk_error
from segexplorer.frontends.cli.series import selected
from segexplorer.frontends.cli.terminal import print_json, remark, remarks, results

if TYPE_CHECKING:
    from segexplorer.core.events import Role
    from segexplorer.data.case import CaseRef, ClassMap
    from segexplorer.data.checks import CaseFacts, Problem
    from segexplorer.data.datasets.base import DatasetSpec
    from segexplorer.data.transforms import Cropping
    from segexplorer.data.volume import Volume
    from segexplorer.training.experiment import Experiment
    from segexplorer.training.plan import Plan


def check_cropping(cases: Sequence[CaseRef], crop: Cropping, classes: ClassMap) -> list[Problem]:
    """Return a warning for every case whose label sticks out of what its image is cropped to.

    Cases that cannot be read, or whose label is on another grid, are passed over: the table of cases names them.
    """
    from segexplorer.data.checks import check_grids
    from segexplorer.data.transforms.cropping import cut_off

    out = remarks()
    problems = []
    for ref in track(
        cases, "looking at what is cropped", console=out, transient=True, disable=not out.is_terminal
    ):
        try:
            case = ref.open()
            fits = not any(problem.severity == "error" for problem in check_grids(case))
            found = cut_off(case, crop, classes) if fits else None
        except DataError:
            continue
        if found is not None:
            problems.append(found)
    return problems


_COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}
_COLUMNS = 4
"""With more classes than this the table gives their number and sum."""
_NAMED = 4
"""Cases named where one problem concerns many."""


@dataclass(frozen=True)
class Report:
    """Facts of the whole by title, facts of each case, and problems."""

    facts: dict[str, str]
    rows: tuple[CaseFacts, ...]
    classes: ClassMap | None
    problems: tuple[Problem, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The classes, and "ignored" where there are ignored values."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.volumes_ml))

    def of(self, case: str) -> list[Problem]:
        """Return the problems of a case."""
        return [problem for problem in self.problems if problem.case == case]

    def plain(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        cases = [{**_row(row), "problems": [asdict(p) for p in self.of(row.case)]} for row in self.rows]
        return {
            "facts": self.facts,
            "cases": cases,
            "problems": [asdict(problem) for problem in self.problems],
        }


def _row(row: CaseFacts) -> dict[str, Any]:
    return {
        "case": row.case,
        "role": row.role,
        "shape": list(row.shape),
        "spacing_mm": list(row.spacing),
        "orientation": row.orientation,
        "modality": row.modality,
        "intensities": [list(pair) for pair in row.intensities],
        "labelled": row.labelled,
        "volumes_ml": dict(row.volumes_ml),
        "other_values": {str(value): count for value, count in row.other_values.items()},
    }


def write_csv(report: Report, path: Path) -> None:
    """Write a row for every case: its facts, ml of each class, its problems.

    Raises
    ------
    SpecError
        When the file cannot be written.
    """
    try:
        _write_rows(report, path)
    except OSError as error:
        if (known := disk_error(error, path, "written")) and known.exit_code == ExitCode.MACHINE:
            raise known from error
        text = f"The table cannot be written to {path}: {error.strerror or error}."
        raise SpecError(
            text, "Name a file in a folder that is there and may be written, e.g. --csv cases.csv."
        ) from error


def _write_rows(report: Report, path: Path) -> None:
    names = report.columns
    head = ["case", "role", "shape", "spacing_mm", "orientation", "modality", "lowest", "highest", "labelled"]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*head, *(f"{name} ml" for name in names), "other_values", "problems"])
        for row in report.rows:
            ranges = row.intensities
            writer.writerow(
                [
                    row.case,
                    row.role or "",
                    _times(row.shape),
                    " x ".join(f"{mm:.6g}" for mm in row.spacing),
                    row.orientation,
                    row.modality,
                    " ".join(f"{low:.6g}" for low, _ in ranges),
                    " ".join(f"{high:.6g}" for _, high in ranges),
                    "yes" if row.labelled else "no",
                    *(f"{row.volumes_ml[name]:.6g}" if name in row.volumes_ml else "" for name in names),
                    " ".join(map(str, row.other_values)),
                    " ".join(f"{p.severity}: {p.message}" for p in report.of(row.case)),
                ]
            )


def print_report(report: Report) -> None:
    """Print facts, the table of cases, and the problems, equal ones together."""
    out = results()
    width = max(len(name) for name in report.facts)
    for name, text in report.facts.items():
        out.print(f"{name:{width}}  {escape(str(text))}", soft_wrap=True)
    if report.rows:
        out.print(_table(report))
    _print_problems(out, report.problems)


def _table(report: Report) -> Table:
    names = report.columns
    single = len(names) <= _COLUMNS
    roles = any(row.role for row in report.rows)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("case", overflow="fold")
    if roles:
        table.add_column("role")
    for title in ("voxels", "spacing mm", "axes", "values"):
        table.add_column(title, overflow="fold")
    for title in [f"{escape(name)} ml" for name in names] if single else ["classes", "sum ml"]:
        table.add_column(title, justify="right", overflow="fold")
    table.add_column("problems", overflow="fold")
    for row in report.rows:
        counts = [p for p in report.of(row.case) if p.severity != "note"]
        codes = dict.fromkeys(f"[{_COLOURS[p.severity]}]{p.code}[/]" for p in counts)
        table.add_row(
            escape(row.case),
            *([row.role or ""] if roles else []),
            _times(row.shape),
            _spacing(row.spacing),
            row.orientation,
            "\n".join(f"{low:.4g} .. {high:.4g}" for low, high in row.intensities),
            *_volumes(row, names, single=single),
            " ".join(codes),
        )
    return table


def _volumes(row: CaseFacts, names: Sequence[str], *, single: bool) -> list[str]:
    if not row.labelled:
        return ["no label", *[""] * (len(names) - 1)] if single else ["no label", ""]
    if single:
        return [f"{row.volumes_ml[name]:.4g}" if name in row.volumes_ml else "" for name in names]
    present = [ml for ml in row.volumes_ml.values() if ml > 0]
    return [f"{len(present)} of {len(names)}", f"{sum(present):.4g}"]


def _print_problems(out: Console, problems: Sequence[Problem]) -> None:
    if not problems:
        out.print("No problems found.")
    groups: dict[tuple[str, str, str], list[str]] = {}
    for problem in problems:
        groups.setdefault((problem.severity, problem.message, problem.remedy), []).append(problem.case)
    for severity in _COLOURS:
        for (level, message, remedy), cases in groups.items():
            if level != severity:
                continue
            named = [case for case in cases if case]
            where = ", ".join(named[:_NAMED]) + (
                f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
            )
            text = escape(f"{where}: {message} {remedy}".removeprefix(": ").rstrip())
            out.print(f"[{_COLOURS[severity]}]{severity}[/]  {text}", soft_wrap=True)


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _spacing(spacing: Sequence[float]) -> str:
    return " x ".join(f"{mm:.3g}" for mm in spacing)


YAML = (".yaml", ".yml")


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
        Whether some steps of the experiment are taken, to measure how long it will train.
    """
    if not path.exists():
        raise SpecError(f"There is no {path}.", "Check the path.")
    from segexplorer.data.datasets.tables import TABLES

    suffix = path.suffix.lower()
    if suffix in YAML:  # an experiment, though a list of cases may be YAML, too
        report = check_experiment(path, settings or {}, quick=quick, timed=timed)
    elif timed:
        raise SpecError(
            f"{path} is no experiment, so there is nothing to time.", "Name an experiment file (YAML)."
        )
    elif select is None and label is None and (kind or path.is_dir() or suffix in (*TABLES, ".json")):
        report = check_folder(path, kind, settings or {}, quick=quick)
    else:
        report = check_image(path, label, select)
    if csv is not None:
        write_csv(report, csv)
    if as_json:
        print_json(report.plain())
    else:
        print_report(report)
    wrong = any(problem.severity == "error" for problem in report.problems)
    return ExitCode.MISTAKE if wrong else ExitCode.DONE


def check_experiment(
    path: Path, settings: Mapping[str, Any], *, quick: bool = False, timed: bool = False
) -> Report:
    """Check an experiment file and the data it names; everything that is missing is named at once."""
    from segexplorer.data.checks import Problem
    from segexplorer.data.splits import assign_roles
    from segexplorer.training.experiment import Experiment
    from segexplorer.training.weights import check_weights

    experiment = Experiment.from_yaml(path, settings, on_note=remark)
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
        plan = resolve(experiment, all_cases=True)
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
    from segexplorer.viewmodels.status import sentence

    with remarks().status("Timing some steps"):
        timing = measure(plan)
    assert timing is not None  # only a caller's wish to stop gives none
    return sentence(timing)


def check_folder(path: Path, kind: str, settings: Mapping[str, Any], *, quick: bool) -> Report:
    """Check a data set, its layout found by looking unless `kind` names it."""
    from segexplorer.data.datasets import recognise

    if kind:
        return check_data(segexplorer.open_dataset(path, kind=kind, **settings), None, quick=quick)
    if path.is_dir() and is_series(path):
        return check_image(path, None)
    seen = recognise(path)
    data = segexplorer.open_dataset(seen.folder, kind=seen.kind, **{**seen.settings, **settings})
    report = check_data(data, None, quick=quick)
    facts = {"Folder" if path.is_dir() else "File": str(seen.folder), "Recognised by": seen.reason}
    return Report({**facts, **report.facts}, report.rows, report.classes, report.problems)


def check_image(path: Path, label: Path | None, select: str | None = None) -> Report:
    """Check an image, and its label if one is named."""
    from segexplorer.data.checks import check_case
    from segexplorer.data.grid import describe

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
    from segexplorer.data.checks import Problem, survey

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
    from segexplorer.data.case import ClassMap, present_values
    from segexplorer.data.checks import Problem

    try:
        return data.class_map(), []
    except DataError as error:
        # what is wrong with one case is said in its row
        own = any(error.message.startswith(f"{ref.id}: ") for ref in cases)
        problems = [] if own else [Problem("error", "classes", error.message, error.remedy)]
    try:
        return ClassMap.from_classes(present_values(cases, skip=True), data.other_labels), problems
    except DataError:  # no label holds anything: the same sentence as before
        return ClassMap((), ()), problems


def _class_text(classes: ClassMap) -> str:
    groups = [*zip(classes.names, classes.values, strict=True)]
    if classes.ignored:
        groups.append(("ignored", classes.ignored))
    text = ", ".join(f"{name} ({', '.join(map(str, values))})" for name, values in groups) or "none"
    return f"{text}; they overlap" if classes.overlapping else text


def _label_text(label: Volume) -> str:
    """Return the values of a label with their volumes, e.g. "1: 3.2 ml, 2: 0.5 ml"."""
    import numpy as np

    from segexplorer.data.case import integer_labels
    from segexplorer.data.volume import value_counts

    names = label.label_names
    counts = value_counts(integer_labels(np.asarray(label.array)))
    parts = [
        f"{value}{f' ({names[value]})' if value in names else ''}: {count * label.voxel_ml:.3g} ml"
        for value, count in counts.items()
        if value != 0
    ]
    return ", ".join(parts) or "nothing marked"


def is_series(path: Path) -> bool:
    """Whether a folder holds DICOM slices directly: an image, not a data set."""
    from segexplorer.data.formats.registry import format_of

    first: Sequence[Path] = [p for p in sorted(path.iterdir()) if p.is_file() and p.name[0] != "."][:3]
    return bool(first) and all((found := format_of(p)) and found.name == "DICOM" for p in first)
