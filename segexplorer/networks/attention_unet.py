"""`attention_unet`: MONAI's Attention U-Net."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from segexplorer.core.fields import parameter
from segexplorer.networks.base import registry
from segexplorer.networks.deep_supervision import SupervisedNetwork
from segexplorer.networks.unet import doubled

if TYPE_CHECKING:
    from torch import nn


@registry.register
class AttentionUNet(SupervisedNetwork):
    """U-Net whose skips pass a gate: what comes up from the coarser level decides what of them counts.

    As MONAI builds it: batch norm, ReLU, strided convolutions down and transposed ones up. Oktay et al. showed
    it on the pancreas. Deep supervision puts logits on every level of the decoder.
    """

    display_name: ClassVar[str] = "Attention U-Net"
    reference: ClassVar[str] = "Oktay et al. 2018, arXiv:1804.03999; MONAI AttentionUnet"
    family: ClassVar[str] = "U-Net"
    kind: Literal["attention_unet"] = "attention_unet"
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
    dropout: float = parameter(
        0.0,
        title="Dropout",
        meaning="Probability that a number is dropped in training; more overfits less and learns slower.",
        ge=0,
        lt=1,
        step=0.05,
    )

    def _build(self, dimensions: int, in_channels: int, out_channels: int) -> nn.Module:
        from segexplorer.networks.architectures.supervised import AttentionUNet as Network

        return Network(
            supervised=self.supervised,
            spatial_dims=dimensions,
            in_channels=in_channels,
            out_channels=out_channels,
            channels=doubled(self.base_features, self.levels, self.base_features * 2**self.levels),
            strides=(2,) * (self.levels - 1),
            dropout=self.dropout,
        )

    def divisor(self, dimensions: int) -> tuple[int, ...]:
        return (2 ** (self.levels - 1),) * dimensions
