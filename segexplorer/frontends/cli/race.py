"""`segexplorer fork` and `segexplorer race`: train on from a step of a recorded run, with something changed."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, Progress

from segexplorer.core.errors import DataError, ExitCode, SpecError
from segexplorer.core.events import Event, Notice, StepDone
from segexplorer.frontends.cli.settings import parse_settings
from segexplorer.frontends.cli.terminal import RunDisplay, print_json, remark, remarks, results, whole
from segexplorer.frontends.cli.train import follow, interrupts
from segexplorer.study.race import REPETITION, Race, RacePlan, is_race, plan_race
from segexplorer.training.fork import ForkPoint, forked, locate, make_fork, new_folder, reached
from segexplorer.viewmodels.race import RaceView


def run_fork(
    run: Path,
    settings: Sequence[str],
    step: int | None,
    steps: int | None,
    output: Path | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Say what a fork costs, make it, and train it; return the `ExitCode` that says how it ended."""
    from segexplorer.training.run import Run

    point = locate(run, step)
    experiment = forked(point, parse_settings(settings))
    remark(point.sentence())
    if dry_run:
        if as_json:
            print_json(_point(point))
        return ExitCode.DONE
    path = output if output is not None else new_folder(run, "fork")
    _require_new(path)
    with RunDisplay(remarks()) as display, reached(point, path, display.show) as there:
        folder = make_fork(there, experiment, path, steps=steps, source=run.resolve().name)
    made = Run(folder)
    made.claim()
    return follow(made, as_json=as_json)


def _require_new(path: Path) -> None:
    """Refuse a folder that is in use, before anything is trained again for it."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise DataError(f"{path} already exists, and runs are never overwritten.", "Choose another folder.")


def _point(point: ForkPoint) -> dict[str, Any]:
    return {
        "step": point.step,
        "checkpoint": point.checkpoint,
        "checkpoint_step": point.checkpoint_step,
        "replay_steps": point.replay_steps,
        "replay_seconds": point.replay_seconds,
    }


def run_race(
    run: Path,
    settings: Sequence[str],
    step: int | None,
    steps: int,
    every: int | None,
    controls: int,
    output: Path | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Say what a race costs, train it, and say what differs; return the `ExitCode` that says how it ended."""
    if is_race(run):
        if settings or output is not None:
            raise SpecError(
                f"{run} is a race already, whose lanes are fixed.",
                "Name the run that it comes from to race anew.",
            )
        race = Race(run)
    else:
        plan = plan_race(
            run, parse_settings(settings), step=step, steps=steps, every=every, controls=controls
        )
        for sentence in plan.sentences():
            remark(sentence)
        if dry_run:
            if as_json:
                print_json(_plan(plan))
            return ExitCode.DONE
        race = Race(output if output is not None else new_folder(run, "race"), plan)
    _train(race)
    if race.state in ("failed", "stopped"):
        remark(f"The race {'failed in' if race.state == 'failed' else 'stopped:'} {race.reason}")
        if race.state == "stopped":
            remark(f"Go on with: segexplorer race {shlex.quote(str(race.folder))}")
        return ExitCode.FAILED if race.state == "failed" else ExitCode.INTERRUPTED
    _tell(RaceView(race.folder), as_json=as_json)
    return ExitCode.DONE


def _train(race: Race) -> None:
    """Iterate a race with a bar over the steps of all lanes; Ctrl-C stops it at the next step."""
    console = remarks()
    columns = (whole("{task.description}"), BarColumn(bar_width=None), whole("{task.fields[numbers]}"))
    total = race.file.steps * len(race.file.lanes)
    with (
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar,
        interrupts() as interrupted,
    ):
        task = bar.add_task("preparing", total=total, numbers="")
        reached_by: dict[str, int] = {}
        for told in race:
            if isinstance(told.event, StepDone):
                if told.lane != REPETITION:
                    reached_by[told.lane] = told.event.step - race.file.step
                numbers = f"step {told.event.step}, loss {told.event.loss:.4g}"
                bar.update(task, description=told.lane, completed=sum(reached_by.values()), numbers=numbers)
            elif isinstance(told.event, Notice):
                bar.console.print(_notice(told.lane, told.event), markup=False, soft_wrap=True)
            if interrupted:
                race.stop()


def _notice(lane: str, event: Event) -> str:
    assert isinstance(event, Notice)
    return f"{lane}: {event.message} {event.remedy}".rstrip()


def _plan(plan: RacePlan) -> dict[str, Any]:
    return {
        **_point(plan.point),
        "lanes": dict(plan.labels),
        "steps": plan.steps,
        "every": plan.every,
        "seconds": plan.seconds(),
    }


def _tell(view: RaceView, *, as_json: bool) -> None:
    """Print how the lanes differ at their last frame, class by class."""
    last = max(view.steps())
    if as_json:
        found = {}
        for name in view.class_names:
            difference = view.difference(name)
            found[name] = {
                "dice": view.curves(name).at(last),
                "only_a_ml": difference.only_a_ml,
                "only_b_ml": difference.only_b_ml,
                "coloured_ml": difference.coloured_ml,
                "apart_ml": {" and ".join(sorted(pair)): ml for pair, ml in difference.apart_ml.items()},
                "beyond_the_control": difference.beyond,
                "sentences": [view.curves(name).sentence(last), *difference.sentences()],
            }
        print_json({"folder": str(view.record.folder), "lanes": view.lanes, "step": last, "classes": found})
    else:
        out = results()
        for sentence in view.sentences():
            out.print(sentence, markup=False, soft_wrap=True)
    folder = shlex.quote(str(view.record.folder))
    remark(f"Race folder: {folder}. Compare all validation cases: segexplorer compare {folder}")
