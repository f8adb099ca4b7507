"""The V-Net in 2D and 3D, as plain torch modules.

Milletari et al. 2016 with batch normalisation and dropout where `monai.networks.nets.VNet` has them. MONAI's
takes only 1, 2, 4, 8 or 16 image channels, always five levels and kernels of 5; under its settings the two
give the same numbers (`tests/networks/test_vnet.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from segexplorer.networks.architectures.blocks import (
    BATCH,
    CONVOLUTION,
    DROPOUT,
    TRANSPOSED,
    activation_layer,
    convolution_block,
    logit_heads,
    with_coarse_logits,
)


@dataclass(frozen=True)
class Style:
    """What all stages of a V-Net share.

    Attributes
    ----------
    kernel
        Odd length of the convolutions' kernels along each axis.
    activation
        "relu", "leaky_relu", "elu" or "prelu".
    residual
        Whether a stage adds its input to its output.
    """

    dimensions: int
    kernel: int
    activation: str
    residual: bool


class Stage(nn.Module):
    """Convolutions with batch normalisation and activation; the stage's input is added at the end."""

    def __init__(self, style: Style, channels: int, count: int) -> None:
        super().__init__()
        blocks = [_block(style, channels, channels) for _ in range(count)]
        self.convolutions = nn.Sequential(*[layer for block in blocks for layer in block])
        self.activation = activation_layer(style.activation, channels) if style.residual else None

    def forward(self, x: torch.Tensor, added: torch.Tensor | None = None) -> torch.Tensor:
        """Map (B, C, *spatial) to the same shape; `added` takes the place of `x` in the sum."""
        y: torch.Tensor = self.convolutions(x)
        if self.activation is not None:
            y = self.activation(y + (x if added is None else added))
        return y


class First(nn.Module):
    """The first stage: one convolution to the first level's channels, the image's channels repeated and added."""

    def __init__(self, style: Style, in_channels: int, channels: int) -> None:
        super().__init__()
        layers = _block(style, in_channels, channels)
        # of a residual stage, the one activation comes after the sum
        self.convolution = nn.Sequential(*(layers[:-1] if style.residual else layers))
        self.activation = activation_layer(style.activation, channels) if style.residual else None
        self.channels = channels

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map images (B, C_in, *spatial) to features (B, C, *spatial)."""
        y: torch.Tensor = self.convolution(image)
        if self.activation is None:
            return y
        times = -(-self.channels // image.shape[1])
        repeated = torch.cat([image] * times, dim=1)[:, : self.channels]
        out: torch.Tensor = self.activation(y + repeated)
        return out


class Down(nn.Module):
    """A 2^D convolution of stride 2, then a stage that starts with dropout."""

    def __init__(self, style: Style, in_channels: int, channels: int, count: int, dropout: float) -> None:
        super().__init__()
        self.down = nn.Sequential(
            CONVOLUTION[style.dimensions](in_channels, channels, kernel_size=2, stride=2, bias=False),
            BATCH[style.dimensions](channels),
            activation_layer(style.activation, channels),
        )
        self.dropout = _dropout(style, dropout)
        self.stage = Stage(style, channels, count)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C_in, *spatial) to (B, C, *half)."""
        x = self.down(x)
        y: torch.Tensor = self.stage(self.dropout(x), added=x)
        return y


class Up(nn.Module):
    """Dropout, a transposed 2^D convolution of stride 2, the skip behind it, and a stage on both."""

    def __init__(
        self,
        style: Style,
        in_channels: int,
        skip_channels: int,
        count: int,
        dropout: float,
        skip_dropout: float,
    ) -> None:
        super().__init__()
        self.dropout, self.skip_dropout = _dropout(style, dropout), _dropout(style, skip_dropout)
        self.up = nn.Sequential(
            TRANSPOSED[style.dimensions](in_channels, skip_channels, kernel_size=2, stride=2, bias=False),
            BATCH[style.dimensions](skip_channels),
            activation_layer(style.activation, skip_channels),
        )
        self.stage = Stage(style, 2 * skip_channels, count)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """Map (B, C_in, *half) and the skip (B, C, *spatial) to (B, 2 C, *spatial)."""
        both = torch.cat((self.up(self.dropout(x)), self.skip_dropout(skip)), dim=1)
        y: torch.Tensor = self.stage(both)
        return y


class VNet(nn.Module):
    """Encoder and decoder of residual stages.

    Parameters
    ----------
    features
        Channels of each level, the finest first.
    encoder, decoder
        Convolutions per level below the first, and per level above the coarsest from coarse to fine.
    dropout
        Probability that a channel is dropped in training: on every skip, and before the stages of the two
        coarsest levels.
    bottleneck
        What follows the coarsest stage; keeps channels and shape.
    supervised
        Whether every level of the decoder has logits in training.
    """

    def __init__(
        self,
        style: Style,
        in_channels: int,
        out_channels: int,
        features: Sequence[int],
        encoder: Sequence[int],
        decoder: Sequence[int],
        dropout: float,
        *,
        bottleneck: nn.Module | None = None,
        supervised: bool = False,
    ) -> None:
        super().__init__()
        steps = len(features) - 1
        self.first = First(style, in_channels, features[0])
        self.down = nn.ModuleList(
            Down(style, features[i], features[i + 1], encoder[i], dropout if i >= steps - 2 else 0.0)
            for i in range(steps)
        )
        self.bottleneck = nn.Identity() if bottleneck is None else bottleneck
        skips = list(reversed(features[:-1]))
        rising = [features[-1], *(2 * n for n in skips[:-1])]
        self.up = nn.ModuleList(
            Up(style, rising[i], skips[i], decoder[i], dropout if i < 2 else 0.0, dropout)
            for i in range(steps)
        )
        self.last = nn.Sequential(*_block(style, 2 * features[0], out_channels))
        self.head = CONVOLUTION[style.dimensions](out_channels, out_channels, kernel_size=1)
        coarse = [2 * n for n in skips[:-1]] if supervised else []
        self.coarse_heads = logit_heads(style.dimensions, coarse, out_channels)

    def forward(self, image: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Map images (B, C_in, *spatial) to logits (B, C_out, *spatial), or to those of every level."""
        x = self.first(image)
        skips = []
        for down in self.down:
            skips.append(x)
            x = down(x)
        x = self.bottleneck(x)
        levels = []
        for up, skip in zip(self.up, reversed(skips), strict=True):
            x = up(x, skip)
            levels.append(x)
        logits: torch.Tensor = self.head(self.last(x))
        if not (self.training and self.coarse_heads):
            return logits
        return with_coarse_logits(logits, self.coarse_heads, levels[:-1])


def _block(style: Style, in_channels: int, out_channels: int) -> list[nn.Module]:
    return convolution_block(
        style.dimensions,
        in_channels,
        out_channels,
        kernel=style.kernel,
        normalisation="batch",
        activation=style.activation,
    )


def _dropout(style: Style, probability: float) -> nn.Module:
    return DROPOUT[style.dimensions](probability) if probability > 0 else nn.Identity()
