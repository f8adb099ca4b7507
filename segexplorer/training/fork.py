"""Forks: another run that begins where a recorded one was at some step, with another loss or setting.

A fork has the weights, the optimiser's state and the position of the run that it comes from, so that it sees the
same batches; what is changed is a setting of its experiment. Its folder is a run folder like any other, and a copy
of the checkpoint makes it independent of the first. `fork.json` says where it comes from.

A run keeps few checkpoints. From any other step, the run is repeated from the checkpoint before it (or from its
beginning) up to that step, which gives the same weights: everything that is random depends on seed, epoch and step
alone. `ForkPoint` says what that costs before it is done.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from segexplorer.core.atomic_files import atomic_write, translate_disk_errors
from segexplorer.core.errors import DataError, SpecError, TrainingError, did_you_mean
from segexplorer.core.events import Count, Event, RunFinished, StepDone, ValidationDone
from segexplorer.core.spec import differences, get_value, live_parameters, replace_values
from segexplorer.core.untrusted_files import sha256_of, with_checksum
from segexplorer.training.checkpoint import AVERAGE, META, STATE, Checkpoint, open_checkpoint, verified_meta
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import DEFAULT_PARENT, RunFolder
from segexplorer.training.history import open_run
from segexplorer.training.identity import Identity
from segexplorer.training.progress import WORST, EpochSums, effective_at
from segexplorer.training.recorded import require_own
from segexplorer.training.run_files import (
    CHECKPOINTS,
    MAX_TENSORS,
    Name,
    RunFile,
    checkpoint_meta,
    checkpoint_names,
    read_provenance,
    read_run_file,
)
from segexplorer.training.step_columns import events_of, last_step

if TYPE_CHECKING:
    from segexplorer.training.run import Run

FORK = "fork.json"
SAME_LOSS = 1e-6
"""Relative difference up to which the loss of a repeated step is the same."""
FIXED = ("data", "split", "preprocessing", "network", "network_weights", "changes")
"""Sections that a fork shares with its run: its weights mean nothing without them."""


class ForkFile(RunFile):
    """`fork.json`: where a run begins that is a fork of another one.

    Attributes
    ----------
    source, step
        Name of the run folder it comes from, and the optimiser steps done there.
    ends_at
        The step at which it ends; None: it trains on as its experiment says.
    changed
        Settings that are other than in that run.
    scored
        Whether the validation cases are scored at its end.
    note
        How the weights that it begins with differ from the recorded ones; "" where they do not.
    """

    source: Name
    step: Count
    ends_at: Count | None = None
    changed: list[Name] = Field(default_factory=list)
    scored: bool = True
    note: Name = ""

    @property
    def badge(self) -> str:
        """What goes with every figure of the fork."""
        return f"forked at step {self.step}" + (f": {self.note}" if self.note else "")


def fork_of(folder: Path) -> ForkFile | None:
    """Return where a run comes from; None where it is no fork.

    Raises
    ------
    DataError
        When `fork.json` is damaged.
    """
    return read_run_file(folder, FORK, ForkFile)


# ---- from where


@dataclass(frozen=True)
class ForkPoint:
    """A step of a recorded run, and how to get there.

    Attributes
    ----------
    run
        The run folder.
    step
        Optimiser steps done.
    checkpoint
        Name of the nearest checkpoint up to that step; "" for the beginning of the run.
    checkpoint_step
        Steps done there.
    replay_seconds
        What the steps in between took when they were recorded, validations included.
    note
        Of a point that was reached by a repetition: how that differs from what was recorded; "" where it does not.
    """

    run: Path
    step: int
    checkpoint: str
    checkpoint_step: int
    replay_seconds: float
    note: str = ""

    @property
    def replay_steps(self) -> int:
        """Steps that have to be trained again first."""
        return self.step - self.checkpoint_step

    def sentence(self) -> str:
        """Say what it costs to begin here."""
        if not self.replay_steps:
            what = "There is a checkpoint of" if self.checkpoint else "The run begins with"
            return f"{what} step {self.step}: nothing has to be trained again."
        steps = "1 step has" if self.replay_steps == 1 else f"{self.replay_steps} steps have"
        took = f"which took {duration(self.replay_seconds)} when they were recorded"
        if not self.checkpoint:
            return (
                f"There is no checkpoint before step {self.step}: {steps} to be trained again first, {took}."
            )
        return (
            f"The nearest checkpoint before step {self.step} is that of step {self.checkpoint_step}: {steps} to be "
            f"trained again first, {took}."
        )


def duration(seconds: float) -> str:
    """Return a time as it is said: "8 s", "3 min", "2.1 h"."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def locate(run: Path, step: int | None = None) -> ForkPoint:
    """Return how to begin at a step of a run; by default at its newest checkpoint.

    Raises
    ------
    DataError
        When it is not a run folder, or its checkpoints are damaged.
    SpecError
        When the run has not got to that step, was trained by another program, or is a copy without checkpoints.
    """
    record = open_run(run)
    require_own(run)
    events = record.events()
    kept = [(name, int(checkpoint_meta(run / CHECKPOINTS, name)["step"])) for name in usable_checkpoints(run)]
    reached = max([last_step(events), *(at for _, at in kept)])
    wanted = max((at for _, at in kept), default=0) if step is None else step
    if not 0 <= wanted <= reached:
        raise SpecError(
            f"{run.name} has trained {reached} steps; there is no step {wanted} to fork from.",
            f"Choose a step from 0 to {reached}.",
        )
    name, at = max(((n, at) for n, at in kept if at <= wanted), key=lambda pair: pair[1], default=("", 0))
    timed: list[StepDone | ValidationDone] = [
        *events_of(events, StepDone),
        *events_of(events, ValidationDone),
    ]
    again = [e.seconds for e in timed if at < e.step <= wanted]
    return ForkPoint(run, wanted, name, at, math.fsum(again))


def usable_checkpoints(run: Path) -> list[str]:
    """Return the names of the checkpoints from which training can go on, in the order of their steps.

    A shared copy has none: `segexplorer share` leaves out what training needs.
    """
    root = run / CHECKPOINTS
    found = []
    for name in checkpoint_names(root):
        try:
            meta = checkpoint_meta(root, name)
        except (DataError, FileNotFoundError):  # damaged, or removed this moment by the run that still trains
            continue
        if meta.get("position") is not None and meta.get("identity") is not None and STATE in meta["sha256"]:
            found.append(name)
    return found


def new_folder(run: Path, noun: str, parent: Path | None = None) -> Path:
    """Return a folder that is not there yet, e.g. `./segexplorer-runs/20260131-101500-fork-of-liver`."""
    base = parent if parent is not None else Path.cwd() / DEFAULT_PARENT
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{noun}-of-{run.resolve().name}"
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(base / name for name in names if not (base / name).exists())


# ---- with what


def forked(point: ForkPoint, values: Mapping[str, Any]) -> Experiment:
    """Return the experiment of a fork: as it was in effect at that step, with other values of some settings.

    Live changes that the run made later are repeated, but for those of settings that the fork changes itself.

    Parameters
    ----------
    values
        Dotted path -> value, e.g. `{"loss.kind": "tversky"}`. Another `seed` draws other batches; the split
        stays.

    Raises
    ------
    SpecError
        When a setting does not exist, may not take the value, or belongs to the weights.
    """
    planned = open_run(point.run).experiment
    before = effective_at(planned, point.step)
    may_change = live_parameters(before)
    for path in values:
        if path.partition(".")[0] in FIXED and path not in may_change:
            get_value(before, path)
            raise SpecError(
                f"{path} cannot change in a fork, since the weights belong to it.",
                "Train a new run with it, from the beginning.",
            )
        if (section := path.partition(".")[0]) not in Experiment.model_fields:
            hint = did_you_mean(section, Experiment.model_fields)
            raise SpecError(f"An experiment has no setting {section!r}.", hint)
    later = tuple(
        change
        for change in planned.changes
        if change.step >= point.step and not any(_within(change.field, path) for path in values)
    )
    after = before.with_settings(values) if values else before
    if after.seed != before.seed:
        after = replace_values(after, {"split": _same_split(point.run, before)})
    changed = after.model_copy(update={"changes": later})
    effective_at(changed, 2**62)  # a later change that the fork's loss does not have is refused here
    return changed


def _within(field: str, path: str) -> bool:
    """Whether a change concerns what a path replaces; `loss.kind` replaces the whole loss."""
    whole = path.removesuffix(".kind")
    return field == path or field.startswith(f"{whole}.")


def _same_split(run: Path, experiment: Experiment) -> dict[str, Any]:
    """Return the split of a run by names, since another seed would draw another one."""
    roles = next((a.roles for a in reversed(read_provenance(run)) if a.roles), None)
    if roles is None:
        raise DataError(
            f"{run.name} does not say which cases it trained on.", "Fork it with the seed that it has."
        )
    names = {
        role: [c for c, r in roles.items() if r == role]
        for role in ("train", "validation", "test")
        if role != "validation" or not experiment.split.self_validation
    }
    return {**experiment.split.plain(), **names}


# ---- made


def make_fork(
    point: ForkPoint,
    experiment: Experiment,
    path: Path,
    *,
    steps: int | None = None,
    scored: bool = True,
    source: str = "",
) -> RunFolder:
    """Make the run folder of a fork; iterating its run then goes on from there.

    Parameters
    ----------
    point
        Where to begin; there must be a checkpoint (see `reached`).
    experiment
        From `forked`.
    steps
        How far it trains; None: to the end of its epochs.
    scored
        Whether the validation cases are scored after those steps.
    source
        Name of the run that it is a fork of, where that is not the folder of the checkpoint.

    Raises
    ------
    DataError
        When the folder exists and is not empty, or the checkpoint is damaged.
    """
    assert not point.replay_steps, "a run is repeated up to the step first"
    before = effective_at(open_run(point.run).experiment, point.step)
    changed = sorted(
        path for path in differences(before, experiment) if path.partition(".")[0] not in ("changes", "split")
    )
    file = ForkFile(
        source=source or point.run.resolve().name,
        step=point.step,
        ends_at=None if steps is None else point.step + steps,
        changed=changed,
        scored=scored,
        note=point.note,
    )
    folder = RunFolder.create(experiment, path)
    try:
        with folder.held():
            if point.checkpoint:
                _copy_checkpoint(point, before, experiment, folder)
            folder.write_text(FORK, json.dumps(with_checksum(file.model_dump()), indent=1))
    except BaseException:
        shutil.rmtree(folder.checkpoints, ignore_errors=True)
        folder.discard()
        raise
    return folder


def _copy_checkpoint(point: ForkPoint, before: Experiment, after: Experiment, folder: RunFolder) -> None:
    """Copy a checkpoint into a fork, what it says of experiment, loss and optimiser made the fork's own."""
    import torch

    root = point.run / CHECKPOINTS
    target = folder.checkpoints / f"step_{point.step}"
    aside = folder.checkpoints / f".{target.name}.{os.getpid()}.tmp"
    averaged = after.validation.average_weights > 0
    try:
        checkpoint = Checkpoint(root / point.checkpoint, verified_meta(root, point.checkpoint))
        with translate_disk_errors(target):
            aside.mkdir(parents=True)
            sums = dict(checkpoint.meta["sha256"])
            copied = [name for name in sums if name != STATE and (name != AVERAGE or averaged)]
            for name in copied:
                shutil.copyfile(checkpoint.folder / name, aside / name)
        state = checkpoint.load_state("cpu")
    except FileNotFoundError as error:
        raise DataError(
            f"{point.checkpoint} of {point.run.name} was removed meanwhile.",
            "Try again: that run still trains.",
        ) from error
    with (aside / STATE).open("wb") as written:
        torch.save(_state_for(state, before, after, averaged=averaged), written)
    meta = {
        **checkpoint.meta,
        "sha256": {**{name: sums[name] for name in copied}, STATE: sha256_of(aside / STATE, MAX_TENSORS)},
        "best": WORST,  # the best checkpoint of a fork is its own
        "unlogged": [],
        "identity": replace(Identity.of_meta(checkpoint.meta, point.run.name), planned=after).plain(),
        "experiment": effective_at(after, point.step).plain(),
    }
    if after.loss != before.loss:  # means over the epoch in hand are of the fork's own loss
        meta["sums"] = asdict(EpochSums())
    (aside / META).write_text(json.dumps(with_checksum(meta), indent=1), encoding="utf-8")
    with translate_disk_errors(target):
        aside.rename(target)
    atomic_write(folder.checkpoints / "last", f"{target.name}\n".encode())


def _state_for(
    state: Mapping[str, Any], before: Experiment, after: Experiment, *, averaged: bool
) -> dict[str, Any]:
    """Return the state of optimiser, loss and scaler with which a fork begins.

    What a loss has adapted or learned stays where its parameters alone changed, as after a live change; a loss of
    another kind begins as it was built. The optimiser keeps its moments of the network's weights, unless it is of
    another kind.
    """
    loss, kept = before.loss.build(), True
    loss.load_state_dict(state["loss"])
    try:
        loss.update(after.loss)
    except SpecError:
        loss, kept = after.loss.build(), False
    groups = state["optimiser"]["param_groups"]
    moments = state["optimiser"]["state"]
    network = groups[0]
    learned = groups[1:]
    if not kept:
        moments = {key: value for key, value in moments.items() if key in network["params"]}
        first = 1 + max(network["params"], default=-1)
        own = list(range(first, first + len(list(loss.parameters()))))
        learned = [{**network, "params": own}] if own else []
    if type(after.optimiser) is not type(before.optimiser):
        return {
            **state,
            "optimiser": None,
            "loss": loss.state_dict(),
            "averaged": state["averaged"] * averaged,
        }
    given = after.optimiser.hyperparameters()
    optimiser = {
        "state": moments,
        "param_groups": [
            {**network, **given},
            *({**group, **given, "weight_decay": 0.0} for group in learned),
        ],
    }
    return {
        **state,
        "optimiser": optimiser,
        "loss": loss.state_dict(),
        "averaged": state["averaged"] * averaged,
    }


# ---- from a step without a checkpoint


@contextmanager
def reached(
    point: ForkPoint, beside: Path, on_event: Callable[[Event], object] = lambda event: None
) -> Iterator[ForkPoint]:
    """Give a point at whose step there is a checkpoint, repeating the run up to it where there is none.

    Parameters
    ----------
    beside
        Where the fork will be; what is repeated is kept beside it for the duration.
    on_event
        Called with every event of the repetition.

    Raises
    ------
    TrainingError
        When the repetition failed or was stopped.
    """
    if not point.replay_steps:
        yield point
        return
    with translate_disk_errors(beside):
        beside.parent.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix=f".{beside.name}-", dir=beside.parent))
    try:
        run = repetition(point, place / "again")
        for event in run:
            on_event(event)
        yield repeated(point, run)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def repetition(point: ForkPoint, path: Path, *, window: bool = False) -> Run:
    """Return the run that repeats a recorded one from the nearest checkpoint up to a step.

    Iterate it to its end, then ask `repeated` for the point that is reached.
    """
    from segexplorer.training.run import Run

    start = replace(point, step=point.checkpoint_step)
    folder = make_fork(start, forked(start, {}), path, steps=point.replay_steps, scored=False)
    return Run(folder, window=window)


def repeated(point: ForkPoint, run: Run) -> ForkPoint:
    """Return the point that a finished repetition has reached.

    Raises
    ------
    TrainingError
        When it failed or was stopped.
    """
    events = open_run(run.folder).events()
    end = next(reversed(events_of(events, RunFinished)), None)
    if end is None or end.state != "finished":
        why = "it did not end" if end is None else (end.error or end.reason)
        raise TrainingError(
            f"{point.run.name} could not be repeated up to step {point.step}: {why.rstrip('.')}.",
            (end.remedy if end is not None else "") or "Fork it from a checkpoint.",
        )
    note = _inexact(point, events)
    name = open_checkpoint(run.folder / CHECKPOINTS, "last")[0].folder.name
    return ForkPoint(run.folder, point.step, name, point.step, 0.0, note)


def _inexact(point: ForkPoint, events: Sequence[Event]) -> str:
    """Say where repeated steps first have another loss than the recorded ones; "" where none has."""
    recorded = {e.step: e.loss for e in events_of(open_run(point.run).events(), StepDone)}
    for event in events_of(events, StepDone):
        if not _same(event.loss, recorded.get(event.step, event.loss)):
            return (
                f"the steps up to {point.step} were trained again, and from step {event.step} on not exactly as "
                "they were recorded"
            )
    return ""


def _same(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=SAME_LOSS) or (math.isnan(one) and math.isnan(other))
