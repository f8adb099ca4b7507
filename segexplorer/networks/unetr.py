"""`unetr`: MONAI's UNETR, a vision transformer with a convolutional decoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import model_validator

from segexplorer.core.fields import parameter
from segexplorer.networks.base import registry
from segexplorer.networks.deep_supervision import SupervisedNetwork
from segexplorer.networks.levels import base_features, dropout

if TYPE_CHECKING:
    from torch import nn

_TOKEN = 16


@registry.register
class UNETR(SupervisedNetwork):
    """Twelve transformer blocks on tokens of 16 voxels along each axis; their outputs go to a U-Net's decoder.

    As MONAI builds it; MONAI's takes one image size only, here the position embeddings are interpolated to the
    image's, so that whole volumes and patches of any multiple of 16 will do. Needs much data. Deep supervision puts
    logits on every level of the decoder.
    """

    display_name: ClassVar[str] = "UNETR"
    reference: ClassVar[str] = "Hatamizadeh et al. 2022, arXiv:2103.10504; MONAI UNETR"
    family: ClassVar[str] = "transformer"
    papers: ClassVar[tuple[str, ...]] = ("Oshah 2025",)
    kind: Literal["unetr"] = "unetr"
    base_features: int = base_features(
        16,
        least=4,
        most=64,
        meaning="Channels of the decoder at full resolution, doubled at each level.",
    )
    image_size: int = parameter(
        96,
        title="Image size",
        meaning="Length of the patch for which positions are learned; others are interpolated. Take the patch's.",
        unit="voxels",
        ge=_TOKEN,
        le=512,
        step=_TOKEN,
    )
    hidden: int = parameter(
        768, title="Token features", meaning="Numbers that describe a token.", ge=12, le=1536, advanced=True
    )
    feed_forward: int = parameter(
        3072,
        title="Feed-forward features",
        meaning="Width of the layers between the attentions.",
        ge=12,
        le=6144,
        advanced=True,
    )
    heads: int = parameter(
        12, title="Attention heads", meaning="They divide the token features.", ge=1, le=32, advanced=True
    )
    dropout: float = dropout(of="number")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.image_size % _TOKEN:
            raise ValueError(f"image_size must be a multiple of {_TOKEN}")
        if self.hidden % self.heads:
            raise ValueError(f"hidden ({self.hidden}) must be a multiple of heads ({self.heads})")
        return self

    def _build(self, dimensions: int, in_channels: int, out_channels: int) -> nn.Module:
        from segexplorer.networks.architectures import unetr

        return unetr.UNETR(
            image_size=self.image_size,
            supervised=self.supervised,
            spatial_dims=dimensions,
            in_channels=in_channels,
            out_channels=out_channels,
            feature_size=self.base_features,
            hidden_size=self.hidden,
            mlp_dim=self.feed_forward,
            num_heads=self.heads,
            dropout_rate=self.dropout,
        )

    def divisor(self, dimensions: int) -> tuple[int, ...]:
        return (_TOKEN,) * dimensions
