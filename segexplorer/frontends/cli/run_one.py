"""`segexplorer run-one STUDY NAME`: train one run of a study, as every scheduler's worker does."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from segexplorer.core.errors import DataError, ExitCode, RunHeldError, SegExplorerError
from segexplorer.core.events import Event, Planned, RunFinished, StepDone, ValidationDone
from segexplorer.frontends.cli.terminal import remark
from segexplorer.frontends.cli.train import follow
from segexplorer.session import Session
from segexplorer.study.plan import PlannedRun
from segexplorer.study.schedule import OwnTry, Schedule
from segexplorer.training.history import open_run
from segexplorer.training.ownership import holder_of, last_beat

if TYPE_CHECKING:
    from segexplorer.training.run import Run

WATCH_SECONDS = 2.0
"""How often a lease of another computer is looked at while it is not known whether its process is alive."""


def run_one(study: Path, name: str, *, launch: str = "", with_parent: bool = False) -> int:
    """Train one run of a study to its end; return its `ExitCode`.

    A run that is finished is not trained again. One that another process trains is left to it: exit code 0 where a
    launch asks, else 75, so that a script tries again later. Where that process is on another computer, and may
    have died with it, its next sign of life is waited for; without one, the run is taken over and goes on.

    Parameters
    ----------
    launch
        Token of the launch on whose behalf it is.
    with_parent
        End, and save the run, when standard input ends.
    """
    if with_parent:
        _end_with_parent()
    schedule = Schedule(study)
    if (refused := schedule.refusal(name, launch)) is not None:
        code, why = refused
        remark(why)
        return code
    planned = schedule.run(name)
    try:
        run, made = _claim_patiently(planned)
    except Exception as error:
        begun = schedule.begin(name, launch)
        begun.close(getattr(error, "exit_code", ExitCode.FAILED), error=error)
        raise
    if run is None:
        if planned.now().todo == "done":
            remark(f"{name} is finished.")
            return ExitCode.DONE
        remark(f"{name} is left to {open_run(planned.folder).holder}.")
        return ExitCode.DONE if launch else ExitCode.PREEMPTED
    run.devices = schedule.devices(planned.point.experiment, launch)
    return train_claimed(run, made, schedule, name, launch)


def train_claimed(run: Run, made: bool, schedule: Schedule, name: str, launch: str = "") -> int:
    """Train a run that this process has claimed, and take down the try; return its `ExitCode`.

    A folder in which nothing was even planned is given back where this process has `made` it.
    """
    begun = schedule.begin(name, launch)
    begun.progress(step=run.record.saved_step())
    listener = _Listener(begun)
    run.events.connect(listener)
    try:
        code = follow(run)
    except SystemExit as end:
        begun.close(end.code if isinstance(end.code, int) else ExitCode.FAILED)
        raise
    except KeyboardInterrupt:
        begun.close(ExitCode.INTERRUPTED)
        raise
    except Exception as error:
        begun.close(getattr(error, "exit_code", ExitCode.FAILED), error=error)
        raise
    if code == ExitCode.MISTAKE and made and run.plan is None:
        run.record.discard()
    return code


class _Listener:
    """Takes down how far a run is; and how it ended, while its folder still belongs to this process."""

    def __init__(self, begun: OwnTry) -> None:
        self._begun = begun

    def __call__(self, event: Event) -> None:
        try:
            self._take_down(event)
        except SegExplorerError as error:  # a full disk ends the run by the run's own files
            remark(f"The progress of the run cannot be written: {error}")

    def _take_down(self, event: Event) -> None:
        match event:
            case Planned():
                self._begun.progress(steps=event.steps, epochs=event.epochs)
            case StepDone():
                self._begun.progress(step=event.step, epoch=event.epoch)
            case ValidationDone() if event.best:
                self._begun.progress(best=event.mean_dice)
            case RunFinished():
                self._begun.progress(step=event.step)
                self._begun.close(event.exit_code, event)


def claim(planned: PlannedRun) -> tuple[Run | None, bool]:
    """Return the run, its folder taken for this process, and whether that was made; None where nothing is to do."""
    session, now = Session(), planned.now()
    if now.todo in ("held", "failed", "done"):
        return None, False
    made = now.todo == "new"
    try:
        run = session.prepare(planned.point.experiment, now.folder) if made else session.resume(now.folder)
        run.claim()
    except RunHeldError:
        return None, False
    except DataError:
        if made and planned.now().todo != "new":  # another process was quicker
            return None, False
        raise
    if open_run(now.folder).state == "finished":  # between the two looks
        run.record.release()
        return None, False
    return run, made


def _claim_patiently(planned: PlannedRun) -> tuple[Run | None, bool]:
    """Claim a run; wait where it belongs to a process of another computer that may have died."""
    first: float | None = None
    told = False
    while True:
        run, made = claim(planned)
        if run is not None:
            return run, made
        while (holder := holder_of(planned.folder)) is not None:
            beat = last_beat(planned.folder)
            first = beat if first is None else first
            if holder.is_alive() is not None or beat != first:
                return None, False
            if not told:
                told = True
                remark(f"{planned.folder.name} is waited for, in case that {holder} has died.")
            time.sleep(WATCH_SECONDS)
        if planned.now().todo not in ("new", "resume"):
            return None, False


def _end_with_parent() -> None:
    """Act as if preempted when standard input ends: whoever started this process has died."""

    def watch() -> None:
        # not through sys.stdin, whose lock a thread must not hold while the interpreter ends
        while os.read(0, 4096):
            pass
        signal.raise_signal(signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()
