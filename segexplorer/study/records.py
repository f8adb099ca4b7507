"""What a comparison needs of a run folder: its experiment, split, steps, and one checkpoint's scores. No torch."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from segexplorer.core.errors import DataError
from segexplorer.core.events import CaseScore, StepDone, ValidationDone
from segexplorer.core.types import RunState
from segexplorer.training.experiment import Experiment
from segexplorer.training.history import open_run
from segexplorer.training.sinks import PROVENANCE

Which = Literal["last", "best"]
MEANING: Mapping[Which, str] = {
    "last": "the weights at the end of training",
    "best": "the weights with the best mean Dice on these same validation cases, which flatters every run",
}


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
        When the chosen weights were scored on the validation cases, and the scores.
    seconds
        Time in steps and all validations.
    gradient_norm
        Median over its steps of the norm of the loss's gradient, before any clipping; NaN where none was kept.
    precision
        Of convolutions, as the last attempt computed.
    """

    folder: Path
    experiment: Experiment
    state: RunState
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

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def split(self) -> frozenset[tuple[str, str]]:
        """What tells one split from another."""
        return frozenset(self.roles.items())


def read_run(folder: str | Path, checkpoint: Which = "last") -> RunScores:
    """Read a run folder.

    Parameters
    ----------
    checkpoint
        "last": the validation at the run's end; "best": the one with the highest mean Dice.

    Raises
    ------
    DataError
        When it is no run folder, or has no validation of that kind.
    """
    record = open_run(folder)
    events = record.events()
    validations = [e for e in events if isinstance(e, ValidationDone)]
    scored = [e for e in validations if e.scores and (e.best or checkpoint == "last")]
    if not scored:
        raise DataError(
            f"{record.folder.name} has no scored validation yet.", "Let it train to its first validation."
        )
    chosen = scored[-1]
    steps = [e for e in events if isinstance(e, StepDone)]
    experiment, attempt = record.experiment, _last_attempt(record.folder)
    return RunScores(
        folder=record.folder,
        experiment=experiment,
        state=record.state,
        roles=attempt.get("roles", {}),
        fingerprints={case: str(value) for case, value in attempt.get("data", {}).items()},
        steps=max((e.step for e in steps), default=chosen.step),
        scored_step=chosen.step,
        scored_epoch=chosen.epoch,
        scores=chosen.scores,
        seconds=sum(e.seconds for e in steps) + sum(e.seconds for e in validations),
        badge=chosen.badge,
        gradient_norm=_median([e.gradient_norm for e in steps]),
        precision=str(attempt.get("precision") or experiment.compute.precision),
    )


def _median(values: Sequence[float]) -> float:
    finite = [v for v in values if math.isfinite(v)]
    return statistics.median(finite) if finite else math.nan


def _last_attempt(folder: Path) -> dict[str, Any]:
    path = folder / PROVENANCE
    attempts = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    if not attempts or "roles" not in attempts[-1]:
        raise DataError(
            f"{folder.name} does not say which cases it trained on ({PROVENANCE} lacks them).",
            "Compare whole run folders, as training left them.",
        )
    last: dict[str, Any] = attempts[-1]
    return last
