"""`lovasz_softmax`: the convex extension of the Jaccard loss."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.losses.base import LossOutput, LossSpec, registry, single

if TYPE_CHECKING:
    from segexplorer.functional.context import Scene
    from segexplorer.losses.module import Loss


@registry.register
class LovaszSoftmax(LossSpec):
    """Errors |g - p|, sorted, times the growth of the Jaccard loss; batch scope by default.

    With a class's voxels in the order of falling errors e, J_i is the Jaccard loss (1 - intersection over union) if
    the first i were wrong and all others right.
    """

    display_name: ClassVar[str] = "Lovasz softmax"
    formula: ClassVar[str] = r"L=\frac1{|K|}\sum_c\sum_i e_{(i)}(J_i-J_{i-1})"
    reference: ClassVar[str] = "Berman 2018, arXiv:1705.08790"
    punishes: ClassVar[str] = "Lack of overlap as the Jaccard index counts it, the largest errors first."
    papers: ClassVar[tuple[str, ...]] = ("Oshah 2025",)
    family: ClassVar[str] = "region"
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    kind: Literal["lovasz_softmax"] = "lovasz_softmax"
    classes: Literal["present", "all"] = parameter(
        "present", title="Classes", meaning="Mean over the classes present in the target, or over all."
    )
    per_image: bool = parameter(
        False,
        title="Per sample",
        meaning="One index per sample, in place of one over the batch.",
        advanced=True,
    )

    def compute(self, scene: Scene, state: Loss) -> LossOutput:
        """Sort the errors of each class; ignored voxels have none and belong to no class."""
        import torch

        from segexplorer.functional.masked import mean_over, pair

        p, g = pair(scene)
        p, g = p.flatten(2), g.flatten(2)
        if not self.per_image:
            p, g = (x.transpose(0, 1).flatten(1).unsqueeze(0) for x in (p, g))
        errors, order = (g - p).abs().sort(dim=-1, descending=True)
        truth = g.detach().gather(-1, order)
        size = truth.sum(-1, keepdim=True)
        union = (size + (1 - truth).cumsum(-1)).clamp(min=1e-12)
        jaccard = 1 - (size - truth.cumsum(-1)) / union
        growth = torch.diff(jaccard, dim=-1, prepend=torch.zeros_like(jaccard[..., :1]))
        losses = (errors * growth).sum(-1)
        counted = (
            (size[..., 0] > 0) if self.classes == "present" else torch.ones_like(losses, dtype=torch.bool)
        )
        if self.per_image:
            samples = torch.stack([mean_over(x, c) for x, c in zip(losses, counted, strict=True)])
            return single(self.kind, samples.mean())
        return single(self.kind, mean_over(losses, counted))
