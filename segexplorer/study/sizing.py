"""What a study will need before it starts: hours of nodes, memory, and room on the disk.

Hours come from runs of the study that are finished, wherever they were trained; where there are none, from a few
steps on this computer, which says little about another. The room on the disk is counted from what a run writes, and
is an upper limit: what is compressed there is counted as it is in memory.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from segexplorer.core.errors import SegExplorerError
from segexplorer.data.cache_folder import base_folder
from segexplorer.study.plan import PlannedCondition, PlannedRun, planned_conditions
from segexplorer.study.schedule import Schedule
from segexplorer.training.experiment import Experiment
from segexplorer.training.plan import Plan, resolve
from segexplorer.training.timing import measure

EVENT_BYTES = 480
"""Of a step in the event log; measured on runs of two and of ten terms."""
STATE_BYTES = 12
"""Of a parameter in a checkpoint: weight, and two moments of Adam, float32."""
PROCESS_GB = 0.7
"""Memory of a process that has loaded torch and MONAI, and trains hardly anything; measured."""
CHECKPOINTS = 3
"""The last, the previous and the best."""


@dataclass(frozen=True)
class ConditionSize:
    """What each run of one condition needs.

    Attributes
    ----------
    label, runs
        The condition, and how many of its runs are not done.
    hours
        Of one run from its beginning; None where nothing could be measured.
    basis
        Where the hours come from, as words.
    memory_gb, disk_gb
        Of one run, the memory on the processor or the GPU that trains.
    prepared_gb
        Its prepared cases where they do not fit into memory; the cache keeps them once for all runs.
    prepared
        What they are prepared from and how: conditions that agree in it share them.
    cache
        The cache folder.
    """

    label: str
    runs: int
    hours: float | None
    basis: str
    memory_gb: float
    disk_gb: float
    prepared_gb: float
    prepared: str = ""
    cache: str = ""


@dataclass(frozen=True)
class StudySize:
    """What the rest of a study needs."""

    conditions: tuple[ConditionSize, ...]
    problems: tuple[str, ...] = ()

    @property
    def runs(self) -> int:
        """How many runs are not done."""
        return sum(c.runs for c in self.conditions)

    @property
    def hours(self) -> float | None:
        """Hours of all runs, one after the other; None where those of one condition are unknown."""
        known = [c.hours * c.runs for c in self.conditions if c.hours is not None]
        return sum(known) if len(known) == len(self.conditions) else None

    @property
    def disk_gb(self) -> float:
        """Room for all run folders."""
        return sum(c.runs * c.disk_gb for c in self.conditions)

    @property
    def prepared_gb(self) -> dict[str, float]:
        """Cache folder -> room for the prepared cases of all runs there, each counted once."""
        each = {(c.cache, c.prepared): c.prepared_gb for c in self.conditions if c.prepared_gb}
        found: dict[str, float] = {}
        for (cache, _), size in each.items():
            found[cache] = found.get(cache, 0.0) + size
        return found

    def sentences(self, at_once: int | None = None) -> list[str]:
        """Return what to know before the study starts.

        Parameters
        ----------
        at_once
            Runs at once; None: as many as there are.
        """
        if not self.conditions:
            return [*self.problems]
        lines = []
        for c in self.conditions:
            time = f"{hours_text(c.hours)} ({c.basis})" if c.hours is not None else "unknown time"
            lines.append(
                f"{c.label}: {c.runs} run{'s' if c.runs > 1 else ''}, each {time}, {c.memory_gb:.1f} GB of memory, "
                f"{_size_text(c.disk_gb)} on the disk."
            )
        if self.hours is not None:
            most = min(at_once or self.runs, self.runs)
            lines.append(
                f"In all {hours_text(self.hours)} of nodes; with {most} at once about "
                f"{hours_text(self._wall(most))}."
            )
        lines.append(f"In all at most {_size_text(self.disk_gb)} on the disk.")
        for cache, size in self.prepared_gb.items():
            lines.append(f"Prepared cases, once for all runs: at most {_size_text(size)} in {cache}.")
        return [*lines, *self.problems]

    def _wall(self, at_once: int) -> float:
        """Return the hours until the last run ends: no less than the longest, and than an equal share."""
        assert self.hours is not None
        return max(self.hours / at_once, *(c.hours or 0 for c in self.conditions))


def size_of(
    runs: Sequence[PlannedRun],
    schedule: Schedule | None = None,
    measured: Callable[[Plan], float | None] | None = None,
) -> StudySize:
    """Return what the runs of a study that are not done will need.

    Parameters
    ----------
    schedule
        Where finished runs say how long they took.
    measured
        Returns the hours of a planned run, where no run of its condition is finished; by default some steps are
        trained.
    """
    measured = measured or _measured_hours
    left = {run.point.name for run in runs if run.todo != "done"}
    by_name = {run.point.name: run for run in runs}
    took = _hours_taken(runs, schedule)
    found: list[ConditionSize] = []
    problems: list[str] = []
    for condition in planned_conditions([run.point for run in runs]):
        waiting = [name for name in condition.runs if name in left]
        if not waiting:
            continue
        experiment = by_name[waiting[0]].point.experiment
        try:
            plan = resolve(experiment)
            done = [took[name] for name in condition.runs if name in took]
            basis = f"as its finished run{'s' if len(done) > 1 else ''} took"
            hours = statistics.median(done) if done else measured(plan)
            if not done:
                basis = f"measured here, on {plan.runtime.device_name}"
        except SegExplorerError as error:
            problems.append(f"{condition.label}: {error}")
            continue
        found.append(_sized(condition, len(waiting), experiment, plan, hours, basis))
    return StudySize(tuple(found), tuple(problems))


def _sized(
    condition: PlannedCondition,
    runs: int,
    experiment: Experiment,
    plan: Plan,
    hours: float | None,
    basis: str,
) -> ConditionSize:
    prepared = plan.prepared_bytes / 2**30
    fits = prepared < experiment.compute.cache_gb
    return ConditionSize(
        label=condition.label,
        runs=runs,
        hours=hours,
        basis=basis,
        memory_gb=run_memory_gb(plan),
        disk_gb=run_bytes(plan) / 2**30,
        prepared_gb=0.0 if fits else prepared,
        prepared=str([experiment.plain()[name] for name in ("data", "preprocessing")]),
        cache=str(base_folder(experiment.compute.cache_folder)),
    )


def run_memory_gb(plan: Plan) -> float:
    """Return the memory that a run needs where it trains, GB; on the processor with all that the process holds."""
    step, devices = plan.memory_bytes / 2**30, plan.runtime.devices
    if plan.runtime.device != "cpu":
        return step * devices
    cached = min(plan.experiment.compute.cache_gb, plan.prepared_bytes / 2**30)
    return (step + PROCESS_GB) * devices + cached


def run_bytes(plan: Plan) -> int:
    """Return the most bytes that a run folder will have: checkpoints, events and the watched cases through time."""
    experiment = plan.experiment
    epochs = experiment.schedule.epochs
    checkpoints = CHECKPOINTS * STATE_BYTES * plan.network_parameters
    events = EVENT_BYTES * plan.steps
    frames = math.ceil(epochs / experiment.validation.every_epochs)
    classes = len(plan.class_names) + 1
    maps = logits = 0
    for case in plan.watched.values():
        ref = plan.refs[case]
        maps += frames * math.prod(ref.open().images[0].shape) * (1 + classes)
        logits += frames * math.prod(plan.fitted.prepared_shape(ref)) * classes * 2
    return checkpoints + events + maps + min(logits, experiment.validation.logits_mb * 10**6)


def _hours_taken(runs: Sequence[PlannedRun], schedule: Schedule | None) -> Mapping[str, float]:
    """Return run -> hours that all of its tries together took, of finished runs."""
    if schedule is None:
        return {}
    found = {}
    for run in runs:
        tries = schedule.tries(run.folder.name)
        if run.todo == "done" and tries and tries[-1].end == "finished":
            found[run.point.name] = sum(max(0.0, t.updated - t.began) for t in tries) / 3600
    return found


def _measured_hours(plan: Plan) -> float | None:
    timing = measure(plan)
    return None if timing is None else timing.total / 3600


def hours_text(hours: float) -> str:
    """Return hours as words: "40 s", "12 min", "3.5 h", "4.2 days"."""
    if hours < 1 / 60:
        return f"{3600 * hours:.0f} s"
    if hours < 1:
        return f"{60 * hours:.0f} min"
    return f"{hours:.1f} h" if hours < 72 else f"{hours / 24:.1f} days"


def _size_text(gigabytes: float) -> str:
    return f"{1024 * gigabytes:.0f} MB" if gigabytes < 1 else f"{gigabytes:.1f} GB"
