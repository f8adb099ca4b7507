"""`dilated_vnet`: the Dilated V-Net that paper 000 compares with."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.networks.base import registry
from segexplorer.networks.dilated_unet import Dilation
from segexplorer.networks.vnet import VNetFamily

if TYPE_CHECKING:
    from torch import nn


@registry.register
class DilatedVNet(VNetFamily):
    """V-Net whose coarsest level sees further through convolutions of several dilations.

    Paper 000 compares with "a multi-rate deep dilated network in V-Net" (its reference 12) and says no more of
    it; the dilations lie side by side behind the coarsest stage here, as in `dilated_unet`.
    """

    display_name: ClassVar[str] = "Dilated V-Net"
    reference: ClassVar[str] = "Giddwani et al. 2020, doi:10.1109/SPIN48934.2020.9071339; paper 000, table 1"
    papers: ClassVar[tuple[str, ...]] = ("000",)
    kind: Literal["dilated_vnet"] = "dilated_vnet"
    dilations: tuple[Dilation, ...] = parameter(
        (1, 2, 4, 8),
        title="Dilations",
        meaning="Spacing of the kernel's voxels at the coarsest level, one convolution each; more sees further.",
        min_length=1,
        max_length=8,
    )
    arrangement: Literal["parallel", "stacked"] = parameter(
        "parallel",
        title="Arrangement",
        meaning="Side by side on the same features, or one behind the other, which sees further still.",
    )

    def _build(self, dimensions: int, in_channels: int, out_channels: int) -> nn.Module:
        from segexplorer.networks.architectures.dilation import DilatedBottleneck

        bottleneck = DilatedBottleneck(
            dimensions,
            self.features()[-1],
            self.dilations,
            stacked=self.arrangement == "stacked",
            normalisation="batch",
            activation=self.activation,
        )
        return self.with_bottleneck(dimensions, in_channels, out_channels, bottleneck)
