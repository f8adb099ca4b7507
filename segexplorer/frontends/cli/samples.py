"""`segexplorer samples`: public data sets with their licences, and fetching one when asked."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path

from rich import box
from rich.markup import escape
from rich.table import Table

from segexplorer.frontends.cli.terminal import print_json, remarks, results


def print_samples(*, as_json: bool) -> None:
    """Print what can be fetched, with size and licence."""
    from segexplorer.data.datasets.downloads import PAGE, REFERENCE, SAMPLES

    if as_json:
        print_json([asdict(one) for one in SAMPLES])
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("sample", "what it shows", "cases", "MB", "licence"):
        table.add_column(title, justify="right" if title in ("cases", "MB") else "left")
    for one in SAMPLES:
        table.add_row(one.name, escape(one.shows), str(one.cases), f"{one.megabytes:,}", one.licence)
    out = results()
    out.print(table)
    out.print(f"{REFERENCE}. {PAGE}", soft_wrap=True)
    out.print("Nothing is fetched unasked: segexplorer samples Task04_Hippocampus --download FOLDER")


def fetch_sample(name: str, folder: Path | None, *, as_json: bool) -> None:
    """Print what a sample is; with a folder, fetch it there."""
    from segexplorer.data.datasets.downloads import fetch, sample

    wanted = sample(name)
    if as_json and folder is None:
        print_json(asdict(wanted))
        return
    out = remarks() if as_json else results()
    out.print(f"{wanted.name}: {wanted.shows}; {wanted.cases} cases, about {wanted.megabytes:,} MB")
    out.print(f"Licence: {wanted.licence}. Please cite: {wanted.reference}. {wanted.page}", soft_wrap=True)
    if folder is None:
        out.print(f"Fetch it with: segexplorer samples {wanted.name} --download FOLDER", soft_wrap=True)
        return
    target = fetch(wanted, folder.expanduser(), progress=remarks().is_terminal)
    if as_json:
        print_json({**asdict(wanted), "folder": str(target)})
        return
    out.print(f"Folder: {target}", markup=False, soft_wrap=True)
    out.print(f"Next: segexplorer check {shlex.quote(str(target))}", markup=False, soft_wrap=True)
