"""A 3D convolution whose bfloat16 gradient can be trusted on the CPU.

oneDNN in torch 2.13 leaves part of the weight gradient of a padded bfloat16 `conv3d` unwritten where the
image is shorter than the kernel, and writes past its memory with large kernels or strides: what the memory held
before, NaN included, becomes gradient, or the process aborts. Seen for kernels of 3 at a length of 2 along the
first axis, and at 1 along the second with stride 2; for kernels of 5 at 2 to 4 along the first and 1 along the
second; for kernels of 7 at still more. The third axis, dilated and transposed kernels, 2D and float32 are right
(`tests/networks/test_layers.py`).
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
        return shape[2] < self.kernel_size[0] or shape[3] < self.kernel_size[1]


def _in_bfloat16() -> bool:
    return torch.is_autocast_enabled("cpu")
