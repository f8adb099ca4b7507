"""`asymmetric_similarity`: the F_b score as a loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.losses.base import LossOutput, registry, single
from segexplorer.losses.ratio import RatioLoss, tversky_losses

if TYPE_CHECKING:
    from segexplorer.functional.context import Scene
    from segexplorer.losses.module import Loss


@registry.register
class AsymmetricSimilarity(RatioLoss):
    """Tversky with alpha = 1 / (1 + b^2), beta = b^2 / (1 + b^2) over foreground classes."""

    display_name: ClassVar[str] = "Asymmetric similarity"
    formula: ClassVar[str] = r"L=1-\frac{(1+b^2)TP}{(1+b^2)TP+b^2 FN+FP}"
    reference: ClassVar[str] = "Hashemi 2019, doi:10.1109/ACCESS.2018.2886371 (arXiv:1803.11078)"
    punishes: ClassVar[str] = "Lack of overlap; false negatives b^2 times as much as false positives."
    papers: ClassVar[tuple[str, ...]] = ("Oshah 2025",)
    family: ClassVar[str] = "region"
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    kind: Literal["asymmetric_similarity"] = "asymmetric_similarity"
    include_background: bool = parameter(
        False, title="Include background", meaning="Counting it would cancel b with two classes."
    )
    b: float = parameter(
        1.5,
        title="Recall over precision b",
        meaning="Above 1 missed voxels cost more (recall), below 1 surplus ones (precision); 1 is Dice.",
        ge=0,
        le=10,
        step=0.1,
        live=True,
        called="beta in Hashemi 2019",
    )

    def compute(self, scene: Scene, state: Loss) -> LossOutput:
        """Return the mean over samples and classes."""
        counts = self.counts(scene)
        alpha = 1 / (1 + self.b**2)
        losses = tversky_losses(counts, alpha, 1 - alpha, self.eps)
        return single(self.kind, self.averaged(losses, counts, scene))
