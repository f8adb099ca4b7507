"""`segexplorer series`: what a DICOM folder or archive holds, by facts that name no patient."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from segexplorer.core.errors import DataError
from segexplorer.frontends.cli.terminal import print_json, results

if TYPE_CHECKING:
    from segexplorer.data.formats.dicom.series import Series
    from segexplorer.data.volume import Volume


def print_series(path: Path, *, as_json: bool) -> None:
    """Print the series of a folder, zip archive or file, as a table or JSON.

    Raises
    ------
    DataError
        When there is none.
    """
    from segexplorer.data.formats.dicom.series import list_series

    if not path.exists():
        raise DataError(f"There is no {path}.", "Check the path.")
    listed = list_series(path)
    if as_json:
        print_json([_plain(one) for one in listed])
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in listed[0].facts:
        table.add_column(column, min_width=len(column))
    notes: dict[str, int] = {}
    for one in listed:
        names = ", ".join(f"{value} {name}" for value, name in _names(one).items())
        text = one.facts["notes"]
        mark = f"[{notes.setdefault(text, len(notes) + 1)}]" if text else ""
        facts = {**one.facts, "notes": " ".join(filter(None, (names, mark)))}
        table.add_row(*(escape(text) for text in facts.values()), style="red" if one.problem else None)
    out = results()
    out.print(table)
    # below, once each: series of one kind share notes of several sentences
    for text, number in notes.items():
        out.print(f"[{number}] {text}", markup=False, soft_wrap=not out.is_terminal)


def selected(path: Path, select: str | None) -> Path | Volume:
    """Return the path, or the volume that `select` chooses in it."""
    from segexplorer.data.io import open_volume

    return path if select is None else open_volume(path, select=select)


def _names(series: Series) -> dict[int, str]:
    from segexplorer.data.formats.dicom.reader import names_of

    return {} if series.problem else names_of(series)


def _plain(series: Series) -> dict[str, object]:
    return {
        "series": series.number,
        "kind": series.kind,
        "modality": series.modality,
        "shape": list(series.shape),
        "spacing": list(series.spacing),
        "orientation": series.orientation,
        "files": series.files,
        "names": _names(series),
        "notes": list(series.notes),
        "problem": series.problem.message if series.problem else "",
    }
