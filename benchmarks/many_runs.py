"""A study of many tiny runs through a scheduler on this machine: what each run costs beyond its training.

Each run makes two steps on a phantom of 16^3. While they are trained, `--status` and the board of
`segexplorer watch` are read every few seconds, and timed. Printed are the wall time, the seconds of a run from its
claim to its end, how many end in which state at which try, and the longest time that a look took.

    python benchmarks/many_runs.py [--on local] [--runs 200] [--jobs 2] [--small]

--on slurm takes the SLURM that is here; with SEGEXPLORER_SLURM, as `scripts/test_cluster.sh` sets it, the two nodes
of the tests. --on ray takes the cluster of RAY_ADDRESS, or starts two nodes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import yaml

from segexplorer.frontends.cli.study import _queued as queued_runs
from segexplorer.study.schedule import OVER, Schedule
from segexplorer.viewmodels.board import Board

REPOSITORY = Path(__file__).parents[1]
LOOK_SECONDS = 5.0
STUDY = {
    "data": {"kind": "phantom", "size": 16, "count": 2},
    "split": {"validation_count": 1},
    "network": {"kind": "unet", "base_features": 2, "levels": 2},
    "sampling": {"patch_size": [8, 8, 8], "batch_size": 1, "steps_per_epoch": 2},
    "schedule": {"kind": "constant", "epochs": 1},
    "validation": {"logits_mb": 0},
    "loss": "dice",
    "compute": {"threads": 1, "device": "cpu"},
}


@contextlib.contextmanager
def scheduler(kind: str) -> Iterator[None]:
    """Bring up what is needed, and end it."""
    if kind == "slurm" and "SEGEXPLORER_SLURM" in os.environ:
        sys.path.insert(0, str(REPOSITORY))
        from tests.cluster.conftest import Slurm

        with tempfile.TemporaryDirectory() as folder:
            nodes = Slurm(Path(folder), Path(os.environ["SEGEXPLORER_SLURM"]))
            os.environ.update(nodes.environment)
            try:
                nodes.start()
                yield
            finally:
                nodes.stop()
    elif kind == "ray" and "RAY_ADDRESS" not in os.environ:
        from ray.cluster_utils import Cluster

        nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        try:
            for _ in range(2):
                nodes.add_node(num_cpus=1)
            os.environ["RAY_ADDRESS"] = nodes.address
            yield
        finally:
            nodes.shutdown()
    else:
        yield


def timed_look(schedule: Schedule, board: Board, took: dict[str, list[float]]) -> Counter[str]:
    """Look as `--status` and as the board do; return state -> runs."""
    began = time.perf_counter()
    states = Counter(status.state for status in schedule.statuses(queued_runs(schedule)))
    took["--status"].append(time.perf_counter() - began)
    began = time.perf_counter()
    board.refresh()
    took["board"].append(time.perf_counter() - began)
    return states


def main() -> None:
    """Train the study, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--on", choices=["local", "slurm", "ray"], default="local")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=2, help="at once")
    parser.add_argument("--output", type=Path, default=None, help="keep the study here")
    parser.add_argument("--small", action="store_true", help="two runs")
    given = parser.parse_args()
    runs = 2 if given.small else given.runs
    os.environ["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    with contextlib.ExitStack() as stack:
        place = given.output or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        place.mkdir(parents=True, exist_ok=True)
        file, folder = place / "study.yaml", place / "runs"
        cluster = {"kind": given.on, "max_jobs": given.jobs, "cpus": 1}
        file.write_text(yaml.safe_dump({**STUDY, "matrix": {"seed": list(range(runs))}, "cluster": cluster}))
        stack.enter_context(scheduler(given.on))
        report(file, folder, runs, given.on)


def report(file: Path, folder: Path, runs: int, on: str) -> None:
    """Launch the study, look at it until all runs are over, and print what was seen."""
    command = [sys.executable, "-m", "segexplorer.frontends.cli", "study", str(file), "-o", str(folder)]
    began = time.monotonic()
    with (file.parent / "launch.log").open("w") as log:
        launcher = subprocess.Popen(command, stdout=log, stderr=log)
        schedule, board = Schedule(folder.absolute()), Board(folder)
        took: dict[str, list[float]] = {"--status": [], "board": []}
        submitted = 0.0
        while True:
            time.sleep(LOOK_SECONDS)
            ended = launcher.poll() is not None
            submitted = submitted or (time.monotonic() - began if ended else 0.0)
            if not folder.exists():
                continue
            states = timed_look(schedule, board, took)
            print(f"{time.monotonic() - began:6.0f} s: {dict(states)}; {board.summary()}", flush=True)
            if ended and (on != "slurm" or all(state in OVER for state in states)):
                break
    wall = time.monotonic() - began
    tries = [try_ for name in schedule.names() for try_ in schedule.tries(name)]
    seconds = [try_.updated - try_.began for try_ in tries if try_.end == "finished"]
    each = f"{wall / len(seconds):.1f} s each" if seconds else "none"
    print(f"{len(seconds)} of {runs} runs finished on {on} in {wall:.0f} s: {each}")
    print(f"the launcher ended after {submitted:.0f} s with exit code {launcher.returncode}")
    ends = Counter(f"try {try_.number} {try_.end or 'died'}" for try_ in tries)
    print(f"states {dict(states)}; {dict(ends)}")
    if seconds:
        print(f"from claim to end: median {statistics.median(seconds):.1f} s, at most {max(seconds):.1f} s")
    for what, values in took.items():
        print(f"{what}: {1000 * statistics.median(values):.0f} ms, at most {1000 * max(values):.0f} ms")
    files = sum(1 for _ in folder.rglob("*"))
    print(f"{files / max(1, len(tries)):.0f} files and folders a run")


if __name__ == "__main__":
    main()
