"""What a network costs to use: parameters, multiplications, memory; counted without data or weights.

The operations of a forward pass are counted by torch while it runs on the `meta` device, where tensors have
shapes alone, so the count holds for any network, plug-ins included. Counted are convolutions and products of
matrices (attention included), as is the custom; additions, normalisation and activations are not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from segexplorer.networks.base import NetworkSpec, padded
from segexplorer.networks.memory import on_meta

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Cost:
    """What one patch costs.

    Attributes
    ----------
    patch
        Spatial shape, a multiple of the network's divisor.
    parameters
        Trainable numbers.
    flops
        Floating-point operations of a forward pass over one patch: a multiplication and an addition are two.
        Papers that write "FLOPs" often mean `macs`, half as many.
    training_bytes, inference_bytes
        Memory of a training step of one patch (float32, weights, gradients and Adam included), and of a
        forward pass.
    """

    patch: tuple[int, ...]
    parameters: int
    flops: int
    training_bytes: int
    inference_bytes: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates of a forward pass."""
        return self.flops // 2

    @property
    def flops_per_voxel(self) -> float:
        """Operations per voxel of the patch, for comparing networks whose patches differ."""
        return self.flops / math.prod(self.patch)


def cost(spec: NetworkSpec, patch: Sequence[int], *, in_channels: int = 1, out_channels: int = 2) -> Cost:
    """Count what a network costs on one patch (Oshah 2025, table of FLOPs and memory).

    Parameters
    ----------
    patch
        Spatial shape in voxels, two or three axes; rounded up to the network's divisor.
    in_channels, out_channels
        Image channels, and classes with the background.

    Raises
    ------
    SpecError
        When the network cannot be built so.
    """
    shape = padded(patch, spec.divisor(len(patch)))
    network = on_meta(spec, len(shape), in_channels, out_channels).eval()
    return Cost(
        patch=shape,
        parameters=sum(p.numel() for p in network.parameters() if p.requires_grad),
        flops=_flops(network, (1, in_channels, *shape)),
        training_bytes=spec.memory_estimate(shape, 1, in_channels=in_channels, out_channels=out_channels),
        inference_bytes=spec.memory_estimate(
            shape, 1, in_channels=in_channels, out_channels=out_channels, training=False
        ),
    )


def _flops(network: nn.Module, shape: tuple[int, ...]) -> int:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.empty(shape, device="meta"))
    return int(counter.get_total_flops())
