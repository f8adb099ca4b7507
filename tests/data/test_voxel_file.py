"""Files of voxels: any box of any array comes back bit for bit, zarr reads the same, damage is found."""

from __future__ import annotations

import gc
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from segexplorer.data.stored_case import compact, expand
from segexplorer.data.voxel_file import Channels, DamagedFileError, VoxelFile, write_voxels

SLOW = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def written(path: Path, arrays: dict[str, Any], **facts: Any) -> Path:
    with path.open("wb") as file:
        write_voxels(file, facts, arrays)
    return path


def volume(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    made = rng.normal(size=shape) * 100 if dtype.startswith("float") else rng.integers(0, 120, shape)
    made[..., : shape[-1] // 2] = 0  # chunks that are left out
    return made.astype(dtype)


@SLOW
@given(
    shape=st.tuples(*[st.integers(1, 70)] * 3),
    channels=st.sampled_from([0, 1, 3]),
    dtype=st.sampled_from(["uint8", "uint16", "int16", "float16", "float32", "uint32"]),
    data=st.data(),
)
def test_any_box_comes_back(tmp_path: Path, shape: Any, channels: int, dtype: str, data: Any) -> None:
    array = volume((*([channels] if channels else []), *shape), dtype)
    found = VoxelFile(written(tmp_path / "a.zip", {"a": array})).arrays["a"]
    assert found.shape == array.shape and found.dtype == array.dtype
    box = []
    for n in array.shape:
        first = data.draw(st.integers(0, n))
        box.append(slice(first, data.draw(st.integers(first, n + 3))))
    assert np.array_equal(found[tuple(box)], array[tuple(box)])
    assert np.array_equal(np.asarray(found), array)
    if channels:
        assert np.array_equal(found[channels - 1, 1:], array[channels - 1, 1:])
        assert np.array_equal(found[-1], array[-1])


def test_zarr_opens_the_same_file(tmp_path: Path) -> None:
    image, label = volume((2, 40, 33, 70), "uint16"), volume((40, 33, 70), "uint8")
    numbers = np.arange(20_000, dtype=np.uint32)
    path = written(
        tmp_path / "a.zip", {"image": image, "label": label, "numbers": numbers}, spacing=[1.5, 1, 2]
    )
    group = zarr.open_group(zarr.storage.ZipStore(path, mode="r"), mode="r")
    assert np.array_equal(group["image"][:], image) and np.array_equal(group["label"][:], label)
    assert np.array_equal(group["numbers"][0, 0], numbers)
    assert dict(group.attrs) == {"spacing": [1.5, 1, 2]} == VoxelFile(path).facts


def test_channels_that_come_one_by_one_and_those_that_are_empty(tmp_path: Path) -> None:
    array = volume((4, 35, 20, 66), "int16")
    array[2] = 0
    made = (None if n == 2 else channel for n, channel in enumerate(array))
    path = written(tmp_path / "a.zip", {"map": Channels(array.shape, "int16", made)})
    found = VoxelFile(path).arrays["map"]
    assert np.array_equal(np.asarray(found), array)
    dense = written(tmp_path / "b.zip", {"map": array})
    assert path.read_bytes() == dense.read_bytes(), "equal arrays make equal files"


def test_a_patch_reads_little_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.random.default_rng(0).integers(1, 60_000, (160, 160, 160)).astype(np.uint16)
    found = VoxelFile(written(tmp_path / "a.zip", {"a": array})).arrays["a"]
    read: list[int] = []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, n, at: (read.append(n), pread(fd, n, at))[1])
    assert np.array_equal(found[0:32, 64:96, 64:96], array[0:32, 64:96, 64:96])
    index = 16 * 5**3 + 4
    assert sum(read) <= index + 1.1 * 2 * 32**3, "one chunk of 125, and the index"


def test_it_is_read_on_after_it_was_deleted_and_closed_in_the_end(tmp_path: Path) -> None:
    array = volume((40, 40, 40), "uint8")
    path = written(tmp_path / "a.zip", {"a": array})

    def count() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    gc.collect()
    before = count()
    found = VoxelFile(path).arrays["a"]
    path.unlink()
    assert np.array_equal(found[:], array) and count() == before + 1
    del found
    gc.collect()
    assert count() == before


@pytest.mark.parametrize("place", range(40))
def test_every_flipped_bit_of_voxels_is_noticed(place: int, tmp_path: Path) -> None:
    array = volume((40, 40, 70), "uint16")
    path = written(tmp_path / "a.zip", {"a": array}, spacing=1)
    raw = bytearray(path.read_bytes())
    at = len(raw) * place // 40
    raw[at] ^= 1 << (place % 8)
    path.write_bytes(bytes(raw))
    told: list[int] = []
    try:
        found = VoxelFile(path, on_damage=lambda: told.append(1)).arrays["a"][:]
    except DamagedFileError:
        return
    # what is not voxels, their places or their description may differ: times and names of the archive
    assert np.array_equal(found, array) and not told


@pytest.mark.parametrize("content", [b"", b"PK", b"x" * 1000, pickle.dumps({"a": 1})])
def test_what_is_no_such_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    with pytest.raises(DamagedFileError):
        VoxelFile(path)


def _rewritten(path: Path, old: bytes, new: bytes, *, compressed: bool = False) -> Path:
    other = path.with_name("other.zip")
    kind = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(other, "w", kind) as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, content.replace(old, new) if name.endswith("json") else content)
    return other


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"blosc"', b'"numcodecs.pickle"'),
        (b'"crc32c"', b'"gzip"'),
        (b"[40, 40, 70]", b"[40, 40, 1048576]"),
        (b"[40, 40, 70]", b"[40, 40, 97]"),
        (b'"uint16"', b'"object"'),
        (b'"uint16"', b'"uint8"'),
        (b'"lz4"', b'"zstd"'),
        (b'"storage_transformers": []', b'"storage_transformers": [{"name": "x"}]'),
        (b'"fill_value": 0', b'"fill_value": {}'),
    ],
)
def test_no_other_codec_type_or_shape_is_read(old: bytes, new: bytes, tmp_path: Path) -> None:
    path = written(tmp_path / "a.zip", {"a": volume((40, 40, 70), "uint16")})
    assert old in zipfile.ZipFile(path).read("a/zarr.json")
    with pytest.raises(DamagedFileError):
        VoxelFile(_rewritten(path, old, new)).arrays["a"][:]
    with pytest.raises(DamagedFileError):
        VoxelFile(_rewritten(path, b"", b"", compressed=True))


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_a_pipe_or_a_folder_in_its_place_keeps_nobody_waiting(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    os.mkfifo(path) if kind == "pipe" else path.mkdir()
    with pytest.raises(Exception, match=r"not a regular file|cannot be read"):
        VoxelFile(path)


# ---- values


@SLOW
@given(
    npst.arrays(np.float32, st.tuples(*[st.integers(1, 9)] * 3), elements=st.floats(width=32, allow_nan=True))
)
def test_values_come_back_bit_for_bit(array: np.ndarray) -> None:
    codes, values = compact(array)
    assert codes.dtype.itemsize < 4 and values is not None
    back = expand(codes, values)
    assert back.dtype == np.float32 and np.array_equal(back.view(np.uint32), array.view(np.uint32))


@pytest.mark.parametrize(("count", "bytes_"), [(256, 1), (257, 2), (65_536, 2), (65_537, 4)])
def test_as_many_bytes_as_there_are_values(count: int, bytes_: int) -> None:
    array = np.linspace(-3, 3, count, dtype=np.float32)
    assert len(np.unique(array)) == count
    codes, values = compact(np.resize(np.random.default_rng(0).permutation(array), (64, 64, 64)))
    assert codes.dtype.itemsize == bytes_ and (values is None) == (bytes_ == 4)
    if values is not None:
        assert (np.diff(values) > 0).all()


def test_values_that_first_differ_late_are_found() -> None:
    """The sample of values that is looked at first may miss most of them."""
    array = np.zeros(2**23, np.float32)
    array[1:200_002:2] = np.random.default_rng(0).normal(size=100_001).astype(np.float32)
    codes, values = compact(array.reshape(2, 2**10, 2**12))
    assert values is None and codes.dtype == np.float32
