"""`unet`: the UNet-3D of paper 000, the default network."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.networks.base import NetworkSpec, registry

if TYPE_CHECKING:
    from torch import nn


def doubled(base: int, levels: int, most: int) -> tuple[int, ...]:
    """Return the channels of each level: doubled from level to level, never above `most`."""
    return tuple(min(base * 2**level, max(most, base)) for level in range(levels))


@registry.register
class UNet(NetworkSpec):
    """U-Net: padded 3x3x3 convolutions with ReLU, factor-2 down-sampling, transposed convolution up, skips.

    Paper 000, section 3.1 and figure 1 (max pooling, features doubled at each level). The paper names no
    normalisation; instance normalisation is the default here because it trains with small batches.
    """

    display_name: ClassVar[str] = "U-Net"
    reference: ClassVar[str] = "Çiçek et al. 2016, doi:10.1007/978-3-319-46723-8_49; paper 000, section 3.1"
    kind: Literal["unet"] = "unet"
    base_features: int = parameter(
        16,
        title="Features of the first level",
        meaning="Channels at full resolution, doubled at each level. More learns more and costs more time.",
        ge=2,
        le=128,
        step=2,
    )
    levels: int = parameter(
        4,
        title="Levels",
        meaning="Resolutions, full resolution included. Each further level doubles how far the network sees.",
        ge=2,
        le=7,
    )
    maximum_features: int = parameter(
        320,
        title="Most features",
        meaning="Doubling stops at this many channels.",
        ge=8,
        le=2048,
        advanced=True,
    )
    normalisation: Literal["none", "batch", "instance"] = parameter(
        "instance",
        title="Normalisation",
        meaning="After each convolution. Batch needs several patches a batch; paper 000 names none.",
    )
    dropout: float = parameter(
        0.0,
        title="Dropout",
        meaning="Probability that a channel is dropped in training; more overfits less and learns slower.",
        ge=0,
        lt=1,
        step=0.05,
    )
    downsampling: Literal["max_pool", "convolution"] = parameter(
        "max_pool",
        title="Down-sampling",
        meaning="Largest of 2 voxels along each axis, or a learned convolution of stride 2.",
        advanced=True,
    )

    def _build(self, dimensions: int, in_channels: int, out_channels: int) -> nn.Module:
        from segexplorer.networks.architectures import unet

        return unet.UNet(
            dimensions,
            in_channels,
            out_channels,
            doubled(self.base_features, self.levels, self.maximum_features),
            self.normalisation,
            self.dropout,
            strided=self.downsampling == "convolution",
        )

    def divisor(self, dimensions: int) -> tuple[int, ...]:
        return (2 ** (self.levels - 1),) * dimensions
