"""`vnet`: the V-Net of paper 004, with batch normalisation and dropout."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.networks.base import registry
from segexplorer.networks.deep_supervision import SupervisedNetwork
from segexplorer.networks.unet import doubled

if TYPE_CHECKING:
    from torch import nn

_ENCODER = (2, 3, 3, 3, 3, 3)
"""Convolutions of the levels below the first, as Milletari et al. draw them; the first level has one."""


class VNetFamily(SupervisedNetwork):
    """What the V-Nets share: widths, levels, kernels, activation and dropout."""

    family: ClassVar[str] = "V-Net"
    residual: ClassVar[bool] = True
    """Whether a stage adds its input to its output."""

    base_features: int = parameter(
        16,
        title="Features of the first level",
        meaning="Channels at full resolution, doubled at each level. More learns more and costs more time.",
        ge=2,
        le=64,
        step=2,
    )
    levels: int = parameter(
        5,
        title="Levels",
        meaning="Resolutions, full resolution included. Each further level doubles how far the network sees.",
        ge=3,
        le=7,
    )
    kernel: Literal[3, 5] = parameter(
        5,
        title="Kernel",
        meaning="Length of the convolutions along each axis. 5 is the original's; 3 costs a fifth in 3D.",
        unit="voxels",
    )
    activation: Literal["prelu", "elu", "relu", "leaky_relu"] = parameter(
        "prelu",
        title="Activation",
        meaning="After each convolution; all but ReLU let negative values through in part.",
        advanced=True,
    )
    dropout: float = parameter(
        0.5,
        title="Dropout",
        meaning="Probability that a channel is dropped in training; more overfits less and learns slower.",
        ge=0,
        lt=1,
        step=0.05,
    )

    def with_bottleneck(
        self, dimensions: int, in_channels: int, out_channels: int, bottleneck: nn.Module | None
    ) -> nn.Module:
        """Build the network around what lies behind the coarsest stage."""
        from segexplorer.networks.architectures import vnet

        encoder = _ENCODER[: self.levels - 1]
        return vnet.VNet(
            vnet.Style(dimensions, self.kernel, self.activation, self.residual),
            in_channels,
            out_channels,
            self.features(),
            encoder,
            (*reversed(encoder[:-1]), 1),
            self.dropout,
            bottleneck=bottleneck,
            supervised=self.supervised,
        )

    def features(self) -> tuple[int, ...]:
        """Return the channels of each level."""
        return doubled(self.base_features, self.levels, self.base_features * 2**self.levels)

    def divisor(self, dimensions: int) -> tuple[int, ...]:
        return (2 ** (self.levels - 1),) * dimensions


@registry.register
class VNet(VNetFamily):
    """V-Net: residual stages of 5x5x5 convolutions, strided convolutions down, transposed ones up.

    Milletari et al.'s network (one, two, three, three and three convolutions from the finest level to the
    coarsest, PReLU), with batch normalisation and dropout as section 3.4 of paper 004 says. The paper gives
    neither the rate nor the place of the dropout: 0.5, on the skips and the two coarsest levels, as MONAI's.
    """

    display_name: ClassVar[str] = "V-Net"
    reference: ClassVar[str] = "Milletari et al. 2016, doi:10.1109/3DV.2016.79; paper 004, section 3.4"
    papers: ClassVar[tuple[str, ...]] = ("004",)
    kind: Literal["vnet"] = "vnet"

    def _build(self, dimensions: int, in_channels: int, out_channels: int) -> nn.Module:
        return self.with_bottleneck(dimensions, in_channels, out_channels, None)
