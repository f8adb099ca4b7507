"""The texts of a run's copy, to be searched for names: numbers are left aside, for a case may be called 1001."""

from __future__ import annotations

import csv
import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import yaml

_JSON_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_COUNTERS = ("attempt", "epoch", "step")
"""Columns of `metrics.csv` that are whole numbers by their type."""


def copied_texts(copy: Path) -> Iterator[tuple[Path, str]]:
    """Yield every file with the text in it; of weights the head, where names are."""
    for file in sorted(path for path in copy.rglob("*") if path.is_file()):
        match file.suffix:
            case ".safetensors":
                yield file, _strings(_head(file))
            case ".json" | ".jsonl":
                yield file, _strings(file.read_text(encoding="utf-8"))
            case ".yaml":
                yield file, _strings(json.dumps(yaml.safe_load(file.read_text(encoding="utf-8"))))
            case ".csv":
                yield file, _cells(file)
            case suffix if suffix or file.parent.name == "checkpoints":  # chunks of arrays have no suffix
                yield file, file.read_text(encoding="utf-8")


def _head(file: Path) -> str:
    with file.open("rb") as content:
        (length,) = struct.unpack("<Q", content.read(8))
        return content.read(length).decode("utf-8", "replace")


def _strings(text: str) -> str:
    """Return, each once, what stands in quotes in JSON, keys included; escaped letters as they are read."""
    return "\n".join(json.loads(found) for found in dict.fromkeys(_JSON_STRING.findall(text)))


def _cells(file: Path) -> str:
    with file.open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    texts = [*(rows[0] if rows else ())]
    texts += [str(cell) for row in rows for column, cell in row.items() if column not in _COUNTERS]
    return "\n".join(texts)
