"""What stands in the way of an honest comparison, and what should be said beside one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

from segexplorer.core.errors import DataError, SpecError
from segexplorer.core.spec import differences
from segexplorer.study.conditions import REPLICATES, Condition
from segexplorer.study.records import RunScores

Allowance = Literal["network", "split", "steps", "unfinished"]
ALLOWANCES: tuple[Allowance, ...] = ("network", "split", "steps", "unfinished")


def check_fairness(conditions: Sequence[Condition], allowed: Collection[Allowance] = ()) -> list[str]:
    """Refuse what cannot be compared; return notes on what differs and was allowed, or differs besides the loss.

    Parameters
    ----------
    allowed
        Differences that are meant: "network"; "steps"; "split" (then only cases that validate on both sides are
        paired, so neither trained on them); "unfinished" (runs that were stopped).

    Raises
    ------
    DataError
        When the same case holds other data in another run, or the classes differ.
    SpecError
        When networks, splits or steps differ, or a run did not finish, and that is not allowed.
    """
    runs = [run for condition in conditions for run in condition.runs]
    _check_data(runs)
    told = {
        "unfinished": _unfinished(runs),
        "network": _networks(conditions),
        "split": _splits(conditions),
        "steps": _steps(runs),
    }
    notes = []
    for what, sentence in told.items():
        if sentence and what not in allowed:
            raise SpecError(sentence, f"Compare runs alike in this, or allow it: --allow {what}.")
        if sentence:
            notes.append(f"Allowed: {sentence}")
    return notes + _other_differences(conditions) + _run_notes(runs)


def _check_data(runs: Sequence[RunScores]) -> None:
    first = runs[0]
    classes = {score.class_name for score in first.scores}
    for run in runs[1:]:
        other = {score.class_name for score in run.scores}
        if other != classes:
            raise DataError(
                f"{first.name} has the classes {', '.join(sorted(classes))}; "
                f"{run.name} has {', '.join(sorted(other))}.",
                "Only runs on the same classes can be compared.",
            )
        shared = run.fingerprints.keys() & first.fingerprints.keys()
        changed = sorted(c for c in shared if run.fingerprints[c] != first.fingerprints[c])
        if changed:
            raise DataError(
                f"The case {changed[0]} holds other data in {run.name} than in {first.name}.",
                "Only runs on the same files can be compared.",
            )


def _unfinished(runs: Sequence[RunScores]) -> str:
    names = [f"{run.name} ({run.state})" for run in runs if run.state != "finished"]
    return f"Not finished: {', '.join(names)}." if names else ""


def _networks(conditions: Sequence[Condition]) -> str:
    first = conditions[0]
    for other in conditions[1:]:
        found = differences(first.experiment.network, other.experiment.network)
        if found:
            path, (one, two) = next(iter(found.items()))
            if not path:
                one, two = (c.experiment.network.plain()["kind"] for c in (first, other))
            setting = f"network.{path}" if path else "network"
            return f"The networks differ: {setting} is {one} in {first.label} and {two} in {other.label}."
    return ""


def _splits(conditions: Sequence[Condition]) -> str:
    first = conditions[0]
    known = {run.split: run for run in first.runs}
    for other in conditions[1:]:
        theirs = {run.split: run for run in other.runs}
        for mine, yours in ((known, theirs), (theirs, known)):
            lonely = next((run for split, run in yours.items() if split not in mine), None)
            if lonely is not None:
                return f"The splits differ: {_example(next(iter(mine.values())), lonely)}."
    return ""


def _example(one: RunScores, other: RunScores) -> str:
    for case in sorted(one.roles.keys() | other.roles.keys()):
        roles = one.roles.get(case), other.roles.get(case)
        if roles[0] != roles[1]:
            texts = [f"is for {role}" if role else "does not occur" for role in roles]
            return f"case {case} {texts[0]} in {one.name} and {texts[1]} in {other.name}"
    return f"{other.name} has a split that no run of the other side has"


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
            for path, values in differences(first.experiment, other.experiment).items()
            if path.partition(".")[0] not in (*REPLICATES, "loss", "network", "changes")
        }
        if found:
            texts = [f"{path} ({one} and {two})" for path, (one, two) in found.items()]
            notes.append(f"{first.label} and {other.label} also differ in {', '.join(texts)}.")
    return notes


def _run_notes(runs: Sequence[RunScores]) -> list[str]:
    badges = {run.badge for run in runs if run.badge}
    return [
        f"{badge}: {', '.join(run.name for run in runs if run.badge == badge)}." for badge in sorted(badges)
    ]
