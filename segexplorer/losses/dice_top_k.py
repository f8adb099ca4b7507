"""`dice_top_k`: Dice and the cross entropy of the worst voxels."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.losses.base import registry
from segexplorer.losses.compound import Compound, CompoundTerm
from segexplorer.losses.dice import Dice
from segexplorer.losses.top_k import TopK


@registry.register
class DiceTopK(Compound):
    """Dice + top-k cross entropy."""

    display_name: ClassVar[str] = "Dice + top-k"
    formula: ClassVar[str] = r"L=L_{Dice}+L_{TopK}"
    reference: ClassVar[str] = "Isensee 2021, doi:10.1038/s41592-020-01008-z (nnU-Net)"
    punishes: ClassVar[str] = "Lack of overlap of each class, and the worst voxels."
    papers: ClassVar[tuple[str, ...]] = ("Oshah 2025",)
    value_range: ClassVar[tuple[float, float]] = (0.0, math.inf)
    kind: Literal["dice_top_k"] = "dice_top_k"
    k_percent: float = parameter(
        10.0,
        title="Worst voxels",
        meaning="Part of the kept voxels that counts in the cross entropy.",
        unit="%",
        gt=0,
        le=100,
        live=True,
    )

    def compound_terms(self) -> tuple[CompoundTerm, ...]:
        """Return Dice and top-k."""
        return CompoundTerm("dice", Dice()), CompoundTerm("top_k", TopK(k_percent=self.k_percent))
