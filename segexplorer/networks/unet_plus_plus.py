"""`unet_plus_plus`: MONAI's UNet++."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.networks.base import registry
from segexplorer.networks.deep_supervision import SupervisedNetwork
from segexplorer.networks.levels import base_features, dropout

if TYPE_CHECKING:
    from torch import nn

_LEVELS = 5


@registry.register
class UNetPlusPlus(SupervisedNetwork):
    """Nested U-Nets of depth 1 to 4 that share one encoder, with skips through all nodes between.

    As MONAI builds it: five levels, instance norm, leaky ReLU. Deep supervision trains the logits of all four
    depths, each at full resolution, as Zhou et al. do; the deepest one predicts.
    """

    display_name: ClassVar[str] = "UNet++"
    reference: ClassVar[str] = "Zhou et al. 2018, arXiv:1807.10165; MONAI BasicUNetPlusPlus"
    family: ClassVar[str] = "U-Net"
    kind: Literal["unet_plus_plus"] = "unet_plus_plus"
    base_features: int = base_features(
        32,
        least=4,
        meaning="Channels of the first two levels, then doubled at each. More learns more and costs more time.",
    )
    dropout: float = dropout()
    upsampling: Literal["transposed", "linear"] = parameter(
        "transposed",
        title="Up-sampling",
        meaning="Learned transposed convolution, or linear interpolation.",
        advanced=True,
    )

    def _build(self, dimensions: int, in_channels: int, out_channels: int) -> nn.Module:
        from segexplorer.networks.architectures.supervised import UNetPlusPlus as Network

        n = self.base_features
        return Network(
            spatial_dims=dimensions,
            in_channels=in_channels,
            out_channels=out_channels,
            features=(n, n, 2 * n, 4 * n, 8 * n, n),
            deep_supervision=self.supervised,
            dropout=self.dropout,
            upsample="deconv" if self.upsampling == "transposed" else "nontrainable",
        )

    def divisor(self, dimensions: int) -> tuple[int, ...]:
        return (2 ** (_LEVELS - 1),) * dimensions
