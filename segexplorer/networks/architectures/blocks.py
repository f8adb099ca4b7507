"""The parts of which our own networks are built.

Layers by name and number of spatial axes, blocks of convolutions, the dilated bottleneck (a wider view without more
down-sampling), heads for the logits of coarser levels, and the initial weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from segexplorer.networks.architectures.layers import InstanceNorm

CONVOLUTION: dict[int, type[nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, type[nn.Module]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
POOLING: dict[int, type[nn.Module]] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
BATCH: dict[int, type[nn.Module]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
DROPOUT: dict[int, type[nn.Module]] = {2: nn.Dropout2d, 3: nn.Dropout3d}
LEAKY_SLOPE = 0.01


def normalisation_layer(name: str, dimensions: int, channels: int) -> nn.Module:
    """Return the normalisation called "none", "batch" or "instance"."""
    if name == "batch":
        return BATCH[dimensions](channels)
    if name == "instance":
        return InstanceNorm(channels)
    return nn.Identity()


def activation_layer(name: str, channels: int) -> nn.Module:
    """Return the activation called "relu", "leaky_relu", "elu" or "prelu" (one slope a channel)."""
    if name == "relu":
        return nn.ReLU(inplace=True)
    if name == "leaky_relu":
        return nn.LeakyReLU(LEAKY_SLOPE, inplace=True)
    if name == "elu":
        return nn.ELU(inplace=True)
    if name == "prelu":
        return nn.PReLU(channels)
    raise ValueError(f"no activation is called {name!r}")


def convolution_block(
    dimensions: int,
    in_channels: int,
    out_channels: int,
    *,
    kernel: int = 3,
    dilation: int = 1,
    normalisation: str,
    activation: str = "relu",
) -> list[nn.Module]:
    """Return a padded convolution that keeps the shape, its normalisation and its activation."""
    return [
        CONVOLUTION[dimensions](
            in_channels,
            out_channels,
            kernel_size=kernel,
            padding=dilation * (kernel // 2),
            dilation=dilation,
            # batch and instance normalisation subtract any bias again
            bias=normalisation == "none",
        ),
        normalisation_layer(normalisation, dimensions, out_channels),
        activation_layer(activation, out_channels),
    ]


def logit_heads(dimensions: int, channels: Sequence[int], out_channels: int) -> nn.ModuleList:
    """Return a 1^D convolution to logits for each entry of `channels`."""
    return nn.ModuleList(CONVOLUTION[dimensions](n, out_channels, kernel_size=1) for n in channels)


def with_coarse_logits(
    logits: torch.Tensor, heads: nn.ModuleList, levels: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, ...]:
    """Return the full resolution's logits and those of the coarser levels, fine to coarse.

    Parameters
    ----------
    heads, levels
        Convolutions to logits and the decoder's features, from coarse to fine.
    """
    coarse = [head(level) for head, level in zip(heads, levels, strict=True)]
    return (logits, *reversed(coarse))


def initialise(module: nn.Module) -> None:
    """Normal weights that keep the variance through ReLU layers (He et al. 2015); for `network.apply`."""
    if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class DilatedBottleneck(nn.Module):
    """Convolutions of 3^D with several dilations, channels and shape kept.

    Parameters
    ----------
    dilations
        Spacing of the kernel's voxels, one convolution each.
    stacked
        False: side by side on the same input, concatenated, and mixed by a 1^D convolution (the arrangement of
        Chen et al. 2018, arXiv:1802.02611). True: one behind the other, the input and the output of each added
        up (the arrangement of Zhou et al. 2018, "D-LinkNet", doi:10.1109/CVPRW.2018.00034).
    """

    def __init__(
        self,
        dimensions: int,
        channels: int,
        dilations: Sequence[int],
        *,
        stacked: bool,
        normalisation: str,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        self.stacked = stacked
        self.branches = nn.ModuleList(
            nn.Sequential(
                *convolution_block(
                    dimensions,
                    channels,
                    channels,
                    dilation=dilation,
                    normalisation=normalisation,
                    activation=activation,
                )
            )
            for dilation in dilations
        )
        self.mix = (
            nn.Identity()
            if stacked
            else nn.Sequential(
                *convolution_block(
                    dimensions,
                    channels * len(dilations),
                    channels,
                    kernel=1,
                    normalisation=normalisation,
                    activation=activation,
                )
            )
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, *spatial) to the same shape."""
        if not self.stacked:
            mixed: torch.Tensor = self.mix(torch.cat([branch(x) for branch in self.branches], dim=1))
            return mixed
        total = x
        for branch in self.branches:
            x = branch(x)
            total = total + x
        return total
