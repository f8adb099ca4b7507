"""Time and peak memory of all metrics of a case against MONAI's metrics called one by one, in one run.

Usage: python benchmarks/metrics.py [--size 512 512 300] [--repeats 1] [--small]

The pair of volumes is a phantom of an abdomen with five classes (liver, spleen, kidneys, aorta, spine), and the
same one bent by up to three voxels, with pieces missing and added. Each side runs in a process of its own on one
thread. Times are processor times, since others may use the machine; memory is the peak of a step above what the
process held before it (Linux). The command `segexplorer evaluate` is timed on the two files as NIfTI, with its
start and their reading. MONAI gets its input as one-hot tensors of bytes, which is the quickest and
smallest that it takes; making them is not counted. What MONAI does not have (centreline Dice, lesion-wise
detection ...) is in our time and not in its.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segexplorer import metrics

CLASSES = ("liver", "spleen", "kidneys", "aorta", "spine")
TOLERANCE = 1.0
"""Of the surface Dice, mm."""
MONAI_HAS = (
    "dice",
    "jaccard",
    "sensitivity",
    "specificity",
    "precision",
    "accuracy",
    "f1",
    "mcc",
    "hd",
    "hd95",
)
MONAI_HAS += ("asd", "assd", "nsd", "nsd_voxels", "avd", "pq")
Step = Callable[[], object]


def phantom_pair(
    shape: tuple[int, int, int],
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], tuple[float, ...]]:
    """Return a prediction, the truth, and the size of a voxel in mm."""
    from scipy.ndimage import zoom

    from segexplorer.data.datasets.phantom import Phantoms

    half = tuple(n // 2 for n in shape)  # a phantom of the whole size takes minutes to draw
    volume = Phantoms(count=1, size=half).listing().cases[0].label
    assert not isinstance(volume, (str, Path)) and volume is not None
    drawn = np.asarray(volume.array, np.uint8)
    drawn = np.where(drawn > len(CLASSES), 1, drawn).astype(np.uint8)  # vessels and lesions are liver
    truth = np.zeros(tuple(2 * n for n in half), np.uint8)
    for value in range(1, len(CLASSES) + 1):
        truth[zoom((drawn == value).astype(np.float32), 2, order=1) > 0.5] = value
    shape = truth.shape
    found = np.empty_like(truth)
    for z in range(shape[2]):
        shift = (round(3 * np.sin(z / 17)), round(3 * np.cos(z / 23)))
        found[..., z] = np.roll(truth[..., z], shift, axis=(0, 1))
    rng = np.random.default_rng(0)
    for _ in range(60):  # pieces that are missing, and others that are invented
        low = [int(rng.integers(0, max(n - 12, 1))) for n in shape]
        place = tuple(slice(a, a + int(rng.integers(3, 12))) for a in low)
        found[place] = 0 if rng.random() < 0.5 else rng.integers(1, len(CLASSES) + 1)
    return found, truth, tuple(size / 2 for size in volume.spacing)


def ours(found: NDArray[np.uint8], truth: NDArray[np.uint8], spacing: tuple[float, ...]) -> dict[str, Step]:
    """Return all metrics of label volumes, and those that MONAI has, each in one call."""
    options = metrics.MetricOptions(nsd_tolerance=TOLERANCE)
    every = [name for name in metrics.names() if not metrics.spec(name).unit.startswith("nats")]

    def scored(names: list[str]) -> Step:
        return lambda: metrics.score_case(
            found, truth, CLASSES, spacing, surfaces=True, metrics=names, options=options
        )

    shared = [metrics.spec(name) for name in MONAI_HAS]

    def shared_alone() -> object:
        fresh = metrics.LabelPair(found, truth, CLASSES, spacing, options)
        return [[metric.compute(structure) for metric in shared] for structure in fresh.structures()]

    return {"all metrics, one pass": scored(every), "those that MONAI has, one pass": shared_alone}


def monai(found: NDArray[np.uint8], truth: NDArray[np.uint8], spacing: tuple[float, ...]) -> dict[str, Step]:
    """Return MONAI's metrics, each called by itself on one-hot tensors of bytes."""
    import torch
    from monai.metrics import (
        compute_absolute_volume_difference,
        compute_average_surface_distance,
        compute_confusion_matrix_metric,
        compute_dice,
        compute_hausdorff_distance,
        compute_iou,
        compute_panoptic_quality,
        compute_surface_dice,
        get_confusion_matrix,
    )

    torch.set_num_threads(1)
    classes = range(len(CLASSES) + 1)
    p, t = (
        torch.from_numpy(np.stack([v == c for c in classes])[None].view(np.uint8)) for v in (found, truth)
    )
    names = (
        "sensitivity",
        "specificity",
        "precision",
        "accuracy",
        "f1 score",
        "matthews correlation coefficient",
    )
    size: dict[str, Any] = {"spacing": list(spacing)}

    def panoptic() -> object:
        from scipy.ndimage import label

        corners = np.ones((3, 3, 3))
        values = []
        for c in classes[1:]:
            instances = [torch.from_numpy(label(v == c, corners)[0]) for v in (found, truth)]
            values.append(compute_panoptic_quality(*instances))
        return values

    def confusion(name: str) -> Step:
        return lambda: compute_confusion_matrix_metric(
            name, get_confusion_matrix(p, t, include_background=False)
        )

    tolerances = [TOLERANCE] * len(CLASSES)
    return {
        "Dice": lambda: compute_dice(p, t, include_background=False),
        "IoU": lambda: compute_iou(p, t, include_background=False),
        **{name: confusion(name) for name in names},
        "Hausdorff distance": lambda: compute_hausdorff_distance(p, t, **size),
        "HD95": lambda: compute_hausdorff_distance(p, t, percentile=95, **size),
        "surface distance": lambda: compute_average_surface_distance(p, t, **size),
        "symmetric surface distance": lambda: compute_average_surface_distance(p, t, symmetric=True, **size),
        "surface Dice": lambda: compute_surface_dice(p, t, tolerances, **size),
        "surface Dice, subvoxels": lambda: compute_surface_dice(p, t, tolerances, use_subvoxels=True, **size),
        "volume difference": lambda: compute_absolute_volume_difference(p, t, include_background=False),
        "panoptic quality": panoptic,
    }


SIDES = {"ours": ours, "MONAI": monai}


def measure(side: str, volumes: Path, repeats: int) -> None:
    """Print time and peak memory of each step of one side as JSON; in a process of its own."""
    warnings.simplefilter("ignore")
    with np.load(volumes) as held:
        steps = SIDES[side](held["found"], held["truth"], tuple(held["spacing"].tolist()))
    small = np.zeros((8, 8, 8), np.uint8)  # everything that is imported late is imported now
    small[2:6, 2:6, 2:6] = 1
    for step in SIDES[side](small, small, (1.0, 1.0, 1.0)).values():
        step()
    for name, step in steps.items():
        resident = _memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
        times = []
        for _ in range(repeats):
            began = time.process_time()
            step()
            times.append(time.process_time() - began)
        peak = _memory("VmHWM") - resident
        print(json.dumps({"name": name, "seconds": min(times), "peak_mb": peak, "held_mb": resident}))


def evaluate_files(
    found: NDArray[np.uint8], truth: NDArray[np.uint8], spacing: tuple[float, ...], folder: Path
) -> str:
    """Return the processor time and peak memory of `segexplorer evaluate` on the pair as files."""
    from segexplorer import save_volume
    from segexplorer.data.volume import Volume

    paths = [folder / "prediction.nii.gz", folder / "truth.nii.gz"]
    for array, path in zip((found, truth), paths, strict=True):
        save_volume(Volume.from_array(array, spacing=spacing), path, integer=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, "-m", "segexplorer.frontends.cli", "evaluate", *map(str, paths)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return f"{'segexplorer evaluate, two files':34} {seconds:7.2f} {after.ru_maxrss / 2**10:9.0f} (all of it)"


def _memory(kind: str) -> float:
    """Return a line of this process's status, MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{kind}:")[1].split()[0]) / 2**10


def main() -> None:
    """Make the volumes, run both sides, print both tables and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=3, default=(512, 512, 300))
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--volumes", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--small", action="store_true", help="a few steps, to see that it runs")
    given = parser.parse_args()
    if given.small:
        given.size = (32, 32, 32)
    if given.side:
        measure(given.side, given.volumes, given.repeats)
        return
    with tempfile.TemporaryDirectory() as folder:
        volumes = Path(folder) / "pair.npz"
        found, truth, spacing = phantom_pair(tuple(given.size))
        np.savez(volumes, found=found, truth=truth, spacing=np.asarray(spacing))
        voxels = {name: int((truth == i).sum()) for i, name in enumerate(CLASSES, start=1)}
        print(
            f"{' x '.join(map(str, given.size))} voxels of {[round(s, 2) for s in spacing]} mm: {voxels}",
            flush=True,
        )
        print(evaluate_files(found, truth, spacing, Path(folder)), flush=True)
        del found, truth
        totals = {}
        for side in SIDES:
            command = [sys.executable, __file__, "--side", side, "--volumes", str(volumes)]
            command += ["--repeats", str(given.repeats)]
            threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
            out = subprocess.run(
                command, env={**os.environ, **threads}, stdout=subprocess.PIPE, check=True
            ).stdout
            rows = [json.loads(line) for line in out.decode().splitlines()]
            totals[side] = rows
            print(f"\n{side:34} seconds   peak MB (above {rows[0]['held_mb']:.0f} MB of input and imports)")
            for row in rows:
                print(f"{row['name']:34} {row['seconds']:7.2f} {row['peak_mb']:9.0f}", flush=True)
    theirs = sum(row["seconds"] for row in totals["MONAI"])
    print(f"{'MONAI, all one by one':34} {theirs:7.2f} {max(row['peak_mb'] for row in totals['MONAI']):9.0f}")
    for row in totals["ours"]:
        print(f"{row['name']}: {row['seconds'] / theirs:.2f} of MONAI's time")


if __name__ == "__main__":
    main()
