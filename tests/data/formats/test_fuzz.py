"""Mutation fuzzing of the readers: a file of any bytes ends in voxels or in one sentence, soon, in little memory.

In CI a few hundred files from a fixed seed; a long run is
python tests/data/formats/test_fuzz.py --files 20000 --seed 1
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import io
import logging
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import tracemalloc
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from segexplorer.core.errors import DataError
from segexplorer.data.formats import pictures, voxels
from segexplorer.data.formats.dicom import files as dicom_files
from segexplorer.data.io import open_volume, save_volume
from segexplorer.data.volume import Volume

LIMIT = 4 * 2**20
"""What the readers are told is the largest volume, bytes."""
SECONDS = 2.0
SHAPE = (9, 8, 7)
BATCH = 1000
DICOM = ("DICOM", "SEG", "RTSTRUCT", "zip")
FAMILIES = ("NIfTI", "NRRD", "MetaImage", "MGH", "picture", *DICOM)
Bytes = bytearray
Rng = np.random.Generator
VOXELS = np.random.default_rng(0).integers(-900, 900, SHAPE).astype(np.int16)
AFFINE = np.array([[-1.5, 0, 0, 40], [0, -1.5, 0, 50], [0, 0, 3, -10], [0, 0, 0, 1]])


@dataclass(frozen=True)
class Seed:
    """A good file to start from.

    `companion` is a second file that stays as it is; `header` the bytes that are mutated most; `packed` whether the
    bytes behind the header carry a checksum; `like` the series that segments belong to.
    """

    name: str
    content: bytes
    header: int
    packed: bool = False
    companion: tuple[str, bytes] | None = None
    cut_is_told: bool = True
    like: Path | None = None


# --- seeds ---


def seeds(folder: Path) -> list[Seed]:
    """Good files of every format, small."""
    volume = Volume.from_array(VOXELS, affine=AFFINE)
    image = nib.Nifti1Image(VOXELS, AFFINE)
    found = []

    def written(name: str, header: int, **more: Any) -> None:
        found.append(Seed(name, (folder / name).read_bytes(), header, **more))

    nib.save(image, folder / "a.nii")
    written("a.nii", 352)
    nib.save(image, folder / "a.nii.gz")
    written("a.nii.gz", 0, packed=True)
    nib.save(nib.Nifti2Image(VOXELS, AFFINE), folder / "two.nii")
    written("two.nii", 544)
    nib.save(nib.Nifti1Image(np.stack([VOXELS] * 3, -1), AFFINE), folder / "four.nii")
    written("four.nii", 352)
    nib.save(nib.Nifti1Pair(VOXELS, AFFINE), folder / "p.img")
    written("p.hdr", 348, companion=("p.img", (folder / "p.img").read_bytes()))
    nib.save(nib.MGHImage(VOXELS, AFFINE), folder / "m.mgh")
    written("m.mgh", 284, cut_is_told=False)
    nib.save(nib.MGHImage(VOXELS, AFFINE), folder / "m.mgz")
    written("m.mgz", 0, packed=True, cut_is_told=False)
    save_volume(volume, folder / "n.nrrd")
    written("n.nrrd", _text_end(folder / "n.nrrd", b"\n\n"), packed=True)
    save_volume(Volume.from_array(np.abs(VOXELS) % 4), folder / "s.seg.nrrd", integer=True)
    written("s.seg.nrrd", _text_end(folder / "s.seg.nrrd", b"\n\n"), packed=True)
    found += [_raw_nrrd("r.nrrd"), _detached(), _layers(), _text_nrrd()]
    save_volume(volume, folder / "i.mha")
    written("i.mha", _text_end(folder / "i.mha", b"LOCAL\n"), packed=True)
    found += [_raw_mha(), _raw_mhd()]
    return found + _pictures(folder) + _dicom(folder)


def _text_end(path: Path, mark: bytes) -> int:
    content = path.read_bytes()
    return content.index(mark) + len(mark)


def _nrrd_header(sizes: str, kind: str = "short", **fields: str) -> bytes:
    given = {
        "type": kind,
        "dimension": str(len(sizes.split())),
        "space": "left-posterior-superior",
        "sizes": sizes,
        "space directions": "(1.5,0,0) (0,1.5,0) (0,0,3)",
        "space origin": "(-40,-50,-10)",
        "endian": "little",
        "encoding": "raw",
        **{key.replace("_", " "): value for key, value in fields.items()},
    }
    return b"NRRD0004\n" + "".join(f"{key}: {value}\n" for key, value in given.items()).encode()


def _raw_nrrd(name: str) -> Seed:
    head = _nrrd_header("9 8 7") + b"\n"
    return Seed(name, head + VOXELS.tobytes(order="F"), len(head))


def _detached() -> Seed:
    head = _nrrd_header("9 8 7", data_file="d.raw")
    return Seed("d.nhdr", head, len(head), companion=("d.raw", VOXELS.tobytes(order="F")), cut_is_told=False)


def _text_nrrd() -> Seed:
    head = _nrrd_header("9 8 7", encoding="text") + b"\n"
    words = " ".join(str(int(v)) for v in VOXELS.ravel(order="F"))
    return Seed("t.nrrd", head + words.encode(), len(head), cut_is_told=False)


def _layers() -> Seed:
    head = _nrrd_header(
        "2 9 8 7",
        "uchar",
        space_directions="none (1.5,0,0) (0,1.5,0) (0,0,3)",
        kinds="list domain domain domain",
    )
    head += b"".join(
        f"Segment{k}_Name:=part {k}\nSegment{k}_LabelValue:=1\nSegment{k}_Layer:={k}\n".encode()
        for k in (0, 1)
    )
    marks = np.random.default_rng(1).integers(0, 2, (2, *SHAPE)).astype(np.uint8)
    return Seed("l.seg.nrrd", head + b"\n" + marks.tobytes(order="F"), len(head) + 1)


def _mha_header(file: str) -> bytes:
    return (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = False\n"
        "TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = -40 -50 -10\nElementSpacing = 1.5 1.5 3\nDimSize = 9 8 7\n"
        f"ElementType = MET_SHORT\nElementDataFile = {file}\n"
    ).encode()


def _raw_mha() -> Seed:
    head = _mha_header("LOCAL")
    return Seed("j.mha", head + VOXELS.tobytes(order="F"), len(head))


def _raw_mhd() -> Seed:
    head = _mha_header("k.raw")
    return Seed("k.mhd", head, len(head), companion=("k.raw", VOXELS.tobytes(order="F")), cut_is_told=False)


def _pictures(folder: Path) -> list[Seed]:
    import tifffile
    from PIL import Image

    grey = np.abs(VOXELS[..., 0]).astype(np.uint8)
    Image.fromarray(grey).save(folder / "g.png")
    Image.fromarray(np.stack([grey, grey + 1, grey], -1)).save(folder / "c.png")
    Image.fromarray(grey % 4).convert("P").save(folder / "q.png")
    Image.fromarray(grey).save(folder / "g.jpg")
    tifffile.imwrite(folder / "g.tif", np.abs(VOXELS).astype(np.uint16), photometric="minisblack")
    names = ("g.png", "c.png", "q.png", "g.jpg", "g.tif")
    return [Seed(name, (folder / name).read_bytes(), 400, cut_is_told=False) for name in names]


def _dicom(folder: Path) -> list[Seed]:
    """One slice as a file of its own, and one of three in a folder."""
    try:
        import pydicom
        from pydicom.dataset import FileDataset, FileMetaDataset
        from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
    except ImportError:
        return []
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["fuzz"])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    slice_ = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
    slice_.update(
        pydicom.Dataset.from_json(
            {"00280002": {"vr": "US", "Value": [1]}, "00280004": {"vr": "CS", "Value": ["MONOCHROME2"]}}
        )
    )
    slice_.SOPClassUID, slice_.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
    slice_.Modality, slice_.SeriesInstanceUID = "CT", generate_uid(entropy_srcs=["series"])
    slice_.Rows, slice_.Columns = 8, 9
    slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit, slice_.PixelRepresentation = 16, 16, 15, 1
    slice_.PixelSpacing, slice_.SliceThickness = [1.5, 1.5], 3
    slice_.ImageOrientationPatient, slice_.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [-40, -50, -10]
    slice_.RescaleSlope, slice_.RescaleIntercept = 1, -1024
    slice_.PixelData = VOXELS[..., 0].T.tobytes()
    slice_.save_as(folder / "x.dcm", enforce_file_format=True)
    content = (folder / "x.dcm").read_bytes()
    return [Seed("x.dcm", content, len(content) - 2 * 8 * 9, cut_is_told=False), *_segments(folder)]


def _segments(folder: Path) -> list[Seed]:
    """A SEG and an RTSTRUCT with the series that they belong to, and that series in a zip archive."""
    from segexplorer.testing.dicom import write_series, write_structures

    if importlib.util.find_spec("highdicom") is None:  # it writes the SEG
        return []
    series = folder / "series"
    write_series(series, np.abs(VOXELS[..., :4].T).astype(np.uint16))
    image = open_volume(series)
    label = np.zeros(image.shape, np.uint8)
    label[2:6, 2:5, 1:3], label[6:8, 1:3, 2] = 1, 2
    save_volume(image.with_array(label, label_names={1: "A", 2: "B"}), folder / "seg.dcm", integer=True)
    corners = np.array([[1.2, 1.1, 1, 1], [6.3, 1.2, 1, 1], [6.1, 5.8, 1, 1], [1.4, 5.5, 1, 1]])
    contours = [(corners + np.array([0, 0, k, 0])) @ image.affine.T * (-1, -1, 1, 1) for k in (0, 1)]
    write_structures(folder / "rt.dcm", {"A": [c[:, :3] for c in contours], "B": [contours[0][:3, :3]]})
    found = []
    for name in ("seg.dcm", "rt.dcm"):
        content = (folder / name).read_bytes()
        pixels = 100 if name == "seg.dcm" else 0
        found.append(Seed(name, content, len(content) - pixels, cut_is_told=False, like=series))
    with zipfile.ZipFile(folder / "series.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(series.iterdir()):
            archive.write(path, f"a/{path.name}")
    content = (folder / "series.zip").read_bytes()
    return [*found, Seed("series.zip", content, len(content), cut_is_told=False)]


def rezipped(content: bytes, seed: Seed, mutate: Callable[[Bytes, Seed, Rng], None], rng: Rng) -> bytes:
    """Mutate one member of an archive, or its name, and pack all again, so that every checksum fits."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(packed, "w") as after:
        members = [(info, bytearray(before.read(info))) for info in before.infolist()]
        info, data = members[int(rng.integers(len(members)))]
        if rng.random() < 0.2:
            names = (
                "../x.dcm",
                "/x.dcm",
                "C:\\x.dcm",
                "a/" * 400 + "x.dcm",
                "a/\x1b[2J.dcm",
                "__MACOSX/x",
                "DICOMDIR",
            )
            info.filename = names[int(rng.integers(len(names)))]
        else:
            mutate(data, Seed(seed.name, bytes(data), len(data)), rng)
        for info, data in members:
            after.writestr(
                info, bytes(data), (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)[int(rng.integers(2))]
            )
    return packed.getvalue()


# --- mutations ---


def flip_bytes(data: Bytes, seed: Seed, rng: Rng) -> None:
    for _ in range(int(rng.integers(1, 6))):
        data[int(rng.integers(len(data)))] = int(rng.integers(256))


def flip_header(data: Bytes, seed: Seed, rng: Rng) -> None:
    end = min(seed.header or len(data), len(data))
    for _ in range(int(rng.integers(1, 9))):
        data[int(rng.integers(end))] ^= 1 << int(rng.integers(8))


def extreme_numbers(data: Bytes, seed: Seed, rng: Rng) -> None:
    """Overwrite aligned fields of a header with the numbers at which arithmetic breaks."""
    extremes = {
        "<i2": (0, -1, 1, 32767, -32768),
        "<i4": (0, -1, 2**31 - 1, -(2**31)),
        "<f4": (0.0, np.nan, np.inf, -np.inf, 1e38, 1e-45, -1.0),
        ">i4": (0, -1, 2**31 - 1, 10**6),
        "<i8": (0, -1, 2**62),
        "<f8": (0.0, np.nan, np.inf, 1e308),
    }
    for _ in range(int(rng.integers(1, 5))):
        kind = list(extremes)[int(rng.integers(len(extremes)))]
        value = extremes[kind][int(rng.integers(len(extremes[kind])))]
        field = np.array(value, kind).tobytes()
        place = 2 * int(rng.integers(max(1, (min(seed.header or len(data), len(data)) - 8) // 2)))
        data[place : place + len(field)] = field


def truncate(data: Bytes, seed: Seed, rng: Rng) -> None:
    del data[int(rng.integers(len(data))) :]


def rewrite_text(data: Bytes, seed: Seed, rng: Rng) -> None:
    """Change numbers and lines of a text header."""
    text = bytes(data[: seed.header]).decode("latin1")
    odd = (
        "0",
        "-1",
        "1e999",
        "nan",
        "inf",
        "999999999999999999999",
        "2147483648",
        "",
        "x",
        "1 1 1 1 1 1 1",
        "%d",
        "(",
    )
    for _ in range(int(rng.integers(1, 4))):
        choice = int(rng.integers(4))
        lines = text.split("\n")
        at = int(rng.integers(len(lines)))
        if choice == 0:
            numbers = list(re.finditer(r"-?\d+(\.\d+)?", text))
            if numbers:
                hit = numbers[int(rng.integers(len(numbers)))]
                text = text[: hit.start()] + odd[int(rng.integers(len(odd)))] + text[hit.end() :]
            continue
        if choice == 1:
            del lines[at]
        elif choice == 2:
            lines.insert(at, lines[int(rng.integers(len(lines)))])
        else:
            lines[at] = (
                lines[at].split("=")[0].split(":")[0]
                + ("= " if "=" in lines[at] else ": ")
                + str(rng.integers(-9, 99))
            )
        text = "\n".join(lines)
    data[: seed.header] = text.encode("latin1")


def append(data: Bytes, seed: Seed, rng: Rng) -> None:
    data += rng.bytes(int(rng.integers(1, 5000)))


def blank_out(data: Bytes, seed: Seed, rng: Rng) -> None:
    start = int(rng.integers(len(data)))
    stop = min(len(data), start + int(rng.integers(1, 60)))
    data[start:stop] = bytes(stop - start)


MUTATIONS: tuple[Callable[[Bytes, Seed, Rng], None], ...] = (
    flip_bytes,
    flip_header,
    flip_header,
    extreme_numbers,
    extreme_numbers,
    truncate,
    rewrite_text,
    rewrite_text,
    append,
    blank_out,
)


# --- trying a file ---


class TooSlowError(Exception):
    """A reader took longer than it may."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Interrupt what takes the processor longer, for others may use the machine."""

    def stop(*_: object) -> None:
        raise TooSlowError(f"longer than {seconds} s")

    if not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def try_one(folder: Path, seed: Seed, rng: Rng) -> str:
    """Mutate one seed and open it; return how it ended, or raise what should not have happened."""
    mutate = MUTATIONS[int(rng.integers(len(MUTATIONS)))]
    inside = seed.name.endswith((".nii.gz", ".mgz")) and rng.random() < 0.6
    data = bytearray(gzip.decompress(seed.content) if inside else seed.content)
    whole = bytes(data)
    # only voxels that were read right are right when what is packed was damaged
    payload = seed.packed and not inside and rng.random() < 0.3
    if payload:
        part = bytearray(data[seed.header :])
        (truncate if mutate is truncate else flip_bytes)(part, seed, rng)
        data[seed.header :] = part
    elif seed.name.endswith(".zip") and rng.random() < 0.6:
        data = bytearray(rezipped(whole, seed, mutate, rng))
    else:
        mutate(data, Seed(seed.name, whole, seed.header or 352), rng)
    path = folder / seed.name
    path.write_bytes(gzip.compress(bytes(data), 1, mtime=0) if inside else bytes(data))
    if seed.companion:
        (folder / seed.companion[0]).write_bytes(seed.companion[1])
    label = bool(rng.random() < 0.2) or seed.like is not None
    select = None if rng.random() < 0.8 or seed.like is not None else 0
    like = open_volume(seed.like) if seed.like is not None and rng.random() < 0.8 else None
    try:
        with limited(SECONDS):
            volume = open_volume(path, label=label, select=select, like=like)
            array = volume.array
            assert all(name.isprintable() for name in volume.label_names.values())
    except DataError as error:
        assert error.message.endswith(".") and "\n" not in str(error), error.message
        assert str(folder) not in str(error), "a sentence must not hold folder names"
        return "refused"
    assert array.shape == volume.shape and array.dtype.kind in "iuf" and array.dtype.isnative
    assert np.isfinite(volume.affine).all() and array.nbytes <= 2 * LIMIT
    lost = len(whole) - len(data)
    if mutate is truncate and seed.cut_is_told and lost > 0 and not seed.name.startswith("four"):
        raise AssertionError("a file that was cut off was read")
    if payload and not label and "seg" not in seed.name:
        good = open_good(seed)
        assert np.array_equal(array, good), "damaged voxels were read"
    return "read"


def open_good(seed: Seed) -> Any:
    return VOXELS


@dataclass
class Result:
    """How many files ended how, and what should not have happened."""

    ends: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


def fuzz(files: int, seed: int, folder: Path, starts: Sequence[Seed]) -> Result:
    """Try many files; those that end otherwise are kept and named."""
    rng = np.random.default_rng(seed)
    result = Result()
    for number in range(files):
        start = starts[number % len(starts)]
        tracemalloc.reset_peak()
        before, began = tracemalloc.get_traced_memory()[0], time.process_time()
        try:
            result.ends[f"{family(start.name)} {try_one(folder, start, rng)}"] += 1
            peak = tracemalloc.get_traced_memory()[1] - before
            assert peak <= 4 * LIMIT, f"{peak:,} bytes were allocated"
            assert time.process_time() - began <= SECONDS, "too slow"
        except Exception as error:
            kept = Path(tempfile.gettempdir()) / f"fuzz-{seed}-{number}-{start.name}"
            kept.write_bytes((folder / start.name).read_bytes())
            where = traceback.extract_tb(error.__traceback__)
            ours = [frame for frame in where if "segexplorer" in frame.filename] or where
            place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"
            result.failures.append(f"{kept.name}: {type(error).__name__} at {place}: {str(error)[:160]}")
    return result


def family(name: str) -> str:
    """The format of a seed, as the table names it."""
    families = {
        ".nii": "NIfTI", ".gz": "NIfTI", ".hdr": "NIfTI", ".mgh": "MGH", ".mgz": "MGH", ".nrrd": "NRRD",
        ".nhdr": "NRRD", ".mha": "MetaImage", ".mhd": "MetaImage", ".dcm": "DICOM",
    }  # fmt: skip
    named = {"seg.dcm": "SEG", "rt.dcm": "RTSTRUCT", "series.zip": "zip"}
    return named.get(name) or families.get(Path(name).suffix, "picture")


@contextmanager
def small_limits() -> Iterator[None]:
    """Tell every reader that little memory is much, quietly, and trace what is allocated."""
    places = [(voxels, "MAX_BYTES"), (pictures, "MAX_BYTES"), (dicom_files, "MAX_BYTES")]
    before = [(module, name, getattr(module, name)) for module, name in [*places, (pictures, "MAX_PIXELS")]]
    quiet = [logging.getLogger(name) for name in ("nibabel.global", "pydicom")]
    levels = [log.level for log in quiet]
    try:
        for module, name, value in before:
            setattr(module, name, min(value, LIMIT))
        for log in quiet:
            log.setLevel(logging.CRITICAL + 1)
        tracemalloc.start()
        yield
    finally:
        tracemalloc.stop()
        for module, name, value in before:
            setattr(module, name, value)
        for log, level in zip(quiet, levels, strict=True):
            log.setLevel(level)


def run_quietly(files: int, seed: int, folder: Path, families: tuple[str, ...] = FAMILIES) -> Result:
    """Fuzz with small limits; a warning is a failure."""
    # beforehand, since whatever is imported while memory is traced takes many times as long
    starts = [start for start in seeds(folder) if family(start.name) in families]
    with small_limits(), warnings.catch_warnings():
        warnings.simplefilter("error")
        return fuzz(files, seed, folder, starts)


@pytest.mark.slow
def test_no_file_ends_in_anything_but_voxels_or_a_sentence(tmp_path: Path) -> None:
    others = tuple(name for name in FAMILIES if name not in DICOM)
    result = run_quietly(700, 20261121, tmp_path, others)
    assert not result.failures
    assert sum(result.ends.values()) == 700
    for name in others:
        # were all refused, or none, the mutations would test nothing
        assert result.ends[f"{name} refused"] > 15 and result.ends[f"{name} read"] > 5, result.ends


def test_no_dicom_file_does_either(tmp_path: Path) -> None:
    pytest.importorskip("highdicom")  # no wheels for Python 3.14 yet
    result = run_quietly(240, 20261121, tmp_path, DICOM)
    assert not result.failures
    for name in DICOM:
        assert result.ends[f"{name} refused"] > 8 and result.ends[f"{name} read"] > 3, result.ends


# --- a long run ---


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--families", nargs="*", default=FAMILIES, choices=FAMILIES)
    parser.add_argument("--batch", type=int, default=0, help="run this many in this very process")
    given = parser.parse_args()
    if given.batch:
        with tempfile.TemporaryDirectory() as folder:
            result = run_quietly(given.batch, given.seed, Path(folder), tuple(given.families))
        for name, count in sorted(result.ends.items()):
            print(f"{name}\t{count}")
        print("\n".join(result.failures), file=sys.stderr)
        return 1 if result.failures else 0
    # a process each, so that a crash of a library is told with its seed
    total: Counter[str] = Counter()
    failed = 0
    for number in range(-(-given.files // BATCH)):
        command = [sys.executable, __file__, "--batch", str(min(BATCH, given.files)), "--seed"]
        command += [str(given.seed + number), "--families", *given.families]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        for line in done.stdout.splitlines():
            name, _, count = line.partition("\t")
            total[name] += int(count)
        if done.returncode:
            failed += 1
            print(f"seed {given.seed + number} ended with {done.returncode}:\n{done.stderr[-3000:].strip()}")
    for name, count in sorted(total.items()):
        print(f"{name:20} {count:8,}")
    print(f"{sum(total.values()):,} files, {failed} of {number + 1} batches failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
