"""The sentences beside a comparison: what the units are, and what its figures do not say."""

from __future__ import annotations

import math
from collections.abc import Sequence

from segexplorer.metrics import ALL_CLASSES
from segexplorer.metrics.formatting import WITHOUT_INTERVAL
from segexplorer.metrics.summary import FEWEST_FOR_INTERVAL
from segexplorer.study.comparison import Difference
from segexplorer.study.runs import Condition, checkpoint_description, repeats
from segexplorer.study.statistics import FEWEST_PAIRS, median_of_finite, shared_seeds
from segexplorer.training.scores import Weights

NOTABLE_RATIO = 1.5
"""Ratio of gradient norms from which they are mentioned, where the optimiser takes them as they are."""


def caveats(
    conditions: Sequence[Condition],
    base: Condition,
    checkpoint: Weights,
    rows: Sequence[Difference],
    left_out: Sequence[str] = (),
) -> list[str]:
    """Return the sentences, the most general first; `left_out` are runs without a partner in every condition."""
    return [
        f'Checkpoint "{checkpoint}": {checkpoint_description(checkpoint, base.runs[0].scored_split)}.',
        *_looks(conditions),
        *_units(conditions),
        *_splits(conditions),
        *_steps(conditions),
        *_without_interval(conditions, rows),
        *_without_star(rows),
        *_equivalent(rows),
        *_partners(left_out),
        *_seeds(conditions, base),
        *(note for condition in conditions for note in repeats(condition)),
        *_scale(conditions, base),
    ]


def _units(conditions: Sequence[Condition]) -> list[str]:
    """Say what n counts."""
    classes = {score.class_name for c in conditions for score in c.scores}
    several_seeds = max(len(c.seeds) for c in conditions) > 1
    averaged = [
        *(["over seeds"] if several_seeds else []),
        *([f"over {len(classes)} classes"] if len(classes) > 1 else []),
    ]
    text = "Unit: the case"
    if averaged:
        text += f"; its value is the mean {', then '.join(averaged)}"
    notes = [f"{text}."]
    if several_seeds:
        notes.append(
            "Interval and p of a difference are over other cases and other trainings: both are samples."
        )
    return notes


def _looks(conditions: Sequence[Condition]) -> list[str]:
    """Say where test cases were scored more than once."""
    again = [run for c in conditions for run in c.runs if run.times_scored > 1]
    if not again:
        return []
    names = ", ".join(f"{run.name} ({run.times_scored} times)" for run in again)
    return [
        f"Test cases were scored more than once: {names}. A choice made after an earlier look flatters the scores."
    ]


def _splits(conditions: Sequence[Condition]) -> list[str]:
    """Say how cases of several splits come together."""
    scored = conditions[0].runs[0].scored_split
    validating = {
        run.split: frozenset(case for case, role in run.split if role == scored)
        for c in conditions
        for run in c.runs
    }
    if len(validating) < 2:
        return []
    if scored == "test":
        alike = len(set(validating.values())) == 1
        return [
            f"Trainings on {len(validating)} splits scored {'the same' if alike else 'different'} test cases."
        ]
    total = sum(len(cases) for cases in validating.values())
    if total == len(frozenset().union(*validating.values())):
        return [f"Cases of {len(validating)} folds are pooled; each validates in one of them."]
    notes = [f"Cases of {len(validating)} splits are pooled; one that validates in several is averaged."]
    by_seed = {seed: frozenset(s.case for s in scores) for seed, scores in conditions[0].by_seed.items()}
    if len(set(by_seed.values())) > 1:
        notes.append(
            "Seeds validate on different cases, so the SD between them holds the spread between cases, too; "
            "that of the paired differences less so. A study's matrix of seeds keeps the split."
        )
    return notes


def _steps(conditions: Sequence[Condition]) -> list[str]:
    steps = {run.steps for c in conditions for run in c.runs}
    return [f"Every run took {steps.pop()} optimiser steps."] if len(steps) == 1 else []


def _without_interval(conditions: Sequence[Condition], rows: Sequence[Difference]) -> list[str]:
    """Say why there are dashes for intervals: of differences, and of the means of few cases."""
    notes = []
    if min(len(c.seeds) for c in conditions) == 1:
        notes.append(
            "One seed: how far another training with the same settings would differ is not known, so differences "
            "have no interval, no p and no star. CSV and JSON hold the interval and p over cases alone, of these "
            "trained networks."
        )
    elif lacking := [row for row in rows if row.n_pairs >= FEWEST_PAIRS and not math.isfinite(row.low)]:
        metrics = ", ".join(dict.fromkeys(f"{row.metric} of {row.class_name}" for row in lacking))
        notes.append(f"Only one seed of a side has values, hence no interval and no p: {metrics}.")
    if any(row.n_pairs < FEWEST_PAIRS for row in rows):
        notes.append(f"Differences have no interval and no p below {FEWEST_PAIRS} cases.")
    if any(row.n_pairs < FEWEST_FOR_INTERVAL for row in rows):
        notes.append(WITHOUT_INTERVAL)
    return notes


def _without_star(rows: Sequence[Difference]) -> list[str]:
    """Say which differences have no star whatever p is, and why, once for each reason."""
    reasons: dict[str, list[Difference]] = {}
    overall = _overall(rows)
    for row in overall:
        if row.withheld and row.n_seeds > 1:  # what one seed means was said
            reasons.setdefault(row.withheld, []).append(row)
    notes = []
    for reason, members in reasons.items():
        metrics = tuple(dict.fromkeys(row.metric for row in members))
        labels = tuple(dict.fromkeys(row.condition for row in members))
        whole = len(members) == len(overall)
        every = {row.metric for row in overall} == set(metrics)
        whom = "" if whole else f" for {', '.join(labels)}" + ("" if every else f" in {', '.join(metrics)}")
        dropped = sum(row.n_dropped for row in members)
        more = f" ({dropped} in all), so the mean is over what was found" if "dropped" in reason else ""
        notes.append(f"No star{whom}: {reason}{more}.")
    if any(row.withheld and row.significant for row in rows):
        notes.append("~ p is below 0.05, but there is no star for the reason above.")
    return notes


def _equivalent(rows: Sequence[Difference]) -> list[str]:
    """Say which differences are within a declared margin, and which were not shown to be."""
    notes = []
    for metric in dict.fromkeys(row.metric for row in rows if math.isfinite(row.margin)):
        family = [row for row in _overall(rows) if row.metric == metric]
        within = [row.condition for row in family if row.equivalent]
        margin = f"±{family[0].margin:g} in {metric}"
        base = family[0].reference
        if within:
            notes.append(f"Equivalent to {base} within {margin}: {', '.join(within)}.")
        if len(within) < len(family):
            others = ", ".join(row.condition for row in family if not row.equivalent)
            notes.append(f"Not shown to be equivalent to {base} within {margin}: {others}.")
    if notes:
        notes.append(
            "Equivalence: two one-sided tests over other cases and other trainings, Holm-adjusted p below 0.05; it "
            "needs the same designs as a star."
        )
    return notes


def _overall(rows: Sequence[Difference]) -> list[Difference]:
    """Return the rows of the mean of classes, or of the only class."""
    return [r for r in rows if r.class_name == ALL_CLASSES] or list(rows)


def _partners(left_out: Sequence[str]) -> list[str]:
    if not left_out:
        return []
    return [
        f"Left out of means and differences, since not every condition has their seed and split: "
        f"{', '.join(left_out)}."
    ]


def _seeds(conditions: Sequence[Condition], base: Condition) -> list[str]:
    return [
        f"{condition.label} and {base.label} share no seed; their seeds are averaged, then paired."
        for condition in conditions
        if not shared_seeds(condition.by_seed, base.by_seed)
    ]


def _scale(conditions: Sequence[Condition], base: Condition) -> list[str]:
    """Say where the size of the gradient acts as a learning rate: SGD takes it as it is, Adam divides it out."""
    norms = {c.label: median_of_finite([run.gradient_norm for run in c.runs]) for c in conditions}
    own = norms[base.label]
    far = {
        label: norm / own
        for label, norm in norms.items()
        if own > 0 and norm > 0 and not 1 / NOTABLE_RATIO <= norm / own <= NOTABLE_RATIO
    }
    if not far or any(c.experiment.optimiser.plain()["kind"] != "sgd" for c in conditions):
        return []
    texts = ", ".join(f"{label} {ratio:.3g} times" for label, ratio in far.items())
    clip = base.experiment.optimiser.gradient_clip
    clipped = f" Norms above {clip:g} were clipped, which evens this out in part." if clip is not None else ""
    return [
        f"SGD steps are as long as the gradient: against {base.label}, {texts}. A part of the difference may be "
        f"one of learning rates.{clipped}"
    ]
