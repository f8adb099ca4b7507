"""Presets: the training losses that the papers compare, each a complete spec under its author and year.

A preset under the name of a paper follows that paper's equations and parameters, also where a kind's defaults
differ; its note says what the paper leaves open. Variants with other settings have names without a paper.
"""

from __future__ import annotations

from segexplorer.core.papers import PAPERS
from segexplorer.losses.base import LossSpec, registry
from segexplorer.losses.boundary import Boundary
from segexplorer.losses.combined import AdaptiveTverskyCrossEntropy, DiceCrossEntropy, DiceFocal, HybridFocal
from segexplorer.losses.compound import Term, WeightedSum
from segexplorer.losses.cross_entropies import CrossEntropy, Focal
from segexplorer.losses.hybrid import Combo, HyTver, UnifiedFocal
from segexplorer.losses.overlap import Dice, LogCoshDice
from segexplorer.losses.regional import AdaptiveRegionTversky, RegionDice
from segexplorer.losses.tversky import FocalTversky, Tversky
from segexplorer.losses.weighted_overlap import GeneralisedDice, WSDice
from segexplorer.losses.weightings import Scheduled


def _sum(*losses: LossSpec) -> WeightedSum:
    return WeightedSum(terms=tuple(Term(loss=loss) for loss in losses))


def _presets(citation: str, given: dict[str, tuple[str, LossSpec, str]]) -> None:
    prefix = PAPERS[citation].prefix
    for name, (title, spec, note) in given.items():
        registry.register_preset(f"{prefix}_{name}", f"{title} ({citation})", spec, group=citation, note=note)


_ZHANG = (
    "The paper's alpha weighs false positives, as here; its remark that .3 lowers false negatives is wrong."
)
_presets(
    "Zhang 2025",
    {
        "tversky": ("Tversky .7/.3", Tversky(alpha=0.7, beta=0.3), _ZHANG),
        "adaptive_tversky_ce_73": (
            "Adaptive Tversky + cross entropy .7/.3",
            AdaptiveTverskyCrossEntropy(alpha=0.7, beta=0.3),
            _ZHANG,
        ),
        "adaptive_tversky_ce_55": (
            "Adaptive Tversky + cross entropy .5/.5",
            AdaptiveTverskyCrossEntropy(),
            "The paper gives no weights for the first epoch: halves here.",
        ),
    },
)

# Equations 11, 12 and 19 add up all classes, background included; the defaults of the kinds do not (foreground
# alone, or a mean). All presets of this paper share the sum and the smoothing, so that each special case of
# figure 1 is one between presets.
_EPS = 1e-7


def _unified_focal(*, symmetric: bool = False) -> UnifiedFocal:
    """Return the unified focal loss of eq. 17 to 20 with the parameters that table 2 finds best."""
    return UnifiedFocal(symmetric=symmetric, lam=0.5, delta=0.6, gamma=0.2, class_reduction="sum", eps=_EPS)


_YEUNG = "Parameters and equations of the paper: overlaps of all classes, background included, are added up. "
_presets(
    "Yeung 2022",
    {
        "ce": ("Cross entropy", CrossEntropy(), "Equation 2 of the paper."),
        "focal": (
            "Focal",
            Focal(foreground_weight=0.25, gamma=2.0),
            "Parameters as the paper states them; alpha weighs foreground, one minus it background, as in Lin "
            "2017, because eq. 7 has a weight for each class.",
        ),
        "dice": ("Dice", Dice(class_reduction="sum", eps=2 * _EPS), _YEUNG),
        "tversky": (
            "Tversky",
            Tversky(alpha=0.3, beta=0.7, include_background=True, class_reduction="sum", eps=_EPS),
            _YEUNG,
        ),
        "focal_tversky": (
            "Focal Tversky",
            FocalTversky(
                alpha=0.3, beta=0.7, exponent=3 / 4, include_background=True, class_reduction="sum", eps=_EPS
            ),
            _YEUNG + "The exponent is one over the paper's gamma of 4/3.",
        ),
        "combo": (
            "Combo",
            Combo(
                lam=0.5,
                positive_weight=0.5,
                cross_entropy="categorical",
                include_background=True,
                class_reduction="sum",
                eps=2 * _EPS,
            ),
            _YEUNG
            + "Eq. 13 and 14 are for two classes; with more, as figure 1 and the authors' code require.",
        ),
        "hybrid_focal": (
            "Hybrid focal",
            HybridFocal(
                lam=0.5,
                foreground_weight=0.25,
                gamma=2.0,
                alpha=0.3,
                beta=0.7,
                exponent=3 / 4,
                include_background=True,
                class_reduction="sum",
                eps=_EPS,
            ),
            _YEUNG + "The paper gives no lambda: 1/2.",
        ),
        "unified_focal_symmetric": (
            "Symmetric unified focal",
            _unified_focal(symmetric=True),
            _YEUNG
            + "The symmetric form is that of the authors' code: the focal exponents act on all classes.",
        ),
        "unified_focal_asymmetric": (
            "Asymmetric unified focal",
            _unified_focal(),
            _YEUNG + "The authors' code averages classes, as the kind unified_focal does.",
        ),
    },
)

# Table I of Perera 2025 names its losses without parameters.
_PERERA = "The paper gives no parameters: {}."
_SAME_ROWS = "Three rows of the paper's table I agree in every digit, so they are no evidence. "
_presets(
    "Perera 2025",
    {
        "dice": ("Dice", Dice(), _PERERA.format("linear denominators and a mean over all classes here")),
        "ce": (
            "Cross entropy",
            CrossEntropy(),
            "Unweighted; for two classes it is the binary cross entropy.",
        ),
        "focal": (
            "Focal",
            Focal(foreground_weight=0.25, gamma=2.0),
            _PERERA.format("those of Lin 2017 here, alpha .25 and gamma 2"),
        ),
        "tversky": (
            "Tversky",
            Tversky(alpha=0.3, beta=0.7),
            _PERERA.format("those of Salehi 2017 here, .3 for false positives and .7 for false negatives"),
        ),
        "unified_focal_symmetric": (
            "Symmetric unified focal",
            _unified_focal(symmetric=True),
            _SAME_ROWS + _PERERA.format("those of Yeung 2022 here"),
        ),
        "unified_focal_asymmetric": (
            "Asymmetric unified focal",
            _unified_focal(),
            _SAME_ROWS + _PERERA.format("those of Yeung 2022 here"),
        ),
        "log_cosh": (
            "Log-cosh",
            LogCoshDice(),
            _SAME_ROWS
            + "Log-cosh of Dice here (Jadon 2020); the authors' code takes it of each voxel's error.",
        ),
        "dice_ce": ("Dice + cross entropy", DiceCrossEntropy(), _PERERA.format("weights of 1 and 1 here")),
        "focal_dice": (
            "Dice + focal",
            DiceFocal(),
            'Called "FocalDice" in the table. ' + _PERERA.format("halves, and gamma 2, here"),
        ),
        "focal_tversky": (
            "Focal Tversky",
            FocalTversky(alpha=0.3, beta=0.7, exponent=3 / 4),
            _PERERA.format("those of Abraham 2019 here, .3, .7 and gamma 4/3"),
        ),
        "combo": (
            "Combo",
            Combo(lam=0.5, positive_weight=0.5),
            _PERERA.format("halves here, as Yeung 2022 reports for it"),
        ),
        "weighted_dice": (
            "Weighted Dice",
            GeneralisedDice(weighting="simple"),
            "The paper gives no weights, and the authors' code holds no weighted Dice: one over the volume here.",
        ),
        "hytver": (
            "HyTver",
            HyTver(gamma=0.5, alpha=0.3, beta=0.7, positive_weight=0.7),
            "The equations of section II, misprints resolved. The paper gives no parameters: those of the authors' "
            "code here, as it means them; its order of arguments and a sign differ.",
        ),
    },
)

_presets(
    "Oshah 2025",
    {
        "dice_ce": (
            "Dice + cross entropy, without focal",
            DiceCrossEntropy(dice_weight=0.5, cross_entropy_weight=0.5),
            "The paper does not say what its run without focal loss used: LeViT-UNet's Dice + cross entropy here.",
        ),
        "dice_focal": (
            "Dice + focal",
            DiceFocal(dice_weight=0.5, focal_weight=0.5),
            "Halves, as the paper's total loss. It leaves alpha and gamma of the focal loss open: none, and 2.",
        ),
        "boundary_kervadec": (
            "Generalised Dice, more and more boundary",
            WeightedSum(
                terms=(Term(loss=GeneralisedDice()), Term(loss=Boundary())),
                weighting=Scheduled(schedule="kervadec"),
            ),
            "Kervadec's own schedule: boundary .01 in epoch 1 and .01 more with each epoch, generalised Dice from "
            "1 down to .1. Distances are in mm here, in voxels there.",
        ),
        "focal_then_ws_dice": (
            "Focal, then WSDice",
            WeightedSum(
                terms=(Term(loss=Focal()), Term(loss=WSDice())), weighting=Scheduled(schedule="cascade")
            ),
            "Two stages, as in the work of Wang that the paper cites; its length of a stage is not known: "
            "100 epochs here, set it to half of yours.",
        ),
    },
)

# Equations 4, 6 and 9 add up classes and regions, so that the weight of the region term grows with the number of
# regions that a class touches. The presets below, under names of their own, give all terms the same weight.
_CHEN = (
    "Sums over classes and over the 16 x 16 x 16 regions of the volume, as in the paper. It does not give lambda: "
    "one over the number of voxels here, which makes the cross entropy a mean."
)
_CHEN_DICE = Dice(squared=True, eps=1e-7, class_reduction="sum")
_presets(
    "Chen 2023",
    {
        "baseline": ("Squared Dice + cross entropy", _sum(_CHEN_DICE, CrossEntropy()), _CHEN),
        "region": (
            "Region loss",
            _sum(_CHEN_DICE, CrossEntropy(), RegionDice(grid=16, reduction="sum")),
            _CHEN,
        ),
        "adaptive_region": (
            "Adaptive region loss",
            _sum(
                _CHEN_DICE,
                CrossEntropy(),
                AdaptiveRegionTversky(a=0.3, b=0.4, grid=16, reduction="sum", smoothing="paper"),
            ),
            _CHEN,
        ),
    },
)

_MEANS = (
    "The terms of Chen 2023, but means over classes, voxels and the boxes of 8 voxels in which a class is present, "
    "so that they have equal weight; for training on patches as well. {} has the paper's sums."
)
_MEAN_BASE = (Dice(squared=True, eps=1e-7), CrossEntropy())
for _name, _title, _paper, _terms in (
    ("squared_dice_ce", "Squared Dice + cross entropy", "chen2023_baseline", ()),
    (
        "squared_dice_ce_region",
        "Squared Dice + cross entropy + region Dice",
        "chen2023_region",
        (RegionDice(),),
    ),
    (
        "squared_dice_ce_adaptive_region",
        "Squared Dice + cross entropy + adaptive region Tversky",
        "chen2023_adaptive_region",
        (AdaptiveRegionTversky(),),
    ),
):
    registry.register_preset(_name, _title, _sum(*_MEAN_BASE, *_terms), note=_MEANS.format(_paper))
