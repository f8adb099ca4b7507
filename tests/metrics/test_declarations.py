"""What every registered metric declares is true: range, direction, missing structures, tasks and pitfalls."""

from __future__ import annotations

import math

import numpy as np
import pytest

from segexplorer import metrics
from segexplorer.core.errors import UnknownKindError
from segexplorer.metrics.calibration import CalibrationMetric
from segexplorer.metrics.tasks import misled_by

SPACING = (2.0, 1.0, 0.5)


def ball(centre: tuple[int, int, int], radius: float) -> np.ndarray:
    axes = np.ogrid[:16, :18, :20]
    return (sum((x - c) ** 2 for x, c in zip(axes, centre, strict=True)) <= radius**2).astype(np.uint8)


OF_LABELS = [name for name, m in metrics.ALL_METRICS.items() if not isinstance(m, CalibrationMetric)]
"""Every metric that two label volumes have."""

BALL, NOTHING = ball((8, 8, 9), 4), np.zeros((16, 18, 20), np.uint8)


def value(name: str, found: np.ndarray, truth: np.ndarray) -> float:
    (score,) = metrics.score_case(found, truth, ("x",), SPACING, metrics=[name])
    return score.metrics[name]


@pytest.mark.parametrize("name", OF_LABELS)
def test_a_perfect_prediction_has_the_best_value_and_an_imperfect_one_is_within_the_range(name: str) -> None:
    metric = metrics.spec(name)
    assert value(name, BALL, BALL) == pytest.approx(metric.best)
    assert metric.lowest <= metric.best <= metric.highest
    for found in (ball((8, 10, 9), 4), ball((8, 8, 9), 3), ball((3, 3, 3), 2.3), ball((8, 8, 9), 6)):
        got = value(name, found, BALL)
        if math.isnan(got):
            continue
        assert metric.lowest <= got <= metric.highest
        worse = abs(got) if metric.better == "zero" else got
        assert worse <= metric.best if metric.better == "higher" else worse >= metric.best


@pytest.mark.parametrize("name", OF_LABELS)
@pytest.mark.parametrize("state", ["missed", "spurious", "absent"])
def test_what_is_declared_for_missing_structures_is_what_is_returned(name: str, state: str) -> None:
    metric = metrics.spec(name)
    volumes = {"missed": (NOTHING, BALL), "spurious": (BALL, NOTHING), "absent": (NOTHING, NOTHING)}
    got = value(name, *volumes[state])
    declared = getattr(metric, state)
    if declared == "diagonal":
        assert got == pytest.approx(math.sqrt(32**2 + 18**2 + 10**2))
    elif declared != "formula":
        assert got == pytest.approx(declared, nan_ok=True)
    assert not math.isinf(got)
    assert metric.over_absent is False or not math.isnan(value(name, NOTHING, NOTHING))


@pytest.mark.parametrize("name", OF_LABELS)
def test_ignored_voxels_and_cropping_change_nothing(name: str) -> None:
    found, truth = ball((8, 10, 9), 4), BALL.copy()
    truth[:, 16:] = 255
    inside = np.where(truth == 255, 0, found)
    if not metrics.spec(name).by_volume and name not in ("mcc", "kappa", "coactseg_specificity"):
        expected = value(name, inside, np.where(truth == 255, 0, truth))
        assert value(name, found, truth) == pytest.approx(expected, nan_ok=True)
    wide = [np.pad(volume, 3) for volume in (found, BALL)]
    if metrics.spec(name).unit and not name.endswith("_penalised"):
        assert value(name, *wide) == pytest.approx(value(name, found, BALL))


def test_every_task_has_metrics_of_more_than_one_family_and_every_pitfall_misleads_some() -> None:
    for task in metrics.TASKS:
        chosen = metrics.metrics_for(task)
        assert len(chosen) >= 3
        assert all(why.endswith(".") for metric in chosen for why in [metric.tasks[task]])
    assert {"dice", "nsd", "hd95", "vd"} <= {m.name for m in metrics.metrics_for("organs")}
    assert {"lesion_f1", "lesion_fp", "pq"} <= {m.name for m in metrics.metrics_for("lesions")}
    assert {"cldice", "nsd"} <= {m.name for m in metrics.metrics_for("vessels")}
    for pitfall in metrics.PITFALLS:
        assert misled_by(pitfall)
    for metric in metrics.ALL_METRICS.values():
        assert set(metric.tasks) <= set(metrics.TASKS) and set(metric.pitfalls) <= set(metrics.PITFALLS)
        assert metric.protocol in {"", *metrics.PROTOCOLS}
    assert "outliers" in metrics.spec("hd").pitfalls and "imbalance" in metrics.spec("specificity").pitfalls


def test_a_task_or_protocol_stands_for_its_metrics() -> None:
    lesions = [metric.name for metric in metrics.metrics_for("lesions")]
    assert metrics.choose(["pq", "lesions", "dice"]) == tuple(dict.fromkeys(["pq", *lesions, "dice"]))
    assert all(name.startswith("coactseg_") for name in metrics.choose(["coactseg"]))
    assert len(metrics.choose(["coactseg"])) == 8
    with pytest.raises(UnknownKindError, match="lesion_f2") as error:
        metrics.choose(["lesion_f2"])
    assert "lesion_f1" in error.value.remedy
    with pytest.raises(UnknownKindError) as error:
        metrics.metrics_for("lesion")
    assert "lesions" in error.value.remedy


def test_metrics_on_request_leave_the_default_ones_as_they_are() -> None:
    found = ball((8, 10, 9), 4)
    (plain,) = metrics.score_case(found, BALL, ("x",), SPACING, surfaces=True)
    (more,) = metrics.score_case(found, BALL, ("x",), SPACING, surfaces=True, metrics=["vessels", "coactseg"])
    assert list(plain.metrics) == metrics.default_names()
    assert {name: more.metrics[name] for name in plain.metrics} == plain.metrics
    assert list(more.metrics) == [name for name in metrics.names() if name in more.metrics]
    (cheap,) = metrics.score_case(found, BALL, ("x",), SPACING)
    assert not set(cheap.metrics) & set(metrics.SURFACE_METRICS)
    (one,) = metrics.score_case(found, BALL, ("x",), SPACING, metrics=["hd95"])
    assert one.metrics["hd95"] == plain.metrics["hd95"] and "assd" not in one.metrics


def test_what_is_shared_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from segexplorer.metrics import structure

    counted: dict[str, int] = {}
    for name in (
        "find_borders",
        "border_distances",
        "surface_agreement",
        "match_components",
        "centreline",
        "confusion_matrix",
    ):
        original = getattr(structure, name)

        def counting(*given: object, _name: str = name, _original: object = original) -> object:
            counted[_name] = counted.get(_name, 0) + 1
            return _original(*given)  # type: ignore[operator]

        monkeypatch.setattr(structure, name, counting)
    both, truth = BALL + ball((2, 3, 3), 1), BALL + ball((2, 3, 3), 2)
    metrics.score_case(both, truth, ("x", "y"), SPACING, surfaces=True, metrics=metrics.names())
    # two more passes of distances: CoactSeg's are in voxels, whatever the spacing
    assert counted == {
        "confusion_matrix": 1,
        "find_borders": 2,
        "border_distances": 2,
        "surface_agreement": 1,
        "match_components": 1,
        "centreline": 2,
    }


def test_every_direction_has_its_best_value_and_its_arrow() -> None:
    from typing import get_args

    from segexplorer.metrics.base import Better
    from segexplorer.study.render import ARROWS, LATEX_ARROWS

    assert set(ARROWS) == set(LATEX_ARROWS) == set(get_args(Better))
    values = [-3.0, 1.0, 2.0]
    assert [metrics.spec(name).best_of(values) for name in ("dice", "hd95", "vd")] == [2.0, -3.0, 1.0]
    assert metrics.spec("vd").merit(np.array(values)).tolist() == [-3.0, -1.0, -2.0]
