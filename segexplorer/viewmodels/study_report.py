"""What a report of a study shows: the honest comparison of its conditions, and what each of its runs was.

Where cases may not be named, the runs that were read are replaced by de-identified copies before they are compared,
so that neither a label of a condition nor a remark can hold a name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from segexplorer.core.colours import CLASSES, DISTINCT
from segexplorer.core.errors import MissingExtraError, SegExplorerError, SpecError
from segexplorer.core.events import Planned, ValidationDone
from segexplorer.metrics import ALL_METRICS
from segexplorer.metrics.formatting import value_text
from segexplorer.study.compare import GroupedComparison, compare_runs
from segexplorer.study.comparison import Comparison
from segexplorer.study.plan import runs_of
from segexplorer.study.plots import PLOTS, STYLE, content
from segexplorer.study.render import title
from segexplorer.study.runs import RunScores, grouped, read_run
from segexplorer.training.deidentification import Pseudonyms, deidentify_experiment, own_badges
from segexplorer.training.doctor import diagnose_run
from segexplorer.training.history import open_run
from segexplorer.training.scores import DEFAULT_WEIGHTS
from segexplorer.training.step_columns import events_of
from segexplorer.viewmodels.curves import PLOTS as CURVES
from segexplorer.viewmodels.methods import methods
from segexplorer.viewmodels.report import Chart, Curve, OnProgress, ShownRun
from segexplorer.viewmodels.tables import Table, differences_table, means_table


@dataclass(frozen=True)
class Figure:
    """A plot of a comparison as SVG."""

    title: str
    svg: bytes


@dataclass(frozen=True)
class ComparisonSection:
    """One group of conditions that can be compared: its tables, plots and what belongs beside them."""

    title: str
    tables: tuple[Table, ...]
    figures: tuple[Figure, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class StudyReport:
    """Everything that a page about a study shows."""

    title: str
    headline: str
    groups: tuple[ComparisonSection, ...]
    runs: Table
    charts: tuple[Chart, ...]
    methods: str
    provenance: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    named: bool


def is_study(folder: Path) -> bool:
    """Whether a folder holds runs and is none itself."""
    try:
        found = runs_of([folder], unfinished=True).folders
    except SpecError:
        return False
    return found != (folder,)


def study_report(
    folder: str | Path, *, named: bool = False, on_progress: OnProgress = lambda _: None
) -> StudyReport:
    """Gather the report of a study: the finished runs of a folder, compared on their validation cases.

    Raises
    ------
    SpecError
        When the folder holds no finished run.
    DataError
        When a run is damaged.
    """
    place = Path(folder)
    found = runs_of([place])
    if not found.folders:
        raise SpecError(f"No run of {place} is finished yet.", "Train the study further, then report it.")
    on_progress(f"reading {len(found.folders)} runs")
    names = Pseudonyms()
    read = [read_run(one) for one in found.folders]
    shown = [one if named else _unnamed(one, f"run_{n:03d}", names) for n, one in enumerate(read, start=1)]
    reference: str | Path = ""
    if found.reference is not None:
        reference = next(
            s.folder
            for s, r in zip(shown, read, strict=True)
            if r.folder.resolve() == found.reference.resolve()
        )
    on_progress("comparing")
    compared = compare_runs(shown, reference=reference)
    labels = {run.folder: c.label for c in grouped(shown) for run in c.runs}
    notes = [f"Left out, not finished: {len(found.left_out)} runs."] if found.left_out else []
    sections, why = _sections(compared, on_progress)
    return StudyReport(
        title=place.resolve().name if named else "Study",
        headline=_headline(compared, shown),
        groups=sections,
        runs=_runs_table(read, shown, labels, on_progress),
        charts=_charts(read, shown, labels),
        methods=_methods(read, compared, shown, named=named),
        provenance=_provenance(place, read, named=named),
        notes=(*notes, *why, *compared.notes),
        named=named,
    )


def _unnamed(run: RunScores, name: str, names: Pseudonyms) -> RunScores:
    """Return a run without names of cases, folders and texts of the user's."""
    return replace(
        run,
        folder=Path(name),
        experiment=deidentify_experiment(run.experiment, names),
        roles={names.case(case): role for case, role in run.roles.items()},
        fingerprints={names.case(case): value for case, value in run.fingerprints.items()},
        scores=tuple(
            replace(
                s, case=names.case(s.case), class_name=names.class_(s.class_name), badge=own_badges(s.badge)
            )
            for s in run.scores
        ),
        badge=own_badges(run.badge),
    )


def _headline(compared: GroupedComparison, runs: Sequence[RunScores]) -> str:
    conditions = sum(len(c.conditions) for c in compared.comparisons) + len(compared.alone)
    seeds = sorted({run.experiment.seed for run in runs})
    said = ", ".join(map(str, seeds[:10]))
    text = f"{len(runs)} runs of {conditions} {'condition' if conditions == 1 else 'conditions'}"
    text += f", {'seed' if len(seeds) == 1 else 'seeds'} {said}."
    marked = [
        f"{d.condition} against {d.reference}: {ALL_METRICS[d.metric].head} {d.mean:+.3f}"
        for c in compared.comparisons
        for d in c.differences_of("dice")
        if d.marked
    ]
    if marked:
        return f"{text} Differences with a star: {'; '.join(marked)}."
    return f"{text} No difference in Dice has a star." if compared.comparisons else text


def _sections(
    compared: GroupedComparison, on_progress: OnProgress
) -> tuple[tuple[ComparisonSection, ...], list[str]]:
    sections, why = [], []
    for number, comparison in enumerate(compared.comparisons, start=1):
        several = len(compared.comparisons) > 1
        name = comparison.class_names[-1]
        on_progress("drawing plots")
        try:
            figures = tuple(_figures(comparison))
        except MissingExtraError as error:
            figures = ()
            why.append(f"Plots of the comparison are not shown. {error}")
        sections.append(
            ComparisonSection(
                f"Comparison {number}" if several else "Comparison",
                tuple(
                    table
                    for of in dict.fromkeys((name, *comparison.class_names))
                    for table in (means_table(comparison, of), differences_table(comparison, of))
                ),
                figures,
                comparison.notes,
            )
        )
    return tuple(sections), why


def _figures(comparison: Comparison) -> list[Figure]:
    """Return every plot of the first metric, and the differences of the others.

    Raises
    ------
    MissingExtraError
        Without matplotlib.
    """
    from segexplorer.core.errors import require

    matplotlib = require("matplotlib", "plots", "A plot of a comparison")
    found = []
    with matplotlib.rc_context(dict(STYLE)):
        for place, metric in enumerate(comparison.metrics):
            for name, draw in PLOTS.items():
                if place and name != "differences":
                    continue
                figure = draw(comparison, metric)
                if figure is not None:
                    about = f"{title(metric)}: {name.replace('_', ' ')}"
                    found.append(Figure(about, content(figure, "svg")))
    return found


def _runs_table(
    read: Sequence[RunScores],
    shown: Sequence[RunScores],
    labels: Mapping[Path, str],
    on_progress: OnProgress,
) -> Table:
    rows = []
    for real, run in zip(read, shown, strict=True):
        on_progress(f"asking the doctor about {run.name}")
        try:
            problems = str(len(diagnose_run(real.folder).problems))
        except SegExplorerError:
            problems = "not checked"
        dice = [s.metrics.get("dice", math.nan) for s in run.scores]
        finite = [d for d in dice if math.isfinite(d)]
        rows.append(
            (
                run.name,
                labels.get(run.folder, ""),
                str(run.experiment.seed),
                str(run.steps),
                str(run.scored_step),
                value_text(float(np.mean(finite)) if finite else math.nan, "dice"),
                f"{run.seconds / 60:.1f}",
                problems,
            )
        )
    heads = ("Run", "Condition", "Seed", "Steps", "Scored at", "Mean Dice", "min", "Problems (doctor)")
    return Table(heads, tuple(rows), "Every run of the study.", words=2)


def _charts(
    read: Sequence[RunScores], shown: Sequence[RunScores], labels: Mapping[Path, str]
) -> tuple[Chart, ...]:
    """Return the mean Dice of every run over its steps; runs of one condition have one colour."""
    order = list(dict.fromkeys(labels.values()))
    curves = []
    for real, run in zip(read, shown, strict=True):
        label = labels.get(run.folder, "")
        done = events_of(open_run(real.folder).events(), ValidationDone)
        if done and label:
            colour = CLASSES[order.index(label) % DISTINCT]
            steps = np.array([e.step for e in done], float)
            values = np.array([e.mean_dice for e in done], float)
            curves.append(Curve(f"{label}, seed {run.experiment.seed}", colour, False, steps, values))
    plot = next(p for p in CURVES if p.key == "dice")
    return (Chart(replace(plot, title="Mean Dice of every run"), tuple(curves)),) if curves else ()


def _methods(
    read: Sequence[RunScores], compared: GroupedComparison, shown: Sequence[RunScores], *, named: bool
) -> str:
    first = ShownRun(read[0].folder, named=named)
    planned = next(reversed(events_of(first.events(), Planned)), None)
    seeds = tuple(sorted({run.experiment.seed for run in shown}))
    base = methods(
        first.experiment,
        first.attempts(),
        planned.summary if planned is not None else {},
        recorded=first.recorded,
        chosen_step=read[0].scored_step,
        seeds=seeds,
    )
    if not compared.comparisons:
        return base
    comparison = compared.comparisons[0]
    conditions = ", ".join(c.label for c in comparison.conditions)
    return (
        f"{base} Conditions that were compared, each with the other settings alike: {conditions} (the above "
        f"describes {comparison.conditions[0].label}). The {comparison.checkpoint} weights of every run were "
        f"scored on the {comparison.split} cases{_flattery(comparison)}. Differences from {comparison.reference} "
        "are paired by case; intervals and two-sided p values take cases and seeds as crossed random factors, "
        "with seeds nested in the condition and Satterthwaite's degrees of freedom, adjusted by Holm's method "
        "within each metric. A difference is marked only where the design's rate of false alarms was measured to "
        "be at most 5 %."
    )


def _flattery(comparison: Comparison) -> str:
    chosen = comparison.checkpoint == "best" and comparison.split == "validation"
    return ", which also chose them, so that figures flatter every condition" if chosen else ""


def _provenance(place: Path, read: Sequence[RunScores], *, named: bool) -> tuple[tuple[str, str], ...]:
    first = ShownRun(read[0].folder, named=named)
    rows = [("Study folder", str(place))] if named else []
    for attempt in first.attempts()[-1:]:
        versions = ", ".join(f"{name} {version}" for name, version in attempt.versions.items())
        extra = attempt.model_extra or {}
        said = "; ".join(
            str(p) for p in (extra.get("device"), attempt.precision, attempt.platform, versions) if p
        )
        rows.append(("First run", said))
    rows.append(("Weights", DEFAULT_WEIGHTS))
    return tuple(rows)
