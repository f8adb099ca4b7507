"""`dice_cross_entropy` and `adaptive_tversky_cross_entropy`: the two compounds with a name of their own."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from pydantic import model_validator

from segexplorer.core.fields import parameter
from segexplorer.losses.base import WeightingSpec, registry
from segexplorer.losses.compound import Compound, CompoundTerm
from segexplorer.losses.cross_entropy import CrossEntropy
from segexplorer.losses.dice import Dice
from segexplorer.losses.tversky import FALSE_NEGATIVES, FALSE_POSITIVES, Tversky
from segexplorer.losses.weightings import LossProportion


@registry.register
class DiceCrossEntropy(Compound):
    """A weighted sum of Dice and cross entropy with fixed weights."""

    display_name: ClassVar[str] = "Dice + cross entropy"
    formula: ClassVar[str] = r"L=w_D L_{Dice}+w_{CE} L_{CE}"
    reference: ClassVar[str] = "Isensee 2021, doi:10.1038/s41592-020-01008-z (nnU-Net)"
    punishes: ClassVar[str] = "Lack of overlap of each class and every wrong voxel, together."
    papers: ClassVar[tuple[str, ...]] = ("Zhang 2025", "Perera 2025", "Oshah 2025")
    value_range: ClassVar[tuple[float, float]] = (0.0, math.inf)
    kind: Literal["dice_cross_entropy"] = "dice_cross_entropy"
    dice_weight: float = parameter(1.0, title="Weight of Dice", meaning="Factor of Dice.", ge=0, live=True)
    cross_entropy_weight: float = parameter(
        1.0, title="Weight of cross entropy", meaning="Factor of the cross entropy.", ge=0, live=True
    )
    include_background: bool = parameter(
        True, title="Include background", meaning="Whether class 0 counts in the Dice term."
    )
    squared: bool = parameter(
        False, title="Squared denominator", meaning="Dice with p^2 and g^2 in the denominator."
    )
    batch: bool = parameter(
        False, title="Sum over batch first", meaning="One Dice per class over the batch.", advanced=True
    )
    eps: float = parameter(1e-5, title="Smoothing", meaning="Of the Dice term.", gt=0, advanced=True)

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
    """Tversky and cross entropy, each weighed by its share of the last epoch's loss."""

    display_name: ClassVar[str] = "Adaptive Tversky + cross entropy"
    formula: ClassVar[str] = (
        r"L^{(t)}=w_T L_T+w_{CE} L_{CE},\quad "
        r"w_T=\frac{\bar L_T^{(t-1)}}{\bar L_T^{(t-1)}+\bar L_{CE}^{(t-1)}},\ w_{CE}=1-w_T"
    )
    reference: ClassVar[str] = "Zhang 2025, eq. 8-10: UNet-3D with adaptive TverskyCE loss"
    punishes: ClassVar[str] = "Lack of overlap and wrong voxels, leaning to whichever was larger last epoch."
    papers: ClassVar[tuple[str, ...]] = ("Zhang 2025",)
    value_range: ClassVar[tuple[float, float]] = (0.0, math.inf)
    kind: Literal["adaptive_tversky_cross_entropy"] = "adaptive_tversky_cross_entropy"
    alpha: float = parameter(
        0.5,
        title=FALSE_POSITIVES,
        meaning="Weight of false positives in the Tversky term. Higher: the network marks less.",
        ge=0,
        le=10,
        step=0.05,
        live=True,
    )
    beta: float = parameter(
        0.5,
        title=FALSE_NEGATIVES,
        meaning="Weight of false negatives in the Tversky term. Higher: the network marks more.",
        ge=0,
        le=10,
        step=0.05,
        live=True,
    )
    granularity: Literal["epoch", "step"] = parameter(
        "epoch", title="Adapts after", meaning="Whether weights follow the mean of an epoch or each step."
    )
    include_background: bool = parameter(
        False, title="Include background", meaning="Whether class 0 counts in the Tversky term."
    )
    eps: float = parameter(1e-5, title="Smoothing", meaning="Of the Tversky term.", gt=0, advanced=True)

    @model_validator(mode="after")
    def _punish_something(self) -> AdaptiveTverskyCrossEntropy:
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
