"""Losses by kind: `names()`, `spec(kind)`, `create("tversky", alpha=0.7)`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segexplorer.losses import presets as _paper_presets  # noqa: F401  registers them
from segexplorer.losses.base import (
    AnyLoss,
    AnyWeighting,
    LossOutput,
    LossSpec,
    RegionMap,
    WeightingSpec,
    WeightingState,
    region_reports,
    registry,
    weightings,
)
from segexplorer.losses.boundary import Boundary, BoundaryDifferenceOverUnion, DistanceCrossEntropy, Hausdorff
from segexplorer.losses.combined import (
    AdaptiveTverskyCrossEntropy,
    DiceCrossEntropy,
    DiceFocal,
    DiceTopK,
    HybridFocal,
    WeightedFusion,
)
from segexplorer.losses.compound import Compound, CompoundTerm, Term, WeightedSum
from segexplorer.losses.cross_entropies import BalancedCrossEntropy, CrossEntropy, Focal, TopK
from segexplorer.losses.distributions import AdaptiveTvMFDice, TLoss, TvMFDice
from segexplorer.losses.hybrid import Combo, ExponentialLogarithmic, HyTver, UnifiedFocal
from segexplorer.losses.overlap import Dice, DicePlusPlus, FocalDice, Jaccard, LogCoshDice, LovaszSoftmax
from segexplorer.losses.regional import AdaptiveRegionTversky, RegionDice
from segexplorer.losses.shape import ClDice, DiceClDice, RegionMutualInformation
from segexplorer.losses.tversky import AsymmetricSimilarity, FocalTversky, LogCoshTversky, Tversky
from segexplorer.losses.weighted_overlap import (
    GeneralisedDice,
    GeneralisedWassersteinDice,
    SensitivitySpecificity,
    WSDice,
)
from segexplorer.losses.weightings import DynamicWeightAverage, Fixed, LossProportion, Scheduled, Uncertainty

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
    "WeightedFusion",
    "WeightedSum",
    "WeightingSpec",
    "WeightingState",
    "create",
    "names",
    "parse",
    "presets",
    "region_reports",
    "registry",
    "spec",
    "weightings",
]
