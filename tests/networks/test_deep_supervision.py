"""Deep supervision: weights of the levels against MONAI and eq. 22, and what the networks return."""

from __future__ import annotations

import pytest
import torch
from monai.losses import DeepSupervisionLoss
from torch.nn import functional

from segexplorer import networks
from segexplorer.core.errors import SpecError
from segexplorer.networks.base import level_weights

STRIDES = [(s, s, s) for s in (1, 2, 4, 8, 16, 32)]


@pytest.mark.parametrize("mode", ["exp", "two", "same"])
@pytest.mark.parametrize("levels", [1, 2, 6])
def test_weights_are_monais(mode: str, levels: int) -> None:
    reference = DeepSupervisionLoss(torch.nn.MSELoss(), weight_mode=mode)
    assert level_weights(mode, STRIDES[:levels]) == tuple(reference.get_weights(levels))


def test_weights_of_eq_22() -> None:
    """`2^-(stride length x stride width)`, by hand; a third axis does not count."""
    expected = (0.5, 0.0625, 2.0**-16)
    assert level_weights("stride", STRIDES[:3]) == expected
    assert level_weights("stride", [s[:2] for s in STRIDES[:3]]) == expected
    assert level_weights("stride", [(1, 1, 1), (2, 1, 4)]) == (0.5, 0.25)


def test_nothing_to_weigh_without_levels() -> None:
    with pytest.raises(ValueError, match="no levels"):
        level_weights("none", STRIDES)


@pytest.mark.parametrize(
    ("kind", "strides"),
    [
        ("unet", [1, 2, 4]),
        ("vnet", [1, 2, 4]),
        ("dynunet", [1, 2, 4]),
        ("segresnet", [1, 2, 4]),
        ("unet_plus_plus", [1, 1, 1, 1]),
        ("mednext", [1, 2, 4, 8, 16]),
        ("attention_unet", [1, 2, 4]),
        ("unetr", [1, 2, 4, 8]),
        ("swin_unetr", [1, 2, 4, 8, 16]),
    ],
)
def test_levels_come_with_their_strides(kind: str, strides: list[int]) -> None:
    spec = networks.spec(kind)
    if missing := spec.missing_packages():
        pytest.skip(f"{kind} needs {', '.join(missing)}")
    settings = {"levels": 4, "hidden": 24, "heads": 2, "feed_forward": 24}
    network = spec(
        base_features=12 if kind == "swin_unetr" else 8,
        deep_supervision="same",
        **{k: v for k, v in settings.items() if k in spec.model_fields},
    ).build(dimensions=2, in_channels=1, out_channels=2)
    levels = network(torch.randn(2, 1, 64, 32))
    assert [(64 // level.shape[2], 32 // level.shape[3]) for level in levels] == [(s, s) for s in strides]
    assert isinstance(network.eval()(torch.zeros(1, 1, 64, 32)), torch.Tensor)


@pytest.mark.parametrize("kind", ["unet", "vnet", "segresnet", "attention_unet"])
def test_it_changes_nothing_else(kind: str) -> None:
    """Weights of the network without it fit in, and predict the same."""
    plain, deep = (
        networks.create(kind, dimensions=2, base_features=8, levels=3, deep_supervision=mode)
        for mode in ("none", "exp")
    )
    found = deep.load_state_dict(plain.state_dict(), strict=False)
    assert not found.unexpected_keys and all("coarse_heads" in key for key in found.missing_keys)
    image = torch.randn(1, 1, 16, 16)
    assert torch.equal(plain.eval()(image), deep.eval()(image))


def test_it_needs_a_coarser_level() -> None:
    with pytest.raises(SpecError, match="at least 3 levels"):
        networks.create("unet", levels=2, deep_supervision="exp")


@pytest.mark.parametrize("dimensions", [2, 3])
def test_dynunet_gives_monais_numbers(dimensions: int) -> None:
    from monai.networks.nets import DynUNet as MonaiDynUNet

    filters = (4, 8, 16, 32)
    reference = MonaiDynUNet(
        dimensions, 1, 2, [3] * 4, [1, 2, 2, 2], [2] * 3, filters, deep_supervision=True, deep_supr_num=2
    )
    ours = networks.create("dynunet", dimensions=dimensions, base_features=4, deep_supervision="exp")
    ours.load_state_dict({k: v for k, v in reference.state_dict().items() if "skip_layers" not in k})
    image = torch.randn(2, 1, *(16,) * dimensions)
    expected = reference(image).unbind(1)  # MONAI brings the coarser ones to full resolution
    for level, full in zip(ours(image), expected, strict=True):
        torch.testing.assert_close(functional.interpolate(level, full.shape[2:]), full, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.eval()(image), reference.eval()(image), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_attention_unet_and_swin_unetr_give_monais_numbers(dimensions: int) -> None:
    pytest.importorskip("einops")
    from monai.networks import nets

    references = {
        "attention_unet": nets.AttentionUnet(dimensions, 1, 2, channels=(8, 16, 32), strides=(2, 2)),
        "swin_unetr": nets.SwinUNETR(1, 2, feature_size=12, spatial_dims=dimensions),
    }
    settings: dict[str, dict[str, int]] = {
        "attention_unet": {"base_features": 8, "levels": 3},
        "swin_unetr": {"base_features": 12},
    }
    image = torch.randn(1, 1, 64, *(32,) * (dimensions - 1))
    for kind, reference in references.items():
        ours = networks.create(kind, dimensions=dimensions, **settings[kind])
        ours.load_state_dict(reference.state_dict())
        with torch.no_grad():
            expected = reference.eval()(image)
            torch.testing.assert_close(ours.eval()(image), expected, rtol=1e-4, atol=1e-5)
