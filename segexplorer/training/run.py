"""A run: a named state machine and a mailbox around the engine; no thread of its own.

```
idle -> preparing -> running <-> paused          finished | stopped | failed -> preparing   (extend, resume)
any of the first four -> stopping -> stopped     running -> finished      any -> failed
```

Every event that the engine yields is a point where pause, step, stop and live edits take effect. The command
line iterates a run; Python may iterate it or call `start`; napari iterates it inside its own worker.
"""

from __future__ import annotations

import dataclasses
import threading
import time
import traceback
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from psygnal import Signal

from segexplorer.core.errors import (
    ExitCode,
    RunStateError,
    SegExplorerError,
    SpecError,
    disk_error,
    shorten,
)
from segexplorer.core.events import (
    Event,
    Notice,
    Role,
    RunFinished,
    RunState,
    StateChanged,
    StepDone,
    WatchedDone,
)
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.progress import LiveChanges
from segexplorer.training.sinks.base import Attempt, OpenSinks
from segexplorer.training.snapshots import LatestValues, PatchSnapshot, WatchedSnapshot
from segexplorer.training.step_columns import until

if TYPE_CHECKING:
    from segexplorer.data.case import Case
    from segexplorer.training.engine import Engine
    from segexplorer.training.plan import Plan
    from segexplorer.training.team import Team
    from segexplorer.training.trained_patch import TrainedPatch

E = TypeVar("E", bound=Event)
Command = Literal["start", "pause", "unpause", "step", "stop", "set", "extend", "predict_now", "show_patch"]

ACCEPTED: dict[RunState, frozenset[Command]] = {
    "idle": frozenset({"start", "set", "extend"}),
    "preparing": frozenset({"pause", "stop", "set", "show_patch"}),
    "running": frozenset({"pause", "step", "stop", "set", "extend", "predict_now", "show_patch"}),
    "paused": frozenset({"unpause", "step", "stop", "set", "extend", "predict_now", "show_patch"}),
    "stopping": frozenset(),
    "stopped": frozenset({"start", "extend", "set"}),
    "finished": frozenset({"extend", "set"}),
    "failed": frozenset({"start", "set"}),
}


@dataclass(frozen=True)
class SliceView:
    """The plane that a viewer shows: of which watched case, across which RAS axis (0, 1, 2), at which mm."""

    role: Role
    axis: int
    world: float


@dataclass(frozen=True)
class _Request:
    command: Command
    argument: Any = None


class StopRequested(BaseException):
    """Raised where the request is read, between two events of the engine; not an error."""

    def __init__(self, *, preempted: bool) -> None:
        super().__init__()
        self.preempted = preempted

    def end(self) -> RunFinished:
        """Return the end of the run that was asked to stop."""
        reason = "stopped to make room (SIGTERM)" if self.preempted else "stopped by the user"
        code = ExitCode.PREEMPTED if self.preempted else ExitCode.INTERRUPTED
        return RunFinished(state="stopped", reason=reason, exit_code=code)


class Run:
    """One training run in one folder.

    Parameters
    ----------
    folder
        The run's own folder, made by `RunFolder.create(experiment)` or opened by `RunFolder.open`; a run that
        has a checkpoint there resumes from it.
    window
        Whether a viewer is open in this process (leaves it one CPU core).

    Attributes
    ----------
    devices
        How many devices share each step, in place of `compute.devices`; None: as many as that says. Their processes
        are started and ended by each attempt.
    team
        The processes that share each step, of which this one is the leader. Those that others have started, as
        torchrun does, are to be set before the run is iterated.

    Notes
    -----
    `events` is emitted on the thread that iterates. Iterating never raises: the last event is `RunFinished`,
    and it carries the error of a failed run. A finished or stopped run can be iterated again: after `extend` it
    trains longer, after `stop` it resumes exactly.
    """

    events = Signal(Event)

    def __init__(self, folder: RunFolder, *, window: bool = False) -> None:
        self.planned = folder.experiment()
        self.record = folder
        self.window = window
        self.devices: int | None = None
        self.team: Team | None = None
        self.state: RunState = "idle"
        self.watched: LatestValues[WatchedSnapshot] = LatestValues()
        self.patch: LatestValues[PatchSnapshot] = LatestValues()
        self.trained: LatestValues[TrainedPatch | str] = LatestValues()
        self._patch_asked = threading.Event()
        self._requests: deque[_Request] = deque()
        self._arrived = threading.Condition()
        self._steps_left: int | None = None
        self._view: SliceView | None = None
        self._engine: Engine | None = None
        self._sinks = OpenSinks()
        self._unheard: list[Event] = []
        self._left_out = folder.notices()
        self._before_pause: RunState = "running"
        self._attempt, self._seq, self._step = folder.attempts(), 0, folder.saved_step()
        self._iterating = threading.Lock()
        self._saves_when_left = True
        self._end = RunFinished(state="stopped", reason="")

    @property
    def folder(self) -> Path:
        """Where the run writes."""
        return self.record.path

    @property
    def experiment(self) -> Experiment:
        """The experiment as it is in effect now, live changes included."""
        return self._engine.experiment if self._engine is not None else self.planned

    @property
    def plan(self) -> Plan | None:
        """The resolved plan, once the run has prepared."""
        return self._engine.plan if self._engine is not None else None

    @property
    def badges(self) -> tuple[str, ...]:
        """Short labels that go with every figure, e.g. "training case, not held out"."""
        return self._engine.badges if self._engine is not None else ()

    def accepts(self, command: Command) -> bool:
        """Whether a command makes sense in the present state (for enabling buttons)."""
        return command in ACCEPTED[self.state]

    # ---- commands: from any thread; they take effect at the next boundary

    def pause(self) -> None:
        """Hold before the next step."""
        self._post("pause")

    def unpause(self) -> None:
        """Go on after a pause."""
        self._post("unpause")

    def step(self, view: SliceView | None = None) -> None:
        """Do one optimiser step and pause; then predict the slab of the plane that the viewer shows."""
        self._post("step", view)

    def stop(self, *, preempted: bool = False) -> None:
        """Finish the step in hand, save `last`, and end; nothing is validated first.

        `preempted` records that a scheduler wanted the machine rather than the user an end.
        """
        self._post("stop", preempted)

    def predict_now(self) -> None:
        """Predict the watched cases at the next boundary."""
        self._post("predict_now")

    def show_patch(self) -> None:
        """Have the next step keep what its loss saw: `trained.last("patch")`, for `segexplorer.explain`.

        It is kept once; every further one is asked for anew. Steps that nobody asks about keep nothing.
        """
        self._patch_asked.set()

    def extend(self, epochs: int) -> None:
        """Train longer, as `schedule.extension` says; a finished run continues when it is iterated again."""
        if epochs < 1:
            raise SpecError(f"A run can be extended by 1 epoch or more, not by {epochs}.")
        self._post("extend", epochs)

    def set(self, path: str, value: Any) -> None:
        """Change a live setting from the next step on; see `set_values` for several that depend on each other.

        Raises
        ------
        SpecError
            When the setting may not change during a run, or not to this value.
        """
        self.set_values({path: value})

    def set_values(self, values: Mapping[str, Any]) -> None:
        """Change several live settings (dotted path -> value) from the next step on, as one change.

        Raises
        ------
        SpecError
            When a setting may not change during a run, or the values do not go together, also with changes that
            were asked for and are not in effect yet.
        """
        with self._arrived:
            earlier = [r.argument for r in self._requests if r.command == "set"]
            changes = self._engine.changes if self._engine is not None else None
            if changes is None:
                changes = LiveChanges(self.planned, self.record, self._step)
            changes.check(values, self._step, earlier)
            self._post("set", dict(values))

    def _post(self, command: Command, argument: Any = None) -> None:
        if not self.accepts(command):
            raise RunStateError(f"A run that is {self.state} cannot {command.replace('_', ' ')}.")
        with self._arrived:
            self._requests.append(_Request(command, argument))
            self._arrived.notify_all()

    # ---- iteration

    def claim(self) -> None:
        """Take the run folder for this process now; iterating does it otherwise, and gives it back at its end.

        Raises
        ------
        RunHeldError
            When another process has it; the message says which one and since when.
        """
        self.record.hold()

    def start(self) -> threading.Thread:
        """Iterate in a new thread and return it; what happens is emitted by `events`."""
        thread = threading.Thread(target=self._drain, name=f"run {self.folder.name}", daemon=False)
        thread.start()
        return thread

    def _drain(self) -> None:
        for _ in self:
            pass

    def __iter__(self) -> Iterator[Event]:
        if not self._iterating.acquire(blocking=False):
            raise RunStateError("This run is being iterated already.", "Listen to run.events instead.")
        try:
            for event in self._attempt_events():
                self.events.emit(event)
                yield event
        finally:
            self._iterating.release()

    def _attempt_events(self) -> Iterator[Event]:
        """One attempt, for which the folder belongs to this process; where it cannot, only the reason follows."""
        try:
            self.record.hold()
            attempts = self.record.attempts()
            if attempts != self._attempt:  # others have trained it since this object was made
                self._attempt, self._step = attempts, self.record.saved_step()
        except Exception as error:  # noqa: BLE001  iterating a run never raises; the end says why
            self.record.release()
            self.state = "failed"
            self._requests.clear()
            yield self._stamped(_failure(error))  # and not written down: the folder is another's
            return
        try:
            yield from self._owned_events()
        finally:
            self.record.release()

    def _owned_events(self) -> Iterator[Event]:
        """One attempt from preparing to its end; every failure becomes the last event."""
        self._attempt += 1
        self._seq, self._steps_left, self._unheard = 0, None, []
        self._saves_when_left = True
        work = self._work()
        try:
            for event in work:
                yield self._recorded(event)
                yield from self._told_of_sinks()
            end = self._end
        except GeneratorExit:
            work.close()
            for event in self._unheard:
                self._recorded(event)
            self.state = "stopped"
            for _ in self._recorded_end(RunFinished(state="stopped", reason="the iteration was left")):
                pass
            raise
        except Exception as error:  # noqa: BLE001  iterating a run never raises; the end says why
            end, self._saves_when_left = _failure(error), False
        except BaseException:  # a second Ctrl-C
            self._sinks.close()
            raise
        finally:
            work.close()
            self.record.close()
        self.state = end.state
        self._requests.clear()
        yield from self._recorded_end(end)

    def _work(self) -> Generator[Event, None, None]:
        self.state = "preparing"
        yield StateChanged(state="preparing", activity="loading torch and MONAI")
        if (lease := self.record.lease) is not None and lease.notice:
            yield Notice(message=lease.notice)
        left_out, self._left_out = self._left_out, []
        yield from left_out
        of_others = self.team is not None
        try:
            if not of_others:
                yield from self._start_team()
            yield from self._work_together()
        finally:
            if not of_others and self.team is not None:
                self.team.end(ExitCode.DONE)
                self.team = None

    def _start_team(self) -> Generator[Event, None, None]:
        """Start the processes that share the steps of this attempt, where there are to be several."""
        experiment = self.record.experiment()
        count = experiment.compute.devices if self.devices is None else self.devices
        if count == 1:
            return
        from segexplorer.training.compute import (
            require_devices,
            require_divisible,
            require_torch_distributed,
        )

        require_torch_distributed()
        require_divisible(experiment.sampling.batch_size, count)
        require_devices(experiment.compute.device, count)
        yield StateChanged(state="preparing", activity=f"starting the processes of {count} devices")
        from segexplorer.training.team import launch

        self.team = launch(count, on_preempted=self._make_room, window=self.window)

    def _make_room(self) -> None:
        """Stop because a scheduler wants the machine, unless the run ends already."""
        with suppress(RunStateError):
            self.stop(preempted=True)

    def _work_together(self) -> Generator[Event, None, None]:
        from segexplorer.training.engine import Engine

        engine = self._engine = Engine(
            self.record.experiment(),
            self.record,
            watched=self.watched,
            patch=self.patch,
            trained=self.trained,
            asked=self._patch_asked,
            window=self.window,
            attempt=self._attempt,
            team=self.team,
        )
        self._open_sinks(engine)
        source = engine.run()
        try:
            yield from self._handle_commands(engine)
            for event in source:
                self._step = engine.position.step
                if isinstance(event, RunFinished):
                    self._end = event
                    return
                if isinstance(event, StateChanged):
                    self.state = event.state
                if isinstance(event, StepDone) and self._steps_left is not None:
                    self._steps_left -= 1
                yield event
                yield from self._handle_commands(engine)
        except StopRequested as request:
            self.state = "stopping"
            yield StateChanged(state="stopping", activity="saving the last checkpoint")
            yield from engine.save_at_stop()
            self._end = request.end()
        except GeneratorExit:  # `break` in a loop over the run: saved as by a stop, though nobody listens
            if self._saves_when_left:
                self._unheard = list(engine.save_at_stop())
            raise
        finally:
            source.close()
            engine.close()

    def _handle_commands(self, engine: Engine) -> Generator[Event, None, None]:
        """Carry out the request; while paused, wait here for more."""
        if self._steps_left == 0:
            self._steps_left = None
            yield from self._pause()
            if self._view is not None:
                view, self._view = self._view, None
                yield from engine.watch_slab(view.role, view.axis, view.world)
        while (request := self._next_request(wait=self.state == "paused")) is not None:
            yield from self._handle(request, engine)

    def _next_request(self, *, wait: bool) -> _Request | None:
        with self._arrived:
            while wait and not self._requests:
                self._arrived.wait(timeout=0.5)
                if (lease := self.record.lease) is not None:
                    lease.check_last_beat()
                if self.team is not None:
                    self.team.require_all()
            return self._requests.popleft() if self._requests else None

    def _handle(self, request: _Request, engine: Engine) -> Generator[Event, None, None]:
        match request.command:
            case "stop":
                raise StopRequested(preempted=bool(request.argument))
            case "pause":
                yield from self._pause()
            case "unpause":
                yield from self._unpause()
            case "step":
                self._steps_left, self._view = 1, request.argument
                yield from self._unpause()
            case "extend":
                engine.extend(request.argument)
                more = f"{request.argument} epoch{'' if request.argument == 1 else 's'}"
                yield Notice(message=f"Extended by {more}, to {engine.epochs}.")
            case "set":
                try:
                    engine.change(request.argument)
                except SpecError as error:  # another change came first; it was checked when it was asked for
                    yield Notice(message=f"Not changed: {error.message}", remedy=error.remedy)
            case "predict_now" if engine.ready:
                yield from engine.watch()

    def _pause(self) -> Generator[Event, None, None]:
        if self.state != "paused":
            self._before_pause, self.state = self.state, "paused"
            yield StateChanged(state="paused")

    def _unpause(self) -> Generator[Event, None, None]:
        if self.state == "paused":
            self.state = self._before_pause
            yield StateChanged(state=self.state)

    def _open_sinks(self, engine: Engine) -> None:
        """Open the experiment's sinks, now that it is known from which step this attempt resumes."""

        def case(name: str) -> Case:
            if engine.plan is None:
                raise RunStateError("The cases of a run are known after Planned, not before.")
            return engine.plan.refs[name].open()

        if not (specs := engine.experiment.sinks):
            return
        step = engine.position.step
        earlier = until(self.record.earlier_events(self._attempt), lambda _: step)
        self._sinks.open(specs, Attempt(self.folder, engine.experiment, self._attempt, step, earlier, case))

    def _stamped(self, event: E) -> E:
        """Return an event as the next of this attempt."""
        return dataclasses.replace(
            event, attempt=self._attempt, seq=self._seq + 1, step=self._step, time=time.time()
        )

    def _recorded(self, event: Event) -> Event:
        """Stamp an event, and write it down before anybody hears of it; sinks hear of it first."""
        stamped = self._stamped(event)
        self._seq += 1
        self.record.write(stamped)
        self._sinks.event(stamped)
        if isinstance(stamped, WatchedDone) and (snapshot := self.watched.last(stamped.role)) is not None:
            self._sinks.watched(snapshot)
        return stamped

    def _told_of_sinks(self) -> Iterator[Event]:
        """Tell of sinks that were switched off; telling it may switch off another."""
        while notices := self._sinks.take_notices():
            yield from map(self._recorded, notices)

    def _recorded_end(self, end: RunFinished) -> Iterator[Event]:
        """Tell the end even where it cannot be written down any more (a full disk).

        Sinks get it first, so that a problem while they close is reported before it.
        """
        stamped = self._stamped(end)
        try:
            try:
                self.record.require_ownership()
                self._sinks.event(stamped)
            finally:
                self._sinks.close()
            yield from self._told_of_sinks()
            stamped = self._stamped(end)
            self.record.write(stamped)
            self.record.close()
        except SegExplorerError as error:
            failed = end if end.state == "failed" else _failure(error)
            stamped = self._stamped(failed)
        self._seq += 1
        yield stamped


def _failure(error: Exception) -> RunFinished:
    """Return the end of a run that an error ended; what is neither the user's nor the machine's is a defect."""
    cause = "".join(traceback.format_exception(error))
    known = disk_error(error) if isinstance(error, OSError) else error
    if isinstance(known, SegExplorerError):
        return RunFinished(
            state="failed",
            reason="failed",
            error=known.message,
            remedy=known.remedy,
            cause=cause,
            exit_code=known.exit_code,
        )
    return RunFinished(
        state="failed",
        reason="failed",
        error=f"{type(error).__name__}: {shorten(str(error), 300)}",
        remedy="This is a defect of segexplorer; please report it with the cause below.",
        cause=cause,
        defect=True,
        exit_code=ExitCode.FAILED,
    )
