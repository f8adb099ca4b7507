"""Special cases that tie the losses together, the family tree of Yeung 2022 among them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from segexplorer import losses
from segexplorer.core.errors import SpecError

EXACT = 1e-11


def case(classes: int, scale: float = 1.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn((2, classes, 5, 4, 6), generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, classes, (2, 1, 5, 4, 6), generator=generator)


TWO, FOUR = case(2), case(4)


def value(kind: str, given: tuple[Tensor, Tensor], **parameters: Any) -> float:
    return losses.create(kind, **parameters)(*given).item()


def test_a_scalar_foreground_weight_of_a_half_halves_the_focal_loss() -> None:
    for given in (TWO, FOUR):
        assert value("focal", given, foreground_weight=0.5) == pytest.approx(value("focal", given) / 2)
        assert value("focal", given, gamma=0.0) == pytest.approx(value("cross_entropy", given), abs=EXACT)
        assert value("focal", given) < value("cross_entropy", given)


def test_top_k_of_all_voxels_is_cross_entropy_and_falls_with_k() -> None:
    found = [value("top_k", FOUR, k_percent=k) for k in (5, 20, 60, 100)]
    assert found == sorted(found, reverse=True)
    assert found[-1] == pytest.approx(value("cross_entropy", FOUR), abs=EXACT)


def test_equal_class_weights_are_cross_entropy_and_equal_frequencies_scale_it() -> None:
    entropy = value("cross_entropy", FOUR)
    assert value("cross_entropy", FOUR, class_weights=(2, 2, 2, 2)) == pytest.approx(entropy, abs=EXACT)
    logits, _ = FOUR
    labels = (torch.arange(240).reshape(2, 1, 5, 4, 6)) % 4
    balanced = value("balanced_cross_entropy", (logits, labels))
    assert balanced == pytest.approx(0.75 * value("cross_entropy", (logits, labels)), abs=EXACT)


def test_tversky_family() -> None:
    for given in (TWO, FOUR):
        ones = value("tversky", given, alpha=1.0, beta=1.0)
        assert ones == pytest.approx(value("jaccard", given, include_background=False), abs=EXACT)
        plain = value("tversky", given)
        assert value("focal_tversky", given, exponent=1.0) == pytest.approx(plain, abs=EXACT)
        dice = value("dice", given, include_background=False)
        similar = value("asymmetric_similarity", given, b=1.0, eps=5e-6)
        assert similar == pytest.approx(dice, abs=EXACT)
        assert value("focal_dice", given, exponent=1.0) == pytest.approx(value("dice", given), abs=EXACT)


def test_dice_plus_plus_is_linear_at_one_and_squared_at_two() -> None:
    for given in (TWO, FOUR):
        for gamma in (1, 2):
            exact = value("dice", given, squared=gamma == 2, eps=1e-7)
            assert value("dice_plus_plus", given, gamma=gamma) == pytest.approx(exact, abs=EXACT)
            nearly = value("dice_plus_plus", given, gamma=gamma + 1e-9)
            assert nearly == pytest.approx(exact, abs=1e-7), "the general power agrees with the short way"


def test_uniform_generalised_dice_is_one_minus_the_mean_true_probability() -> None:
    for logits, labels in (TWO, FOUR):
        p_true = torch.softmax(logits, 1).gather(1, labels).flatten(1).mean(1)
        found = value("generalised_dice", (logits, labels), weighting="uniform", eps=1e-14)
        assert found == pytest.approx((1 - p_true).mean().item(), abs=EXACT)


def test_sensitivity_specificity_with_both_channels_does_not_depend_on_r() -> None:
    found = [value("sensitivity_specificity", TWO, include_background=True, r=r) for r in (0, 0.05, 0.9)]
    assert found[0] == pytest.approx(found[1], abs=1e-7) == pytest.approx(found[2], abs=1e-7)
    alone = [value("sensitivity_specificity", TWO, r=r) for r in (0.05, 0.9)]
    assert abs(alone[0] - alone[1]) > 1e-3


@pytest.mark.parametrize("given", [TWO, FOUR], ids=["two classes", "four classes"])
def test_unified_focal_contains_the_family_of_yeung_2022(given: tuple[Tensor, Tensor]) -> None:
    plain = {"gamma": 0.0, "delta": 0.5}
    for symmetric in (True, False):
        dice = value("unified_focal", given, lam=0.0, symmetric=symmetric, **plain)
        assert dice == pytest.approx(value("dice", given, eps=2e-7), abs=EXACT)
        entropy = value("unified_focal", given, lam=1.0, symmetric=symmetric, **plain)
        assert entropy == pytest.approx(0.5 * value("cross_entropy", given), abs=EXACT)
        both = value("unified_focal", given, lam=0.5, symmetric=symmetric, **plain)
        compound = value("dice_cross_entropy", given, dice_weight=0.5, cross_entropy_weight=0.25, eps=2e-7)
        assert both == pytest.approx(compound, abs=EXACT)
        tversky = value("unified_focal", given, lam=0.0, gamma=0.0, delta=0.7, symmetric=symmetric)
        wanted = value("tversky", given, alpha=0.3, beta=0.7, eps=1e-7, include_background=True)
        assert tversky == pytest.approx(wanted, abs=EXACT)
    ends = {"delta": 0.7, "gamma": 0.0}
    assert value("unified_focal", given, symmetric=True, **ends) == pytest.approx(
        value("unified_focal", given, **ends), abs=EXACT
    )
    focal_tversky = value("unified_focal", given, lam=0.0, gamma=0.25, delta=0.7, symmetric=True)
    wanted = value("focal_tversky", given, eps=1e-7, include_background=True)
    assert focal_tversky == pytest.approx(wanted, abs=EXACT)
    focal = value("unified_focal", given, lam=1.0, gamma=0.5, delta=0.7, symmetric=True)
    assert focal == pytest.approx(value("focal", given, gamma=0.5, foreground_weight=0.7), abs=EXACT)
    hybrid = value("hybrid_focal", given, gamma=0.25, foreground_weight=0.7, exponent=0.75)
    unified = value("unified_focal", given, gamma=0.25, delta=0.7, symmetric=True, eps=1e-5)
    assert unified == pytest.approx(hybrid, abs=EXACT), "same gamma in both parts: exponent 1 - gamma"


@pytest.mark.parametrize("given", [TWO, FOUR], ids=["two classes", "four classes"])
def test_hytver_lies_between_tversky_and_modified_cross_entropy(given: tuple[Tensor, Tensor]) -> None:
    assert value("hytver", given, gamma=0.0) == pytest.approx(value("tversky", given), abs=EXACT)
    entropy = value("combo", given, lam=1.0, positive_weight=0.7)
    assert value("hytver", given, gamma=1.0) == pytest.approx(entropy, abs=EXACT)
    for gamma in (0.2, 0.5):
        as_combo = value("combo", given, lam=gamma, positive_weight=0.7, eps=2e-5) + 1 - gamma
        found = value("hytver", given, gamma=gamma, alpha=0.5, beta=0.5)
        assert found == pytest.approx(as_combo, abs=EXACT)


def test_modified_cross_entropy_of_a_half_is_half_of_binary_cross_entropy() -> None:
    logits, labels = FOUR
    probs = torch.softmax(logits, 1)
    hot = torch.cat([(labels == c).double() for c in range(4)], 1)
    binary = torch.nn.functional.binary_cross_entropy(probs[:, 1:], hot[:, 1:]).item()
    assert value("combo", FOUR, lam=1.0) == pytest.approx(0.5 * binary, abs=EXACT)


def test_log_cosh_is_a_gentler_dice() -> None:
    logits, labels = FOUR
    single = (logits[:1, :2], labels[:1] % 2)
    dice = value("dice", single, batch=True, include_background=False)
    found = value("log_cosh_dice", single, include_background=False)
    assert found == pytest.approx(math.log(math.cosh(dice)), abs=EXACT)
    assert found <= min(dice, dice**2 / 2)


def test_exponential_logarithmic_by_hand() -> None:
    """Two voxels, p_1 = 3/4 and 1/4, the first foreground: both Dice are (2 x .75 + 1) / 3, all weights root 2."""
    odds = torch.tensor([3.0, 1 / 3], dtype=torch.float64).log().reshape(1, 1, 2)
    labels = torch.tensor([[[1, 0]]])
    dice = (-math.log(2.5 / 3)) ** 0.3
    voxel = math.sqrt(2) * (-math.log(0.75)) ** 0.3
    found = value("exponential_logarithmic", (odds, labels))
    assert found == pytest.approx(0.8 * dice + 0.2 * voxel, abs=EXACT)


SYMMETRIC = [
    ("cross_entropy", {}),
    ("balanced_cross_entropy", {}),
    ("focal", {}),
    ("top_k", {}),
    ("dice", {}),
    ("jaccard", {"squared": True}),
    ("generalised_dice", {}),
    ("dice_plus_plus", {"gamma": 1.5}),
    ("ws_dice", {}),
    ("focal_dice", {}),
    ("log_cosh_dice", {}),
    ("tversky", {"include_background": True}),
    ("sensitivity_specificity", {"include_background": True}),
    ("lovasz_softmax", {}),
    ("t_vmf_dice", {}),
    ("region_dice", {"grid": 2}),
    ("adaptive_region_tversky", {"grid": 2}),
    ("exponential_logarithmic", {}),
    ("dice_cross_entropy", {}),
]


@pytest.mark.parametrize(("kind", "parameters"), SYMMETRIC, ids=[k for k, _ in SYMMETRIC])
def test_renaming_classes_changes_nothing_where_all_count(kind: str, parameters: dict[str, Any]) -> None:
    logits, labels = FOUR
    order = torch.tensor([2, 0, 3, 1])
    renamed = (logits[:, order], torch.argsort(order)[labels])
    assert value(kind, renamed, **parameters) == pytest.approx(value(kind, FOUR, **parameters), abs=EXACT)


def reads_neighbours(kind: str) -> bool:
    spec = losses.parse(kind)
    terms = [term.spec for term in spec.compound_terms()] or [spec]
    return any(t.regional or t.family == "boundary" or getattr(t, "kind", "") in NEIGHBOURLY for t in terms)


NEIGHBOURLY = {"distance_cross_entropy", "region_mutual_information", "cl_dice", "dice_cl_dice"}


@pytest.mark.parametrize("kind", [k for k in losses.names() if not reads_neighbours(k)])
def test_order_of_voxels_does_not_matter_to_losses_without_neighbourhoods(kind: str) -> None:
    logits, labels = (x.flatten(2) for x in case(3))
    order = torch.randperm(logits.shape[2], generator=torch.Generator().manual_seed(1))
    shuffled = (logits[..., order], labels[..., order])
    assert value(kind, shuffled) == pytest.approx(value(kind, (logits, labels)), abs=1e-10)


@pytest.mark.parametrize(
    "kind", [k for k in losses.names() if {"alpha", "beta"} <= set(losses.spec(k).model_fields)]
)
def test_alpha_weighs_surplus_and_beta_missed_voxels(kind: str) -> None:
    """The object is 6 of 10 columns; one prediction marks 2 too many, the other 2 too few."""
    labels = torch.zeros(1, 1, 10, 10, dtype=torch.long)
    labels[..., :6] = 1

    def marking(columns: int) -> tuple[Tensor, Tensor]:
        inside = torch.zeros(1, 1, 10, 10, dtype=torch.float64)
        inside[..., :columns] = 1
        return torch.cat([-4 * (inside - 0.5), 4 * (inside - 0.5)], 1), labels

    # with two classes a surplus voxel of one is a missed voxel of the other
    foreground = {"include_background": False}
    common = foreground if "include_background" in losses.spec(kind).model_fields else {}

    def change(name: str, columns: int) -> float:
        dear = value(kind, marking(columns), **{name: 0.9}, **common)
        return dear - value(kind, marking(columns), **{name: 0.4}, **common)

    assert change("alpha", 8) > 2 * change("alpha", 4) > 0
    assert change("beta", 4) > 2 * change("beta", 8) > 0


def test_parameters_that_would_reward_errors_are_refused() -> None:
    for kind, parameters in (
        ("focal", {"foreground_weight": 1.5}),
        ("focal", {"foreground_weight": (-1.0, 1.0)}),
        ("unified_focal", {"delta": 1.0}),
        ("hytver", {"alpha": 0.0, "beta": 0.0}),
        ("top_k", {"k_percent": 0}),
        ("combo", {"lam": 2}),
    ):
        with pytest.raises(SpecError):
            losses.create(kind, **parameters)
