"""Compounds, adaptive weights, live changes and what the module refuses."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from segexplorer import losses
from segexplorer.core.errors import LossInputError, SpecError, UnknownKindError
from segexplorer.core.events import EpochSummary
from segexplorer.core.spec import get_value, live_parameters, replace_value
from segexplorer.functional.inputs import LossContext
from segexplorer.losses import LossSpec, weightings

LOGITS = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))
LABELS = torch.randint(0, 3, (2, 1, 6, 6), generator=torch.Generator().manual_seed(2))


def summary(**terms: float) -> EpochSummary:
    return EpochSummary(1, 10, terms)


def test_adaptive_weights_are_the_shares_of_the_last_epoch() -> None:
    loss = losses.create("adaptive_tversky_cross_entropy")
    assert loss.adaptive() == {"weight of tversky": 0.5, "weight of cross_entropy": 0.5}
    loss.step_end({"tversky": 9.0, "cross_entropy": 1.0})  # follows epochs, not steps
    assert loss.adaptive()["weight of tversky"] == 0.5
    loss.epoch_end(summary(tversky=0.5, cross_entropy=0.05))
    assert loss.adaptive()["weight of tversky"] == pytest.approx(0.5 / 0.55)
    output = loss.evaluate(LOGITS, LABELS)
    parts = [losses.create("tversky", alpha=0.5, beta=0.5), losses.create("cross_entropy")]
    expected = sum(w * p(LOGITS, LABELS) for w, p in zip((10 / 11, 1 / 11), parts, strict=True))
    assert torch.allclose(output.value, torch.as_tensor(expected))
    for means in (
        {"tversky": 0.0, "cross_entropy": 0.0},
        {"tversky": float("nan"), "cross_entropy": 1.0},
        {},
    ):
        loss.epoch_end(EpochSummary(2, 10, means))
        assert loss.adaptive()["weight of tversky"] == pytest.approx(0.5 / 0.55)


def test_adaptive_weights_by_step_follow_steps() -> None:
    loss = losses.create("adaptive_tversky_cross_entropy", granularity="step")
    loss.step_end({"tversky": 3.0, "cross_entropy": 1.0})
    assert loss.adaptive() == {"weight of tversky": 0.75, "weight of cross_entropy": 0.25}


def test_adaptive_weights_inside_a_weighted_sum_find_their_terms() -> None:
    terms = [{"loss": "adaptive_tversky_cross_entropy", "name": "a"}, {"loss": "dice"}]
    loss = losses.parse({"kind": "weighted_sum", "terms": terms}).build()
    output = loss.evaluate(LOGITS, LABELS)
    assert list(output.terms) == ["a.tversky", "a.cross_entropy", "dice"]
    loss.epoch_end(EpochSummary(1, 2, {"a.tversky": 1.0, "a.cross_entropy": 3.0, "dice": 1.0}))
    assert loss.adaptive() == {"a: weight of tversky": 0.25, "a: weight of cross_entropy": 0.75}


def test_live_changes_keep_the_adapted_weights() -> None:
    loss = losses.create("adaptive_tversky_cross_entropy")
    loss.epoch_end(summary(tversky=3.0, cross_entropy=1.0))
    before = loss(LOGITS, LABELS).item()
    loss.update(replace_value(loss.spec, "alpha", 0.9))
    assert loss.adaptive()["weight of tversky"] == 0.75
    assert loss(LOGITS, LABELS).item() > before
    with pytest.raises(SpecError, match="cannot change its kind"):
        loss.update(losses.parse("dice"))


def _changed(spec: LossSpec, path: str) -> LossSpec:
    """Return the spec with another allowed number at the path."""
    for number in (0.15, 3.0, 0.4):
        try:
            if number != get_value(spec, path):
                return replace_value(spec, path, number)
        except SpecError:
            continue
    raise AssertionError(f"{path} takes none of the numbers tried")


@pytest.mark.parametrize("kind", losses.names())
def test_every_live_parameter_takes_effect_without_a_new_module(kind: str) -> None:
    spec = losses.parse(kind)
    for path, declared in live_parameters(spec).items():
        if declared.shape.form != "number":
            continue
        changed = _changed(spec, path)
        loss, other, before = spec.build(), changed.build(), spec.build()
        for each in (loss, other, before):  # what scales a validation's Dice shows once there was one
            each.epoch_end(EpochSummary(1, 10, {}, {0: 0.9, 1: 0.5, 2: 0.2}))
        loss.update(changed)
        assert torch.equal(loss(LOGITS, LABELS), other(LOGITS, LABELS)), path
        assert loss(LOGITS, LABELS) != before(LOGITS, LABELS), path


def test_repeated_terms_get_distinct_names_whatever_they_are_called() -> None:
    terms = [{"loss": "dice"}, {"loss": "dice", "name": "dice_2"}, {"loss": "dice"}, {"loss": "dice"}]
    output = losses.parse({"kind": "weighted_sum", "terms": terms}).build().evaluate(LOGITS, LABELS)
    assert list(output.terms) == ["dice", "dice_2", "dice_3", "dice_4"]


def test_region_presets_add_a_term_each() -> None:
    assert set(losses.presets()) >= {"chen2023_baseline", "chen2023_region", "chen2023_adaptive_region"}
    base = losses.create("dice", squared=True, eps=1e-7)(LOGITS, LABELS) + losses.create("cross_entropy")(
        LOGITS, LABELS
    )
    assert torch.allclose(losses.create("squared_dice_ce")(LOGITS, LABELS), base)
    for name, term in (("region", "region_dice"), ("adaptive_region", "adaptive_region_tversky")):
        whole = losses.create(f"squared_dice_ce_{name}")(LOGITS, LABELS)
        assert torch.allclose(whole, base + losses.create(term)(LOGITS, LABELS))


def test_a_sum_without_any_weight_is_refused() -> None:
    with pytest.raises(SpecError, match="needs a weight above 0"):
        losses.parse({"kind": "weighted_sum", "terms": [{"loss": "dice", "weight": 0}]})


def test_proportional_weights_refuse_a_term_that_can_be_negative() -> None:
    rule = weightings.parse("loss_proportion")
    assert "negative" in rule.refuse("boundary", -1.0) and rule.refuse("dice", 0.0) == ""


@pytest.mark.parametrize(
    ("kind", "parameters", "said"),
    [
        ("tversky", {"alpha": 0, "beta": 0}, "both be 0"),
        ("dice", {"class_weights": (-1, 1)}, "at least 0"),
        ("cross_entropy", {"class_weights": (0, 0)}, "above 0"),
        ("region_dice", {"grid": 0}, "at least 1"),
        ("tversky", {"alfa": 1}, "Did you mean alpha"),
    ],
)
def test_bad_parameters_are_named(kind: str, parameters: dict[str, object], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        losses.create(kind, **parameters)


def test_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(UnknownKindError, match="tversky"):
        losses.create("tverski")


def test_bad_inputs_are_named() -> None:
    loss = losses.create("dice", class_weights=(1, 2))
    with pytest.raises(LossInputError, match="2 class weights for 3 classes"):
        loss(LOGITS, LABELS)
    with pytest.raises(LossInputError, match="not a tensor"):
        losses.create("dice")(LOGITS, None)
    with pytest.raises(LossInputError, match="voxel weights"):
        context = LossContext(voxel_weights=torch.ones(2, 6, 6))
        losses.create("cross_entropy")(LOGITS, LABELS, context)
    with pytest.raises(LossInputError, match="beyond 1e\\+30"):
        losses.create("cross_entropy")(LOGITS * 1e32, LABELS)


def test_padded_voxels_never_count_in_training() -> None:
    """A context comes with every batch of ours and says that 255 has no truth."""
    padded = LABELS.clone()
    padded[..., 4:] = 255
    for name in [*losses.names(), *losses.presets()]:
        logits = LOGITS.clone().requires_grad_()
        losses.create(name)(logits, padded, LossContext()).backward()
        assert logits.grad is not None and not logits.grad[..., 4:].any() and logits.grad.any(), name
    with pytest.raises(LossInputError, match="label 255"):
        losses.create("dice")(LOGITS, padded)


def test_voxel_weights_scale_the_cross_entropy() -> None:
    context = LossContext(voxel_weights=torch.full((2, 1, 6, 6), 3.0))
    loss = losses.create("cross_entropy")
    assert torch.allclose(loss(LOGITS, LABELS, context), 3 * loss(LOGITS, LABELS))


# torch's own compiler asks a non-leaf tensor for its gradient when it goes on after a graph break
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("kind", ["dice_cross_entropy", "adaptive_region_tversky"])
def test_compiled_losses_give_the_same_numbers(kind: str) -> None:
    loss = losses.create(kind)
    results = []
    for call in (loss, torch.compile(loss, backend="aot_eager")):
        logits = LOGITS.clone().requires_grad_()
        value = call(logits, LABELS)
        value.backward()
        assert logits.grad is not None
        results.append((value.detach(), logits.grad))
    assert torch.allclose(results[0][0], results[1][0]) and torch.allclose(results[0][1], results[1][1])


def test_losses_are_listed_without_torch() -> None:
    code = "import sys, segexplorer.losses as l; l.names(); l.presets(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
