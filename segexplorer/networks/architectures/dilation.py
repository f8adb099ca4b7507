"""Dilated convolutions at the bottom of an encoder: a wider view without more down-sampling."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from segexplorer.networks.architectures.blocks import convolution_block


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
