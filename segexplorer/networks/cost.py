"""What a network costs: trainable numbers, operations and memory, counted without data or weights.

torch's `meta` device computes shapes alone. Operations are counted by torch while a forward pass runs there:
convolutions and products of matrices (attention included), as is the custom; additions, normalisation and
activations are not counted. For memory, a ledger of every storage that is made and freed in a forward pass, and
for training in the backward pass too, gives the most that is held at once. Both hold for any network, plug-ins
included: no formula per architecture could drift from the code. What the system's allocator holds beyond the living
tensors was measured (`benchmarks/networks.py`, docs/explanation/performance.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from segexplorer.networks.base import NetworkSpec, padded

if TYPE_CHECKING:
    import torch
    from torch import nn

    from segexplorer.networks.architectures.memory_ledger import Ledger


LOGIT_COPIES = 4
"""Float32 volumes of the logits' size that a loss holds at its peak: logits, log-probabilities, and the
gradients of both."""
PARAMETER_COPIES = 4
"""Float32 numbers per trainable number: weight, gradient and the two moments of Adam."""
HEAP_BLOCK = 32 * 2**20
"""From this size in bytes, glibc maps each block by itself and frees it at once; smaller blocks leave holes."""
HOLES = {True: 0.75, False: 0.5}
"""What the heap holds beyond its living blocks, as a share of their peak; by whether the step trains."""


def on_meta(spec: NetworkSpec, dimensions: int, in_channels: int, out_channels: int) -> nn.Module:
    """Build a network whose parameters have shapes but no data."""
    import torch

    try:
        with torch.device("meta"):
            return spec.build(dimensions=dimensions, in_channels=in_channels, out_channels=out_channels)
    except (RuntimeError, NotImplementedError):
        # some constructors read numbers of tensors that they make, and meta tensors have none
        with torch.random.fork_rng(devices=[]):
            built = spec.build(dimensions=dimensions, in_channels=in_channels, out_channels=out_channels)
        return built.to("meta")


def parameter_count(spec: NetworkSpec, *, dimensions: int, in_channels: int, out_channels: int) -> int:
    """Return the number of trainable numbers, without allocating them."""
    return _trainable(on_meta(spec, dimensions, in_channels, out_channels))


def _trainable(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def memory_estimate(
    spec: NetworkSpec,
    patch: Sequence[int],
    batch_size: int,
    *,
    in_channels: int,
    out_channels: int,
    activation_bytes: int = 4,
    training: bool = True,
) -> int:
    """Return the bytes that a step on a batch takes.

    Counted are the most that is held at once of images, activations and their gradients; in training the loss's
    copies of the logits, and the weights with their gradients and two optimiser moments; in inference the weights
    alone; below float32, autocast's copy of the weights. All this is exact up to what single kernels need inside.
    The holes that small blocks leave in the heap are added as a measured share.

    Parameters
    ----------
    patch
        Spatial shape in voxels; rounded up to the network's divisor.
    activation_bytes
        Bytes of one activation: 4 for float32, 2 under bfloat16 or float16 autocast.
    training
        Whether gradients and the optimiser's moments are counted, or a forward pass alone.
    """
    import torch

    from segexplorer.networks.architectures.memory_ledger import Ledger

    shape = padded(patch, spec.divisor(len(patch)))
    network = on_meta(spec, len(shape), in_channels, out_channels).train(training)
    known = [*network.parameters(), *network.buffers()]
    ledger = Ledger(known, float_bytes=activation_bytes, small=HEAP_BLOCK)
    image = torch.empty((batch_size, in_channels, *shape), device="meta")
    ledger.enter(image)
    if training:
        _train(network, image, ledger)
    else:
        with torch.no_grad(), ledger:
            network(image)
    weights = sum(p.numel() for p in network.parameters())
    copies = 4 * (PARAMETER_COPIES if training else 1) + (activation_bytes if activation_bytes < 4 else 0)
    return int(copies * weights + ledger.peak + HOLES[training] * ledger.small_peak)


def _train(network: nn.Module, image: torch.Tensor, ledger: Ledger) -> None:
    """Run a forward and a backward pass; gradients of weights are dropped, for they are counted elsewhere."""
    import torch

    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(_drop_gradient)  # type: ignore[no-untyped-call]
    with ledger:
        output = network(image)
        levels = [output] if isinstance(output, torch.Tensor) else list(output)
        copies = 4 * LOGIT_COPIES // ledger.float_bytes - 1  # beside the logits; a loss computes in float32
        in_loss = [torch.empty_like(level) for level in levels for _ in range(copies)]
        gradients = [torch.empty_like(level) for level in levels]
        del in_loss
        torch.autograd.backward(levels, gradients)


def _drop_gradient(parameter: torch.Tensor) -> None:
    parameter.grad = None


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
        parameters=_trainable(network),
        flops=_flops(network, (1, in_channels, *shape)),
        training_bytes=memory_estimate(spec, shape, 1, in_channels=in_channels, out_channels=out_channels),
        inference_bytes=memory_estimate(
            spec, shape, 1, in_channels=in_channels, out_channels=out_channels, training=False
        ),
    )


def operations(spec: NetworkSpec, patch: Sequence[int], *, in_channels: int, out_channels: int) -> int:
    """Return the floating-point operations of a forward pass over one patch, as in `Cost.flops`."""
    shape = padded(patch, spec.divisor(len(patch)))
    network = on_meta(spec, len(shape), in_channels, out_channels).eval()
    return _flops(network, (1, in_channels, *shape))


def _flops(network: nn.Module, shape: tuple[int, ...]) -> int:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.empty(shape, device="meta"))
    return int(counter.get_total_flops())
