"""A 3D convolution whose bfloat16 gradient can be trusted on the CPU.

oneDNN in torch 2.13 leaves part of the weight gradient of a padded bfloat16 `conv3d` unwritten where the
image is shorter than the kernel along its first axis, and writes past its memory with large kernels: what the
memory held before, NaN included, becomes gradient, or the process aborts. For kernels of 3 that is a length of 2
along the first axis; for kernels of 5, lengths of 2 to 4 there and of 1 along the second. Other lengths, the third
axis, dilated kernels, 2D and float32 are right (`tests/networks/test_layers.py`).
"""

from __future__ import annotations

import torch
from torch import nn


class Convolution3d(nn.Conv3d):
    """torch's `Conv3d`, in float32 where its bfloat16 gradient would be wrong."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Convolve (B, C, x, y, z)."""
        if input.device.type != "cpu" or not _in_bfloat16() or not self._is_unsound(input.shape):
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.to(self.weight.dtype))

    def _is_unsound(self, shape: torch.Size) -> bool:
        kernel = self.kernel_size
        return 1 < shape[2] < kernel[0] or shape[3] < kernel[1] // 2


def _in_bfloat16() -> bool:
    return torch.is_autocast_enabled("cpu")
