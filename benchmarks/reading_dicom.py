"""Time and memory of opening a CT series, against SimpleITK alone; ratios of processes interleaved in one run.

    python benchmarks/reading_dicom.py [--slices 300] [--size 512] [--repeats 5] [--folder SERIES]

Both find the slices of a folder, sort them by position and read them into memory as Hounsfield units. Each reading
is a process of its own; imports are not counted, and the files lie in the cache. Memory is the peak of the process
over what it held before reading. Aim: at most 1.1 of SimpleITK's time and memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from segexplorer.testing.dicom import write_series

COMMON = """
import json, resource, sys, time
import numpy as np
def held():
    return int(open('/proc/self/statm').read().split()[1]) * resource.getpagesize()
def tell(array, begun, before):
    seconds = time.perf_counter() - begun
    # of this program alone: ru_maxrss would remember the parent's
    peak = next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmHWM')) * 1024
    mean = float(array[::7, ::7, ::7].astype(float).mean())
    print(json.dumps({'seconds': seconds, 'bytes': peak - before, 'mean': mean, 'type': str(array.dtype)}))
"""
OURS = """
import pydicom, SimpleITK
from segexplorer.data.formats.registry import dicom
from segexplorer.data.volume import open_volume
before, begun = held(), time.perf_counter()
tell(open_volume(sys.argv[1]).array, begun, before)
"""
SIMPLEITK = """
import SimpleITK
before, begun = held(), time.perf_counter()
reader = SimpleITK.ImageSeriesReader()
reader.SetFileNames(reader.GetGDCMSeriesFileNames(sys.argv[1]))
image = reader.Execute()
tell(SimpleITK.GetArrayViewFromImage(image).T, begun, before)
"""


def measured(code: str, folder: Path) -> dict[str, float]:
    """Run one reading in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", COMMON + code, str(folder)], check=True, capture_output=True, text=True
    )
    return dict(json.loads(done.stdout))


def synthetic(folder: Path, slices: int, size: int) -> None:
    """Write a CT of 12 stored bits in 16."""
    rng = np.random.default_rng(0)
    plane = rng.integers(0, 4096, (size, size)).astype(np.uint16)

    def twelve_bits(data: object, number: int) -> None:
        data.BitsStored, data.HighBit = 12, 11  # type: ignore[attr-defined]

    stored = np.stack([np.roll(plane, number, axis=0) for number in range(slices)])
    write_series(folder, stored, spacing=(0.7, 0.7), step=(0, 0, 1.0), change=twelve_bits)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=None, help="a series of your own")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch, "ct")
        if options.folder is None:
            synthetic(folder, options.slices, options.size)
        measured(OURS, folder)  # fills the cache
        runs = [(measured(OURS, folder), measured(SIMPLEITK, folder)) for _ in range(options.repeats)]
    for ours, theirs in runs:
        if abs(ours["mean"] - theirs["mean"]) > 1e-6:
            print(f"the voxels differ: mean {ours['mean']} and {theirs['mean']}")
            return 1
    print(f"{'':8} {'ours':>12} {'SimpleITK':>12} {'ratio':>7}   (median of {options.repeats}; aim 1.1)")
    for name, unit, scale in (("seconds", "s", 1), ("bytes", "MB", 1e6)):
        medians = [statistics.median(run[side][name] for run in runs) / scale for side in (0, 1)]
        ratio = statistics.median(run[0][name] / run[1][name] for run in runs)
        print(f"{unit:8} {medians[0]:12.3f} {medians[1]:12.3f} {ratio:7.2f}")
    print(f"voxels   {runs[0][0]['type']:>12} {runs[0][1]['type']:>12}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
