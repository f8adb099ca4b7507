"""Runs of a study as jobs of SLURM: an array of jobs, submitted by submitit, one job per run.

A job that is preempted, or whose time is nearly over, saves its run and queues itself again; so does one whose
machine failed, on another node where there is one. SLURM itself requeues jobs whose node has died. Every job looks
first at the study's files and at the lease of its run, so that a job too many ends at once.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from segexplorer.core.errors import MachineError, SpecError, require
from segexplorer.study.cluster import Cluster, cpus_of, devices_of
from segexplorer.study.engines.worker import Worker
from segexplorer.study.schedule import STATES, Launch, Schedule
from segexplorer.training.experiment import Experiment
from segexplorer.training.host import this_host

SAVING_SECONDS = 120
"""How long before the end of its time a job is told to save its run."""
DEFAULT_HOURS = 24.0
_LIVE = "PENDING,RUNNING,SUSPENDED,COMPLETING,CONFIGURING,REQUEUED,REQUEUE_HOLD,RESIZING,SIGNALING,STAGE_OUT"


class RunJob:
    """What one job does: train a run, and queue it again if it is to go on. submitit pickles it.

    Parameters
    ----------
    study, name, launch
        Folder of the study, run, and token of the launch.
    """

    def __init__(self, study: str, name: str, launch: str) -> None:
        self.study, self.name, self.launch = study, name, launch

    def __call__(self) -> str:
        """Train the run; return its state."""
        schedule = Schedule(Path(self.study))
        schedule.require_there()
        if (refused := schedule.refusal(self.name, self.launch)) is not None:
            print(refused[1], flush=True)  # noqa: T201  to the log of the job
            return schedule.status(self.name).state
        # SLURM sends it to every process of the job; what is ignored now is ignored by the worker, too
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        worker = Worker(schedule, self.name, self.launch)
        # of its time nearly over (USR2), and of a preemption; in place of submitit's handlers, which would wait for
        # the worker inside of a handler
        for number in (signal.SIGUSR2, signal.SIGTERM):
            signal.signal(number, lambda *_: worker.stop())
        status = worker.wait()
        print(f"{self.name} {STATES[status.state]}.", flush=True)  # noqa: T201
        if worker.is_again_wanted:
            at_fault = schedule.hosts_at_fault(self.name) if status.state == "machine" else []
            _requeue(exclude=at_fault)
        return status.state


def submit(
    schedule: Schedule,
    launch: Launch,
    cluster: Cluster,
    experiment: Experiment,
    tell: Callable[[str], None],
) -> None:
    """Submit a job for every run of a launch, as one array, and note their numbers.

    Raises
    ------
    MissingExtraError
        Without submitit.
    SpecError
        Without SLURM here, or for an option that it refuses.
    """
    submitit = require("submitit", "slurm", "Submitting jobs to SLURM")
    _require_slurm()
    if not launch.runs:
        return
    folder = schedule.folder / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    executor = submitit.SlurmExecutor(folder=folder)
    executor.update_parameters(**job_options(schedule, cluster, experiment))
    try:
        jobs = _submit_all(
            executor, [RunJob(str(schedule.study), name, launch.token) for name in launch.runs]
        )
    except submitit.core.utils.FailedJobError as error:
        raise SpecError(
            f"SLURM refuses the jobs: {error}", "Correct the section cluster: of the file."
        ) from error
    numbers = {name: str(job.job_id) for name, job in zip(launch.runs, jobs, strict=True)}
    schedule.save_launch(launch.model_copy(update={"jobs": numbers}))
    first = next(iter(numbers.values()))
    tell(
        f"Submitted {len(numbers)} job{'s' if len(numbers) > 1 else ''} to SLURM as {first.partition('_')[0]}."
    )


def _submit_all(executor: Any, jobs: Sequence[RunJob]) -> list[Any]:
    with executor.batch():
        return [executor.submit(job) for job in jobs]


def job_options(schedule: Schedule, cluster: Cluster, experiment: Experiment) -> dict[str, Any]:
    """Return what submitit is told of each job."""
    cpus = cpus_of(experiment, cluster) or devices_of(experiment, cluster.gpus)
    gpus, devices = cluster.gpus, experiment.compute.devices
    if gpus is None and devices > 1 and experiment.compute.device != "cpu":
        gpus = devices
    options: dict[str, Any] = {
        "job_name": job_name(schedule),
        "time": max(1, round(60 * (cluster.time or DEFAULT_HOURS))),
        "cpus_per_task": cpus,
        "setup": ["set -e", *cluster.setup, "set +e"] if cluster.setup else None,
        "stderr_to_stdout": True,
        # since SLURM 22.05, a step does not inherit the number of cores of its job
        "srun_args": [f"--cpus-per-task={cpus}"],
        "signal_delay_s": SAVING_SECONDS,
        "array_parallelism": cluster.max_jobs or 1000,
        "additional_parameters": {
            "requeue": True,
            **{k: v for k, v in cluster.options.items() if v is not False},
        },
    }
    options |= {"partition": cluster.partition} if cluster.partition else {}
    options |= {"gpus_per_node": gpus} if gpus else {}
    options |= {"mem": f"{round(1024 * cluster.memory)}M"} if cluster.memory else {}
    return {name: value for name, value in options.items() if value is not None}


def job_name(schedule: Schedule) -> str:
    """Return the name that the jobs of a study have."""
    return f"segexplorer-{re.sub(r'[^A-Za-z0-9_.-]', '-', schedule.study.name)[:60]}"


def queued_runs(schedule: Schedule) -> list[str]:
    """Return the runs of a study for which SLURM has a job, waiting or running."""
    jobs = {
        job: name
        for launch in schedule.launches()
        if launch.engine == "slurm" and not schedule.is_cancelled(launch.token)
        for name, job in launch.jobs.items()
    }
    if not jobs or shutil.which("squeue") is None:
        return []
    live = _squeue({job.partition("_")[0] for job in jobs}, job_name(schedule))
    return [name for job, name in jobs.items() if job in live]


def cancel_jobs(schedule: Schedule, launches: Iterable[Launch]) -> None:
    """Cancel the jobs of launches that are still in SLURM; each job saves its run within SLURM's KillWait.

    A job of another name, which a launch's file may have come to name, is left alone.

    Raises
    ------
    SpecError
        Where SLURM cannot be asked from here.
    """
    _require_slurm()
    jobs = sorted({job.partition("_")[0] for launch in launches for job in launch.jobs.values()})
    live = {job.partition("_")[0] for job in _squeue(jobs, job_name(schedule))}
    if live:
        _command("scancel", *sorted(live))


def _squeue(jobs: Iterable[str], name: str) -> set[str]:
    """Return those of some arrays of jobs of one name that SLURM still has, "812_3" each."""
    found = set()
    words = ["--noheader", "--array", "--format=%i", f"--states={_LIVE}", "--me", f"--name={name}"]
    text = _command("squeue", *words)
    wanted = set(jobs)
    for job in text.split():
        if job.partition("_")[0] in wanted:
            found.add(job)
    return found


def _requeue(exclude: Sequence[str]) -> None:
    """Queue the job of this process again; SLURM ends it thereby. It stays off nodes where there are others.

    From the requeue on, SLURM ends this process: by SIGTERM, which it and its commands ignore, and after `KillWait`
    (30 seconds by default) for good. Options change only while a job waits, so nodes are excluded last; were the
    job held meanwhile, an end in between would leave it so for ever. SLURM lets a requeued job begin two minutes
    later at the earliest.
    """
    job = _own_job()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    elsewhere = exclude and this_host().name in exclude and len(_nodes()) > len(set(exclude))
    _command("scontrol", "requeue", job)
    if elsewhere:
        _command("scontrol", "update", f"JobId={job}", f"ExcNodeList={','.join(exclude)}")


def _own_job() -> str:
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ["SLURM_JOB_ID"]


def _nodes() -> set[str]:
    partition = os.environ.get("SLURM_JOB_PARTITION", "")
    return set(
        _command(
            "sinfo", "--noheader", "--Node", "--responding", f"--partition={partition}", "--format=%N"
        ).split()
    )


def _command(*words: str) -> str:
    try:
        done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=120)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        said = str(getattr(error, "stderr", "") or error).strip()
        raise MachineError(
            f"SLURM does not obey {words[0]}: {said}", "Try again, or ask its administrator."
        ) from error
    return done.stdout


def _require_slurm() -> None:
    if shutil.which("sbatch") is None:
        raise SpecError(
            "There is no SLURM here: the command sbatch is not found.",
            "Start the study on a login node of the cluster, or choose another scheduler with --on.",
        )
