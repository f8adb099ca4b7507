"""`generalised_wasserstein_dice`: Dice in which confusing some classes costs less than confusing others."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import field_validator

from segexplorer.core.errors import LossInputError
from segexplorer.core.fields import parameter
from segexplorer.losses.base import LossOutput, LossSpec, registry, single

if TYPE_CHECKING:
    from segexplorer.functional.context import Scene
    from segexplorer.losses.module import Loss


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
    punishes: ClassVar[str] = "Lack of overlap, less where classes that are close to each other are confused."
    papers: ClassVar[tuple[str, ...]] = ("Oshah 2025",)
    family: ClassVar[str] = "region"
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    kind: Literal["generalised_wasserstein_dice"] = "generalised_wasserstein_dice"
    distances: tuple[tuple[float, ...], ...] | None = parameter(
        None,
        title="Distances of classes",
        meaning="Symmetric, zero diagonal, background first; divided by the largest. Without it all are 1.",
        advanced=True,
    )
    eps: float = parameter(
        1e-5, title="Smoothing", meaning="Added to numerator and denominator.", gt=0, advanced=True
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

    def compute(self, scene: Scene, state: Loss) -> LossOutput:
        """Look the costs up class by class; no (C, C, N) array is made."""
        import torch

        from segexplorer.functional.masked import pair

        if self.distances is None:
            table = 1 - torch.eye(scene.classes, dtype=scene.logits.dtype, device=scene.logits.device)
        else:
            table = scene.logits.new_tensor(self.distances)
            table = table / table.max()
        if len(table) != scene.classes:
            raise LossInputError(
                f"The distances are for {len(table)} classes, the logits have {scene.classes}.",
                "Give one row per class, background first.",
            )
        p, g = (x.flatten(2) for x in pair(scene))
        costs = torch.einsum("cd,bcn->bdn", table, g)
        cost = (costs * p).sum(1)
        row = costs[:, 0]
        hit = (row * (row - cost)).sum(1)
        wrong = cost.sum(1)
        # as a difference over the sum: exact at a perfect overlap, 0 where nothing is kept
        return single(self.kind, (wrong / (2 * hit + wrong + self.eps)).mean())
