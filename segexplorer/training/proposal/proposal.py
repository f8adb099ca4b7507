"""Proposing an experiment: the data is looked at, settings are chosen, steps are timed, and the plan is resolved.

Where the time does not suffice for as large a step as memory allows, smaller ones are timed until there are enough
of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segexplorer.core.atomic_files import atomic_write
from segexplorer.core.errors import DataError, SpecError, UnknownKindError, did_you_mean
from segexplorer.data.case import ClassMap
from segexplorer.data.checks import Problem, check_dataset
from segexplorer.data.datasets import recognise, recognised_dataset
from segexplorer.data.datasets.base import DatasetSpec
from segexplorer.data.fingerprint import Fingerprint, Looked, take_fingerprint
from segexplorer.data.label_overlap import Overlap, find_overlap, shared_by_classes
from segexplorer.data.splits import Split, assign_roles
from segexplorer.metrics.tasks import TASKS
from segexplorer.training.experiment import Experiment
from segexplorer.training.proposal.commented_yaml import commented_yaml
from segexplorer.training.proposal.lengths import VALIDATING, Length, Measure, enough_steps, length, untimed
from segexplorer.training.proposal.settings import MOST_VALIDATED, Draft, gib, guess_task
from segexplorer.training.proposal.sizes import (
    SMALL_RUNGS,
    Hardware,
    Sizing,
    first_that,
    rungs,
    size,
    this_machine,
    work,
)
from segexplorer.training.timing import Timing, extrapolate

if TYPE_CHECKING:
    from segexplorer.training.plan import Plan

MINUTES = 60.0
"""How long the proposed training takes where nothing else is asked for."""


# ---- what comes out


@dataclass(frozen=True)
class Proposal:
    """An experiment with the reasons for it.

    Attributes
    ----------
    experiment
        It was resolved: `train` accepts it on this machine.
    settings
        What was decided, as nested plain data; everything else is left to its default.
    reasons
        Dotted path of a setting -> why, in sentences.
    fingerprint, hardware, task
        What they follow from.
    timing
        What some timed steps come to; None where nothing was timed.
    problems
        What to know: cases that were left out, and the warnings of the plan.
    """

    experiment: Experiment
    settings: Mapping[str, Any]
    reasons: Mapping[str, str]
    fingerprint: Fingerprint
    hardware: Hardware
    task: str
    timing: Timing | None
    problems: tuple[Problem, ...]

    def to_yaml(self) -> str:
        """Return the experiment file, the reasons as comments."""
        return commented_yaml(self.settings, self.reasons, self.heading())

    def save(self, path: str | Path) -> None:
        """Write the experiment file.

        Raises
        ------
        SpecError
            When there is a file of that name.
        """
        require_new(Path(path))
        atomic_write(Path(path), self.to_yaml().encode())

    def heading(self) -> tuple[str, ...]:
        """Return the sentences above the settings: what was found, on which machine, and the time."""
        facts = [f"{title}: {text}." for title, text in self.fingerprint.facts().items()]
        return (
            "Proposed by segexplorer from the data and this machine. Every setting may be changed.",
            *facts,
            f"Machine: {self.hardware.name}; a training step may take {gib(self.hardware.memory)}.",
            *((f"Time: {time_sentence(self.timing)}",) if self.timing is not None else ()),
        )

    def plain(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        timing = self.timing
        return {
            "experiment": self.experiment.plain(),
            "task": self.task,
            "reasons": dict(self.reasons),
            "facts": self.fingerprint.facts(),
            "left_out": list(self.fingerprint.left_out),
            "problems": [
                {"case": p.case, "severity": p.severity, "message": p.message, "remedy": p.remedy}
                for p in self.problems
            ],
            "seconds": None
            if timing is None
            else {
                "step": timing.step,
                "epoch": timing.epoch,
                "first_validation": timing.first,
                "total": timing.total,
            },
        }


def require_new(path: Path) -> None:
    """Refuse a file that exists.

    Raises
    ------
    SpecError
        Saying how to go on.
    """
    if path.exists():
        text = "Name another file (-o other.yaml), or delete or rename that one first."
        raise SpecError(f"{path} exists already, and is not replaced.", text)


def time_sentence(timing: Timing) -> str:
    """Return "about 40 s per epoch, first validation after 2 min, 58 min in all (measured: 3 steps of 0.2 s)."."""
    text = (
        f"about {_span(timing.epoch)} per epoch, first validation after {_span(timing.first)}, "
        f"{_span(timing.total)} in all (measured: {timing.steps} steps of {timing.step:.2g} s)."
    )
    if timing.slowed > _BUSY:
        text += f" Other programs take the processor now: steps lasted {timing.slowed:.1f} times as long."
    return text


_BUSY = 1.5
"""How many times longer than their processor time steps may last before it is said."""


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


# ---- proposing


def propose(
    source: str | Path | DatasetSpec,
    *,
    task: str | None = None,
    classes: Mapping[str, int | Sequence[int]] | None = None,
    minutes: float | None = None,
    timed: bool = True,
    hardware: Hardware | None = None,
    measure: Measure | None = None,
    looked: Looked = lambda what, done, total: None,
    stopped: Callable[[], bool] = lambda: False,
) -> Proposal:
    """Propose an experiment for a folder, a list of cases or a data set.

    Parameters
    ----------
    source
        A folder whose layout is found out, a file that lists cases, or a data set.
    task
        "lesions", "organs" or "vessels"; None decides by the classes' names, and by how many parts they come in.
    classes
        Class name -> label value or values, where not all are learned.
    minutes
        How long training may take, validations included; by default an hour.
    timed
        Whether some steps are timed, and network, patch and number of steps fitted to the time. Without it, the
        length of training is a default and no time is estimated.
    hardware
        The machine; None looks at this one.
    measure
        Takes the time of a plan; None does so on this machine.
    looked
        Called with "headers", "voxels" or "steps", how many are through and of how many, for a progress bar.
    stopped
        Called between two pieces of work; once it returns True, a `DataError` says so.

    Raises
    ------
    DataError
        When the layout is not known, no case with a label can be read, or memory does not suffice for a step.
    SpecError
        When the task does not exist, or classes or minutes make no sense.
    """
    if task is not None and task not in TASKS:
        raise UnknownKindError(f"There is no task {task!r}.", did_you_mean(task, TASKS))
    if minutes is not None and not minutes > 0:
        raise SpecError(f"Training cannot take {minutes:g} minutes.", "Give a number above 0.")
    dataset = source if isinstance(source, DatasetSpec) else _recognised(Path(source))
    overlap = Overlap()
    if classes:
        chosen = {**dataset.plain(), "classes": dict(classes)}
        shared = "" if dataset.overlapping else shared_by_classes(classes)
        overlap = Overlap(shared, {"overlapping": True}) if shared else overlap
        dataset = type(dataset).of({**chosen, **overlap.settings})
    else:
        overlap = find_overlap(dataset, stopped=stopped)
        dataset = type(dataset).of({**dataset.plain(), **overlap.settings})
    seen = take_fingerprint(dataset, looked=looked, stopped=stopped)
    machine = hardware or this_machine()
    split, amiss = _split(seen)
    seen = replace(seen, left_out=tuple(dict.fromkeys((*seen.left_out, *(p.case for p in amiss)))))
    found = [*seen.problems, *amiss, *([overlap.problem] if overlap.problem else [])]
    draft = Draft(
        seen,
        machine,
        task or guess_task(seen),
        asked=task is not None,
        split=split,
        why_left_out={p.case: p.message for p in reversed(found) if p.case},
        timed=timed,
        why_overlapping=overlap.reason,
    )
    if timed:
        take = measure or _timed_here(stopped)
        experiment, timing = _fitted(draft, (minutes or MINUTES) * 60, take, looked)
    else:
        small = 0 if machine.gpu else len(rungs(size(seen, machine).thin)) - SMALL_RUNGS - 2
        experiment, timing = draft.experiment(size(seen, machine, small), untimed(gpu=machine.gpu)), None
    plan = _resolved(experiment)
    if timing is not None:
        timing = _again(plan, timing)
    warnings = [p for p in plan.problems if p.severity == "warning"]
    return Proposal(
        experiment=experiment,
        settings=draft.settings,
        reasons=draft.reasons,
        fingerprint=seen,
        hardware=machine,
        task=draft.task,
        timing=timing,
        problems=tuple(dict.fromkeys((*found, *warnings))),
    )


def _recognised(place: Path) -> DatasetSpec:
    if not place.exists():
        raise DataError(f"There is no {place}.", "Check the path of the data set.")
    return recognised_dataset(recognise(place.resolve()))


def _resolved(experiment: Experiment) -> Plan:
    from segexplorer.training.plan import resolve

    return resolve(experiment)


# ---- time


def _fitted(draft: Draft, seconds: float, take: Measure, looked: Looked) -> tuple[Experiment, Timing]:
    """Time some steps, take smaller ones where there would be too few of them, and fit the length."""
    seen, machine = draft.seen, draft.machine
    trial = size(seen, machine)
    if not machine.gpu:
        trial = size(seen, machine, len(rungs(trial.thin)) - SMALL_RUNGS)
    timings: dict[Sizing, Timing] = {}
    for attempt in range(_TRIALS):
        looked("steps", attempt, _TRIALS)
        timing = _timed(draft, trial, take)
        timings[trial] = timing
        chosen = _affordable(draft, trial, timing, seconds)
        if chosen in timings:
            trial = chosen
            break
        trial = chosen
    timing = timings[trial] if trial in timings else _timed(draft, trial, take)
    looked("steps", _TRIALS, _TRIALS)
    found = length(seconds, timing)
    if timing.validation > _DEAR * seconds:
        quick = replace(found, overlap=0.25)
        timing = _again(_resolved(draft.experiment(trial, quick)), timing)
        found = length(seconds, timing, overlap=0.25)
    return draft.experiment(trial, found), timing


_TRIALS = 3
_DEAR = VALIDATING / 4
"""Share of the time that one validation takes, from which on fewer windows overlap."""


def _affordable(draft: Draft, trial: Sizing, timing: Timing, seconds: float) -> Sizing:
    """Return the largest size of which there are enough steps, as far as operations tell; else the smallest."""
    speed = work(draft.seen, trial) / timing.step

    def enough(start: int) -> bool:
        found = size(draft.seen, draft.machine, start)
        return enough_steps(seconds, timing.reading, work(draft.seen, found) / speed)

    last = len(rungs(trial.thin)) - 1
    return size(draft.seen, draft.machine, first_that(enough, 0, last))


def _timed(draft: Draft, sizing: Sizing, take: Measure) -> Timing:
    timing = take(_resolved(draft.experiment(sizing, Length())))
    if timing is None:
        raise DataError("Timing the steps was stopped.")
    return timing


def _again(plan: Plan, timing: Timing) -> Timing:
    """Return what measured seconds come to in a plan of another length."""
    found = extrapolate(
        plan, step=timing.step, steps=timing.steps, window=timing.window, reading=timing.reading
    )
    return replace(found, slowed=timing.slowed)


def _timed_here(stopped: Callable[[], bool]) -> Measure:
    def take(plan: Plan) -> Timing | None:
        from segexplorer.training.timing import measure

        on_cpu = plan.runtime.device == "cpu"
        clocks = (time.perf_counter, time.process_time) if on_cpu else (time.perf_counter,)
        return measure(plan, stopped=stopped, clocks=clocks)

    return take


# ---- the split


def _split(seen: Fingerprint) -> tuple[dict[str, Any], list[Problem]]:
    """Return the settings of the split, and why further cases are left out (as when two have one image)."""
    excluded = [name for name in seen.left_out if name not in seen.incomplete]
    mapping = ClassMap.from_classes(
        seen.classes, seen.dataset.other_labels, overlapping=seen.dataset.overlapping
    )
    problems: list[Problem] = []
    while True:
        kept = [ref for name, ref in seen.refs.items() if name not in excluded]
        found = _shares(seen, {ref.id for ref in kept})
        roles = assign_roles(kept, Split.of(found), seed=0)
        amiss = [p for p in check_dataset(kept, roles, mapping) if p.severity == "error" and p.case]
        if not amiss:
            break
        problems += amiss
        excluded += [p.case for p in amiss]
    return {**found, **({"excluded": list(dict.fromkeys(excluded))} if excluded else {})}, problems


def _shares(seen: Fingerprint, kept: set[str]) -> dict[str, Any]:
    """Return which patients validate: a fifth, drawn by the split; one alone validates itself.

    Roles that the data set gives are kept. Where it lets all cases train, those that validate are named.
    """
    refs = [seen.refs[case.case] for case in seen.labelled if case.case in kept]
    if any(ref.role == "validation" for ref in refs):
        return {}
    patients = list(dict.fromkeys(ref.patient or ref.id for ref in refs if ref.role != "test"))
    if len(patients) < 2:
        return {"self_validation": True}
    count = max(1, min(MOST_VALIDATED, round(len(patients) / 5)))
    free = {ref.patient or ref.id for ref in refs if ref.role is None}
    if len(free) > count or len(free) == len(patients):
        return {"validation_count": count}
    order = np.random.default_rng(0).permutation(len(patients))[:count]
    taken = {patients[i] for i in order}
    return {"validation": [ref.id for ref in refs if (ref.patient or ref.id) in taken and ref.role != "test"]}
