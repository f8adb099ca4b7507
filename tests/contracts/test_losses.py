"""Every registered loss and preset keeps every promise, by iteration over the registry."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from segexplorer import losses
from segexplorer.losses.base import LossSpec
from segexplorer.testing.losses import CHECKS


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
@pytest.mark.parametrize("name", [*losses.names(), *losses.registry.presets()])
def test_every_loss_keeps_the_promise(name: str, check: Callable[[LossSpec], None]) -> None:
    check(losses.parse(name))
