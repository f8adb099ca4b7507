"""A race: lanes that leave one step of a recorded run with the same weights, and go on under different settings.

Lane A goes on as the run did. Lane B sees the same batches under another loss or setting. Controls go on as A does,
but with other batches: how far they drift from A is how far chance alone takes a run. Lanes are trained alternately
on one device, and their watched cases are predicted at the same steps, so that they can be compared at each of
them.

On the disk a race is a small study: a folder with a run folder per lane, `study.json` (so that `segexplorer
compare` knows it), and `race.json`.
"""

from __future__ import annotations

import json
import math
import shutil
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from segexplorer.core.atomic_files import atomic_write
from segexplorer.core.errors import DataError, RunStateError, SpecError
from segexplorer.core.events import (
    Count,
    Event,
    Role,
    RunFinished,
    StateChanged,
    StepDone,
    ValidationDone,
    WatchedDone,
)
from segexplorer.core.spec import differences, replace_values
from segexplorer.core.untrusted_files import with_checksum
from segexplorer.study.plan import STUDY_FILE
from segexplorer.study.runs import labels_of, value_text
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.fork import ForkPoint, duration, forked, locate, make_fork, repeated, repetition
from segexplorer.training.history import HistoryFrame, RunRecord, open_run
from segexplorer.training.run import Run
from segexplorer.training.run_files import EXPERIMENT, Name, RunFile, read_run_file
from segexplorer.training.step_columns import events_of

RACE = "race.json"
A, B, CONTROL = "A", "B", "control"
REPETITION = "repetition"
"""Name under which the events of a run are reported that is repeated up to the step where the lanes leave it."""
DEFAULT_STEPS = 50
FRAMES = 10
"""So often a lane's watched cases are predicted after its first frame, by default."""
LOW_RATE = 0.1
"""Share of the highest learning rate of a run under which a race says that little will happen."""

RaceState = Literal["idle", "running", "finished", "stopped", "failed"]


class RaceFile(RunFile):
    """`race.json`.

    Attributes
    ----------
    source, step, steps
        Name of the run that the lanes leave, where they leave it, and how far each trains.
    every
        After how many steps the watched cases are predicted.
    lanes
        Name of a lane, which is its folder -> what it trains.
    controls
        Lanes that differ from A in their batches alone.
    """

    source: Name
    step: Count
    steps: Count
    every: Count
    lanes: dict[Name, Name]
    controls: list[Name] = Field(default_factory=list)


# ---- planned


@dataclass(frozen=True)
class RacePlan:
    """What a race will train.

    Attributes
    ----------
    point
        Where the lanes leave the run.
    lanes
        Name -> experiment: A, B, and the controls.
    labels
        Name -> what it trains.
    steps, every
        As in `RaceFile`.
    """

    point: ForkPoint
    lanes: Mapping[str, Experiment]
    labels: Mapping[str, str]
    steps: int
    every: int

    @property
    def controls(self) -> tuple[str, ...]:
        """Names of the controls."""
        return tuple(name for name in self.lanes if name not in (A, B))

    def sentences(self) -> list[str]:
        """Say where the lanes begin, how they differ, and what the race costs, before anything is trained."""
        found = [self.point.sentence()]
        lanes = [f"A {self.labels[A]}", f"B {self.labels[B]}"]
        if self.controls:
            several = f"{len(self.controls)} controls" if len(self.controls) > 1 else "a control"
            lanes.append(f"{several} (A with other batches)")
        found.append(f"{len(self.lanes)} lanes of {self.steps} steps: {', '.join(lanes)}.")
        if not self.controls:
            found.append("Without a control nobody can tell a difference from chance.")
        if (seconds := self.seconds()) is not None:
            found.append(f"That takes about {duration(seconds)} at the speed of the run.")
        if remark := self._low_rate():
            found.append(remark)
        return found

    def seconds(self) -> float | None:
        """Return how long it will take at the speed that was recorded; None where none was."""
        events = open_run(self.point.run).events()
        steps = [e.seconds for e in events_of(events, StepDone)]
        if not steps:
            return None
        one = statistics.median(steps) * self.steps
        done = events_of(events, ValidationDone)
        if done:
            cases = 1 + len({score.case for e in done for score in e.scores})
            whole = statistics.median(e.seconds for e in done)
            one += whole + whole * min(1.0, 2 / cases) * (self.steps // self.every)
        return self.point.replay_seconds + one * len(self.lanes)

    def _low_rate(self) -> str:
        """Say so where the learning rate is so low that the lanes will hardly part."""
        rates = {e.step: e.learning_rate for e in events_of(open_run(self.point.run).events(), StepDone)}
        near = [rate for step, rate in rates.items() if step >= self.point.step] or list(rates.values())[-1:]
        if not near or near[0] >= LOW_RATE * max(rates.values()):
            return ""
        share = near[0] / max(rates.values())
        return (
            f"At step {self.point.step} the learning rate is {near[0]:.2g}, {share:.0%} of its highest: the lanes "
            "will hardly part. Choose an earlier step."
        )


def plan_race(
    run: Path,
    values: Mapping[str, object],
    *,
    step: int | None = None,
    steps: int = DEFAULT_STEPS,
    every: int | None = None,
    controls: int = 1,
) -> RacePlan:
    """Return a race from a step of a recorded run; nothing is written.

    Parameters
    ----------
    values
        What B changes: dotted path -> value, e.g. `{"loss.beta": 0.9}` or `{"loss": "tversky"}`.
    step
        None: the newest checkpoint.
    every
        After how many steps the watched cases are predicted; None: ten times.
    controls
        How many lanes train as A does with other batches.

    Raises
    ------
    SpecError
        When B changes nothing, or something that the weights do not allow.
    DataError
        When it is not a run folder.
    """
    if steps < 1 or controls < 0:
        raise SpecError("A race needs at least one step, and no negative number of controls.")
    point = locate(run, step)
    a, b = (_lane(forked(point, changes)) for changes in ({}, values))
    if not differences(a, b):
        raise SpecError(
            "B would do what A does: nothing is changed.", "Name a change, e.g. --set loss.beta=0.9"
        )
    names = [CONTROL] if controls == 1 else [f"{CONTROL}_{number + 1}" for number in range(controls)]
    lanes = {A: a, B: b}
    for number, name in enumerate(names, 1):
        lanes[name] = _lane(forked(point, {"seed": (a.seed + number) % 2**31}))
    labels = _labels(a, b)
    labels |= dict.fromkeys(names, f"{labels[A]}, other batches")
    return RacePlan(point, lanes, labels, steps, every or max(1, round(steps / FRAMES)))


def _labels(a: Experiment, b: Experiment) -> dict[str, str]:
    """Return what lanes A and B train: their losses where these differ, and every other setting that does."""
    changed = {path: pair for path, pair in differences(a, b).items() if path.partition(".")[0] != "split"}
    labels = {A: "", B: ""}
    if a.loss != b.loss:
        labels = dict(
            zip(labels, labels_of([_only_loss(a, a), _only_loss(a, b)], [Path(A), Path(B)]), strict=True)
        )
    for path, (was, now) in changed.items():
        if path.partition(".")[0] != "loss":
            for name, value in ((A, was), (B, now)):
                labels[name] = ", ".join(filter(None, [labels[name], f"{path} {value_text(value)}"]))
    return labels


def _only_loss(base: Experiment, other: Experiment) -> Experiment:
    return base.model_copy(update={"loss": other.loss})


def _lane(experiment: Experiment) -> Experiment:
    """Return a lane's experiment: its frames come at the steps of the race, and nothing is logged elsewhere."""
    return replace_values(experiment, {"validation.watch_every_seconds": None, "sinks": ()})


# ---- trained


@dataclass(frozen=True)
class LaneEvent:
    """An event of a lane, or of the repetition before the lanes begin."""

    lane: str
    event: Event


class Race:
    """Trains the lanes of a race alternately; iterate it.

    Iterating never raises for what happens in a lane; `state` and `reason` say how it ended. A race that was
    stopped goes on when it is opened and iterated again.

    Parameters
    ----------
    folder
        Of the race; new or empty where a plan is given.
    plan
        What to train; None: what the folder holds.
    window
        Whether a viewer is open in this process.

    Raises
    ------
    DataError
        When the folder holds something else, or without a plan no race.
    """

    def __init__(self, folder: Path, plan: RacePlan | None = None, *, window: bool = False) -> None:
        self.folder, self.plan, self._window = folder, plan, window
        self.state: RaceState = "idle"
        self.reason = ""
        self._stopping = False
        self._running: Run | None = None
        self.runs: dict[str, Run] = {}
        if plan is None:
            self.file = race_file(folder)
        else:
            if folder.exists() and any(folder.iterdir()):
                raise DataError(
                    f"{folder} already exists, and races are never overwritten.", "Choose another folder."
                )
            self.file = RaceFile(
                source=plan.point.run.resolve().name,
                step=plan.point.step,
                steps=plan.steps,
                every=plan.every,
                lanes=dict(plan.labels),
                controls=list(plan.controls),
            )

    def stop(self) -> None:
        """End after the step in hand; every lane saves itself. May be called from any thread."""
        self._stopping = True
        if (run := self._running) is not None and run.accepts("stop"):
            run.stop()

    def __iter__(self) -> Iterator[LaneEvent]:
        if self.state == "running":
            raise RunStateError("This race is being iterated already.")
        self.state, self.reason, self._stopping = "running", "", False
        try:
            if self.plan is not None and not (self.folder / RACE).exists():
                yield from self._make(self.plan)
            if self.state == "running":
                yield from self._alternate()
        finally:
            if self.state == "running":
                self.state, self.reason = "stopped", self.reason or "the iteration was left"

    def _make(self, plan: RacePlan) -> Iterator[LaneEvent]:
        """Make the lanes, after a repetition of the run up to the step where there is no checkpoint."""
        point = plan.point
        again = self.folder / f".{REPETITION}"
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            if point.replay_steps:
                run = self._running = repetition(point, again, window=self._window)
                for event in run:
                    yield LaneEvent(REPETITION, event)
                    self._heed(run)
                    if isinstance(event, RunFinished) and event.state != "finished":
                        self._end(event)
                        return
                point = repeated(point, run)
            for name, experiment in plan.lanes.items():
                make_fork(point, experiment, self.folder / name, steps=plan.steps, source=self.file.source)
        finally:
            self._running = None
            shutil.rmtree(again, ignore_errors=True)
        study = {"runs": list(plan.lanes), "reference": [A]}
        atomic_write(self.folder / STUDY_FILE, json.dumps(study, indent=1).encode())
        text = json.dumps(with_checksum(self.file.model_dump()), indent=1)
        atomic_write(self.folder / RACE, text.encode())

    def _alternate(self) -> Iterator[LaneEvent]:
        """Train each lane up to its next frame, then the next lane, until all have come to their end."""
        self.runs = {
            name: Run(RunFolder.open(self.folder / name), window=self._window)
            for name in self.file.lanes
            if open_run(self.folder / name).state != "finished"
        }
        for run in self.runs.values():
            run.devices = 1  # the lanes take turns in this process, which torch lets lead one team alone
        turns = {name: self._turns(name, run) for name, run in self.runs.items()}
        try:
            while turns:
                for name in list(turns):
                    self._running = self.runs[name]
                    for event in turns[name]:
                        if event is None:
                            break
                        yield LaneEvent(name, event)
                    else:
                        del turns[name]
        finally:
            self._running = None
            for turn in turns.values():
                turn.close()  # type: ignore[attr-defined]  # they are generators: a lane that is left saves itself
        if self.state == "running":
            self.state = "finished"
            self.reason = f"all {len(self.file.lanes)} lanes are at step {self.file.step + self.file.steps}"

    def _turns(self, name: str, run: Run) -> Iterator[Event | None]:
        """Yield the events of a lane, and None at the end of each of its turns, which is a frame."""
        frames_due: int | None = None
        begun = False
        events = iter(run)
        try:
            for event in events:
                yield event
                self._heed(run)
                if isinstance(event, RunFinished):
                    if event.state != "finished":
                        self._end(event, name)
                    return
                watched = len(run.plan.watched) if run.plan is not None else 0
                if isinstance(event, StateChanged) and event.state == "running" and not begun:
                    begun, frames_due = True, watched
                    run.predict_now()
                elif isinstance(event, StepDone) and self._due(event.step):
                    frames_due = watched
                    if not self._validates(run, event.step):
                        run.predict_now()
                elif isinstance(event, WatchedDone) and frames_due is not None:
                    frames_due -= 1
                if frames_due == 0:
                    frames_due = None
                    yield None
        finally:
            events.close()  # type: ignore[attr-defined]

    def _due(self, step: int) -> bool:
        """Whether a frame is due after a step; the last one comes with the scores at the end."""
        done = step - self.file.step
        return done < self.file.steps and done % self.file.every == 0

    @staticmethod
    def _validates(run: Run, step: int) -> bool:
        """Whether an epoch ends after a step with a validation, which predicts the watched cases anyway."""
        plan, experiment = run.plan, run.experiment
        if plan is None:
            return False
        epoch, left = divmod(step, plan.steps_per_epoch)
        return left == 0 and (
            epoch % experiment.validation.every_epochs == 0 or epoch >= experiment.schedule.epochs
        )

    def _heed(self, run: Run) -> None:
        if self._stopping and run.accepts("stop"):
            run.stop()

    def _end(self, event: RunFinished, lane: str = "") -> None:
        """Take note of how a lane ended before its last step; the others stop, since nothing compares with it."""
        self._stopping = True
        if self.state != "failed":
            self.state = "failed" if event.state == "failed" else "stopped"
            what = f"{event.error} {event.remedy}".strip() if event.state == "failed" else event.reason
            self.reason = f"lane {lane}: {what}" if lane and event.state == "failed" else what


# ---- recorded


def is_race(folder: Path) -> bool:
    """Whether a folder holds a race."""
    return (folder / RACE).is_file()


def race_file(folder: Path) -> RaceFile:
    """Return what `race.json` says.

    Raises
    ------
    DataError
        When there is no race in the folder, or it is damaged.
    """
    found = read_run_file(folder, RACE, RaceFile) if folder.is_dir() else None
    if found is None:
        raise DataError(f"{folder} holds no race.", f"Choose a folder that contains {RACE}.")
    names = [*found.lanes]
    if names[:2] != [A, B] or any(Path(n).name != n or n.startswith(".") for n in names):
        raise DataError(f"{RACE} of {folder.name} is damaged: it names no lanes A and B.", "Copy it again.")
    if set(found.controls) != set(names[2:]) or found.every < 1:
        raise DataError(f"{RACE} of {folder.name} is damaged: its lanes do not fit.", "Copy it again.")
    return found


class RaceRecord:
    """What a race has written to its folder; it can be read while it is trained."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, race_file(folder)
        self.lanes: dict[str, RunRecord] = {
            name: open_run(folder / name)
            for name in self.file.lanes
            if (folder / name / EXPERIMENT).is_file()
        }
        if missing := [name for name in self.file.lanes if name not in self.lanes]:
            raise DataError(
                f"The lane {missing[0]} of {folder.name} is missing.", "Copy the whole folder again."
            )

    @property
    def controls(self) -> tuple[str, ...]:
        """Names of the controls."""
        return tuple(self.file.controls)

    @property
    def finished(self) -> bool:
        """Whether every lane has come to its end."""
        return all(record.state == "finished" for record in self.lanes.values())

    def frames(self, role: Role = "validation") -> dict[int, dict[str, HistoryFrame]]:
        """Return step -> lane -> frame of a watched case, for the steps at which every lane has one."""
        found = {
            name: {frame.step: frame for frame in record.watched(role)} for name, record in self.lanes.items()
        }
        shared = set.intersection(*(set(frames) for frames in found.values()))
        return {step: {name: frames[step] for name, frames in found.items()} for step in sorted(shared)}

    def dice(
        self, class_name: str, role: Role = "validation"
    ) -> dict[str, tuple[Sequence[int], Sequence[float]]]:
        """Return lane -> (steps, Dice of a class of the watched case), for curves."""
        curves: dict[str, tuple[Sequence[int], Sequence[float]]] = {}
        for name, record in self.lanes.items():
            points = {
                e.step: e.class_dice.get(class_name, math.nan)
                for e in events_of(record.events(), WatchedDone)
                if e.role == role
            }
            curves[name] = (sorted(points), [points[step] for step in sorted(points)])
        return curves


def open_race(folder: str | Path) -> RaceRecord:
    """Open the folder of a race.

    Raises
    ------
    DataError
        When there is no race in it, or it is damaged.
    """
    return RaceRecord(Path(folder))
