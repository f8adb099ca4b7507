"""Rules that weigh the terms of a compound: by the epoch, by how fast they fall, or learned."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segexplorer import losses
from segexplorer.core.errors import SpecError
from segexplorer.core.events import EpochSummary
from segexplorer.core.spec import live_parameters, replace_value
from segexplorer.losses.module import Loss
from segexplorer.testing.losses import CHECKS, check_compiled, check_copies, check_learned

LOGITS = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))
LABELS = torch.randint(0, 3, (2, 1, 6, 6), generator=torch.Generator().manual_seed(2))
RULES: dict[str, dict[str, Any]] = {
    "hand_over": {"kind": "scheduled", "length": 4},
    "kervadec": {"kind": "scheduled", "schedule": "kervadec"},
    "rebalance": {"kind": "scheduled", "schedule": "rebalance"},
    "cascade": {"kind": "scheduled", "schedule": "cascade", "length": 2},
    "table": {"kind": "scheduled", "schedule": "table", "table": [[1, 1, 0.5], [5, 0.2, 1]]},
    "dynamic": {"kind": "dynamic_weight_average"},
    "uncertainty": {"kind": "uncertainty"},
}


def build(weighting: dict[str, Any], *terms: Any) -> Loss:
    """A weighted sum of terms (generalised Dice and cross entropy where none are given)."""
    given = [
        t if isinstance(t, dict) else {"loss": t} for t in terms or ("generalised_dice", "cross_entropy")
    ]
    return losses.parse({"kind": "weighted_sum", "terms": given, "weighting": weighting}).build()


def weights_over(loss: Loss, epochs: int) -> list[tuple[float, ...]]:
    """The weights in effect in epochs 1, 2, ..."""
    seen = [loss.term_weights()]
    for epoch in range(1, epochs):
        loss.epoch_end(EpochSummary(epoch, epochs))
        seen.append(loss.term_weights())
    return seen


def assert_adds_up(loss: Loss) -> None:
    output = loss.evaluate(LOGITS, LABELS)
    total = sum(float(v) * float(w) for v, w in output.terms.values())
    assert total == pytest.approx(output.value.item(), rel=1e-5)


@pytest.mark.parametrize("name", RULES)
def test_every_rule_keeps_the_promises_of_losses(name: str) -> None:
    spec = build(RULES[name], "cross_entropy", "generalised_dice").spec
    for check in CHECKS:
        if check is not check_compiled or name == "uncertainty":
            check(spec)


def test_a_hand_over_goes_from_one_term_to_the_next() -> None:
    assert weights_over(build({"kind": "scheduled", "begin": 2, "length": 2}), 5) == [
        (1, 0),
        (1, 0),
        (0.5, 0.5),
        (0, 1),
        (0, 1),
    ]
    three = build({"kind": "scheduled", "length": 4}, "dice", "focal", "cross_entropy")
    assert weights_over(three, 6) == [
        (1, 0, 0),
        (0.5, 0.5, 0),
        (0, 1, 0),
        (0, 0.5, 0.5),
        (0, 0, 1),
        (0, 0, 1),
    ]


def test_kervadec_s_own_schedule() -> None:
    """losses.md 5.1: a from 1 down to 0.1 by 0.01 per epoch, b from 0.01 up by 0.01, without end."""
    seen = weights_over(build({"kind": "scheduled", "schedule": "kervadec"}), 121)
    a, b = 1.0, 0.01
    for weights in seen:
        assert weights == pytest.approx((a, b))
        a, b = max(0.1, a - 0.01), b + 0.01
    rebalanced = weights_over(build({"kind": "scheduled", "schedule": "rebalance"}), 121)
    for epoch, (first, last) in enumerate(rebalanced, start=1):
        assert first == pytest.approx(max(0.01, 1 - 0.01 * (epoch - 1))) and first + last == pytest.approx(1)


def test_a_cascade_trains_focal_first_and_then_wsdice() -> None:
    loss = build({"kind": "scheduled", "schedule": "cascade", "length": 3}, "focal", "ws_dice")
    assert weights_over(loss, 8) == [(1, 0)] * 3 + [(0, 1)] * 5
    assert torch.equal(loss(LOGITS, LABELS), losses.create("ws_dice")(LOGITS, LABELS))


def test_a_table_is_linear_in_between() -> None:
    loss = build({"kind": "scheduled", "schedule": "table", "table": [[2, 1, 0], [4, 0.5, 2]]})
    assert weights_over(loss, 6) == [(1, 0), (1, 0), (0.75, 1), (0.5, 2), (0.5, 2), (0.5, 2)]


def test_schedules_multiply_the_weights_that_stand_with_the_terms() -> None:
    terms = {"loss": "dice", "weight": 3.0}, {"loss": "cross_entropy", "weight": 0.5}
    loss = build({"kind": "scheduled", "length": 2}, *terms)
    loss.epoch_end(EpochSummary(1, 5))
    assert loss.adaptive() == {"weight of dice": 1.5, "weight of cross_entropy": 0.25}
    loss.update(replace_value(loss.spec, "terms.0.weight", 1.0))
    assert loss.adaptive()["weight of dice"] == 0.5
    assert_adds_up(loss)


def test_a_schedule_edited_on_the_way_holds_from_the_next_step() -> None:
    loss = build({"kind": "scheduled", "length": 10})
    for epoch in (1, 2):
        loss.epoch_end(EpochSummary(epoch, 20))
    assert loss.term_weights() == pytest.approx((0.8, 0.2))
    assert {"weighting.length", "weighting.begin"} <= live_parameters(loss.spec).keys()
    loss.update(replace_value(loss.spec, "weighting.length", 4))
    assert loss.term_weights() == pytest.approx((0.5, 0.5))
    loss.epoch_end(EpochSummary(3, 20))
    assert loss.term_weights() == pytest.approx((0.25, 0.75))


def test_dynamic_weights_follow_how_fast_terms_fall() -> None:
    """Liu 2019, eq. 7, by hand; two epochs of equal weights, weights that add up to the number of terms."""
    loss = build({"kind": "dynamic_weight_average", "temperature": 2.0})
    means = [(0.8, 2.0), (0.4, 1.8), (0.4, 0.9)]
    for epoch, (dice, entropy) in enumerate(means, start=1):
        loss.epoch_end(EpochSummary(epoch, 9, {"generalised_dice": dice, "cross_entropy": entropy}))
        if epoch == 1:
            assert loss.term_weights() == (1, 1)
            continue
        before = means[epoch - 2]
        powers = [math.exp(dice / before[0] / 2), math.exp(entropy / before[1] / 2)]
        assert loss.term_weights() == pytest.approx([2 * p / sum(powers) for p in powers])
    assert_adds_up(loss)


def test_dynamic_weights_stay_where_there_is_no_ratio() -> None:
    loss = build({"kind": "dynamic_weight_average"})

    def end(dice: float, entropy: float) -> tuple[float, ...]:
        loss.epoch_end(EpochSummary(3, 9, {"generalised_dice": dice, "cross_entropy": entropy}))
        return loss.term_weights()

    end(1.0, 1.0)
    kept = end(0.5, 1.0)
    assert kept[0] < 1 < kept[1]
    assert end(math.nan, 1.0) == kept
    assert end(0.5, 1.0) == kept  # nothing to compare with
    assert end(0.0, 1.0) != kept
    kept = loss.term_weights()
    assert end(0.5, 1.0) == kept  # over 0
    loss.epoch_end(EpochSummary(4, 9, {"cross_entropy": 1.0}))
    assert loss.term_weights() == kept


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.lists(st.floats(1e-6, 1e3), min_size=3, max_size=3), min_size=2, max_size=4),
    st.floats(0.05, 50),
)
def test_dynamic_weights_always_add_up(epochs: list[list[float]], temperature: float) -> None:
    rule = {"kind": "dynamic_weight_average", "temperature": temperature}
    loss = build(rule, "dice", "focal", "cross_entropy")
    for epoch, means in enumerate(epochs, start=1):
        terms = dict(zip(("dice", "focal", "cross_entropy"), means, strict=True))
        loss.epoch_end(EpochSummary(epoch, 9, terms))
    assert sum(loss.term_weights()) == pytest.approx(3) and min(loss.term_weights()) >= 0


def test_learned_weights_start_as_given_and_settle_at_the_inverse_of_twice_the_loss() -> None:
    """exp(-s) L + s/2 is smallest where exp(-s) = 1 / (2 L)."""
    loss = build({"kind": "uncertainty"}, {"loss": "dice", "weight": 2.0}, "cross_entropy")
    plain = build({"kind": "fixed"}, {"loss": "dice", "weight": 2.0}, "cross_entropy")
    assert torch.allclose(loss(LOGITS, LABELS), plain(LOGITS, LABELS))
    optimiser = torch.optim.Adam(loss.parameters(), lr=0.05)
    for _ in range(400):
        optimiser.zero_grad()
        loss(LOGITS, LABELS).backward()
        optimiser.step()
    values = {name: float(v) for name, (v, _) in plain.evaluate(LOGITS, LABELS).terms.items()}
    expected = {f"weight of {name}": pytest.approx(0.5 / v, rel=1e-3) for name, v in values.items()}
    assert loss.adaptive() == expected
    output = loss.evaluate(LOGITS, LABELS)
    assert list(output.terms) == ["dice", "cross_entropy", "log_variances"]
    assert_adds_up(loss)


@pytest.mark.parametrize("rule", ["uncertainty", "dynamic_weight_average", "loss_proportion"])
def test_terms_that_can_be_negative_are_refused(rule: str) -> None:
    for term in ("t_loss", "region_mutual_information", "boundary"):
        with pytest.raises(SpecError, match="can be negative"):
            build({"kind": rule}, "dice", term)


@pytest.mark.parametrize(
    ("weighting", "terms", "said"),
    [
        ({"kind": "scheduled"}, ["dice"], "at least 2 terms"),
        ({"kind": "scheduled"}, [{"loss": "dice", "weight": 0}, "focal"], "all be above 0"),
        ({"kind": "scheduled", "schedule": "table"}, [], "needs a table"),
        ({"kind": "scheduled", "table": [[1, 1, 1]]}, [], "needs a table"),
        ({"kind": "scheduled", "schedule": "table", "table": [[1, 1]]}, [], "1 weights per row for 2"),
        ({"kind": "scheduled", "schedule": "table", "table": [[2, 1, 1], [2, 1, 0]]}, [], "must increase"),
        ({"kind": "scheduled", "schedule": "table", "table": [[1, 0, 0]]}, [], "one of each row above 0"),
        ({"kind": "uncertainty"}, [{"loss": "dice", "weight": 0}], "a weight above 0"),
        ({"kind": "uncertainty"}, [{"loss": "dice", "weight": 0}, "focal"], "all be above 0"),
        ({"kind": "uncertainty"}, [{"loss": "dice", "name": "log_variances"}], "call the term another"),
        ({"kind": "dynamic_weight_average", "temperature": 0}, [], "greater than 0|more than 0|above 0"),
    ],
)
def test_what_does_not_fit_is_refused(weighting: dict[str, Any], terms: list[Any], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        build(weighting, *terms)


@pytest.mark.parametrize("name", RULES)
def test_rules_work_inside_compounds_and_come_back_in_every_copy(name: str) -> None:
    inner = build(RULES[name]).spec.plain()
    spec = (
        losses.parse(
            {
                "kind": "weighted_sum",
                "weighting": "dynamic_weight_average",
                "terms": [{"loss": inner, "name": "in"}, {"loss": "log_cosh_dice", "name": "out"}],
            }
        )
        if name != "uncertainty"
        else build({"kind": "fixed"}, {"loss": inner, "name": "in"}, "dice").spec
    )
    loss = spec.build()
    for epoch in (1, 2, 3):
        values = loss.evaluate(LOGITS / epoch, LABELS).terms
        loss.epoch_end(EpochSummary(epoch, 9, {k: float(v.detach()) for k, (v, _) in values.items()}))
    reported = loss.adaptive()
    assert any(key.startswith("in: weight of") for key in reported)
    assert_adds_up(loss)
    loaded = spec.build()
    loaded.load_state_dict(loss.state_dict())
    for other in (loaded, copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert other.adaptive() == reported
        other.epoch_end(EpochSummary(4, 9, {"in.generalised_dice": 0.1, "in.cross_entropy": 0.3, "out": 0.2}))
        assert other.adaptive() != reported or name == "uncertainty"
    check_copies(spec)
    check_learned(spec)


def test_a_loss_of_several_terms_is_one_term_of_a_sum() -> None:
    """Its own terms would share one name and not add up."""
    loss = build({"kind": "loss_proportion"}, "dice_cl_dice", "hytver")
    output = loss.evaluate(LOGITS, LABELS)
    assert list(output.terms) == ["dice_cl_dice", "hytver"]
    assert_adds_up(loss)
    loss.epoch_end(EpochSummary(1, 9, {"dice_cl_dice": 1.0, "hytver": 3.0}))
    assert loss.term_weights() == (0.25, 0.75)


def test_a_rule_cannot_be_swapped_in_a_run() -> None:
    loss = build({"kind": "scheduled"})
    for other in ({"kind": "fixed"}, {"kind": "uncertainty"}, {"kind": "dynamic_weight_average"}):
        with pytest.raises(SpecError, match="weighting rule"):
            loss.update(build(other).spec)
