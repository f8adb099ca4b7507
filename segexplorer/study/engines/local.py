"""Several runs at once on this computer: as many as its cores, its memory and its GPUs allow."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from segexplorer.core.errors import FolderGoneError, SegExplorerError, SpecError
from segexplorer.study.cluster import Cluster, cpus_of, devices_of
from segexplorer.study.engines.worker import GIVEN_BACK, Worker
from segexplorer.study.schedule import STATES, Launch, RunStatus, Schedule
from segexplorer.training.experiment import Experiment

POLL_SECONDS = 0.2
CANCEL_SECONDS = 2.0
"""How often the study's folder, maybe on a network drive, is asked whether the launch was cancelled."""


@dataclass(frozen=True)
class Slot:
    """Room for one run: its cores, and its GPUs by the names that CUDA_VISIBLE_DEVICES takes."""

    cpus: int
    gpus: tuple[str, ...] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """Variables of the process that has this room."""
        found = {"OMP_NUM_THREADS": str(self.cpus)}
        if self.gpus is not None:
            found["CUDA_VISIBLE_DEVICES"] = ",".join(self.gpus)
        return found


@dataclass(frozen=True)
class Machine:
    """What there is to share: cores, free memory in GB (None: unknown), GPUs."""

    cpus: int
    memory: float | None
    gpus: tuple[str, ...]

    @classmethod
    def this(cls) -> Machine:
        """Return this computer, as far as this process may use it."""
        import psutil

        from segexplorer.training.compute import cores, gpu_count, memory_limit

        free = psutil.virtual_memory().available
        limit = memory_limit()
        memory = min(free, limit) / 2**30 if limit is not None else free / 2**30
        count = gpu_count()
        visible = [word for word in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if word]
        return cls(cores(), memory, tuple(visible[:count] if visible else map(str, range(count))))


def slots(
    machine: Machine, cluster: Cluster, experiment: Experiment, needed_gb: float | None = None
) -> list[Slot]:
    """Return the room for runs on a machine.

    Parameters
    ----------
    cluster
        What each run may use, and how many run at once at most.
    experiment
        Of one of the runs, for what the file leaves open.
    needed_gb
        Memory that a run is estimated to need, where the file does not say it.

    Raises
    ------
    SpecError
        When the machine has not even the room for one run.
    """
    on_cpu = experiment.compute.device == "cpu" or not machine.gpus
    gpus = cluster.gpus if cluster.gpus is not None else (0 if on_cpu else experiment.compute.devices)
    if gpus > len(machine.gpus):
        raise SpecError(
            f"A run is to have {gpus} GPUs, and torch can use {len(machine.gpus)} here.",
            "Lower cluster.gpus, or choose another machine with --on.",
        )
    limits = [cluster.max_jobs, len(machine.gpus) // gpus if gpus else None]
    asked = cpus_of(experiment, cluster)
    if asked is None and not gpus and (processes := devices_of(experiment, 0)) > 1:
        asked = processes
    if asked is not None:
        if cluster.cpus is not None and asked > machine.cpus:
            raise SpecError(
                f"A run is to have {asked} CPU cores, and there are {machine.cpus} here.",
                "Lower cluster.cpus.",
            )
        limits.append(max(1, machine.cpus // asked))
    memory = cluster.memory or needed_gb
    if memory is not None and machine.memory is not None:
        if cluster.memory is not None and memory > machine.memory:
            raise SpecError(
                f"A run is to have {memory:g} GB of memory, and {machine.memory:.1f} GB are free here.",
                "Lower cluster.memory, or close other programs.",
            )
        limits.append(max(1, int(machine.memory / memory)))
    known = [limit for limit in limits if limit is not None]
    if asked is None:
        # runs share nothing, so one core each trains more runs an hour than several cores for one run
        most = min([*known, machine.cpus])
        asked = max(1, machine.cpus // most) if gpus or cluster.max_jobs else 1
        known.append(machine.cpus // asked)
    return [
        Slot(asked, machine.gpus[n * gpus : (n + 1) * gpus] if gpus else (() if machine.gpus else None))
        for n in range(max(1, min(known)))
    ]


def estimated_gb(experiment: Experiment) -> float | None:
    """Return the memory that a run on the CPU needs, GB; None: unknown, or on a GPU."""
    from segexplorer.study.sizing import run_memory_gb
    from segexplorer.training.plan import resolve

    try:
        plan = resolve(experiment)
    except SegExplorerError:
        return None  # the run itself will say what is wrong
    return run_memory_gb(plan) if plan.runtime.device == "cpu" else None


def run_locally(
    schedule: Schedule,
    launch: Launch,
    room: Sequence[Slot],
    tell: Callable[[str], None],
    elsewhere: Sequence[str] = (),
) -> None:
    """Train the runs of a launch, as many at once as there is room for; return when all have ended.

    What is preempted, or dies, is queued again. Whatever ends this function ends its workers: each saves its run.

    Parameters
    ----------
    elsewhere
        Runs in other processes; what those give back in the meantime is trained here.
    """
    pool = _Pool(schedule, launch, room, tell, elsewhere)
    try:
        pool.work()
    except KeyboardInterrupt:
        pool.stop(signal.SIGINT)
        raise
    except BaseException:
        pool.stop(signal.SIGTERM)
        raise


class _Pool:
    def __init__(
        self,
        schedule: Schedule,
        launch: Launch,
        room: Sequence[Slot],
        tell: Callable[[str], None],
        elsewhere: Sequence[str],
    ) -> None:
        self._schedule, self._launch, self._tell = schedule, launch, tell
        self._free = list(room)
        self._waiting = deque(launch.runs)
        self._active: dict[Worker, Slot] = {}
        self._left = list(elsewhere)
        self._asked = 0.0
        self._ended = 0

    def work(self) -> None:
        while self._waiting or self._active or self._taken_back():
            if self._is_cancelled():
                self._tell("The study was cancelled: its runs are saved.")
                self.stop(signal.SIGTERM)
                return
            while self._waiting and self._free:
                if (defect := self._schedule.widespread_defect()) is not None:
                    left = len(self._waiting)
                    self._waiting.clear()
                    self._tell(f"{defect} The other {left} are not started; --retry starts them after all.")
                    break
                self._start(self._waiting.popleft())
            time.sleep(POLL_SECONDS)
            for worker in [w for w in self._active if w.poll() is not None]:
                self._finish(worker)

    def _start(self, name: str) -> None:
        slot = self._free.pop(0)
        log = self._schedule.log_file(name)
        worker = Worker(self._schedule, name, self._launch.token, slot.environment, log)
        self._active[worker] = slot

    def _finish(self, worker: Worker) -> None:
        self._free.append(self._active.pop(worker))
        status = worker.wait()
        again = worker.is_again_wanted
        if again:
            self._waiting.append(worker.name)
        else:
            self._ended += 1
            if status.state == "running":
                self._left.append(worker.name)
        self._tell(told(status, self._ended, len(self._launch.runs), again=again))

    def _taken_back(self) -> bool:
        """Queue runs that were left to other processes, and that those have given back meanwhile."""
        back = [name for name in self._left if self._schedule.status(name).state in GIVEN_BACK]
        self._left = []
        self._waiting.extend(back)
        self._ended = max(0, self._ended - len(back))
        return bool(back)

    def stop(self, number: int) -> None:
        """Ask all workers to save and end, and wait for them."""
        for worker in self._active:
            worker.stop(number)
        for worker in list(self._active):
            self._active.pop(worker)
            with contextlib.suppress(FolderGoneError):
                worker.wait()

    def _is_cancelled(self) -> bool:
        now = time.monotonic()
        if now - self._asked < CANCEL_SECONDS:
            return False
        self._asked = now
        return self._schedule.is_cancelled(self._launch.token)


def told(status: RunStatus, ended: int, total: int, *, again: bool) -> str:
    """Return a line on a run whose worker has ended."""
    last = status.last
    why = f": {last.error} {last.remedy}".rstrip() if last is not None and last.error else ""
    best = f", best Dice {last.best:.3f}" if last is not None and last.best is not None else ""
    what = "queued again, " if again else ""
    return f"[{ended} of {total}] {status.name}: {what}{STATES[status.state]}{best}{why}"
