"""Writing a report: as a page, or as a PDF of it through an installed Chromium."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from segexplorer.core.atomic_files import atomic_write
from segexplorer.core.errors import DataError, SpecError

if TYPE_CHECKING:
    from segexplorer.training.run import Run

MOST_BYTES = 20_000_000
"""Largest page: what mail and teaching platforms still take."""
HEAD_WARNING = (
    "The page shows slices of cases. Pictures of a head can identify a person: share the page as you would "
    "share the images."
)
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
"""Programs that print a page, as they are called on different systems."""
PRINTING_S = 180


def report(
    run: Run | str | Path,
    output: str | Path | None = None,
    *,
    names: bool = False,
    images: bool = True,
    overwrite: bool = False,
    on_progress: Callable[[str], object] = lambda _: None,
) -> Path:
    """Write a report of a run, or of a study, as one page of HTML that needs nothing else.

    >>> segexplorer.report("runs/liver")  # doctest: +SKIP

    Parameters
    ----------
    run
        A run, its folder, or the folder of a study. Runs that another program trained (`segexplorer.Recorder`) and
        runs that still train are reported as far as they got.
    output
        The file to write, .html or .pdf; by default `report.html` in the working directory.
    names
        Whether cases, folders and notes of readers may be named. Without names they are numbered or left out, as in
        what `segexplorer share` packs; names of classes stay, unless they may identify somebody.
    images
        Whether slices of cases are shown. Pictures of a head can identify a person.
    overwrite
        Whether to replace a file of that name.
    on_progress
        Called with what is being done.

    Raises
    ------
    SpecError
        When the file exists, or is neither .html nor .pdf.
    DataError
        When the folder is neither a run nor a study, or is damaged; for a PDF, when no Chromium is installed.
    """
    folder = Path(run) if isinstance(run, (str, Path)) else run.folder
    path = Path("report.html") if output is None else Path(output)
    suffix = path.suffix.lower()
    if suffix not in (".html", ".htm", ".pdf"):
        raise SpecError(
            f"A report is not written as {path.name}.", "Choose a name that ends with .html or .pdf."
        )
    if path.exists() and not overwrite:
        raise SpecError(f"{path} already exists.", "Choose another file name, or add --overwrite.")
    browser = find_browser() if suffix == ".pdf" else ""
    page = page_of(folder, names=names, images=images, on_progress=on_progress)
    if browser:
        on_progress("printing")
        atomic_write(path.absolute(), printed(page, browser))
    else:
        atomic_write(path.absolute(), page.encode())
    return path


def page_of(folder: Path, *, names: bool, images: bool, on_progress: Callable[[str], object]) -> str:
    """Return the page about a run or a study; of a large one with fewer slices and frames.

    Raises
    ------
    DataError
        When the folder is neither, is damaged, or the page is too large even so.
    """
    from segexplorer.frontends.report.page import run_page, study_page
    from segexplorer.viewmodels.report import run_report
    from segexplorer.viewmodels.study_report import is_study, study_report

    if is_study(folder):
        return study_page(study_report(folder, named=names, on_progress=on_progress))
    for budget in (1.0, 0.5, 0.25, 0.1):
        page = run_page(
            run_report(folder, named=names, images=images, on_progress=on_progress, budget=budget)
        )
        if len(page) <= MOST_BYTES:
            return page
    raise DataError(
        f"The page would have {len(page) / 1e6:.0f} MB, more than {MOST_BYTES / 1e6:.0f}.",
        "Leave the images out with --no-images.",
    )


# ---- PDF


def find_browser() -> str:
    """Return the program that prints a page.

    Raises
    ------
    DataError
        When none is installed.
    """
    found = next((place for name in BROWSERS if (place := shutil.which(name))), None)
    if found is None:
        raise DataError(
            "A PDF of the page is printed by Chromium or Chrome, which is not installed.",
            "Write an .html file and print it in a browser, or install chromium.",
        )
    return found


def printed(page: str, browser: str) -> bytes:
    """Return a page as PDF; the browser is given no way to the network and a profile of its own.

    Raises
    ------
    DataError
        When the browser fails.
    """
    with tempfile.TemporaryDirectory(prefix="segexplorer-print-") as place:
        source, target = Path(place) / "report.html", Path(place) / "report.pdf"
        source.write_text(page, "utf-8")
        command = [
            browser,
            "--headless",
            *browser_options(Path(place)),
            "--no-pdf-header-footer",
            "--virtual-time-budget=10000",
            f"--print-to-pdf={target}",
            source.as_uri(),
        ]
        try:
            done = subprocess.run(command, capture_output=True, timeout=PRINTING_S, check=False)
        except subprocess.TimeoutExpired:
            raise DataError(
                f"{Path(browser).name} did not print the page within {PRINTING_S} s.",
                "Write an .html file and print it in a browser.",
            ) from None
        if not target.is_file():
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise DataError(
                f"{Path(browser).name} could not print the page{f': {said[-1][:200]}' if said else '.'}",
                "Write an .html file and print it in a browser.",
            )
        return target.read_bytes()


def browser_options(profile: Path) -> list[str]:
    """Return how a browser is started that only shows our page: nothing of the user's, nothing from the network."""
    options = [
        f"--user-data-dir={profile / 'profile'}",
        "--disable-gpu",
        "--disable-extensions",
        "--disable-background-networking",
        "--disable-component-update",
        "--no-first-run",
        "--host-resolver-rules=MAP * ~NOTFOUND",
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:  # as in containers: Chromium refuses its sandbox to root
        options.append("--no-sandbox")
    return options
