"""UNETR and Swin UNETR: MONAI's numbers, other image sizes, and the missing package."""

from __future__ import annotations

import pytest
import torch

from segexplorer import networks
from segexplorer.core.errors import MissingExtraError, SpecError


def test_unetr_gives_monais_numbers_at_its_image_size() -> None:
    from monai.networks.nets import UNETR as MonaiUNETR

    settings = {"feature_size": 4, "hidden_size": 24, "mlp_dim": 32, "num_heads": 2}
    torch.manual_seed(0)
    reference = MonaiUNETR(in_channels=1, out_channels=2, img_size=(32, 32, 32), **settings)
    ours = networks.create("unetr", base_features=4, hidden=24, feed_forward=32, heads=2, image_size=32)
    state = {k: v for k, v in reference.state_dict().items() if "norm_cross_attn" not in k}
    ours.load_state_dict(state)
    image = torch.randn(1, 1, 32, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(image), reference.eval()(image), rtol=1e-4, atol=1e-5)
        assert ours(torch.randn(1, 1, 48, 16, 32)).shape == (1, 2, 48, 16, 32)


def test_a_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks.spec("swin_unetr"), "packages", ("no_such_package",))
    with pytest.raises(
        MissingExtraError, match=r"Swin UNETR needs the package no_such_package.*pip install no"
    ):
        networks.create("swin_unetr")


@pytest.mark.parametrize(
    ("kind", "parameters", "message"),
    [
        ("unetr", {"image_size": 40}, "multiple of 16"),
        ("unetr", {"hidden": 50, "heads": 12}, "multiple of heads"),
        ("swin_unetr", {"base_features": 20}, "multiple of 12"),
        ("swin_unetr", {"depths": (2, 3, 2, 2)}, "even numbers"),
    ],
)
def test_settings_that_cannot_be_built_are_refused(
    kind: str, parameters: dict[str, object], message: str
) -> None:
    with pytest.raises(SpecError, match=message):
        networks.create(kind, **parameters)
