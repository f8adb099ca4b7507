"""Who owns a run folder: races of real processes for it, and what owning it costs per step.

    python benchmarks/ownership.py [--rounds 25] [--processes 4] [--steps 600] [--repeats 4] [--small]

Races: in each round, all processes are let go at once, and try to (1) start a run under the default name, in the
same second and folder, (2) start one in the same named folder, (3) take over the same lease of a process that has
died, (4) do so while that was suspended rather than dead, and is continued in the middle. In (1) all must get a
folder of their own, in the others exactly one may.

Cost: short runs with the lease, its heart and the check before every write, and the same runs without any of them,
one after the other in one process. The time of a step is that between two events at the reader, so that everything
that is written counts; processor time is told beside it, since it does not depend on what else the machine does.
Prints counts, medians and their ratio; exits with 1 where a race was lost.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path

from segexplorer.core.events import StepDone
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.ownership import OWNER, Holder, Lease
from segexplorer.training.run import Run

RACER = """
import dataclasses
import sys
from pathlib import Path
from segexplorer.core.errors import SegExplorerError
from segexplorer.training import ownership
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
if sys.argv[1] == "elsewhere":
    here = ownership.this_host()
    ownership.this_host = lambda: dataclasses.replace(here, name="elsewhere", machine="m", boot="b")
experiment = Experiment.of({"data": {"kind": "phantom"}, "name": "race"})
kept = {}
print("ready", flush=True)
for line in sys.stdin:
    command, place = line.split()
    try:
        if command == "start":
            print(RunFolder.create(experiment, parent=Path(place)).path, flush=True)
        elif command == "name":
            RunFolder.create(experiment, Path(place))
            print("mine", flush=True)
        elif command == "check":
            kept[place].check()
            print("mine", flush=True)
        else:
            kept[place] = ownership.Lease.take(Path(place))
            print("mine", flush=True)
    except SegExplorerError as error:
        print(type(error).__name__, flush=True)
"""
RUN = {
    "data": {"kind": "phantom", "count": 3, "size": 32, "seed": 1},
    "split": {"validation_count": 1},
    "network": {"kind": "unet", "base_features": 4, "levels": 2},
    "loss": "dice",
    "schedule": {"kind": "constant", "epochs": 1},
    "compute": {"device": "cpu", "precision": "float32", "threads": 1},
}


# ---- races


@contextmanager
def racer(where: str = "here") -> Iterator[subprocess.Popen[str]]:
    """Start a process that waits for commands; "elsewhere" takes itself for one on another computer."""
    command = [sys.executable, "-c", RACER, where]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert answer(process) == "ready"
            yield process
        finally:
            process.kill()


def answer(process: subprocess.Popen[str]) -> str:
    """Read a line that a process printed."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def ask(process: subprocess.Popen[str], command: str, place: Path) -> None:
    """Send a command to a process."""
    assert process.stdin is not None
    process.stdin.write(f"{command} {place}\n")
    process.stdin.flush()


def answers(racers: Sequence[subprocess.Popen[str]], command: str, place: Path) -> Counter[str]:
    """Let all processes do the same at once."""
    for process in racers:
        ask(process, command, place)
    return Counter(answer(process) for process in racers)


def race(rounds: int, processes: int, scratch: Path) -> bool:
    """Run all races; return whether none was lost."""
    won: Counter[str] = Counter()
    with ExitStack() as stack:
        racers = [stack.enter_context(racer()) for _ in range(processes)]
        others = [stack.enter_context(racer("elsewhere")) for _ in range(processes)]
        owner = stack.enter_context(racer())
        for number in range(rounds):
            told = answers(racers, "start", scratch)
            won["default name: a folder each"] += len(told) == processes and max(told.values()) == 1
            told = answers(racers, "name", scratch / f"named{number}")
            won["named folder: one gets it"] += told["mine"] == 1
            (dead := scratch / f"dead{number}").mkdir()
            gone = Holder.this_process().model_copy(update={"pid": 2**22 + 1, "started": "1"})
            (dead / OWNER).write_text(gone.model_dump_json())
            won["dead owner: one takes over"] += answers(racers, "take", dead)["mine"] == 1
            won["suspended owner: one takes over, and it notices"] += suspended(
                owner, others, scratch, number
            )
    for what, count in won.items():
        print(f"{what}: {count} of {rounds} rounds, {processes} processes")
    return all(count == rounds for count in won.values())


def suspended(
    owner: subprocess.Popen[str], others: Sequence[subprocess.Popen[str]], scratch: Path, number: int
) -> bool:
    """Let others take over from an owner that was suspended for long; it is continued while they try."""
    (folder := scratch / f"silent{number}").mkdir()
    ask(owner, "take", folder)
    assert answer(owner) == "mine"
    os.kill(owner.pid, signal.SIGSTOP)
    long_ago = time.time() - 1000
    os.utime(folder / OWNER, (long_ago, long_ago))
    for process in others:
        ask(process, "take", folder)
    os.kill(owner.pid, signal.SIGCONT)
    taken = Counter(answer(process) for process in others)
    ask(owner, "check", folder)
    kept = answer(owner)
    return taken["mine"] == 1 and kept == "OwnershipLostError"


# ---- cost


class UnownedFolder(RunFolder):
    """A run folder as it was before: nobody owns it, and nothing is checked."""

    def hold(self) -> Lease:
        """Take nothing."""
        return None  # type: ignore[return-value]

    def require_ownership(self) -> None:
        """Check nothing."""


Pair = tuple[float, float]


def step_seconds(folder: RunFolder) -> list[Pair]:
    """Return time and processor time between the steps of a run, all that is written included."""
    times = [
        (time.perf_counter(), time.process_time()) for event in Run(folder) if isinstance(event, StepDone)
    ]
    return [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(times[20:])]


def cost(steps: int, repeats: int, scratch: Path) -> None:
    """Print the time of a step with and without ownership."""
    settings = {**RUN, "sampling": {"patch_size": [16, 16, 16], "batch_size": 1, "steps_per_epoch": steps}}
    experiment = Experiment.of(settings)
    kinds = {"owned": RunFolder, "unowned": UnownedFolder}
    found: dict[str, list[Pair]] = {name: [] for name in kinds}
    for repeat in range(repeats + 1):  # the first warms up
        for name, kind in kinds.items():
            made = RunFolder.create(experiment, scratch / f"{name}{repeat}")
            seconds = step_seconds(kind(made.path))
            found[name] += seconds if repeat else []
    medians = {
        name: tuple(map(statistics.median, zip(*values, strict=True))) for name, values in found.items()
    }
    for name, (wall, processor) in medians.items():
        print(
            f"step {name}: median {1e3 * wall:.3f} ms, {1e3 * processor:.3f} ms of processor time, of "
            f"{len(found[name])} steps"
        )
    for number, what in enumerate(("time", "processor time")):
        ratio = medians["owned"][number] / medians["unowned"][number]
        print(f"ratio of medians, owned to unowned, {what}: {ratio:.3f}")
    (scratch / "lease").mkdir()
    begun = time.perf_counter()
    lease = Lease.take(scratch / "lease")
    taken = time.perf_counter() - begun
    count, begun = 2000, time.process_time()
    for _ in range(count):
        lease.check()
    each = (time.process_time() - begun) / count
    lease.release()
    share = each / medians["unowned"][1]
    print(f"a check: {1e6 * each:.1f} us of processor time, {100 * share:.2f} % of such a step's")
    print(f"taking a lease: {1e3 * taken:.1f} ms")


def main() -> int:
    """Run the races and measure the cost; 0 where no race was lost."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--small", action="store_true", help="a few steps, to see that it runs")
    options = parser.parse_args()
    if options.small:
        options.rounds, options.processes, options.steps, options.repeats = 1, 1, 24, 1
    with tempfile.TemporaryDirectory() as scratch:
        (races := Path(scratch) / "races").mkdir()
        won = race(options.rounds, options.processes, races)
        (runs := Path(scratch) / "runs").mkdir()
        cost(options.steps, options.repeats, runs)
    print(json.dumps({"races won": won}))
    return 0 if won else 1


if __name__ == "__main__":
    sys.exit(main())
