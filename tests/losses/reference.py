"""The losses in plain numpy, all in one place; here those that are made of several."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.losses.reference_boundaries import (
    adaptive_region_tversky,
    boundary,
    boxes,
    cl_dice,
    difference_over_union,
    hausdorff,
    over_boxes,
    region_dice,
    soft_skeleton,
    unsigned,
)
from tests.losses.reference_case import Case, space
from tests.losses.reference_regions import (
    asymmetric_similarity,
    class_mean,
    dice,
    dice_index,
    dice_plus_plus,
    focal_dice,
    generalised_dice,
    jaccard,
    log_cosh_dice,
    lovasz_softmax,
    mutual_information,
    sensitivity_specificity,
    sums,
    t_loss,
    t_vmf_dice,
    tversky,
    tversky_index,
    wasserstein_dice,
    ws_dice,
)
from tests.losses.reference_voxels import (
    balanced_cross_entropy,
    cross_entropy,
    focal,
    nearness,
    top_k,
    two_sided,
)

__all__ = [
    "Case",
    "adaptive_region_tversky",
    "asymmetric_similarity",
    "balanced_cross_entropy",
    "boundary",
    "boxes",
    "cl_dice",
    "class_mean",
    "combo",
    "cross_entropy",
    "dice",
    "dice_index",
    "dice_plus_plus",
    "difference_over_union",
    "exponential_logarithmic",
    "focal",
    "focal_dice",
    "generalised_dice",
    "hausdorff",
    "hytver",
    "jaccard",
    "log_cosh_dice",
    "lovasz_softmax",
    "mutual_information",
    "nearness",
    "over_boxes",
    "region_dice",
    "sensitivity_specificity",
    "soft_skeleton",
    "sums",
    "t_loss",
    "t_vmf_dice",
    "top_k",
    "tversky",
    "tversky_index",
    "two_sided",
    "unified_focal",
    "unsigned",
    "wasserstein_dice",
    "ws_dice",
]


def combo(case: Case, lam: float = 0.5, beta: float = 0.5, eps: float = 1e-5) -> float:
    index = 1 - dice(case, eps=eps, background=False)
    return lam * two_sided(case, beta) - (1 - lam) * index


def hytver(case: Case, gamma: float = 0.5, positive: float = 0.7, **others: Any) -> float:
    return gamma * two_sided(case, positive) + (1 - gamma) * tversky(case, background=False, **others)


def exponential_logarithmic(
    case: Case, dice_weight: float = 0.8, ce_weight: float = 0.2, gamma: float = 0.3, eps: float = 1.0
) -> float:
    counts = (case.g * case.m).sum((0, *space(case.p)))
    overlap = dice_index(case, False, eps, True)
    total = dice_weight * np.mean((-np.log(overlap)) ** gamma)
    for c in np.flatnonzero(counts):
        chosen = case.g[:, c] * case.m[:, 0] > 0
        w = np.sqrt(counts.sum() / counts[c])
        total += ce_weight * w * ((-case.log_p[:, c][chosen]) ** gamma).sum() / case.kept
    return float(total)


def unified_focal(
    case: Case, symmetric: bool = False, lam: float = 0.5, delta: float = 0.6, gamma: float = 0.2,
    eps: float = 1e-7,
) -> float:  # fmt: skip
    index = tversky_index(case, 1 - delta, delta, eps, False)
    entropy, ratio = 0.0, []
    for c in range(case.p.shape[1]):
        w = delta if c else 1 - delta
        q = 1.0 if c and not symmetric else (case.p.sum(1) - case.p[:, c]) ** gamma
        entropy -= w * (case.m[:, 0] * case.g[:, c] * q * case.log_p[:, c]).sum()
        ratio.append((1 - index[:, c]) ** (1.0 if c == 0 and not symmetric else 1 - gamma))
    return float(lam * entropy / case.kept + (1 - lam) * np.mean(ratio))
