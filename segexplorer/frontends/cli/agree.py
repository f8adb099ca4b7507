"""`segexplorer agree`: how far two readers agree on the errors of a run, and their verdicts as one list."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from segexplorer.core.atomic_files import atomic_write
from segexplorer.core.errors import SpecError
from segexplorer.core.untrusted_files import with_checksum
from segexplorer.frontends.cli.terminal import print_json, results
from segexplorer.metrics.formatting import rows_to_csv
from segexplorer.study.agreement import Agreement, agreement, merged, rows
from segexplorer.training.run_files import EXPERIMENT
from segexplorer.training.verdicts import (
    JUDGEMENTS,
    Verdict,
    VerdictFile,
    read_verdict_file,
    read_verdicts,
)

SHOWN = 40
"""Disagreements that are printed; --json and -o hold all."""


def run_agree(
    places: tuple[Path, Path], names: str, output: Path | None, *, overwrite: bool, as_json: bool
) -> None:
    """Print the agreement of two readers, or write their verdicts side by side.

    Parameters
    ----------
    places
        Run folders, or files of verdicts.
    names
        Of the readers, with a comma; "" takes those of the files.
    output
        A table (.csv), or both as one file of verdicts (.json).

    Raises
    ------
    DataError
        When a file is missing or damaged, or neither reader judged anything.
    SpecError
        When the output exists already, or is of another kind.
    """
    if output is not None:
        if output.suffix.lower() not in (".csv", ".json"):
            raise SpecError(f"{output} is neither .csv nor .json.", "Name a file with one of these endings.")
        if output.exists() and not overwrite:
            raise SpecError(f"{output} already exists.", "Choose another name, or add --overwrite.")
    first, second = (_read(place) for place in places)
    found = agreement(first, second, _names(places, names))
    if output is not None:
        atomic_write(output.absolute(), _content(found, output))
    if as_json:
        print_json(found.plain())
        return
    _print(found)
    if output is not None:
        print(output)


def _read(place: Path) -> tuple[Verdict, ...]:
    return read_verdicts(place) if (place / EXPERIMENT).is_file() else read_verdict_file(place)


def _names(places: tuple[Path, Path], given: str) -> tuple[str, str]:
    if given:
        parts = [part.strip() for part in given.split(",")]
        if len(parts) != 2 or not all(parts) or parts[0] == parts[1]:
            raise SpecError(f"{given!r} are not two names.", "Write them like: --names Anna,Ben")
        return parts[0], parts[1]
    named = [place.stem if place.is_file() else place.name for place in (p.absolute() for p in places)]
    return (named[0], named[1]) if named[0] != named[1] else (f"{named[0]} (1)", f"{named[1]} (2)")


def _content(found: Agreement, output: Path) -> bytes:
    if output.suffix.lower() == ".json":
        plain = VerdictFile(verdicts=list(merged(found))).model_dump(mode="json")
        return json.dumps(with_checksum(plain)).encode()
    named = {
        "first": found.names[0],
        "second": found.names[1],
        "first_note": f"{found.names[0]}, note",
        "second_note": f"{found.names[1]}, note",
    }
    return rows_to_csv(
        [{named.get(key, key): _harmless(value) for key, value in row.items()} for row in rows(found)]
    ).encode()


def _harmless(value: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value


def _print(found: Agreement) -> None:
    out = results()
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(f"{escape(found.names[0])} \\ {escape(found.names[1])}")
    for word in JUDGEMENTS.values():
        table.add_column(word, justify="right")
    for name, counts in zip(JUDGEMENTS.values(), found.counts, strict=True):
        table.add_row(name, *(str(int(count)) for count in counts))
    out.print(table)
    out.print()
    if math.isfinite(found.kappa):
        out.print(
            f"Cohen's kappa {found.kappa:.2f}, 95 % interval {found.low:.2f} to {found.high:.2f}; alike in "
            f"{100 * found.observed:.0f} % of {len(found.both)} errors, by chance {100 * found.expected:.0f} %.",
            markup=False,
            soft_wrap=True,
        )
    for note in found.notes:
        out.print(note, markup=False, soft_wrap=True, style="dim")
    apart: list[Mapping[str, Any]] = [row for row in rows(found) if row["agree"] is False]
    if not apart:
        return
    listed = Table(title="Judged differently", title_justify="left", box=None, header_style="bold")
    for head in ("case", "class", "kind", "ml", "place", *found.names, "notes"):
        listed.add_column(escape(head), overflow="fold")
    for row in apart[:SHOWN]:
        notes = "; ".join(text for text in (row["first_note"], row["second_note"]) if text)
        words = [JUDGEMENTS[row[side]] for side in ("first", "second")]
        cells = [row["case"], row["class"], row["kind"].replace("_", " "), f"{row['volume_ml']:.2f}"]
        listed.add_row(*map(escape, [*cells, row["place"], *words, notes]))
    out.print(listed)
    if len(apart) > SHOWN:
        out.print(f"{len(apart) - SHOWN} more: --json, or -o FILE.csv", style="dim")
