"""`segexplorer study`: train what a file's matrix holds, here or by a scheduler, then compare."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console

from segexplorer.core.errors import ExitCode, SegExplorerError, SpecError
from segexplorer.frontends.cli.compare import allowances, print_groups
from segexplorer.frontends.cli.evaluate_split import score_with_progress
from segexplorer.frontends.cli.run_one import claim, train_claimed
from segexplorer.frontends.cli.settings import parse_settings
from segexplorer.frontends.cli.study_status import print_statuses
from segexplorer.frontends.cli.terminal import print_json, remarks
from segexplorer.study import Allowance, compare_groups
from segexplorer.study.cluster import Cluster, EngineKind, devices_of, read_cluster
from segexplorer.study.plan import PlannedRun, StudyPlan, forecast, plan_study
from segexplorer.study.runs import ScoredSplit
from segexplorer.study.schedule import OVER, Launch, Schedule, State
from segexplorer.training.history import open_run
from segexplorer.training.scores import score_split_steps

_BY_GRAVITY = (ExitCode.MACHINE, ExitCode.FAILED, ExitCode.MISTAKE)
_CODES: Mapping[State, ExitCode] = {
    "given up": ExitCode.MACHINE,
    "failed": ExitCode.FAILED,
    "mistake": ExitCode.MISTAKE,
}
WORDS = {"new": "to train", "resume": "to go on with", "held": "in other processes", "done": "done"}
SAVING_SECONDS = 120.0
"""How long a launch waits for the runs of one that was cancelled."""
LOOK_SECONDS = 0.5
On = Literal["local", "slurm", "ray", "list"]


@dataclass(frozen=True)
class StudyRequest:
    """What the command was asked to do, so that it can be printed again."""

    config: Path
    output: Path | None = None
    settings: Sequence[str] = ()
    allow: Sequence[str] = ()
    split: ScoredSplit = "validation"
    on: On | None = None
    jobs: int | None = None

    @property
    def folder(self) -> Path:
        """The study's folder."""
        return self.output if self.output is not None else Path.cwd() / "segexplorer-runs" / self.config.stem

    def command(self, *more: str) -> str:
        """Return the command that does it again, to be copied."""
        words = ["segexplorer", "study", str(self.config)]
        words += ["--output", str(self.output)] if self.output is not None else []
        words += [word for setting in self.settings for word in ("--set", setting)]
        words += [word for allowed in self.allow for word in ("--allow", allowed)]
        words += ["--split", self.split] if self.split != "validation" else []
        words += ["--on", self.on] if self.on is not None else []
        words += ["--jobs", str(self.jobs)] if self.jobs is not None else []
        return shlex.join([*words, *more])


def run_study(request: StudyRequest, *, dry_run: bool, as_json: bool, retry: bool = False) -> int:
    """Train every experiment of a file that is not done yet; a failed one is reported and the others go on.

    Runs that other processes have claimed are left to them, so that a study started several times is shared.
    With `split` "test", test cases that a run never scored are scored once, and runs are compared on them.

    Parameters
    ----------
    retry
        Whether a scheduler is to try runs again that failed, needed a correction, or were given up.

    Returns
    -------
    `ExitCode`: that of the interruption where there was one, else the most serious one of a run that failed.
    """
    allowed = allowances(request.allow)
    out = remarks()
    engine: EngineKind | None = None if request.on == "list" else request.on
    cluster = read_cluster(request.config, kind=engine, max_jobs=request.jobs)
    if cluster.kind is None and request.on is None and (request.jobs is not None or retry):
        raise SpecError(
            "--jobs and --retry belong to a scheduler.", "Add --on local, or write cluster: {kind: local}."
        )
    plan = plan_study(
        request.config, request.folder, parse_settings(list(request.settings)), keep=not dry_run
    )
    if request.on == "list":
        return _list(plan)
    if dry_run:
        for run in plan.runs:
            out.print(f"{run.folder.name}: {WORDS[run.todo]}", markup=False, soft_wrap=True)
    _announce(plan, allowed, out)
    if dry_run:
        if cluster.kind is not None:
            _tell_size(plan, cluster, out)
        return 0
    if cluster.kind is not None:
        return _schedule(plan, cluster, request, allowed, retry=retry, as_json=as_json)
    return _train_in_turn(plan, request, allowed, as_json=as_json)


def _tell_size(plan: StudyPlan, cluster: Cluster, out: Console) -> None:
    """Say how many hours of nodes and how much room on the disk the rest of the study needs."""
    from segexplorer.study.sizing import size_of

    size = size_of(plan.runs, Schedule(plan.folder))
    for sentence in size.sentences(cluster.max_jobs):
        out.print(sentence, markup=False, soft_wrap=True)


def _list(plan: StudyPlan) -> int:
    """Print a command for each run that is not done, for any other scheduler."""
    from segexplorer.study.engines.worker import worker_command

    schedule = Schedule(plan.folder.absolute())
    schedule.prepare(plan)
    for run in plan.runs:
        if run.todo != "done":
            print(shlex.join(worker_command(schedule.study, run.folder.name)))
    return ExitCode.DONE


def _train_in_turn(
    plan: StudyPlan, request: StudyRequest, allowed: Collection[Allowance], *, as_json: bool
) -> int:
    """Train one run after the other in this process."""
    out = remarks()
    schedule = Schedule(plan.folder)
    plan.save()
    before_it = schedule.statuses()
    schedule.launch("local", [], {s.name: len(s.tries) for s in before_it if s.state in _CODES})
    failed: dict[str, int] = {}
    left = [(number, run) for number, run in enumerate(plan.runs, start=1) if run.todo != "done"]
    before = len(left) + 1
    while len(left) < before:  # once more for those of others, who may have given back a run meanwhile
        before, left, visited = len(left), [], left
        for number, run in visited:
            code = _train(run, f"{number} of {len(plan.runs)}: {run.folder.name}", schedule, out)
            if code in (ExitCode.INTERRUPTED, ExitCode.PREEMPTED):
                text = f"The study goes on where it is with: {request.command()}"
                out.print(text, markup=False, soft_wrap=True)
                return code
            if code is None:
                left.append((number, run))
            elif code:
                failed[run.folder.name] = code
                if (defect := schedule.widespread_defect()) is not None:
                    text = f"{defect} The other runs are not started; the same command starts them after all."
                    out.print(text, markup=False, soft_wrap=True)
                    return ExitCode.FAILED
    for name in failed:
        out.print(f"Failed: {name}; the same command tries it again.", markup=False, soft_wrap=True)
    _compare(plan, _left_to_others(plan, failed, request.split, out), allowed, request.split, as_json=as_json)
    return next((code for code in _BY_GRAVITY if code in failed.values()), ExitCode.DONE)


def _schedule(
    plan: StudyPlan,
    cluster: Cluster,
    request: StudyRequest,
    allowed: Collection[Allowance],
    *,
    retry: bool,
    as_json: bool,
) -> int:
    """Hand the runs that are not over to a scheduler; where that is this process, wait for them and compare."""
    out = remarks()

    def tell(text: str) -> None:
        out.print(text, markup=False, soft_wrap=True)

    for run in plan.runs:
        devices_of(run.point.experiment, cluster.gpus)  # refused before anything starts
    schedule = Schedule(plan.folder.absolute())
    schedule.prepare(plan)
    assert cluster.kind is not None
    _await_cancelled(schedule, tell)
    before = schedule.statuses(_queued(schedule))
    forgiven = {s.name: len(s.tries) for s in before if retry and (s.state in OVER and s.state != "done")}
    if retry and (defect := schedule.widespread_defect()) is not None:
        forgiven |= {name: len(schedule.tries(name)) for name in defect.runs}
    runs = [s.name for s in before if s.state not in OVER | {"running", "queued"} or s.name in forgiven]
    elsewhere = [s.name for s in before if s.state in ("running", "queued")]
    skipped = [s.name for s in before if s.state in _CODES and s.name not in forgiven]
    if skipped:
        tell(f"Not tried again without --retry: {', '.join(skipped)}.")
    if elsewhere:
        tell(f"Left to other launches: {', '.join(elsewhere)}.")
    launch = schedule.launch(cluster.kind, runs, forgiven, cluster.gpus)
    if runs or elsewhere:
        try:
            _start(schedule, launch, cluster, plan, elsewhere, tell)
        except (KeyboardInterrupt, SystemExit):
            tell(f"The study goes on where it is with: {request.command()}")
            raise
    after = schedule.statuses(_queued(schedule))
    if cluster.kind == "slurm" and any(s.state not in OVER for s in after):
        tell(f"Look at it with: {request.command('--status')}")
        return ExitCode.DONE
    if schedule.is_cancelled(launch.token):
        tell(f"The study goes on where it is with: {request.command()}")
        return ExitCode.INTERRUPTED
    unfinished = [s.name for s in after if s.state != "done"]
    if unfinished:
        print_statuses([s for s in after if s.state != "done"], out)
    _compare(plan, unfinished, allowed, request.split, as_json=as_json)
    codes = {_CODES.get(s.state, ExitCode.DONE) for s in after}
    if (defect := schedule.widespread_defect()) is not None:
        tell(str(defect))
    return next((code for code in _BY_GRAVITY if code in codes), ExitCode.DONE)


def _await_cancelled(schedule: Schedule, tell: Callable[[str], None]) -> None:
    """Wait until the runs of cancelled launches are saved, which this launch would otherwise leave to them."""
    deadline, told = time.monotonic() + SAVING_SECONDS, False
    while time.monotonic() < deadline:
        saved = [s.name for s in schedule.statuses() if schedule.is_cancelled(s.worked_on_by)]
        if not saved:
            return
        if not told:
            told = True
            tell(f"Waiting until what was cancelled is saved: {', '.join(saved)}.")
        time.sleep(LOOK_SECONDS)


def _queued(schedule: Schedule) -> list[str]:
    """Return the runs for which a scheduler has a job."""
    if not any(launch.engine == "slurm" for launch in schedule.launches()):
        return []
    from segexplorer.study.engines.slurm import queued_runs

    return queued_runs(schedule)


def _start(
    schedule: Schedule,
    launch: Launch,
    cluster: Cluster,
    plan: StudyPlan,
    elsewhere: Sequence[str],
    tell: Callable[[str], None],
) -> None:
    first = plan.runs[0].point.experiment
    if cluster.kind == "local":
        from segexplorer.study.engines.local import Machine, estimated_gb, run_locally, slots

        needed = estimated_gb(first) if cluster.memory is None else None
        room = slots(Machine.this(), cluster, first, needed)
        cores = f"{room[0].cpus} CPU core{'s' if room[0].cpus > 1 else ''}"
        gpus = f" and {len(room[0].gpus)} GPU" if room[0].gpus else ""
        tell(f"{len(room)} at once, with {cores}{gpus} each; logs in {schedule.folder / 'logs'}.")
        run_locally(schedule, launch, room, tell, elsewhere)
    elif cluster.kind == "slurm":
        from segexplorer.study.engines.slurm import submit

        submit(schedule, launch, cluster, first, tell)
    else:
        from segexplorer.study.engines.ray import run_on_ray

        run_on_ray(schedule, launch, cluster, first, tell, elsewhere)


def study_status(request: StudyRequest, *, as_json: bool) -> int:
    """Print the state of every run of a study, from its small files alone."""
    schedule = _existing(request)
    statuses = schedule.statuses(_queued(schedule))
    defect = schedule.widespread_defect()
    if as_json:
        runs = [
            {"name": s.name, "state": s.state, "where": s.where, "tries": [t.model_dump() for t in s.tries]}
            for s in statuses
        ]
        print_json({"study": str(schedule.study), "runs": runs, "defect": str(defect) if defect else None})
    else:
        print_statuses(statuses)
        submitted = {name for launch in schedule.launches() for name in launch.jobs}
        lost = [s.name for s in statuses if s.state == "waiting" and s.name in submitted]
        if lost and defect is None:
            text = f"Their jobs ended before they began: {', '.join(lost)}; see {schedule.folder / 'logs'}."
            remarks().print(text, markup=False, soft_wrap=True)
        if defect is not None:
            text = f"{defect} No further run is started; --retry starts them after all."
            remarks().print(text, markup=False, soft_wrap=True)
    return ExitCode.DONE


def cancel_study(request: StudyRequest) -> int:
    """Cancel every launch of a study: nothing of it starts any more, and what trains is saved and ends."""
    out = remarks()
    schedule = _existing(request)
    launches = [launch for launch in schedule.launches() if not schedule.is_cancelled(launch.token)]
    for launch in launches:
        schedule.cancel(launch)  # first: else a job that ends because of it would be queued again
    slurm = [launch for launch in launches if launch.engine == "slurm"]
    if slurm:
        from segexplorer.study.engines.slurm import cancel_jobs

        cancel_jobs(schedule, slurm)
    text = "Cancelled; runs in training are saved first." if launches else "Nothing to cancel."
    out.print(text, markup=False, soft_wrap=True)
    for status in schedule.statuses():
        if status.state == "running" and (status.last is None or not status.last.launch):
            text = f"{status.name} belongs to no launch: end it where it is trained, by {status.where}."
            out.print(text, markup=False, soft_wrap=True)
    return ExitCode.DONE


def _existing(request: StudyRequest) -> Schedule:
    schedule = Schedule(request.folder.absolute())
    if not schedule.names():
        raise SpecError(f"{request.folder} holds no study.", f"Start it first: {request.command()}")
    return schedule


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


def _train(planned: PlannedRun, title: str, schedule: Schedule, out: Console) -> int | None:
    """Train one run; return its exit code, or None where it is done or another process has it."""
    try:
        run, made = claim(planned)
    except SegExplorerError as error:
        schedule.begin(planned.folder.name).close(error.exit_code, error=error)
        out.print(f"{planned.folder.name}: {error}", markup=False, soft_wrap=True)
        return error.exit_code
    if run is None:
        return None
    out.rule(title)
    return train_claimed(run, made, schedule, planned.folder.name)


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
