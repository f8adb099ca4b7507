"""A 3D convolution whose bfloat16 gradient can be trusted on the CPU.

oneDNN in torch 2.13 leaves part of the weight gradient of a padded bfloat16 `conv3d` unwritten where the
image is two voxels long along its first axis: what the memory held before, NaN included, becomes gradient.
Lengths of 1, 3 and more, the other axes, 2D and float32 are right (`tests/networks/test_layers.py`).
"""

from __future__ import annotations

import torch
from torch import nn

UNSOUND_LENGTH = 2


class Convolution3d(nn.Conv3d):
    """torch's `Conv3d`, in float32 where its bfloat16 gradient would be wrong."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Convolve (B, C, x, y, z)."""
        if input.shape[2] != UNSOUND_LENGTH or input.device.type != "cpu" or not _in_bfloat16():
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.to(self.weight.dtype))


def _in_bfloat16() -> bool:
    return torch.is_autocast_enabled("cpu")
