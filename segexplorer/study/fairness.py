"""What rules out an honest comparison, and the notes that belong beside one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal, Protocol

from segexplorer.core.errors import DataError, SpecError
from segexplorer.core.spec import differences
from segexplorer.study.runs import Condition, RunScores, label_values, setting_differences, value_text
from segexplorer.training.experiment import Experiment

Allowance = Literal["network", "split", "steps", "batch", "unfinished"]
ALLOWANCES: tuple[Allowance, ...] = ("network", "split", "steps", "batch", "unfinished")


class Labelled(Protocol):
    """A condition, trained or only planned."""

    @property
    def label(self) -> str:
        """Its name in tables."""

    @property
    def experiment(self) -> Experiment:
        """Its experiment, of any of its runs."""


def check_fairness(conditions: Sequence[Condition], allowed: Collection[Allowance] = ()) -> list[str]:
    """Refuse what cannot be compared; return notes on what differs and was allowed, or differs besides the loss.

    Parameters
    ----------
    allowed
        Differences that are intended: "network"; "steps"; "batch" (patches per step); "split" (then only cases that
        validate on both sides are paired, so neither trained on them); "unfinished" (runs that were stopped).

    Raises
    ------
    DataError
        When the same case holds other data in another run, or the classes or their label values differ.
    SpecError
        When networks, splits, steps or batches differ, or a run did not finish, and that is not allowed.
    """
    runs = [run for condition in conditions for run in condition.runs]
    if other_data := _other_data(runs):
        raise DataError(*other_data)
    notes = []
    for what, sentence in {"unfinished": _unfinished(runs), **_incompatibilities(conditions)}.items():
        if sentence and what not in allowed:
            raise SpecError(sentence, f"Compare runs alike in this, or allow it: --allow {what}.")
        if sentence:
            notes.append(f"Allowed: {sentence}")
    return notes + _other_differences(conditions) + _run_notes(runs)


def incompatibility(
    conditions: Sequence[Condition], allowed: Collection[Allowance] = ()
) -> tuple[str, Allowance | None]:
    """Return why conditions cannot be compared, "" where they can, and what could be allowed, if anything."""
    if other_data := _other_data([run for condition in conditions for run in condition.runs]):
        return other_data[0], None
    for what, sentence in _incompatibilities(conditions).items():
        if sentence and what not in allowed:
            return sentence, what
    return "", None


def planned_incompatibility(
    one: Labelled, other: Labelled, allowed: Collection[Allowance] = ()
) -> tuple[str, Allowance | None]:
    """Return what the experiments alone say of `incompatibility`, before anything is trained."""
    if other_labels := _other_labels(one.experiment, other.experiment, one.label, other.label):
        return other_labels, None
    planned: dict[Allowance, str] = {
        "network": _networks([one, other]),
        "steps": _planned_steps(one, other),
        "batch": _batches([one, other]),
    }
    for what, sentence in planned.items():
        if sentence and what not in allowed:
            return sentence, what
    return "", None


def _incompatibilities(conditions: Sequence[Condition]) -> dict[Allowance, str]:
    return {
        "network": _networks(conditions),
        "split": _splits(conditions),
        "steps": _steps([run for condition in conditions for run in condition.runs]),
        "batch": _batches(conditions),
    }


def _other_data(runs: Sequence[RunScores]) -> tuple[str, str] | None:
    first = runs[0]
    classes = {score.class_name for score in first.scores}
    for run in runs[1:]:
        other = {score.class_name for score in run.scores}
        if other != classes:
            return (
                f"{first.name} has the classes {', '.join(sorted(classes))}; "
                f"{run.name} has {', '.join(sorted(other))}.",
                "Only runs on the same classes can be compared.",
            )
        if other_labels := _other_labels(first.experiment, run.experiment, first.name, run.name):
            return other_labels, "Only runs that learned and scored the same label values can be compared."
        shared = run.fingerprints.keys() & first.fingerprints.keys()
        changed = sorted(c for c in shared if run.fingerprints[c] != first.fingerprints[c])
        if changed:
            return (
                f"The case {changed[0]} holds other data in {run.name} than in {first.name}.",
                "Only runs on the same files can be compared.",
            )
    return None


def _other_labels(one: Experiment, other: Experiment, name: str, other_name: str) -> str:
    """Say that a class has other label values; classes that a data set itself names are not known here."""
    values, other_values = label_values(one.data), label_values(other.data)
    for class_name in values.keys() | other_values.keys() if values and other_values else ():
        mine, theirs = (each.get(class_name, ()) for each in (values, other_values))
        if mine != theirs:
            return (
                f"The class {class_name} is label {value_text(mine)} in {name} and {value_text(theirs)} "
                f"in {other_name}."
            )
    rules = one.data.other_labels, other.data.other_labels
    if rules[0] != rules[1]:
        return (
            f"Labels of no class (data.other_labels) are {rules[0]} in {name} and {rules[1]} in {other_name}."
        )
    return ""


def _unfinished(runs: Sequence[RunScores]) -> str:
    names = [f"{run.name} ({run.state})" for run in runs if run.state != "finished"]
    return f"Not finished: {', '.join(names)}." if names else ""


def _networks(conditions: Sequence[Labelled]) -> str:
    first = conditions[0]
    for other in conditions[1:]:
        found = differences(first.experiment.network, other.experiment.network)
        if found:
            path, (one, two) = next(iter(found.items()))
            if not path:
                one, two = (c.experiment.network.plain()["kind"] for c in (first, other))
            setting = f"network.{path}" if path else "network"
            return (
                f"The networks differ: {setting} is {value_text(one)} in {first.label} and {value_text(two)} "
                f"in {other.label}."
            )
    return ""


def _batches(conditions: Sequence[Labelled]) -> str:
    first = conditions[0]
    for other in conditions[1:]:
        one, two = (c.experiment.sampling.batch_size for c in (first, other))
        if one != two:
            return f"The batches differ: sampling.batch_size is {one} in {first.label} and {two} in {other.label}."
    return ""


def _planned_steps(first: Labelled, other: Labelled) -> str:
    """Say that the steps will differ; without steps per epoch they follow from the same cases in each epoch."""
    one, two = ((c.experiment.schedule.epochs, c.experiment.sampling.steps_per_epoch) for c in (first, other))
    if one[1] is not None and two[1] is not None:
        products = one[0] * one[1], two[0] * two[1]
        if products[0] != products[1]:
            return f"The steps differ: {products[0]} in {first.label} and {products[1]} in {other.label}."
    elif one[1] is not two[1]:
        return f"The steps differ: sampling.steps_per_epoch is set in one of {first.label} and {other.label}."
    elif one[0] != two[0]:
        return f"The steps differ: {one[0]} epochs in {first.label} and {two[0]} in {other.label}."
    return ""


def _splits(conditions: Sequence[Condition]) -> str:
    """Say that there is no split that all conditions were trained with."""
    first = conditions[0]
    shared = {run.split for run in first.runs}
    for other in conditions[1:]:
        left = shared & {run.split for run in other.runs}
        if not left:
            mine = next(run for run in first.runs if run.split in shared)
            return f"The splits differ: {_example(mine, other.runs[0])}."
        shared = left
    return ""


def _example(one: RunScores, other: RunScores) -> str:
    for case in sorted(one.roles.keys() | other.roles.keys()):
        roles = one.roles.get(case), other.roles.get(case)
        if roles[0] != roles[1]:
            texts = [f"is for {role}" if role else "does not occur" for role in roles]
            return f"case {case} {texts[0]} in {one.name} and {texts[1]} in {other.name}"
    return f"{other.name} has a split that no run of the other condition has"


def _steps(runs: Sequence[RunScores]) -> str:
    first = runs[0]
    for run in runs[1:]:
        if run.steps != first.steps:
            return f"The steps differ: {first.steps} in {first.name} and {run.steps} in {run.name}."
    return ""


def _other_differences(conditions: Sequence[Condition]) -> list[str]:
    """Say in which settings besides loss and network conditions differ from the first one."""
    notes = []
    first = conditions[0]
    for other in conditions[1:]:
        found = {
            path: values
            for path, values in setting_differences(first.experiment, other.experiment).items()
            if path.partition(".")[0] not in ("loss", "network", "changes")
        }
        if found:
            texts = [
                f"{path} ({value_text(one)} and {value_text(two)})" for path, (one, two) in found.items()
            ]
            notes.append(f"{first.label} and {other.label} also differ in {', '.join(texts)}.")
    return notes


def _run_notes(runs: Sequence[RunScores]) -> list[str]:
    badges = {run.badge for run in runs if run.badge}
    precisions = sorted({run.precision for run in runs})
    named = [f"{p} in {', '.join(run.name for run in runs if run.precision == p)}" for p in precisions]
    mixed = [f"Precision of computing differs: {'; '.join(named)}."] if len(precisions) > 1 else []
    return mixed + [
        f"{badge}: {', '.join(run.name for run in runs if run.badge == badge)}." for badge in sorted(badges)
    ]
