"""`segexplorer study`: train what a file's matrix holds, one run after the other, then compare."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from pathlib import Path

from rich.console import Console

from segexplorer.core.errors import DataError, ExitCode, RunHeldError, SegExplorerError
from segexplorer.frontends.cli.compare import allowances, print_groups
from segexplorer.frontends.cli.evaluate_split import score_with_progress
from segexplorer.frontends.cli.settings import parse_settings
from segexplorer.frontends.cli.terminal import print_json, remarks
from segexplorer.frontends.cli.train import follow
from segexplorer.session import Session
from segexplorer.study import Allowance, compare_groups
from segexplorer.study.plan import PlannedRun, StudyPlan, forecast, plan_study
from segexplorer.study.runs import ScoredSplit
from segexplorer.training.history import open_run
from segexplorer.training.run import Run
from segexplorer.training.scores import score_split_steps

_BY_GRAVITY = (ExitCode.MACHINE, ExitCode.FAILED, ExitCode.MISTAKE)
WORDS = {"new": "to train", "resume": "to go on with", "held": "in other processes", "done": "done"}


def run_study(
    config: Path,
    output: Path | None,
    settings: Sequence[str],
    *,
    dry_run: bool,
    as_json: bool,
    allow: Sequence[str] = (),
    split: ScoredSplit = "validation",
) -> int:
    """Train every experiment of a file that is not done yet; a failed one is reported and the others go on.

    Runs that other processes have claimed are left to them, so that a study started several times is shared.
    With `split` "test", test cases that a run never scored are scored once, and runs are compared on them.

    Returns
    -------
    `ExitCode`: that of the interruption where there was one, else the most serious one of a run that failed.
    """
    folder = output if output is not None else Path.cwd() / "segexplorer-runs" / config.stem
    allowed = allowances(allow)
    out = remarks()
    plan = plan_study(config, folder, parse_settings(list(settings)), keep=not dry_run)
    if dry_run:
        for run in plan.runs:
            out.print(f"{run.folder.name}: {WORDS[run.todo]}", markup=False, soft_wrap=True)
    _announce(plan, allowed, out)
    if dry_run:
        return 0
    plan.save()
    failed: dict[str, int] = {}
    left = [(number, run) for number, run in enumerate(plan.runs, start=1) if run.todo != "done"]
    before = len(left) + 1
    while len(left) < before:  # once more for those of others, who may have given back a run meanwhile
        before, left, visited = len(left), [], left
        for number, run in visited:
            code = _train(run, f"{number} of {len(plan.runs)}: {run.folder.name}", out)
            if code in (ExitCode.INTERRUPTED, ExitCode.PREEMPTED):
                command = _command(config, output, settings, allow, split)
                out.print(f"The study goes on where it is with: {command}", markup=False, soft_wrap=True)
                return code
            if code is None:
                left.append((number, run))
            elif code:
                failed[run.folder.name] = code
    for name in failed:
        out.print(f"Failed: {name}; the same command tries it again.", markup=False, soft_wrap=True)
    _compare(plan, _left_to_others(plan, failed, split, out), allowed, split, as_json=as_json)
    return next((code for code in _BY_GRAVITY if code in failed.values()), ExitCode.DONE)


def _announce(plan: StudyPlan, allowed: Collection[Allowance], out: Console) -> None:
    """Say how much is to do, and what can be compared at its end, before hours are spent on it."""
    counts = [f"{plan.count(todo)} {word}" for todo, word in WORDS.items() if plan.count(todo)]
    number = f"{len(plan.runs)} run{'s' if len(plan.runs) != 1 else ''}"
    out.print(f"{number} in {plan.folder}: {', '.join(counts)}.", markup=False, soft_wrap=True)
    expected = forecast(plan.points, allowed)
    named = {name: c.label for group in expected.groups for c in group for name in c.runs}
    own = next(r.point.name for r in plan.runs if r.folder.name in plan.reference)
    for sentence in expected.sentences(named[own]):
        out.print(sentence, markup=False, soft_wrap=True)
    if plan.others:
        out.print(
            f"Not of this matrix, left as they are: {', '.join(plan.others)}.", markup=False, soft_wrap=True
        )


def _train(planned: PlannedRun, title: str, out: Console) -> int | None:
    """Train one run; return its exit code, or None where it is done or another process has it.

    A folder in which nothing was even planned is given back.
    """
    try:
        run, made = _claim(planned)
    except SegExplorerError as error:
        out.print(f"{planned.folder.name}: {error}", markup=False, soft_wrap=True)
        return error.exit_code
    if run is None:
        return None
    out.rule(title)
    code = follow(run)
    if code == ExitCode.MISTAKE and made and run.plan is None:
        run.record.discard()
    return code


def _claim(planned: PlannedRun) -> tuple[Run | None, bool]:
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


def _left_to_others(plan: StudyPlan, failed: Collection[str], split: ScoredSplit, out: Console) -> list[str]:
    """Say which runs other processes train now, or failed to; return the names of all that are not finished."""
    now = [run.now() for run in plan.runs]
    unfinished = {run.folder.name: run for run in now if run.todo != "done"}
    held = [(name, run) for name, run in unfinished.items() if run.todo == "held"]
    for name, run in held:
        holder = open_run(run.folder).holder
        whose = f": {holder}" if holder is not None else ""
        out.print(f"Left to another process: {name}{whose}.", markup=False, soft_wrap=True)
    if held:
        words = ["segexplorer", "compare", str(plan.folder)]
        command = shlex.join([*words, *(["--split", split] if split != "validation" else [])])
        out.print(
            f"The process that ends last compares all runs; so does, at any time: {command}",
            markup=False,
            soft_wrap=True,
        )
    for name, run in unfinished.items():
        if run.todo == "failed" and name not in failed:
            out.print(f"Failed in another process: {name}.", markup=False, soft_wrap=True)
    return list(unfinished)


def _compare(
    plan: StudyPlan,
    unfinished: Collection[str],
    allowed: Collection[Allowance],
    split: ScoredSplit,
    *,
    as_json: bool,
) -> None:
    finished = [run.folder for run in plan.runs if run.folder.name not in unfinished]
    if not finished:
        return
    reference = next((folder for folder in finished if folder.name in plan.reference), "")
    if split == "test":
        for folder in finished:
            record, computed = score_with_progress(score_split_steps(folder, "test"))
            text = f"{folder.name}: {'scored' if computed else 'had scored'} {len(record.cases)} test cases."
            remarks().print(text, markup=False, soft_wrap=True)
    grouped = compare_groups(finished, split=split, reference=reference, allow=allowed)
    if as_json:
        print_json(grouped.plain())
    else:
        print_groups(grouped)


def _command(
    config: Path, output: Path | None, settings: Sequence[str], allow: Sequence[str], split: ScoredSplit
) -> str:
    """Return the command that goes on, to be copied."""
    words = ["segexplorer", "study", str(config)]
    words += ["--output", str(output)] if output is not None else []
    words += [word for setting in settings for word in ("--set", setting)]
    words += [word for word_allowed in allow for word in ("--allow", word_allowed)]
    words += ["--split", split] if split != "validation" else []
    return shlex.join(words)
