"""Experiments proposed by `segexplorer init` against hand-made ones, trained for equal processor time.

    python benchmarks/proposals.py [--data hippocampus ct_crop ct_phantom mr_phantom] [--seconds 60] [--seeds 3]
                                   [--small]

Both learn the same classes of the same cases with the same split. A proposal is asked for so many minutes. Then
both get as many optimiser steps as fit into the time, timed by processor time, which other programs lengthen least;
one validation at the end comes on top of it. Every run has one thread and a process of its own. Printed is the mean
Dice of whole validation volumes at the end of training, with the processor time that each run took, start and
validation included. Rows are added to `--output` as they come, so that a measurement which is broken off can be
continued.

Real data is looked for in ../shared/data (SEGEXPLORER_SHARED names another place); what is absent is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

SHARED = Path(os.environ.get("SEGEXPLORER_SHARED", Path(__file__).resolve().parents[2] / "shared"))
HAND_MADE = {
    "hippocampus": "hippocampus_adaptive_tversky_ce",
    "ct_crop": "ct_abdomen_adaptive_region",
    "ct_phantom": "chen2023_phantom",
    "mr_phantom": "yeung2022_phantom",
}


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data", nargs="+", default=[*HAND_MADE], choices=[*HAND_MADE])
    parser.add_argument("--seconds", type=float, default=60.0, help="processor time of a run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--arms", nargs="+", default=["hand-made", "init"], choices=["hand-made", "init"])
    parser.add_argument("--set", nargs="*", default=[], dest="settings", help="NAME=VALUE of proposals")
    parser.add_argument("--output", type=Path, default=None, help="lines of JSON, one per run")
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--small", action="store_true", help="a few steps, to see that it runs")
    given = parser.parse_args()
    if given.small:
        given.data, given.seconds, given.seeds, given.arms = ["ct_phantom"], 1.0, 1, ["init"]
    if given.train is not None:
        print(json.dumps(train(given.train)))
        return
    rows = measure(given)
    print(table(rows))


def measure(given: argparse.Namespace) -> list[dict[str, Any]]:
    """Train both arms of every data set and seed, one after the other."""
    rows: list[dict[str, Any]] = []
    if given.output is not None and given.output.exists():
        rows = [json.loads(line) for line in given.output.read_text(encoding="utf-8").splitlines()]
    with tempfile.TemporaryDirectory(prefix="segexplorer-proposals-") as scratch:
        for seed in range(given.seeds):
            for name in given.data:
                for arm in given.arms:
                    if any((r["data"], r["arm"], r["seed"]) == (name, arm, seed) for r in rows):
                        continue
                    row = one(name, arm, seed, given.seconds, given.settings, Path(scratch))
                    if row is None:
                        continue
                    rows.append(row)
                    print(json.dumps(row), flush=True)
                    if given.output is not None:
                        with given.output.open("a", encoding="utf-8") as file:
                            file.write(json.dumps(row) + "\n")
    return rows


made: dict[tuple[str, str], tuple[Any, float]] = {}
"""Data set and arm -> its experiment and the processor time of a step: the same for every seed."""


def one(
    name: str, arm: str, seed: int, seconds: float, settings: list[str], scratch: Path
) -> dict[str, Any] | None:
    """Make the experiment of an arm and train it in a process of its own."""
    from segexplorer.frontends.cli.settings import parse_settings

    source = place(name, scratch)
    if source is None:
        return None
    key = (name, arm)
    if key not in made:
        made[key] = fitted((hand_made if arm == "hand-made" else proposed)(name, source, seconds), seconds)
    experiment, step = made[key]
    experiment = experiment.with_settings({"seed": seed, **parse_settings(settings if arm == "init" else [])})
    file = scratch / f"{name}-{arm}-{seed}.yaml"
    experiment.save(file)
    command = [sys.executable, __file__, "--train", str(file)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    if done.returncode:
        raise SystemExit(f"{name}, {arm}: {done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    sampling, network = experiment.sampling, experiment.network.plain()
    return {
        "data": name,
        "arm": arm,
        "seed": seed,
        **found,
        "patch": list(sampling.patch_size or ()),
        "features": network["base_features"],
        "step": round(step, 3),
        "steps": experiment.schedule.epochs * (sampling.steps_per_epoch or 0),
    }


def place(name: str, scratch: Path) -> dict[str, Any] | None:
    """Return the data section of a data set, None where it is not here; phantoms are written once, as NIfTI."""
    from segexplorer.training.experiment import read_yaml, sample_configs

    section = dict(read_yaml(sample_configs() / f"{HAND_MADE[name]}.yaml")["data"])
    real = SHARED / "data"
    if name in ("hippocampus", "ct_crop"):
        if not real.is_dir():
            return None
        text = json.dumps(section).replace("${SEGEXPLORER_DATA}", str(real))
        return dict(json.loads(text))
    folder = scratch / name
    if not folder.exists():
        write_phantoms(section, folder)
    from segexplorer.data.datasets import spec

    values = spec("phantom").of(section).class_values()
    classes = {n: v[0] for n, v in values.items()}
    return {"kind": "folder", "root": str(folder), "classes": section.get("classes", classes)}


def write_phantoms(section: Mapping[str, Any], folder: Path) -> None:
    """Write the phantoms of a data section as images and labels."""
    from segexplorer.data.datasets import parse
    from segexplorer.data.io import save_volume

    for ref in parse(section).cases():
        case = ref.open()
        assert case.label is not None
        for part, volume in (("images", case.images[0]), ("labels", case.label)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            save_volume(volume, folder / part / f"{case.id}.nii.gz", integer=part == "labels")


def hand_made(name: str, data: dict[str, Any], seconds: float) -> Any:
    """Return the sample configuration, for data that is elsewhere."""
    from segexplorer.training.experiment import Experiment, shipped_experiment

    return Experiment.from_yaml(shipped_experiment(HAND_MADE[name]).path, {"data": data})


def proposed(name: str, data: dict[str, Any], seconds: float) -> Any:
    """Return what `segexplorer init` proposes for so many minutes, with the split of the sample configuration."""
    from segexplorer.data.datasets import parse
    from segexplorer.training.proposal import propose, this_machine
    from segexplorer.training.timing import measure

    proposal = propose(
        parse(data),
        minutes=seconds / 60,
        hardware=replace(this_machine(), gpu=False),
        measure=lambda plan: measure(_alone(plan), clocks=(time.process_time,)),
    )
    return proposal.experiment.with_settings({"split": hand_made(name, data, seconds).split.plain()})


def fitted(experiment: Any, seconds: float) -> tuple[Any, float]:
    """Return an experiment with one validation, at its end, and as many steps as fit into the time before that.

    Epochs become ten, so that both arms have schedules of the same grain; the warm-up keeps its share of the steps.
    """
    from segexplorer.training.plan import resolve
    from segexplorer.training.timing import measure

    alone = experiment.with_settings(
        {
            "compute.threads": 1,
            "compute.device": "cpu",
            "schedule.epochs": EPOCHS,
            "validation.every_epochs": EPOCHS,
            "validation.metrics": [],
            "validation.calibration": False,
        }
    )
    found = measure(_alone(resolve(alone)), clocks=(time.process_time,))
    assert found is not None
    steps = max(1, round((seconds - found.reading) / found.step / EPOCHS))
    before = experiment.schedule.epochs * (experiment.sampling.steps_per_epoch or steps)
    warmup = round(experiment.schedule.warmup_steps / before * steps * EPOCHS)
    chosen = alone.with_settings({"sampling.steps_per_epoch": steps, "schedule.warmup_steps": warmup})
    if "average_weights" in experiment.validation.model_fields_set:
        memory = experiment.validation.average_weights  # over the same share of the steps as before
        share = 1 / (1 - memory) / before
        memory = max(0.5, 1 - 1 / max(2.0, share * steps * EPOCHS)) if memory else 0.0
        chosen = chosen.with_settings({"validation.average_weights": round(memory, 4)})
    return chosen, found.step


EPOCHS = 10


def _alone(plan: Any) -> Any:
    """Return a plan with one thread, as it is trained here."""
    return replace(plan, runtime=replace(plan.runtime, threads=1))


def train(file: Path) -> dict[str, Any]:
    """Train an experiment here, and return the last mean Dice, that of each class, and the processor time."""
    from segexplorer.core.events import RunFinished, ValidationDone
    from segexplorer.training.experiment import Experiment
    from segexplorer.training.folder import RunFolder
    from segexplorer.training.run import Run

    begun = time.process_time()
    scores: list[ValidationDone] = []
    with tempfile.TemporaryDirectory() as folder:
        for event in Run(RunFolder.create(Experiment.from_yaml(file), Path(folder) / "run")):
            if isinstance(event, ValidationDone):
                scores.append(event)
            elif isinstance(event, RunFinished) and event.state != "finished":
                raise SystemExit(f"{event.state}: {event.error} {event.cause}")
    return {
        "dice": round(scores[-1].mean_dice, 4),
        "best": round(max(s.mean_dice for s in scores), 4),
        "classes": {n: round(d, 3) for n, d in scores[-1].class_dice.items()},
        "seconds": round(time.process_time() - begun, 1),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return the means over seeds, one line per data set, and their difference."""
    lines = ["| data | hand-made | init | difference | processor s |", "|---|---|---|---|---|"]
    for name in dict.fromkeys(row["data"] for row in rows):
        found = {
            arm: [row for row in rows if (row["data"], row["arm"]) == (name, arm)]
            for arm in ("hand-made", "init")
        }
        means = {arm: statistics.mean(r["dice"] for r in own) for arm, own in found.items() if own}
        texts = [_mean_text([row["dice"] for row in own]) for own in found.values()]
        gap = f"{means['init'] - means['hand-made']:+.3f}" if len(means) == 2 else ""
        spent = " / ".join(
            f"{statistics.mean(r['seconds'] for r in own):.0f}" for own in found.values() if own
        )
        lines.append(f"| {name} | {' | '.join(texts)} | {gap} | {spent} |")
    return "\n".join(lines)


def _mean_text(values: list[float]) -> str:
    if not values:
        return ""
    return f"{statistics.mean(values):.3f} ({', '.join(f'{value:.3f}' for value in values)})"


if __name__ == "__main__":
    main()
