"""`ws_dice`: Dice of probabilities that are moved to -1 .. 1 and weighed by class."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.losses.base import LossOutput, registry, single
from segexplorer.losses.ratio import RatioLoss

if TYPE_CHECKING:
    from torch import Tensor

    from segexplorer.functional.context import Scene
    from segexplorer.functional.overlap import Overlap
    from segexplorer.losses.module import Loss


@registry.register
class WSDice(RatioLoss):
    """Mean over samples and classes of the squared Dice of w (2p - 1) and w (2g - 1).

    w = background + (1 - 2 background) g: the class's own voxels weigh 1 - background, all others `background`.
    """

    display_name: ClassVar[str] = "WSDice"
    formula: ClassVar[str] = (
        r"L=1-\frac{2\sum w^2\hat p\hat g+\epsilon}{\sum w^2\hat p^2+\sum w^2\hat g^2+\epsilon},"
        r"\quad \hat x=2x-1"
    )
    reference: ClassVar[str] = "Wang 2020, doi:10.1109/ACCESS.2020.3020475"
    punishes: ClassVar[str] = (
        "Lack of overlap, confident errors doubly; surplus voxels less than missed ones."
    )
    papers: ClassVar[tuple[str, ...]] = ("Oshah 2025",)
    family: ClassVar[str] = "region"
    value_range: ClassVar[tuple[float, float]] = (0.0, 2.0)
    kind: Literal["ws_dice"] = "ws_dice"
    background: float = parameter(
        0.15,
        title="Weight of background",
        meaning="Weight of voxels outside the class; those inside get one minus it.",
        gt=0,
        lt=1,
        step=0.05,
        live=True,
    )

    def compute(self, scene: Scene, state: Loss) -> LossOutput:
        """Return the mean over samples and classes."""
        counts = self.counts(scene)
        product, size = self.sums(scene, counts) if scene.soft is None else self.soft_sums(scene)
        losses = 1 - (2 * product + self.eps) / (size + self.eps)
        return single(self.kind, self.averaged(losses, counts, scene))

    def sums(self, scene: Scene, counts: Overlap) -> tuple[Tensor, Tensor]:
        """Return the sums of w^2 p g and of w^2 (p^2 + g^2), with p and g moved to -1 .. 1, from counts alone.

        On a class's own voxels 2p - 1 = 1 - 2 (1 - p), and w is 1 - background; elsewhere it is minus 1 - 2p.
        """
        inner, outer = (1 - self.background) ** 2, self.background**2
        own = counts.truth
        others = self.scoped(scene.volumes.sum(1, keepdim=True)) - own
        square_in, square_out = (self.scoped(sums) for sums in scene.squared_errors)
        product = inner * (own - 2 * counts.fn) + outer * (others - 2 * counts.fp)
        found = inner * (own - 4 * counts.fn + 4 * square_in) + outer * (
            others - 4 * counts.fp + 4 * square_out
        )
        return product, found + inner * own + outer * others

    def soft_sums(self, scene: Scene) -> tuple[Tensor, Tensor]:
        """Return the same sums for a soft target."""
        from segexplorer.functional.masked import pair

        probs, truth = pair(scene)
        weights = self.background + (1 - 2 * self.background) * truth
        if scene.keep is not None:
            weights = weights * scene.keep.unsqueeze(1)
        p, g = weights * (2 * probs - 1), weights * (2 * truth - 1)
        product, size = (self.scoped(x.flatten(2).sum(-1)) for x in (p * g, p * p + g * g))
        return product, size
