"""Losses of shape: connected centre lines, and the neighbourhood of each voxel.

- `cl_dice`: Dice of centre lines, for vessels and other tubes.
- `dice_cl_dice`: Dice of volumes and of centre lines, mixed.
- `region_mutual_information`: how much the predicted neighbourhood of a voxel says about the true one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.core.errors import LossInputError
from segexplorer.core.fields import parameter
from segexplorer.losses.base import LossOutput, LossSpec, registry, single, weighted_sum_of

if TYPE_CHECKING:
    from torch import Tensor

    from segexplorer.functional.inputs import LossInputs
    from segexplorer.functional.sweep import Sums
    from segexplorer.losses.module import Loss


class CentreLines(LossSpec):
    """Base of the losses that compare centre lines."""

    iterations: int = parameter(
        3, title="Iterations", description="At least the largest radius.", ge=1, le=50, unit="voxels"
    )
    smooth: float = parameter(
        1.0,
        title="Smoothing",
        description="Added to numerator and denominator.",
        scale="log",
        typical=(1e-9, 10),
        gt=0,
        unit="voxels",
        advanced=True,
    )
    joint: bool = parameter(
        False,
        title="Joint sums",
        description="Sums over batch and classes together, as the authors' code does.",
        advanced=True,
    )

    def axes(self, dimensions: int) -> tuple[int, ...]:
        """Return the axes of a (B, C, *spatial) tensor that are summed over."""
        return tuple(range(0 if self.joint else 2, dimensions))

    def centre_loss(self, p: Tensor, g: Tensor) -> Tensor:
        """Return 1 - clDice, mean over what is not summed over; 0 where nothing is there.

        Parameters
        ----------
        p, g
            (B, C, *spatial) probabilities and truth of the foreground, 0 on ignored voxels.
        """
        from segexplorer.functional.skeleton import soft_skeleton

        skeleton_p, skeleton_g = (soft_skeleton(x, self.iterations) for x in (p, g))
        axes, smooth = self.axes(p.ndim), self.smooth
        precision = ((skeleton_p * g).sum(axes) + smooth) / (skeleton_p.sum(axes) + smooth)
        sensitivity = ((skeleton_g * p).sum(axes) + smooth) / (skeleton_g.sum(axes) + smooth)
        return (1 - 2 * precision * sensitivity / (precision + sensitivity)).mean()


@registry.register
class ClDice(CentreLines):
    """One minus the harmonic mean of topological precision and sensitivity.

    T_prec is the part of the prediction's centre line that is inside the truth, T_sens the part of the truth's
    centre line that is inside the prediction. Centre lines are soft: what repeated erosion leaves over.
    """

    display_name: ClassVar[str] = "clDice"
    formula: ClassVar[str] = r"L=1-\frac{2\,T_{prec}T_{sens}}{T_{prec}+T_{sens}}"
    reference: ClassVar[str] = "Shit 2021, arXiv:2003.07311"
    penalises: ClassVar[str] = "Breaks and false branches of tubular structures, whatever their thickness."
    papers: ClassVar[tuple[str, ...]] = ("Oshah 2025",)
    family: ClassVar[str] = "boundary"
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    purposes: ClassVar[tuple[str, ...]] = ("thin_structures",)
    kind: Literal["cl_dice"] = "cl_dice"

    def compute(self, inputs: LossInputs, state: Loss) -> LossOutput:
        """Skeletonise what is kept of the foreground; a sample without kept voxels gives 0."""
        from segexplorer.functional.inputs import pair

        p, g = (x[:, 1:] for x in pair(inputs))
        return single(self.kind, self.centre_loss(p, g))


@registry.register
class DiceClDice(CentreLines):
    """(1 - a) Dice + a clDice over the foreground."""

    display_name: ClassVar[str] = "Dice + clDice"
    formula: ClassVar[str] = r"L=(1-a)\,L_{Dice}+a\,L_{clDice}"
    reference: ClassVar[str] = "Shit 2021, arXiv:2003.07311, eq. 3"
    penalises: ClassVar[str] = "Lack of overlap, and breaks of tubular structures, together."
    papers: ClassVar[tuple[str, ...]] = ("Oshah 2025",)
    family: ClassVar[str] = "compound"
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    purposes: ClassVar[tuple[str, ...]] = ("thin_structures", "overlap")
    kind: Literal["dice_cl_dice"] = "dice_cl_dice"
    cl_dice_weight: float = parameter(
        0.5, title="Weight of clDice", description="Dice gets one minus it.", ge=0, le=1, live=True
    )

    def compute(self, inputs: LossInputs, state: Loss) -> LossOutput:
        """Both terms sum over the same scope with the same smoothing."""
        from segexplorer.functional.inputs import pair

        p, g = (x[:, 1:] for x in pair(inputs))
        cl_dice, axes = self.centre_loss(p, g), self.axes(p.ndim)
        sizes = p.sum(axes) + g.sum(axes)
        dice = ((sizes - 2 * (p * g).sum(axes)) / (sizes + self.smooth)).mean()
        a = self.cl_dice_weight
        return weighted_sum_of({"dice": (dice, 1 - a), "cl_dice": (cl_dice, a)})


@registry.register
class RegionMutualInformation(LossSpec):
    """w CE + (1 - w) sum_c 1/2 log det(M_c + a) / d, mean over samples.

    M is what remains of the covariance of the truth's windows once the prediction's are known; the second term,
    the negated lower bound of their mutual information, is negative where the prediction is informative, at
    least 1/2 log a = -3.8 per class, which an absent class has too. Costs d = radius^n products per voxel: the
    most expensive loss here; `pool` makes it cheaper. The authors' cross entropy is that of each class against
    the rest, of sigmoids, summed over classes; here it is the softmax one, mean over kept voxels, unless
    `cross_entropy` is "binary".
    """

    display_name: ClassVar[str] = "Region mutual information"
    formula: ClassVar[str] = (
        r"L=w\,L_{CE}+(1-w)\sum_c\tfrac1{2d}\log\det(M_c+a),\quad "
        r"M=\Sigma_{yy}-\Sigma_{yp}(\Sigma_{pp}+a)^{-1}\Sigma_{yp}^{\top}"
    )
    reference: ClassVar[str] = "Zhao 2019, arXiv:1910.12037"
    penalises: ClassVar[str] = (
        "Neighbourhoods whose pattern the prediction does not reproduce, and every wrong voxel."
    )
    papers: ClassVar[tuple[str, ...]] = ("Oshah 2025",)
    family: ClassVar[str] = "region"
    value_range: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    best_value: ClassVar[float] = -math.inf
    purposes: ClassVar[tuple[str, ...]] = ("boundary",)
    kind: Literal["region_mutual_information"] = "region_mutual_information"
    radius: int = parameter(
        3,
        title="Window",
        description="Edge of a neighbourhood; 1 is the voxel alone.",
        unit="voxels",
        ge=1,
        le=5,
    )
    pool: int = parameter(
        1,
        title="Pooling",
        description="Largest value of each block of so many voxels per axis, before windows are taken; "
        "1: none, 3: much cheaper.",
        unit="voxels",
        ge=1,
        le=8,
    )
    cross_entropy_weight: float = parameter(
        0.5,
        title="Weight of cross entropy",
        description="The bound on mutual information gets one minus it; 0: the bound alone.",
        ge=0,
        le=1,
        step=0.05,
        live=True,
        called="lambda in Zhao 2019",
    )

    cross_entropy: Literal["softmax", "binary"] = parameter(
        "softmax",
        title="Cross entropy",
        description="softmax: of the true class. binary: of each class against the rest, summed over "
        "classes, as in the paper; with two classes it is twice the softmax one.",
        advanced=True,
    )

    def has_cross_entropy(self) -> bool:
        """Whether cross entropy has a weight."""
        return self.cross_entropy_weight > 0

    def sums(self, inputs: LossInputs) -> tuple[Sums, ...]:
        """Return the costs of the cross entropy, where it has a weight."""
        from segexplorer.functional.entropies import FocalCosts, TwoSidedCosts

        if self.cross_entropy_weight == 0:
            return ()
        return (TwoSidedCosts(0.5, first=0) if self.cross_entropy == "binary" else FocalCosts(),)

    def compute(self, inputs: LossInputs, state: Loss) -> LossOutput:
        """Add up both terms; the samples without a kept voxel do not count."""
        weight = self.cross_entropy_weight
        terms: dict[str, tuple[Tensor, float]] = {}
        for costs in self.sums(inputs):
            factor = 2 if self.cross_entropy == "binary" else 1
            terms["cross_entropy"] = (factor * inputs.sums(costs)[0].sum() / inputs.kept, weight)
        terms["mutual_information"] = (self.bound(inputs), 1 - weight)
        return weighted_sum_of(terms)

    def bound(self, inputs: LossInputs) -> Tensor:
        """Return the sum over classes of the negated bound, mean over samples.

        Raises
        ------
        LossInputError
            When an axis is shorter than the window.
        """
        from segexplorer.functional.inputs import mean_over, pair
        from segexplorer.functional.mutual_information import residual_entropy

        p, g = (self.pooled(x) for x in pair(inputs))
        if min(p.shape[2:]) < self.radius:
            raise LossInputError(
                f"Windows of {self.radius} voxels do not fit into {tuple(p.shape[2:])} (after pooling).",
                "Use a smaller radius or pool, larger patches, or no deep supervision.",
            )
        found = residual_entropy(p.flatten(0, 1), g.detach().flatten(0, 1), self.radius)
        samples = found.view(p.shape[:2]).sum(1).to(p.dtype)
        kept = samples.new_ones(samples.shape) if inputs.keep is None else inputs.keep.flatten(1).any(1)
        return mean_over(samples, kept)

    def pooled(self, maps: Tensor) -> Tensor:
        """Return the largest value of each block, (B, C, *spatial)."""
        import torch

        if self.pool == 1:
            return maps
        functions = {
            1: torch.nn.functional.max_pool1d,
            2: torch.nn.functional.max_pool2d,
            3: torch.nn.functional.max_pool3d,
        }
        found: Tensor = functions[maps.ndim - 2](maps, self.pool, self.pool, padding=self.pool // 2)
        return found
