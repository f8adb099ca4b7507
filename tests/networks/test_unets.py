"""The U-Nets of the papers: widths and numbers of weights as published, dilations that widen the view."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from segexplorer import networks
from segexplorer.core.errors import SpecError
from segexplorer.networks.architectures.blocks import DilatedBottleneck
from segexplorer.networks.architectures.layers import Convolution3d


def test_the_3d_unet_of_yeung_2022_has_the_published_number_of_weights() -> None:
    """Çiçek et al. 2016, section 2: 19,069,955 in all, with three channels in and three classes out.

    Theirs has biases in the convolutions of 3 x 3 x 3, ours drops them for batch normalisation subtracts them;
    theirs counts neither batch normalisation nor biases of the up-convolutions.
    """
    network = networks.create("yeung2022_unet_3d", in_channels=3, out_channels=3)
    batch = [m for m in network.modules() if isinstance(m, nn.BatchNorm3d)]
    normalisation = sum(p.numel() for m in batch for p in m.parameters())
    up = sum(m.bias.numel() for m in network.modules() if isinstance(m, nn.ConvTranspose3d))
    biases = sum(m.num_features for m in batch)
    assert sum(p.numel() for p in network.parameters()) - normalisation - up + biases == 19_069_955


def test_the_2d_unet_of_yeung_2022_has_the_original_widths() -> None:
    network = networks.create("yeung2022_unet_2d", dimensions=2, in_channels=1, out_channels=2)
    widths = [m.out_channels for m in network.modules() if isinstance(m, nn.Conv2d)]
    encoder = [64, 64, 128, 128, 256, 256, 512, 512, 1024, 1024]
    assert widths == [*encoder, 512, 512, 256, 256, 128, 128, 64, 64, 2]
    assert (
        sum(isinstance(m, (nn.Conv2d, nn.ConvTranspose2d)) for m in network.modules()) == 23
    )  # "in total 23"


def test_a_preset_takes_parameters() -> None:
    network = networks.create("yeung2022_unet_3d", base_features=2, in_channels=1, out_channels=2)
    assert network(torch.zeros(1, 1, 16, 16, 16)).shape == (1, 2, 16, 16, 16)


@pytest.mark.parametrize(("arrangement", "reach"), [("parallel", 4), ("stacked", 1 + 2 + 4)])
def test_dilations_widen_the_view(arrangement: str, reach: int) -> None:
    """A voxel is seen from as far as the largest dilation, or as all of them one after the other."""
    torch.manual_seed(0)
    block = DilatedBottleneck(2, 3, (1, 2, 4), stacked=arrangement == "stacked", normalisation="none")
    image = torch.zeros(1, 3, 31, 31, requires_grad=True)
    block(image + 1)[0, :, 15, 15].sum().backward()
    assert image.grad is not None
    seen = image.grad[0].abs().sum(0).nonzero() - 15
    assert int(seen.abs().max()) == reach


def test_stacked_dilations_start_from_their_input() -> None:
    block = DilatedBottleneck(3, 2, (1, 2), stacked=True, normalisation="none")
    for parameter in block.parameters():
        nn.init.zeros_(parameter)
    image = torch.randn(1, 2, 4, 4, 4)
    assert torch.equal(block(image), image)


def test_dilations_are_positive() -> None:
    with pytest.raises(SpecError, match=r"dilations.*at least 1"):
        networks.create("dilated_unet", dilations=(1, 0))


@pytest.mark.parametrize("dilation", [1, 2, 4, 8])
@pytest.mark.parametrize("shape", [(2, 2, 2), (4, 4, 4), (1, 3, 5), (5, 2, 3), (6, 6, 6)])
def test_bfloat16_gradients_of_dilated_convolutions_are_float32s(
    dilation: int, shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    convolution = Convolution3d(16, 16, 3, padding=dilation, dilation=dilation, bias=False)
    image = torch.randn(2, 16, *shape)
    convolution(image).square().mean().backward()
    expected = convolution.weight.grad
    for _ in range(3):
        convolution.weight.grad = None
        poison_the_allocator()
        with torch.autocast("cpu", torch.bfloat16):
            answer = convolution(image)
        answer.float().square().mean().backward()
        error = (convolution.weight.grad - expected).abs().max() / expected.abs().max()
        assert error < 0.05


def poison_the_allocator() -> None:
    """Leave NaN in memory that the next allocations get, as a long run does by and by."""
    held = [torch.full((n,), float("nan")) for n in (500, 7000, 30000, 55296, 110592, 200000)]
    del held
