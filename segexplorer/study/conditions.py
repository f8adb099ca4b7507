"""Conditions: runs that are the same but for seed and split, under a name that says how they differ from others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segexplorer.core.events import CaseScore
from segexplorer.core.registry import Registry
from segexplorer.core.spec import Spec, differences
from segexplorer.losses.base import registry as losses
from segexplorer.networks.base import registry as networks
from segexplorer.study.records import RunScores
from segexplorer.training.experiment import Experiment

REPLICATES = ("name", "seed", "split", "compute", "data")
"""Settings in which the runs of one condition may differ; splits and data are compared by case."""


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


def identity(experiment: Experiment) -> str:
    """Return what two runs of one condition have in common, as text."""
    plain = {k: v for k, v in experiment.plain().items() if k not in REPLICATES}
    return json.dumps(plain, sort_keys=True)


def grouped(runs: Sequence[RunScores]) -> list[Condition]:
    """Gather runs that differ in nothing but `REPLICATES` into conditions, named, in order of appearance."""
    groups: dict[str, list[RunScores]] = {}
    for run in runs:
        groups.setdefault(identity(run.experiment), []).append(run)
    members = list(groups.values())
    labels = labels_of([m[0].experiment for m in members], [m[0].folder for m in members])
    return [Condition(label, tuple(m)) for label, m in zip(labels, members, strict=True)]


def labels_of(experiments: Sequence[Experiment], folders: Sequence[Path]) -> list[str]:
    """Return a short name per experiment, from what they differ in; the folder's name where nothing else tells."""
    varied = {path for other in experiments[1:] for path in differences(experiments[0], other)}
    several_networks = any(path.partition(".")[0] == "network" for path in varied)
    short = [short_name(e.loss, losses) for e in experiments]
    if several_networks:
        nets = [short_name(e.network, networks) for e in experiments]
        one_loss = all(e.loss == experiments[0].loss for e in experiments)
        short = nets if one_loss else [f"{name}, {net}" for name, net in zip(short, nets, strict=True)]
    labels = [
        name + _distinction(own, [e for e, other in zip(experiments, short, strict=True) if other == name])
        for name, own in zip(short, experiments, strict=True)
    ]
    return [
        label if labels.count(label) == 1 else f"{label} [{folder.name}]"
        for label, folder in zip(labels, folders, strict=True)
    ]


def short_name(spec: Spec, registry: Registry[Any]) -> str:
    """Return the kind of a spec with default values, else the name of the preset it equals, else the kind."""
    kind = str(spec.plain()["kind"])
    fields = type(spec).model_fields.values()
    if not any(field.is_required() for field in fields) and spec == registry.parse(kind):
        return kind
    return next((p.name for p in registry.presets().values() if p.spec == spec), kind)


def _distinction(experiment: Experiment, same: Sequence[Experiment]) -> str:
    """Return " alpha=0.3 beta=0.7": the settings in which one of several of the same name differs from any."""
    paths = {
        path: own
        for other in same
        for path, (own, _) in differences(experiment, other).items()
        if path.partition(".")[0] not in REPLICATES
    }
    shown = [f"{path.rpartition('.')[2]}={value}" for path, value in sorted(paths.items())]
    return (" " + " ".join(shown)) if shown else ""
