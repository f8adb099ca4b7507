"""Tables and lists that people write: CSV, TSV, Excel, JSON and YAML, as their programs happen to save them.

Text may be UTF-8 with or without a byte-order mark, UTF-16, or what Excel writes in the West (Windows-1252).
Columns may be separated by commas, semicolons, tabs or bars, headings be in any case, and paths have backslashes.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segexplorer.core.errors import DataError, require, shorten
from segexplorer.core.yaml_text import YamlError, load_yaml

TABLES = (".csv", ".tsv", ".txt", ".xlsx")
DOCUMENTS = (".json", ".yaml", ".yml")
_MOST_BYTES = 64 * 2**20
"""A list of cases larger than this is something else."""
_DELIMITERS = ",;\t|"
_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def read_text(path: Path) -> str:
    """Return a text file, whatever program has saved it.

    Raises
    ------
    DataError
        When it is not there, cannot be read, is too large, or holds no text.
    """
    try:
        if not path.is_file():
            raise DataError(f"There is no file {path}.", "Check the path.")
        if path.stat().st_size > _MOST_BYTES:
            raise DataError(f"{path.name} is too large for a list of cases.", "Is it the right file?")
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).", "Check its permissions.") from error
    encoding = next((name for mark, name in _BOMS if data.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\0" in data:
        raise DataError(f"{path.name} is not a text file.", "Save the list as CSV, JSON or YAML.")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        # bytes that Windows-1252 does not define are kept as marks, for they only matter where a path holds them
        return data.decode("cp1252", "replace")


def read_document(path: Path) -> Any:
    """Return what a JSON or YAML file holds.

    Raises
    ------
    DataError
        When it cannot be read or parsed.
    """
    text, kind = read_text(path), "JSON" if path.suffix.lower() == ".json" else "YAML"
    try:
        return json.loads(text) if kind == "JSON" else load_yaml(text)
    except YamlError as error:
        raise DataError(f"{path.name} is not valid YAML{error}.", "Repair or download it again.") from error
    except (ValueError, RecursionError) as error:
        reason = (
            shorten(" ".join(str(error).split())) if not isinstance(error, RecursionError) else "too deep"
        )
        raise DataError(
            f"{path.name} is not valid {kind}: {reason}.", "Repair or download it again."
        ) from error


def read_object(path: Path) -> dict[str, Any]:
    """Return what a JSON or YAML file holds when that is named values.

    Raises
    ------
    DataError
        When it is anything else.
    """
    read = read_document(path)
    if not isinstance(read, dict):
        raise DataError(f"{path.name} does not hold named values.", "Is it the right file?")
    return read


def read_rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Return the headings of a table in lower case, with underscores for blanks, and its rows without empty ones.

    Raises
    ------
    DataError
        When the file cannot be read.
    MissingExtraError
        For an Excel file without the package that reads it.
    """
    lines = _excel(path) if path.suffix.lower() == ".xlsx" else _delimited(read_text(path))
    if not lines:
        return [], []
    headings = [_heading(cell) for cell in lines[0]]
    if repeated := sorted({name for name in headings if name and headings.count(name) > 1}):
        raise DataError(f"{path.name} has the column {repeated[0]} twice.", "Keep one of them.")
    rows = [dict(zip(headings, (cell.strip() for cell in line), strict=False)) for line in lines[1:]]
    return headings, [{k: v for k, v in row.items() if k} for row in rows if any(row.values())]


def _heading(cell: str) -> str:
    return re.sub(r"[\s\-]+", "_", cell.strip().lower())


def _delimited(text: str) -> list[list[str]]:
    lines = text.splitlines()
    first = next((line for line in lines if line.strip()), "")
    # Excel may say it in a line of its own: sep=;
    if found := re.fullmatch(r"sep=(.)", first.strip(), re.IGNORECASE):
        text, delimiter = "\n".join(lines[lines.index(first) + 1 :]), found[1]
    else:
        bare = re.sub(r'"[^"]*"', "", first)
        delimiter = max(_DELIMITERS, key=lambda mark: (bare.count(mark), mark == ","))
    try:
        return [
            row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if any(c.strip() for c in row)
        ]
    except csv.Error as error:
        raise DataError(f"The table cannot be read ({error}).", "Save it again as CSV.") from error


def _excel(path: Path) -> list[list[str]]:
    import pandas as pd

    require("openpyxl", "excel", "An Excel list")
    if not path.is_file():
        raise DataError(f"There is no file {path}.", "Check the path.")
    try:
        # as text: a case called 007 keeps its zeros
        frame = pd.read_excel(path, header=None, dtype=str, na_filter=False)
    except Exception as error:  # openpyxl raises whatever its zip and XML parsers raise
        text = f"{path.name} is not a readable Excel file ({type(error).__name__})."
        raise DataError(text, "Save the list as CSV.") from error
    return [
        [str(cell) for cell in row]
        for row in frame.itertuples(index=False)
        if any(map(str.strip, map(str, row)))
    ]


def local_path(text: str, beside: Path) -> Path:
    """Return the path that a list names, relative to the list; backslashes part folders where no file has them."""
    given = Path(text).expanduser()
    if "\\" in text and not (beside / given).exists():
        given = Path(text.replace("\\", "/")).expanduser()
    return beside / given


def cell(row: Mapping[str, Any], *names: str) -> str:
    """Return the first of these columns that is filled, else nothing."""
    return next((str(row[name]).strip() for name in names if row.get(name) not in (None, "")), "")
