"""Every loss against its plain numpy reference: value, and derivatives along random directions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from segexplorer import losses
from segexplorer.functional.inputs import LossContext
from tests.losses import reference as ref

Row = tuple[str, dict[str, Any], Any, dict[str, Any]]

WEIGHTS = (0.5, 2.0, 1.25)
BACK = {"include_background": True}, {"background": True}
FORE = {"include_background": False}, {"background": False}


def case(classes: int, shape: tuple[int, ...], kind: str = "plain", spacing: Any = None) -> ref.Case:
    """Two samples; "absent": class 1 nowhere, the last one in sample 0 alone; "ignored": holes of label 255."""
    rng = np.random.default_rng(classes * 100 + sum(shape) + len(kind))
    logits = 1.5 * rng.normal(size=(2, classes, *shape))
    classes = max(classes, 2)
    if kind == "soft":
        return ref.Case(
            logits,
            rng.dirichlet(np.ones(classes), size=(2, *shape)).transpose(0, -1, *range(1, len(shape) + 1)),
        )
    labels = rng.integers(0, classes, (2, *shape))
    if kind == "absent":
        labels[labels == 1] = 0
        labels[1][labels[1] == classes - 1] = 0
    if kind == "ignored":
        labels[rng.random(labels.shape) < 0.3] = 255
    return ref.Case(logits, labels, spacing=spacing)


def compare(kind: str, given: dict[str, Any], function: Any, same: dict[str, Any], at: ref.Case) -> None:
    """Hold value to 1e-10 and four derivatives along random directions to 1e-6."""
    logits = torch.tensor(at.logits, requires_grad=True)
    target = torch.tensor(at.target) if at.soft else torch.tensor(at.target)[:, None]
    spacing = None if at.spacing is None else torch.tensor([at.spacing] * 2, dtype=torch.float64)
    value = losses.create(kind, **given)(logits, target, LossContext(spacing=spacing))
    assert value.item() == pytest.approx(function(at, **same), abs=1e-10, rel=1e-10)
    (gradient,) = torch.autograd.grad(value, logits)
    rng, step = np.random.default_rng(1), 1e-6
    for _ in range(4):
        way = rng.normal(size=at.logits.shape)
        ahead, behind = (function(at.at(at.logits + s * step * way), **same) for s in (1, -1))
        expected = (ahead - behind) / (2 * step)
        assert (gradient.numpy() * way).sum() == pytest.approx(expected, abs=1e-6, rel=1e-6)


def ratio(kind: str, function: Any, **same: Any) -> list[Row]:
    """One ratio loss under each of the family's parameters."""
    rows: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (BACK[0], BACK[1]),
        (FORE[0], FORE[1]),
        ({"eps": 0.5, "batch": True, **BACK[0]}, {"eps": 0.5, "batch": True}),
        ({"absent": "skip", **FORE[0]}, {"absent": "skip", **FORE[1]}),
        ({"absent": "fp", **BACK[0]}, {"absent": "fp"}),
        ({"absent": "fp", "batch": True, **FORE[0]}, {"absent": "fp", "batch": True, **FORE[1]}),
        ({"absent": "skip", "class_weights": WEIGHTS, **BACK[0]}, {"absent": "skip", "weights": WEIGHTS}),
        ({"class_weights": WEIGHTS, **FORE[0]}, {"weights": WEIGHTS, **FORE[1]}),
    ]
    return [(kind, given, function, {**same, **mine}) for given, mine in rows]


RATIOS: list[Row] = [
    *ratio("dice", ref.dice),
    *ratio("tversky", ref.tversky),
    *ratio("focal_tversky", ref.tversky, exponent=0.75),
    *ratio("jaccard", ref.jaccard),
    *ratio("log_cosh_dice", ref.log_cosh_dice),
    *ratio("log_cosh_tversky", ref.tversky, log_cosh=True),
    *ratio("asymmetric_similarity", ref.asymmetric_similarity),
    *ratio("dice_plus_plus", ref.dice_plus_plus),
    *ratio("focal_dice", ref.focal_dice),
    *ratio("ws_dice", ref.ws_dice),
    *ratio("sensitivity_specificity", ref.sensitivity_specificity),
    ("dice", {"squared": True}, ref.dice, {"squared": True}),
    ("jaccard", {"squared": True}, ref.jaccard, {"squared": True}),
    ("dice_plus_plus", {"gamma": 1.5}, ref.dice_plus_plus, {"gamma": 1.5}),
    ("focal_dice", {"exponent": 1.5}, ref.focal_dice, {"exponent": 1.5}),
    ("ws_dice", {"background": 0.4}, ref.ws_dice, {"v1": 0.4}),
    ("tversky", {"alpha": 1.2, "beta": 0.1}, ref.tversky, {"alpha": 1.2, "beta": 0.1, **FORE[1]}),
    ("focal_tversky", {"exponent": 2.0}, ref.tversky, {"exponent": 2.0, **FORE[1]}),
    ("asymmetric_similarity", {"b": 0.5}, ref.asymmetric_similarity, {"b": 0.5, **FORE[1]}),
    ("sensitivity_specificity", {"r": 0.6}, ref.sensitivity_specificity, {"r": 0.6, **FORE[1]}),
]
PLAIN: list[Row] = [
    ("cross_entropy", {}, ref.cross_entropy, {}),
    ("cross_entropy", {"label_smoothing": 0.2}, ref.cross_entropy, {"smoothing": 0.2}),
    ("balanced_cross_entropy", {}, ref.balanced_cross_entropy, {}),
    ("balanced_cross_entropy", {"scope": "sample"}, ref.balanced_cross_entropy, {"scope": "sample"}),
    ("focal", {}, ref.focal, {}),
    ("focal", {"gamma": 0.5, "foreground_weight": 0.25}, ref.focal, {"gamma": 0.5, "alpha": 0.25}),
    ("top_k", {}, ref.top_k, {}),
    ("top_k", {"k_percent": 33.0, "scope": "sample"}, ref.top_k, {"percent": 33.0, "scope": "sample"}),
    ("distance_cross_entropy", {}, ref.cross_entropy, {"strength": 1.0}),
    ("distance_cross_entropy", {"strength": 0.3}, ref.cross_entropy, {"strength": 0.3}),
    ("generalised_dice", {}, ref.generalised_dice, {}),
    ("generalised_dice", {"weighting": "simple", "absent": "skip"}, ref.generalised_dice,
     {"weighting": "simple", "absent": "skip"}),
    ("generalised_dice", {"weighting": "uniform", "eps": 1.0}, ref.generalised_dice,
     {"weighting": "uniform", "eps": 1.0}),
    ("generalised_dice", {"batch": True, "absent": "skip"}, ref.generalised_dice,
     {"batch": True, "absent": "skip"}),
    ("lovasz_softmax", {}, ref.lovasz_softmax, {}),
    ("lovasz_softmax", {"per_image": True}, ref.lovasz_softmax, {"per_image": True}),
    ("lovasz_softmax", {"classes": "all"}, ref.lovasz_softmax, {"classes": "all"}),
    ("lovasz_softmax", {"classes": "all", "per_image": True}, ref.lovasz_softmax,
     {"classes": "all", "per_image": True}),
    ("t_vmf_dice", {}, ref.t_vmf_dice, {}),
    ("t_vmf_dice", {"kappa": 2.0, "absent": "penalise"}, ref.t_vmf_dice, {"kappa": 2.0, "absent": "penalise"}),
    ("adaptive_t_vmf_dice", {}, ref.t_vmf_dice, {"kappa": 0.0}),
    ("t_loss", {}, ref.t_loss, {}),
    ("t_loss", {"nu": 7.0, "normalise": False}, ref.t_loss, {"nu": 7.0, "normalise": False}),
    ("region_dice", {"grid": 2}, ref.region_dice, {"grid": 2}),
    ("region_dice", {"grid": 3, "reduction": "sum", "squared": False, "eps": 0.1}, ref.region_dice,
     {"grid": 3, "reduction": "sum", "squared": False, "eps": 0.1}),
    ("adaptive_region_tversky", {"grid": 2}, ref.adaptive_region_tversky, {"grid": 2}),
    ("adaptive_region_tversky", {"grid": 3, "smoothing": "paper", "reduction": "sum", "eps": 0.1},
     ref.adaptive_region_tversky, {"grid": 3, "smoothing": "paper", "reduction": "sum", "eps": 0.1}),
    ("adaptive_region_tversky", {"grid": 2, "detach": False, "a": 0.6, "b": 0.2}, ref.adaptive_region_tversky,
     {"grid": 2, "detach": False, "a": 0.6, "b": 0.2}),
    ("boundary", {}, ref.boundary, {}),
    ("boundary", {"include_background": True}, ref.boundary, {"background": True}),
    ("hausdorff", {}, ref.hausdorff, {}),
    ("hausdorff", {"exponent": 1.0, "one_sided": True}, ref.hausdorff, {"exponent": 1.0, "one_sided": True}),
    ("boundary_difference_over_union", {}, ref.difference_over_union, {}),
    ("boundary_difference_over_union", {"max_alpha": 0.1, "min_alpha": 0.0, "absent": "penalise", "eps": 0.5},
     ref.difference_over_union, {"top": 0.1, "low": 0.0, "absent": "penalise", "eps": 0.5}),
    ("cl_dice", {"iterations": 2}, ref.cl_dice, {"iterations": 2}),
    ("cl_dice", {"joint": True, "smooth": 0.1}, ref.cl_dice, {"joint": True, "smooth": 0.1}),
    ("combo", {}, ref.combo, {}),
    ("combo", {"lam": 0.2, "positive_weight": 0.8, "eps": 1.0}, ref.combo,
     {"lam": 0.2, "beta": 0.8, "eps": 1.0}),
    ("hytver", {}, ref.hytver, {}),
    ("hytver", {"alpha": 0.6, "beta": 0.2, "gamma": 0.3, "positive_weight": 0.4}, ref.hytver,
     {"alpha": 0.6, "beta": 0.2, "gamma": 0.3, "positive": 0.4}),
    ("exponential_logarithmic", {}, ref.exponential_logarithmic, {}),
    ("exponential_logarithmic", {"gamma": 1.0, "eps": 0.1, "dice_weight": 0.3}, ref.exponential_logarithmic,
     {"gamma": 1.0, "eps": 0.1, "dice_weight": 0.3}),
    ("unified_focal", {}, ref.unified_focal, {}),
    *[("unified_focal", given, ref.unified_focal, given) for given in (
        {"symmetric": True, "gamma": 0.5}, {"lam": 1.0, "delta": 0.7}, {"lam": 0.0, "gamma": 0.6},
        {"symmetric": True, "lam": 0.3, "delta": 0.8, "gamma": 0.0, "eps": 0.1})],
]  # fmt: skip
THREE: list[Row] = [
    ("cross_entropy", {"class_weights": WEIGHTS}, ref.cross_entropy, {"weights": WEIGHTS}),
    ("cross_entropy", {"class_weights": WEIGHTS, "weight_norm": "voxels"}, ref.cross_entropy,
     {"weights": WEIGHTS, "norm": "voxels"}),
    ("cross_entropy", {"class_weights": WEIGHTS, "label_smoothing": 0.1}, ref.cross_entropy,
     {"weights": WEIGHTS, "smoothing": 0.1}),
    ("focal", {"foreground_weight": WEIGHTS}, ref.focal, {"alpha": WEIGHTS}),
    ("generalised_wasserstein_dice", {"distances": ((0, 1, 1), (1, 0, 0.4), (1, 0.4, 0))}, ref.wasserstein_dice,
     {"a": ((0, 1, 1), (1, 0, 0.4), (1, 0.4, 0))}),
    ("generalised_wasserstein_dice", {}, ref.wasserstein_dice, {"a": 1 - np.eye(3)}),
]  # fmt: skip
CUBES: list[Row] = [
    ("region_dice", {"grid": (2, 3, 1)}, ref.region_dice, {"grid": (2, 3, 1)}),
    ("region_dice", {"box_size": 2}, ref.region_dice, {"edge": 2}),
    ("region_dice", {"box_size": (4, 3, 9)}, ref.region_dice, {"edge": (4, 3, 9)}),
    ("adaptive_region_tversky", {"box_size": (2, 3, 2)}, ref.adaptive_region_tversky, {"edge": (2, 3, 2)}),
]  # fmt: skip
WINDOWS: list[Row] = [
    ("region_mutual_information", {"cross_entropy_weight": 0.0}, ref.mutual_information, {}),
    (
        "region_mutual_information",
        {"radius": 2, "cross_entropy_weight": 0.0},
        ref.mutual_information,
        {"radius": 2},
    ),
]
WITH_SPACING: list[Row] = [
    row
    for row in PLAIN
    if row[0] in ("boundary", "hausdorff", "distance_cross_entropy", "boundary_difference_over_union")
]
SOFT: list[Row] = [
    ("cross_entropy", {}, ref.cross_entropy, {}),
    ("cross_entropy", {"label_smoothing": 0.2}, ref.cross_entropy, {"smoothing": 0.2}),
    ("dice", {}, ref.dice, {}),
    ("dice", {"squared": True, "batch": True}, ref.dice, {"squared": True, "batch": True}),
    ("tversky", {}, ref.tversky, FORE[1]),
    ("jaccard", {}, ref.jaccard, {}),
    ("generalised_dice", {}, ref.generalised_dice, {}),
]
COMPOUNDS: list[Row] = [
    ("dice_cross_entropy", {"dice_weight": 0.3, "cross_entropy_weight": 2.0, "squared": True},
     lambda x: 0.3 * ref.dice(x, squared=True) + 2 * ref.cross_entropy(x), {}),
    ("weighted_fusion", {"w": 0.3}, lambda x: 0.3 * ref.dice(x) + 0.7 * ref.cross_entropy(x), {}),
    ("dice_focal", {"dice_weight": 1.5, "gamma": 1.0},
     lambda x: 1.5 * ref.dice(x) + 0.5 * ref.focal(x, 1.0), {}),
    ("dice_top_k", {"k_percent": 20.0}, lambda x: ref.dice(x) + ref.top_k(x, 20.0), {}),
    ("hybrid_focal", {"lam": 0.3},
     lambda x: 0.3 * ref.focal(x, 2.0, 0.25) + 0.7 * ref.tversky(x, exponent=0.75), {}),
    ("dice_cl_dice", {"cl_dice_weight": 0.3},
     lambda x: 0.7 * ref.dice(x, eps=1.0, background=False) + 0.3 * ref.cl_dice(x), {}),
    ("adaptive_tversky_cross_entropy", {},
     lambda x: 0.5 * ref.tversky(x, 0.5, 0.5, background=False) + 0.5 * ref.cross_entropy(x), {}),
]  # fmt: skip
CASES = {
    "two classes, 2D": case(2, (6, 5)),
    "three classes, 3D": case(3, (5, 4, 3)),
    "five classes, absent": case(5, (5, 7), "absent"),
    "three classes, absent, 3D": case(3, (3, 5, 4), "absent"),
    "ignored voxels": case(3, (7, 5), "ignored"),
    "one channel": case(1, (5, 3, 4)),
}


def named(row: Row) -> str:
    return " ".join([row[0], *(f"{k}={v}" for k, v in row[1].items())])


@pytest.mark.parametrize("inputs", ["three classes, 3D", "three classes, absent, 3D", "ignored voxels"])
@pytest.mark.parametrize("row", RATIOS + THREE, ids=named)
def test_three_classes(row: Row, inputs: str) -> None:
    compare(*row, CASES[inputs])


@pytest.mark.parametrize("inputs", CASES)
@pytest.mark.parametrize("row", PLAIN, ids=named)
def test_any_number_of_classes(row: Row, inputs: str) -> None:
    compare(*row, CASES[inputs])


@pytest.mark.parametrize("inputs", ["three classes, 3D", "three classes, absent, 3D", "one channel"])
@pytest.mark.parametrize("row", CUBES, ids=named)
def test_boxes(row: Row, inputs: str) -> None:
    compare(*row, CASES[inputs])


@pytest.mark.parametrize("row", WITH_SPACING, ids=named)
def test_distances_in_millimetres(row: Row) -> None:
    compare(*row, case(3, (5, 4, 3), "absent", spacing=(2.5, 0.7, 1.0)))


@pytest.mark.parametrize("row", SOFT, ids=named)
def test_soft_targets(row: Row) -> None:
    compare(*row, case(3, (5, 4, 3), "soft"))


@pytest.mark.parametrize("inputs", CASES)
@pytest.mark.parametrize("row", COMPOUNDS, ids=named)
def test_compounds(row: Row, inputs: str) -> None:
    compare(*row, CASES[inputs])


@pytest.mark.parametrize("at", [case(3, (6, 5, 7)), case(2, (9, 8)), case(3, (9, 8), "ignored")])
@pytest.mark.parametrize("row", WINDOWS, ids=named)
def test_windows(row: Row, at: ref.Case) -> None:
    """In volumes of many more windows: the reference's inverse is inexact where its matrix is of low rank."""
    compare(*row, at)
