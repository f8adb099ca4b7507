"""`jaccard`: one minus the soft Jaccard index (intersection over union)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.losses.base import LossOutput, registry, single
from segexplorer.losses.ratio import RatioLoss, tversky_losses

if TYPE_CHECKING:
    from segexplorer.functional.context import Scene
    from segexplorer.losses.module import Loss


@registry.register
class Jaccard(RatioLoss):
    """Mean over samples and classes of 1 - (TP + eps) / (TP + FP + FN + eps), or with squares."""

    display_name: ClassVar[str] = "Jaccard (IoU)"
    formula: ClassVar[str] = r"L=1-\frac{\sum pg+\epsilon}{\sum p+\sum g-\sum pg+\epsilon}"
    reference: ClassVar[str] = "Rahman 2016, doi:10.1007/978-3-319-50835-1_22"
    punishes: ClassVar[str] = "Lack of overlap, harder than Dice while the overlap is poor."
    papers: ClassVar[tuple[str, ...]] = ("Oshah 2025",)
    family: ClassVar[str] = "region"
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    kind: Literal["jaccard"] = "jaccard"
    squared: bool = parameter(
        False, title="Squared denominator", meaning="Sums p^2 and g^2 in the denominator."
    )

    def compute(self, scene: Scene, state: Loss) -> LossOutput:
        """Return the mean over samples and classes."""
        counts = self.counts(scene, squared=self.squared)
        if self.squared:
            assert counts.predicted_square is not None
            union = counts.predicted_square + counts.truth_square - counts.product
            losses = 1 - (counts.product + self.eps) / (union + self.eps)
        else:
            losses = tversky_losses(counts, 1.0, 1.0, self.eps)
        return single(self.kind, self.averaged(losses, counts, scene))
