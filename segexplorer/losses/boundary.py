"""Losses of distances to the boundary, or of the boundary itself.

- `boundary`: probabilities, weighted by their signed distance from the boundary.
- `boundary_difference_over_union`: overlap with a weight that follows the size of the object.
- `hausdorff`: squared errors, weighted by their distance from the boundary.
- `distance_cross_entropy`: cross entropy in which voxels near a boundary count more.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.losses.base import LossOutput, LossSpec, registry, single

if TYPE_CHECKING:
    from torch import Tensor

    from segexplorer.functional.inputs import LossInputs
    from segexplorer.functional.sweep import Sums
    from segexplorer.losses.module import Loss


@registry.register
class Boundary(LossSpec):
    """Mean of p phi over the classes, phi signed distances in mm, detached.

    phi is positive outside of the object and negative inside: probability outside raises the loss, inside it lowers
    it, so that the best value is below 0 and depends on the object's size.
    In training the distances are those of the whole volume; without a context, of the target given.
    """

    display_name: ClassVar[str] = "Boundary"
    formula: ClassVar[str] = r"L=\frac1{|K|M}\sum_{c\in K,i}p_{ic}\,\phi_{ic}"
    reference: ClassVar[str] = "Kervadec 2019, arXiv:1812.07032"
    penalises: ClassVar[str] = (
        "Probability outside the object, in proportion to its distance; never use it alone."
    )
    papers: ClassVar[tuple[str, ...]] = ("Oshah 2025",)
    family: ClassVar[str] = "boundary"
    requires: ClassVar[tuple[str, ...]] = ("signed distances",)
    value_range: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    best_value: ClassVar[float] = -math.inf
    purposes: ClassVar[tuple[str, ...]] = ("boundary", "class_imbalance")
    kind: Literal["boundary"] = "boundary"
    include_background: bool = parameter(
        False, title="Include background", description="Whether class 0 counts in the mean."
    )

    def compute(self, inputs: LossInputs, state: Loss) -> LossOutput:
        """Linear in p: the gradient is the distance itself."""
        from segexplorer.functional.boundary import maps, signed_distance
        from segexplorer.functional.inputs import pair, spacing_of

        first = 0 if self.include_background else 1

        def summed(part: LossInputs) -> Tensor:
            p, g = pair(part)
            signed = (part.context.distance_maps or {}).get("signed distances")
            if signed is None:
                known = g.detach() > 0.5
                if part.keep is not None:
                    known[
                        :, 0
                    ] |= ~part.keep  # ignored voxels are background, as in the maps of whole volumes
                signed = maps(known, signed_distance, spacing_of(part))
            return (p[:, first:] * signed[:, first:].to(p.dtype)).sum()

        found = summed(inputs) if self.lacks_maps(inputs) else inputs.total(summed)
        return single(self.kind, found / (inputs.kept * (inputs.classes - first)))


@registry.register
class BoundaryDifferenceOverUnion(LossSpec):
    """(Q + G - 2 TP) / (Q + G - (1 + a) TP), a from the share of border voxels; batch scope.

    Of the S voxels of an object, C are at its border. For a large, compact object, a is near its cap: what both
    agree on hardly counts, and the loss looks at the rim. For thin or small objects a is negative: nearly Dice.
    """

    display_name: ClassVar[str] = "Boundary difference over union"
    formula: ClassVar[str] = r"L=\frac{Q+G-2TP+\epsilon}{Q+G-(1+a)TP+\epsilon},\ a=\min(1-2C/S,\,a_{\max})"
    reference: ClassVar[str] = "Sun 2023, arXiv:2308.00220"
    penalises: ClassVar[str] = "Differences near the boundary, for large objects more than for small ones."
    papers: ClassVar[tuple[str, ...]] = ("Oshah 2025",)
    family: ClassVar[str] = "boundary"
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    purposes: ClassVar[tuple[str, ...]] = ("boundary",)
    kind: Literal["boundary_difference_over_union"] = "boundary_difference_over_union"
    max_alpha: float = parameter(0.8, title="Largest alpha", description="Cap of the weight.", ge=-1, lt=1)
    min_alpha: float = parameter(
        -1.0,
        title="Smallest alpha",
        description="Floor of the weight; 0 keeps the paper's range.",
        ge=-1,
        lt=1,
    )
    eps: float = parameter(
        1e-5,
        title="Smoothing",
        description="Added to numerator and denominator.",
        scale="log",
        typical=(1e-9, 10),
        gt=0,
        advanced=True,
    )
    absent: Literal["skip", "penalise"] = parameter(
        "skip",
        title="Absent classes",
        description="skip: left out of the mean; penalise: a constant 1 without gradient, as the "
        "authors' code has.",
        advanced=True,
    )

    def sums(self, inputs: LossInputs) -> tuple[Sums, ...]:
        """Return squared errors and products."""
        from segexplorer.functional.class_sums import Counts, SquaredErrors

        return SquaredErrors(), Counts()

    def compute(self, inputs: LossInputs, state: Loss) -> LossOutput:
        """Count border voxels of the target; the sums are taken as differences, exact at a perfect overlap."""
        import torch

        from segexplorer.functional.inputs import mean_over, pair

        inside, outside = inputs.squared_errors
        wrong, product = (inside + outside).sum(0), inputs.overlap().product.sum(0)
        if inputs.soft is None:
            size = inputs.volumes.sum(0)
        else:
            size = (pair(inputs)[1].detach() > 0.5).flatten(2).sum((0, 2)).to(wrong.dtype)
        border = inputs.border_volumes.to(size.dtype)
        # eps here too: without it the value is 6e-10 off the reference vector
        alpha = (1 - 2 * (border + self.eps) / (size + self.eps)).clamp(self.min_alpha, self.max_alpha)
        losses = (wrong + self.eps) / (wrong + (1 - alpha) * product + self.eps)
        counted = size > 0
        if self.absent == "penalise":
            counted = counted.any() & torch.ones_like(counted)
        return single(self.kind, mean_over(losses, counted))


@registry.register
class Hausdorff(LossSpec):
    """Mean of (p - g)^2 (d_p^a + d_g^a) over foreground classes, distances in mm, detached.

    d_p and d_g are each voxel's distance from the boundary of the prediction (p above 1/2) and of the truth, a the
    exponent.
    In training the target's distances are those of the whole volume; without a context, of the target given.
    """

    display_name: ClassVar[str] = "Hausdorff distance"
    formula: ClassVar[str] = r"L=\frac1{|K|M}\sum_{c\in K,i}(p-g)^2\,(d_p^{a}+d_g^{a})"
    reference: ClassVar[str] = "Karimi and Salcudean 2019, arXiv:1904.10030"
    penalises: ClassVar[str] = "Errors, more strongly the farther they are from the boundary."
    papers: ClassVar[tuple[str, ...]] = ("Oshah 2025",)
    family: ClassVar[str] = "boundary"
    requires: ClassVar[tuple[str, ...]] = ("unsigned distances",)
    purposes: ClassVar[tuple[str, ...]] = ("boundary",)
    kind: Literal["hausdorff"] = "hausdorff"
    exponent: float = parameter(
        2.0, title="Exponent", description="Power of the distances.", gt=0, le=8, live=True
    )
    one_sided: bool = parameter(
        False,
        title="Target's distances only",
        description="Leaves out the distances of the prediction; faster.",
    )

    def compute(self, inputs: LossInputs, state: Loss) -> LossOutput:
        """Weigh the squared errors; one phase only gives no distances."""
        from segexplorer.functional.boundary import maps, unsigned_distance
        from segexplorer.functional.inputs import pair, spacing_of

        def summed(part: LossInputs) -> Tensor:
            p, g = (x[:, 1:] for x in pair(part))
            spacing = spacing_of(part)
            given = (part.context.distance_maps or {}).get("unsigned distances")
            truth = maps(g.detach() > 0.5, unsigned_distance, spacing) if given is None else given[:, 1:]
            weight = truth.to(p.dtype) ** self.exponent
            if not self.one_sided:
                predicted = maps(p.detach() > 0.5, unsigned_distance, spacing)
                weight = weight + predicted.to(p.dtype) ** self.exponent
            return ((p - g) ** 2 * weight).sum()

        # the prediction's distances are those in the whole volume, which no part knows
        whole = not self.one_sided or self.lacks_maps(inputs)
        found = summed(inputs) if whole else inputs.total(summed)
        return single(self.kind, found / (inputs.kept * (inputs.classes - 1)))


@registry.register
class DistanceCrossEntropy(LossSpec):
    """Mean of (1 + strength Phi) CE, Phi 1 at the boundary of each class and 0 deepest inside.

    In training Phi is that of the whole volume; without a context, of the target given.
    """

    display_name: ClassVar[str] = "Distance-penalised cross entropy"
    formula: ClassVar[str] = r"L=-\frac1M\sum_i(1+\lambda\Phi_i)\sum_c g_{ic}\log p_{ic}"
    reference: ClassVar[str] = "Calivá 2019, arXiv:1908.03679"
    penalises: ClassVar[str] = "Every wrong voxel, up to twice as much at the boundaries of classes."
    papers: ClassVar[tuple[str, ...]] = ("Oshah 2025",)
    family: ClassVar[str] = "distribution"
    requires: ClassVar[tuple[str, ...]] = ("nearness",)
    voxelwise: ClassVar[bool] = True
    purposes: ClassVar[tuple[str, ...]] = ("boundary",)
    kind: Literal["distance_cross_entropy"] = "distance_cross_entropy"
    strength: float = parameter(
        1.0,
        title="Strength",
        description="Extra weight at the boundary; 0 is plain cross entropy.",
        typical=(0, 10),
        ge=0,
        live=True,
    )

    def compute(self, inputs: LossInputs, state: Loss) -> LossOutput:
        """Weigh by the distances of the labels; those of a soft target are its largest classes."""
        from segexplorer.functional.boundary import nearness
        from segexplorer.functional.entropies import FocalCosts
        from segexplorer.functional.inputs import spacing_of
        from segexplorer.functional.sweep import VoxelFactor

        def summed(part: LossInputs) -> Tensor:
            given = (part.context.distance_maps or {}).get("nearness")
            if given is not None:
                near = given[:, 0]
            else:
                labels = part.labels
                if labels is None:
                    assert part.soft is not None
                    labels = part.soft.argmax(1)
                near = nearness(labels, spacing_of(part))
            factor = VoxelFactor(1 + self.strength * near.to(part.dtype))
            return part.sums(FocalCosts(factor=factor))[0].sum()

        found = summed(inputs) if self.lacks_maps(inputs) else inputs.total(summed)
        return single(self.kind, found / inputs.kept)
