"""Overlap losses that weigh classes, or kinds of errors, against each other within one ratio.

- `generalised_dice`: one Dice over all classes, each weighted by its inverse volume.
- `generalised_wasserstein_dice`: confusing some classes costs less than confusing others.
- `ws_dice`: Dice of probabilities that are scaled to -1 .. 1 and weighted by class.
- `sensitivity_specificity`: squared errors inside and outside each class, weighted against each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import field_validator

from segexplorer.core.errors import LossInputError
from segexplorer.core.fields import parameter
from segexplorer.losses.base import LossOutput, LossSpec, registry, single, weights_of
from segexplorer.losses.overlap import RatioLoss

if TYPE_CHECKING:
    from torch import Tensor

    from segexplorer.functional.inputs import LossInputs
    from segexplorer.functional.overlap import Overlap
    from segexplorer.functional.sweep import Sums
    from segexplorer.losses.module import Loss


@registry.register
class GeneralisedDice(RatioLoss):
    """Mean over samples of 1 - (2 sum_c w_c TP + eps) / (sum_c w_c (P + G) + eps)."""

    display_name: ClassVar[str] = "Generalised Dice"
    formula: ClassVar[str] = (
        r"L=1-\frac{2\sum_c w_c\sum pg+\epsilon}{\sum_c w_c\sum(p+g)+\epsilon},\quad w_c=\frac1{(\sum g)^2}"
    )
    reference: ClassVar[str] = "Sudre 2017, arXiv:1707.03237"
    penalises: ClassVar[str] = "Lack of overlap of all classes together, small classes much more per voxel."
    papers: ClassVar[tuple[str, ...]] = ("Perera 2025", "Oshah 2025", "Chen 2023")
    family: ClassVar[str] = "region"
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    purposes: ClassVar[tuple[str, ...]] = ("class_imbalance", "small_structures")
    kind: Literal["generalised_dice"] = "generalised_dice"
    weighting: Literal["square", "simple", "uniform"] = parameter(
        "square",
        title="Weight of a class",
        description="One over its squared volume, one over its volume, or all alike.",
    )
    absent: Literal["penalise", "skip"] = parameter(
        "penalise",
        title="Absent classes",
        description="penalise: they get the largest weight that a present class has; skip: none.",
        advanced=True,
    )

    def compute(self, inputs: LossInputs, state: Loss) -> LossOutput:
        """Return the mean over samples and classes."""
        import torch

        counts = self.counts(inputs)
        volumes = counts.truth.detach()
        power = {"square": 2, "simple": 1, "uniform": 0}[self.weighting]
        present = volumes > 0
        weights = torch.where(present, 1 / volumes.clamp(min=1e-12) ** power, torch.zeros_like(volumes))
        if not self.include_background:
            present = torch.cat([torch.zeros_like(present[:, :1]), present[:, 1:]], 1)
        if self.absent == "penalise":
            largest = torch.where(present, weights, torch.zeros_like(weights)).amax(1, keepdim=True)
            largest = torch.where(largest > 0, largest, torch.ones_like(largest))
            weights = torch.where(volumes > 0, weights, largest)
        weights = weights * weights_of(self.class_weights, inputs)
        if not self.include_background:
            weights = torch.cat([torch.zeros_like(weights[:, :1]), weights[:, 1:]], 1)
        wrong = (weights * (counts.fp + counts.fn)).sum(1)
        both = (weights * 2 * counts.tp).sum(1)
        return single(self.kind, (wrong / (both + wrong + self.eps)).mean())


@registry.register
class GeneralisedWassersteinDice(LossSpec):
    """1 - (2 TP + eps) / (2 TP + sum W + eps), W the mean cost of a voxel's wrong classes.

    A is the table of `distances`: what it costs to take one class for another, from 0 to 1, row and column 0 for
    background.
    """

    display_name: ClassVar[str] = "Generalised Wasserstein Dice"
    formula: ClassVar[str] = (
        r"L=1-\frac{2TP_g+\epsilon}{2TP_g+\sum_iW_i+\epsilon},\ W_i=\sum_cA_{y_ic}p_{ic},\ "
        r"TP_g=\sum_iA_{y_i0}(A_{y_i0}-W_i)"
    )
    reference: ClassVar[str] = "Fidon 2017, arXiv:1707.00478"
    penalises: ClassVar[str] = (
        "Lack of overlap, less where classes that are close to each other are confused."
    )
    papers: ClassVar[tuple[str, ...]] = ("Oshah 2025",)
    family: ClassVar[str] = "region"
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    purposes: ClassVar[tuple[str, ...]] = ("related_classes",)
    kind: Literal["generalised_wasserstein_dice"] = "generalised_wasserstein_dice"
    distances: tuple[tuple[float, ...], ...] | None = parameter(
        None,
        title="Distances of classes",
        description="Symmetric, zero diagonal, background first; divided by the largest. Without it all are 1.",
        advanced=True,
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

    @field_validator("distances")
    @classmethod
    def _distances(cls, value: tuple[tuple[float, ...], ...] | None) -> tuple[tuple[float, ...], ...] | None:
        if value is None:
            return None
        size = range(len(value))
        if len(value) < 2 or any(len(row) != len(value) for row in value):
            raise ValueError("must be square, one row per class")
        if any(value[a][b] != value[b][a] or value[a][b] < 0 or value[a][a] != 0 for a in size for b in size):
            raise ValueError("must be symmetric and at least 0, with zeros on the diagonal")
        if not any(map(any, value)):
            raise ValueError("must have a distance above 0")
        return value

    def sums(self, inputs: LossInputs) -> tuple[Sums, ...]:
        """Return the soft confusion matrix of hard labels, and their volumes."""
        from segexplorer.functional.class_sums import Confusions, Volumes

        return () if inputs.soft is not None else (Confusions(), Volumes())

    def compute(self, inputs: LossInputs, state: Loss) -> LossOutput:
        """Weigh the confusions of classes; no (C, C, N) array is made."""
        import torch

        from segexplorer.functional.class_sums import Confusions
        from segexplorer.functional.inputs import pair

        if self.distances is None:
            table = 1 - torch.eye(inputs.classes, dtype=inputs.dtype, device=inputs.given.device)
        else:
            table = inputs.tensor(self.distances)
            table = table / table.max()
        if len(table) != inputs.classes:
            raise LossInputError(
                f"The distances are for {len(table)} classes, the logits have {inputs.classes}.",
                "Give one row per class, background first.",
            )
        if inputs.soft is None:
            (confusions,) = inputs.sums(Confusions())
            own = (confusions * table).sum(2)  # of the voxels of each class
            hit = (table[0].square() * inputs.volumes - table[0] * own).sum(1)
            wrong = own.sum(1)
        else:
            p, g = (x.flatten(2) for x in pair(inputs))
            costs = torch.einsum("cd,bcn->bdn", table, g)
            cost = (costs * p).sum(1)
            row = costs[:, 0]
            hit = (row * (row - cost)).sum(1)
            wrong = cost.sum(1)
        # as a difference over the sum: exact at a perfect overlap, 0 where nothing is kept
        return single(self.kind, (wrong / (2 * hit + wrong + self.eps)).mean())


def outside_volumes(inputs: LossInputs, loss: RatioLoss) -> Tensor:
    """Return (B, C) kept voxels outside each class, in the scope of a loss.

    Beside a common class there may be few: the difference of two large volumes, taken before they are rounded.
    """
    volumes = loss.scoped(inputs.exact_volumes)
    return (volumes.sum(1, keepdim=True) - volumes).to(inputs.dtype)


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
    penalises: ClassVar[str] = (
        "Lack of overlap, confident errors doubly; surplus voxels less than missed ones."
    )
    papers: ClassVar[tuple[str, ...]] = ("Oshah 2025",)
    family: ClassVar[str] = "region"
    value_range: ClassVar[tuple[float, float]] = (0.0, 2.0)
    purposes: ClassVar[tuple[str, ...]] = ("false_negatives",)
    kind: Literal["ws_dice"] = "ws_dice"
    background: float = parameter(
        0.15,
        title="Weight of background",
        description="Weight of voxels outside the class; those inside get one minus it.",
        gt=0,
        lt=1,
        step=0.05,
        live=True,
    )

    def sums(self, inputs: LossInputs) -> tuple[Sums, ...]:
        """Return the overlap and, of hard labels, squared errors."""
        from segexplorer.functional.class_sums import Counts, SquaredErrors

        return (Counts(), SquaredErrors()) if inputs.soft is None else (Counts(),)

    def compute(self, inputs: LossInputs, state: Loss) -> LossOutput:
        """Return the mean over samples and classes."""
        counts = self.counts(inputs)
        product, size = self.moments(inputs, counts) if inputs.soft is None else self.soft_moments(inputs)
        losses = 1 - (2 * product + self.eps) / (size + self.eps)
        return single(self.kind, self.averaged(losses, counts, inputs))

    def moments(self, inputs: LossInputs, counts: Overlap) -> tuple[Tensor, Tensor]:
        """Return the sums of w^2 p g and of w^2 (p^2 + g^2), with p and g moved to -1 .. 1, from counts alone.

        On a class's own voxels 2p - 1 = 1 - 2 (1 - p), and w is 1 - background; elsewhere it is minus 1 - 2p.
        """
        inner, outer = (1 - self.background) ** 2, self.background**2
        own, others = counts.truth, outside_volumes(inputs, self)
        square_in, square_out = (self.scoped(sums) for sums in inputs.squared_errors)
        product = inner * (own - 2 * counts.fn) + outer * (others - 2 * counts.fp)
        found = inner * (own - 4 * counts.fn + 4 * square_in) + outer * (
            others - 4 * counts.fp + 4 * square_out
        )
        return product, found + inner * own + outer * others

    def soft_moments(self, inputs: LossInputs) -> tuple[Tensor, Tensor]:
        """Return the same sums for a soft target."""
        from segexplorer.functional.inputs import pair

        probs, truth = pair(inputs)
        weights = self.background + (1 - 2 * self.background) * truth
        if inputs.keep is not None:
            weights = weights * inputs.keep.unsqueeze(1)
        p, g = weights * (2 * probs - 1), weights * (2 * truth - 1)
        product, size = (self.scoped(x.flatten(2).sum(-1)) for x in (p * g, p * p + g * g))
        return product, size


@registry.register
class SensitivitySpecificity(RatioLoss):
    """Mean over samples and foreground classes of r E_in / (G + eps) + (1 - r) E_out / (N - G + eps).

    E_in and E_out are the sums of (g - p)^2 inside and outside the class. With two classes and
    both counted r would cancel exactly.
    """

    display_name: ClassVar[str] = "Sensitivity-specificity"
    formula: ClassVar[str] = (
        r"L=r\frac{\sum(g-p)^2g}{\sum g+\epsilon}+(1-r)\frac{\sum(g-p)^2(1-g)}{\sum(1-g)+\epsilon}"
    )
    reference: ClassVar[str] = "Brosch 2015, doi:10.1007/978-3-319-24574-4_1"
    penalises: ClassVar[str] = (
        "Missed voxels by r, surplus ones by 1 - r, each relative to how many there could be."
    )
    papers: ClassVar[tuple[str, ...]] = ("Oshah 2025", "Chen 2023")
    family: ClassVar[str] = "region"
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    purposes: ClassVar[tuple[str, ...]] = ("small_structures", "false_negatives", "class_imbalance")
    kind: Literal["sensitivity_specificity"] = "sensitivity_specificity"
    include_background: bool = parameter(
        False, title="Include background", description="With two classes, counting it cancels r."
    )
    r: float = parameter(
        0.05,
        title="Weight of sensitivity",
        description="Weight of missed voxels; surplus ones get one minus it.",
        ge=0,
        le=1,
        step=0.01,
        live=True,
    )

    def sums(self, inputs: LossInputs) -> tuple[Sums, ...]:
        """Return squared errors and the overlap."""
        from segexplorer.functional.class_sums import Counts, SquaredErrors

        return SquaredErrors(), Counts()

    def compute(self, inputs: LossInputs, state: Loss) -> LossOutput:
        """Return the mean over samples and classes."""
        inside, outside = (self.scoped(sums) for sums in inputs.squared_errors)
        counts, others = self.counts(inputs), outside_volumes(inputs, self)
        losses = self.r * inside / (counts.truth + self.eps) + (1 - self.r) * outside / (others + self.eps)
        return single(self.kind, self.averaged(losses, counts, inputs))
