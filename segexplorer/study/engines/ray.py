"""Runs of a study as tasks of a Ray cluster, each with the resources that the study's file asks for.

Ray places tasks and says when a node has died; everything else is in the study's files and in the leases, as with
every engine. The launcher stays until all runs have ended. Each task watches the study's folder for a cancellation,
so that it needs no connection to the launcher; should that die, Ray ends its tasks, and each saves its run.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from segexplorer.core.errors import ExitCode, SpecError, require
from segexplorer.study.cluster import Cluster, cpus_of, devices_of
from segexplorer.study.engines.local import told
from segexplorer.study.engines.worker import GIVEN_BACK, Worker
from segexplorer.study.schedule import OVER, Launch, Schedule
from segexplorer.training.experiment import Experiment

POLL_SECONDS = 0.5
CANCEL_SECONDS = 2.0
"""How often a task asks the study's folder whether its launch was cancelled."""
ENDING_SECONDS = 300.0
"""How long the launcher waits for runs to be saved when it is ended itself."""


def train_task(study: str, name: str, launch: str) -> bool:
    """Train a run on a node of the cluster; return whether it is to be queued again."""
    schedule = Schedule(Path(study))
    if schedule.refusal(name, launch) is not None:
        return False
    worker = Worker(schedule, name, launch, log=schedule.log_file(name))
    asked = time.monotonic()
    while worker.poll() is None:
        time.sleep(POLL_SECONDS)
        if time.monotonic() - asked >= CANCEL_SECONDS:
            asked = time.monotonic()
            if schedule.is_cancelled(launch):
                worker.stop()
                break
    worker.wait()
    return worker.is_again_wanted


def run_on_ray(
    schedule: Schedule,
    launch: Launch,
    cluster: Cluster,
    experiment: Experiment,
    tell: Callable[[str], None],
    elsewhere: Sequence[str] = (),
) -> None:
    """Train the runs of a launch on the Ray cluster that RAY_ADDRESS names, or that runs here.

    Parameters
    ----------
    elsewhere
        Runs in other processes; what those give back in the meantime is trained here.

    Raises
    ------
    MissingExtraError
        Without Ray.
    SpecError
        Without a cluster, or where no node has what a run asks for.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing of a study leaves the cluster
    ray = require("ray", "ray", "Training on a Ray cluster")
    try:
        ray.init(address=os.environ.get("RAY_ADDRESS", "auto"), log_to_driver=False, logging_level="ERROR")
    except ConnectionError as error:
        raise SpecError(
            "There is no Ray cluster here.",
            "Name it in RAY_ADDRESS, start one with ray start --head --include-dashboard=false, or use --on local.",
        ) from error
    try:
        tasks = _Tasks(
            ray, schedule, launch, _resources(ray, cluster, experiment), cluster.max_jobs, tell, elsewhere
        )
        tasks.work()
    finally:
        ray.shutdown()


def _resources(ray: Any, cluster: Cluster, experiment: Experiment) -> dict[str, float]:
    """Return what each task asks for, and make sure that a node has it."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus: float | None = cluster.gpus
    if gpus is None:
        on_cpu = experiment.compute.device == "cpu" or not any(n.get("GPU") for n in nodes)
        gpus = 0 if on_cpu else experiment.compute.devices
    asked = {"CPU": cpus_of(experiment, cluster) or devices_of(experiment, cluster.gpus), "GPU": gpus}
    asked["memory"] = round((cluster.memory or 0) * 2**30)
    if not any(all(node.get(what, 0) >= amount for what, amount in asked.items()) for node in nodes):
        raise SpecError(
            f"No node of the Ray cluster has {asked['CPU']:g} CPU cores, {asked['GPU']:g} GPUs and "
            f"{cluster.memory or 0:g} GB of memory.",
            "Lower cluster.cpus, cluster.gpus or cluster.memory.",
        )
    return asked


class _Tasks:
    def __init__(
        self,
        ray: Any,
        schedule: Schedule,
        launch: Launch,
        resources: Mapping[str, float],
        most: int | None,
        tell: Callable[[str], None],
        elsewhere: Sequence[str],
    ) -> None:
        self._ray, self._schedule, self._launch, self._tell = ray, schedule, launch, tell
        # Ray's own retries know neither tries nor leases
        self._task = ray.remote(
            num_cpus=resources["CPU"],
            num_gpus=resources["GPU"],
            memory=resources["memory"] or None,
            max_retries=0,
            max_calls=1,
        )(train_task)
        self._most = most or 10_000
        self._waiting = deque(launch.runs)
        self._active: dict[Any, tuple[str, int]] = {}  # task -> run, and its tries before
        self._left = list(elsewhere)
        self._ended = 0

    def work(self) -> None:
        try:
            while self._waiting or self._active or self._taken_back():
                while self._waiting and len(self._active) < self._most:
                    self._submit(self._waiting.popleft())
                done, _ = self._ray.wait(list(self._active), num_returns=1, timeout=CANCEL_SECONDS)
                for reference in done:
                    self._finish(reference)
                if self._schedule.is_cancelled(self._launch.token):
                    self._tell("The study was cancelled: its runs are saved.")
                    self._waiting.clear()
                    self._left = []
        except BaseException:
            self._schedule.cancel(self._launch)  # the tasks see it and save their runs
            if self._active:
                self._ray.wait(
                    list(self._active),
                    num_returns=len(self._active),
                    timeout=ENDING_SECONDS,
                    fetch_local=False,
                )
            raise

    def _submit(self, name: str) -> None:
        study, task = str(self._schedule.study), self._task
        if (node := self._sound_node(name)) is not None:
            from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

            task = task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=True))
        tries = len(self._schedule.tries(name))
        self._active[task.remote(study, name, self._launch.token)] = (name, tries)

    def _sound_node(self, name: str) -> str | None:
        """Return a node for a run whose machines failed, which is none of them; None where that does not matter."""
        at_fault = self._schedule.hosts_at_fault(name)
        if not at_fault:
            return None
        alive = [n for n in self._ray.nodes() if n["Alive"] and n["NodeManagerHostname"] not in at_fault]
        return str(alive[self._ended % len(alive)]["NodeID"]) if alive else None

    def _finish(self, reference: Any) -> None:
        name, tries = self._active.pop(reference)
        try:
            again = bool(self._ray.get(reference))
            status = self._schedule.status(name)
        except self._ray.exceptions.RayError as error:
            # its node or its process died; while the lease is fresh, the next worker waits for a sign of life
            if isinstance(
                error, self._ray.exceptions.RayTaskError
            ):  # it did not even start, as without our package
                self._schedule.begin(name, self._launch.token).close(ExitCode.FAILED, error=error)
            elif len(self._schedule.tries(name)) == tries:
                self._schedule.begin(name, self._launch.token)
            status = self._schedule.status(name)
            again = status.state not in OVER and not self._schedule.is_cancelled(self._launch.token)
            self._tell(f"{name}: its node or its process ended ({type(error).__name__}).")
        if again:
            self._waiting.append(name)
        else:
            self._ended += 1
            if status.state == "running":
                self._left.append(name)
        self._tell(told(status, self._ended, len(self._launch.runs), again=again))

    def _taken_back(self) -> bool:
        """Queue runs that were left to other processes, and that those have given back meanwhile."""
        back = [name for name in self._left if self._schedule.status(name).state in GIVEN_BACK]
        self._left = []
        self._waiting.extend(back)
        self._ended = max(0, self._ended - len(back))
        return bool(back)
