"""How long things take on this machine, measured: one forward pass of a network, and a planned run.

`measure_network` times the prediction of one patch in a process of its own, so that the memory it reports is
that of the network alone. `measure` times a few steps and windows of a planned run, and extrapolates.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segexplorer.core.errors import TrainingError
from segexplorer.networks import registry
from segexplorer.networks.base import NetworkSpec, padded
from segexplorer.networks.cost import parameter_count
from segexplorer.training.compute import Compute, Runtime, resolve_compute, translate_memory_errors
from segexplorer.training.sliding_window import window_count

if TYPE_CHECKING:
    import torch

    from segexplorer.data.store import PreprocessedCache
    from segexplorer.training.learner import Learner
    from segexplorer.training.plan import Plan


# ---- one network


@dataclass(frozen=True)
class Speed:
    """A measured forward pass over one patch.

    Attributes
    ----------
    seconds
        Median of the passes.
    fastest, slowest
        Their range.
    passes
        How many were timed.
    memory_bytes
        Peak beyond what the process held before: weights, activations and the library's workspaces. None where
        the system does not report it.
    device, precision, threads
        Where, and how.
    """

    seconds: float
    fastest: float
    slowest: float
    passes: int
    memory_bytes: int | None
    device: str
    precision: str
    threads: int


def measure_network(
    network: NetworkSpec,
    patch: Sequence[int],
    *,
    in_channels: int = 1,
    out_channels: int = 2,
    compute: Compute | None = None,
    passes: int = 5,
) -> Speed:
    """Time the prediction of one patch, in a process of its own so that memory is the network's alone.

    Parameters
    ----------
    patch
        Spatial shape, rounded up to the network's divisor.
    compute
        Device, precision and threads.
    passes
        Timed passes, after one that warms up.

    Raises
    ------
    SpecError
        When the network cannot be built so, or the device does not exist here.
    TrainingError
        When the process ended before its time, as it does where memory is short.
    """
    shape = padded(patch, network.divisor(len(patch)))
    # builds the network without weights, so that one that cannot be built is refused before a process starts
    parameter_count(network, dimensions=len(shape), in_channels=in_channels, out_channels=out_channels)
    wanted = compute or Compute()
    resolve_compute(wanted)
    task = {
        "network": network.plain(),
        "shape": shape,
        "channels": (in_channels, out_channels),
        "compute": wanted.plain(),
        "passes": passes,
    }
    command = [sys.executable, "-m", "segexplorer.training.timing"]
    done = subprocess.run(command, input=json.dumps(task), capture_output=True, text=True, check=False)
    if done.returncode:
        raise TrainingError(
            f"Measuring {network.display_name} on {' × '.join(map(str, shape))} voxels broke off.",
            "Ask for a smaller patch; the end of what it printed: " + done.stderr.strip()[-200:],
        )
    return Speed(**json.loads(done.stdout.splitlines()[-1]))


def _measure_here(task: dict[str, Any]) -> Speed:
    import torch

    spec, shape, passes = registry.parse(task["network"]), task["shape"], task["passes"]
    in_channels, out_channels = task["channels"]
    runtime = resolve_compute(Compute.of(task["compute"]))
    # loads the libraries, which are no part of what the network takes
    spec.build(dimensions=len(shape), in_channels=in_channels, out_channels=out_channels)
    torch.nn.Conv2d(1, 1, 3)(torch.zeros(1, 1, 8, 8))
    before = _reset_peak(runtime)
    built = spec.build(dimensions=len(shape), in_channels=in_channels, out_channels=out_channels)
    placed = runtime.place_network(built, len(shape)).eval()
    image = runtime.place(torch.rand((1, in_channels, *shape)))
    with runtime.active():
        times = [_seconds_of_pass(placed, image, runtime) for _ in range(passes + 1)][1:]
    peak = _peak(runtime)
    return Speed(
        seconds=statistics.median(times),
        fastest=min(times),
        slowest=max(times),
        passes=passes,
        memory_bytes=None if before is None or peak is None else peak - before,
        device=runtime.device_name,
        precision=runtime.precision,
        threads=runtime.threads,
    )


def _seconds_of_pass(network: torch.nn.Module, image: torch.Tensor, runtime: Runtime) -> float:
    import torch

    _synchronise(runtime)
    begun = time.perf_counter()
    with torch.inference_mode(), runtime.autocast():
        network(image)
    _synchronise(runtime)
    return time.perf_counter() - begun


def _synchronise(runtime: Runtime) -> None:
    import torch

    if runtime.device.startswith("cuda"):
        torch.cuda.synchronize(runtime.device)


def _reset_peak(runtime: Runtime) -> int | None:
    """Reset the peak and return the bytes held now; None where the system does not report them."""
    import torch

    if runtime.device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(runtime.device)
        return torch.cuda.memory_allocated(runtime.device)
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:  # not Linux
        return None
    return _peak(runtime)


def _peak(runtime: Runtime) -> int | None:
    """Return the most bytes held since: allocated on CUDA, resident in the process on the CPU."""
    if runtime.device.startswith("cuda"):
        return runtime.memory_in_use()
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), None)


# ---- a planned run

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
    validation
        All windows of one validation.
    first
        From the start to the end of the first validation.
    """

    step: float
    steps: int
    window: float
    reading: float
    epoch: float
    total: float
    validation: float = 0.0
    first: float = 0.0
    slowed: float = 1.0
    """How many times longer than `step` a step lasted by the first clock: other programs took the processor."""


Clock = Callable[[], float]


class _Stopwatch:
    """Seconds since it was made: the fewest of several clocks, and those of the first."""

    def __init__(self, clocks: Sequence[Clock]) -> None:
        self._clocks = clocks
        self._begun = [clock() for clock in clocks]

    def seconds(self) -> tuple[float, float]:
        """Return (fewest, first)."""
        passed = [clock() - begun for clock, begun in zip(self._clocks, self._begun, strict=True)]
        return min(passed), passed[0]


def measure(
    plan: Plan,
    *,
    steps: int = 3,
    stopped: Callable[[], bool] = lambda: False,
    clocks: Sequence[Clock] = (time.perf_counter,),
) -> Timing | None:
    """Time some steps and windows of a planned run; writes nothing into a run folder.

    A warm-up step is not counted. Scores and region maps of the validation are not timed, nor is the network's
    compilation where there is any: the figure is what training takes at least.

    Parameters
    ----------
    steps
        Optimiser steps to time; fewer where they are long.
    stopped
        Called between two pieces of work; once it returns True, the result is None.
    clocks
        Seconds so far. Of several, the fewest count for a step and a window, and the first for the reading. On a
        CPU that other programs use, too, `time.process_time` says more than `time.perf_counter`, but it adds up
        the threads: the fewer of both is nearest to a machine that trains alone.

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
        scheme=plan.classes.scheme,
        steps=plan.steps,
    )
    with plan.runtime.active():
        store = plan.open_store()
        try:
            watch = _Stopwatch(clocks)
            for case in _timed_cases(plan):
                if stopped():
                    return None
                store.get(case)
            reading = watch.seconds()[1] / len(_timed_cases(plan))
            timed = _steps(plan, store, learner, steps, stopped, clocks)
            window = _window(plan, store, learner, stopped, clocks) if timed else None
        finally:
            store.close()
    if timed is None or window is None:
        return None
    step = statistics.median(fewest for fewest, _ in timed)
    slowed = statistics.median(first for _, first in timed) / max(step, 1e-9)
    return replace(_timing(plan, step, len(timed), window, reading), slowed=slowed)


def _timed_cases(plan: Plan) -> tuple[str, ...]:
    """The cases that the timed batches are drawn from: as many as one batch holds."""
    return plan.ids("train")[: plan.sampling.batch_size]


def _steps(
    plan: Plan,
    store: PreprocessedCache,
    learner: Learner,
    steps: int,
    stopped: Callable[[], bool],
    clocks: Sequence[Clock],
) -> list[tuple[float, float]] | None:
    """Return the seconds of each step after the first: by the clock that counts, and by the first."""
    from segexplorer.data.sampler import Loader, Sampler
    from segexplorer.losses.base import partitions_in

    experiment = plan.experiment
    sampler = Sampler(
        store,
        _timed_cases(plan),
        plan.sampling,
        experiment.augmentation,
        experiment.seed,
        partitions_in(experiment.loss),
    )
    loader = Loader(sampler)
    seconds = []
    try:
        for number in range(steps + 1):
            if stopped():
                return None
            watch = _Stopwatch(clocks)
            batch = loader.batch(1 + number // sampler.steps_per_epoch, number % sampler.steps_per_epoch)
            with translate_memory_errors():
                learner.step(batch, number, 1)  # its numbers are plain: the device is through
            seconds.append(watch.seconds())
            if sum(fewest for fewest, _ in seconds[1:]) > _LONG_ENOUGH:
                break
    finally:
        loader.close()
    return seconds[1:]


_LONG_ENOUGH = 5.0
"""Seconds of timed steps after which no further one is waited for: long steps differ little from each other."""


def _window(
    plan: Plan,
    store: PreprocessedCache,
    learner: Learner,
    stopped: Callable[[], bool],
    clocks: Sequence[Clock],
) -> float | None:
    """Return the mean seconds of a window, over as many as `WINDOW_SECONDS` allow, after one that warms up."""
    import torch

    from segexplorer.training.sliding_window import Tile, stream_logits

    prepared = store.get(plan.ids("train")[0])
    validation = plan.experiment.validation

    def windows() -> Iterator[tuple[int, int]]:
        items = stream_logits(
            learner.predictor,
            torch.from_numpy(prepared.image[None]),
            classes=len(plan.class_names) + 1,
            patch=plan.patch_for(prepared.image.shape[1:]),
            overlap=validation.overlap,
            runtime=plan.runtime,
            mirror=validation.mirror,
            memory=plan.runtime.device_bytes(0),
        )
        return (item for item in items if not isinstance(item, Tile))

    with translate_memory_errors():
        next(windows())
        watch, timed = _Stopwatch(clocks), 0
        for timed, _ in windows():  # noqa: B007  the last count is what matters
            if stopped():
                return None
            if watch.seconds()[1] > WINDOW_SECONDS:
                break
    return watch.seconds()[0] / timed


def _timing(plan: Plan, step: float, steps: int, window: float, reading: float) -> Timing:
    at_first = reading * len(set(plan.ids("train")) | set(plan.ids("validation")))
    return extrapolate(plan, step=step, steps=steps, window=window, reading=at_first)


def extrapolate(plan: Plan, *, step: float, steps: int, window: float, reading: float) -> Timing:
    """Return what measured seconds come to in a plan, which may have other steps and epochs than the measured one.

    Parameters
    ----------
    step, steps, window, reading
        As in `Timing`.
    """
    experiment = plan.experiment
    validation = window * sum(_window_count(plan, case) for case in _predicted_cases(plan))
    epoch = plan.steps_per_epoch * step + validation / experiment.validation.every_epochs
    epochs = experiment.schedule.epochs
    validations = math.ceil(epochs / experiment.validation.every_epochs)  # the last epoch is always validated
    of_steps = plan.steps_per_epoch * step
    return Timing(
        step=step,
        steps=steps,
        window=window,
        reading=reading,
        epoch=epoch,
        total=reading + epochs * of_steps + validations * validation,
        validation=validation,
        first=reading + min(epochs, experiment.validation.every_epochs) * of_steps + validation,
    )


def _predicted_cases(plan: Plan) -> tuple[str, ...]:
    """The cases that a validation predicts: its own, and the watched training case."""
    watched = plan.watched.get("train")
    return (*plan.ids("validation"), *((watched,) if watched is not None else ()))


def _window_count(plan: Plan, case: str) -> int:
    shape = plan.fitted.prepared_shape(plan.refs[case])
    return window_count(shape, plan.patch_for(shape), plan.experiment.validation.overlap)


if __name__ == "__main__":
    print(json.dumps(asdict(_measure_here(json.load(sys.stdin)))))  # noqa: T201
