"""`segexplorer train`: iterate a run, show it, stop it on Ctrl-C, and say how it ended."""

from __future__ import annotations

import math
import shlex
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from segexplorer.core.errors import ExitCode, SpecError
from segexplorer.core.events import Event, RunFinished, StateChanged, ValidationDone
from segexplorer.frontends.cli.devices import SharedTraining, shared_training
from segexplorer.frontends.cli.settings import parse_settings
from segexplorer.frontends.cli.terminal import RunDisplay, print_json, remark, remarks
from segexplorer.training.step_columns import events_of

if TYPE_CHECKING:
    from rich.console import Console

    from segexplorer.metrics import Interval
    from segexplorer.training.run import Run


def run_train(
    config: Path | None,
    settings: list[str],
    output: Path | None,
    resume: Path | None,
    extend: int,
    *,
    devices: int | None = None,
    as_json: bool,
) -> int:
    """Train or resume; return the `ExitCode` that says how it ended.

    Parameters
    ----------
    devices
        How many share each step; None: as `compute.devices` says, or as many as torchrun has started.
    """
    with shared_training(devices) as among:
        return _train(config, parse_settings(settings), output, resume, extend, among, as_json=as_json)


def _train(
    config: Path | None,
    values: dict[str, Any],
    output: Path | None,
    resume: Path | None,
    extend: int,
    among: SharedTraining,
    *,
    as_json: bool,
) -> int:
    if resume is None:
        if extend:
            raise SpecError("--extend goes with --resume.", "For a new run set schedule.epochs.")
        run = _prepare(config, values, output)
        among.share(run)
        code = among.code = follow(run, as_json=as_json)
        if code == ExitCode.MISTAKE and run.plan is None:
            # nothing was planned, let alone trained: the corrected command may have the folder
            run.record.discard()
        return code
    if config is not None or output is not None:
        raise SpecError(
            "--resume goes on with the experiment and in the folder of the run.",
            "Leave the experiment file and --output away; --set changes what may change while a run goes on.",
        )
    from segexplorer.training.history import open_run

    earlier = open_run(resume).events()
    if not extend and (end := _finished(earlier)) is not None:
        return _tell_finished(resume, end, earlier, values, as_json=as_json)
    run = _resume(resume, values, extend)
    among.share(run)
    among.code = follow(run, as_json=as_json, earlier=earlier)
    return among.code


def _prepare(config: Path | None, values: dict[str, Any], output: Path | None) -> Run:
    from segexplorer.session import Session
    from segexplorer.training.experiment import Experiment

    if config is None:
        raise SpecError(
            "train needs an experiment file, or --resume RUN.",
            "segexplorer init FOLDER proposes one, and segexplorer configs lists those that are shipped.",
        )
    run = Session().prepare(Experiment.from_yaml(config, values, on_note=remark), output)
    run.claim()
    return run


def _resume(folder: Path, values: dict[str, Any], extend: int) -> Run:
    from segexplorer.session import Session

    run = Session().resume(folder)
    if values:
        run.set_values(values)
    if extend:
        run.extend(extend)
    run.claim()
    return run


def _finished(earlier: Sequence[Event]) -> RunFinished | None:
    """Return how a run ended, if its last attempt came to the end of its epochs."""
    last = next(reversed(events_of(earlier, RunFinished, StateChanged)), None)
    return last if isinstance(last, RunFinished) and last.state == "finished" else None


def _tell_finished(
    folder: Path, end: RunFinished, earlier: Sequence[Event], values: dict[str, Any], *, as_json: bool
) -> int:
    """Say of a finished run what is there and how to train it longer; nothing is done again.

    Raises
    ------
    SpecError
        When settings were to be changed: no step would use them.
    """
    longer = f"segexplorer train --resume {shlex.quote(str(folder))} --extend 5"
    if values:
        names = ", ".join(values)
        raise SpecError(f"{folder} is finished, so no step would use {names}.", f"Train longer: {longer}")
    best = best_of(earlier)
    if as_json:
        print_json(_summary(folder, end, best))
    out = remarks()
    out.print(f"{folder} is finished: {end.reason} ({end.step} steps).", markup=False, soft_wrap=True)
    tell_best(out, best)
    out.print(f"To train it longer: {longer}", markup=False, soft_wrap=True)
    return ExitCode.DONE


def best_of(events: Sequence[Event]) -> ValidationDone | None:
    """Return the best validation, as the run itself judged it; the first where none is marked."""
    done = events_of(events, ValidationDone)
    return next((e for e in reversed(done) if e.best), done[0] if done else None)


def follow(run: Run, *, as_json: bool = False, earlier: Sequence[Event] = ()) -> int:
    """Iterate a run to its end, showing it on stderr; with `as_json` a summary goes to stdout.

    `earlier` are the events of a resumed run's attempts before; its best checkpoint may be among them.
    """
    best = best_of(earlier)
    end: RunFinished | None = None
    with RunDisplay(remarks()) as display, interrupts() as interrupted:
        asked = False
        for event in run:
            display.show(event)
            if isinstance(event, ValidationDone) and (event.best or best is None):
                best = event
            if isinstance(event, RunFinished):
                end = event
            if interrupted and not asked and run.accepts("stop"):
                asked = True
                display.say("Stopping at the next step and saving; press Ctrl-C again to quit at once.")
                run.stop(preempted=interrupted[0] == signal.SIGTERM)
    assert end is not None, "a run ends with RunFinished"
    if as_json:
        print_json(_summary(run.folder, end, best))
    return _tell_end(run, end, best)


@contextmanager
def interrupts() -> Iterator[list[int]]:
    """Collect the first Ctrl-C, and every termination signal; a second Ctrl-C acts as it always does.

    Schedulers often send SIGTERM to the job and to each of its steps, so that it arrives twice within a moment; the
    second must not end the program while the state is being saved.
    """
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def receive(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(signal.SIGINT, before[signal.SIGINT])

    for number in before:
        signal.signal(number, receive)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _summary(folder: Path, end: RunFinished, best: ValidationDone | None) -> dict[str, Any]:
    summary: dict[str, Any] = {
        "folder": str(folder),
        "state": end.state,
        "reason": end.reason,
        "step": end.step,
    }
    if end.error:
        summary |= {"error": end.error, "remedy": end.remedy}
    if best is not None:
        summary["best"] = {
            "epoch": best.epoch,
            "step": best.step,
            "criterion": best.criterion,
            "mean_dice": best.mean_dice,
            "class_dice": dict(best.class_dice),
            "n_used": best.n_used,
            "n_absent": best.n_absent,
            "n_missed": best.n_missed,
            "badge": best.badge,
        }
        if math.isfinite(best.loss):
            summary["best"]["loss"] = best.loss
        interval = _interval(best)
        if interval is not None and math.isfinite(interval.low):
            summary["best"]["interval_95"] = [interval.low, interval.high]
    return summary


def _interval(best: ValidationDone) -> Interval | None:
    """Return the mean over cases with its interval, which few cases have not; None without any."""
    from segexplorer.metrics import bootstrap_interval, case_means

    means = list(case_means(best.scores).values())
    return bootstrap_interval(means) if means else None


def _spread(best: ValidationDone) -> str:
    """Return the interval of the mean over cases, or the range of a few cases; nothing for one case."""
    from segexplorer.metrics import case_means

    interval = _interval(best)
    if interval is None or interval.n < 2:
        return ""
    if math.isfinite(interval.low):
        what, low, high = "95 % bootstrap interval", interval.low, interval.high
    else:
        means = case_means(best.scores).values()
        what, low, high = "range", min(means), max(means)
    return f" ({what} over {interval.n} cases {low:.3f} to {high:.3f})"


def _tell_end(run: Run, end: RunFinished, best: ValidationDone | None) -> int:
    out = remarks()
    tell_best(out, best)
    folder = shlex.quote(str(run.folder))  # a command to copy, blanks included
    if run.plan is not None:
        out.print(f"Run folder: {run.folder}", markup=False, soft_wrap=True)
    if end.state == "finished":
        out.print(f"Next: segexplorer predict {folder} IMAGE -o OUT", markup=False, soft_wrap=True)
        return ExitCode.DONE
    if end.state == "stopped":
        preempted = end.exit_code == ExitCode.PREEMPTED
        what = "Preempted; the state is saved" if preempted else "Stopped"
        out.print(f"{what}. Go on with: segexplorer train --resume {folder}", markup=False, soft_wrap=True)
        return ExitCode.PREEMPTED if preempted else ExitCode.INTERRUPTED
    out.print(f"segexplorer: {end.error or end.reason} {end.remedy}".rstrip(), markup=False, soft_wrap=True)
    if end.defect:
        out.print(end.cause, markup=False, soft_wrap=True)  # a bug of ours keeps its traceback
    return end.exit_code or ExitCode.FAILED


def tell_best(out: Console, best: ValidationDone | None) -> None:
    """Print the best validation in a line; nothing where there is none."""
    if best is None:
        return
    badge = f" ({best.badge})" if best.badge else ""
    dice = f"mean foreground Dice {best.mean_dice:.3f}{_spread(best)}"
    after = f"after epoch {best.epoch}{badge}"
    chosen = f"Lowest validation loss {best.loss:.4g} {after}: {dice}." if best.criterion == "loss" else ""
    out.print(
        chosen or f"Best {dice} {after}.",
        markup=False,
        soft_wrap=True,
    )
