"""Compounds that have a name in the literature: an overlap loss and a voxelwise loss, added up.

- `dice_cross_entropy`: Dice and cross entropy with fixed weights (nnU-Net).
- `adaptive_tversky_cross_entropy`: Tversky and cross entropy, weighted by their shares of the last loss.
- `dice_focal`: Dice and the focal loss (AnatomyNet).
- `dice_top_k`: Dice and the cross entropy of the worst voxels.
- `weighted_fusion`: Dice and cross entropy with weights that add up to 1.
- `hybrid_focal`: the focal loss and focal Tversky.

Each only lists its terms; the sum and its weights are computed in `losses.compound`.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from pydantic import model_validator

from segexplorer.core.fields import parameter
from segexplorer.losses.base import CompoundTerm, WeightingSpec, registry
from segexplorer.losses.compound import Compound
from segexplorer.losses.cross_entropies import CrossEntropy, Focal, TopK
from segexplorer.losses.overlap import ClassReduction, Dice, class_reduction
from segexplorer.losses.tversky import FALSE_NEGATIVES, FALSE_POSITIVES, FocalTversky, Tversky
from segexplorer.losses.weightings import LossProportion


@registry.register
class DiceCrossEntropy(Compound):
    """A weighted sum of Dice and cross entropy with fixed weights."""

    display_name: ClassVar[str] = "Dice + cross entropy"
    formula: ClassVar[str] = r"L=w_D L_{Dice}+w_{CE} L_{CE}"
    reference: ClassVar[str] = "Isensee 2021, doi:10.1038/s41592-020-01008-z (nnU-Net)"
    penalises: ClassVar[str] = "Lack of overlap of each class and every wrong voxel, together."
    papers: ClassVar[tuple[str, ...]] = ("Zhang 2025", "Perera 2025", "Oshah 2025")
    value_range: ClassVar[tuple[float, float]] = (0.0, math.inf)
    purposes: ClassVar[tuple[str, ...]] = ("general", "overlap")
    kind: Literal["dice_cross_entropy"] = "dice_cross_entropy"
    dice_weight: float = parameter(
        1.0, title="Weight of Dice", description="Factor of Dice.", typical=(0, 2), ge=0, live=True
    )
    cross_entropy_weight: float = parameter(
        1.0,
        title="Weight of cross entropy",
        description="Factor of the cross entropy.",
        typical=(0, 2),
        ge=0,
        live=True,
    )
    include_background: bool = parameter(
        True, title="Include background", description="Whether class 0 counts in the Dice term."
    )
    squared: bool = parameter(
        False, title="Squared denominator", description="Dice with p^2 and g^2 in the denominator."
    )
    batch: bool = parameter(
        False, title="Sum over batch first", description="One Dice per class over the batch.", advanced=True
    )
    eps: float = parameter(
        1e-5,
        title="Smoothing",
        description="Of the Dice term.",
        scale="log",
        typical=(1e-9, 10),
        gt=0,
        advanced=True,
    )

    @model_validator(mode="after")
    def _some_weight(self) -> DiceCrossEntropy:
        if self.dice_weight + self.cross_entropy_weight <= 0:
            raise ValueError("one of the two weights must be above 0")
        return self

    def compound_terms(self) -> tuple[CompoundTerm, ...]:
        """Return Dice and cross entropy."""
        dice = Dice(
            include_background=self.include_background, squared=self.squared, batch=self.batch, eps=self.eps
        )
        return (
            CompoundTerm("dice", dice, self.dice_weight),
            CompoundTerm("cross_entropy", CrossEntropy(), self.cross_entropy_weight),
        )


@registry.register
class AdaptiveTverskyCrossEntropy(Compound):
    """Tversky and cross entropy, each weighted by its share of the last epoch's loss."""

    display_name: ClassVar[str] = "Adaptive Tversky + cross entropy"
    formula: ClassVar[str] = (
        r"L^{(t)}=w_T L_T+w_{CE} L_{CE},\quad "
        r"w_T=\frac{\bar L_T^{(t-1)}}{\bar L_T^{(t-1)}+\bar L_{CE}^{(t-1)}},\ w_{CE}=1-w_T"
    )
    reference: ClassVar[str] = "Zhang 2025, eq. 8-10: UNet-3D with adaptive TverskyCE loss"
    penalises: ClassVar[str] = (
        "Lack of overlap and wrong voxels, with emphasis on whichever was larger in the last epoch."
    )
    papers: ClassVar[tuple[str, ...]] = ("Zhang 2025",)
    value_range: ClassVar[tuple[float, float]] = (0.0, math.inf)
    purposes: ClassVar[tuple[str, ...]] = ("general", "class_imbalance", "small_structures")
    kind: Literal["adaptive_tversky_cross_entropy"] = "adaptive_tversky_cross_entropy"
    alpha: float = parameter(
        0.5,
        title=FALSE_POSITIVES,
        description="Weight of false positives in the Tversky term. Higher: the network marks less.",
        ge=0,
        le=10,
        typical=(0, 2),
        step=0.05,
        live=True,
    )
    beta: float = parameter(
        0.5,
        title=FALSE_NEGATIVES,
        description="Weight of false negatives in the Tversky term. Higher: the network marks more.",
        ge=0,
        le=10,
        typical=(0, 2),
        step=0.05,
        live=True,
    )
    granularity: Literal["epoch", "step"] = parameter(
        "epoch", title="Adapts after", description="Whether weights follow the mean of an epoch or each step."
    )
    include_background: bool = parameter(
        False, title="Include background", description="Whether class 0 counts in the Tversky term."
    )
    eps: float = parameter(
        1e-5,
        title="Smoothing",
        description="Of the Tversky term.",
        scale="log",
        typical=(1e-9, 10),
        gt=0,
        advanced=True,
    )

    @model_validator(mode="after")
    def _penalise_something(self) -> AdaptiveTverskyCrossEntropy:
        if self.alpha + self.beta <= 0:
            raise ValueError("alpha and beta must not both be 0")
        return self

    def compound_terms(self) -> tuple[CompoundTerm, ...]:
        """Return Tversky and cross entropy."""
        tversky = Tversky(
            alpha=self.alpha, beta=self.beta, include_background=self.include_background, eps=self.eps
        )
        return CompoundTerm("tversky", tversky), CompoundTerm("cross_entropy", CrossEntropy())

    def rule(self) -> WeightingSpec:
        """Return the shares of the last epoch, or step."""
        return LossProportion(granularity=self.granularity)


@registry.register
class DiceFocal(Compound):
    """Weighted sum of Dice and the focal loss, halves in Oshah 2025."""

    display_name: ClassVar[str] = "Dice + focal"
    formula: ClassVar[str] = r"L=w_D L_{Dice}+w_F L_{focal}"
    reference: ClassVar[str] = "Oshah 2025, total loss of LeViT-UNet; Zhu 2019, arXiv:1808.05238 (AnatomyNet)"
    penalises: ClassVar[str] = "Lack of overlap of each class, and wrong or uncertain voxels."
    papers: ClassVar[tuple[str, ...]] = ("Oshah 2025",)
    value_range: ClassVar[tuple[float, float]] = (0.0, math.inf)
    purposes: ClassVar[tuple[str, ...]] = ("class_imbalance", "hard_voxels")
    kind: Literal["dice_focal"] = "dice_focal"
    dice_weight: float = parameter(
        0.5, title="Weight of Dice", description="Factor of Dice.", typical=(0, 2), ge=0, live=True
    )
    focal_weight: float = parameter(
        0.5, title="Weight of focal", description="Factor of the focal loss.", typical=(0, 2), ge=0, live=True
    )
    gamma: float = parameter(
        2.0,
        title="Focus gamma",
        description="The higher, the less voxels that are nearly right count. 0: cross entropy.",
        ge=0,
        le=10,
        step=0.1,
        live=True,
    )

    def compound_terms(self) -> tuple[CompoundTerm, ...]:
        """Return Dice and focal."""
        return (
            CompoundTerm("dice", Dice(), self.dice_weight),
            CompoundTerm("focal", Focal(gamma=self.gamma), self.focal_weight),
        )


@registry.register
class DiceTopK(Compound):
    """Dice + top-k cross entropy."""

    display_name: ClassVar[str] = "Dice + top-k"
    formula: ClassVar[str] = r"L=L_{Dice}+L_{TopK}"
    reference: ClassVar[str] = "Isensee 2021, doi:10.1038/s41592-020-01008-z (nnU-Net)"
    penalises: ClassVar[str] = "Lack of overlap of each class, and the worst voxels."
    papers: ClassVar[tuple[str, ...]] = ("Oshah 2025",)
    value_range: ClassVar[tuple[float, float]] = (0.0, math.inf)
    purposes: ClassVar[tuple[str, ...]] = ("hard_voxels",)
    kind: Literal["dice_top_k"] = "dice_top_k"
    k_percent: float = parameter(
        10.0,
        title="Worst voxels",
        description="Part of the kept voxels that counts in the cross entropy.",
        unit="%",
        gt=0,
        le=100,
        live=True,
    )

    def compound_terms(self) -> tuple[CompoundTerm, ...]:
        """Return Dice and top-k."""
        return CompoundTerm("dice", Dice()), CompoundTerm("top_k", TopK(k_percent=self.k_percent))


@registry.register
class WeightedFusion(Compound):
    """w Dice + (1 - w) cross entropy, w chosen by hand (Zhang 2025 compares with it)."""

    display_name: ClassVar[str] = "Weighted fusion"
    formula: ClassVar[str] = r"L=w L_{Dice}+(1-w)L_{CE}"
    reference: ClassVar[str] = "Giddwani 2020, doi:10.1109/SPIN48934.2020.9071339 (as Zhang 2025 cites it)"
    penalises: ClassVar[str] = "Lack of overlap and every wrong voxel, in a chosen proportion."
    papers: ClassVar[tuple[str, ...]] = ("Zhang 2025",)
    value_range: ClassVar[tuple[float, float]] = (0.0, math.inf)
    purposes: ClassVar[tuple[str, ...]] = ("general", "overlap")
    kind: Literal["weighted_fusion"] = "weighted_fusion"
    w: float = parameter(
        0.5,
        title="Weight of Dice",
        description="Factor of Dice; the cross entropy gets one minus it.",
        ge=0,
        le=1,
        step=0.05,
        live=True,
    )

    def compound_terms(self) -> tuple[CompoundTerm, ...]:
        """Return Dice and cross entropy."""
        return (
            CompoundTerm("dice", Dice(), self.w),
            CompoundTerm("cross_entropy", CrossEntropy(), 1 - self.w),
        )


@registry.register
class HybridFocal(Compound):
    """lam focal + (1 - lam) focal Tversky (the hybrid focal loss of Yeung 2022)."""

    display_name: ClassVar[str] = "Hybrid focal"
    formula: ClassVar[str] = r"L=\lambda L_{focal}+(1-\lambda)L_{FT}"
    reference: ClassVar[str] = "Yeung 2022, section 2: hybrid focal loss"
    penalises: ClassVar[str] = (
        "Wrong and uncertain voxels, and lack of overlap with penalties alpha and beta."
    )
    papers: ClassVar[tuple[str, ...]] = ("Yeung 2022", "Oshah 2025")
    value_range: ClassVar[tuple[float, float]] = (0.0, math.inf)
    purposes: ClassVar[tuple[str, ...]] = ("class_imbalance", "hard_voxels", "false_negatives")
    kind: Literal["hybrid_focal"] = "hybrid_focal"
    lam: float = parameter(
        0.5,
        title="Weight of focal",
        description="Factor of the focal loss; focal Tversky gets one minus it.",
        ge=0,
        le=1,
        step=0.05,
        live=True,
        called="lambda in Yeung 2022",
    )
    foreground_weight: float | None = parameter(
        0.25,
        title="Weight of foreground",
        description="In the focal loss; background gets one minus it. Empty: all alike.",
        ge=0,
        le=1,
        called="alpha in Yeung 2022",
    )
    gamma: float = parameter(
        2.0, title="Focus gamma", description="Of the focal loss.", ge=0, le=10, step=0.1, live=True
    )
    alpha: float = parameter(
        0.3,
        title=FALSE_POSITIVES,
        description="Weight of false positives in the Tversky term.",
        ge=0,
        le=10,
        typical=(0, 2),
        step=0.05,
        live=True,
    )
    beta: float = parameter(
        0.7,
        title=FALSE_NEGATIVES,
        description="Weight of false negatives in the Tversky term.",
        ge=0,
        le=10,
        typical=(0, 2),
        step=0.05,
        live=True,
    )
    exponent: float = parameter(
        0.75, title="Exponent", description="Of the Tversky term.", gt=0, le=4, step=0.05, live=True
    )

    include_background: bool = parameter(
        True,
        title="Include background",
        description="Whether class 0 counts in the Tversky term, as in Yeung 2022.",
        advanced=True,
    )
    eps: float = parameter(
        1e-5,
        title="Smoothing",
        description="Of the Tversky term.",
        scale="log",
        typical=(1e-9, 10),
        gt=0,
        advanced=True,
    )
    class_reduction: ClassReduction = class_reduction()

    def compound_terms(self) -> tuple[CompoundTerm, ...]:
        """Return focal and focal Tversky."""
        tversky = FocalTversky(
            alpha=self.alpha,
            beta=self.beta,
            exponent=self.exponent,
            include_background=self.include_background,
            eps=self.eps,
            class_reduction=self.class_reduction,
        )
        focal = Focal(gamma=self.gamma, foreground_weight=self.foreground_weight)
        return (
            CompoundTerm("focal", focal, self.lam),
            CompoundTerm("focal_tversky", tversky, 1 - self.lam),
        )
