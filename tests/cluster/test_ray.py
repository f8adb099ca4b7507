"""Studies as tasks of Ray: two nodes on this computer, one of which dies; no usage statistics, no dashboard."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from segexplorer.core.errors import ExitCode
from segexplorer.training.history import open_run
from tests.cluster.conftest import Study, wait_for

# Ray leaves files open for the garbage collector
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
RAY = {"kind": "ray"}
FEW = {"patch_size": [16, 16, 16], "batch_size": 1, "steps_per_epoch": 2}


class RayNodes:
    """A head without cores of its own, so that no task is where the launcher is, and nodes with one core each."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
        )
        self.nodes: list[Any] = []

    def fill(self) -> None:
        """Add nodes until there are two."""
        while len(self.nodes) < 2:
            self.nodes.append(_patiently(lambda: self.cluster.add_node(num_cpus=1)))

    def kill_with(self, process: int) -> None:
        """Let the node die on which a process of a task was started."""
        ancestors = {parent.pid for parent in psutil.Process(process).parents()}
        (node,) = (n for n in self.nodes if n.all_processes["raylet"][0].process.pid in ancestors)
        self.nodes.remove(node)
        self.cluster.remove_node(node, allow_graceful=False)


def _patiently(start: Callable[[], Any]) -> Any:
    """Start a part of Ray, which gives itself 30 seconds however busy the computer is."""
    for _ in range(3):
        try:
            return start()
        except Exception as error:
            problem = error
    raise problem


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[RayNodes]:
    """Ray for all tests of this file; `scripts/test_cluster.sh` gives it a home folder of its own."""
    if "SEGEXPLORER_RAY" not in os.environ:
        pytest.skip("make test-cluster brings Ray")
    nodes = _patiently(RayNodes)
    try:
        yield nodes
    finally:
        nodes.cluster.shutdown()


@pytest.fixture
def ray_nodes(ray_cluster: RayNodes, monkeypatch: pytest.MonkeyPatch, environment: None) -> RayNodes:
    """Two nodes of Ray, whose processes find this checkout."""
    monkeypatch.setenv("RAY_ADDRESS", ray_cluster.cluster.address)
    ray_cluster.fill()
    return ray_cluster


def holder(study: Study, name: str) -> int:
    """Return the process that trains a run, once it has taken some steps."""

    def training() -> Any:
        return study.step(name) >= 20 and open_run(study.folder / name).holder

    return int(wait_for(training).pid)


def logs(study: Study) -> str:
    return "\n".join(f.read_text(errors="replace") for f in (study.schedule.folder / "logs").glob("*.log"))


def test_a_study_is_trained_by_both_nodes_and_compared(
    tmp_path: Path, ray_nodes: RayNodes, capsys: pytest.CaptureFixture[str]
) -> None:
    study = Study(tmp_path, matrix={"loss": ["dice", "focal"], "seed": [0, 1]}, cluster=RAY, sampling=FEW)
    assert study.command() == 0
    told = capsys.readouterr()
    assert set(study.states().values()) == {"done"}, logs(study)
    assert "[4 of 4]" in told.err and "focal" in told.out
    assert study.command() == 0 and {len(study.ends(n)) for n in study.schedule.names()} == {1}


def test_a_node_that_dies_costs_nothing_that_was_trained_and_a_killed_process_goes_on(
    tmp_path: Path, ray_nodes: RayNodes
) -> None:
    longer = {"patch_size": [16, 16, 16], "batch_size": 1, "steps_per_epoch": 1000}
    study = Study(tmp_path, matrix={"seed": [0, 1]}, cluster=RAY, sampling=longer)
    problems: list[BaseException] = []

    def harm() -> None:
        try:
            os.kill(holder(study, "seed0"), signal.SIGKILL)
            wait_for(lambda: len(study.ends("seed0")) == 2)
            ray_nodes.kill_with(holder(study, "seed0"))
        except BaseException as error:
            problems.append(error)

    thread = threading.Thread(target=harm)
    thread.start()
    assert study.command() == 0
    thread.join()
    assert not problems
    assert set(study.states().values()) == {"done"}, logs(study)
    killed, with_node, last = study.ends("seed0")
    assert killed == "" and last == "finished"
    assert with_node in ("preempted", ""), "it saved its run, or Ray was quicker"
    for name in ("seed0", "seed1"):
        assert study.is_as_uninterrupted(name), name


def test_what_is_cancelled_is_saved_and_goes_on_with_the_next_launch(
    tmp_path: Path, ray_nodes: RayNodes
) -> None:
    study = Study(tmp_path, matrix={"seed": [0, 1, 2]}, cluster={**RAY, "max_jobs": 1})
    cancel = threading.Thread(target=lambda: (holder(study, "seed0"), study.process("--cancel").wait()))
    cancel.start()
    assert study.command() == ExitCode.INTERRUPTED
    cancel.join()
    assert study.states() == {"seed0": "stopped", "seed1": "waiting", "seed2": "waiting"}, logs(study)
    assert study.command("--on", "local") == 0, "elsewhere"
    assert study.is_as_uninterrupted("seed0")


def test_a_node_without_what_a_run_asks_for_is_said(
    tmp_path: Path, ray_nodes: RayNodes, capsys: pytest.CaptureFixture[str]
) -> None:
    study = Study(tmp_path, matrix={"seed": [0]}, cluster={**RAY, "cpus": 64})
    assert study.command() == ExitCode.MISTAKE
    assert "No node of the Ray cluster has 64 CPU cores" in capsys.readouterr().err
