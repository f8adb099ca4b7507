"""The cost of a network: operations held against a count by hand over its modules, and a measured forward pass."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from segexplorer.core.errors import SpecError
from segexplorer.networks import create, parse
from segexplorer.networks.cost import cost
from segexplorer.training.compute import Compute
from segexplorer.training.timing import measure_network

CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def counted_by_hand(network: nn.Module, image: torch.Tensor) -> int:
    """Twice the multiplications: per output (or, transposed, input) voxel the kernel times the channels."""
    total = 0

    def count(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, CONVOLUTIONS):
            transposed = module.transposed
            voxels = (inputs[0] if transposed else output).numel()
            across = module.out_channels if transposed else module.in_channels
            total += 2 * voxels * math.prod(module.kernel_size) * across // module.groups
        elif isinstance(module, nn.Linear):
            total += 2 * output.numel() * module.in_features

    for module in network.modules():
        module.register_forward_hook(count)
    network.eval()(image)
    return total


@pytest.mark.parametrize("kind", ["unet", "dilated_vnet", "mednext", "segresnet", "dynunet"])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_operations_are_those_of_the_convolutions(kind: str, dimensions: int) -> None:
    patch = (32,) * dimensions
    found = cost(parse(kind), patch, in_channels=2, out_channels=3)
    network = create(kind, dimensions=dimensions, in_channels=2, out_channels=3)
    with torch.no_grad():
        expected = counted_by_hand(network, torch.zeros((1, 2, *found.patch)))
    assert found.flops == expected
    assert found.macs == expected // 2
    assert found.parameters == sum(p.numel() for p in network.parameters())


def test_operations_of_attention_are_counted() -> None:
    found = cost(parse({"kind": "unetr"}), (64, 64, 64))
    network = create("unetr")
    with torch.no_grad():
        modules = counted_by_hand(network, torch.zeros((1, 1, 64, 64, 64)))
    tokens, width, blocks = 64, 768, 12  # patches of 16 voxels; queries by keys, then weights by values
    assert found.flops - modules == blocks * 2 * (2 * tokens * tokens * width)


def test_a_patch_is_rounded_up_and_operations_grow_with_its_voxels() -> None:
    small, large = cost(parse("unet"), (30, 30, 30)), cost(parse("unet"), (64, 64, 64))
    assert small.patch == (32, 32, 32)
    assert large.flops == 8 * small.flops
    assert large.flops_per_voxel == small.flops_per_voxel
    assert small.training_bytes > small.inference_bytes > 4 * small.parameters


def test_a_forward_pass_is_measured_in_a_process_of_its_own() -> None:
    found = measure_network(parse("unet"), (30, 30), passes=3, compute=Compute(device="cpu", threads=1))
    assert 0 < found.fastest <= found.seconds <= found.slowest < 60
    assert (found.passes, found.threads) == (3, 1)
    assert found.memory_bytes is None or found.memory_bytes > 32 * 32 * 4


def test_what_cannot_be_built_is_refused_before_anything_is_measured() -> None:
    with pytest.raises(SpecError, match="at least one image channel"):
        measure_network(parse("unet"), (32, 32), in_channels=0)
    with pytest.raises(SpecError, match="There is no device"):
        measure_network(parse("unet"), (32, 32), compute=Compute(device="abacus"))
