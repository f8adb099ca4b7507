"""`segexplorer predict`: one output per image, nothing that exists replaced unasked, progress window by window."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from rich.console import Console
from rich.progress import BarColumn, Progress
from rich.table import Column

import segexplorer
from segexplorer.core.errors import DataError, ExitCode, SpecError
from segexplorer.frontends.cli.series import selected
from segexplorer.frontends.cli.streams import ReaderGoneError
from segexplorer.frontends.cli.terminal import EtaEstimator, TimeLeft, remarks, whole

if TYPE_CHECKING:
    from segexplorer.data.volume import Volume
    from segexplorer.training.predict import Predictor

LOOKS_LIKE_A_SUFFIX = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,4}")
"""What a folder's name hardly ends with, unlike `predictions_0.5`."""


def run_predict(
    run: Path,
    images: Sequence[Path],
    output: Path,
    checkpoint: Literal["best", "last"],
    *,
    together: bool,
    overwrite: bool,
    select: str | None = None,
) -> int:
    """Predict every case and print each output's path on stdout; `together`: the images are one case.

    Returns
    -------
    0, or 130 when Ctrl-C ended it; what was written by then is whole.
    """
    _check_run(run)
    cases = [list(images)] if together else [[image] for image in images]
    volumes = [[_opened(image, select) for image in case] for case in cases]
    targets = output_paths([case[0] for case in cases], output, overwrite=overwrite)
    from segexplorer.training.predict import load_predictor

    written = 0
    try:
        predictor = load_predictor(run, checkpoint)
        counts = [predictor.windows(case) for case in volumes]
        with WindowDisplay(remarks(), counts) as display, _folders_for(targets):
            for target in targets:
                _predict_case(predictor, volumes.pop(0), target, display)  # let go of once it is done
                written += 1
    except KeyboardInterrupt:
        shown = f"Stopped; {written} of {len(targets)} predictions are written, none of them in part."
        remarks().print(shown, soft_wrap=True)
        return ExitCode.INTERRUPTED
    return 0


def _predict_case(
    predictor: Predictor, images: Sequence[Volume], target: Path, display: WindowDisplay
) -> None:
    source = predictor.steps(images)
    while True:
        try:
            at = next(source)
        except StopIteration as end:
            volume = end.value
            break
        display.show(at.activity, at.done)
    display.show("writing", at.done)
    for concern in volume.provenance.notes[len(images[0].provenance.notes) :]:
        display.say(f"{target.name}: {concern}")
    segexplorer.save_volume(volume, target, integer=True)
    display.case_done(target)


class WindowDisplay:
    """One bar over the windows of all cases; without a terminal, a line per case.

    Use as a context.

    Parameters
    ----------
    windows
        Of each case, in order.
    """

    def __init__(self, console: Console, windows: Sequence[int]) -> None:
        self._console, self._windows = console, windows
        self._pace = EtaEstimator(windows, time.monotonic())
        self._bar = Progress(
            whole("{task.description}"),
            BarColumn(bar_width=None),
            whole("{task.fields[numbers]}"),
            TimeLeft(table_column=Column(no_wrap=True)),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("reading", total=sum(windows), numbers="", ends=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._bar.stop()

    def refresh(self) -> None:
        """Draw the bar now."""
        self._bar.refresh()

    def show(self, activity: str, done: int) -> None:
        """Tell what the present case is at, and how many of its windows are done."""
        self._pace.update(done, time.monotonic())
        self._draw(activity, done)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._console.print(text, markup=False, soft_wrap=True)

    def case_done(self, target: Path) -> None:
        """Tell that the present case is written, and print where on stdout, above the bar."""
        self._pace.tell_case(time.monotonic())
        done, of = self._pace.case, len(self._windows)
        self._bar.stop()  # the bar and the path may share a terminal, and stdout may be a pipe
        with contextlib.suppress(ReaderGoneError):  # `| head`: the other cases are predicted all the same
            print(target, flush=True)
        if not self._console.is_terminal:
            count = self._windows[done - 1]
            self._console.print(f"case {done} of {of}: {count} window{'s' if count > 1 else ''}")
        elif done < of:
            self._bar.start()

    def _draw(self, activity: str, done: int) -> None:
        several, left = len(self._windows) > 1, self._pace.left()
        numbers = f"window {done}/{self._windows[self._pace.case]}"
        numbers += f", all {self._pace.done}/{sum(self._windows)}" if several else ""
        self._bar.update(
            self._task,
            description=f"case {self._pace.case + 1}/{len(self._windows)}, {activity}"
            if several
            else activity,
            completed=self._pace.done,
            numbers=numbers,
            ends=None if left is None else time.monotonic() + left,
        )


def output_paths(images: Sequence[Path], output: Path, *, overwrite: bool) -> list[Path]:
    """Return where each prediction goes: the file named, or `<image>_prediction.nii.gz` in the folder named.

    Raises
    ------
    SpecError
        Before anything is computed: when an output would replace a file, several images share one, or the name
        is that of a file that cannot be written.
    """
    from segexplorer.data.formats.registry import writable_suffixes
    from segexplorer.scripting import stem

    if output.name.lower().endswith(writable_suffixes()):
        if len(images) > 1:
            raise SpecError(f"{output} is one file for {len(images)} images.", "Name a folder with -o.")
        targets = [output]
    elif output.is_file() or (not output.is_dir() and LOOKS_LIKE_A_SUFFIX.fullmatch(output.suffix)):
        raise SpecError(
            f"-o {output} is neither a folder nor a file that a prediction can be written to.",
            f"Files end with one of {', '.join(writable_suffixes())}; a folder of such a name must be made first.",
        )
    else:
        targets = [output / f"{stem(image)}_prediction.nii.gz" for image in images]
    for image, target in zip(images, targets, strict=True):
        if target.exists() and target.samefile(image):
            raise SpecError(f"{target} is the image itself.", "Name another output with -o.")
        if target.exists() and not overwrite:
            raise SpecError(f"{target} exists already.", "Name another output with -o, or add --overwrite.")
    if len(set(targets)) < len(targets):
        raise SpecError("Several images have the same file name.", "Predict them one by one.")
    return targets


def _check_run(run: Path) -> None:
    """Refuse what is not a run folder before any image is opened, for the two are easily exchanged."""
    from segexplorer.training.run_files import EXPERIMENT

    if not (run / EXPERIMENT).is_file():
        raise DataError(
            f"{run} is not a run folder." if run.exists() else f"There is no run folder {run}.",
            "The run comes first: segexplorer predict RUN IMAGE -o OUT",
        )


def _opened(image: Path, select: str | None) -> Volume:
    from segexplorer.data.io import open_volume

    chosen = selected(image, select)
    return open_volume(chosen) if isinstance(chosen, Path) else chosen


@contextmanager
def _folders_for(targets: Sequence[Path]) -> Iterator[None]:
    """Make the outputs' folders before anything is computed; those that stay empty are removed again.

    Raises
    ------
    OSError
        When one cannot be made.
    """
    made: list[Path] = []
    try:
        for folder in dict.fromkeys(target.parent for target in targets):
            missing = [p for p in (folder, *folder.parents) if not p.exists()]
            made += missing
            folder.mkdir(parents=True, exist_ok=True)
            _check_writable(folder)
        yield
    finally:
        for folder in made:  # the innermost first
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def _check_writable(folder: Path) -> None:
    if not os.access(folder, os.W_OK):
        raise SpecError(f"The folder {folder} cannot be written.", "Name another output with -o.")
