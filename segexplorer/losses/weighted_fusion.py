"""`weighted_fusion`: Dice and cross entropy with weights that add up to 1."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.losses.base import registry
from segexplorer.losses.compound import Compound, CompoundTerm
from segexplorer.losses.cross_entropy import CrossEntropy
from segexplorer.losses.dice import Dice


@registry.register
class WeightedFusion(Compound):
    """w Dice + (1 - w) cross entropy, w chosen by hand (Zhang 2025 compares with it)."""

    display_name: ClassVar[str] = "Weighted fusion"
    formula: ClassVar[str] = r"L=w L_{Dice}+(1-w)L_{CE}"
    reference: ClassVar[str] = "Giddwani 2020, doi:10.1109/SPIN48934.2020.9071339 (as Zhang 2025 cites it)"
    punishes: ClassVar[str] = "Lack of overlap and every wrong voxel, in a chosen proportion."
    papers: ClassVar[tuple[str, ...]] = ("Zhang 2025",)
    value_range: ClassVar[tuple[float, float]] = (0.0, math.inf)
    kind: Literal["weighted_fusion"] = "weighted_fusion"
    w: float = parameter(
        0.5,
        title="Weight of Dice",
        meaning="Factor of Dice; the cross entropy gets one minus it.",
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
