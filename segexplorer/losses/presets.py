"""Presets: the training losses that the papers compare, each a complete spec under its author and year."""

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

# Table I names its losses without parameters; the defaults here are those of the losses' own papers.
_PERERA = "The paper gives no parameters: those of the loss's own paper here."
_SAME_ROWS = "Three rows of the paper's table I agree in every digit, so they are no evidence. " + _PERERA
_presets(
    "Perera 2025",
    {
        "dice": ("Dice", Dice(), _PERERA),
        "ce": ("Cross entropy", CrossEntropy(), _PERERA),
        "focal": ("Focal", Focal(), _PERERA),
        "tversky": ("Tversky", Tversky(), _PERERA),
        "unified_focal_symmetric": ("Symmetric unified focal", UnifiedFocal(symmetric=True), _SAME_ROWS),
        "unified_focal_asymmetric": ("Asymmetric unified focal", UnifiedFocal(), _SAME_ROWS),
        "log_cosh": (
            "Log-cosh",
            LogCoshDice(),
            "Log-cosh of Dice here; the authors' code takes it of each voxel's error. " + _SAME_ROWS,
        ),
        "dice_ce": ("Dice + cross entropy", DiceCrossEntropy(), _PERERA),
        "focal_dice": ("Dice + focal", DiceFocal(), 'Called "FocalDice" in the table. ' + _PERERA),
        "focal_tversky": ("Focal Tversky", FocalTversky(), _PERERA),
        "combo": ("Combo", Combo(), _PERERA),
        "weighted_dice": (
            "Weighted Dice",
            GeneralisedDice(weighting="simple"),
            "The paper gives no weights, and the authors' code holds no weighted Dice: one over the volume here.",
        ),
        "hytver": ("HyTver", HyTver(), "As the paper describes it; the authors' code differs by misprints."),
    },
)

_YEUNG = "Parameters as the paper states them."
_presets(
    "Yeung 2022",
    {
        "ce": ("Cross entropy", CrossEntropy(), _YEUNG),
        "focal": ("Focal", Focal(foreground_weight=0.25), _YEUNG),
        "dice": ("Dice", Dice(), _YEUNG),
        "tversky": ("Tversky", Tversky(), _YEUNG),
        "focal_tversky": ("Focal Tversky", FocalTversky(), _YEUNG),
        "combo": ("Combo", Combo(), _YEUNG),
        "hybrid_focal": ("Hybrid focal", HybridFocal(), _YEUNG),
        "unified_focal_symmetric": ("Symmetric unified focal", UnifiedFocal(symmetric=True), _YEUNG),
        "unified_focal_asymmetric": ("Asymmetric unified focal", UnifiedFocal(), _YEUNG),
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
        "dice_focal": ("Dice + focal", DiceFocal(), "Halves, as the paper's total loss."),
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

_CHEN = "Lambda and the reduction of the cross entropy are not given in the paper: 1 and the voxel mean here."
_BASE = (Dice(squared=True, eps=1e-7), CrossEntropy())
_presets(
    "Chen 2023",
    {
        "baseline": ("Squared Dice + cross entropy", _sum(*_BASE), _CHEN),
        "region": ("Region loss", _sum(*_BASE, RegionDice()), _CHEN),
        "adaptive_region": ("Adaptive region loss", _sum(*_BASE, AdaptiveRegionTversky()), _CHEN),
    },
)
