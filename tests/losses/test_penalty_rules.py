"""Rules by which penalties follow the errors of a region: their shape, their gradients, and the loss under them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from segexplorer import losses
from segexplorer.core.errors import SpecError
from segexplorer.core.registry import families
from segexplorer.losses.penalties import registry

RULES: list[Any] = [
    "linear",
    {"kind": "power", "exponent": 2},
    {"kind": "power", "exponent": 0.5},
    {"kind": "power", "exponent": 1},
    {"kind": "logistic"},
    {"kind": "logistic", "steepness": 20, "middle": 0.3},
]


def case(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    labels = torch.randint(0, 3, (2, 1, *shape), generator=generator)
    return torch.randn(2, 3, *shape, generator=generator, dtype=torch.float64), labels


@pytest.mark.parametrize("given_rule", [*RULES, *registry.names()], ids=str)
def test_every_rule_rises_from_0_to_1_with_the_slope_it_states(given_rule: Any) -> None:
    rule = registry.parse(given_rule)
    shares = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    ends = rule.scaled(torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert ends.tolist() == pytest.approx([0, 1], abs=2e-6)
    assert (rule.scaled(shares).diff() > 0).all()
    step = 1e-6
    numeric = (rule.scaled(shares + step) - rule.scaled(shares - step)) / (2 * step)
    assert numeric.tolist() == pytest.approx([rule.slope(x) for x in shares.tolist()], rel=1e-5)


def by_hand(kind: str, x: float, **given: float) -> float:
    """The rules' formulas once more, in plain Python."""
    if kind == "power":
        return x ** given["exponent"]
    if kind == "logistic":
        k, m = given["steepness"], given["middle"]
        low, high, here = (1 / (1 + np.exp(-k * (t - m))) for t in (0.0, 1.0, x))
        return float((here - low) / (high - low))
    return x


@given(
    fp=st.floats(0, 1e4),
    fn=st.floats(0, 1e4),
    rule=st.sampled_from(
        [("linear", {}), ("power", {"exponent": 3.0}), ("logistic", {"steepness": 12.0, "middle": 0.4})]
    ),
)
def test_penalties_go_from_a_to_a_plus_b(fp: float, fn: float, rule: tuple[str, dict[str, float]]) -> None:
    kind, parameters = rule
    spec = losses.parse(
        {"kind": "adaptive_region_tversky", "a": 0.2, "b": 0.5, "penalty_rule": {"kind": kind, **parameters}}
    )
    alpha, beta = spec.penalties(*torch.tensor([fp, fn], dtype=torch.float64))  # type: ignore[attr-defined]
    eps = 1e-7
    x = (fp + eps / 2) / (fp + fn + eps)
    assert alpha.item() == pytest.approx(0.2 + 0.5 * by_hand(kind, x, **parameters), abs=1e-9)
    assert beta.item() == pytest.approx(0.2 + 0.5 * by_hand(kind, 1 - x, **parameters), abs=1e-9)
    assert 0.2 - 1e-9 <= alpha.item() <= 0.7 + 1e-9


def test_the_default_is_the_papers_rule() -> None:
    logits, labels = case(6, 6)
    default = losses.create("adaptive_region_tversky", grid=2).evaluate(logits, labels)
    for same in ("linear", {"kind": "power", "exponent": 1}):
        other = losses.create("adaptive_region_tversky", grid=2, penalty_rule=same).evaluate(logits, labels)
        assert torch.equal(default.value, other.value)
    fp, fn = default.maps["fp"].values, default.maps["fn"].values
    expected = 0.3 + 0.4 * fp / (fp + fn)
    torch.testing.assert_close(default.maps["alpha"].values, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("given_rule", RULES[1:3] + RULES[4:], ids=str)
def test_other_rules_show_in_the_maps_and_train(given_rule: Any) -> None:
    logits, labels = case(8, 8)
    loss = losses.create("adaptive_region_tversky", grid=2, penalty_rule=given_rule)
    output = loss.evaluate(logits.requires_grad_(), labels)
    fp, fn = output.maps["fp"].values, output.maps["fn"].values
    expected = 0.3 + 0.4 * loss.spec.penalty_rule.scaled(fp / (fp + fn))
    torch.testing.assert_close(output.maps["alpha"].values, expected, atol=1e-6, rtol=0)
    paper = losses.create("adaptive_region_tversky", grid=2).evaluate(logits, labels)
    assert abs(output.value.item() - paper.value.item()) > 1e-4
    output.value.backward()
    assert logits.grad is not None and torch.isfinite(logits.grad).all() and logits.grad.abs().max() > 0


@pytest.mark.parametrize("given_rule", RULES, ids=str)
def test_gradients_through_the_penalties_are_right(given_rule: Any) -> None:
    _, labels = case(4, 4)
    loss = losses.create("adaptive_region_tversky", grid=2, detach=False, a=0.9, penalty_rule=given_rule)
    logits = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: loss(z, labels), logits)


@pytest.mark.parametrize("given_rule", RULES, ids=str)
def test_the_warning_knows_from_which_a_on_no_error_is_rewarded(given_rule: Any) -> None:
    """Without detach: the least slope of alpha FP + beta FN in FP, by differences over many pairs of errors."""
    rule = registry.parse(given_rule)
    enough = -rule.lowest_pull()
    shares = np.linspace(1e-3, 1 - 1e-3, 999)
    step = 1e-6

    def weighed(fp: Any, fn: Any) -> Any:
        x = torch.from_numpy(np.asarray(fp / (fp + fn)))
        return rule.scaled(x).numpy() * fp + rule.scaled(1 - x).numpy() * fn

    slopes = (weighed(shares + step, 1 - shares) - weighed(shares - step, 1 - shares)) / (2 * step)
    assert slopes.min() == pytest.approx(-enough, abs=0.06)
    for a, warns in ((0.95 * enough, True), (1.05 * enough + 0.01, False)):
        parameters = {"detach": False, "b": 1.0, "a": max(a, 1e-3), "penalty_rule": given_rule}
        spec = losses.parse({"kind": "adaptive_region_tversky", **parameters})
        assert bool(spec.warning_message()) == (warns and a > 1e-3)


def test_rules_are_a_family_with_declared_parameters() -> None:
    assert families()["penalties"] is registry and {"linear", "power", "logistic"} <= set(registry.names())
    with pytest.raises(SpecError, match="xponent"):
        registry.parse({"kind": "power", "exponent": 0})
    with pytest.raises(SpecError, match="penalty rule"):
        losses.parse({"kind": "adaptive_region_tversky", "penalty_rule": "quadratic"})
