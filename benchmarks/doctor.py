"""Misses and false alarms of the loss doctor: ten runs made to fail in known ways, and twenty healthy ones.

Each run trains a small network on phantoms for seconds. A failure is found where the check that should see it
reports a problem; every problem in a healthy run is a false alarm. What a threshold is follows from reasons that
are written beside it (`segexplorer/training/doctor/`), not from these runs; the table in the documentation was
made once, with a seed that had not been used before.

    python benchmarks/doctor.py [--seed 0] [--small] [--only NAME]
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

import segexplorer
from segexplorer import losses
from segexplorer.core.errors import TrainingError
from segexplorer.data.volume import Volume
from segexplorer.functional.inputs import LossInputs
from segexplorer.losses.base import LossOutput, LossSpec, Numbers, registry
from segexplorer.losses.module import Loss
from segexplorer.training.doctor import Diagnosis
from segexplorer.training.history import open_run

Settings = Mapping[str, Any]
HALF = 60
"""Step at which something happens to the runs that begin well."""


class Breaking(LossSpec):
    """A cross entropy with which something happens: it is multiplied at one step, or forgets the classes after
    it."""

    display_name: ClassVar[str] = "Breaking"
    kind: Literal["breaking_in_benchmark"] = "breaking_in_benchmark"
    factor: float = 1.0
    forgets: bool = False

    def state_buffers(self) -> Numbers:
        """Count steps."""
        return {"count": (0.0,)}

    def after_step(self, state: Loss, terms: Mapping[str, float]) -> Numbers:
        """Count one."""
        return {"count": (state.numbers("count")[0] + 1,)}

    def compute(self, inputs: LossInputs, state: Loss) -> LossOutput:
        """Break at the step, or take everything for background after it."""
        inner, done = losses.parse("cross_entropy"), state.numbers("count")[0]
        if self.forgets and done >= HALF and inputs.labels is not None:
            nothing = inputs.labels.new_zeros((len(inputs.logits), 1, *inputs.spatial))
            inputs = LossInputs(inputs.logits, nothing, inputs.context, None)
        value = inner.compute(inputs, inner.build()).value
        value = value * self.factor if done == HALF else value
        return LossOutput(value, {"breaking_in_benchmark": (value.detach(), 1.0)})


def base(seed: int, **changed: Any) -> dict[str, Any]:
    """Return a healthy experiment: two thirds of a minute on an idle core."""
    plain: dict[str, Any] = {
        "data": {"kind": "phantom", "count": 3, "size": 32, "seed": seed, "classes": {"liver": 1}},
        "split": {"validation_count": 1},
        "sampling": {"patch_size": [16, 16, 16], "batch_size": 2, "steps_per_epoch": 15},
        "network": {"kind": "unet", "base_features": 8, "levels": 2},
        "loss": "dice_cross_entropy",
        "optimiser": {"kind": "adamw", "learning_rate": 0.005},
        "schedule": {"kind": "polynomial", "epochs": 8},
        "validation": {"calibration": False, "keep_probabilities": False, "logits_mb": 0, "overlap": 0.0},
        "monitoring": {"gradients_every": 5},
        "compute": {"device": "cpu", "precision": "float32", "threads": 1},
        "seed": seed,
    }
    for name, value in changed.items():
        section, _, inner = name.partition("__")
        if inner:
            plain[section] = {**plain[section], inner: value}
        else:
            plain[section] = value
    return plain


def sum_of(*terms: Mapping[str, Any], weighting: Any = "fixed") -> dict[str, Any]:
    """Return a weighted sum of losses."""
    return {"kind": "weighted_sum", "terms": list(terms), "weighting": weighting}


# ---- ten ways to fail, each with the check that should find it


def misplaced(seed: int, folder: Path) -> dict[str, Any]:
    """Return an experiment on two cases whose label cannot be seen in the image, at different places."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*[np.linspace(-1, 1, 32, dtype=np.float32)] * 3, indexing="ij")
    for number, centre in enumerate(((-0.5, -0.5, 0.0), (0.5, 0.4, 0.2))):
        image = sum(axes) + rng.normal(scale=0.05, size=(32,) * 3).astype(np.float32)
        distance = sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True))
        for what, array in (("images", image), ("labels", (distance < 0.15).astype(np.uint8))):
            (folder / what).mkdir(parents=True, exist_ok=True)
            volume = Volume.from_array(array, affine=np.eye(4))
            segexplorer.save_volume(volume, folder / what / f"case_{number}.nii.gz", integer=what == "labels")
    data = {"kind": "folder", "root": str(folder), "classes": {"ball": 1}}
    whole = {"patch_size": [32, 32, 32], "batch_size": 1, "steps_per_epoch": 15}
    plain = base(seed, data=data, sampling=whole, augmentation={"enabled": False})
    return {**plain, "split": {"validation": ["case_1"]}}


def failures(seed: int, folder: Path) -> dict[str, tuple[str, Callable[[], Settings]]]:
    """Return name -> (check that should find it, experiment)."""
    small = {"kidneys": 3}
    quiet = sum_of({"loss": "dice"}, {"loss": "cross_entropy", "weight": 1e-4})
    tiny = sum_of({"loss": "cross_entropy", "weight": 1e-3})
    dwarfed = sum_of({"loss": "dice"}, {"loss": tiny, "name": "tiny"}, weighting="loss_proportion")
    plain = {"kind": "sgd", "learning_rate": 0.05, "gradient_clip": None}
    return {
        "everything is background from step 60 on": (
            "collapsed_class",
            lambda: base(seed, loss={"kind": "breaking_in_benchmark", "forgets": True}),
        ),
        "cross entropy of a rare class, its weight 1 %": (
            "collapsed_class",
            lambda: base(seed, data__classes=small, loss={"kind": "cross_entropy", "class_weights": [1.0, 0.01]}),
        ),
        "surplus voxels cost nothing": (
            "collapsed_class",
            lambda: base(seed, data__classes=small, loss={"kind": "tversky", "alpha": 0.0, "beta": 1.0}),
        ),
        "cross entropy with the weight 0.0001": ("silent_term", lambda: base(seed, loss=quiet)),
        "weights by share, a term a thousand times smaller": ("weight_at_limit", lambda: base(seed, loss=dwarfed)),
        "a loss that becomes infinite": (
            "exploding_gradient", lambda: base(seed, loss={"kind": "breaking_in_benchmark", "factor": 1e300}),
        ),
        "one gradient 10,000 times too large": (
            "exploding_gradient",
            lambda: base(seed, loss={"kind": "breaking_in_benchmark", "factor": 1e4}, optimiser=plain),
        ),
        "one training case, label not to be seen": ("generalisation_gap", lambda: misplaced(seed, folder)),
        "vessels on voxels of 30 mm": (
            "lost_on_grid",
            lambda: base(seed, data__classes={"liver": 1, "vessel": 6}, preprocessing={"spacing": [30, 30, 30]},
                         sampling__patch_size=[8, 8, 8]),
        ),
        "a learning rate of 1e-7": ("plateau", lambda: base(seed, optimiser__learning_rate=1e-7)),
    }  # fmt: skip


# ---- twenty healthy ones

HEALTHY = (
    "dice", "cross_entropy", "dice_cross_entropy", "tversky", "focal_tversky", "unified_focal", "combo",
    "chen2023_adaptive_region", "adaptive_tversky_cross_entropy", "hytver",
)  # fmt: skip
NETWORKS = (
    {"kind": "unet", "base_features": 8, "levels": 2},
    {"kind": "segresnet", "base_features": 8, "levels": 2},
)


def healthy(seed: int) -> dict[str, Settings]:
    """Return name -> experiment: ten losses with two networks, each with a seed of its own."""
    found = {}
    for number, loss in enumerate(HEALTHY):
        for which, network in enumerate(NETWORKS):
            own = seed + 1000 * (1 + 2 * number + which)
            found[f"{loss}, {network['kind']}"] = base(own % 2**31, loss=loss, network=network)
    return found


# ---- the table


def shortened(settings: Settings) -> Settings:
    """Return six steps of an experiment, all of them measured."""
    few = {**settings["sampling"], "steps_per_epoch": 3}
    course = {"schedule": {"kind": "polynomial", "epochs": 2}, "monitoring": {"gradients_every": 1}}
    return {**settings, **course, "sampling": few}


def examine(settings: Settings, folder: Path) -> tuple[Diagnosis, float]:
    """Train, and return what the doctor says and the last mean Dice."""
    with contextlib.suppress(TrainingError):  # some are made to fail
        segexplorer.train(settings, folder)
    record = open_run(folder)
    table = record.metrics
    last = table[table["step"] == table["step"].max()] if len(table) else table
    return segexplorer.diagnose(folder), float(last["dice"].mean()) if len(table) else float("nan")


def main() -> None:
    """Train, diagnose, print a line for each run and the counts."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--small", action="store_true", help="one failure and one healthy run")
    parser.add_argument("--runs", choices=("all", "failing", "healthy"), default="all")
    parser.add_argument("--only", default="", help="runs whose name contains this")
    given = parser.parse_args()
    misses = alarms = 0
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        failing = {n: v for n, v in failures(given.seed, root / "data").items() if given.only in n}
        sound = {n: v for n, v in healthy(given.seed).items() if given.only in n}
        if given.runs != "all":
            failing, sound = (failing, {}) if given.runs == "failing" else ({}, sound)
        if given.small:
            failing, sound = dict(list(failing.items())[3:4]), dict(list(sound.items())[:1])
        print("| run | made to fail in | Dice | problems | remarks | |\n|---|---|---|---|---|---|")
        for number, (name, (expected, make)) in enumerate(failing.items()):
            settings = shortened(make()) if given.small else make()
            diagnosis, dice = examine(settings, root / f"failing_{number}")
            hit = expected in {f.kind for f in diagnosis.problems}
            misses += not hit
            _line(name, expected, dice, diagnosis, "found" if hit else "MISSED")
        for number, (name, settings) in enumerate(sound.items()):
            settings = shortened(settings) if given.small else settings
            diagnosis, dice = examine(settings, root / f"healthy_{number}")
            alarms += len(diagnosis.problems)
            _line(name, "", dice, diagnosis, "FALSE ALARM" if diagnosis.problems else "")
    counts = f"{misses} of {len(failing)} failures missed, {alarms} false alarms in {len(sound)} runs"
    print(f"\nseed {given.seed}: {counts}")


def _line(name: str, expected: str, dice: float, diagnosis: Diagnosis, verdict: str) -> None:
    kinds = [", ".join(f.kind for f in diagnosis.findings if f.severity == s) for s in ("problem", "remark")]
    print(f"| {name} | {expected} | {dice:.2f} | {kinds[0]} | {kinds[1]} | {verdict} |", flush=True)
    for finding in diagnosis.problems:
        print(f"<!-- {finding.sentence} -->", flush=True)


if __name__ == "__main__":
    begun = time.perf_counter()
    registry.register(Breaking)
    try:
        main()
    finally:
        registry.unregister("breaking_in_benchmark")
    print(f"{time.perf_counter() - begun:.0f} s")
