"""Kill training with SIGKILL at random moments; each time the folder must open and the run must resume.

    python benchmarks/kill.py [--kills 10] [--seed 0]

Trains a small phantom experiment once without interruption and once while it is killed again and again. At the
end the losses of every step, the validation scores and the final weights must be equal bit for bit (same
threads, CPU). Prints one line per kill and exits with 1 on any difference.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from segexplorer.core.events import StepDone, ValidationDone
from segexplorer.training.checkpoint import WEIGHTS, open_checkpoint
from segexplorer.training.folder import RunFolder
from segexplorer.training.history import open_run

CONFIG = """
data: {kind: phantom, count: 4, size: 48, seed: 3}
split: {validation_count: 1}
sampling: {patch_size: [32, 32, 32], batch_size: 1, steps_per_epoch: 12}
network: {kind: unet, base_features: 8, levels: 3}
loss: adaptive_tversky_cross_entropy
schedule: {kind: polynomial, epochs: 40}
compute: {device: cpu, threads: 1}
"""
PROGRAM = """
import sys
import segexplorer.training.engine as engine
engine.CHECKPOINT_SECONDS = 2.0
from segexplorer.training.folder import RunFolder
from segexplorer.training.run import Run
from segexplorer.training.experiment import Experiment
from pathlib import Path
folder = Path(sys.argv[2])
if (folder / "experiment.yaml").exists():
    opened = RunFolder.open(folder)
else:
    opened = RunFolder.create(Experiment.from_yaml(sys.argv[1]), folder)
last = None
for last in Run(opened):
    pass
sys.exit(0 if last.state == "finished" else last.error)
"""


def start(config: Path, folder: Path) -> subprocess.Popen[bytes]:
    """Start or resume the run in a process of its own."""
    return subprocess.Popen([sys.executable, "-c", PROGRAM, str(config), str(folder)])


def recorded(folder: Path) -> tuple[list[tuple[int, float]], list[tuple[int, float, float]]]:
    """Return the losses and scores that the run recorded, superseded ones dropped."""
    events = open_run(folder).events()
    steps = [(e.step, e.loss) for e in events if isinstance(e, StepDone)]
    checks = [(e.step, e.loss, e.mean_dice) for e in events if isinstance(e, ValidationDone)]
    return steps, checks


def main() -> int:
    """Run the comparison; 0 when every number is equal."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    draw = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as scratch:
        config, whole, broken = (Path(scratch) / n for n in ("config.yaml", "whole", "broken"))
        config.write_text(CONFIG)
        begun = time.monotonic()
        if start(config, whole).wait() != 0:
            return 1
        length = time.monotonic() - begun
        print(f"uninterrupted: {length:.1f} s")
        kills = 0
        while kills < options.kills:
            process = start(config, broken)
            try:
                process.wait(timeout=draw.uniform(0.05, 0.35) * length)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                kills += 1
                if not (broken / "experiment.yaml").exists():
                    print(f"kill {kills}: before the folder was made")
                    continue
                record = open_run(broken)
                saved = RunFolder.open(broken).saved_step()
                print(f"kill {kills}: opens; {len(record.events())} events, resumes from step {saved}")
                continue
            print("the run finished between kills; starting another")
            broken = Path(scratch) / f"broken{kills}"
        if start(config, broken).wait() != 0:
            return 1
        same = recorded(whole) == recorded(broken)
        weights = [
            (open_checkpoint(f / "checkpoints", "last")[0].folder / WEIGHTS).read_bytes()
            for f in (whole, broken)
        ]
        print(f"steps, validations equal: {same}; final weights equal: {weights[0] == weights[1]}")
        return 0 if same and weights[0] == weights[1] else 1


if __name__ == "__main__":
    sys.exit(main())
