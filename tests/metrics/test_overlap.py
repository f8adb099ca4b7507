"""Overlap metrics against hand-made cases, MONAI, and what must hold for any volume."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from segexplorer import metrics
from segexplorer.core.errors import DataError, UnknownKindError
from segexplorer.metrics.overlap import FURTHER_METRICS, METRICS, class_counts

NAMES = ("liver", "spleen")
volumes = npst.arrays(np.uint8, (4, 5, 3), elements=st.integers(0, 2))


def line(*values: int) -> np.ndarray:
    return np.array(values, np.uint8).reshape(1, 1, -1)


def test_a_case_counted_by_hand() -> None:
    truth = line(0, 0, 1, 1, 1, 1, 2, 2, 0, 0)
    found = line(0, 1, 1, 1, 1, 2, 2, 2, 0, 0)
    liver, spleen = metrics.score_case(found, truth, NAMES, (1.0, 2.0, 5.0), case="a", badge="b")
    # liver: TP 3, FP 1, FN 1 (called spleen), TN 5
    assert liver.metrics == pytest.approx(
        {
            "dice": 6 / 8,
            "f2": 15 / 20,
            "sensitivity": 3 / 4,
            "specificity": 5 / 6,
            "precision": 3 / 4,
            "jaccard": 3 / 5,
            "f1": 6 / 8,
            "accuracy": 8 / 10,
        }
    )
    # spleen: TP 2, FP 1 (liver called spleen), FN 0, TN 7
    assert spleen.metrics == pytest.approx(
        {
            "dice": 4 / 5,
            "f2": 10 / 11,
            "sensitivity": 1.0,
            "specificity": 7 / 8,
            "precision": 2 / 3,
            "jaccard": 2 / 3,
            "f1": 4 / 5,
            "accuracy": 9 / 10,
        }
    )
    assert (liver.false_positive_ml, liver.false_negative_ml, liver.truth_ml) == pytest.approx(
        (0.01, 0.01, 0.04)
    )
    assert (liver.case, liver.class_name, liver.role, liver.badge) == ("a", "liver", "validation", "b")


@pytest.mark.parametrize(
    ("found", "truth", "state", "dice"),
    [
        ((1, 0), (1, 0), "scored", 1.0),
        ((1, 0), (0, 1), "scored", 0.0),
        ((0, 0), (0, 1), "missed", 0.0),
        ((0, 1), (0, 0), "spurious", 0.0),
        ((0, 0), (0, 0), "absent", math.nan),
    ],
)
def test_states_of_a_class(found: tuple[int, ...], truth: tuple[int, ...], state: str, dice: float) -> None:
    (score,) = metrics.score_case(line(*found), line(*truth), ("liver",), (1, 1, 1))
    assert score.state == state
    assert score.metrics["dice"] == pytest.approx(dice, nan_ok=True)


def test_metrics_without_meaning_are_nan() -> None:
    (missed,) = metrics.score_case(line(0, 0), line(1, 1), ("liver",), (1, 1, 1))
    assert math.isnan(missed.metrics["precision"])
    assert math.isnan(missed.metrics["specificity"])
    assert missed.metrics["sensitivity"] == 0


def test_ignored_voxels_count_nowhere() -> None:
    truth, found = line(1, 1, 255, 255, 0), line(1, 0, 1, 0, 0)
    assert metrics.confusion_matrix(found, truth, 2).tolist() == [[1, 0], [1, 1]]


@settings(max_examples=25, deadline=None)
@given(volumes, volumes)
def test_dice_and_the_others_agree_with_monai(found: np.ndarray, truth: np.ndarray) -> None:
    from monai.metrics import compute_confusion_matrix_metric, get_confusion_matrix

    def one_hot(labels: np.ndarray) -> torch.Tensor:
        return torch.nn.functional.one_hot(torch.from_numpy(labels.astype(np.int64)), 3).movedim(-1, 0)[None]

    monai = get_confusion_matrix(one_hot(found), one_hot(truth), include_background=False)[0]
    theirs = {
        "dice": "f1 score",
        "sensitivity": "sensitivity",
        "specificity": "specificity",
        "precision": "precision",
        "jaccard": "threat score",
        "accuracy": "accuracy",
    }
    for index, score in enumerate(metrics.score_case(found, truth, NAMES, (1, 1, 1))):
        for ours, name in theirs.items():
            expected = float(compute_confusion_matrix_metric(name, monai[index]))
            assert score.metrics[ours] == pytest.approx(expected, nan_ok=True, rel=1e-6), (ours, score.state)


@settings(max_examples=25, deadline=None)
@given(volumes, volumes)
def test_what_holds_for_any_volume(found: np.ndarray, truth: np.ndarray) -> None:
    matrix = metrics.confusion_matrix(found, truth, 3)
    assert matrix.sum() == truth.size
    assert (metrics.confusion_matrix(truth, found, 3) == matrix.T).all()
    counts = class_counts(matrix)
    # every wrong voxel is missed once and extra once
    assert sum(c.fp for c in counts) == sum(c.fn for c in counts) == int((found != truth).sum())
    for c in counts:
        values = {name: metric.function(c) for name, metric in {**METRICS, **FURTHER_METRICS}.items()}
        assert all(math.isnan(v) or 0 <= v <= 1 for v in values.values())
        if not math.isnan(values["dice"]):
            assert values["jaccard"] == pytest.approx(values["dice"] / (2 - values["dice"]))
        p, r = values["precision"], values["sensitivity"]
        if not (math.isnan(p) or math.isnan(r)) and p + r > 0:
            assert values["f2"] == pytest.approx(5 * p * r / (4 * p + r))


@settings(max_examples=15, deadline=None)
@given(volumes)
def test_a_perfect_prediction_scores_one(truth: np.ndarray) -> None:
    for score in metrics.score_case(truth, truth, NAMES, (1, 1, 1)):
        expected = 1.0 if score.state == "scored" else math.nan
        assert score.metrics["dice"] == pytest.approx(expected, nan_ok=True)
        assert score.false_positive_ml == score.false_negative_ml == 0


@pytest.mark.parametrize("dtype", [np.int16, np.int64, np.uint16])
def test_any_integer_type_will_do(dtype: type) -> None:
    truth, found = line(0, 1, 2, 255), line(0, 2, 2, 0)
    expected = metrics.confusion_matrix(found, truth, 3)
    assert (metrics.confusion_matrix(found.astype(dtype), truth.astype(dtype), 3) == expected).all()


def test_wrong_input_is_refused_in_a_sentence() -> None:
    with pytest.raises(DataError, match="shape"):
        metrics.confusion_matrix(line(0, 1), line(0, 1, 1), 2)
    with pytest.raises(DataError, match="class index 7"):
        metrics.confusion_matrix(line(0, 7), line(0, 1), 2)
    with pytest.raises(DataError, match="class index -1"):
        metrics.confusion_matrix(line(0, 1).astype(np.int16) - 1, line(0, 1), 2)
    with pytest.raises(DataError, match="float64"):
        metrics.confusion_matrix(line(0, 1).astype(float), line(0, 1), 2)
    with pytest.raises(UnknownKindError, match="dice"):
        metrics.spec("dise")


def test_metrics_are_declared_once_and_fully() -> None:
    assert metrics.names()[:4] == ["dice", "f2", "sensitivity", "specificity"]
    assert set(metrics.default_names()) == {*metrics.METRICS, "f1", "accuracy", *metrics.SURFACE_METRICS}
    assert metrics.names()[: len(metrics.default_names())] == metrics.default_names()
    for name in metrics.default_names():
        metric = metrics.spec(name)
        assert metric.name == name
        assert metric.display_name
        distance = name in metrics.SURFACE_METRICS
        assert ("d(" in metric.definition or "diagonal" in metric.definition) if distance else True
        assert (metric.better, metric.best, metric.unit) == (
            ("lower", 0.0, "mm") if distance else ("higher", 1.0, "")
        )
    for name in ("specificity", "accuracy"):
        assert "near 1 by volume" in metrics.spec(name).display_name


def test_confusion_over_a_set_is_the_sum_of_its_volumes() -> None:
    rng = np.random.default_rng(0)
    found, truth = rng.integers(0, 4, (2, 3, 6, 6, 6))
    truth[truth == 3] = 0
    found[found == 3] = 1
    gathered = metrics.Confusion(4)
    for one, other in zip(found, truth, strict=True):
        gathered.add(one, other)
    dice = gathered.class_dice()
    assert list(dice) == [0, 1, 2, 3]
    for index in (0, 1, 2):
        both = ((found == index) & (truth == index)).sum()
        assert dice[index] == pytest.approx(2 * both / ((found == index).sum() + (truth == index).sum()))
    assert dice[3] == 0
