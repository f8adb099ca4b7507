"""The time a run will take: from its own steps and windows, without a run folder."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from segexplorer.core.spec import replace_values
from segexplorer.training.experiment import Experiment
from segexplorer.training.plan import resolve
from segexplorer.training.timing import Timing, measure
from segexplorer.viewmodels.status import sentence


def test_steps_windows_and_reading_add_up(
    tiny: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    changed = {"schedule.epochs": 5, "validation.every_epochs": 2, "validation.overlap": 0.0}
    found = measure(resolve(replace_values(tiny, changed)), steps=2)
    assert found is not None and found.steps == 2
    assert min(found.step, found.window, found.reading) > 0
    # two cases of 32^3 are predicted by 8 windows of 16^3 each, in every second epoch
    assert found.epoch == pytest.approx(3 * found.step + 16 * found.window / 2)
    # five epochs validate after the second, the fourth and the last
    assert found.total == pytest.approx(found.reading + 15 * found.step + 3 * 16 * found.window)
    assert not any(tmp_path.iterdir())


def test_of_two_clocks_the_fewest_seconds_count_and_the_others_are_told(tiny: Experiment) -> None:
    """As where other programs take the processor: it all lasts four times as long as the process works."""

    def passing(rate: float) -> Callable[[], float]:
        asked = count()
        return lambda: rate * next(asked)

    found = measure(resolve(tiny), steps=2, clocks=(passing(4.0), passing(1.0)))
    assert found is not None and found.step == 1.0 and found.slowed == 4.0
    alone = measure(resolve(tiny), steps=2, clocks=(passing(4.0),))
    assert alone is not None and alone.step == 4.0 and alone.slowed == 1.0


def test_it_can_be_stopped_between_two_steps(tiny: Experiment) -> None:
    asked = []

    def stopped() -> bool:
        asked.append(None)
        return len(asked) > 2

    assert measure(resolve(tiny), stopped=stopped) is None
    assert len(asked) == 3


@pytest.mark.parametrize(
    ("steps", "epoch", "total", "said"),
    [
        (3, 120.0, 2400.0, "about 2 min per epoch, 40 min in all (measured: 3 steps)"),
        (1, 8.4, 8.4, "about 8 s per epoch, 8 s in all (measured: 1 step)"),
        (3, 0.2, 40.0, "under a second per epoch, 40 s in all (measured: 3 steps)"),
    ],
)
def test_the_sentence(steps: int, epoch: float, total: float, said: str) -> None:
    timing = Timing(step=math.nan, steps=steps, window=math.nan, reading=0, epoch=epoch, total=total)
    assert sentence(timing) == said
