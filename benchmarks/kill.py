"""Kill training with SIGKILL at random moments; each time the folder must open and the run must go on exactly.

    python benchmarks/kill.py [--kills 4] [--seed 0] [--only NAME ...] [--small]

Every variant trains a small phantom experiment by the command line, once without interruption and once while it
is killed again and again: in float32 and bfloat16, with 1 and 2 threads, with deep supervision, with a loss that
adapts and one that learns its own parameters, by `train`, by `study`, and in an extension of a finished run. At the
end the losses of every step, the validation scores and the final weights must be equal bit for bit (same threads,
CPU). Prints one line per variant and a total, and exits with 1 on any difference.

A kill comes when the log has grown by a random number of events, and a random moment later; every fourth at a
random time after the start, which hits imports, the reading of the cases and the comparison with the checkpoint.
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from segexplorer.core.events import StepDone, ValidationDone
from segexplorer.training.checkpoint import WEIGHTS, open_checkpoint
from segexplorer.training.history import open_run
from segexplorer.training.progress import EXTENSION

CONFIG: dict[str, Any] = {
    "data": {"kind": "phantom", "count": 3, "size": 32, "seed": 3},
    "split": {"validation_count": 1},
    "sampling": {"patch_size": [16, 16, 16], "batch_size": 1, "steps_per_epoch": 8},
    "network": {"kind": "unet", "base_features": 4, "levels": 3},
    "loss": "dice_cross_entropy",
    "schedule": {"kind": "polynomial", "epochs": 5},
    "compute": {"device": "cpu", "threads": 1, "precision": "float32"},
}
PROGRAM = """
import sys
import segexplorer.training.engine as engine
engine.CHECKPOINT_SECONDS = 0.5
from segexplorer.frontends.cli.app import run
sys.exit(run(sys.argv[1:]))
"""
MORE = 3
"""Epochs by which the mode "extend" trains longer."""
Mode = Literal["train", "study", "extend"]


@dataclass(frozen=True)
class Variant:
    """What is trained, and by which command."""

    name: str
    mode: Mode = "train"
    settings: dict[str, Any] = field(default_factory=dict)


VARIANTS = (
    Variant("float32, 1 thread"),
    Variant("float32, 2 threads", settings={"compute": {"threads": 2}}),
    Variant("bfloat16, 1 thread", settings={"compute": {"precision": "bfloat16"}}),
    Variant("bfloat16, 2 threads", settings={"compute": {"precision": "bfloat16", "threads": 2}}),
    Variant("deep supervision", settings={"network": {"deep_supervision": "exp"}}),
    Variant("adaptive loss", settings={"loss": "adaptive_tversky_cross_entropy"}),
    Variant("learned loss", settings={"loss": "t_loss"}),
    Variant(
        "averaged weights, plateau",
        settings={"validation": {"average_weights": 0.9}, "schedule": {"kind": "plateau"}},
    ),
    Variant("study", "study", {"matrix": {"loss": ["dice", "tversky"]}}),
    Variant("extend", "extend"),
    Variant("extend, fresh schedule", "extend", {"schedule": {"extension": "fresh"}}),
)


@dataclass
class Outcome:
    """What the kills of one variant came to."""

    kills: int = 0
    unopened: int = 0
    equal: bool = False


def config_of(variant: Variant, path: Path) -> Path:
    """Write the experiment of a variant."""
    merged = {
        key: {**value, **variant.settings.get(key, {})}
        if isinstance(value, dict)
        else variant.settings.get(key, value)
        for key, value in CONFIG.items()
    }
    merged |= {key: value for key, value in variant.settings.items() if key not in CONFIG}
    path.write_text(yaml.safe_dump(merged, sort_keys=False))
    return path


def command(variant: Variant, config: Path, folder: Path) -> list[str]:
    """Return the arguments that begin or go on, as a user would give them."""
    if variant.mode == "study":
        return ["study", str(config), "--output", str(folder)]
    if variant.mode == "extend":
        asked = any(c.field == EXTENSION for c in open_run(folder).experiment.changes)
        return ["train", "--resume", str(folder), *([] if asked else ["--extend", str(MORE)])]
    if (folder / "experiment.yaml").exists():
        return ["train", "--resume", str(folder)]
    return ["train", str(config), "--output", str(folder)]


def start(arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    """Run the command line in a process of its own."""
    words = [sys.executable, "-c", PROGRAM, *arguments]
    return subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def runs_in(folder: Path) -> list[Path]:
    """Return the run folders of a run or a study, in order."""
    return sorted(
        path.parent for path in (*folder.glob("experiment.yaml"), *folder.glob("*/experiment.yaml"))
    )


def events_in(folder: Path) -> int:
    """Return how many events have been logged."""
    logs = [run / "events.jsonl" for run in runs_in(folder)]
    return sum(log.read_bytes().count(b"\n") for log in logs if log.exists())


def result(folder: Path) -> list[Any]:
    """Return what must be equal of every run: the losses and scores recorded, and the final weights."""
    found: list[Any] = []
    for run in runs_in(folder):
        events = open_run(run).events()
        steps = [(e.step, e.loss, e.learning_rate) for e in events if isinstance(e, StepDone)]
        checks = [(e.step, e.loss, e.mean_dice, e.best) for e in events if isinstance(e, ValidationDone)]
        weights = open_checkpoint(run / "checkpoints", "last")[0].folder / WEIGHTS
        found.append((run.name if folder != run else "", steps, checks, weights.read_bytes()))
    return found


def killed(process: subprocess.Popen[bytes], folder: Path, draw: random.Random, expected: int) -> bool:
    """Wait for a random moment and kill; return False when the process came to its end before."""
    begun, before = time.monotonic(), events_in(folder)
    by_time = draw.random() < 0.25
    wanted, until = before + draw.randint(1, max(2, expected // 3)), begun + draw.uniform(0.5, 6.0)
    while process.poll() is None:
        if (time.monotonic() >= until) if by_time else (events_in(folder) >= wanted):
            time.sleep(draw.uniform(0, 0.05))
            process.kill()
            break
        time.sleep(0.005)
    process.wait()
    return process.returncode < 0


def compare(variant: Variant, kills: int, draw: random.Random, scratch: Path) -> Outcome:
    """Train a variant both ways."""
    config, whole, broken = config_of(variant, scratch / "config.yaml"), scratch / "whole", scratch / "broken"
    if variant.mode == "extend":
        if start(["train", str(config), "--output", str(whole)]).wait() != 0:
            raise SystemExit(f"{variant.name}: the run before the extension failed")
        shutil.copytree(whole, broken)
    first = events_in(whole) if whole.exists() else 0
    if start(command(variant, config, whole)).wait() != 0:
        raise SystemExit(f"{variant.name}: the uninterrupted run failed")
    expected, outcome = events_in(whole) - first, Outcome()
    while outcome.kills < kills:
        if not killed(start(command(variant, config, broken)), broken, draw, expected):
            break
        outcome.kills += 1
        try:
            for run in runs_in(broken):
                open_run(run).events()
        except ValueError as error:
            print(f"  does not open: {error}")
            outcome.unopened += 1
    process = start(command(variant, config, broken))
    if process.wait() != 0:
        print(f"  ended with exit code {process.returncode}")
    outcome.equal = not outcome.unopened and result(whole) == result(broken)
    return outcome


def main() -> int:
    """Run all variants; 0 when every number is equal."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=4, help="of each variant, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[], help="variants whose name contains one of these")
    parser.add_argument("--small", action="store_true", help="a few steps, to see that it runs")
    options = parser.parse_args()
    if options.small:
        options.kills, options.only = 1, [VARIANTS[0].name]
        CONFIG["schedule"]["epochs"], CONFIG["sampling"]["steps_per_epoch"] = 2, 4
    draw = random.Random(options.seed)
    chosen = [v for v in VARIANTS if not options.only or any(part in v.name for part in options.only)]
    kills = equal = 0
    for variant in chosen:
        with tempfile.TemporaryDirectory() as scratch:
            outcome = compare(variant, options.kills, draw, Path(scratch))
        kills, equal = kills + outcome.kills, equal + outcome.equal
        verdict = "equal bit for bit" if outcome.equal else "DIFFERENT"
        print(f"{variant.mode:7} {variant.name:28} {outcome.kills:3} kills   {verdict}", flush=True)
    print(
        f"{kills} kills over {len(chosen)} runs and studies; {equal} of {len(chosen)} ends equal those without"
    )
    return 0 if equal == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
