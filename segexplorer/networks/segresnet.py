"""`segresnet`: MONAI's SegResNet, a residual encoder with a light decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import field_validator

from segexplorer.core.fields import parameter
from segexplorer.networks.base import registry
from segexplorer.networks.levels import LevelledNetwork, base_features, dropout, levels

if TYPE_CHECKING:
    from torch import nn

_DEPTHS = (1, 2, 2, 4, 4, 4)
"""Residual blocks per encoder level: the paper's 1, 2, 2, 4, and 4 on whatever lies deeper."""


@registry.register
class SegResNet(LevelledNetwork):
    """Residual blocks with group norm; addition in place of concatenation at the skips; linear up-sampling.

    The segmentation part of Myronenko's winning network of BraTS 2018, without its auto-encoder branch. Deep
    supervision puts logits on every level of the decoder.
    """

    display_name: ClassVar[str] = "SegResNet"
    reference: ClassVar[str] = "Myronenko 2018, arXiv:1810.11654; MONAI SegResNet"
    family: ClassVar[str] = "residual"
    kind: Literal["segresnet"] = "segresnet"
    base_features: int = base_features(
        16,
        least=8,
        meaning="Channels at full resolution, doubled at each level; a multiple of 8, for the group norm.",
    )
    levels: int = levels(4, most=6)
    dropout: float = dropout(of="channel of the first level", trade=False)
    upsampling: Literal["linear", "transposed"] = parameter(
        "linear",
        title="Up-sampling",
        meaning="Linear interpolation, or learned transposed convolution.",
        advanced=True,
    )

    @field_validator("base_features")
    @classmethod
    def _whole_groups(cls, value: int) -> int:
        if value % 8:
            raise ValueError("must be a multiple of 8, for the groups of the group norm")
        return value

    def _build(self, dimensions: int, in_channels: int, out_channels: int) -> nn.Module:
        from segexplorer.networks.architectures.supervised import SegResNet as Network

        return Network(
            spatial_dims=dimensions,
            init_filters=self.base_features,
            in_channels=in_channels,
            out_channels=out_channels,
            dropout_prob=self.dropout if self.dropout > 0 else None,
            blocks_down=_DEPTHS[: self.levels],
            blocks_up=(1,) * (self.levels - 1),
            upsample_mode="nontrainable" if self.upsampling == "linear" else "deconv",
            supervised=self.supervised,
        )
