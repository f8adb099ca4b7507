"""Time and peak memory to open a CT, against the library alone that reads its format, interleaved in one run.

Usage: python benchmarks/reading.py [--shape 512 512 300] [--repeats 5] [--small]  (Linux)

Every reading has a process of its own, whose peak memory is counted from after the imports; files are in the page
cache. Time is that of the processor, and the best of the repeats counts, for others may use the machine. nibabel
gives its array by `np.asanyarray(image.dataobj)` (copied where it would map the file), SimpleITK its image by
`ReadImage`.
"segexplorer, zlib" unpacks with Python's zlib instead of ISA-L. "SimpleITK, checked" is what a replacement of our
readers would do: the image as an array of numpy, and for MetaImage, whose damaged voxels SimpleITK returns without
an error, the checksum of the zlib stream checked too.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MEASURED = """
import json, resource, sys, time
from pathlib import Path
path, reader = sys.argv[1:]
if reader.startswith("segexplorer"):
    import zlib
    from segexplorer.data.formats import meta_image, nifti, nrrd, voxels
    if reader.endswith("zlib"):
        voxels.isal_zlib = zlib
    from segexplorer.data.io import open_volume
    read = lambda: open_volume(path).array
elif reader == "nibabel":
    import nibabel, numpy
    def read():
        array = numpy.asanyarray(nibabel.load(path).dataobj)
        return array.copy(order="K") if isinstance(array, numpy.memmap) else array
else:
    import SimpleITK, zlib
    SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    def read():
        image = SimpleITK.ReadImage(path)
        if reader == "SimpleITK":
            return image
        array = SimpleITK.GetArrayFromImage(image)
        if path.endswith(".mha"):
            with open(path, "rb") as file:
                file.seek(-4, 2)
                assert zlib.adler32(array).to_bytes(4, "big") == file.read()
        return array
def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024
Path("/proc/self/clear_refs").write_text("5")
before, began = peak(), time.process_time()
kept = read()
seconds = time.process_time() - began
print(json.dumps({"seconds": seconds, "bytes": peak() - before}))
"""
SUBJECTS = {
    "ct.nii": ("segexplorer", "nibabel"),
    "ct.nii.gz": ("segexplorer", "segexplorer, zlib", "nibabel"),
    "ct.nrrd": ("segexplorer", "segexplorer, zlib", "SimpleITK", "SimpleITK, checked"),
    "ct.mha": ("segexplorer", "segexplorer, zlib", "SimpleITK", "SimpleITK, checked"),
}
"""File -> ours, and what it is compared with."""


def ct(shape: tuple[int, ...]) -> NDArray[np.int16]:
    """A body in air with noise like that of a scanner, which packs like one."""
    rng = np.random.default_rng(0)
    places = np.meshgrid(
        *[np.linspace(-1, 1, n, dtype=np.float32) for n in shape], indexing="ij", sparse=True
    )
    inside = (places[0] / 0.8) ** 2 + (places[1] / 0.6) ** 2 + 0 * places[2] < 1
    noise = rng.normal(0, 12, shape).astype(np.float32)
    return np.where(inside, 40 + noise, -1000 + noise / 4).astype(np.int16)


def write_all(folder: Path, shape: tuple[int, ...]) -> None:
    """Write the volume in every format."""
    from segexplorer.data.io import save_volume
    from segexplorer.data.volume import Volume

    volume = Volume.from_array(ct(shape), spacing=(0.8, 0.8, 1.0), modality="CT")
    for name in SUBJECTS:
        save_volume(volume, folder / name)


def measure(path: Path, reader: str) -> tuple[float, float]:
    """Return seconds and bytes of one reading."""
    command = [sys.executable, "-c", MEASURED, str(path), reader]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    return found["seconds"], found["bytes"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 512, 300))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="a few steps, to see that it runs")
    given = parser.parse_args()
    if given.small:
        given.shape, given.repeats = (32, 32, 24), 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_all(folder, tuple(given.shape))
        size = np.prod(given.shape) * 2 / 2**20
        print(f"{' x '.join(map(str, given.shape))} int16, {size:.0f} MiB; best of {given.repeats}")
        print(f"{'file':10} {'reader':20} {'time':>8} {'memory':>10}   ours against it: time, memory")
        for file, readers in list(SUBJECTS.items())[-1 if given.small else 0 :]:
            # one after the other in every repeat, so that the load of the machine falls on all alike
            runs = [[measure(folder / file, reader) for reader in readers] for _ in range(given.repeats)]
            best = [[min(run[i][k] for run in runs) for k in (0, 1)] for i in range(len(readers))]
            ours = best[0]
            for reader, (seconds, size) in zip(readers, best, strict=True):
                ratio = "" if reader == readers[0] else f"{ours[0] / seconds:8.2f} {ours[1] / size:7.2f}"
                print(f"{file:10} {reader:20} {seconds:6.2f} s {size / 2**20:6.0f} MiB {ratio}", flush=True)


if __name__ == "__main__":
    main()
