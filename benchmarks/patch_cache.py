"""How long one patch of a prepared case takes to read, from files of several formats, warm and cold.

The volume is a window of a CT of the phantom, once as it is stored (few different values) and once as resampling
leaves it (all values differ). Formats are read one after the other, in turns. Warm: the file is in the memory of
the operating system; cold: it was dropped from there before each patch (posix_fadvise), as far as the disk below
has no cache of its own. blosc2 is measured where it is installed; segexplorer does not need it.

    python benchmarks/patch_cache.py --size 256 --patch 96 --repeats 12
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from scipy import ndimage

from segexplorer.data.stored_case import compact, expand
from segexplorer.data.voxel_file import VoxelFile, write_voxels

Box = tuple[slice, slice, slice]


def volume(size: int, *, resampled: bool) -> NDArray[np.float32]:
    """Return a CT of a body in air, in the abdomen window: (x, y, z) float32 from 0 to 1."""
    rng = np.random.default_rng(7)
    places = np.indices((size,) * 3, sparse=True)
    radius = sum(((p - size / 2) / (size * r)) ** 2 for p, r in zip(places, (0.42, 0.34, 0.6), strict=True))
    organs = ndimage.gaussian_filter(rng.normal(size=(size,) * 3).astype(np.float32), 6)
    body = 40 + 60 * organs / organs.std() + rng.normal(scale=12, size=organs.shape)
    units = np.round(np.where(radius < 1, body, -1000)).astype(np.int16)
    if resampled:
        units = ndimage.affine_transform(units.astype(np.float32), np.eye(3) * 0.93, order=1, mode="nearest")
    return (np.clip(units.astype(np.float32), -160, 240) + np.float32(160)) / np.float32(400)


@dataclass
class Format:
    """A way to keep an image: writes a file or folder, and reads a box of it."""

    name: str
    write: Callable[[Path, NDArray[np.float32]], None]
    read: Callable[[Path, Box], NDArray[Any]]


def _npz(path: Path, image: NDArray[np.float32]) -> None:
    with path.open("wb") as file:
        np.savez(file, image=image)


def _read_npz(path: Path, box: Box) -> NDArray[Any]:
    with np.load(path, allow_pickle=False) as data:
        return np.asarray(data["image"][box])


def _npy(path: Path, image: NDArray[np.float32]) -> None:
    with path.open("wb") as file:
        np.save(file, image)


def _read_npy(path: Path, box: Box) -> NDArray[Any]:
    return np.array(np.load(path, mmap_mode="r")[box])


def _zarr(path: Path, image: NDArray[np.float32]) -> None:
    kept = zarr.create_array(store=str(path), shape=image.shape, dtype=image.dtype, chunks=(32, 32, 32))
    kept[...] = image


def _read_zarr(path: Path, box: Box) -> NDArray[Any]:
    found = zarr.open_array(str(path), mode="r")[box]
    return np.asarray(found)


def _own(path: Path, image: NDArray[np.float32], chunk: int = 32, half: bool = False) -> None:
    codes, values = (image.astype(np.float16), None) if half else compact(image)
    arrays = {"image": codes, **({} if values is None else {"values": values})}
    with path.open("wb") as file:
        write_voxels(file, {}, arrays, (chunk, chunk, chunk))


def _read_own(path: Path, box: Box) -> NDArray[Any]:
    arrays = VoxelFile(path).arrays
    return expand(arrays["image"][box], arrays["values"][0, 0] if "values" in arrays else None)


def _blosc2(path: Path, image: NDArray[np.float32], codec: str, half: bool) -> None:
    import blosc2

    kind = blosc2.Codec.LZ4 if codec == "lz4" else blosc2.Codec.ZSTD
    parameters = {"codec": kind, "clevel": 5 if codec == "lz4" else 1, "filters": [blosc2.Filter.BITSHUFFLE]}
    array = image.astype(np.float16) if half else image
    blosc2.asarray(
        np.ascontiguousarray(array), urlpath=str(path), mode="w", chunks=(96, 96, 96), blocks=(32, 32, 32),
        cparams=parameters,
    )  # fmt: skip


def _read_blosc2(path: Path, box: Box) -> NDArray[Any]:
    import blosc2

    return np.asarray(blosc2.open(str(path), mode="r")[box])


def formats() -> list[Format]:
    """Return the formats that can be measured here."""
    found = [
        Format("npz (before)", _npz, _read_npz),
        Format("npy, memory-mapped", _npy, _read_npy),
        Format("zarr, chunks of 32", _zarr, _read_zarr),
        Format("segexplorer, exact", _own, _read_own),
        Format("segexplorer, chunks of 48", partial(_own, chunk=48), _read_own),
        Format("segexplorer, chunks of 64", partial(_own, chunk=64), _read_own),
        Format("segexplorer, float16", partial(_own, half=True), _read_own),
    ]
    try:
        import blosc2  # noqa: F401
    except ImportError:
        return found
    return [
        *found,
        Format("blosc2 LZ4", partial(_blosc2, codec="lz4", half=False), _read_blosc2),
        Format("blosc2 ZSTD", partial(_blosc2, codec="zstd", half=False), _read_blosc2),
        Format("blosc2 LZ4, float16", partial(_blosc2, codec="lz4", half=True), _read_blosc2),
    ]


def size_of(path: Path) -> int:
    """Return the bytes of a file or of all files of a folder."""
    return sum(p.stat().st_size for p in ([path] if path.is_file() else path.rglob("*")) if p.is_file())


def forget(path: Path) -> None:
    """Drop a file, or all files of a folder, from the memory of the operating system."""
    for file in [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def measure(size: int, patch: int, repeats: int, *, resampled: bool, folder: Path) -> None:
    """Print a table of all formats for one volume."""
    image = volume(size, resampled=resampled)
    kinds, rng = formats(), np.random.default_rng(0)
    paths: dict[str, Path] = {}
    writing: dict[str, float] = {}
    for number, kind in enumerate(kinds):
        paths[kind.name] = folder / f"{'resampled' if resampled else 'stored'}-{number}"
        begun = time.process_time()
        kind.write(paths[kind.name], image)
        writing[kind.name] = time.process_time() - begun
    boxes = [
        tuple(slice(int(o), int(o) + patch) for o in rng.integers(0, size - patch + 1, 3))
        for _ in range(repeats)
    ]
    warm: dict[str, list[float]] = {kind.name: [] for kind in kinds}
    cold: dict[str, list[float]] = {kind.name: [] for kind in kinds}
    for box in boxes:
        for kind in kinds:
            path = paths[kind.name]
            found = kind.read(path, box)  # type: ignore[arg-type]
            half = "float16" in kind.name
            assert np.allclose(found, image[box], atol=5e-4 if half else 0, rtol=0), kind.name
            begun = time.process_time()
            kind.read(path, box)  # type: ignore[arg-type]
            warm[kind.name].append(1000 * (time.process_time() - begun))
            forget(path)
            begun = time.perf_counter()
            kind.read(path, box)  # type: ignore[arg-type]
            cold[kind.name].append(1000 * (time.perf_counter() - begun))
    values = "all values differ (resampled)" if resampled else "values as stored"
    print(f"\n{size}^3 voxels, patches of {patch}^3, {values}\n")
    print(
        "| Format | Size, MB | Of float32 | Written, s | Patch warm, ms (processor) | Patch cold, ms (clock) |"
    )
    print("|---|---|---|---|---|---|")
    for kind in kinds:
        held = size_of(paths[kind.name])
        numbers = statistics.median(warm[kind.name]), statistics.median(cold[kind.name])
        share = f"{100 * held / image.nbytes:.0f} %"
        print(
            f"| {kind.name} | {held / 1e6:.1f} | {share} | {writing[kind.name]:.2f} "
            f"| {numbers[0]:.1f} | {numbers[1]:.1f} |"
        )


def main() -> None:
    """Measure stored and resampled values."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--patch", type=int, default=96)
    parser.add_argument("--repeats", type=int, default=12)
    parser.add_argument("--folder", type=Path, help="where to write, e.g. on a network drive")
    parser.add_argument("--small", action="store_true", help="a small volume, to see that it runs")
    given = parser.parse_args()
    if given.small:
        given.size, given.patch, given.repeats = 48, 16, 1
    with tempfile.TemporaryDirectory(dir=given.folder) as place:
        for resampled in (False, True):
            measure(given.size, given.patch, given.repeats, resampled=resampled, folder=Path(place))


if __name__ == "__main__":
    main()
