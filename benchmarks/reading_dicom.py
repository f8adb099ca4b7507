"""Time and memory of opening a CT series, against SimpleITK alone; ratios of processes interleaved in one run.

    python benchmarks/reading_dicom.py [--slices 300] [--size 512] [--repeats 5] [--folder SERIES] [--small]
    python benchmarks/reading_dicom.py --compression all --slices 60

Both find the slices of a folder, sort them by position and read them into memory as Hounsfield units. Each reading
is a process of its own; imports are not counted, and the files are in the cache. Memory is the peak of the process
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
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from segexplorer.testing.dicom import COMPRESSIONS, compress, write_series

COMMON = """
import json, resource, sys, time
import numpy as np
def held():
    return int(open('/proc/self/statm').read().split()[1]) * resource.getpagesize()
def report(array, begun, before):
    seconds = time.perf_counter() - begun
    # of this program alone: ru_maxrss would remember the parent's
    peak = next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmHWM')) * 1024
    mean = float(array[::7, ::7, ::7].astype(float).mean())
    print(json.dumps({'seconds': seconds, 'bytes': peak - before, 'mean': mean, 'type': str(array.dtype)}))
"""
OURS = """
import PIL.Image, pydicom.pixels, SimpleITK
from segexplorer.data.formats.dicom import reader
from segexplorer.data.io import open_volume
before, begun = held(), time.perf_counter()
report(open_volume(sys.argv[1]).array, begun, before)
"""
SIMPLEITK = """
import SimpleITK
before, begun = held(), time.perf_counter()
reader = SimpleITK.ImageSeriesReader()
reader.SetFileNames(reader.GetGDCMSeriesFileNames(sys.argv[1]))
image = reader.Execute()
report(SimpleITK.GetArrayViewFromImage(image).T, begun, before)
"""


def measured(code: str, folder: Path) -> dict[str, float]:
    """Run one reading in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", COMMON + code, str(folder)], check=True, capture_output=True, text=True
    )
    return dict(json.loads(done.stdout))


def synthetic(folder: Path, slices: int, size: int, syntax: str = "") -> None:
    """Write a CT of 12 stored bits in 16: air around a smooth body, with noise. Baseline JPEG takes 8 bits."""
    rng = np.random.default_rng(0)
    high = 255 if syntax == COMPRESSIONS["JPEG baseline"] else 4095
    body = gaussian_filter(rng.random((size, size)), size / 32)
    body = (body - body.min()) / np.ptp(body)
    plane = np.where(body > 0.4, body + rng.normal(0, 0.005, body.shape), 0).clip(0, 1) * high
    plane = plane.astype(np.uint8 if high == 255 else np.uint16)

    def change(data: Any, number: int) -> None:
        data.BitsStored, data.HighBit = (8, 7) if high == 255 else (12, 11)
        if syntax:
            compress(data, syntax)

    stored = np.stack([np.roll(plane, number, axis=0) for number in range(slices)])
    write_series(folder, stored, spacing=(0.7, 0.7), step=(0, 0, 1.0), change=change)


def compare(folder: Path, repeats: int) -> bool:
    """Measure both, interleaved, and print medians; return whether the voxels are equal."""
    measured(OURS, folder)  # fills the cache
    runs = [(measured(OURS, folder), measured(SIMPLEITK, folder)) for _ in range(repeats)]
    for ours, theirs in runs:
        if abs(ours["mean"] - theirs["mean"]) > 1e-6:
            print(f"the voxels differ: mean {ours['mean']} and {theirs['mean']}")
            return False
    print(f"{'':8} {'ours':>12} {'SimpleITK':>12} {'ratio':>7}   (median of {repeats}; aim 1.1)")
    for name, unit, scale in (("seconds", "s", 1), ("bytes", "MB", 1e6)):
        medians = [statistics.median(run[side][name] for run in runs) / scale for side in (0, 1)]
        ratio = statistics.median(run[0][name] / run[1][name] for run in runs)
        print(f"{unit:8} {medians[0]:12.3f} {medians[1]:12.3f} {ratio:7.2f}")
    print(f"voxels   {runs[0][0]['type']:>12} {runs[0][1]['type']:>12}")
    return True


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--compression", choices=["none", "all", *COMPRESSIONS], default="none")
    parser.add_argument("--folder", type=Path, default=None, help="a series of your own")
    parser.add_argument("--small", action="store_true", help="a few steps, to see that it runs")
    options = parser.parse_args()
    if options.small:
        options.slices, options.size, options.repeats = 4, 32, 1
    if options.folder is not None:
        return 0 if compare(options.folder, options.repeats) else 1
    syntaxes = {"none": "", **COMPRESSIONS}
    names = list(COMPRESSIONS) if options.compression == "all" else [options.compression]
    equal = True
    for name in names:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch, "ct")
            synthetic(folder, options.slices, options.size, syntaxes[name])
            print(f"{options.slices} slices of {options.size} x {options.size}, compression: {name}")
            equal = compare(folder, options.repeats) and equal
    return 0 if equal else 1


if __name__ == "__main__":
    sys.exit(main())
