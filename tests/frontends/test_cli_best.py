"""The line that ends a training: an interval where cases are enough for one, their range where they are few."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from segexplorer.core.events import CaseScore, ValidationDone
from segexplorer.frontends.cli.train import tell_best


def told(values: list[float]) -> str:
    scores = tuple(
        CaseScore(
            case=f"c{i}",
            class_name="liver",
            role="validation",
            state="scored",
            metrics={"dice": value},
            false_positive_ml=0.0,
            false_negative_ml=0.0,
            truth_ml=1.0,
        )
        for i, value in enumerate(values)
    )
    best = ValidationDone(
        step=1,
        epoch=2,
        loss=0.1,
        scores=scores,
        mean_dice=0.6,
        class_dice={},
        n_used=len(values),
        n_absent=0,
        n_missed=0,
        best=True,
        seconds=1.0,
    )
    shown = io.StringIO()
    tell_best(Console(file=shown, width=200), best)
    return shown.getvalue().strip()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0.6], "Best mean foreground Dice 0.600 after epoch 2."),
        ([0.7, 0.5], "Best mean foreground Dice 0.600 (range over 2 cases 0.500 to 0.700) after epoch 2."),
    ],
)
def test_few_cases_have_a_range(values: list[float], words: str) -> None:
    assert told(values) == words


def test_six_cases_have_an_interval() -> None:
    text = told([0.5, 0.55, 0.6, 0.65, 0.7, 0.6])
    assert "(95 % bootstrap interval over 6 cases 0.5" in text and "range" not in text
