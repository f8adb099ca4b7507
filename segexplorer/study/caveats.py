"""The sentences beside a comparison: what the units are, and what its figures do not say."""

from __future__ import annotations

import math
from collections.abc import Sequence

from segexplorer.metrics import ALL_CLASSES
from segexplorer.metrics.formatting import WITHOUT_INTERVAL
from segexplorer.study.comparison import SIGNIFICANT, Difference
from segexplorer.study.runs import CHECKPOINT_DESCRIPTIONS, Condition, Which, repeats
from segexplorer.study.statistics import holm, least_p, median_of_finite, shared_seeds

NOTABLE_RATIO = 1.5
"""Ratio of gradient norms from which they are mentioned, where the optimiser takes them as they are."""


def caveats(
    conditions: Sequence[Condition],
    base: Condition,
    checkpoint: Which,
    rows: Sequence[Difference],
    left_out: Sequence[str] = (),
) -> list[str]:
    """Return the sentences, the most general first; `left_out` are runs without a partner in every condition."""
    return [
        f'Checkpoint "{checkpoint}": {CHECKPOINT_DESCRIPTIONS[checkpoint]}.',
        *_units(conditions),
        *_splits(conditions),
        *_steps(conditions),
        *_without_interval(rows),
        *_few(rows),
        *_chance(conditions, rows),
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
        text += ", so neither adds to n" if len(averaged) > 1 else ", which adds nothing to n"
    notes = [f"{text}."]
    if several_seeds:
        notes.append(
            "p and interval speak of other cases, not of other trainings; the SD between seeds speaks of those."
        )
    return notes


def _splits(conditions: Sequence[Condition]) -> list[str]:
    """Say how cases of several splits come together."""
    validating = {
        run.split: frozenset(case for case, role in run.split if role == "validation")
        for c in conditions
        for run in c.runs
    }
    if len(validating) < 2:
        return []
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


def _without_interval(rows: Sequence[Difference]) -> list[str]:
    """Say why there are dashes for intervals, be it those of single classes, which fewer cases may have."""
    return [] if all(math.isfinite(row.low) for row in rows) else [WITHOUT_INTERVAL]


def _few(rows: Sequence[Difference]) -> list[str]:
    """Warn where p cannot be small: of as many differences that are not zero, in a family of as many tests."""
    texts = []
    for metric in dict.fromkeys(row.metric for row in rows):
        family = [row for row in _overall(rows) if row.metric == metric and row.n_pairs]
        least = holm([least_p(row.n_nonzero) for row in family])
        hopeless = [row for row, p in zip(family, least, strict=True) if not p < SIGNIFICANT]
        if hopeless:
            whose = "" if len(hopeless) == len(family) else f"{', '.join(r.condition for r in hopeless)} in "
            fewest = min(hopeless, key=lambda row: row.n_nonzero)
            texts.append(f"{whose}{metric} {fewest.n_nonzero} of {fewest.n_pairs}")
    if not texts:
        return []
    return [
        f"Too few cases differ from the reference ({'; '.join(texts)}): whatever their signs, Holm-adjusted p "
        f"cannot fall under {SIGNIFICANT:g}."
    ]


def _overall(rows: Sequence[Difference]) -> list[Difference]:
    """Return the rows of the mean of classes, or of the only class."""
    return [r for r in rows if r.class_name == ALL_CLASSES] or list(rows)


def _chance(conditions: Sequence[Condition], rows: Sequence[Difference]) -> list[str]:
    """Say what the seeds know, or that nothing is known: initial weights and patches move every figure."""
    if max(len(c.seeds) for c in conditions) == 1:
        return ["One seed: how far another training with the same settings would differ is not known."]
    torn = [f"{r.condition} in {r.metric}" for r in _overall(rows) if r.significant and not r.seeds_agree]
    if not torn:
        return []
    return [
        f"~ p is below 0.05 over cases, but seeds disagree on the sign, so another training may turn it: "
        f"{', '.join(torn)}."
    ]


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
