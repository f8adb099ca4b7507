"""The U-Net of paper 000, in 2D and 3D, as plain torch modules.

Çiçek et al., "3D U-Net", MICCAI 2016, with padded convolutions as in paper 000 section 3.1, so that the
logits have the image's shape.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from segexplorer.networks.architectures.normalisation import InstanceNorm

CONVOLUTION: dict[int, type[nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, type[nn.Module]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
POOLING: dict[int, type[nn.Module]] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
BATCH: dict[int, type[nn.Module]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
DROPOUT: dict[int, type[nn.Module]] = {2: nn.Dropout2d, 3: nn.Dropout3d}


def normalisation_layer(name: str, dimensions: int, channels: int) -> nn.Module:
    """Return the normalisation called "none", "batch" or "instance"."""
    if name == "batch":
        return BATCH[dimensions](channels)
    if name == "instance":
        return InstanceNorm(channels)
    return nn.Identity()


def double_convolution(
    dimensions: int, in_channels: int, out_channels: int, normalisation: str, dropout: float
) -> nn.Sequential:
    """Two padded 3^D convolutions, each with normalisation and ReLU, and channel dropout at the end."""
    layers: list[nn.Module] = []
    for channels in (in_channels, out_channels):
        layers.append(
            CONVOLUTION[dimensions](
                channels,
                out_channels,
                kernel_size=3,
                padding=1,
                # batch and instance normalisation subtract any bias again
                bias=normalisation == "none",
            )
        )
        layers.append(normalisation_layer(normalisation, dimensions, out_channels))
        layers.append(nn.ReLU(inplace=True))
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
    """

    def __init__(
        self,
        dimensions: int,
        in_channels: int,
        out_channels: int,
        features: Sequence[int],
        normalisation: str,
        dropout: float,
        strided: bool,
    ) -> None:
        super().__init__()
        before = [in_channels, *features[:-1]]
        self.encoder = nn.ModuleList(
            double_convolution(dimensions, i, o, normalisation, dropout)
            for i, o in zip(before, features, strict=True)
        )
        self.down = nn.ModuleList(
            CONVOLUTION[dimensions](n, n, kernel_size=2, stride=2) if strided else POOLING[dimensions](2)
            for n in features[:-1]
        )
        coarse_to_fine = list(zip(reversed(features[1:]), reversed(features[:-1]), strict=True))
        self.up = nn.ModuleList(
            TRANSPOSED[dimensions](coarse, fine, kernel_size=2, stride=2) for coarse, fine in coarse_to_fine
        )
        self.decoder = nn.ModuleList(
            double_convolution(dimensions, 2 * fine, fine, normalisation, dropout)
            for _, fine in coarse_to_fine
        )
        self.head = CONVOLUTION[dimensions](features[0], out_channels, kernel_size=1)
        self.apply(_initialise)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map images (B, C_in, *spatial) to logits (B, C_out, *spatial)."""
        x = self.encoder[0](image)
        skips = []
        for down, block in zip(self.down, self.encoder[1:], strict=True):
            skips.append(x)
            x = block(down(x))
        for up, block, skip in zip(self.up, self.decoder, reversed(skips), strict=True):
            x = block(torch.cat((skip, up(x)), dim=1))
        logits: torch.Tensor = self.head(x)
        return logits


def _initialise(module: nn.Module) -> None:
    """Normal weights that keep the variance through ReLU layers (He et al. 2015)."""
    if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
