"""The training losses that the papers compare, by name."""

from __future__ import annotations

from segexplorer.losses.base import LossSpec, registry
from segexplorer.losses.boundary import Boundary
from segexplorer.losses.combo import Combo
from segexplorer.losses.compound import Term, WeightedSum
from segexplorer.losses.cross_entropy import CrossEntropy
from segexplorer.losses.dice import Dice
from segexplorer.losses.dice_focal import DiceFocal
from segexplorer.losses.focal import Focal
from segexplorer.losses.focal_tversky import FocalTversky
from segexplorer.losses.generalised_dice import GeneralisedDice
from segexplorer.losses.hybrid_focal import HybridFocal
from segexplorer.losses.hytver import HyTver
from segexplorer.losses.log_cosh_dice import LogCoshDice
from segexplorer.losses.region import AdaptiveRegionTversky, RegionDice
from segexplorer.losses.standard_compounds import AdaptiveTverskyCrossEntropy, DiceCrossEntropy
from segexplorer.losses.tversky import Tversky
from segexplorer.losses.unified_focal import UnifiedFocal
from segexplorer.losses.weight_schedules import Scheduled
from segexplorer.losses.ws_dice import WSDice


def _sum(*losses: LossSpec) -> WeightedSum:
    return WeightedSum(terms=tuple(Term(loss=loss) for loss in losses))


def _presets(paper: str, given: dict[str, tuple[str, LossSpec, str]]) -> None:
    for name, (title, spec, note) in given.items():
        registry.register_preset(
            f"paper{paper}_{name}", f"Paper {paper}: {title}", spec, group=f"Paper {paper}", note=note
        )


_S0 = "The paper's alpha weighs false positives, as here; its remark that .3 lowers false negatives is wrong."
_presets(
    "000",
    {
        "tversky": ("Tversky .7/.3", Tversky(alpha=0.7, beta=0.3), _S0),
        "adaptive_tversky_ce_73": (
            "adaptive Tversky + cross entropy .7/.3",
            AdaptiveTverskyCrossEntropy(alpha=0.7, beta=0.3),
            _S0,
        ),
        "adaptive_tversky_ce_55": (
            "adaptive Tversky + cross entropy .5/.5",
            AdaptiveTverskyCrossEntropy(),
            "The paper gives no weights for the first epoch: halves here.",
        ),
    },
)

# Table I names its losses without parameters; the defaults here are those of the losses' own papers.
_S1 = "The paper gives no parameters: those of the loss's own paper here."
_TABLE = "Three rows of the paper's table I agree in every digit, so they are no evidence. " + _S1
_presets(
    "001",
    {
        "dice": ("Dice", Dice(), _S1),
        "ce": ("cross entropy", CrossEntropy(), _S1),
        "focal": ("focal", Focal(), _S1),
        "tversky": ("Tversky", Tversky(), _S1),
        "unified_focal_symmetric": ("symmetric unified focal", UnifiedFocal(symmetric=True), _TABLE),
        "unified_focal_asymmetric": ("asymmetric unified focal", UnifiedFocal(), _TABLE),
        "log_cosh": (
            "log-cosh",
            LogCoshDice(),
            "Log-cosh of Dice here; the authors' code takes it of each voxel's error. " + _TABLE,
        ),
        "dice_ce": ("Dice + cross entropy", DiceCrossEntropy(), _S1),
        "focal_dice": ("Dice + focal", DiceFocal(), 'Called "FocalDice" in the table. ' + _S1),
        "focal_tversky": ("focal Tversky", FocalTversky(), _S1),
        "combo": ("Combo", Combo(), _S1),
        "weighted_dice": (
            "weighted Dice",
            GeneralisedDice(weighting="simple"),
            "The paper gives no weights, and the authors' code holds no weighted Dice: one over the volume here.",
        ),
        "hytver": ("HyTver", HyTver(), "As the paper describes it; the authors' code differs by misprints."),
    },
)

_S2 = "Parameters as the paper states them."
_presets(
    "002",
    {
        "ce": ("cross entropy", CrossEntropy(), _S2),
        "focal": ("focal", Focal(foreground_weight=0.25), _S2),
        "dice": ("Dice", Dice(), _S2),
        "tversky": ("Tversky", Tversky(), _S2),
        "focal_tversky": ("focal Tversky", FocalTversky(), _S2),
        "combo": ("Combo", Combo(), _S2),
        "hybrid_focal": ("hybrid focal", HybridFocal(), _S2),
        "unified_focal_symmetric": ("symmetric unified focal", UnifiedFocal(symmetric=True), _S2),
        "unified_focal_asymmetric": ("asymmetric unified focal", UnifiedFocal(), _S2),
    },
)

_presets(
    "003",
    {
        "dice_ce": (
            "Dice + cross entropy (without focal)",
            DiceCrossEntropy(dice_weight=0.5, cross_entropy_weight=0.5),
            "The paper does not say what its run without focal loss used: LeViT-UNet's Dice + cross entropy here.",
        ),
        "dice_focal": ("Dice + focal", DiceFocal(), "Halves, as the paper's total loss."),
        "boundary_kervadec": (
            "generalised Dice, more and more boundary",
            WeightedSum(
                terms=(Term(loss=GeneralisedDice()), Term(loss=Boundary())),
                weighting=Scheduled(schedule="kervadec"),
            ),
            "Kervadec's own schedule: boundary .01 in epoch 1 and .01 more with each epoch, generalised Dice from "
            "1 down to .1. Distances are in mm here, in voxels there.",
        ),
        "focal_then_ws_dice": (
            "focal, then WSDice",
            WeightedSum(
                terms=(Term(loss=Focal()), Term(loss=WSDice())), weighting=Scheduled(schedule="cascade")
            ),
            "Two stages, as in the work of Wang that the paper cites; its length of a stage is not known: "
            "100 epochs here, set it to half of yours.",
        ),
    },
)

_S4 = "Lambda and the reduction of the cross entropy are not given in the paper: 1 and the voxel mean here."
_BASE = (Dice(squared=True, eps=1e-7), CrossEntropy())
_presets(
    "004",
    {
        "baseline": ("squared Dice + cross entropy", _sum(*_BASE), _S4),
        "region": ("with region Dice", _sum(*_BASE, RegionDice()), _S4),
        "adaptive_region": ("with adaptive region Tversky", _sum(*_BASE, AdaptiveRegionTversky()), _S4),
    },
)
