"""Learning-rate schedules: start, fall, floor, warm-up, plateau."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segexplorer.training.schedules import Plateau, Polynomial, ScheduleState, registry


@pytest.mark.parametrize("kind", registry.names())
def test_every_schedule_starts_at_one_and_stays_within_floor_and_one(kind: str) -> None:
    schedule = registry.spec(kind)()
    state = ScheduleState()
    factors = [schedule.scale(step, 100, state) for step in range(150)]
    assert factors[0] == 1.0
    assert all(0 < f <= 1 for f in factors)
    assert factors[100:] == [factors[100]] * 50, "an extension goes on at the floor"
    assert all(b <= a for a, b in itertools.pairwise(factors))


def test_polynomial_is_nnunets() -> None:
    schedule = Polynomial(power=0.9, floor=0.01)
    assert schedule.scale(50, 100, ScheduleState()) == pytest.approx(0.5**0.9)
    assert schedule.scale(100, 100, ScheduleState()) == 0.01


@given(st.integers(1, 50))
def test_warm_up_rises_linearly(warmup: int) -> None:
    schedule = Polynomial(warmup_steps=warmup, power=1)
    factors = [schedule.scale(s, 10**9, ScheduleState()) for s in range(warmup)]
    assert factors == pytest.approx([(s + 1) / warmup for s in range(warmup)], rel=1e-6)


def test_plateau_waits_and_then_halves_down_to_its_floor() -> None:
    schedule, state = Plateau(patience=2, decay=0.5, floor=0.3), ScheduleState()
    seen = []
    for dice in (0.5, 0.6, 0.6, None, math.nan, 0.55, 0.7, 0.1, 0.1, 0.1, 0.1):
        schedule.epoch_end(state, dice)
        seen.append(schedule.scale(0, 10, state))
    assert seen == [1, 1, 1, 1, 1, 0.5, 0.5, 0.5, 0.3, 0.3, 0.3]
