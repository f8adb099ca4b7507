"""`t_loss`: errors as heavy-tailed noise, so that wrong labels pull less."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.losses.base import LossOutput, LossSpec, Numbers, registry, single

if TYPE_CHECKING:
    from torch import Tensor

    from segexplorer.functional.context import Scene
    from segexplorer.losses.module import Loss

LOG_NU = "log_nu"


@registry.register
class TLoss(LossSpec):
    """Mean over samples and classes of -log t_nu(p - g), scale identity, D the kept voxels.

    nu = exp(a) + 1e-8 with a learned. The gradient on an error is (nu + D)(p - g) / (nu + s): it falls again once
    the sum s of a sample's squared errors exceeds nu, so a sample whose label disagrees throughout pulls little.
    The paper's form; the authors' code scales the errors by e besides.
    """

    display_name: ClassVar[str] = "T-Loss"
    formula: ClassVar[str] = (
        r"L=-\log\Gamma\tfrac{\nu+D}2+\log\Gamma\tfrac\nu2+\tfrac D2\log(\pi\nu)"
        r"+\tfrac{\nu+D}2\log\Big(1+\tfrac1\nu\sum_i(p_i-g_i)^2\Big)"
    )
    reference: ClassVar[str] = "Gonzalez-Jimenez 2023, arXiv:2306.00753"
    punishes: ClassVar[str] = "Wrong voxels, but less and less where a whole sample disagrees with its label."
    papers: ClassVar[tuple[str, ...]] = ("Oshah 2025",)
    family: ClassVar[str] = "region"
    value_range: ClassVar[tuple[float, float]] = (-math.inf, math.inf)
    best_value: ClassVar[float] = -math.inf
    kind: Literal["t_loss"] = "t_loss"
    nu: float = parameter(
        math.e,
        title="Degrees of freedom nu",
        meaning="Where learning starts. The smaller, the sooner a sample counts as an outlier; very large: squared "
        "errors without any tolerance.",
        gt=0,
        le=1e9,
    )
    learn_nu: bool = parameter(
        True, title="Learn nu", meaning="Lets the optimiser move nu with the network, without weight decay."
    )
    normalise: bool = parameter(
        True,
        title="Per voxel",
        meaning="Divides by the number of kept voxels, so that the loss has the size of others. Off: the paper's "
        "sum, some 1e5 for a patch, which needs a small learning rate.",
    )

    def learned(self) -> Numbers:
        """Return the logarithm of nu where it is learned."""
        return {LOG_NU: (math.log(self.nu),)} if self.learn_nu else {}

    def degrees(self, state: Loss) -> Tensor:
        """Return nu, a float64 scalar, with its graph where it is learned."""
        import torch

        fixed = torch.tensor([math.log(self.nu)], dtype=torch.float64)
        raw: Tensor = state.learned[LOG_NU] if self.learn_nu else fixed
        return raw[0].exp() + 1e-8

    def reported(self, state: Loss) -> dict[str, float]:
        """Return nu where it is learned."""
        return {"nu": self.degrees(state).detach().item()} if self.learn_nu else {}

    def compute(self, scene: Scene, state: Loss) -> LossOutput:
        """Sum the squared errors of each sample and class; samples without a kept voxel do not count."""
        import torch

        from segexplorer.functional.masked import mean_over
        from segexplorer.functional.student_t import student_t_nll

        inside, outside = scene.squared_errors
        squared = inside + outside
        voxels = torch.full_like(squared[:, :1], float(math.prod(scene.spatial)))
        if scene.keep is not None:
            voxels = scene.keep.flatten(1).sum(1, keepdim=True)
        losses = student_t_nll(squared, voxels, self.degrees(state).to(squared.device))
        if self.normalise:
            losses = losses / voxels.clamp(min=1)
        value = mean_over(losses, (voxels > 0).expand_as(losses))
        return single(self.kind, value.to(scene.logits.dtype))
