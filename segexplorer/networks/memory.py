"""How much memory a training step takes, found by running the network on tensors without data.

torch's `meta` device computes shapes alone. A forward pass there, with a hook on what autograd saves for the
backward pass, counts the activations of *any* network exactly, plug-ins included; nothing is derived from a
formula per architecture that could drift from the code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

    from segexplorer.networks.base import NetworkSpec

LOGIT_COPIES = 4
"""Float32 volumes of the logits' size that a loss holds at its peak: logits, log-probabilities, and the
gradients of both."""
PARAMETER_COPIES = 4
"""Float32 numbers per trainable number: weight, gradient and the two moments of Adam."""
WORKSPACE = 1.1
"""What allocator rounding and convolution workspaces add to what is counted."""


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


def estimate(
    spec: NetworkSpec,
    patch: Sequence[int],
    batch_size: int,
    *,
    in_channels: int,
    out_channels: int,
    activation_bytes: int,
    training: bool,
) -> int:
    """Return the estimated bytes of one step.

    Training: what autograd saves of the activations, each storage once, at `activation_bytes` a number; the
    loss's copies of the logits; weights, gradients and two optimiser moments. Inference: the two largest
    activations that can be alive together plus the logits and weights. Both times `WORKSPACE`.
    """
    import torch

    network = on_meta(spec, len(patch), in_channels, out_channels)
    network.train(training)
    image = torch.empty((batch_size, in_channels, *patch), device="meta")
    weights = sum(p.numel() for p in network.parameters())
    if training:
        activations, logits = _saved_numbers(network, image)
        held = 4 * (LOGIT_COPIES * logits + PARAMETER_COPIES * weights) + activation_bytes * activations
    else:
        logits = batch_size * out_channels * _product(patch)
        held = 4 * (logits + weights) + activation_bytes * 2 * _largest_activation(network, image)
    return int(WORKSPACE * held)


def _saved_numbers(network: nn.Module, image: torch.Tensor) -> tuple[int, int]:
    """Count the numbers that autograd keeps for the backward pass, parameters apart, and those of the logits."""
    import torch

    known = {p.untyped_storage()._cdata for p in network.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in known:
            kept.setdefault(storage, tensor)  # holding the tensor keeps its storage's identity unique
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = network(image)
    levels = [output] if isinstance(output, torch.Tensor) else output
    activations = sum(t.untyped_storage().nbytes() // t.element_size() for t in kept.values())
    return activations, sum(level.numel() for level in levels)


def _largest_activation(network: nn.Module, image: torch.Tensor) -> int:
    """Return the number count of the largest output of any module."""
    import torch

    largest = image.numel()

    def measure(module: nn.Module, inputs: object, output: object) -> None:
        nonlocal largest
        if isinstance(output, torch.Tensor):
            largest = max(largest, output.numel())

    hooks = [module.register_forward_hook(measure) for module in network.modules()]
    try:
        with torch.no_grad():
            network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return largest


def _product(shape: Sequence[int]) -> int:
    total = 1
    for n in shape:
        total *= n
    return total
