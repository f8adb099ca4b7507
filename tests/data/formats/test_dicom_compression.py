"""Compressed DICOM: every encoding gives the voxels that were compressed, and no damaged file crashes a decoder.

In CI a few hundred mutated files from a fixed seed, read in a process of their own; a long run is
python tests/data/formats/test_dicom_compression.py --files 20000 --seed 1
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.data.formats.dicom import files
from segexplorer.data.formats.dicom.reader import read_segments
from segexplorer.data.formats.dicom.series import list_series
from segexplorer.data.io import open_volume
from segexplorer.testing.dicom import COMPRESSIONS, compress, save, write_series

LOSSLESS = {name: syntax for name, syntax in COMPRESSIONS.items() if "baseline" not in name}
PYDICOM = Path(pydicom.__file__).parent / "data" / "test_files"
EXTENDED = "1.2.840.10008.1.2.4.51"
SECONDS = 20
"""Longest time for one file in the child process before it counts as hanging."""


def smooth(slices: int, dtype: Any, top: int) -> NDArray[Any]:
    """(slices, rows, columns) voxels with edges and noise, as lossy codecs can follow them."""
    k, i, j = np.indices((slices, 24, 32))
    wave = np.sin(i / 5 + k) + np.cos(j / 7)
    noise = np.random.default_rng(0).random(wave.shape)
    return ((wave - wave.min()) / np.ptp(wave) * 0.95 * top + 0.04 * top * noise).astype(dtype)


def write(folder: Path, voxels: NDArray[Any], syntax: str, **elements: int) -> list[Path]:
    """Write a series compressed; `elements` are set before."""

    def change(data: Any, k: int) -> None:
        for word, value in elements.items():
            setattr(data, word, value)
        compress(data, syntax)

    return write_series(folder, voxels, intercept=0, change=change)


@pytest.mark.parametrize("name", sorted(LOSSLESS))
@pytest.mark.parametrize(("dtype", "bits"), [(np.uint8, 8), (np.uint16, 12), (np.uint16, 16)])
def test_lossless_encodings_keep_every_voxel(tmp_path: Path, name: str, dtype: Any, bits: int) -> None:
    voxels = smooth(3, dtype, 2**bits - 1)
    write(tmp_path, voxels, LOSSLESS[name], BitsStored=bits, HighBit=bits - 1)
    np.testing.assert_array_equal(open_volume(tmp_path).array, voxels.transpose(2, 1, 0))


@pytest.mark.parametrize("syntax", [COMPRESSIONS["JPEG baseline"], EXTENDED])
def test_lossy_encodings_come_close(tmp_path: Path, syntax: str) -> None:
    voxels = smooth(3, np.uint8, 255)
    write(tmp_path, voxels, syntax)
    difference = open_volume(tmp_path).array - voxels.transpose(2, 1, 0).astype(float)
    assert np.abs(difference).max() < 20 and np.abs(difference).mean() < 4


def test_jpeg_of_twelve_bits_is_read() -> None:
    """The scan of pydicom's own file, 0 to 4095; no other decoder with a free licence reads it."""
    array = open_volume(PYDICOM / "JPGExtended.dcm").array
    assert array.shape == (256, 1024, 1) and array.dtype == np.int16
    np.testing.assert_array_equal(array, open_volume(PYDICOM / "JPEG-lossy.dcm").array)
    assert array.min() == 0 and 255 < array.max() < 4096


def test_near_lossless_jpeg_ls_is_read() -> None:
    for name, top in (("JPEGLSNearLossless_08.dcm", 255), ("JPEGLSNearLossless_16.dcm", 65535)):
        array = open_volume(PYDICOM / name).array
        assert array.min() == 0 and array.max() == top


@pytest.mark.parametrize("name", sorted(LOSSLESS))
def test_only_the_frames_of_a_file_that_are_wanted_are_needed(tmp_path: Path, name: str) -> None:
    """Several frames in one file, one codestream each, in the order of the file."""
    voxels = smooth(4, np.uint16, 4095)
    data = pydicom.dcmread(write_series(tmp_path / "one", voxels[:1])[0])
    data.NumberOfFrames, data.PixelData = 4, voxels.tobytes()
    data.SpacingBetweenSlices = 2
    compress(data, LOSSLESS[name])
    save(data, tmp_path / "many.dcm")
    np.testing.assert_array_equal(
        open_volume(tmp_path / "many.dcm").array, voxels.transpose(2, 1, 0) - 1024.0
    )


@pytest.mark.parametrize(
    ("name", "at", "value"),
    [
        # what crashed SimpleITK: precisions that do not exist, and RLE without a segment
        ("JPEG lossless SV1", 6, 0x70),
        ("JPEG lossless SV1", 6, 18),
        ("JPEG lossless", 6, 20),
        ("RLE", 0, 0),
        # another size than the header of the file says
        ("JPEG baseline", -1, 0),
        ("JPEG 2000 lossless", 8, 1),
        ("JPEG 2000 lossless", 0, 0),
    ],
)
def test_a_damaged_head_is_refused_before_a_decoder_sees_it(
    tmp_path: Path, name: str, at: int, value: int
) -> None:
    path = write(tmp_path, smooth(1, np.uint8, 255), COMPRESSIONS[name])[0]
    content = bytearray(path.read_bytes())
    start = content.index(b"\xfe\xff\x00\xe0", content.rindex(b"\xe0\x7f\x10\x00") + 16) + 8
    if at < 0:  # rows in the frame header, wherever that is
        at = content.index(b"\xff\xc0", start) - start + 5
    content[start + at] = value
    if name == "JPEG baseline":
        content[start + at + 1] = 99
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"The voxels of .* are cut off or damaged\."):
        _ = open_volume(path).array


def test_values_behind_the_end_of_an_rle_segment_are_damage(tmp_path: Path) -> None:
    path = write(tmp_path, smooth(1, np.uint8, 255), COMPRESSIONS["RLE"])[0]
    data = pydicom.dcmread(path)
    stream = next(pydicom.encaps.generate_frames(data.PixelData, number_of_frames=1))
    data.PixelData = pydicom.encaps.encapsulate([stream + b"\x81\x07" * 8])
    save(data, path)
    with pytest.raises(DataError, match="cut off or damaged"):
        _ = open_volume(path).array


def test_a_compression_that_is_not_read_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, smooth(1, np.uint8, 255), COMPRESSIONS["RLE"])[0]
    content = path.read_bytes()
    for uid, words in (
        (b"1.2.840.10008.1.2.4.201", "stores its voxels as High-Throughput JPEG 2000"),
        (b"1.2.840.10008.1.2.4.102", "stores its voxels as MPEG-4"),
        (b"1.2.3.4", "stores its voxels as an unknown form"),
    ):
        data = pydicom.dcmread(path)
        data.file_meta.TransferSyntaxUID = uid.decode()
        save(data, path)
        with pytest.raises(DataError, match=words) as caught:
            _ = open_volume(path).array
        assert caught.value.remedy.startswith("Convert it")
        path.write_bytes(content)


def test_floats_that_say_they_are_integers_are_refused(tmp_path: Path) -> None:
    path = write_series(tmp_path, smooth(1, np.uint16, 4095))[0]
    data = pydicom.dcmread(path)
    data.add_new("FloatPixelData", "OF", np.ones((24, 32), np.float32).tobytes())
    del data.PixelData
    save(data, path)
    with pytest.raises(
        DataError, match="floating-point voxels of 32 bits, but says that they are 16 bits of 16"
    ):
        _ = open_volume(path).array
    data.BitsAllocated, data.BitsStored, data.HighBit = 32, 32, 31
    save(data, path)
    np.testing.assert_array_equal(open_volume(path).array, np.full((32, 24, 1), 1 - 1024.0))


def test_a_series_without_voxels_is_refused_by_name(tmp_path: Path) -> None:
    """A report in the folder of a CT, chosen by its number; and one that calls itself a segmentation."""
    write_series(tmp_path, smooth(3, np.uint16, 4095))
    data = pydicom.dcmread(write_series(tmp_path / "sr", smooth(1, np.uint16, 4095), number=9)[0])
    for word in ("PixelData", "Rows", "Columns"):
        delattr(data, word)
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    data.Modality, data.SeriesNumber = "SR", 9
    report = next((tmp_path / "sr").iterdir())
    save(data, report)
    number = next(one.number for one in list_series(tmp_path) if one.kind == "other")
    with pytest.raises(DataError, match="holds no voxels"):
        _ = open_volume(tmp_path, select=number).array
    data.Modality = "SEG"
    data.SegmentSequence = [pydicom.Dataset()]
    data.SegmentSequence[0].SegmentNumber = 1
    save(data, report)
    with pytest.raises(DataError, match="holds no voxels"):
        read_segments(report)


# --- mutated files ---


def seeds(folder: Path) -> list[tuple[str, bytes]]:
    """A small file of each encoding, and those that pydicom brings."""
    found = []
    for name, syntax in {**COMPRESSIONS, "JPEG extended": EXTENDED}.items():
        for dtype, bits in ((np.uint8, 8), (np.uint16, 12))[: 1 if syntax in _EIGHT_BITS else 2]:
            own = folder / f"{name} {bits}"
            path = write(own, smooth(1, dtype, 2**bits - 1), syntax, BitsStored=bits, HighBit=bits - 1)[0]
            found.append((name, path.read_bytes()))
    for name in ("JPEGLSNearLossless_08", "JPEGLSNearLossless_16", "MR_small_jpeg_ls_lossless", "rtdose_rle"):
        found.append((name, (PYDICOM / f"{name}.dcm").read_bytes()))
    return found


_EIGHT_BITS = (COMPRESSIONS["JPEG baseline"], EXTENDED)


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """Damage a file: bits of the first codestream's head, bytes, lengths, elements, or the end."""
    data = bytearray(content)
    element = data.rindex(b"\xe0\x7f\x10\x00")
    first = data.index(b"\xfe\xff\x00\xe0", element + 16)
    choice = int(rng.integers(6))
    if choice < 2:
        for _ in range(int(rng.integers(1, 5))):
            data[min(len(data) - 1, first + 8 + int(rng.integers(160)))] ^= 1 << int(rng.integers(8))
    elif choice == 2:
        for _ in range(int(rng.integers(1, 8))):
            data[int(rng.integers(element, len(data)))] = int(rng.integers(256))
    elif choice == 3:
        data[first + 4 : first + 8] = int(rng.choice([0, 2, 2**31, 2**32 - 1])).to_bytes(4, "little")
    elif choice == 4:
        number = (0x10, 0x11, 0x100, 0x101, 0x102, 0x103)[int(rng.integers(6))]
        at = data.rindex(b"\x28\x00" + number.to_bytes(2, "little"), 0, element)
        data[at + 8 : at + 10] = int(rng.choice([0, 1, 7, 12, 16, 32, 64, 65535])).to_bytes(2, "little")
    else:
        del data[int(rng.integers(element, len(data))) :]
    return bytes(data)


def fuzz(count: int, seed: int) -> Iterator[tuple[str, str]]:
    """Open mutated files; yield the encoding and how each ended."""
    files.MAX_BYTES = 64 * 2**20
    with tempfile.TemporaryDirectory() as folder:
        starts = seeds(Path(folder))
        path = Path(folder, "mutated.dcm")
        for number in range(count):
            name, content = starts[number % len(starts)]
            path.write_bytes(mutated(content, np.random.default_rng([seed, number])))
            try:
                array = open_volume(path).array
            except DataError as error:
                assert error.message.endswith(".") and "\n" not in str(error), error.message
                assert folder not in str(error), "a sentence must not hold folder names"
                yield name, "refused"
                continue
            assert array.ndim == 3 and array.dtype.isnative
            yield name, "read"


def run(count: int, seed: int) -> tuple[Counter[tuple[str, str]], str]:
    """Fuzz in a process of its own; return how many ended how, and what went wrong."""
    command = [sys.executable, __file__, "--child", str(count), "--seed", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS + count)
    ends = Counter(tuple(line.split("\t")) for line in done.stdout.splitlines())
    number = sum(ends.values())
    wrong = f"file {number} of seed {seed} ended with {done.returncode}: {done.stderr[-2000:]}"
    return ends, wrong if done.returncode or number != count else ""  # type: ignore[return-value]


def test_no_damaged_codestream_crashes_or_hangs() -> None:
    ends, wrong = run(420, 20261128)
    assert not wrong
    for name in COMPRESSIONS:
        # were all refused, or none, the mutations would test nothing
        assert ends[name, "refused"] > 5 and ends[name, "read"] > 2, ends


def main() -> int:
    """Fuzz for long, a process for each thousand files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--child", type=int, default=0, help="open this many in this very process")
    given = parser.parse_args()
    if given.child:
        for name, end in fuzz(given.child, given.seed):
            print(name, end, sep="\t", flush=True)
        return 0
    total: Counter[tuple[str, str]] = Counter()
    failed = 0
    for number in range(-(-given.files // 1000)):
        ends, wrong = run(1000, given.seed + number)
        total += ends
        if wrong:
            failed += 1
            print(wrong)
    for (name, end), count in sorted(total.items()):
        print(f"{name:30} {end:10} {count:8,}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
