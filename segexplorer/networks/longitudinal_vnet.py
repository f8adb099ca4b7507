"""`longitudinal_vnet`: the V-Net of paper 001 for two time points and their difference."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.networks.base import registry
from segexplorer.networks.vnet import VNetFamily

if TYPE_CHECKING:
    from torch import nn


@registry.register
class LongitudinalVNet(VNetFamily):
    """V-Net without residual sums: convolution, batch normalisation and leaky ReLU, five levels.

    Paper 001, section II.B and figure 2: baseline, follow-up and their difference come in as three channels; the
    convolutional, down-sampling and up-sampling blocks are all convolution, batch normalisation and leaky ReLU,
    and each path has five of them. The text names neither channels, kernels, convolutions per level nor slope,
    nor whether skips are added or concatenated: those of the V-Net, kernels of 3, a slope of 0.01 and
    concatenation here. The paper starts from the weights of CoactSeg (its reference 21), which are not part of
    this package.
    """

    display_name: ClassVar[str] = "V-Net, longitudinal"
    reference: ClassVar[str] = "Paper 001, section II.B and figure 2; Milletari et al. 2016"
    papers: ClassVar[tuple[str, ...]] = ("001",)
    residual: ClassVar[bool] = False
    kind: Literal["longitudinal_vnet"] = "longitudinal_vnet"
    kernel: Literal[3, 5] = parameter(
        3,
        title="Kernel",
        meaning="Length of the convolutions along each axis.",
        unit="voxels",
    )
    activation: Literal["prelu", "elu", "relu", "leaky_relu"] = parameter(
        "leaky_relu",
        title="Activation",
        meaning="After each convolution; all but ReLU let negative values through in part.",
        advanced=True,
    )
    dropout: float = parameter(
        0.0,
        title="Dropout",
        meaning="Probability that a channel is dropped in training; paper 001 names none.",
        ge=0,
        lt=1,
        step=0.05,
    )

    def _build(self, dimensions: int, in_channels: int, out_channels: int) -> nn.Module:
        return self.with_bottleneck(dimensions, in_channels, out_channels, None)
