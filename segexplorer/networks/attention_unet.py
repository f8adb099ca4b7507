"""`attention_unet`: MONAI's Attention U-Net."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.networks.base import registry
from segexplorer.networks.levels import LevelledNetwork, dropout

if TYPE_CHECKING:
    from torch import nn


@registry.register
class AttentionUNet(LevelledNetwork):
    """U-Net whose skips pass a gate: what comes up from the coarser level decides what of them counts.

    As MONAI builds it: batch norm, ReLU, strided convolutions down and transposed ones up. Oktay et al. showed
    it on the pancreas. Deep supervision puts logits on every level of the decoder.
    """

    display_name: ClassVar[str] = "Attention U-Net"
    reference: ClassVar[str] = "Oktay et al. 2018, arXiv:1804.03999; MONAI AttentionUnet"
    family: ClassVar[str] = "U-Net"
    kind: Literal["attention_unet"] = "attention_unet"
    dropout: float = dropout(of="number")

    def _build(self, dimensions: int, in_channels: int, out_channels: int) -> nn.Module:
        from segexplorer.networks.architectures.supervised import AttentionUNet as Network

        return Network(
            supervised=self.supervised,
            spatial_dims=dimensions,
            in_channels=in_channels,
            out_channels=out_channels,
            channels=self.features(),
            strides=(2,) * (self.levels - 1),
            dropout=self.dropout,
        )
