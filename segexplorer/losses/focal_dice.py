"""`focal_dice`: one minus a root of Dice."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.losses.base import LossOutput, registry, single
from segexplorer.losses.ratio import RatioLoss, dice_losses

if TYPE_CHECKING:
    from segexplorer.functional.context import Scene
    from segexplorer.losses.module import Loss


@registry.register
class FocalDice(RatioLoss):
    """Mean over samples and classes of 1 - Dice^(1 / exponent) (Wang and Chung)."""

    display_name: ClassVar[str] = "Focal Dice"
    formula: ClassVar[str] = r"L=1-D^{1/\beta}"
    reference: ClassVar[str] = "Wang and Chung 2018, doi:10.1007/978-3-030-00919-9_19"
    punishes: ClassVar[str] = "Lack of overlap, classes with a poor Dice more than others."
    papers: ClassVar[tuple[str, ...]] = ("Oshah 2025",)
    family: ClassVar[str] = "region"
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    kind: Literal["focal_dice"] = "focal_dice"
    exponent: float = parameter(
        2.0,
        title="Exponent",
        meaning="The root that is taken of Dice; the higher, the more poor classes count. 1: Dice.",
        ge=1,
        le=10,
        step=0.5,
        live=True,
        called="beta in Wang and Chung 2018",
    )

    def compute(self, scene: Scene, state: Loss) -> LossOutput:
        """Return the mean over samples and classes."""
        counts = self.counts(scene)
        dice = 1 - dice_losses(counts, self.eps)
        # never exactly 0 by its formula, but 1 - x rounds; a root has no slope at 0
        losses = 1 - dice.clamp(min=1e-12) ** (1 / self.exponent)
        return single(self.kind, self.averaged(losses, counts, scene))
