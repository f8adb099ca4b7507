"""Every registered loss and preset keeps every promise, by iteration over the registry."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from segexplorer import losses
from segexplorer.losses.base import LossSpec
from segexplorer.testing.losses import CHECKS, check_compiled


def _checks() -> list[object]:
    slow = {check_compiled: [pytest.mark.slow]}
    return [pytest.param(check, id=check.__name__, marks=slow.get(check, [])) for check in CHECKS]


@pytest.mark.parametrize("check", _checks())
@pytest.mark.parametrize("name", losses.names())
def test_every_loss_keeps_the_promise(name: str, check: Callable[[LossSpec], None]) -> None:
    check(losses.parse(name))


@pytest.mark.parametrize("name", losses.registry.presets())
def test_every_preset_keeps_the_promises(name: str) -> None:
    for check in CHECKS:
        if check is not check_compiled:  # its kinds were, and this is the slow one
            check(losses.parse(name))
