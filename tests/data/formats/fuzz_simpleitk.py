"""What SimpleITK makes of mutated NRRD and MetaImage files, beside our readers; why those are our own.

Every file is read in a child process by both. Each is counted twice: as SimpleITK alone would read it, and as it
would behind our reading of the header, which refuses some files first.

Usage: python tests/data/readers/fuzz_simpleitk.py --files 6000 --seed 1
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import os
import subprocess
import sys
import tempfile
import warnings
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from test_fuzz import (
    MUTATIONS,
    VOXELS,
    Bytes,
    Rng,
    Seed,
    _mha_header,
    _nrrd_header,
    family,
    flip_bytes,
    seeds,
    truncate,
)

from segexplorer.core.errors import DataError
from segexplorer.data.io import open_volume
from segexplorer.data.volume import Volume

BATCH = 250
SECONDS = 20
"""A file that SimpleITK reads longer than this counts as a hang."""
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def starts(folder: Path) -> list[Seed]:
    """Return good files: text, gzip, raw, bzip2, attached and detached."""
    found = [seed for seed in seeds(folder) if family(seed.name) in ("NRRD", "MetaImage")]
    raw = VOXELS.tobytes(order="F")
    packed = zlib.compress(raw)
    head = _nrrd_header("9 8 7", encoding="bzip2") + b"\n"
    found.append(Seed("b.nrrd", head + bz2.compress(raw), len(head), packed=True))
    head = _nrrd_header("9 8 7", encoding="gzip", data_file="e.raw.gz")
    found.append(Seed("e.nhdr", head, len(head), companion=("e.raw.gz", gzip.compress(raw, mtime=0))))
    tags = f"CompressedData = True\nCompressedDataSize = {len(packed)}".encode()
    for name, file in (("f.mhd", "f.zraw"), ("g.mha", "LOCAL")):
        head = _mha_header(file).replace(b"CompressedData = False", tags)
        local = file == "LOCAL"
        more: dict[str, Any] = {"packed": True} if local else {"companion": (file, packed)}
        found.append(Seed(name, head + packed if local else head, len(head), **more))
    return found


def lengthen(data: Bytes, seed: Seed, rng: Rng) -> None:
    """Give one line of the header a long value, as a text field or a list of numbers."""
    lines = bytes(data[: seed.header]).split(b"\n")
    at = int(rng.integers(1, max(2, len(lines) - 2)))
    count = int(rng.choice([300, 2000, 70_000]))
    mark = b"=" if b" = " in lines[at] else b":"
    tag = lines[at].partition(mark)[0]
    if rng.random() < 0.5:
        tag = (b"Name ", b"Comment ")[at % 2] if mark == b"=" else (b"content", b"units", b"old min")[at % 3]
    value = (b"x" * count, b'"' + b"x" * count + b'"', b"1 " * (count // 2))[int(rng.integers(3))]
    lines[at] = tag + mark + b" " + value
    data[: seed.header] = b"\n".join(lines)


def mutated(folder: Path, start: Seed, rng: Rng) -> tuple[Path, str]:
    """Write a mutated file and return its path and what was done."""
    data = bytearray(start.content)
    if start.packed and rng.random() < 0.3:
        part = data[start.header :]
        (truncate if rng.random() < 0.3 else flip_bytes)(part, start, rng)
        data[start.header :] = part
        done = "packed voxels"
    else:
        mutate = (*MUTATIONS, lengthen)[int(rng.integers(len(MUTATIONS) + 1))]
        mutate(data, start, rng)
        done = mutate.__name__
    path = folder / start.name
    path.write_bytes(bytes(data))
    if start.companion:
        (folder / start.companion[0]).write_bytes(start.companion[1])
    return path, done


def by_simpleitk(path: Path) -> tuple[Any, Any]:
    """Return voxels (i, j, k) and affine (RAS) as SimpleITK has them; layers as the first of them."""
    import SimpleITK

    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    name = "NrrdImageIO" if path.suffix in (".nrrd", ".nhdr") else "MetaImageIO"
    image = SimpleITK.ReadImage(str(path), imageIO=name)
    array = SimpleITK.GetArrayFromImage(image).T
    dimension = image.GetDimension()
    steps = np.reshape(image.GetDirection(), (dimension, dimension)) * image.GetSpacing()
    affine = np.eye(4)
    if dimension >= 3:
        affine[:3, :3], affine[:3, 3] = steps[:3, :3], image.GetOrigin()[:3]
    return (array[0] if array.ndim == 4 else array), LPS @ affine


def by_ours(path: Path) -> tuple[str, Volume | None]:
    """Return what our reader refuses ("header", "voxels") or "read" and the loaded volume."""
    try:
        volume = open_volume(path, select=0 if path.name.startswith("l.") else None)
    except DataError:
        return "header", None
    try:
        assert volume.array.shape == volume.shape
    except DataError:
        return "voxels", None
    return "read", volume


def compared(path: Path, ours: Volume | None, good: Any) -> str:
    """Return how SimpleITK's result compares with ours; `good` are the voxels of the undamaged file."""
    try:
        theirs, affine = by_simpleitk(path)
    except (RuntimeError, ValueError):
        return "refused by both" if ours is None else "read by ours alone"
    if ours is None:
        same = theirs.shape == good.shape and np.array_equal(theirs, good)
        return f"read by SimpleITK alone, {'as the undamaged file' if same else 'other voxels'}"
    floats = theirs.dtype.kind == "f"
    if theirs.shape != ours.shape or not np.array_equal(theirs, ours.array, equal_nan=floats):
        return "read by both, other voxels"
    same = np.allclose(affine, ours.affine, rtol=1e-9, atol=1e-9)
    return f"read by both, {'the same' if same else 'another place'}"


def child(seed: int, first: int, last: int) -> None:
    """Read some files and print a line before and after each, so that a crash can be told."""
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(name)
        known = starts(folder)
        goods = {}
        for start in known:
            (folder / start.name).write_bytes(start.content)
            if start.companion:
                (folder / start.companion[0]).write_bytes(start.companion[1])
            layers = start.name.startswith("l.")
            goods[start.name] = open_volume(folder / start.name, select=0 if layers else None).array
        for number in range(first, last):
            start = known[number % len(known)]
            path, done = mutated(folder, start, np.random.default_rng([seed, number]))
            print(f"START {number} {start.name} {done}", flush=True)
            state, ours = by_ours(path)
            print(f"STATE {state}", flush=True)
            print(f"END {compared(path, ours, goods[start.name])}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--child", type=int, nargs=2)
    given = parser.parse_args()
    if given.child:
        child(given.seed, *given.child)
        return
    alone: Counter[str] = Counter()
    behind: Counter[str] = Counter()
    crashes: Counter[str] = Counter()
    number = 0
    while number < given.files:
        last = min(number + BATCH, given.files)
        command = [sys.executable, __file__, "--seed", str(given.seed), "--child", str(number), str(last)]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=dict(os.environ)
        )
        try:
            lines = process.communicate(timeout=BATCH + SECONDS)[0].splitlines()
            end = "crash of the process"
        except subprocess.TimeoutExpired:
            process.kill()
            lines = process.communicate()[0].splitlines()
            end = "hang"
        current, state = "", "header"
        for line in lines:
            word, _, rest = line.partition(" ")
            if word == "START":
                current, state = rest, "header"
                number = int(rest.split()[0]) + 1
            elif word == "STATE":
                state = rest
            elif word == "END":
                current = ""
                alone[rest] += 1
                behind[rest] += state != "header"
        if current:
            alone[end] += 1
            crashes[" ".join(current.split()[1:])] += 1
            behind[end] += state != "header"
        elif process.returncode:
            raise SystemExit(f"the child for files {number} to {last} ended with {process.returncode}")
        else:
            number = last
    print(f"{'':58} {'alone':>7} {'behind our header':>18}")
    for result in sorted(alone):
        print(f"{result:58} {alone[result]:7,} {behind[result]:18,}")
    print(f"{sum(alone.values()):,} files; crashes and hangs:", *crashes.most_common(12), sep="\n  ")


if __name__ == "__main__":
    main()
