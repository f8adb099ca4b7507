"""How long a run will take, as a sentence."""

from __future__ import annotations

from segexplorer.training.timing import Timing
from segexplorer.viewmodels.status import duration


def sentence(timing: Timing) -> str:
    """Return e.g. "about 2 min per epoch, 40 min in all (measured: 3 steps)"."""
    counted = f"{timing.steps} step{'' if timing.steps == 1 else 's'}"
    return f"{_about(timing.epoch)} per epoch, {duration(max(timing.total, 1))} in all (measured: {counted})"


def _about(seconds: float) -> str:
    return f"about {duration(seconds)}" if seconds >= 0.5 else "under a second"
