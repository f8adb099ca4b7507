"""The engine: a generator of events on plain torch, without threads of control, windows or opinions on display.

Every `yield` is a point where the run may pause, stop or change a setting. The position (epoch, index, step)
plus the learner's state decide everything that follows, so a resumed run repeats the uninterrupted one bit for
bit on the CPU under the same threads and precision.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from segexplorer.core.errors import DataError, SegExplorerError
from segexplorer.core.events import (
    CheckpointSaved,
    EpochDone,
    EpochSummary,
    Event,
    Notice,
    Planned,
    Role,
    RunFinished,
    StateChanged,
    StepDone,
    ValidationDone,
    from_json,
    to_json,
)
from segexplorer.data.seen_images import CASES, SeenImages, look_at_training
from segexplorer.data.transforms import FittedPreprocessing
from segexplorer.training.compute import translate_memory_errors
from segexplorer.training.evaluator import Evaluator, Validator, merit
from segexplorer.training.experiment import Experiment
from segexplorer.training.flight_recorder import FlightRecorder, StepError, flight_step
from segexplorer.training.fork import fork_of
from segexplorer.training.identity import Comparison, Identity, compare, settle
from segexplorer.training.progress import WORST, EpochSums, LiveChanges, Patience, Position
from segexplorer.training.recorded import require_own
from segexplorer.training.run_files import COPY_AGAIN, require_keys
from segexplorer.training.schedules import ScheduleState
from segexplorer.training.snapshots import LatestValues, PatchSnapshot, WatchedSnapshot
from segexplorer.training.step_columns import events_of, until
from segexplorer.training.trained_patch import TrainedPatch, nbytes_of, too_large, trained_patch

if TYPE_CHECKING:
    from segexplorer.data.sampler import Batch, Loader
    from segexplorer.training.checkpoint import Checkpoint, Keep
    from segexplorer.training.folder import RunFolder
    from segexplorer.training.learner import Learner, StepResult
    from segexplorer.training.plan import Plan
    from segexplorer.training.team import Team

CHECKPOINT_SECONDS = 30.0
PATCH_SECONDS = 0.5


class Engine:
    """Trains one experiment in one run folder.

    Parameters
    ----------
    planned
        The experiment with the changes to replay.
    folder
        Where checkpoints and the history go; training resumes from a checkpoint found there.
    watched, patch
        Slots for the snapshots of the watched cases and of the regions of the last patch.
    trained, asked
        Slot for the last patch as its loss saw it, or a sentence why it is not kept; and whether the next step is
        to fill it.
    window
        Whether a viewer is open in this process.
    attempt
        Number of this attempt, for provenance and history.
    team
        The processes that share each step, of which this one is the leader; None: this one alone.
    """

    def __init__(
        self,
        planned: Experiment,
        folder: RunFolder,
        *,
        watched: LatestValues[WatchedSnapshot],
        patch: LatestValues[PatchSnapshot],
        trained: LatestValues[TrainedPatch | str],
        asked: threading.Event,
        window: bool,
        attempt: int,
        team: Team | None = None,
    ) -> None:
        self.folder, self.attempt, self.window, self.team = folder, attempt, window, team
        self.watched_slots, self.patch_slots = watched, patch
        self.trained_slots, self.patch_asked = trained, asked
        require_own(folder.path)
        self._fork = fork_of(folder.path)
        self._checkpoint, self._trouble = folder.last_checkpoint()
        self.position = Position()
        self.sums = EpochSums()
        self.best = WORST
        self.patience, self._total = Patience(), planned.schedule.epochs
        self.announced: tuple[str, ...] = ()
        self._before, self._settings = Identity(), Comparison(())
        self._unlogged: list[Event] = []
        self._due: deque[Event] = deque()
        if self._checkpoint is not None:
            meta = self._checkpoint.meta
            if "position" not in meta:  # `segexplorer share` leaves it out, and the optimiser's state
                raise DataError(
                    f"{folder.path.name} is a shared copy: it predicts, but cannot be trained further.",
                    "Go on with the run itself, where it was trained.",
                )
            require_keys(meta, ("sums", "best"), self._checkpoint.folder.name)
            try:
                self.position, self.sums = Position(**meta["position"]), EpochSums(**meta["sums"])
            except TypeError as error:
                raise DataError("meta.json of the checkpoint is damaged.", COPY_AGAIN) from error
            self.best = meta["best"]
            planned = self._same_run(planned, meta)
        self.changes = LiveChanges(planned, folder, self.position.step)
        self.ready = False
        self.plan: Plan | None = None
        self._saved_position = replace(self.position) if self._checkpoint is not None else None
        self._saved_at = self._patch_shown_at = 0.0
        self._validated_at = -1
        self._looks: SeenImages | None = None

    @property
    def experiment(self) -> Experiment:
        """The experiment as the next step uses it."""
        return self.changes.effective

    @property
    def epochs(self) -> int:
        """Total number of epochs, extensions included."""
        return self.changes.epochs

    @property
    def badges(self) -> tuple[str, ...]:
        """Short labels that go with every figure: the plan's, and whether settings were changed during training."""
        own = self.plan.badges if self.plan is not None else ()
        forked = (self._fork.badge,) if self._fork is not None else ()
        return (*own, *forked, *self.changes.badges, *self.announced)

    @property
    def ends_at(self) -> int | None:
        """The step at which a lane of a race ends, whatever its epochs; None for other runs."""
        return None if self._fork is None else self._fork.ends_at

    def _same_run(self, planned: Experiment, meta: Mapping[str, Any]) -> Experiment:
        """Return the experiment to go on with, after a comparison of its settings with the checkpoint's.

        Raises
        ------
        DataError
            When the checkpoint does not say what it was made of.
        SpecError
            When a setting was changed that makes it another run.
        """
        name = self.folder.path.name
        self._before = Identity.of_meta(meta, name)
        if self._before.planned is None:
            raise DataError(
                f"The checkpoint of {name} was saved by an older version of segexplorer, which "
                "did not record what it was made of.",
                "Go on with that version, or train the experiment again.",
            )
        require_keys(meta, ("patience", "total", "pieces", "unlogged", "announced"), name)
        try:
            self.patience, self._total = Patience(**meta["patience"]), int(meta["total"])
            self.announced = tuple(map(str, meta["announced"]))
            self._unlogged = [from_json(line) for line in meta["unlogged"]]
            self._pieces = [(int(first), int(length)) for first, length in meta["pieces"]]
        except (TypeError, ValueError) as error:
            raise DataError("meta.json of the checkpoint is damaged.", COPY_AGAIN) from error
        self._settings = compare(self._before, Identity(planned=planned), step=self.position.step)
        self._settings.require()
        return settle(self._before.planned, planned, self._settings.findings)

    # ---- the whole attempt

    def run(self) -> Generator[Event, None, None]:
        """Prepare and train; the last event is a `RunFinished` whose reason says why it ended by itself."""
        for event in self._attempt():
            yield event
            if self.team is not None:
                self.team.require_all()

    def _attempt(self) -> Generator[Event, None, None]:
        yield StateChanged(state="preparing", activity="reading the cases")
        if self._trouble:
            yield Notice(message=self._trouble)
        yield from self._prepare()
        yield StateChanged(state="running")
        with self.learner.runtime.active():
            yield from self._train()
        if self.ends_at is not None:
            yield RunFinished(state="finished", reason=f"step {self.ends_at} is done, where this fork ends")
            return
        done = "its epoch is done" if self.epochs == 1 else f"all {self.epochs} epochs are done"
        if self.position.epoch <= self.epochs:
            done = f"{self.patience.reason(self.experiment.validation.early_stopping)} (early stopping)"
        yield RunFinished(state="finished", reason=done)

    def _prepare(self) -> Generator[Event, None, None]:
        from segexplorer.data.sampler import Sampler
        from segexplorer.losses.base import partitions_in
        from segexplorer.training.followers import Leader, loader_of
        from segexplorer.training.learner import Learner
        from segexplorer.training.plan import planning
        from segexplorer.training.weights import require_weights

        if self._checkpoint is None:
            require_weights(self.experiment.network_weights)
        devices = self.team.size if self.team is not None else 1
        # what a resumed run was trained on is compared with files that are read now, whatever their times say
        again = self._checkpoint is not None
        plan = yield from planning(self.experiment, window=self.window, devices=devices, hash_again=again)
        if self.team is not None:
            plan = replace(plan, runtime=self.team.runtime(plan.runtime, self.experiment.compute))
        self.identity = Identity.of_plan(plan, self.changes.planned)
        if self._checkpoint is not None:
            plan = yield from self._go_on_with(plan, self._checkpoint)
        self.plan = plan
        yield Planned(
            steps=self.epochs * plan.steps_per_epoch if self.ends_at is None else self.ends_at,
            epochs=self.epochs,
            steps_per_epoch=plan.steps_per_epoch,
            summary=plan.summary(self.epochs),
            warnings=plan.warning_sentences(),
            badges=self.badges,
            classes=plan.class_names,
        )
        yield StateChanged(state="preparing", activity="building the network")
        processes = self.team.local_size if self.team is not None else 1
        store = plan.open_store(processes=processes)
        self.learner: Learner = Learner(
            self.experiment,
            plan.runtime,
            channels=plan.channels,
            classes=len(plan.class_names) + 1,
            scheme=plan.classes.scheme,
            steps=plan.steps,
            team=self.team,
        )
        if self._checkpoint is not None:
            self._checkpoint.load_weights(self.learner.network)
            if self.learner.average is not None:
                self._checkpoint.load_weights(self.learner.average.module, average=True)
            self.learner.load(self._checkpoint.load_state(plan.runtime.device))
            self.learner.pieces = self._pieces
        elif self.experiment.network_weights.path:
            yield from self._begin_with_weights()
        sampler = Sampler(
            store,
            plan.ids("train"),
            plan.sampling,
            self.experiment.augmentation,
            self.experiment.seed,
            partitions_in(self.experiment.loss),
            share=self.team.share if self.team is not None else (0, 1),
        )
        if plan.runtime.compile:
            yield from self._compile(plan)
        self.loader: Loader = loader_of(sampler, plan.runtime)
        earlier = self.folder.earlier_events(self.attempt) if self._checkpoint is not None else []
        self.flight = FlightRecorder(
            self.folder,
            self.attempt,
            self.experiment.monitoring.flight_recorder_mb,
            events_of(until(earlier, lambda _: self.position.step), StepDone),
        )
        self._exploded = ""
        self.evaluator = Evaluator(plan, store, self.learner)
        self.validator = Validator(self.evaluator, self.folder, self.watched_slots, self.attempt)
        self.folder.write_provenance(self.attempt, plan.provenance())
        if self.team is not None:
            self.leader: Leader | None = Leader(self.team, plan, self.experiment, self.learner)
        else:
            self.leader = None
        self._saved_at = time.monotonic()
        self.ready = True

    def _compile(self, plan: Plan) -> Generator[Event, None, None]:
        """Compile the network for the patches of this run, or say why it is used as it is."""
        if plan.patch is None:
            yield Notice(message="The network is not compiled: whole volumes have many sizes.")
            return
        yield StateChanged(state="preparing", activity="compiling the network")
        trouble = self.learner.compile((plan.sampling.batch_size, plan.channels, *plan.patch))
        if trouble:
            yield Notice(message=trouble, remedy="Set compute.compile to false to start without trying.")

    def _go_on_with(self, plan: Plan, checkpoint: Checkpoint) -> Generator[Event, None, Plan]:
        """Compare the plan with what the checkpoint was made of; return it with the checkpoint's own statistics.

        Raises
        ------
        SpecError
            When the data, or what the settings mean here, make it another run.
        """
        found = compare(self._before, replace(self.identity, planned=None), step=self.position.step)
        found.require()
        self.announced = tuple(dict.fromkeys((*self.announced, *found.badges)))
        for finding in found.of("announced"):
            yield Notice(message=finding.sentence)
        live = {f.field: f.now for f in self._settings.of("live")}
        if live:
            self.changes.ask(live, self.position.step)
            yield Notice(
                message=f"Changed since it was saved, and in effect from here on: {', '.join(live)}."
            )
        for finding in self._settings.of("extended"):
            if finding.now > self.epochs:
                self.changes.extend(finding.now, self.position.step)
        fitted = FittedPreprocessing.of(checkpoint.meta["preprocessing"])
        return plan if fitted.plain() == plan.fitted.plain() else replace(plan, fitted=fitted)

    def _begin_with_weights(self) -> Generator[Event, None, None]:
        """Take over pre-trained weights; those of a run of this program say what they mean.

        Raises
        ------
        SpecError
            When the outputs of the network belong to the same classes in another order.
        """
        from segexplorer.training.weights import source_run

        source = source_run(self.experiment.network_weights)
        if source is not None:
            found = compare(
                Identity.of_meta(source.meta, source.folder.name), self.identity, purpose="weights"
            )
            found.require()
            for finding in found.of("announced"):
                yield Notice(message=finding.sentence)
        report = self.learner.load_pretrained()
        assert report is not None
        yield Notice(message=report.sentence())

    def _train(self) -> Generator[Event, None, None]:
        assert self.plan is not None
        yield from self._yield_unlogged()
        while True:
            if self.position.index == self.plan.steps_per_epoch:
                yield from self._end_epoch()
                continue
            yield from self._take_over_changes()
            if self.ends_at is not None:
                if self.position.step >= self.ends_at:
                    yield from self._end_fork()
                    return
            elif self.position.epoch > self.epochs or self.stopped_early:
                return
            yield self._step()
            yield from self._between_steps()

    @property
    def stopped_early(self) -> bool:
        """Whether the validation has not improved for as long as `validation.early_stopping` waits."""
        return self.patience.is_over(self.experiment.validation.early_stopping)

    # ---- one step

    def _step(self) -> StepDone:
        begun = time.perf_counter()
        position = self.position
        if self.leader is not None:
            rate = self.learner.learning_rate(position.step)
            self.leader.step(position, self.experiment, rate=rate)
        batch = self.loader.batch(position.epoch, position.index)
        with translate_memory_errors(), self._together():
            every = self.experiment.monitoring.gradients_every
            measure = every > 0 and position.step % every == 0
            keep = self.patch_asked.is_set() and self._can_keep(batch)
            try:
                result = self.learner.step(batch, position.step, position.epoch, measure=measure, keep=keep)
            except StepError as error:
                self._keep_failure(error, batch)
                raise
        cases = batch.step_cases or batch.cases
        samples = len(cases)
        self.sums.add(result.loss, result.terms, samples)
        position.index += 1
        position.step += 1
        self._show_patch(batch, result)
        self._keep_patch(batch, result)
        done = StepDone(
            step=position.step,
            epoch=position.epoch,
            loss=result.loss,
            terms=result.terms,
            learning_rate=result.learning_rate,
            gradient_norm=result.gradient_norm,
            seconds=time.perf_counter() - begun,
            samples=samples,
            cases=tuple(cases),
            memory_bytes=self.learner.runtime.memory_in_use(),
            term_gradients=result.term_gradients,
            references=result.references,
        )
        self.flight.megabytes = self.experiment.monitoring.flight_recorder_mb
        self._exploded = self.flight.add(flight_step(done), batch)
        return done

    def _together(self) -> AbstractContextManager[None]:
        return self.team.together() if self.team is not None else nullcontext()

    def _keep_failure(self, error: StepError, batch: Batch) -> None:
        """Have the flight recorder written; where that fails, the failure of the step is still what is told."""
        try:
            self.flight.fail(error.reason, error.message, error.facts, batch)
        except SegExplorerError as trouble:
            error.message += f" The flight recorder could not be written: {trouble.message}"

    def _show_patch(self, batch: Batch, result: StepResult) -> None:
        """Put the first patch's region maps into the slot, at most twice a second."""
        from segexplorer.functional.regions import BatchRegions
        from segexplorer.losses import region_reports

        now = time.monotonic()
        if not result.output.maps or now - self._patch_shown_at < PATCH_SECONDS:
            return
        self._patch_shown_at = now
        assert self.plan is not None
        prepared = self.evaluator.store.get(batch.cases[0])
        origin, size = batch.origins[0], np.asarray(batch.images.shape[2:])
        report = region_reports(result.output)[0]
        regions = next(iter(result.output.maps.values())).regions
        if isinstance(regions, BatchRegions):
            # over the anatomy: what was mirrored or turned for training is drawn at its own place in the volume
            volume = regions.samples[0].volume
            first = np.maximum(origin, 0)
            origin, size = first, np.minimum(origin + size, volume.shape) - first
            report = report.placed(volume.patch(origin.tolist(), size.tolist()))
        else:
            report = self.learner.layout.lift(report)
        snapshot = PatchSnapshot(
            case=batch.cases[0],
            step=self.position.step,
            origin=tuple(int(v) for v in origin),
            shape=tuple(int(n) for n in size),
            affine=prepared.affine,
            case_shape=prepared.grid.shape,
            case_affine=prepared.grid.affine,
            regions=replace(report, scope=f"this patch, step {self.position.step}"),
            class_names=self.plan.class_names,
        )
        self.patch_slots.put("patch", snapshot)

    def _can_keep(self, batch: Batch) -> bool:
        """Whether the step that was asked for may be kept; if not, say why."""
        samples = self.experiment.sampling.batch_size
        problem = too_large(
            nbytes_of(batch, self.learner.classes, samples), self.experiment.monitoring.patch_mb
        )
        if problem:
            self.patch_asked.clear()
            self.trained_slots.put("patch", problem)
        return not problem

    def _keep_patch(self, batch: Batch, result: StepResult) -> None:
        """Put the step into the slot, as its loss saw it, where it was asked for."""
        if result.seen is None:
            return
        assert self.plan is not None
        self.patch_asked.clear()
        kept = trained_patch(
            batch,
            result.seen,
            step=self.position.step,
            loss=self.experiment.loss,
            affine=self.evaluator.store.open(batch.cases[0]).affine,
            class_names=self.plan.class_names,
            scheme=self.plan.classes.scheme,
            layout=self.learner.layout,
        )
        self.trained_slots.put("patch", kept)

    def _between_steps(self) -> Generator[Event, None, None]:
        """Report what was found in newly prepared cases; save and predict at intervals of time."""
        yield from self._notes()
        if self._exploded:
            message, self._exploded = self._exploded, ""
            yield Notice(message=message, remedy="segexplorer doctor says whether it did harm.")
        now = time.monotonic()
        every = self.experiment.validation.watch_every_seconds
        if every is not None and now - self.validator.watched_at >= every:
            yield from self.watch()
        if now - self._saved_at >= CHECKPOINT_SECONDS:
            yield self._save(best=False)

    def _notes(self) -> Generator[Event, None, None]:
        """Report what a user should know about the cases prepared since the last call."""
        for note in self.evaluator.store.take_notes():
            yield Notice(message=note)

    # ---- the end of an epoch

    def _end_epoch(self) -> Generator[Event, None, None]:
        position, sums = self.position, self.sums
        last = position.epoch >= self.epochs
        done: ValidationDone | None = None
        dice: dict[int, float] = {}
        if last or position.epoch % self.experiment.validation.every_epochs == 0:
            self._validated_at = position.step
            done, dice = yield from self.validator.validate(position, best=self.best, badges=self.badges)
            yield from self._notes()
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
        keep = self._keep(ended.epoch)
        best = done is not None and done.best
        if done is not None:
            self.best = merit(done.criterion, done.mean_dice, done.loss) if best else self.best
            self.patience.take(done, self.experiment.validation.early_stopping)
        self._due.extend([ended] if done is None else [done, ended])
        # saved before anybody hears of it: whoever leaves at the news of a new best has it
        last = last or self.stopped_early
        if best or last or keep or time.monotonic() - self._saved_at >= CHECKPOINT_SECONDS:
            self._due.append(self._save(best=best, keep=keep))
        yield from self._tell()

    def _end_fork(self) -> Generator[Event, None, None]:
        """Score the validation cases where a fork ends, unless an epoch ended just here, and save."""
        step = self.position.step
        scored = self._validated_at == step or any(
            e.step == step for e in events_of(self.folder.earlier_events(self.attempt), ValidationDone)
        )
        assert self._fork is not None
        if not scored and self._fork.scored:
            done, _ = yield from self.validator.validate(self.position, best=self.best, badges=self.badges)
            self.best = merit(done.criterion, done.mean_dice, done.loss) if done.best else self.best
            self._due.append(done)
            self._due.append(self._save(best=done.best))
        elif self._saved_position != self.position:
            self._due.append(self._save(best=False))
        yield from self._tell()

    def _tell(self) -> Generator[Event, None, None]:
        """Yield what has happened and is not in the log yet."""
        while self._due:
            yield self._due.popleft()

    def _yield_unlogged(self) -> Generator[Event, None, None]:
        """Yield the end of an epoch that was saved with the checkpoint, where a kill came before it was logged."""
        if self._unlogged:
            earlier = self.folder.earlier_events(self.attempt)
            logged = {(type(e), e.step) for e in events_of(earlier, *{type(e) for e in self._unlogged})}
            self._due.extend(e for e in self._unlogged if (type(e), self.position.step) not in logged)
            yield from self._tell()

    # ---- what others ask for between two events

    def watch(self) -> Generator[Event, None, None]:
        """Predict the watched cases now."""
        yield from self.validator.watch(self.position)

    def watch_slab(self, role: Role, axis: int, world: float) -> Generator[Event, None, None]:
        """Predict the slab of a watched case around the plane that a viewer shows."""
        yield from self.validator.watch_slab(role, axis, world, self.position)

    def change(self, values: Mapping[str, Any]) -> None:
        """Ask for live changes before the next step, as one.

        Raises
        ------
        SpecError
            When a setting does not exist, or may not take the value.
        """
        self.changes.ask(values, self.position.step)

    def extend(self, epochs: int) -> None:
        """Train `epochs` more: after the planned end, or after the present one where training stopped early."""
        base = self.position.epoch - 1 if self.stopped_early else self.epochs
        self.changes.extend(base + epochs, self.position.step)

    def _take_over_changes(self) -> Generator[Event, None, None]:
        for applied in self.changes.due(self.position.step):
            self.learner.apply(self.experiment)
            yield applied
        self._take_over_extension()

    def _take_over_extension(self) -> None:
        """Let an extension that is due begin: patience anew, and where the schedule says so, its course anew."""
        assert self.plan is not None
        step, per_epoch, pieces = self.position.step, self.plan.steps_per_epoch, self.learner.pieces
        if self.epochs != self._total:
            start = step if self.stopped_early else max(step, self._total * per_epoch)
            self._total = self.epochs
            self.patience = Patience(best=self.patience.best)
            length = self._total * per_epoch - start
            if self.experiment.schedule.extension == "fresh" and length > 0:
                pieces[:] = [*(p for p in pieces if p[0] < start), (start, length)]
        if len(pieces) > 1 and step == pieces[-1][0]:
            self.learner.schedule_state = ScheduleState()

    # ---- saving

    def save_at_stop(self) -> Generator[Event, None, None]:
        """Tell what is due and save the present state as `last`; before the network is built there is nothing."""
        yield from self._tell()
        if self.ready and self._saved_position != self.position:
            yield self._save(best=False)

    def _keep(self, epoch: int) -> Keep | None:
        """Whether the checkpoint after an epoch is kept for forks."""
        from segexplorer.training.checkpoint import Keep

        settings = self.experiment.checkpoints
        if settings.keep_every == 0 or epoch % settings.keep_every:
            return None
        return Keep(epoch // settings.keep_every, settings.keep_mb)

    def _save(self, *, best: bool, keep: Keep | None = None) -> CheckpointSaved:
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
                "patience": asdict(self.patience),
                "total": self._total,
                "pieces": self.learner.pieces,
                "unlogged": [to_json(event) for event in self._due],
                "announced": list(self.announced),
                "identity": replace(self.identity, planned=self.changes.planned).plain(),
                "experiment": self.experiment.plain(),
                **self.plan.for_prediction(),
                "seen": self._seen(),
            },
            best=best,
            keep=keep,
            mark=lease.holder.token if (lease := self.folder.lease) is not None else "",
            check=self.folder.require_ownership,
        )
        self._saved_at, self._saved_position = time.monotonic(), replace(self.position)
        return CheckpointSaved(folder=saved.name, pointers=("last", "best") if best else ("last",))

    def _seen(self) -> dict[str, Any] | None:
        """Return what the training images look like, looked at once in an attempt."""
        if self._looks is None:
            assert self.plan is not None
            store = self.evaluator.store
            self._looks = look_at_training(store.get(case) for case in self.plan.ids("train")[:CASES])
        return None if self._looks is None else self._looks.plain()

    def close(self) -> None:
        """End the loader's threads and give back what was shared; safe to call at any time."""
        if self.ready:
            self.loader.close()
            self.evaluator.store.close()
