"""Time to score a folder of 100 CTs of 512 x 512 x 300 voxels, as `segexplorer open` does, and to open it again.

python benchmarks/scoring.py [--cases 100] [--files 5] [--shape 512 512 300] [--workers 2] [--minutes 7] [--small]

Labels are phantoms of an abdomen with five classes; predictions are these, shifted by up to three voxels, with
pieces missing and added. A few different pairs are drawn and copied under the names of all cases, because drawing
takes longer than scoring; each copy is a file of its own, read and scored by itself. Scoring ends after the minutes
that are given; what is left is then extrapolated from the cases that were scored, and printed as such.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import zoom

from segexplorer import save_volume
from segexplorer.data.datasets.phantom import Phantoms
from segexplorer.data.results import open_results
from segexplorer.data.volume import Volume
from segexplorer.training.result_scores import open_sets, score_sets

CLASSES = 5
SPACING = (0.8, 0.8, 1.5)


def pairs(shape: tuple[int, int, int], count: int) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Return predictions and truths; phantoms of a quarter of the size, made larger with smooth surfaces."""
    quarter = tuple(max(16, n // 4) for n in shape)
    found = []
    for seed, ref in enumerate(Phantoms(count=count, size=quarter).listing().cases):
        label = ref.open().label
        assert label is not None
        drawn = np.asarray(label.array, np.uint8)
        drawn = np.where(drawn > CLASSES, 1, drawn)  # vessels and lesions are liver
        truth = np.zeros(tuple(4 * n for n in quarter), np.uint8)
        for value in range(1, CLASSES + 1):
            truth[zoom((drawn == value).astype(np.float32), 4, order=1) > 0.5] = value
        found.append((_predicted(truth, seed), truth))
    return found


def _predicted(truth: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    found = np.empty_like(truth)
    for z in range(truth.shape[2]):
        shift = (round(3 * np.sin(z / 17 + seed)), round(3 * np.cos(z / 23)))
        found[..., z] = np.roll(truth[..., z], shift, axis=(0, 1))
    for _ in range(60):
        low = [int(rng.integers(0, max(n - 12, 1))) for n in truth.shape]
        place = tuple(slice(a, a + int(rng.integers(3, 12))) for a in low)
        found[place] = 0 if rng.random() < 0.5 else rng.integers(1, CLASSES + 1)
    return found


def write(folder: Path, shape: tuple[int, int, int], files: int, cases: int) -> tuple[int, ...]:
    """Write a folder of predictions beside one of labels and return the shape."""
    for name in ("predictions", "labels"):
        (folder / name).mkdir()
    made = pairs(shape, files)
    for case in range(cases):
        for name, array in zip(("predictions", "labels"), made[case % files], strict=True):
            path = folder / name / f"case_{case:03}.nii.gz"
            if case < files:
                save_volume(Volume.from_array(array, spacing=SPACING), path, integer=True)
            else:
                shutil.copyfile(folder / name / f"case_{case % files:03}.nii.gz", path)
    return made[0][1].shape


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--files", type=int, default=5)
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 512, 300))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=7)
    parser.add_argument("--small", action="store_true")
    given = parser.parse_args()
    if given.small:
        given.cases, given.files, given.shape, given.workers = 4, 2, (64, 64, 64), 1
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        shape = write(folder, tuple(given.shape), given.files, given.cases)
        size = sum(path.stat().st_size for path in folder.rglob("*.nii.gz")) / 2**20
        voxels = " x ".join(map(str, shape))
        print(
            f"{given.cases} cases of {voxels} voxels, {CLASSES} classes: copies of {given.files} pairs",
            flush=True,
        )
        print(f"{size:.0f} MiB of files", flush=True)
        sets = open_sets(open_results(folder / "predictions"))
        begun = time.perf_counter()
        done, first = 0, 0.0
        run = score_sets(sets, workers=given.workers, cache=folder / "cache")
        for event in run:
            assert event.problem is None and not event.remembered, event
            done = event.done
            first = first or time.perf_counter() - begun
            if time.perf_counter() - begun > 60 * given.minutes:
                break
        spent = time.perf_counter() - begun
        run.close()
        print(f"scored {done} of {given.cases} cases in {spent:.0f} s with {given.workers} processes")
        print(f"{spent / done:.2f} s per case, the first after {first:.1f} s")
        if done < given.cases:
            whole = spent / done * given.cases / 60
            print(f"extrapolated, not measured: {given.cases} cases in {whole:.1f} min")
        begun = time.perf_counter()
        events = []
        for event in score_sets(open_sets(open_results(folder / "predictions")), cache=folder / "cache"):
            if not event.remembered:
                break
            events.append(event)
        print(f"the {len(events)} scored cases again, remembered: {time.perf_counter() - begun:.2f} s")
        assert len(events) >= done


if __name__ == "__main__":
    main()
