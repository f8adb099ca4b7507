"""`dice`: one minus the soft Dice coefficient."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.losses.base import LossOutput, registry, single
from segexplorer.losses.ratio import RatioLoss, dice_losses

if TYPE_CHECKING:
    from segexplorer.functional.context import Scene
    from segexplorer.losses.module import Loss


@registry.register
class Dice(RatioLoss):
    """Mean over samples and classes of 1 - (2 TP + eps) / (P + G + eps), or with squares."""

    display_name: ClassVar[str] = "Dice"
    formula: ClassVar[str] = r"L=1-\frac{2\sum pg+\epsilon}{\sum p+\sum g+\epsilon}"
    reference: ClassVar[str] = "Milletari 2016, arXiv:1606.04797 (squared); Drozdzal 2016, arXiv:1608.04117"
    punishes: ClassVar[str] = "Lack of overlap, each class alike whatever its size."
    family: ClassVar[str] = "region"
    papers: ClassVar[tuple[str, ...]] = ("Zhang 2025", "Perera 2025", "Yeung 2022", "Oshah 2025", "Chen 2023")
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    kind: Literal["dice"] = "dice"
    squared: bool = parameter(
        False,
        title="Squared denominator",
        meaning="Sums p^2 and g^2 in the denominator, as V-Net does; favours decided probabilities.",
    )

    def compute(self, scene: Scene, state: Loss) -> LossOutput:
        """Divide overlap by volumes."""
        counts = self.counts(scene, squared=self.squared)
        losses = dice_losses(counts, self.eps, squared=self.squared)
        return single(self.kind, self.averaged(losses, counts, scene))
