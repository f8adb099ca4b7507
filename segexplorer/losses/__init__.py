"""Losses by kind: `names()`, `spec(kind)`, `create("tversky", alpha=0.7)`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segexplorer.losses import paper_presets as _paper_presets  # noqa: F401  registers them
from segexplorer.losses.adaptive_t_vmf_dice import AdaptiveTvMFDice
from segexplorer.losses.asymmetric_similarity import AsymmetricSimilarity
from segexplorer.losses.balanced_cross_entropy import BalancedCrossEntropy
from segexplorer.losses.base import (
    AnyLoss,
    AnyWeighting,
    LossOutput,
    LossSpec,
    RegionMap,
    Weighing,
    WeightingSpec,
    region_reports,
    registry,
    weightings,
)
from segexplorer.losses.boundary import Boundary
from segexplorer.losses.boundary_difference_over_union import BoundaryDifferenceOverUnion
from segexplorer.losses.cl_dice import ClDice
from segexplorer.losses.combo import Combo
from segexplorer.losses.compound import Compound, CompoundTerm, Term, WeightedSum
from segexplorer.losses.cross_entropy import CrossEntropy
from segexplorer.losses.dice import Dice
from segexplorer.losses.dice_cl_dice import DiceClDice
from segexplorer.losses.dice_focal import DiceFocal
from segexplorer.losses.dice_plus_plus import DicePlusPlus
from segexplorer.losses.dice_top_k import DiceTopK
from segexplorer.losses.distance_cross_entropy import DistanceCrossEntropy
from segexplorer.losses.exponential_logarithmic import ExponentialLogarithmic
from segexplorer.losses.focal import Focal
from segexplorer.losses.focal_dice import FocalDice
from segexplorer.losses.focal_tversky import FocalTversky
from segexplorer.losses.generalised_dice import GeneralisedDice
from segexplorer.losses.generalised_wasserstein_dice import GeneralisedWassersteinDice
from segexplorer.losses.hausdorff import Hausdorff
from segexplorer.losses.hybrid_focal import HybridFocal
from segexplorer.losses.hytver import HyTver
from segexplorer.losses.jaccard import Jaccard
from segexplorer.losses.log_cosh_dice import LogCoshDice
from segexplorer.losses.log_cosh_tversky import LogCoshTversky
from segexplorer.losses.lovasz_softmax import LovaszSoftmax
from segexplorer.losses.region import AdaptiveRegionTversky, RegionDice
from segexplorer.losses.region_mutual_information import RegionMutualInformation
from segexplorer.losses.sensitivity_specificity import SensitivitySpecificity
from segexplorer.losses.standard_compounds import AdaptiveTverskyCrossEntropy, DiceCrossEntropy
from segexplorer.losses.t_loss import TLoss
from segexplorer.losses.t_vmf_dice import TvMFDice
from segexplorer.losses.top_k import TopK
from segexplorer.losses.tversky import Tversky
from segexplorer.losses.unified_focal import UnifiedFocal
from segexplorer.losses.weight_schedules import Scheduled
from segexplorer.losses.weighted_fusion import WeightedFusion
from segexplorer.losses.weightings import DynamicWeightAverage, Fixed, LossProportion, Uncertainty
from segexplorer.losses.ws_dice import WSDice

if TYPE_CHECKING:
    from segexplorer.losses.module import Loss

names = registry.names
spec = registry.spec
parse = registry.parse
presets = registry.presets


def create(kind: str | LossSpec, **parameters: Any) -> Loss:
    """Build a loss module from a kind, a preset's name or a spec.

    Raises
    ------
    UnknownKindError
        When no loss has that kind; the remedy names the nearest ones.
    SpecError
        When a parameter is not allowed.
    """
    loss: Loss = registry.create(kind, **parameters)
    return loss


__all__ = [
    "AdaptiveRegionTversky",
    "AdaptiveTvMFDice",
    "AdaptiveTverskyCrossEntropy",
    "AnyLoss",
    "AnyWeighting",
    "AsymmetricSimilarity",
    "BalancedCrossEntropy",
    "Boundary",
    "BoundaryDifferenceOverUnion",
    "ClDice",
    "Combo",
    "Compound",
    "CompoundTerm",
    "CrossEntropy",
    "Dice",
    "DiceClDice",
    "DiceCrossEntropy",
    "DiceFocal",
    "DicePlusPlus",
    "DiceTopK",
    "DistanceCrossEntropy",
    "DynamicWeightAverage",
    "ExponentialLogarithmic",
    "Fixed",
    "Focal",
    "FocalDice",
    "FocalTversky",
    "GeneralisedDice",
    "GeneralisedWassersteinDice",
    "Hausdorff",
    "HyTver",
    "HybridFocal",
    "Jaccard",
    "LogCoshDice",
    "LogCoshTversky",
    "LossOutput",
    "LossProportion",
    "LossSpec",
    "LovaszSoftmax",
    "RegionDice",
    "RegionMap",
    "RegionMutualInformation",
    "Scheduled",
    "SensitivitySpecificity",
    "TLoss",
    "Term",
    "TopK",
    "TvMFDice",
    "Tversky",
    "Uncertainty",
    "UnifiedFocal",
    "WSDice",
    "Weighing",
    "WeightedFusion",
    "WeightedSum",
    "WeightingSpec",
    "create",
    "names",
    "parse",
    "presets",
    "region_reports",
    "registry",
    "spec",
    "weightings",
]
