"""Values and logit gradients against an independent numpy implementation, in float64."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from segexplorer import losses

SHARED = Path(__file__).resolve().parents[3] / "shared" / "loss_vectors.json"
WEIGHTS = (1 / 3, 2 / 3)
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "ce": ("cross_entropy", {}),
    "wce_weightnorm": ("cross_entropy", {"class_weights": WEIGHTS}),
    "wce_voxelnorm": ("cross_entropy", {"class_weights": WEIGHTS, "weight_norm": "voxels"}),
    "dice": ("dice", {}),
    "dice_fg": ("dice", {"include_background": False}),
    "dice_batch": ("dice", {"batch": True}),
    "dice_smooth1": ("dice", {"eps": 1.0}),
    "dice_squared": ("dice", {"squared": True, "eps": 1e-7}),
    "dice_weighted": ("dice", {"class_weights": WEIGHTS}),
    "tversky_a03_b07": ("tversky", {"include_background": True}),
    "tversky_a07_b03": ("tversky", {"include_background": True, "alpha": 0.7, "beta": 0.3}),
    "tversky_fg_a03_b07": ("tversky", {}),
    "tversky_fg_a07_b03": ("tversky", {"alpha": 0.7, "beta": 0.3}),
    "dice_ce": ("dice_cross_entropy", {}),
    "balanced_ce": ("balanced_cross_entropy", {}),
    "focal_g2": ("focal", {}),
    "focal_g2_a025": ("focal", {"foreground_weight": 0.25}),
    "focal_g05": ("focal", {"gamma": 0.5}),
    "focal_g2_ignore": ("focal", {"ignore_index": 9}),
    "topk_10": ("top_k", {}),
    "topk_25": ("top_k", {"k_percent": 25}),
    "topk_10_ignore": ("top_k", {"ignore_index": 9}),
    "wsdice": ("ws_dice", {}),
    "focal_dice_wang": ("focal_dice", {}),
    "gdl_square": ("generalised_dice", {}),
    "gdl_simple": ("generalised_dice", {"weighting": "simple"}),
    "asymmetric_similarity": ("asymmetric_similarity", {"include_background": True}),
    "focal_tversky": ("focal_tversky", {"include_background": True}),
    "focal_tversky_fg": ("focal_tversky", {}),
    "sensitivity_specificity_r005": ("sensitivity_specificity", {"include_background": True}),
    "sensitivity_specificity_r01": ("sensitivity_specificity", {"include_background": True, "r": 0.1}),
    "sensitivity_specificity_fg_r005": ("sensitivity_specificity", {}),
    "logcosh_dice": ("log_cosh_dice", {}),
    "logcosh_tversky": ("log_cosh_tversky", {"include_background": True}),
    "iou": ("jaccard", {}),
    "combo_b05": ("combo", {}),
    "combo_a04_b07": ("combo", {"lam": 0.4, "positive_weight": 0.7}),
    "wfl_w05": ("weighted_fusion", {}),
    "dice_focal_1_1": ("dice_focal", {"dice_weight": 1.0, "focal_weight": 1.0}),
    "dice_focal_05_05": ("dice_focal", {}),
    "dice_topk": ("dice_top_k", {}),
    "exp_log": ("exponential_logarithmic", {}),
    "hybrid_focal": ("hybrid_focal", {}),
    "unified_focal_sym": ("unified_focal", {"symmetric": True, "gamma": 0.5}),
    "unified_focal_asym": ("unified_focal", {"gamma": 0.5}),
    "unified_focal_asym_g02": ("unified_focal", {}),
    "unified_focal_asym_l03": ("unified_focal", {"lam": 0.3, "delta": 0.7}),
    "hytver": ("hytver", {}),
    "dicepp": ("dice_plus_plus", {}),
    "region_dice_g2_present_mean": ("region_dice", {"grid": 2}),
    "region_dice_g3_present_mean": ("region_dice", {"grid": 3}),
    "region_dice_g1_mean": ("region_dice", {"grid": 1}),
    "adaptive_region_g2_present_mean_detached": (
        "adaptive_region_tversky",
        {"grid": 2, "smoothing": "paper"},
    ),
    "adaptive_region_g2_present_mean_through": (
        "adaptive_region_tversky",
        {"grid": 2, "smoothing": "paper", "detach": False},
    ),
    "adaptive_region_g3_present_mean_detached": (
        "adaptive_region_tversky",
        {"grid": 3, "smoothing": "paper"},
    ),
    "ce_ignore": ("cross_entropy", {"ignore_index": 9}),
    "dice_ignore": ("dice", {"ignore_index": 9}),
    "tversky_fg_ignore": ("tversky", {"ignore_index": 9}),
}


@pytest.fixture(scope="module")
def vectors() -> dict[str, Any]:
    if not SHARED.is_file():
        pytest.skip("no ../shared/loss_vectors.json here")
    data: dict[str, Any] = json.loads(SHARED.read_text())
    return data


@pytest.mark.parametrize("name", KINDS)
def test_value_and_gradient_match(vectors: dict[str, Any], name: str) -> None:
    case = vectors["cases"]["two_class"]
    logits = torch.tensor(case["logits"], dtype=torch.float64).reshape(case["shape"]).requires_grad_()
    labels = torch.tensor(case["labels"]).reshape(2, 1, 4, 4, 4)
    if name.endswith("_ignore"):
        b, d, h, w = torch.meshgrid(*map(torch.arange, (2, 4, 4, 4)), indexing="ij")
        labels = torch.where(((d + 2 * h + 3 * w + b) % 5 == 0)[:, None], 9, labels)
    kind, parameters = KINDS[name]
    value = losses.create(kind, **parameters)(logits, labels)
    value.backward()
    expected = case["results"][name]
    tolerance = max(1e-10, 10 * expected["fd_disagreement"])
    assert value.item() == pytest.approx(expected["value"], abs=1e-10)
    assert logits.grad is not None
    error = logits.grad.flatten() - torch.tensor(expected["grad"], dtype=torch.float64)
    assert error.abs().max().item() <= tolerance


def test_cross_entropy_and_dice_of_one_hand_made_case() -> None:
    """Two voxels, p = 3/4 and 1/4 for the foreground, the first one foreground."""
    odds = torch.tensor([3.0, 1 / 3], dtype=torch.float64).log().reshape(1, 1, 2)
    labels = torch.tensor([[[1, 0]]])
    assert losses.create("cross_entropy")(odds, labels).item() == pytest.approx(0.2876820724517809, abs=1e-12)
    # TP = FN + ... : TP .75, FP .25, FN .25 for both classes
    assert losses.create("dice", eps=1e-12)(odds, labels).item() == pytest.approx(0.25, abs=1e-10)
    tversky = losses.create("tversky", alpha=1.0, beta=2.0, eps=1e-12)(odds, labels).item()
    assert tversky == pytest.approx(0.5, abs=1e-10)
