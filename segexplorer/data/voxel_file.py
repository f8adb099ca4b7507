"""Arrays of voxels in one file, of which a patch reads only the chunks that it meets.

The file is a zip archive that stores, uncompressed, zarr arrays of format 3: one shard per channel, chunks of 32
voxels along each axis, compressed by Blosc (bit shuffle, LZ4) and followed by their CRC-32C; chunks that are
constant are left out. zarr itself opens it (`zarr.storage.ZipStore`), but takes most of a patch's time for its own
administration, so chunks are read here directly: one `pread` per row of chunks, which needs no lock and goes on
working after another process has deleted the file. Only this one form is read, whatever a file declares: no codec
can be named that runs code, and nothing is allocated that the caller did not expect.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import struct
import threading
import weakref
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import google_crc32c
import numpy as np
from numcodecs import blosc  # type: ignore[import-untyped]
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.core.untrusted_files import open_regular

Chunk = tuple[int, int, int]
CHUNK: Chunk = (32, 32, 32)
"""Voxels of a chunk along each axis; see `benchmarks/patch_cache.py`."""
LIST: Chunk = (1, 1, 8192)
"""Chunk of a list of numbers, which is kept as an array (1, 1, n)."""
TYPES = ("uint8", "int16", "uint16", "uint32", "float16", "float32")
LARGEST = 2**40
"""Bytes of a file, at most."""
_MAX_AXES, _MAX_SIZE, _MAX_CHUNK = 4, 2**28, 2**20
_MAX_METADATA = 2**24
_NOTHING = 2**64 - 1
_ZIP_HEADER = struct.Struct("<4s22xHH")
_BLOSC_HEADER = struct.Struct("<4xI4xI")
_CRC_BYTES = 4
_DAMAGED = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    RuntimeError,
    EOFError,
    struct.error,
    zipfile.BadZipFile,
)

Read = Callable[[int, int], bytes]
"""Returns so many bytes (second) of a file from a place on (first)."""


class DamagedFileError(DataError):
    """A file of voxels is not what it should be; whoever made it makes it again."""

    def __init__(self, message: str = "A file of voxels is damaged.", remedy: str = "") -> None:
        super().__init__(message, remedy or "It was deleted; continue the run, which makes it again.")


# ---- reading


class ChunkedArray:
    """An array (C, x, y, z) or (x, y, z) in a file; indexing with slices reads the chunks that they meet.

    Parameters
    ----------
    shape, dtype
        Of the array.
    fill
        What chunks hold that are not in the file.
    read
        Reads bytes of the file.
    shards
        (first byte, bytes) of each channel's shard; a lone one for an array without channels.
    chunk
        Voxels of a chunk along each axis.
    on_damage
        Called when something that is read turns out to be damaged.
    """

    def __init__(
        self,
        shape: Sequence[int],
        dtype: str,
        fill: float,
        read: Read,
        shards: Sequence[tuple[int, int]],
        chunk: Chunk = CHUNK,
        on_damage: Callable[[], None] = lambda: None,
    ) -> None:
        self.shape, self.dtype = tuple(shape), np.dtype(dtype)
        self._fill, self._read, self._shards, self._chunk = fill, read, list(shards), chunk
        self._counts = tuple(-(-n // c) for n, c in zip(self.shape[-3:], chunk, strict=True))
        self._index: dict[int, NDArray[np.uint64]] = {}
        self._on_damage = on_damage

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of voxels, over all channels."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return sum(length for _, length in self._shards)

    def __getitem__(self, key: int | slice | tuple[int | slice, ...]) -> NDArray[Any]:
        """Return a box, by slices of step 1 and numbers.

        Raises
        ------
        DamagedFileError
            When the bytes are not those that were written.
        """
        parts = list(key) if isinstance(key, tuple) else [key]
        parts += [slice(None)] * (len(self.shape) - len(parts))
        bounds = [self._bounds(part, n) for part, n in zip(parts, self.shape, strict=True)]
        channels, box = (range(1), bounds) if len(self.shape) == 3 else (range(*bounds[0]), bounds[1:])
        result = np.empty((len(channels), *(max(0, b - a) for a, b in box)), self.dtype)
        try:
            for place, channel in enumerate(channels):
                self._read_box(channel, box, result[place])
        except DamagedFileError:
            self._on_damage()
            raise
        found = result[0] if len(self.shape) == 3 else result
        return np.asarray(found[tuple(0 if isinstance(part, int) else slice(None) for part in parts)])

    @staticmethod
    def _bounds(part: int | slice, size: int) -> tuple[int, int]:
        if isinstance(part, int):
            first = part + size if part < 0 else part
            return first, first + 1
        first, last, step = part.indices(size)
        if step != 1:
            raise IndexError("voxels in a file are read without steps")
        return first, max(first, last)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """Return all of it."""
        whole = self[:]
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def _read_box(self, channel: int, box: Sequence[tuple[int, int]], result: NDArray[Any]) -> None:
        if not result.size:
            return
        index, sizes = self._offsets(channel), self._chunk
        first_byte = self._shards[channel][0]
        firsts = [a // size for (a, _), size in zip(box, sizes, strict=True)]
        lasts = [-(-b // size) for (_, b), size in zip(box, sizes, strict=True)]
        scratch = np.empty(sizes, self.dtype)
        for i, j in itertools.product(range(firsts[0], lasts[0]), range(firsts[1], lasts[1])):
            row = index[i, j, firsts[2] : lasts[2]]
            there = row[:, 0] != _NOTHING
            run, begin = b"", 0
            if there.any():
                begin = int(row[there, 0].min())
                run = self._read(first_byte + begin, int((row[there, 0] + row[there, 1]).max()) - begin)
            for k, (offset, length) in enumerate(row.tolist(), start=firsts[2]):
                target, source = [], []
                for n, (a, b), size in zip((i, j, k), box, sizes, strict=True):
                    low, high = max(a, n * size), min(b, (n + 1) * size)
                    target.append(slice(low - a, high - a))
                    source.append(slice(low - n * size, high - n * size))
                if offset == _NOTHING:
                    result[tuple(target)] = self._fill
                else:
                    _unpack(memoryview(run)[offset - begin : offset - begin + length], scratch)
                    result[tuple(target)] = scratch[tuple(source)]

    def _offsets(self, channel: int) -> NDArray[np.uint64]:
        """Return (x, y, z, 2) place and bytes of each chunk within its shard."""
        if channel in self._index:
            return self._index[channel]
        begin, length = self._shards[channel]
        size = 16 * math.prod(self._counts) + _CRC_BYTES
        if size > length:
            raise DamagedFileError("A file of voxels is too short.")
        raw = self._read(begin + length - size, size)
        _require_crc(raw)
        found = np.frombuffer(raw[:-_CRC_BYTES], "<u8").reshape(*self._counts, 2)
        there = found[..., 0] != _NOTHING
        ends = found[there]
        if len(ends) and (
            ends.max() > length
            or int((ends[:, 0] + ends[:, 1]).max()) > length - size
            or ends[:, 1].min() < 20
        ):
            raise DamagedFileError("A file of voxels points outside itself.")
        self._index[channel] = found
        return found


def _require_crc(raw: bytes | memoryview) -> None:
    body, stored = raw[:-_CRC_BYTES], raw[-_CRC_BYTES:]
    if google_crc32c.value(bytes(body)) != int.from_bytes(stored, "little"):
        raise DamagedFileError("A file of voxels is damaged: a checksum does not fit.")


def _unpack(raw: memoryview, target: NDArray[Any]) -> None:
    """Decompress a chunk into an array, of whose size it must be exactly."""
    _require_crc(raw)
    body = raw[:-_CRC_BYTES]
    unpacked, packed = _BLOSC_HEADER.unpack_from(body)
    if unpacked != target.nbytes or packed != len(body):
        raise DamagedFileError("A file of voxels is damaged: a chunk has another size.")
    try:
        blosc.decompress(body, target)
    except RuntimeError as error:
        raise DamagedFileError("A file of voxels is damaged: a chunk cannot be unpacked.") from error


class VoxelFile:
    """An open file of arrays; it can be read from several threads, also after it was deleted.

    It is closed when nothing refers to it or one of its arrays any more.

    Attributes
    ----------
    facts
        What was written beside the arrays.
    arrays
        By name.
    """

    def __init__(self, path: Path, on_damage: Callable[[], None] = lambda: None) -> None:
        self._on_damage = on_damage
        self._lock = threading.Lock()
        with open_regular(path, LARGEST) as file:
            self._descriptor = os.dup(file.fileno())
            # closed with the last array that is read from it, whichever thread has it
            weakref.finalize(self, os.close, self._descriptor)
            self._size = os.fstat(self._descriptor).st_size
            try:
                self.facts, self.arrays = self._contents(file)
            except DamagedFileError:
                raise
            except _DAMAGED as error:
                raise DamagedFileError(f"{path.name} is no whole file of voxels.") from error

    @property
    def nbytes(self) -> int:
        """Bytes of the file."""
        return self._size

    def _read(self, offset: int, length: int) -> bytes:
        if hasattr(os, "pread"):
            found = os.pread(self._descriptor, length, offset)
        else:
            with self._lock:
                os.lseek(self._descriptor, offset, os.SEEK_SET)
                found = os.read(self._descriptor, length)
        if len(found) != length:
            raise DamagedFileError("A file of voxels ends too early.")
        return found

    def _contents(self, file: IO[bytes]) -> tuple[dict[str, Any], dict[str, ChunkedArray]]:
        with zipfile.ZipFile(file) as archive:
            members = {info.filename: info for info in archive.infolist()}
            if any(info.compress_type != zipfile.ZIP_STORED for info in members.values()):
                raise ValueError("compressed members")

            def document(name: str) -> dict[str, Any]:
                if members[name].file_size > _MAX_METADATA:
                    raise ValueError("metadata too large")
                found = json.loads(archive.read(name))
                if not isinstance(found, dict):
                    raise TypeError("metadata of another form")
                return found

            facts = document("zarr.json")["attributes"]
            names = [n.removesuffix("/zarr.json") for n in members if n.endswith("/zarr.json")]
            arrays = {name: self._array(document(f"{name}/zarr.json"), name, members) for name in names}
        if not isinstance(facts, dict):
            raise TypeError("facts of another form")
        return facts, arrays

    def _array(
        self, found: Mapping[str, Any], name: str, members: Mapping[str, zipfile.ZipInfo]
    ) -> ChunkedArray:
        shape, dtype, fill = found["shape"], found["data_type"], found["fill_value"]
        chunk = found["codecs"][0]["configuration"]["chunk_shape"][-3:]
        whole = all(isinstance(n, int) and 0 < n <= _MAX_SIZE for n in (*shape, *chunk))
        if (
            not whole
            or dtype not in TYPES
            or len(shape) not in (3, _MAX_AXES)
            or math.prod(chunk) > _MAX_CHUNK
            or fill != 0
        ):
            raise ValueError("an array of another form")
        if found != metadata(shape, dtype, fill, chunk):
            raise ValueError("an array of another form")
        keys = ["c/0/0/0"] if len(shape) == 3 else [f"c/{c}/0/0/0" for c in range(shape[0])]
        shards = [self._place(members[f"{name}/{key}"]) for key in keys]
        return ChunkedArray(
            shape, dtype, fill, self._read, shards, (chunk[0], chunk[1], chunk[2]), self._on_damage
        )

    def _place(self, info: zipfile.ZipInfo) -> tuple[int, int]:
        """Return first byte and bytes of a member, of which the directory knows where its header is."""
        mark, name, extra = _ZIP_HEADER.unpack(self._read(info.header_offset, _ZIP_HEADER.size))
        begin = info.header_offset + _ZIP_HEADER.size + name + extra
        if mark != b"PK\x03\x04" or begin + info.file_size > self._size:
            raise ValueError("a member outside the file")
        return begin, info.file_size


# ---- writing


def metadata(shape: Sequence[int], dtype: str, fill: float, chunk: Sequence[int] = CHUNK) -> dict[str, Any]:
    """Return `zarr.json` of an array, the only one that is read, too."""
    leading = [1] * (len(shape) - 3)
    shard = [*leading, *(-(-n // c) * c for n, c in zip(shape[-3:], chunk, strict=True))]
    order = {"name": "bytes", "configuration": {"endian": "little"}}
    if np.dtype(dtype).itemsize == 1:
        order = {"name": "bytes"}
    index = {"name": "bytes", "configuration": {"endian": "little"}}
    compression = {
        "typesize": np.dtype(dtype).itemsize,
        "cname": _COMPRESSOR,
        "clevel": _LEVEL,
        "shuffle": "bitshuffle",
        "blocksize": 0,
    }
    sharding = {
        "chunk_shape": [*leading, *chunk],
        "codecs": [order, {"name": "blosc", "configuration": compression}, {"name": "crc32c"}],
        "index_codecs": [index, {"name": "crc32c"}],
        "index_location": "end",
    }
    return {
        "shape": list(shape),
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": shard}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": fill,
        "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
        "attributes": {},
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }


_COMPRESSOR, _LEVEL = "lz4", 5


@dataclass(frozen=True)
class Channels:
    """An array (C, x, y, z) whose channels come one after the other, so that only one has to be in memory.

    None stands for a channel of zeros.
    """

    shape: tuple[int, ...]
    dtype: str
    channels: Iterable[NDArray[Any] | None]


def write_voxels(
    file: IO[bytes],
    facts: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any] | Channels],
    chunk: Chunk = CHUNK,
) -> None:
    """Write arrays into a file that is open for writing.

    Parameters
    ----------
    facts
        Plain data beside them, as JSON.
    arrays
        Name -> (x, y, z) or (C, x, y, z) numbers, or `Channels`; or (n,), which becomes (1, 1, n).
    """
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        group = {"attributes": dict(facts), "zarr_format": 3, "node_type": "group"}
        archive.writestr(_member("zarr.json"), json.dumps(group, allow_nan=False))
        for name, array in arrays.items():
            if isinstance(array, Channels):
                shape, dtype, channels, size = array.shape, array.dtype, array.channels, chunk
            else:
                size = LIST if array.ndim == 1 else chunk
                array = array[np.newaxis, np.newaxis] if array.ndim == 1 else array
                shape, dtype = array.shape, array.dtype.name
                channels = array if array.ndim == _MAX_AXES else [array]
            for number, channel in enumerate(channels):
                key = "c/0/0/0" if len(shape) == 3 else f"c/{number}/0/0/0"
                with archive.open(_member(f"{name}/{key}"), "w", force_zip64=True) as shard:
                    _write_shard(shard, channel, shape[-3:], dtype, size)
            archive.writestr(_member(f"{name}/zarr.json"), json.dumps(metadata(shape, dtype, 0, size)))


def _member(name: str) -> zipfile.ZipInfo:
    """Return a member without a time, so that equal arrays make equal files."""
    return zipfile.ZipInfo(name)


def _write_shard(
    file: IO[bytes], array: NDArray[Any] | None, shape: Sequence[int], dtype: str, sizes: Chunk
) -> None:
    counts = [-(-n // size) for n, size in zip(shape, sizes, strict=True)]
    index = np.full((*counts, 2), _NOTHING, "<u8")
    offset = 0
    for i, j, k in itertools.product(*map(range, counts)) if array is not None else ():
        assert array is not None
        part = array[tuple(slice(n * size, (n + 1) * size) for n, size in zip((i, j, k), sizes, strict=True))]
        if not part.any():
            continue
        block = np.zeros(sizes, dtype)
        block[tuple(slice(0, n) for n in part.shape)] = part
        packed = blosc.compress(
            block.ravel(), _COMPRESSOR.encode(), _LEVEL, blosc.BITSHUFFLE, 0, array.dtype.itemsize
        )
        packed += google_crc32c.value(packed).to_bytes(_CRC_BYTES, "little")
        index[i, j, k] = offset, len(packed)
        file.write(packed)
        offset += len(packed)
    raw = index.tobytes()
    file.write(raw + google_crc32c.value(raw).to_bytes(_CRC_BYTES, "little"))
