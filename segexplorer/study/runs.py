"""Runs as a comparison sees them: what is read from a folder, which runs belong together, and what they are called.

`read_run` reads the settings, the split and the scores of one run folder without torch. Runs that differ only
in seed and split have one `identity` and form a `Condition`. A condition is named after its loss, its network
where there are several, and the settings in which it differs from the others.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from segexplorer.core.errors import DataError
from segexplorer.core.events import CaseScore, StepDone, ValidationDone
from segexplorer.core.fields import Parameter, parameters
from segexplorer.core.registry import families
from segexplorer.core.spec import Spec, differences
from segexplorer.data.datasets.base import DatasetSpec
from segexplorer.study.statistics import median_of_finite
from segexplorer.training.experiment import Experiment
from segexplorer.training.history import open_run
from segexplorer.training.recorded import recorded_run
from segexplorer.training.run_files import PROVENANCE, AttemptFacts, read_pointer, read_provenance
from segexplorer.training.run_status import RecordedState
from segexplorer.training.scores import DEFAULT_WEIGHTS, SplitScores, Weights, recorded_scores
from segexplorer.training.step_columns import events_of

# ---- runs

ScoredSplit = Literal["validation", "test"]
"""The cases that runs are compared on."""

_DESCRIPTIONS: Mapping[tuple[Weights, ScoredSplit], str] = {
    ("last", "validation"): "the weights at the end of training",
    ("best", "validation"): (
        "the weights that were best on these same validation cases, which flatters every run; predict and export "
        "use them, too. --split test compares them fairly, --checkpoint last the ends of training"
    ),
    ("last", "test"): "the weights at the end of training",
    ("best", "test"): "the weights that were best on the validation cases, scored on the test cases",
}


def checkpoint_description(checkpoint: Weights, split: ScoredSplit) -> str:
    """Return what a checkpoint holds, and whether it flatters."""
    return _DESCRIPTIONS[checkpoint, split]


@dataclass(frozen=True)
class RunScores:
    """One run, as far as it can be compared.

    Attributes
    ----------
    roles, fingerprints
        Case -> "train", "validation" or "test"; case -> hash of its files.
    steps
        Optimiser steps done.
    scored_step, scored_epoch, scores
        Of the chosen weights on the cases of `scored_split`; the epoch is 0 on test cases.
    scored_split, times_scored
        Which cases were scored; how often they had been by then, 0 if that is not counted (validation).
    seconds
        Time in steps and all validations.
    gradient_norm
        Median over its steps of the norm of the loss's gradient, before any clipping; NaN where none was kept.
    precision
        Of convolutions, as the last attempt computed.
    """

    folder: Path
    experiment: Experiment
    state: RecordedState
    roles: Mapping[str, str]
    fingerprints: Mapping[str, str]
    steps: int
    scored_step: int
    scored_epoch: int
    scores: tuple[CaseScore, ...]
    seconds: float
    badge: str
    gradient_norm: float = math.nan
    precision: str = ""
    scored_split: ScoredSplit = "validation"
    times_scored: int = 0

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def split(self) -> frozenset[tuple[str, str]]:
        """The split, comparable with that of other runs."""
        return frozenset(self.roles.items())


def read_run(
    folder: str | Path, checkpoint: Weights = DEFAULT_WEIGHTS, split: ScoredSplit = "validation"
) -> RunScores:
    """Read a run folder.

    Parameters
    ----------
    checkpoint
        "best": the best validation, by Dice or by loss as the run chose; "last": that at the run's end.
    split
        The cases whose scores are read; `segexplorer evaluate RUN --split test` records those of test cases.

    Raises
    ------
    DataError
        When it is not a run folder, or has no scores of that kind.
    """
    record = open_run(folder)
    events = record.events()
    validations = events_of(events, ValidationDone)
    chosen = (
        _validated(record.folder, validations, checkpoint)
        if split == "validation"
        else _tested(record.folder, checkpoint)
    )
    steps = events_of(events, StepDone)
    done = max((e.step for e in steps), default=chosen.step)
    if isinstance(chosen, SplitScores) and checkpoint == "last" and chosen.step != done:
        raise DataError(
            f"The test cases of {record.folder.name} were scored at step {chosen.step}, and it has trained to step "
            f"{done}.",
            f"Score them again: segexplorer evaluate {record.folder} --split test --checkpoint last --again.",
        )
    experiment, attempt = record.experiment, _last_attempt(record.folder)
    return RunScores(
        folder=record.folder,
        experiment=experiment,
        state=record.state,
        roles=attempt.roles or {},
        fingerprints=attempt.data or {},
        steps=done,
        scored_step=chosen.step,
        scored_epoch=chosen.epoch if isinstance(chosen, ValidationDone) else 0,
        scores=chosen.scores,
        seconds=sum(e.seconds for e in steps) + sum(e.seconds for e in validations),
        badge=chosen.badge if isinstance(chosen, ValidationDone) else chosen.scores[0].badge,
        gradient_norm=median_of_finite([e.gradient_norm for e in steps]),
        precision=attempt.precision or experiment.compute.precision,
        scored_split=split,
        times_scored=chosen.number if isinstance(chosen, SplitScores) else 0,
    )


def _validated(folder: Path, validations: Sequence[ValidationDone], checkpoint: Weights) -> ValidationDone:
    scored = [e for e in validations if e.scores]
    if checkpoint == "best" and scored:
        scored = [e for e in scored if e.best]
        if not scored:
            raise DataError(
                f"No validation of {folder.name} is its best: their losses are no finite numbers.",
                "Compare the ends of training: --checkpoint last.",
            )
    if not scored:
        raise DataError(
            f"{folder.name} has no scored validation yet.", "Let it train to its first validation."
        )
    return scored[-1]


def _tested(folder: Path, checkpoint: Weights) -> SplitScores:
    recorded = recorded_scores(folder, "test")
    command = f"segexplorer evaluate {folder} --split test --checkpoint {checkpoint}"
    fitting = [r for r in recorded if r.checkpoint == checkpoint]
    if not fitting:
        raise DataError(
            f"The test cases of {folder.name} have not been scored with its {checkpoint} weights.",
            f"Score them once more: {command} --again; or compare with --checkpoint {recorded[-1].checkpoint}."
            if recorded
            else f"Score them once: {command}.",
        )
    newest, now = fitting[-1], read_pointer(folder / "checkpoints", checkpoint)
    if checkpoint == "best" and now is not None and now != newest.weights:
        raise DataError(
            f"Test cases of {folder.name} were scored with {newest.weights}, and its best weights are {now} now.",
            f"Score them again: {command} --again.",
        )
    return newest


def _last_attempt(folder: Path) -> AttemptFacts:
    attempts = read_provenance(folder)
    if not attempts or attempts[-1].roles is None:
        raise DataError(
            f"{folder.name} does not say which cases it trained on ({PROVENANCE} lacks them).",
            "Compare whole run folders, as training left them.",
        )
    return attempts[-1]


# ---- which runs belong together

REPLICATES = ("name", "seed", "split", "compute", "monitoring", "sinks")
"""Settings in which the runs of one condition may differ; splits are compared by case."""


def identity(experiment: Experiment) -> str:
    """Return what two runs of one condition have in common, as text.

    The places of files are not part of it, since the same data are elsewhere on another computer and cases are
    compared by name and content; the meaning of their labels is.
    """
    plain = {k: v for k, v in _merged(experiment).plain().items() if k not in REPLICATES}
    places = _location_settings(experiment.data)
    plain["data"] = {k: v for k, v in plain["data"].items() if k not in places}
    return json.dumps(plain, sort_keys=True)


def setting_differences(one: Experiment, other: Experiment) -> dict[str, tuple[Any, Any]]:
    """Return the dotted paths of the settings of `identity` that differ, with both values."""
    places = {f"data.{name}" for name in _location_settings(one.data)}
    return {
        path: values
        for path, values in differences(_merged(one), _merged(other)).items()
        if path.partition(".")[0] not in REPLICATES and ".".join(path.split(".")[:2]) not in places
    }


def label_values(data: DatasetSpec) -> dict[str, tuple[int, ...]]:
    """Return class -> label values as chosen, a single value as one of several; empty: those of the data set."""
    return {name: (v,) if isinstance(v, int) else tuple(sorted(v)) for name, v in data.classes.items()}


def _merged(experiment: Experiment) -> Experiment:
    """Return the experiment with its classes in one spelling."""
    data = experiment.data.model_copy(update={"classes": label_values(experiment.data)})
    return experiment.model_copy(update={"data": data})


def _location_settings(data: DatasetSpec) -> frozenset[str]:
    """Return the settings that locate files: paths, and lists of cases with paths."""
    return frozenset(p.name for p in parameters(type(data)) if p.path or _holds_paths(p))


def _holds_paths(declared: Parameter) -> bool:
    inner = declared.shape.items[0] if declared.shape.form == "list" else None
    nested = inner.spec if inner is not None and inner.form == "group" else None
    return nested is not None and any(p.path for p in parameters(nested))


# ---- conditions


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
    """Restrict conditions to the seeds and splits that all of them have, so that means are over the same cases.

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


# ---- names of conditions

SHOWN = 3
"""Most settings in a label; of more, only as many as distinguish the conditions."""


def labels_of(experiments: Sequence[Experiment], folders: Sequence[Path]) -> list[str]:
    """Return a short name per experiment, from their differences, or from the folder where nothing differs."""
    short = _short_names(experiments)
    for place, folder in enumerate(folders):
        if (found := recorded_run(folder)) is not None:  # its settings are not those of the experiment's file
            short[place] = found.loss or found.trainer or folder.name
    labels = list(short)
    for name in dict.fromkeys(short):
        places = [place for place, other in enumerate(short) if other == name]
        for place, words in zip(places, _distinctions([experiments[p] for p in places]), strict=True):
            labels[place] = " ".join([name, *words])
    texts = [
        label if labels.count(label) == 1 else f"{label} [{folder.name}]"
        for label, folder in zip(labels, folders, strict=True)
    ]
    return [
        label if texts.count(label) == 1 else f"{label} {texts[: place + 1].count(label)}"
        for place, label in enumerate(texts)
    ]


def _short_names(experiments: Sequence[Experiment]) -> list[str]:
    first = experiments[0]
    varied = {path for other in experiments[1:] for path in setting_differences(first, other)}
    losses = [short_name(e.loss) for e in experiments]
    if not any(path.partition(".")[0] == "network" for path in varied):
        return losses
    networks = [short_name(e.network) for e in experiments]
    if all(e.loss == first.loss for e in experiments):
        return networks
    return [f"{loss}, {network}" for loss, network in zip(losses, networks, strict=True)]


def short_name(spec: Spec) -> str:
    """Return the kind of a spec with default values, else the name of the preset it equals, else the kind.

    A part without a kind of its own, as a term of a sum, has the name of the part with a kind that it holds.
    """
    kind = getattr(spec, "kind", None)
    values = [getattr(spec, name) for name in type(spec).model_fields]
    if kind is None:
        inner = next((v for v in values if isinstance(v, Spec)), None)
        return short_name(inner) if inner is not None else "/".join(value_text(v) for v in values)
    registry = next((r for r in families().values() if r.specs().get(kind) is type(spec)), None)
    required = any(field.is_required() for field in type(spec).model_fields.values())
    if registry is None or (not required and spec == registry.parse(kind)):
        return str(kind)
    return next((p.name for p in registry.presets().values() if p.spec == spec), str(kind))


def value_text(value: Any) -> str:
    """Return the value of a setting as a few characters: "0.3", "none", "64,64,64", "dice+cross_entropy"."""
    if isinstance(value, Spec):
        return short_name(value)
    if value is None or value in ((), "", {}):
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    if isinstance(value, Mapping):
        return ";".join(f"{name}:{value_text(inner)}" for name, inner in value.items())
    if isinstance(value, (tuple, list)):
        return ("+" if any(isinstance(v, Spec) for v in value) else ",").join(map(value_text, value))
    return str(value)


def _distinctions(same: Sequence[Experiment]) -> list[list[str]]:
    """Return ["alpha=0.3", "beta=0.7"] for each of several experiments of one name: what is its own."""
    rows = [
        {path: own for other in same for path, (own, _) in setting_differences(experiment, other).items()}
        for experiment in same
    ]
    paths = sorted({path for row in rows for path in row})
    texts = [{path: _setting_text(path, paths, value) for path, value in row.items()} for row in rows]
    if max(map(len, texts)) > SHOWN:
        paths = _distinguishing(texts, paths)
    return [[row[path] for path in paths if path in row] for row in texts]


def _distinguishing(rows: Sequence[Mapping[str, str]], paths: Sequence[str]) -> list[str]:
    """Return a few of the paths that distinguish the rows as well as all of them do."""

    def kinds(chosen: Sequence[str]) -> int:
        return len({tuple(row.get(path) for path in chosen) for row in rows})

    few: list[str] = []
    while kinds(few) < kinds(paths):
        few.append(max(paths, key=lambda path: kinds([*few, path])))
    return [path for path in paths if path in few]


def _setting_text(path: str, paths: Sequence[str], value: Any) -> str:
    """Return "alpha=0.3", or the name alone of what is a loss, a network, an optimiser, or a sum of losses."""
    parts = value if isinstance(value, tuple) else (value,)
    if parts and all(isinstance(part, Spec) and _has_kind(part) for part in parts):
        return value_text(value)
    return f"{_shortened(path, paths)}={value_text(value)}"


def _has_kind(spec: Spec) -> bool:
    values = (getattr(spec, name) for name in type(spec).model_fields)
    return hasattr(spec, "kind") or any(hasattr(v, "kind") for v in values)


def _shortened(path: str, paths: Sequence[str]) -> str:
    """Return the end of a dotted path by which it is known among the others: "alpha", "terms.0.weight"."""
    parts = path.split(".")
    for length in range(1, len(parts)):
        end = parts[-length:]
        if not end[0].isdigit() and not any(p.split(".")[-length:] == end for p in paths if p != path):
            return ".".join(end)
    return path
