"""ISA-L unpacks damaged streams as Python's zlib does: the same bytes or an error, and no checksum is missed.

A long run is python tests/data/formats/test_deflate.py --streams 40000 --seed 1
"""

from __future__ import annotations

import argparse
import gzip
import zlib
from collections import Counter
from typing import Any

import numpy as np
import pytest
from isal import isal_zlib

Rng = np.random.Generator
RAW = np.random.default_rng(0).integers(-900, 900, 3000).astype(np.int16).tobytes()


def streams() -> list[bytes]:
    """Return good zlib and gzip streams: noise, zeros, few values, repetitions, and stored without packing."""
    rng = np.random.default_rng(0)
    found = []
    for data in (RAW, bytes(100_000), rng.integers(0, 4, 40_000, dtype=np.uint8).tobytes(), b"abc" * 3000):
        for level in (0, 1, 4, 9):
            found += [zlib.compress(data, level), gzip.compress(data, level, mtime=0)]
    return found


def damaged(stream: bytes, rng: Rng) -> bytes:
    """Cut a stream, lengthen it, or change some of its bytes."""
    data = bytearray(stream)
    choice = int(rng.integers(6))
    if choice == 0:
        del data[int(rng.integers(len(data))) :]
    elif choice == 1:
        data += rng.bytes(int(rng.integers(1, 50)))
    elif choice == 2:
        start = int(rng.integers(len(data)))
        stop = min(len(data), start + 20)
        data[start:stop] = bytes(stop - start)
    elif choice == 3:
        data[int(rng.integers(16))] = int(rng.integers(256))
    elif choice == 4:
        data[-int(rng.integers(1, 9))] ^= 1 << int(rng.integers(8))
    else:
        for _ in range(int(rng.integers(1, 6))):
            data[int(rng.integers(len(data)))] = int(rng.integers(256))
    return bytes(data)


def unpack(library: Any, data: bytes, piece: int) -> tuple[str, bytes, bytes]:
    """Return how a stream ends ("whole", "short", "error"), its bytes, and what follows it."""
    unpacker, found = library.decompressobj(wbits=47), []
    try:
        for start in range(0, len(data), piece):
            found.append(unpacker.decompress(data[start : start + piece]))
            if unpacker.eof:
                return "whole", b"".join(found), unpacker.unused_data
    except library.error:
        return "error", b"".join(found), b""
    return "short", b"".join(found), b""


def compare(count: int, seed: int) -> Counter[str]:
    """Unpack many damaged streams with both; return how they ended."""
    rng, known, ends = np.random.default_rng(seed), streams(), Counter[str]()
    for number in range(count):
        data = damaged(known[number % len(known)], rng)
        piece = int(rng.choice([7, 1000, 65_536]))
        expected, found = unpack(zlib, data, piece), unpack(isal_zlib, data, piece)
        ends[f"zlib {expected[0]}, ISA-L {found[0]}"] += 1
        if expected[0] == "whole":
            assert found == expected, (number, seed)
        elif found[0] == "whole":
            # a reserved flag of the gzip header, at which zlib gives up; the checksum is that of the bytes
            assert data[3] & 0xE0 and found[1] == unpack(zlib, data[:3] + b"\0" + data[4:], piece)[1]
    return ends


def test_damaged_streams_end_as_with_zlib() -> None:
    ends = compare(1200, 20261128)
    assert ends["zlib whole, ISA-L whole"] > 150 and ends["zlib error, ISA-L error"] > 400, ends


@pytest.mark.parametrize("packed", [zlib.compress(RAW), gzip.compress(RAW, mtime=0)], ids=["zlib", "gzip"])
def test_every_bit_of_a_checksum_counts(packed: bytes) -> None:
    size = 4 if packed[0] == 0x78 else 8
    for place in range(1, size + 1):
        for bit in range(8):
            data = bytearray(packed)
            data[-place] ^= 1 << bit
            assert unpack(isal_zlib, bytes(data), 1000)[0] == "error"
        assert unpack(isal_zlib, packed[:-place], 1000)[0] == "short"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=40_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    for name, count in compare(given.streams, given.seed).most_common():
        print(f"{name:32} {count:8,}")


if __name__ == "__main__":
    main()
