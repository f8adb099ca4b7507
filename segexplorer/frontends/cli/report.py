"""`segexplorer report` and `segexplorer figure`: a run or a study as one page, and figures of a run."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import typer

from segexplorer.frontends.cli.terminal import print_json, remark, remarks
from segexplorer.frontends.report.figures import Subject, figure
from segexplorer.frontends.report.writing import HEAD_WARNING, report
from segexplorer.training.sharing import unpacked_run


def run_report(
    run: Path, output: Path, *, names: bool | None, images: bool, overwrite: bool, as_json: bool
) -> None:
    """Write the page; its path goes to stdout, what to look at before it is shared to stderr."""
    if names is None:
        names = _may_name(images=images)
    out, begun = remarks(), time.perf_counter()
    with unpacked_run(run) as folder, out.status("reading the run") as status:
        path = report(
            folder, output, names=names, images=images, overwrite=overwrite, on_progress=status.update
        )
    size = path.stat().st_size
    if as_json:
        seconds = round(time.perf_counter() - begun, 1)
        print_json({"file": str(path), "bytes": size, "seconds": seconds, "names": names, "images": images})
        return
    print(path)
    said = "cases are named" if names else "cases are numbered (--names names them)"
    remark(f"{size / 1e6:.1f} MB; {said}.")
    if images:
        remark(HEAD_WARNING)


def _may_name(*, images: bool) -> bool:
    """Ask whether cases may be named; nobody there means no."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    if images:
        remark(HEAD_WARNING)
    return typer.confirm("May the page name cases and folders, and show notes of readers?", err=True)


def run_figure(
    run: Path,
    output: Path,
    *,
    of: Subject | None,
    case: str,
    names: bool,
    width: float,
    dpi: int,
    overwrite: bool,
) -> None:
    """Write a figure of a run; its path goes to stdout."""
    with unpacked_run(run) as folder:
        path = figure(
            folder, output, of=of, case=case, names=names, width_mm=width, dpi=dpi, overwrite=overwrite
        )
    print(path)
