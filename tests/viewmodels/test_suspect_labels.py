"""Suspect labels: what stays over steps and comes back in several runs is ranked before what does not."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from segexplorer.core.events import Role
from segexplorer.training.snapshots import WatchedSnapshot
from segexplorer.viewmodels.error_pieces import error_pieces
from segexplorer.viewmodels.suspect_labels import Observed, observe, suspects

AFFINE = np.diag([10.0, 10.0, 10.0, 1.0])
NAMES = ("liver", "spleen")


@dataclass(frozen=True)
class Recorded:
    """A frame of history."""

    step: int
    values: np.ndarray

    def prediction(self) -> np.ndarray:
        return self.values


def truth() -> np.ndarray:
    made = np.zeros((14, 10, 8), np.uint8)
    made[1:5, 1:5, 1:5] = 1
    made[9:12, 1:4, 1:4] = 2
    return made


def without_spleen() -> np.ndarray:
    return np.where(truth() == 2, 0, truth()).astype(np.uint8)


def with_extra_liver() -> np.ndarray:
    made = without_spleen()
    made[7:9, 6:9, 4:7] = 1
    return made


def seen(run: str, *predictions: np.ndarray, role: Role = "validation", case: str = "a") -> Observed:
    snapshot = WatchedSnapshot(
        case=case, role=role, step=len(predictions), index=0, class_names=NAMES, affine=AFFINE,
        prediction=predictions[-1], truth=truth(),
    )  # fmt: skip
    pieces = error_pieces(predictions[-1], truth(), NAMES, AFFINE)
    frames = [Recorded(step, values) for step, values in enumerate(predictions, start=1)]
    return observe(run, snapshot, pieces, frames)


def test_what_all_runs_get_wrong_for_long_comes_first() -> None:
    one = seen("seed 0", truth(), without_spleen(), without_spleen(), with_extra_liver())
    other = seen("seed 1", truth(), truth(), without_spleen(), without_spleen(), role="train")
    first, second = suspects([one, other])
    assert (first.piece.class_name, first.runs, first.of) == ("spleen", ("seed 0", "seed 1"), 2)
    assert (first.agreement, first.lasting, first.trained_on) == (1.0, 1.0, 1)
    assert (second.piece.class_name, second.runs, second.lasting) == ("liver", ("seed 0",), 0.5)
    assert second.score == pytest.approx(0.25)
    assert first.sentence == "in 2 of 2 runs (1 trained on it), in 100% of the later predictions"


def test_cases_and_labels_are_not_mixed() -> None:
    one, other = seen("seed 0", without_spleen()), seen("seed 1", without_spleen(), case="b")
    assert [(s.case, s.of) for s in suspects([one, other])] == [("a", 1), ("b", 1)]
    corrected = replace(other, snapshot=replace(other.snapshot, case="a", truth=without_spleen()))
    found = suspects([one, seen("seed 2", without_spleen()), corrected])
    assert [(s.runs, s.of) for s in found] == [(("seed 0", "seed 2"), 2)], (
        "the label was corrected in between"
    )


def test_an_error_of_one_run_is_counted_once() -> None:
    (suspect,) = suspects([seen("seed 0", without_spleen())])
    assert suspect.pieces == (suspect.piece,) and suspect.score == 1.0
    assert suspects([]) == ()
