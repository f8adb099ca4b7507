"""Every registered network keeps every promise, by iteration over the registry."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from segexplorer import networks
from segexplorer.networks.base import NetworkSpec
from segexplorer.testing.networks import CHECKS

SMALL = {"base_features": 8, "levels": 3}


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("kind", networks.names())
def test_every_network_keeps_the_promise(
    kind: str, check: Callable[[NetworkSpec, int], None], dimensions: int
) -> None:
    spec = networks.spec(kind)
    check(spec(**{k: v for k, v in SMALL.items() if k in spec.model_fields}), dimensions)


@pytest.mark.parametrize("kind", networks.names())
def test_every_network_says_where_it_comes_from(kind: str) -> None:
    spec = networks.spec(kind)
    assert spec.reference
    assert spec.__doc__ and len(spec.__doc__) > 40
