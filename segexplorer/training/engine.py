"""The engine: a generator of events on plain torch, without threads of control, windows or opinions on display.

Every `yield` is a point where the run may pause, stop or change a setting. The position (epoch, index, step)
plus the learner's state decide everything that follows, so a resumed run repeats the uninterrupted one bit for
bit on the CPU under the same threads and precision.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from segexplorer.core.errors import TrainingError
from segexplorer.core.events import (
    CheckpointSaved,
    EpochDone,
    Event,
    Notice,
    ParameterApplied,
    Planned,
    RunFinished,
    StateChanged,
    StepDone,
    ValidationDone,
    WatchedDone,
)
from segexplorer.core.spec import get_value, replace_value
from segexplorer.core.types import EpochSummary, Role
from segexplorer.metrics import Confusion, summarise
from segexplorer.training.examiner import Examined, Examiner
from segexplorer.training.experiment import Change, Experiment
from segexplorer.training.snapshots import LatestSlots, PatchSnapshot, WatchedSnapshot

if TYPE_CHECKING:
    from segexplorer.data.batch import Batch
    from segexplorer.training.folder import RunFolder
    from segexplorer.training.learner import Learner, StepResult
    from segexplorer.training.loading import Loader
    from segexplorer.training.plan import Plan

CHECKPOINT_SECONDS = 30.0
PATCH_SECONDS = 0.5
EDITED = "edited while it ran"
EXTENSION = "schedule.epochs"
"""Field name under which an extension stands among an experiment's changes: the new number of epochs."""


@dataclass
class Position:
    """Where training is: epoch counted from 1, steps done in it, optimiser steps done in all."""

    epoch: int = 1
    index: int = 0
    step: int = 0


@dataclass
class EpochSums:
    """Sample-weighted sums of an epoch's losses and terms; plain numbers, kept in checkpoints."""

    samples: int = 0
    loss: float = 0.0
    values: dict[str, float] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)

    def add(self, loss: float, terms: dict[str, tuple[float, float]], samples: int) -> None:
        """Add a step."""
        self.samples += samples
        self.loss += loss * samples
        for name, (value, weight) in terms.items():
            self.values[name] = self.values.get(name, 0.0) + value * samples
            self.weights[name] = self.weights.get(name, 0.0) + weight * samples

    def mean_loss(self) -> float:
        """Return the mean loss."""
        return self.loss / max(self.samples, 1)

    def mean_terms(self) -> dict[str, tuple[float, float]]:
        """Return name -> (mean value, mean weight)."""
        n = max(self.samples, 1)
        return {k: (v / n, self.weights[k] / n) for k, v in self.values.items()}


class Engine:
    """Trains one experiment in one run folder.

    Parameters
    ----------
    planned
        The experiment with the changes to replay.
    folder
        Where checkpoints and the history go; a checkpoint found there is gone on from.
    watched, patch
        Slots for the snapshots of the watched cases and of the last patch.
    window
        Whether a viewer is open in this process.
    attempt
        Number of this attempt, for provenance and history.
    """

    def __init__(
        self,
        planned: Experiment,
        folder: RunFolder,
        *,
        watched: LatestSlots[WatchedSnapshot],
        patch: LatestSlots[PatchSnapshot],
        window: bool,
        attempt: int,
    ) -> None:
        self.planned, self.folder, self.attempt = planned, folder, attempt
        self.window = window
        self.watched_slots, self.patch_slots = watched, patch
        self._checkpoint, self._trouble = folder.last_checkpoint()
        self.position = Position()
        self.sums = EpochSums()
        self.best = -1.0
        if self._checkpoint is not None:
            meta = self._checkpoint.meta
            self.position, self.sums = Position(**meta["position"]), EpochSums(**meta["sums"])
            self.best = meta["best"]
        self.experiment = _effective(planned, self.position.step)
        self.epochs = _epochs(planned, self.position.step)
        self._pending = deque(c for c in planned.changes if c.step >= self.position.step)
        self.ready = False
        self.plan: Plan | None = None
        self._saved_at = self._patch_shown_at = self._watched_at = 0.0

    @property
    def badges(self) -> tuple[str, ...]:
        """Short labels that go with every figure: the plan's, and that settings were changed on the way."""
        own = self.plan.badges if self.plan is not None else ()
        return (*own, EDITED) if self.planned.changes else own

    # ---- the whole attempt

    def run(self) -> Generator[Event, None, None]:
        """Prepare and train; the last event is a `RunFinished` whose reason says why it ended by itself."""
        yield StateChanged(state="preparing", activity="reading the cases")
        if self._trouble:
            yield Notice(message=self._trouble)
        yield from self._prepare()
        yield StateChanged(state="running")
        with self.learner.runtime.active():
            yield from self._train()
        yield RunFinished(state="finished", reason=f"all {self.epochs} epochs are done")

    def _prepare(self) -> Generator[Event, None, None]:
        from segexplorer.data.sampler import Sampler
        from segexplorer.training.learner import Learner
        from segexplorer.training.loading import Loader
        from segexplorer.training.plan import resolve

        plan = resolve(self.experiment, window=self.window)
        self.plan = plan
        yield Planned(
            steps=plan.steps,
            epochs=self.epochs,
            steps_per_epoch=plan.steps_per_epoch,
            summary=plan.summary(),
            warnings=plan.warning_sentences(),
            badges=self.badges,
            classes=plan.class_names,
        )
        yield StateChanged(state="preparing", activity="building the network")
        store = plan.open_store(self.folder.path / "cache")
        self.learner: Learner = Learner(
            self.experiment,
            plan.runtime,
            channels=plan.channels,
            classes=len(plan.class_names) + 1,
            steps=plan.steps,
        )
        if self._checkpoint is not None:
            self._checkpoint.load_weights(self.learner.network)
            if self.learner.average is not None:
                self._checkpoint.load_weights(self.learner.average.module, average=True)
            self.learner.load(self._checkpoint.load_state(plan.runtime.device))
        elif (report := self.learner.load_pretrained()) is not None:
            yield Notice(message=report.sentence())
        sampler = Sampler(
            store, plan.ids("train"), plan.sampling, self.experiment.augmentation, self.experiment.seed
        )
        on_gpu = plan.runtime.device.startswith("cuda")
        self.loader: Loader = Loader(sampler, workers=4 if on_gpu else 1, ahead=8 if on_gpu else 2)
        self.examiner = Examiner(plan, store, self.learner)
        self.folder.write_provenance(self.attempt, plan.provenance())
        self._saved_at = self._watched_at = time.monotonic()
        self.ready = True

    def _train(self) -> Generator[Event, None, None]:
        assert self.plan is not None
        while True:
            if self.position.index == self.plan.steps_per_epoch:
                yield from self._end_epoch()
                continue
            yield from self._take_over_changes()
            if self.position.epoch > self.epochs:
                return
            yield self._step()
            yield from self._between_steps()

    # ---- one step

    def _step(self) -> StepDone:
        begun = time.perf_counter()
        position = self.position
        batch = self.loader.batch(position.epoch, position.index)
        with memory_errors_told():
            result = self.learner.step(batch, position.step, position.epoch)
        samples = len(batch.cases)
        self.sums.add(result.loss, result.terms, samples)
        position.index += 1
        position.step += 1
        self._show_patch(batch, result)
        return StepDone(
            epoch=position.epoch,
            loss=result.loss,
            terms=result.terms,
            learning_rate=result.learning_rate,
            gradient_norm=result.gradient_norm,
            seconds=time.perf_counter() - begun,
            samples=samples,
            cases=tuple(batch.cases),
            memory_bytes=self.learner.runtime.memory_in_use(),
        )

    def _show_patch(self, batch: Batch, result: StepResult) -> None:
        """Put the first patch's region maps into the slot, at most twice a second."""
        from segexplorer.losses import region_reports

        now = time.monotonic()
        if not result.output.maps or now - self._patch_shown_at < PATCH_SECONDS:
            return
        self._patch_shown_at = now
        assert self.plan is not None
        snapshot = PatchSnapshot(
            case=batch.cases[0],
            step=self.position.step,
            origin=tuple(int(v) for v in batch.origins[0]),
            shape=tuple(batch.images.shape[2:]),
            affine=self.examiner.store.get(batch.cases[0]).affine,
            regions=self.learner.layout.lift(region_reports(result.output)[0]),
            class_names=self.plan.class_names,
        )
        self.patch_slots.put("patch", snapshot)

    def _between_steps(self) -> Generator[Event, None, None]:
        """Save and show by the clock."""
        now = time.monotonic()
        every = self.experiment.validation.watch_every_seconds
        if every is not None and now - self._watched_at >= every:
            yield from self.watch()
        if now - self._saved_at >= CHECKPOINT_SECONDS:
            yield self._save(best=False)

    # ---- the end of an epoch

    def _end_epoch(self) -> Generator[Event, None, None]:
        position, sums = self.position, self.sums
        last = position.epoch >= self.epochs
        done: ValidationDone | None = None
        dice: dict[int, float] = {}
        if last or position.epoch % self.experiment.validation.every_epochs == 0:
            done, dice = yield from self._validate()
            yield done
        summary = EpochSummary(
            position.epoch, self.epochs, {k: v for k, (v, _) in sums.mean_terms().items()}, dice
        )
        rate = self.learner.learning_rate(position.step - 1)
        self.learner.loss.epoch_end(summary)
        self.experiment.schedule.epoch_end(
            self.learner.schedule_state, done.mean_dice if done is not None else None
        )
        ended = EpochDone(
            epoch=position.epoch,
            epochs=self.epochs,
            loss=sums.mean_loss(),
            terms=sums.mean_terms(),
            adaptive=self.learner.loss.adaptive(),
            learning_rate=rate,
        )
        position.epoch, position.index = position.epoch + 1, 0
        self.sums = EpochSums()
        yield ended
        best = done is not None and done.best
        if best and done is not None:
            self.best = done.mean_dice
        if best or last or time.monotonic() - self._saved_at >= CHECKPOINT_SECONDS:
            yield self._save(best=best)

    def _validate(self) -> Generator[Event, None, tuple[ValidationDone, dict[int, float]]]:
        assert self.plan is not None
        begun = time.perf_counter()
        cases = self.plan.ids("validation")
        examined: list[Examined] = []
        confusion = Confusion(len(self.plan.class_names) + 1)
        for number, case in enumerate(cases, start=1):
            watched = case == self.plan.watched.get("validation")
            activity = f"validating case {number} of {len(cases)}"
            result = yield from self._examine(
                case, "validation", watched=watched, activity=activity, confusion=confusion
            )
            examined.append(result)
        shown = self.plan.watched.get("train")
        if shown is not None:
            yield from self._examine(shown, "train", watched=True, activity="predicting the watched case")
        self._watched_at = time.monotonic()
        scores = tuple(s for e in examined for s in e.scores)
        summary = summarise(scores)
        finite = [e.loss for e in examined if np.isfinite(e.loss)]
        mean_dice = summary.mean["dice"]
        event = ValidationDone(
            epoch=self.position.epoch,
            loss=float(np.mean(finite)) if finite else float("nan"),
            scores=scores,
            mean_dice=mean_dice,
            class_dice=summary.class_dice,
            n_used=summary.n_used,
            n_absent=summary.n_absent,
            n_missed=summary.n_missed,
            best=bool(mean_dice > self.best),
            seconds=time.perf_counter() - begun,
            badge="; ".join(self.badges),
        )
        return event, confusion.class_dice() if cases else {}

    # ---- watched cases

    def watch(self) -> Generator[Event, None, None]:
        """Predict the watched cases now."""
        assert self.plan is not None
        for role, case in self.plan.watched.items():
            yield from self._examine(case, role, watched=True, activity="predicting the watched cases")
        self._watched_at = time.monotonic()

    def watch_slab(self, role: Role, axis: int, world: float) -> Generator[Event, None, None]:
        """Predict the slab of a watched case around the plane that a viewer shows."""
        snapshot = yield from self.examiner.examine_slab(role, axis, world, step=self.position.step)
        if snapshot is None:
            yield from self.watch()
        else:
            self.watched_slots.put(role, snapshot)
            yield WatchedDone(case=snapshot.case, role=role, index=snapshot.index)

    def _examine(
        self, case: str, role: Role, *, watched: bool, activity: str, confusion: Confusion | None = None
    ) -> Generator[Event, None, Examined]:
        index = self.folder.next_frame(role) if watched else None
        with memory_errors_told():
            result = yield from self.examiner.examine(
                case,
                role,
                step=self.position.step,
                epoch=self.position.epoch,
                index=index,
                activity=activity,
                confusion=confusion,
            )
        if result.snapshot is not None and index is not None:
            self.folder.write_frame(result.snapshot, self.attempt)
            self.watched_slots.put(role, result.snapshot)
            yield WatchedDone(case=case, role=role, index=index)
        return result

    # ---- live changes

    def change(self, path: str, value: Any) -> None:
        """Ask for a live change before the next step; it is written down at once, for resumes and replays.

        Raises
        ------
        SpecError
            When the setting does not exist or may not take the value.
        """
        ahead = self.experiment
        for pending in self._pending:
            if pending.step == self.position.step and pending.field != EXTENSION:
                ahead = replace_value(ahead, pending.field, pending.value)
        applied = get_value(replace_value(ahead, path, value), path)
        self._record(Change(step=self.position.step, field=path, value=applied))

    def extend(self, epochs: int) -> None:
        """Train `epochs` more, at the schedule's floor."""
        self.epochs += epochs
        self._record(Change(step=self.position.step, field=EXTENSION, value=self.epochs))

    def _record(self, change: Change) -> None:
        first_later = sum(c.step <= change.step for c in self._pending)
        self._pending.insert(first_later, change)
        self.planned = self.planned.model_copy(update={"changes": (*self.planned.changes, change)})
        self.folder.save_experiment(self.planned)

    def _take_over_changes(self) -> Generator[Event, None, None]:
        """Right before a step: put the changes asked for at this step into effect, live or replayed alike."""
        while self._pending and self._pending[0].step <= self.position.step:
            change = self._pending.popleft()
            if change.field == EXTENSION:
                self.epochs = max(self.epochs, int(change.value or 0))
                continue
            previous = get_value(self.experiment, change.field)
            self.experiment = replace_value(self.experiment, change.field, change.value)
            self.learner.apply(self.experiment)
            yield ParameterApplied(field=change.field, value=change.value, previous=previous)

    # ---- saving

    def save_at_stop(self) -> Generator[Event, None, None]:
        """Save `last` where training stands; nothing to save before the network is built."""
        if self.ready:
            yield self._save(best=False)

    def _save(self, *, best: bool) -> CheckpointSaved:
        from segexplorer.training.checkpoint import save_checkpoint

        assert self.plan is not None
        saved = save_checkpoint(
            self.folder.checkpoints,
            network=self.learner.network,
            average=self.learner.average.module if self.learner.average is not None else None,
            state=self.learner.state(),
            meta={
                "step": self.position.step,
                "position": asdict(self.position),
                "sums": asdict(self.sums),
                "best": self.best,
                "experiment": self.experiment.plain(),
                **self.plan.for_prediction(),
            },
            best=best,
        )
        self._saved_at = time.monotonic()
        return CheckpointSaved(folder=saved.name, pointers=("last", "best") if best else ("last",))

    def close(self) -> None:
        """End the loader's threads; safe to call at any time."""
        if self.ready:
            self.loader.close()


def _effective(planned: Experiment, step: int) -> Experiment:
    """Return the experiment with every change in effect that was applied before `step`."""
    effective = planned.model_copy(update={"changes": ()})
    for change in planned.changes:
        if change.step < step and change.field != EXTENSION:
            effective = replace_value(effective, change.field, change.value)
    return effective


def _epochs(planned: Experiment, step: int) -> int:
    """Return how many epochs there are to be, extensions made up to `step` included."""
    extended = [int(c.value or 0) for c in planned.changes if c.field == EXTENSION and c.step <= step]
    return max([planned.schedule.epochs, *extended])


class memory_errors_told:
    """Turns "out of memory", on the GPU or the CPU, into a sentence with three remedies."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is not None and _is_out_of_memory(error):
            raise TrainingError(
                "There is not enough memory for this step.",
                "Use smaller patches (sampling.patch_size), fewer per batch (sampling.batch_size), "
                "or a smaller network (fewer features); the last checkpoint is kept.",
            ) from error


def _is_out_of_memory(error: BaseException) -> bool:
    text = str(error)
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in text
        or "not enough memory" in text
        or "CUDA out of memory" in text
    )
