"""`dice_focal`: a weighted sum of Dice and the focal loss."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.losses.base import registry
from segexplorer.losses.compound import Compound, CompoundTerm
from segexplorer.losses.dice import Dice
from segexplorer.losses.focal import Focal


@registry.register
class DiceFocal(Compound):
    """Weighted sum of Dice and the focal loss, halves in Oshah 2025."""

    display_name: ClassVar[str] = "Dice + focal"
    formula: ClassVar[str] = r"L=w_D L_{Dice}+w_F L_{focal}"
    reference: ClassVar[str] = "Oshah 2025, total loss of LeViT-UNet; Zhu 2019, arXiv:1808.05238 (AnatomyNet)"
    punishes: ClassVar[str] = "Lack of overlap of each class, and wrong or uncertain voxels."
    papers: ClassVar[tuple[str, ...]] = ("Oshah 2025",)
    value_range: ClassVar[tuple[float, float]] = (0.0, math.inf)
    kind: Literal["dice_focal"] = "dice_focal"
    dice_weight: float = parameter(0.5, title="Weight of Dice", meaning="Factor of Dice.", ge=0, live=True)
    focal_weight: float = parameter(
        0.5, title="Weight of focal", meaning="Factor of the focal loss.", ge=0, live=True
    )
    gamma: float = parameter(
        2.0,
        title="Focus gamma",
        meaning="The higher, the less voxels that are nearly right count. 0: cross entropy.",
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
