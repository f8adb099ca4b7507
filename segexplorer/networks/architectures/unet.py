"""The U-Net in 2D and 3D, as plain torch modules.

Ronneberger et al. 2015 and Çiçek et al. 2016, with padded convolutions as in Zhang 2025 section 3.1, so that
the logits have the image's shape.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from segexplorer.networks.architectures.blocks import (
    CONVOLUTION,
    DROPOUT,
    POOLING,
    TRANSPOSED,
    convolution_block,
    initialise,
    logit_heads,
    with_coarse_logits,
)


def double_convolution(
    dimensions: int, in_channels: int, middle: int, out_channels: int, normalisation: str, dropout: float
) -> nn.Sequential:
    """Two padded 3^D convolutions, each with normalisation and ReLU, and channel dropout at the end."""
    layers = convolution_block(dimensions, in_channels, middle, normalisation=normalisation)
    layers += convolution_block(dimensions, middle, out_channels, normalisation=normalisation)
    if dropout > 0:
        layers.append(DROPOUT[dimensions](dropout))
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Encoder and decoder with skip concatenation.

    Parameters
    ----------
    features
        Channels of each level, the finest first; `len(features)` levels, factor 2 between them.
    normalisation
        "none", "batch" or "instance".
    dropout
        Probability that a channel is dropped at the end of each level's convolutions, in training.
    strided
        Down-sample by a learned 2^D convolution of stride 2 in place of max pooling.
    early_doubling
        Çiçek's widths: the first convolution of a level has half its channels, and up-sampling keeps the
        channels. Else Ronneberger's: both convolutions have the level's channels, and up-sampling goes to those
        of the finer level.
    bottleneck
        What follows the coarsest level's convolutions; keeps channels and shape.
    supervised
        Whether every level of the decoder has logits in training.
    """

    def __init__(
        self,
        dimensions: int,
        in_channels: int,
        out_channels: int,
        features: Sequence[int],
        normalisation: str,
        dropout: float,
        *,
        strided: bool = False,
        early_doubling: bool = False,
        bottleneck: nn.Module | None = None,
        supervised: bool = False,
    ) -> None:
        super().__init__()
        before = [in_channels, *features[:-1]]
        self.encoder = nn.ModuleList(
            double_convolution(dimensions, i, o // 2 if early_doubling else o, o, normalisation, dropout)
            for i, o in zip(before, features, strict=True)
        )
        self.down = nn.ModuleList(
            CONVOLUTION[dimensions](n, n, kernel_size=2, stride=2) if strided else POOLING[dimensions](2)
            for n in features[:-1]
        )
        # (channels that come up, channels after up-sampling, channels of the finer level)
        steps = [
            (coarse, coarse if early_doubling else fine, fine)
            for coarse, fine in zip(reversed(features[1:]), reversed(features[:-1]), strict=True)
        ]
        self.up = nn.ModuleList(
            TRANSPOSED[dimensions](coarse, risen, kernel_size=2, stride=2) for coarse, risen, _ in steps
        )
        self.decoder = nn.ModuleList(
            double_convolution(dimensions, risen + fine, fine, fine, normalisation, dropout)
            for _, risen, fine in steps
        )
        self.head = CONVOLUTION[dimensions](features[0], out_channels, kernel_size=1)
        self.bottleneck = nn.Identity() if bottleneck is None else bottleneck
        self.apply(initialise)
        # last, so that a seed gives the rest the same weights with and without them
        self.coarse_heads = logit_heads(dimensions, features[-2:0:-1] if supervised else (), out_channels)
        self.coarse_heads.apply(initialise)

    def forward(self, image: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Map images (B, C_in, *spatial) to logits (B, C_out, *spatial), or to those of every level."""
        x = self.encoder[0](image)
        skips = []
        for down, block in zip(self.down, self.encoder[1:], strict=True):
            skips.append(x)
            x = block(down(x))
        x = self.bottleneck(x)
        levels = []
        for up, block, skip in zip(self.up, self.decoder, reversed(skips), strict=True):
            x = block(torch.cat((skip, up(x)), dim=1))
            levels.append(x)
        logits: torch.Tensor = self.head(x)
        if not (self.training and self.coarse_heads):
            return logits
        return with_coarse_logits(logits, self.coarse_heads, levels[:-1])
