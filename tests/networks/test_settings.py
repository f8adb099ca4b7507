"""Settings as files name them: saved experiments and checkpoints of earlier versions must go on loading."""

from __future__ import annotations

from typing import Any

import pytest

from segexplorer import networks
from segexplorer.core.fields import parameters

SAVED: dict[str, dict[str, Any]] = {
    "unet": {
        "deep_supervision": "none",
        "base_features": 16,
        "levels": 4,
        "maximum_features": 320,
        "normalisation": "instance",
        "dropout": 0.0,
        "downsampling": "max_pool",
        "doubling": "by_level",
    },
    "dilated_unet": {
        "deep_supervision": "none",
        "base_features": 16,
        "levels": 4,
        "maximum_features": 320,
        "normalisation": "instance",
        "dropout": 0.0,
        "downsampling": "max_pool",
        "doubling": "by_level",
        "dilations": [1, 2, 4, 8],
        "arrangement": "parallel",
    },
    "vnet": {
        "deep_supervision": "none",
        "base_features": 16,
        "levels": 5,
        "kernel": 5,
        "activation": "prelu",
        "dropout": 0.5,
    },
    "dilated_vnet": {
        "deep_supervision": "none",
        "base_features": 16,
        "levels": 5,
        "kernel": 5,
        "activation": "prelu",
        "dropout": 0.5,
        "dilations": [1, 2, 4, 8],
        "arrangement": "parallel",
    },
    "longitudinal_vnet": {
        "deep_supervision": "none",
        "base_features": 16,
        "levels": 5,
        "kernel": 3,
        "activation": "leaky_relu",
        "dropout": 0.0,
    },
    "attention_unet": {"deep_supervision": "none", "base_features": 16, "levels": 4, "dropout": 0.0},
    "dynunet": {
        "deep_supervision": "none",
        "base_features": 32,
        "levels": 4,
        "maximum_features": 320,
        "normalisation": "instance",
        "residual": False,
        "dropout": 0.0,
    },
    "mednext": {"deep_supervision": "none", "size": "S", "kernel": 3, "base_features": 32},
    "segresnet": {
        "deep_supervision": "none",
        "base_features": 16,
        "levels": 4,
        "dropout": 0.0,
        "upsampling": "linear",
    },
    "swin_unetr": {
        "deep_supervision": "none",
        "base_features": 24,
        "depths": [2, 2, 2, 2],
        "residual": False,
        "recompute": False,
        "dropout": 0.0,
    },
    "unet_plus_plus": {
        "deep_supervision": "none",
        "base_features": 32,
        "dropout": 0.0,
        "upsampling": "transposed",
    },
    "unetr": {
        "deep_supervision": "none",
        "base_features": 16,
        "image_size": 96,
        "hidden": 768,
        "feed_forward": 3072,
        "heads": 12,
        "dropout": 0.0,
    },
}
"""Kind -> the settings that a run folder holds, in the order of forms, with the defaults of the first version."""


@pytest.mark.parametrize("kind", SAVED)
def test_names_order_and_defaults_stay(kind: str) -> None:
    spec = networks.spec(kind)
    assert {p.name: p.default for p in parameters(spec)} == {
        name: tuple(value) if isinstance(value, list) else value for name, value in SAVED[kind].items()
    }
    assert [p.name for p in parameters(spec)] == list(SAVED[kind])
    assert networks.parse({"kind": kind, **SAVED[kind]}) == spec()


def test_kinds_stay() -> None:
    assert set(SAVED) <= set(networks.names())


@pytest.mark.parametrize(
    ("kind", "name", "ends"),
    [
        ("unet", "levels", (2, 7)),
        ("dynunet", "levels", (3, 7)),
        ("segresnet", "levels", (2, 6)),
        ("vnet", "levels", (3, 7)),
        ("unet", "base_features", (2, 128)),
        ("vnet", "base_features", (2, 64)),
        ("segresnet", "base_features", (8, 128)),
        ("swin_unetr", "base_features", (12, 96)),
        ("unetr", "base_features", (4, 64)),
        ("unet_plus_plus", "base_features", (4, 128)),
    ],
)
def test_ranges_are_each_kinds_own(kind: str, name: str, ends: tuple[int, int]) -> None:
    (found,) = (p for p in parameters(networks.spec(kind)) if p.name == name)
    assert (found.minimum, found.maximum) == ends
    assert found.description and found.title
