"""What a study will be able to compare, told before it trains: hours of runs that nobody may compare are dear."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from segexplorer.study.fairness import ALLOWANCES, Allowance, planned_obstacle
from segexplorer.study.identity import identity
from segexplorer.study.labels import labels_of
from segexplorer.study.matrix import Point
from segexplorer.training.experiment import Experiment


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
                else f"{base} has nothing to be compared with: its mean and spread will be told."
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
        hindrances = [planned_obstacle(group[0], condition, allow) for group in groups]
        home = next((g for g, (why, _) in zip(groups, hindrances, strict=True) if not why), None)
        if home is not None:
            home.append(condition)
            continue
        if hindrances:
            why, what = hindrances[0]
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
