"""How long a run will take here: a few of its own steps and windows, timed before it starts."""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from segexplorer.training.out_of_memory import memory_errors_told
from segexplorer.training.windows import window_count

if TYPE_CHECKING:
    import torch

    from segexplorer.data.store import PreparedStore
    from segexplorer.training.learner import Learner
    from segexplorer.training.plan import Plan

WINDOW_SECONDS = 5.0
"""How long windows of the validation are timed; the rest of them are taken to last as long."""


@dataclass(frozen=True)
class Timing:
    """What was measured, and what it comes to; all in seconds.

    Attributes
    ----------
    step
        Median of an optimiser step, its batch included as far as training waits for it.
    steps
        How many were timed, after one that warms up.
    window
        One sliding window of a validation; 0 where nothing is predicted.
    reading
        Reading and preparing all cases, once, at the beginning.
    epoch
        All steps of an epoch, and the share of it that its validations take.
    total
        All epochs and the reading.
    """

    step: float
    steps: int
    window: float
    reading: float
    epoch: float
    total: float


def measure(plan: Plan, *, steps: int = 3, stopped: Callable[[], bool] = lambda: False) -> Timing | None:
    """Time some steps and windows of a planned run; writes nothing into a run folder.

    A warm-up step is not counted. Scores and region maps of the validation are not timed, nor is the network's
    compilation where there is any: the figure is what training takes at least.

    Parameters
    ----------
    steps
        Optimiser steps to time.
    stopped
        Asked between two pieces of work; once it says yes, None is returned.

    Raises
    ------
    DataError
        When a case cannot be read.
    TrainingError
        When memory is short, or the first steps do not give finite numbers.
    """
    from segexplorer.training.learner import Learner

    learner = Learner(
        plan.experiment,
        plan.runtime,
        channels=plan.channels,
        classes=len(plan.class_names) + 1,
        steps=plan.steps,
    )
    with tempfile.TemporaryDirectory(prefix="segexplorer-timing-") as folder, plan.runtime.active():
        store = plan.open_store(Path(folder))
        begun = time.perf_counter()
        for case in _sampled(plan):
            if stopped():
                return None
            store.get(case)
        reading = (time.perf_counter() - begun) / len(_sampled(plan))
        timed = _steps(plan, store, learner, steps, stopped)
        window = _window(plan, store, learner, stopped) if timed else None
    if timed is None or window is None:
        return None
    return _told(plan, statistics.median(timed), steps, window, reading)


def _sampled(plan: Plan) -> tuple[str, ...]:
    """The cases that the timed batches are drawn from: as many as one batch holds."""
    return plan.ids("train")[: plan.sampling.batch_size]


def _steps(
    plan: Plan, store: PreparedStore, learner: Learner, steps: int, stopped: Callable[[], bool]
) -> list[float] | None:
    """Return the seconds of each step after the first."""
    from segexplorer.data.sampler import Sampler
    from segexplorer.training.loading import Loader

    experiment = plan.experiment
    sampler = Sampler(store, _sampled(plan), plan.sampling, experiment.augmentation, experiment.seed)
    loader = Loader(sampler)
    seconds = []
    try:
        for number in range(steps + 1):
            if stopped():
                return None
            begun = time.perf_counter()
            batch = loader.batch(1 + number // sampler.steps_per_epoch, number % sampler.steps_per_epoch)
            with memory_errors_told():
                learner.step(batch, number, 1)  # its numbers are plain: the device is through
            seconds.append(time.perf_counter() - begun)
    finally:
        loader.close()
    return seconds[1:]


def _window(plan: Plan, store: PreparedStore, learner: Learner, stopped: Callable[[], bool]) -> float | None:
    """Return the mean seconds of a window, over as many as `WINDOW_SECONDS` allow, after one that warms up."""
    import torch

    from segexplorer.training.windows import predict_logits

    prepared = store.get(plan.ids("train")[0])
    validation = plan.experiment.validation

    def windows() -> Generator[tuple[int, int], None, torch.Tensor]:
        return predict_logits(
            learner.predictor,
            torch.from_numpy(prepared.image[None]),
            classes=len(plan.class_names) + 1,
            patch=plan.window_for(prepared.image.shape[1:]),
            overlap=validation.overlap,
            runtime=plan.runtime,
            mirror=validation.mirror,
        )

    with memory_errors_told():
        next(windows())
        begun, timed = time.perf_counter(), 0
        for timed, _ in windows():  # noqa: B007  the last count is what matters
            if stopped():
                return None
            if time.perf_counter() - begun > WINDOW_SECONDS:
                break
    return (time.perf_counter() - begun) / timed


def _told(plan: Plan, step: float, steps: int, window: float, reading: float) -> Timing:
    experiment = plan.experiment
    validation = window * sum(_windows(plan, case) for case in _predicted(plan))
    epoch = plan.steps_per_epoch * step + validation / experiment.validation.every_epochs
    epochs = experiment.schedule.epochs
    validations = math.ceil(epochs / experiment.validation.every_epochs)  # the last epoch is always validated
    at_first = reading * len(set(plan.ids("train")) | set(plan.ids("validation")))
    total = at_first + epochs * plan.steps_per_epoch * step + validations * validation
    return Timing(step=step, steps=steps, window=window, reading=at_first, epoch=epoch, total=total)


def _predicted(plan: Plan) -> tuple[str, ...]:
    """The cases that a validation predicts: its own, and the watched training case."""
    watched = plan.watched.get("train")
    return (*plan.ids("validation"), *((watched,) if watched is not None else ()))


def _windows(plan: Plan, case: str) -> int:
    shape = plan.fitted.prepared_shape(plan.refs[case])
    return window_count(shape, plan.window_for(shape), plan.experiment.validation.overlap)
