"""How well what a loss asks for predicts what training then does, per loss.

Trains the same small network with several losses on the same cases and patches. At every recorded prediction of the
watched validation case it compares what the loss asked for (minus its gradient with respect to the logits) with the
change of the log-odds until the next one: the share of the pull that training followed in direction (chance: 50 %),
and Spearman's rank correlation. The mean over frames and foreground classes is printed, at the beginning and at the
end of training. The pull of cross entropy on the same predictions is printed beside it: is the loss's own pull the
better predictor?

    python benchmarks/asked_and_got.py [--data FOLDER] [--epochs N] [--small]

`--data` is a folder that `segexplorer check` knows, such as Task04_Hippocampus; otherwise made-up phantoms serve.
`--small` trains for seconds.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import segexplorer

KINDS = (
    "cross_entropy",
    "dice",
    "dice_cross_entropy",
    "tversky",
    "adaptive_tversky_cross_entropy",
    "unified_focal",
    "squared_dice_ce_adaptive_region",
)


def experiment(loss: str, data: Path | None, epochs: int, *, small: bool) -> dict[str, Any]:
    """Return the experiment of one loss; everything else is the same for all."""
    source: dict[str, Any] = {"kind": "phantom", "count": 3, "size": 24 if small else 48, "seed": 1}
    if data is not None:
        source = {"kind": "decathlon", "root": str(data)}
    size = 16 if small else 32
    return {
        "data": source,
        "split": {"validation_count": 1},
        "sampling": {"patch_size": [size] * 3, "batch_size": 2, "steps_per_epoch": 3 if small else 10},
        "network": {"kind": "unet", "base_features": 4 if small else 8, "levels": 2 if small else 3},
        "loss": loss,
        "schedule": {"kind": "polynomial", "epochs": epochs},
        "compute": {"device": "cpu", "threads": 1},
        "seed": 7,
    }


def followed(folder: Path, against: str | None) -> list[tuple[float, float]]:
    """Return (share, rank correlation) of each frame that has a next one, means over the foreground classes."""
    from segexplorer.training.explanation import explain_run

    steps = [frame.step for frame in segexplorer.open_run(folder).watched("validation")]
    found = []
    for step in steps[:-1]:
        explained = explain_run(folder, step=step)
        present = [c for c in range(1, len(explained.class_names) + 1) if (explained.labels == c).any()]
        each = [explained.followed(c, against) for c in present]
        found.append(
            (float(np.mean([f.share for f in each])), float(np.nanmean([f.rank_correlation for f in each])))
        )
    return found


def line(title: str, found: list[tuple[float, float]]) -> str:
    """Return the first and the last third of the frames in words."""
    third = max(1, len(found) // 3)
    parts = []
    for name, part in (("beginning", found[:third]), ("end", found[-third:])):
        share, rank = np.nanmean(np.asarray(part), axis=0)
        parts.append(f"{name} {share:.0%}, rank correlation {rank:+.2f}")
    return f"  {title}: {'; '.join(parts)}"


def main() -> None:
    """Train and compare."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--losses", nargs="+", default=list(KINDS))
    parser.add_argument("--small", action="store_true")
    chosen = parser.parse_args()
    kinds, epochs = (chosen.losses[:1], 3) if chosen.small else (chosen.losses, chosen.epochs)
    with tempfile.TemporaryDirectory() as folder:
        for kind in kinds:
            run = Path(folder) / kind
            segexplorer.train(experiment(kind, chosen.data, epochs, small=chosen.small), run)
            print(f"{kind}, {len(segexplorer.open_run(run).watched('validation'))} frames", flush=True)
            print(line("its own pull", followed(run, None)), flush=True)
            print(line("pull of cross entropy", followed(run, "cross_entropy")), flush=True)


if __name__ == "__main__":
    main()
