"""A bias on one class: counts and predictions against argmax, on any logits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segexplorer.core.errors import DataError
from segexplorer.metrics import score_case
from segexplorer.viewmodels.decision import (
    Counts,
    Decision,
    DecisionCurve,
    beside_curve,
    counts_of,
    figures_at_rest,
    lanes_text,
    rest_text,
)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 5),
    st.integers(0, 10_000),
    st.sampled_from((-9.0, -1.5, -0.5, 0.0, 0.5, 2.0, 9.0)),
    st.booleans(),
)
def test_counts_and_prediction_are_those_of_argmax(
    classes: int, seed: int, bias: float, coarse: bool
) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(classes, 5, 6, 4)).astype(np.float32) * 2
    if coarse:  # ties, as recorded 16-bit logits have them
        logits = np.round(logits * 2) / 2
    labels = rng.choice([*range(classes), 255], size=(5, 6, 4)).astype(np.uint8)
    for c in range(classes):
        moved = logits.copy()
        moved[c] += bias
        expected = moved.argmax(0)
        decision = Decision(logits, labels, c)
        tied = np.isclose(np.delete(moved, c, 0).max(0), moved[c])
        if bias == 0:
            tied[:] = False  # without a bias ties are decided as argmax decides them
        found = decision.prediction(bias)
        assert (found == expected)[~tied].all()
        assert np.array_equal(decision.prediction(bias, (slice(None), 3)), found[:, 3])
        counts, counted = decision.counts(bias), labels != 255
        assert counts.tp == ((found == c) & (labels == c)).sum()
        assert counts.fp == ((found == c) & (labels != c) & counted).sum()
        assert counts.fn == ((found != c) & (labels == c)).sum()
        assert replace(counts_of(found, labels, c), bias=bias) == counts


def test_the_curve_holds_the_counts_and_its_best() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((8, 8, 8)) < 0.2).astype(np.uint8)
    logits = np.stack([np.zeros(labels.shape), 2.0 * labels - 3 + rng.normal(size=labels.shape)]).astype(
        np.float32
    )
    decision = Decision(logits, labels, 1)
    curve = decision.curve(41)
    for place in (0, 13, 20, 40):
        counts = decision.counts(float(curve.bias[place]))
        assert curve.dice[place] == pytest.approx(counts.dice, nan_ok=True)
        assert curve.precision[place] == pytest.approx(counts.precision, nan_ok=True)
        assert curve.sensitivity[place] == pytest.approx(counts.sensitivity)
    assert decision.counts(curve.best).dice == np.nanmax(curve.dice) > decision.counts(0).dice
    assert (np.diff(curve.sensitivity) >= 0).all()


def test_an_absent_class_has_no_sensitivity_and_a_wrong_shape_is_refused() -> None:
    decision = Decision(np.zeros((2, 3, 3, 3)), np.zeros((3, 3, 3), np.uint8), 1)
    assert np.isnan(decision.counts(0).sensitivity) and decision.counts(5).fp == 27
    assert decision.curve().dice[-1] == 0
    with pytest.raises(DataError, match="shape"):
        Decision(np.zeros((2, 3, 3, 3)), np.zeros((3, 3, 4), np.uint8), 1)
    with pytest.raises(DataError, match="no class 2"):
        Decision(np.zeros((2, 3, 3, 3)), np.zeros((3, 3, 3), np.uint8), 2)


def test_surfaces_and_lesions_of_one_class_are_measured_at_rest() -> None:
    labels = np.zeros((30, 30, 12), np.uint8)
    labels[4:10, 4:10, 3:9] = 2
    labels[20:24, 20:24, 3:9] = 2
    labels[0, 0, 0] = 255
    found = np.where(labels == 2, 2, 0).astype(np.uint8)
    found[20:24, 20:24, 3:9] = 1  # one of the two lesions is called another class
    found[15:17, 4:6, 3:5] = 2
    figures = figures_at_rest(found, labels, 2, (1.0, 1.0, 2.0))
    assert figures["lesion_sensitivity"] == pytest.approx(0.5)
    assert figures["lesion_ppv"] == pytest.approx(0.5)
    assert figures["lesion_fp"] == 1
    (alone,) = score_case(
        (found == 2).astype(np.uint8), (labels == 2).astype(np.uint8), ("c",), (1.0, 1.0, 2.0), surfaces=True
    )
    assert figures["hd95"] == pytest.approx(alone.metrics["hd95"])
    perfect = figures_at_rest(labels, labels, 2, (1.0, 1.0, 2.0))
    text = rest_text(figures, perfect)
    assert text.startswith(f"HD95 {figures['hd95']:.2f} mm (0.00)")
    assert "Lesion sens. 0.500 (1.000)" in text
    assert text.endswith("In brackets: the prediction.")
    assert "rackets" not in rest_text(perfect, perfect) and "(" not in rest_text(perfect, perfect)
    assert rest_text({}, {}) == ""


def curve_of(true: list[float], false: list[float]) -> tuple[Decision, DecisionCurve]:
    """A decision over single voxels with these margins, and its curve."""
    margins = np.array([*true, *false], np.float32)
    logits = np.stack([np.zeros_like(margins), margins])[:, :, np.newaxis, np.newaxis]
    labels = np.array([1] * len(true) + [0] * len(false), np.uint8)[:, np.newaxis, np.newaxis]
    found = Decision(logits, labels, 1)
    return found, found.curve(2001)


def test_a_network_lies_on_its_own_curve_whatever_the_bias() -> None:
    rng = np.random.default_rng(0)
    found, curve = curve_of(list(rng.normal(1, 2, 400)), list(rng.normal(-2, 2, 4000)))
    for bias in (-3.0, 0.0, 2.5):
        beside = beside_curve(curve, found.counts(bias))
        assert beside.distance < 1e-6 and abs(beside.bias - bias) < 0.1


def test_the_distance_from_a_curve_is_that_of_its_nearest_segment() -> None:
    _, curve = curve_of([1, 2, 3, 4], [-1, 0.5, -2, 1.5])
    # with all four found, A has no precision above .8: the ideal point is .2 off, straight above that
    ideal = beside_curve(curve, Counts(0, tp=4, fp=0, fn=0))
    assert ideal.distance == pytest.approx(0.2) and -1.5 < ideal.bias < 0
    assert beside_curve(curve, Counts(0, tp=4, fp=12, fn=0)).distance == pytest.approx(0.25)
    none = beside_curve(curve, Counts(0, tp=0, fp=0, fn=4))
    assert np.isnan(none.distance)


def test_lane_b_is_compared_with_the_drift_of_the_control() -> None:
    _, curve = curve_of([1, 2, 3, 4], [-1, 0.5, -2, 1.5])
    on, off = Counts(0, 4, 2, 0), Counts(0, 4, 0, 0)
    near = lanes_text(curve, {"B": on, "control": off})
    assert "a threshold on A would have done the same." in near and "no farther off" in near
    far = lanes_text(curve, {"B": off, "control": on})
    assert "no threshold on A would have done the same" in far and "within 0.200" in far
    assert lanes_text(curve, {"control": on}) == ""
    assert "Without a control" in lanes_text(curve, {"B": off})
    assert "Nothing is compared" in lanes_text(curve, {"B": Counts(0, 0, 0, 4), "control": on})
