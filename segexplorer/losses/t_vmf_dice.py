"""`t_vmf_dice`: Dice on the cosine, sharpened as a t-distribution of von Mises and Fisher."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.losses.base import LossOutput, LossSpec, registry, single

if TYPE_CHECKING:
    from torch import Tensor

    from segexplorer.functional.context import Scene
    from segexplorer.losses.module import Loss


@registry.register
class TvMFDice(LossSpec):
    """Mean over classes of (1 - phi(cos))^2, statistics over the batch as its authors do.

    cos = sum pg / sqrt(sum p^2 sum g^2), 1 where prediction and truth agree; phi(cos) falls from 1 the faster the
    larger kappa.
    """

    display_name: ClassVar[str] = "t-vMF Dice"
    formula: ClassVar[str] = r"L=\frac1C\sum_c\Big(2-\frac{1+\cos_c}{1+\kappa(1-\cos_c)}\Big)^2"
    reference: ClassVar[str] = "Kato and Hotta 2022, arXiv:2207.07842"
    punishes: ClassVar[str] = "Lack of overlap; with a large kappa all but a nearly exact one."
    papers: ClassVar[tuple[str, ...]] = ("Zhang 2025", "Oshah 2025")
    family: ClassVar[str] = "region"
    value_range: ClassVar[tuple[float, float]] = (0.0, 4.0)
    kind: Literal["t_vmf_dice"] = "t_vmf_dice"
    kappa: float = parameter(
        32.0, title="Kappa", meaning="0 gives (1 - cos)^2; the larger, the sharper the peak.", ge=0, live=True
    )
    absent: Literal["skip", "penalise"] = parameter(
        "skip",
        title="Absent classes",
        meaning="skip: left out of the mean; penalise: a constant without gradient, as the authors' code has.",
        advanced=True,
    )

    def compute(self, scene: Scene, state: Loss) -> LossOutput:
        """Divide by the norms, kept off zero."""
        from segexplorer.functional.cosine import t_vmf_losses

        losses, present = t_vmf_losses(scene, self.kappa)
        return single(self.kind, mean_of_classes(losses, present, self.absent))


def mean_of_classes(losses: Tensor, present: Tensor, absent: Literal["skip", "penalise"]) -> Tensor:
    """Return the mean of (C,) losses over present classes or, penalising absence, over all; 0 where none is."""
    from segexplorer.functional.masked import mean_over

    return mean_over(losses, present if absent == "skip" else present.any().expand_as(present))
