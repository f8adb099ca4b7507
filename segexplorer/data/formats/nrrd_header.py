"""The text header of a NRRD file: fields, key/value pairs, and where the voxels begin.

Definition: teem.sourceforge.net/nrrd/format.html, sections 3 to 5.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from segexplorer.core.errors import DataError

MAX_HEADER = 4 * 2**20
"""Bytes; segmentations of many structures have headers of 100 kB."""
_MAGIC = re.compile(rb"NRRD000[1-6]\r?\n")
_TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": (
        "longlong",
        "long long",
        "long long int",
        "signed long long",
        "signed long long int",
        "int64",
        "int64_t",
    ),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}
TYPES = {name: kind for kind, names in _TYPES.items() for name in names}
"""Every name of a type of number, to numpy's."""
_SYNONYMS = {
    "centerings": "centers",
    "datafile": "data file",
    "byteskip": "byte skip",
    "lineskip": "line skip",
}
_REQUIRED = ("dimension", "type", "sizes", "encoding")


@dataclass(frozen=True)
class NrrdHeader:
    """The header of one file.

    Attributes
    ----------
    fields
        Name in small letters -> text, as written.
    pairs
        The key/value pairs.
    end
        Bytes up to the voxels of an attached header.
    """

    fields: dict[str, str]
    pairs: dict[str, str]
    end: int

    def words(self, field: str) -> list[str]:
        """Return the words of a field, quoted ones whole; none where it is absent."""
        return [a or b for a, b in re.findall(r'"([^"]*)"|(\S+)', self.fields.get(field, ""))]


def read_header(path: Path) -> NrrdHeader:
    """Read and parse the header of a file.

    Raises
    ------
    DataError
        When it is none, has no end, or lacks a field that every NRRD has.
    """
    try:
        with path.open("rb") as file:
            start = file.read(MAX_HEADER)
    except OSError as error:
        raise DataError(
            f"{path.name} cannot be read ({error.strerror}).", "Check the path and its permissions."
        ) from error
    if not start:
        raise DataError(f"{path.name} is empty.", "Copy or download it again.")
    if not _MAGIC.match(start):
        raise DataError(
            f"{path.name} is not a readable NRRD file (it does not begin with NRRD000).",
            "Check that it is an image and was copied whole.",
        )
    blank = re.search(rb"\r?\n(\r?\n)", start)
    # a header of its own (.nhdr) may end with the file
    end = blank.end() if blank else len(start)
    lines = start[: blank.start() if blank else end].decode("utf-8", "replace").splitlines()
    fields, pairs = _parse(lines[1:], path.name)
    missing = [field for field in _REQUIRED if field not in fields]
    if missing:
        raise DataError(
            f"The header of {path.name} does not give its {missing[0]}.", "Copy or export it again."
        )
    if blank is None and "data file" not in fields:
        raise DataError(f"The header of {path.name} has no end.", "Copy or export it again.")
    return NrrdHeader(fields, pairs, end)


def _parse(lines: Iterable[str], name: str) -> tuple[dict[str, str], dict[str, str]]:
    fields: dict[str, str] = {}
    pairs: dict[str, str] = {}
    for line in lines:
        if line.startswith("#") or not line.strip():
            continue
        key, separator, value = _split(line)
        if not separator:
            raise DataError(
                f"The header of {name} has a line that is none of NRRD.", "Copy or export it again."
            )
        if separator == ":=":
            pairs[_unescape(key)] = _unescape(value)
            continue
        field = key.strip().lower()
        field = _SYNONYMS.get(field, field)
        if field in fields:
            raise DataError(f"The header of {name} gives {field!r} twice.", "Correct it, or export it again.")
        fields[field] = value.strip()
    return fields, pairs


def _split(line: str) -> tuple[str, str, str]:
    """Return key, separator and value; a field's is ": ", a key/value pair's ":="."""
    colon = line.find(":")
    if colon < 0:
        return line, "", ""
    separator = ":=" if line[colon : colon + 2] == ":=" else ":"
    return line[:colon], separator, line[colon + len(separator) :]


def _unescape(text: str) -> str:
    return re.sub(r"\\(n|\\)", lambda found: "\n" if found[1] == "n" else "\\", text)


def escape(text: str) -> str:
    """Return a text as it stands in a key/value pair."""
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "")
