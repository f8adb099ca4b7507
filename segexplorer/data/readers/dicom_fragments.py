"""Compressed pixels are looked through before a decoder sees them, which trusts lengths and may take long.

A compressed pixel element is a row of fragments, each with its length (DICOM PS3.5, A.4). JPEG, JPEG-LS and
JPEG 2000 begin with the size of their picture; run lengths (PS3.5, G) make at most 64 bytes of one.
"""

from __future__ import annotations

import struct
from typing import IO

from segexplorer.data.readers.dicom_frames import Encoding

_ITEM, _END = 0xFFFEE000, 0xFFFEE0DD
_RLE = "1.2.840.10008.1.2.5"
_LONGEST_RUN = 64
_J2K_START, _J2K_SIZE = b"\xff\x4f", b"\xff\x51"
_JPEG_START = b"\xff\xd8"
_JPEG_SIZES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
"""Markers of a frame header: SOF0 to SOF15 without tables, and SOF55 of JPEG-LS."""
_HEAD = 4096


class BrokenFragments(ValueError):
    """Fragments that cannot be what the header promises."""


def check_fragments(file: IO[bytes], encoding: Encoding, size: int) -> None:
    """Look through the pixel element of an open file of `size` bytes.

    Raises
    ------
    BrokenFragments
        When a fragment reaches beyond the file, there are too few, or their picture has another size.
    """
    sizes: list[int] = []
    heads: list[bytes] = []
    at = encoding.offset
    while True:
        file.seek(at)
        tag = file.read(8)
        if len(tag) < 8:
            raise BrokenFragments("the last fragment is missing")
        group, element, length = struct.unpack("<HHI", tag)
        if (group << 16 | element) == _END:
            break
        if (group << 16 | element) != _ITEM or at + 8 + length > size:
            raise BrokenFragments("a fragment is cut off")
        sizes.append(length)
        heads.append(file.read(min(length, _HEAD)))
        at += 8 + length
    # the first item is a table of offsets, which may be empty
    if len(sizes) < 1 + encoding.frames:
        raise BrokenFragments("fragments are missing")
    if encoding.syntax == _RLE:
        if encoding.frame_bits * encoding.frames > 8 * _LONGEST_RUN * sum(sizes[1:]):
            raise BrokenFragments("the runs are too short")
    elif len(sizes) == 1 + encoding.frames:
        for head in heads[1:]:
            _check_picture(head, encoding)
    else:
        _check_picture(heads[1], encoding)


def _check_picture(head: bytes, encoding: Encoding) -> None:
    told = None
    if head[:2] == _J2K_START:
        told = _j2k_size(head)
    elif head[:2] == _JPEG_START:
        told = _jpeg_size(head)
    if told is not None and told != (encoding.rows, encoding.columns):
        raise BrokenFragments("the picture has another size")


def _j2k_size(head: bytes) -> tuple[int, int]:
    """Return (rows, columns) of a JPEG 2000 codestream, ISO/IEC 15444-1 A.5.1."""
    if head[2:4] != _J2K_SIZE or len(head) < 24:
        raise BrokenFragments("there is no size")
    right, bottom, left, top = struct.unpack(">4I", head[8:24])
    return bottom - top, right - left


def _jpeg_size(head: bytes) -> tuple[int, int] | None:
    """Return (rows, columns) of a JPEG or JPEG-LS picture, ITU T.81 B.2.2; None where its header is very long."""
    at = 2
    while at + 9 <= len(head):
        if head[at] != 0xFF:
            raise BrokenFragments("a marker is missing")
        marker = head[at + 1]
        if marker == 0xFF:  # fill bytes
            at += 1
            continue
        if marker in _JPEG_SIZES:
            rows, columns = struct.unpack(">HH", head[at + 5 : at + 9])
            return rows, columns
        at += 2 + struct.unpack(">H", head[at + 2 : at + 4])[0]
    return None
