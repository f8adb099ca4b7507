"""How long a run of a thousand epochs takes to open: its state, its events and curves, frames of its watched cases.

A run folder with 250 steps per epoch, a validation of five classes in four cases and a calibration of both watched
cases every epoch, gradients of the terms every 50 steps, and frames of 16^3 voxels is made up. Processor times on
one core, the best of the repeats. "Every line" reads the log without its index and adds every step to the curves by
itself; the other way gives the same events and curves, or this fails.

    python benchmarks/long_runs.py --epochs 1000
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segexplorer.core.events import (
    CaseScore,
    EpochDone,
    Event,
    Planned,
    Reliability,
    RunFinished,
    StateChanged,
    StepDone,
    ValidationDone,
    WatchedDone,
)
from segexplorer.training.event_log import drop_superseded, read_log
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.history import open_run
from segexplorer.training.run_files import EVENTS, INDEX
from segexplorer.training.run_status import StatusWriter, read_status, status_of
from segexplorer.training.sinks.record import EventLog
from segexplorer.training.snapshots import WatchedSnapshot
from segexplorer.viewmodels.curves import Curves
from segexplorer.viewmodels.status import Status

STEPS, CASES, CLASSES = 250, 4, ("liver", "spleen", "left_kidney", "right_kidney", "pancreas")
BINS, MEASURED_EVERY = 15, 50


def epoch(number: int, epochs: int, rng: np.random.Generator) -> list[Event]:
    """Return the events of one epoch."""
    first, made = (number - 1) * STEPS, []
    for step in range(first + 1, first + STEPS + 1):
        numbers = rng.random(6).tolist()
        terms = {"Dice": (numbers[0], 1.0), "cross entropy": (numbers[1], 1.0)}
        facts: dict[str, Any] = {
            "loss": numbers[2],
            "terms": terms,
            "gradient_norm": numbers[3],
            "samples": 2,
        }
        where: dict[str, Any] = {"seq": step, "step": step, "time": 1.7e9 + 0.3 * step, "epoch": number}
        cases = tuple(f"case_{n:04}" for n in rng.integers(0, 1000, 2))
        if step % MEASURED_EVERY == 0:
            facts["term_gradients"] = {"Dice": numbers[1], "cross entropy": numbers[2], "total": numbers[3]}
            facts["references"] = {"perfect": 0.0, "random": 1.0, "all background": 0.9}
        made.append(StepDone(**where, **facts, learning_rate=0.01 * numbers[4], seconds=0.3, cases=cases))
    scores = tuple(
        CaseScore(
            case=f"case_{n:04}",
            class_name=name,
            role="validation",
            state="scored",
            metrics={"dice": float(rng.random()), "hd95": float(10 * rng.random())},
            false_positive_ml=1.5,
            false_negative_ml=2.5,
            truth_ml=100.0,
        )
        for n in range(CASES)
        for name in CLASSES
    )
    last: dict[str, Any] = {"step": first + STEPS, "time": 1.7e9 + 0.3 * (first + STEPS), "epoch": number}
    dice = {name: float(rng.random()) for name in CLASSES}
    validation = ValidationDone(
        **last,
        loss=0.4,
        scores=scores,
        mean_dice=float(np.mean(list(dice.values()))),
        class_dice=dice,
        n_used=len(scores),
        n_absent=0,
        n_missed=0,
        best=number % 50 == 0,
        seconds=20.0,
    )
    watched = [
        WatchedDone(
            **{k: v for k, v in last.items() if k != "epoch"},
            case="case_0001",
            role=role,
            index=number,
            calibration=tuple(
                curve(name, region, rng) for name in (*CLASSES, "any class") for region in ("box", "all")
            ),
            class_dice=dice,
        )
        for role in ("train", "validation")
    ]
    return [*made, *watched, validation, EpochDone(**last, epochs=epochs, loss=0.4, terms={})]


def curve(name: str, region: Any, rng: np.random.Generator) -> Reliability:
    """Return one calibration curve."""
    counts = rng.integers(1, 10**5, BINS)
    sums = (counts * rng.random(BINS)).tolist()
    more = {"brier": float(rng.random()), "nll": float(rng.random()), "ece_mass": float(rng.random())}
    return Reliability(
        class_name=name,
        region=region,
        counts=tuple(counts.tolist()),
        confidences=tuple(sums),
        corrects=tuple((counts // 2).tolist()),
        **more,
    )


def make_run(folder: Path, epochs: int, frames: int) -> Path:
    """Write a run folder without training."""
    experiment = Experiment.of({"data": {"kind": "phantom"}, "loss": "dice_cross_entropy"})
    run, rng = RunFolder.create(experiment, folder), np.random.default_rng(0)
    status = StatusWriter(folder)
    log = EventLog(folder)
    try:
        planned = Planned(steps=epochs * STEPS, epochs=epochs, steps_per_epoch=STEPS, classes=CLASSES)
        for event in [StateChanged(state="preparing"), planned, StateChanged(state="running")]:
            log.write(event)
            status.status = status.status.after(event)
        for number in range(1, epochs + 1):
            for event in epoch(number, epochs, rng):
                log.write(event)
                status.status = status.status.after(event)
        end = RunFinished(step=epochs * STEPS, state="finished", reason="all epochs are done")
        log.write(end)
        status.write(end)
    finally:
        log.close()
    for index in range(frames):
        for role in ("train", "validation"):
            run.write_frame(
                WatchedSnapshot(
                    case="case_0001",
                    role=role,  # type: ignore[arg-type]
                    step=(index + 1) * STEPS,
                    index=index,
                    class_names=CLASSES,
                    affine=np.eye(4),
                    prediction=np.full((16, 16, 16), index % 6, np.uint8),
                ),
                1,
            )
    return folder


def drawn(events: Sequence[Event]) -> tuple[Curves, Status]:
    """Return what a window shows of a run's numbers."""
    curves, status = Curves(), Status()
    curves.extend(events)
    status.extend(events)
    for plot in curves.plots():
        curves.series(plot.key, 0.9)
    return curves, status


def timed(what: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Return the least processor seconds of several calls, and what the last one returned."""
    best, found = float("inf"), None
    for _ in range(repeats):
        begun = time.process_time()
        found = what()
        best = min(best, time.process_time() - begun)
    return best, found


def main() -> None:
    """Make a run, and open it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=1000)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="a few epochs, to see that it runs")
    given = parser.parse_args()
    if given.small:
        given.epochs, given.frames, given.repeats = 4, 2, 1
    with tempfile.TemporaryDirectory() as place:
        folder = make_run(Path(place) / "run", given.epochs, given.frames)
        size = (folder / EVENTS).stat().st_size / 1e6
        index = (folder / INDEX).stat().st_size / 1e6 if (folder / INDEX).exists() else 0.0
        print(f"{given.epochs * STEPS:,} steps, {size:.0f} MB of events, {index:.0f} MB of index", end="")
        print(f", {2 * given.frames} frames\n")
        before, kept = timed(lambda: drop_superseded(read_log(folder, indexed=False).events), given.repeats)
        now, events = timed(lambda: open_run(folder).events(), given.repeats)
        assert events == kept
        one_by_one, (curves, status) = timed(lambda: drawn(kept), given.repeats)
        at_once, (same, told) = timed(lambda: drawn(events), given.repeats)
        assert same.to_csv() == curves.to_csv()
        assert list(told.log) == list(status.log)
        opened, _ = timed(lambda: drawn(open_run(folder).events()), given.repeats)
        objects, _ = timed(lambda: list(events), given.repeats)
        folded, expected = timed(lambda: status_of(events), 1)
        state, known = timed(lambda: read_status(folder), 20)
        assert known == expected
        frames, found = timed(lambda: open_run(folder).watched("train"), given.repeats)
        assert len(found) == given.frames
        print("| What | Every line, s | Now, s |\n|---|---|---|")
        print(f"| state of the run | {before + folded:.2f} | {state:.4f} |")
        print(f"| all events | {before:.2f} | {now:.2f} |")
        print(f"| all events, each step made an object | {before:.2f} | {now + objects:.2f} |")
        print(f"| curves, status and log lines of these events | {one_by_one:.2f} | {at_once:.2f} |")
        print(f"| **from the folder to its curves and history** | {before + one_by_one:.2f} | {opened:.2f} |")
        print(f"| list of {given.frames} frames of one case |  | {frames:.2f} |")


if __name__ == "__main__":
    main()
