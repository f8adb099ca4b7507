"""Every registered network keeps every promise, by iteration over the registry."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from segexplorer import networks
from segexplorer.networks.base import NetworkSpec, SupervisedNetwork
from segexplorer.networks.cost import parameter_count
from segexplorer.testing.networks import (
    CHECKS,
    check_low_precision,
    check_overfit,
    check_plan,
    check_shape,
    check_training,
)

SMALL = {"base_features": 8, "levels": 3, "image_size": 32, "hidden": 24, "feed_forward": 24, "heads": 2}
"""Tiny values of whatever settings a kind has."""
LEAST = {
    "swin_unetr": {"base_features": 12},
    "mednext": {"base_features": 4},
    "unet_plus_plus": {"base_features": 4},
}


def small(kind: str, **settings: object) -> NetworkSpec:
    spec = networks.spec(kind)
    if missing := spec.missing_packages():
        pytest.skip(f"{kind} needs {', '.join(missing)}")
    values = {**SMALL, **LEAST.get(kind, {}), **settings}
    return spec(**{k: v for k, v in values.items() if k in spec.model_fields})


TOO_SLOW = {("swin_unetr", 3, check_overfit), ("swin_unetr", 3, check_low_precision)}
"""Half a minute each on one core; the same code runs in 2D."""
OWN = [k for k, s in networks.registry.specs().items() if s.__module__.startswith("segexplorer.")]
"""Plug-ins that happen to be installed run the suite in their own tests."""
SUPERVISED = [k for k in OWN if issubclass(networks.spec(k), SupervisedNetwork)]


@pytest.mark.slow
@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("kind", OWN)
def test_every_network_keeps_the_promise(
    kind: str, check: Callable[[NetworkSpec, int], None], dimensions: int
) -> None:
    if (kind, dimensions, check) in TOO_SLOW:
        pytest.skip("takes half a minute in 3D; the same code runs in 2D")
    check(small(kind), dimensions)


@pytest.mark.slow
@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("kind", SUPERVISED)
def test_every_supervised_network_keeps_the_promise(kind: str, dimensions: int) -> None:
    if (kind, dimensions) == ("swin_unetr", 3):
        pytest.skip("takes ten seconds in 3D; the same code runs in 2D")
    spec = small(kind, deep_supervision="exp")
    for check in (check_shape, check_training, check_plan):
        check(spec, dimensions)


@pytest.mark.parametrize("kind", OWN)
def test_every_network_says_where_it_comes_from(kind: str) -> None:
    spec = networks.spec(kind)
    assert spec.reference
    assert spec.__doc__ and len(spec.__doc__) > 40
    assert spec.family


@pytest.mark.parametrize("name", list(networks.registry.presets()))
def test_every_preset_can_be_planned(name: str) -> None:
    preset = networks.registry.presets()[name]
    assert preset.note and preset.group
    dimensions = 2 if "2d" in name else 3
    assert parameter_count(preset.spec, dimensions=dimensions, in_channels=1, out_channels=2) > 1_000_000
