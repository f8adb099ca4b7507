"""The V-Nets: MONAI's numbers under MONAI's settings, and what Perera 2025 and Chen 2023 ask for."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import VNet as MonaiVNet
from torch import nn

from segexplorer import networks
from segexplorer.networks.architectures.vnet import Style, VNet

_NUMBERED = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.BatchNorm2d, nn.BatchNorm3d)


def layers(network: nn.Module) -> list[nn.Module]:
    return [m for m in network.modules() if isinstance(m, _NUMBERED)]


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("in_channels", [1, 2])
def test_it_gives_monais_numbers(dimensions: int, in_channels: int) -> None:
    torch.manual_seed(0)
    reference = MonaiVNet(dimensions, in_channels, 3, act="elu")
    ours = VNet(
        Style(dimensions, 5, "elu", residual=True),
        in_channels,
        3,
        (16, 32, 64, 128, 256),
        (1, 2, 3, 2),
        (2, 2, 1, 1),
        0.0,
    )
    pairs = list(zip(layers(ours), layers(reference), strict=True))
    with torch.no_grad():
        for own, theirs in pairs:
            own.weight.copy_(theirs.weight)
            if own.bias is not None:
                own.bias.copy_(theirs.bias)
            elif theirs.bias is not None:
                theirs.bias.zero_()  # in front of a batch normalisation, which subtracts it
    image = torch.randn(1, in_channels, *(32,) * dimensions)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(image), reference.eval()(image), rtol=1e-4, atol=1e-5)


def test_the_first_stage_adds_the_images_channels_repeated() -> None:
    """Three channels do not divide 16: the image is repeated and cut."""
    network = networks.create("vnet", in_channels=3, base_features=16, levels=3)
    first = network.first
    for parameter in first.convolution.parameters():
        nn.init.zeros_(parameter)
    image = torch.rand(1, 3, 8, 8, 8)
    added = first.eval()(image)
    for channel in range(16):
        torch.testing.assert_close(added[:, channel], image[:, channel % 3])


def test_the_longitudinal_vnet_is_perera_2025s() -> None:
    network = networks.create("longitudinal_vnet", in_channels=3, out_channels=2)
    kinds = {type(m) for m in network.modules()}
    assert nn.LeakyReLU in kinds and nn.ReLU not in kinds and nn.PReLU not in kinds
    assert len(network.down) == len(network.up) == 4  # five levels
    assert networks.spec("longitudinal_vnet")().divisor(3) == (16, 16, 16)  # patches of 80 fit
    follows = [m for block in network.up for m in block.up]
    assert [type(m) for m in follows[:3]] == [nn.ConvTranspose3d, nn.BatchNorm3d, nn.LeakyReLU]


def test_the_vnet_of_chen_2023_has_batch_normalisation_and_dropout() -> None:
    network = networks.create("chen2023_vnet", base_features=2)
    modules = list(network.modules())
    # a dropout on each of four skips, and before the stages of the two coarsest levels on either path
    assert [m.p for m in modules if isinstance(m, nn.Dropout3d)] == [0.5] * (4 + 2 + 2)
    convolved = sum(isinstance(m, (nn.Conv3d, nn.ConvTranspose3d)) for m in modules)
    assert sum(isinstance(m, nn.BatchNorm3d) for m in modules) == convolved - 1  # all but the logits


def test_convolutions_per_stage_are_the_originals() -> None:
    network = networks.create("vnet", base_features=2)
    assert [len(d.stage.convolutions) // 3 for d in network.down] == [2, 3, 3, 3]
    assert [len(u.stage.convolutions) // 3 for u in network.up] == [3, 3, 2, 1]
