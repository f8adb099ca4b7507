"""U-Net, DynUNet and SegResNet: their architecture, their refusals, and what the suite catches."""

from __future__ import annotations

import subprocess
import sys
from typing import Literal

import pytest
import torch
from torch import nn

from segexplorer import networks
from segexplorer.core.errors import SpecError, UnknownKindError
from segexplorer.networks.base import NetworkSpec
from segexplorer.testing.networks import check_network


def convolutions(network: nn.Module) -> list[nn.Module]:
    return [m for m in network.modules() if isinstance(m, (nn.Conv3d, nn.ConvTranspose3d))]


def test_the_unet_is_the_papers() -> None:
    network = networks.create("unet", base_features=4, levels=3, out_channels=2)
    found = [
        ("up" if isinstance(m, nn.ConvTranspose3d) else "conv", m.in_channels, m.out_channels, m.kernel_size)
        for m in convolutions(network)
    ]
    three, two = (3, 3, 3), (2, 2, 2)
    assert found == [
        ("conv", 1, 4, three),
        ("conv", 4, 4, three),
        ("conv", 4, 8, three),
        ("conv", 8, 8, three),
        ("conv", 8, 16, three),
        ("conv", 16, 16, three),
        ("up", 16, 8, two),
        ("up", 8, 4, two),
        ("conv", 16, 8, three),
        ("conv", 8, 8, three),
        ("conv", 8, 4, three),
        ("conv", 4, 4, three),
        ("conv", 4, 2, (1, 1, 1)),
    ]
    assert sum(isinstance(m, nn.MaxPool3d) for m in network.modules()) == 2


def test_features_double_up_to_the_most() -> None:
    network = networks.create("unet", base_features=8, levels=4, maximum_features=20)
    widths = [m.out_channels for m in convolutions(network)][1:8:2]
    assert widths == [8, 16, 20, 20]


@pytest.mark.parametrize("normalisation", ["none", "batch", "instance"])
def test_bias_is_there_only_where_normalisation_would_not_remove_it(normalisation: str) -> None:
    network = networks.create("unet", base_features=4, levels=2, normalisation=normalisation)
    first = convolutions(network)[0]
    assert (first.bias is not None) == (normalisation == "none")


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    network = networks.create("unet", base_features=8, levels=2, dropout=0.5)
    image = torch.randn(1, 1, 8, 8, 8)
    assert not torch.equal(network(image), network(image))
    network.eval()
    assert torch.equal(network(image), network(image))


@pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_bf16_supported(),
    reason="this processor has no bfloat16 convolutions (AVX-512), and torch's fallback leaves channels last",
)
@pytest.mark.parametrize("kind", [k for k in networks.names() if "levels" in networks.spec(k).model_fields])
def test_channels_last_is_kept_to_the_end_under_bfloat16(kind: str) -> None:
    network = networks.create(kind, base_features=8, levels=3, out_channels=4)
    network = network.to(memory_format=torch.channels_last_3d)
    image = torch.randn(2, 1, 16, 16, 16).to(memory_format=torch.channels_last_3d)
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(image)
    assert logits.is_contiguous(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("arguments", [{"dimensions": 1}, {"in_channels": 0}, {"out_channels": 0}])
def test_senseless_shapes_are_refused_in_a_sentence(arguments: dict[str, int]) -> None:
    with pytest.raises(SpecError, match=r"spatial axes|at least one"):
        networks.create("unet", **arguments)


def test_unknown_kinds_and_parameters_name_the_nearest() -> None:
    with pytest.raises(UnknownKindError, match="dynunet"):
        networks.spec("dynunett")
    with pytest.raises(SpecError, match="levels"):
        networks.create("unet", level=3)
    with pytest.raises(SpecError, match="multiple of 8"):
        networks.create("segresnet", base_features=12)


def test_the_suite_catches_a_network_that_breaks_a_promise() -> None:
    class Halving(NetworkSpec):
        """Answers at half the resolution."""

        kind: Literal["halving"] = "halving"
        display_name = "Halving"

        def _build(self, dimensions: int, in_channels: int, out_channels: int) -> nn.Module:
            return (nn.Conv2d, nn.Conv3d)[dimensions - 2](in_channels, out_channels, 2, stride=2)

        def divisor(self, dimensions: int) -> tuple[int, ...]:
            return (2,) * dimensions

    with pytest.raises(AssertionError, match="logits"):
        check_network(Halving())


def test_specs_load_neither_torch_nor_monai() -> None:
    code = (
        "import sys, segexplorer.networks as n; n.spec('unet')().plain(); "
        "sys.exit(any(m in sys.modules for m in ('torch', 'monai')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
