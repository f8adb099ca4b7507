"""Lesion-wise detection and panoptic quality against a search by hand, MONAI, and panoptica's values."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
import torch

from segexplorer import metrics
from segexplorer.metrics.detection import components, match_components


def flood(mask: np.ndarray, steps: int) -> list[frozenset[tuple[int, ...]]]:
    """Components as sets of voxels, by walking to neighbours, which differ along at most `steps` axes."""
    offsets = [o for o in product((-1, 0, 1), repeat=mask.ndim) if 0 < sum(map(abs, o)) <= steps]
    left = {tuple(map(int, voxel)) for voxel in np.argwhere(mask)}
    found = []
    while left:
        member, todo = set(), [left.pop()]
        while todo:
            voxel = todo.pop()
            member.add(voxel)
            near = {tuple(a + b for a, b in zip(voxel, o, strict=True)) for o in offsets} & left
            left -= near
            todo += near
        found.append(frozenset(member))
    return found


def by_hand(p: np.ndarray, t: np.ndarray, options: metrics.MetricOptions) -> dict[str, float]:
    """The definitions in words of sets."""
    steps = {"faces": 1, "edges": 2, "corners": 3}[options.connectivity]
    predicted, true = ([c for c in flood(mask, steps) if len(c) >= options.min_voxels] for mask in (p, t))
    everything = [frozenset().union(*side) for side in (predicted, true)]
    if options.matching == "iou":
        pairs = [(a, b) for a in predicted for b in true if len(a & b) / len(a | b) > options.min_iou]
        correct, found = {a for a, _ in pairs}, {b for _, b in pairs}
    else:
        bound = options.min_overlap if options.matching == "overlap" else 0.0
        correct = {a for a in predicted if len(a & everything[1]) > bound * len(a)}
        found = {b for b in true if len(b & everything[0]) > bound * len(b)}
    sensitivity = len(found) / len(true) if true else math.nan
    ppv = len(correct) / len(predicted) if predicted else math.nan
    ious = [len(a & b) / len(a | b) for a in predicted for b in true if 2 * len(a & b) > len(a | b)]
    half = (len(predicted) + len(true)) / 2
    return {
        "lesion_sensitivity": sensitivity,
        "lesion_ppv": ppv,
        "lesion_f1": 2 * sensitivity * ppv / (sensitivity + ppv) if sensitivity + ppv > 0 else 0.0,
        "lesion_fp": len(predicted) - len(correct),
        "pq": sum(ious) / half,
        "sq": float(np.mean(ious)) if ious else math.nan,
        "rq": len(ious) / half,
    }


@pytest.mark.parametrize("connectivity", ["faces", "edges", "corners"])
@pytest.mark.parametrize("matching", ["any", "overlap", "iou"])
@pytest.mark.parametrize("shape", [(7, 8, 6), (14, 15)])
def test_every_rule_agrees_with_a_search_by_hand(
    connectivity: str, matching: str, shape: tuple[int, ...]
) -> None:
    rng = np.random.default_rng(len(shape))
    for min_voxels in (1, 3):
        truth = rng.random(shape) < 0.16
        prediction = truth ^ (rng.random(shape) < 0.1)
        options = metrics.MetricOptions(
            connectivity=connectivity, matching=matching, min_overlap=0.4, min_voxels=min_voxels
        )
        expected = by_hand(prediction, truth, options)
        (score,) = metrics.score_case(
            prediction.astype(np.uint8),
            truth.astype(np.uint8),
            ("x",),
            (1.0,) * len(shape),
            metrics=list(expected),
            options=options,
        )
        for name, value in expected.items():
            assert score.metrics[name] == pytest.approx(value, nan_ok=True), (name, min_voxels)


def scored(prediction: np.ndarray, truth: np.ndarray, **options: object) -> dict[str, float]:
    (score,) = metrics.score_case(
        (prediction > 0).astype(np.uint8),
        (truth > 0).astype(np.uint8),
        ("x",),
        (1.0,) * truth.ndim,
        metrics=metrics.names(),
        options=metrics.MetricOptions.of(options),
    )
    return dict(score.metrics)


def test_panopticas_values_of_four_instances() -> None:
    """Its golden case: one perfect pair, one of IoU 0.9, one missed, one invented."""
    truth, found = np.zeros((2, 50, 50), int)
    truth[5:15, 5:15] = truth[20:30, 20:30] = truth[40:48, 5:13] = 1
    found[5:15, 5:15] = found[21:30, 20:30] = found[40:48, 40:48] = 1
    score = scored(found, truth, matching="iou")
    assert score["lesion_sensitivity"] == score["lesion_ppv"] == score["rq"] == pytest.approx(2 / 3)
    assert score["lesion_f1"] == pytest.approx(2 / 3)
    assert score["sq"] == pytest.approx(0.95)
    assert score["pq"] == pytest.approx(0.6333333333333333)
    assert score["dice"] == pytest.approx(0.7335907335907336)
    assert score["rvd"] == pytest.approx(-3.787878787878788)
    assert score["cldice"] == pytest.approx(0.6829268292682926)


def test_panopticas_values_of_one_instance_and_of_none() -> None:
    truth, found, nothing = np.zeros((3, 50, 50), int)
    truth[20:40, 10:20] = found[20:35, 10:20] = 1
    assert scored(found, truth)["pq"] == scored(found, truth)["sq"] == 0.75
    assert scored(nothing, truth)["pq"] == scored(found, nothing)["pq"] == 0
    assert math.isnan(scored(nothing, nothing)["pq"])
    found[36:38, 10:20] = 1  # a second piece of the same structure is a false positive: no merging here
    assert scored(found, truth)["rq"] == pytest.approx(2 / 3)


def test_panoptic_quality_agrees_with_monai() -> None:
    from monai.metrics import compute_panoptic_quality

    rng = np.random.default_rng(3)
    for _ in range(4):
        truth = rng.random((40, 44)) < 0.3
        found = truth ^ (rng.random(truth.shape) < 0.04)
        pq, sq, rq = (
            float(
                compute_panoptic_quality(
                    *(torch.from_numpy(components(mask)[0].astype(np.int64)) for mask in (found, truth)),
                    metric_name=name,
                    smooth_numerator=0.0,
                )
            )
            for name in ("pq", "sq", "rq")
        )
        matched = match_components(found, truth).panoptic
        assert matched == pytest.approx((pq, sq, rq), rel=1e-5)


def test_the_three_rules_judge_pieces_and_bridges_differently() -> None:
    truth, found = np.zeros((2, 40, 8), int)
    truth[0:10, 2:6] = 1  # found in three pieces
    found[0:3, 2:6] = found[4:7, 2:6] = found[8:10, 2:6] = 1
    truth[15:20, 2:6] = truth[22:27, 2:6] = 1  # two lesions under one bridge
    found[15:27, 2:6] = 1
    truth[30:40, 2:6] = 1  # touched by one voxel of forty
    found[39:40, 2:3] = 1
    any_overlap = scored(found, truth)
    assert (any_overlap["lesion_sensitivity"], any_overlap["lesion_ppv"]) == (1, 1)
    share = scored(found, truth, matching="overlap", min_overlap=0.1)
    assert (share["lesion_sensitivity"], share["lesion_ppv"]) == (0.75, 1)
    paired = scored(found, truth, matching="iou", min_iou=0.25)
    assert paired["lesion_sensitivity"] == 0.5  # the largest piece, and one of the two under the bridge
    assert paired["lesion_fp"] == 3
    strict = scored(found, truth, matching="iou")
    assert strict["lesion_f1"] == 0 and strict["lesion_fp"] == 5


def test_false_positives_per_case_are_a_mean_over_all_cases() -> None:
    empty, lesion = np.zeros((2, 6, 6, 6), np.uint8)
    lesion[1:3, 1:3, 1:3] = 1
    cases = {"none": (empty, empty), "invented": (lesion, empty), "found": (lesion, lesion)}
    scores = [
        score
        for case, (found, truth) in cases.items()
        for score in metrics.score_case(
            found, truth, ("lesion",), (1.0, 1.0, 1.0), case=case, metrics=["lesion_fp", "lesion_f1"]
        )
    ]
    rows = {row.metric: row for row in metrics.distributions(scores, ["lesion_fp", "lesion_f1", "dice"])}
    assert (rows["lesion_fp"].n, rows["lesion_fp"].mean) == (3, pytest.approx(1 / 3))
    assert rows["lesion_fp"].worst_case == "invented"
    assert (rows["lesion_f1"].n, rows["dice"].n) == (2, 2)
    summary = metrics.summarise(scores).overall
    assert summary.n_metric["lesion_fp"] == 3 and summary.mean["lesion_fp"] == pytest.approx(1 / 3)
    assert summary.n_used == 2
    only = [score for score in scores if score.case != "none"]
    filled = metrics.complete(only, cases)
    assert metrics.summarise(filled).overall.mean["lesion_fp"] == pytest.approx(1 / 3)


def test_lesions_are_counted_by_their_size() -> None:
    truth, found = np.zeros((2, 30, 10, 10), np.uint8)
    truth[0:2, 0:2, 0:2] = 1  # 8 voxels of 2 mm^3, missed
    truth[5:10, 0:5, 0:5] = 1  # 125 voxels, found
    found[6:10, 0:5, 0:5] = 1
    found[20:22, 8:9, 8:9] = 1  # 2 voxels, invented
    pair = metrics.LabelPair(found, truth, ("lesion",), (1.0, 1.0, 2.0))
    rows = metrics.lesions(pair, "a")
    assert [(row.volume, row.voxels, row.mm3, row.matched) for row in rows] == [
        ("truth", 8, 16.0, False),
        ("truth", 125, 250.0, True),
        ("prediction", 100, 200.0, True),
        ("prediction", 2, 4.0, False),
    ]
    assert rows[1].overlap == rows[1].iou == pytest.approx(0.8)
    small, large, everything = metrics.by_size(rows, 2, (100.0,))
    assert (small.true, small.found, small.predicted, small.correct) == (1, 0, 1, 0)
    assert (small.sensitivity, small.ppv, small.f1, small.false_positives_per_case) == (0, 0, 0, 0.5)
    assert (large.sensitivity, large.ppv, large.f1, large.false_positives_per_case) == (1, 1, 1, 0)
    assert (everything.sensitivity, everything.false_positives_per_case) == (0.5, 0.5)
    assert math.isinf(everything.high)
    in_voxels = metrics.by_size(rows, 2, (8, 9), "voxels")  # a lesion on a bound is in the upper class
    assert [row.true for row in in_voxels] == [0, 1, 1, 2]


def test_components_that_are_too_small_are_dropped_without_gaps() -> None:
    mask = np.zeros((9, 3), bool)
    mask[0, 0] = mask[2, 0:2] = mask[5, 0] = mask[7:9, 0:2] = True
    numbered, sizes = components(mask, "faces", 2)
    assert sizes.tolist() == [2, 4]
    assert sorted(np.unique(numbered)) == [0, 1, 2] and numbered[0, 0] == 0 and numbered[8, 0] == 2
