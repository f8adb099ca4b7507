"""Conditions: runs that are the same but for seed and split, under a name that says how they differ from others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segexplorer.core.events import CaseScore
from segexplorer.study.identity import identity
from segexplorer.study.labels import labels_of
from segexplorer.study.records import RunScores
from segexplorer.training.experiment import Experiment


@dataclass(frozen=True)
class Condition:
    """The runs of one condition: seeds and folds of the same experiment."""

    label: str
    runs: tuple[RunScores, ...]

    @property
    def experiment(self) -> Experiment:
        """Of its first run."""
        return self.runs[0].experiment

    @property
    def scores(self) -> tuple[CaseScore, ...]:
        """Of all its runs; a case that several runs validated on is there as often."""
        return tuple(score for run in self.runs for score in run.scores)

    @property
    def by_seed(self) -> dict[int, list[CaseScore]]:
        """Seed -> scores of all its runs: the folds of a seed together hold every case once."""
        found: dict[int, list[CaseScore]] = {}
        for run in self.runs:
            found.setdefault(run.experiment.seed, []).extend(run.scores)
        return dict(sorted(found.items()))

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds, each once, in order."""
        return tuple(self.by_seed)


def balanced(conditions: Sequence[Condition]) -> tuple[list[Condition], list[str]]:
    """Restrict conditions to the seeds and splits that all of them have, so that means stand on the same cases.

    Returns
    -------
    The conditions, as they are where nothing is shared; and the names of the runs left out.
    """
    shared = set.intersection(*({_replicate(run) for run in c.runs} for c in conditions))
    if not shared:
        return list(conditions), []
    kept = [Condition(c.label, tuple(r for r in c.runs if _replicate(r) in shared)) for c in conditions]
    left_out = [run.name for c in conditions for run in c.runs if _replicate(run) not in shared]
    return kept, left_out


def _replicate(run: RunScores) -> tuple[int, frozenset[tuple[str, str]]]:
    return run.experiment.seed, run.split


def repeats(condition: Condition) -> list[str]:
    """Say of which seeds there are several runs on one split, which seeds and folds are not."""
    notes = []
    for seed in condition.seeds:
        runs = [run for run in condition.runs if run.experiment.seed == seed]
        if len({run.split for run in runs}) < len(runs):
            names = ", ".join(run.name for run in runs)
            notes.append(f"{condition.label} was run more than once with seed {seed} ({names}): averaged.")
    return notes


def grouped(runs: Sequence[RunScores]) -> list[Condition]:
    """Gather runs of one `identity` into conditions, named, in order of appearance; the same folder counts once."""
    distinct: dict[Path, RunScores] = {}
    for run in runs:
        distinct.setdefault(run.folder.resolve(), run)
    groups: dict[str, list[RunScores]] = {}
    for run in distinct.values():
        groups.setdefault(identity(run.experiment), []).append(run)
    members = list(groups.values())
    labels = labels_of([m[0].experiment for m in members], [m[0].folder for m in members])
    return [Condition(label, tuple(m)) for label, m in zip(labels, members, strict=True)]
