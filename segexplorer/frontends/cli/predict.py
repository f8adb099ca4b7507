"""`segexplorer predict`: one output per image, nothing that exists replaced unasked, progress window by window."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress
from rich.table import Column

import segexplorer
from segexplorer.core import events
from segexplorer.core.errors import DataError, ExitCode, SpecError
from segexplorer.data.io import why_missing
from segexplorer.frontends.cli.prediction_inputs import cases_to_predict, split_arguments
from segexplorer.frontends.cli.streams import ReaderGoneError
from segexplorer.frontends.cli.terminal import (
    EtaEstimator,
    PlainProgress,
    TimeLeft,
    print_json,
    remark,
    remarks,
    whole,
)

if TYPE_CHECKING:
    from segexplorer.data.case import CaseRef
    from segexplorer.data.volume import Volume
    from segexplorer.training.ensemble import Ensemble, Prediction

PATTERN = "{case}_prediction.nii.gz"
LOOKS_LIKE_A_SUFFIX = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,4}")
"""What a folder's name hardly ends with, unlike `predictions_0.5`."""


def run_predict(
    paths: Sequence[Path],
    output: Path,
    checkpoint: Literal["best", "last"],
    *,
    together: bool = False,
    overwrite: bool = False,
    skip: bool = False,
    select: str | None = None,
    name: str = PATTERN,
    probabilities: bool = False,
    mirror: bool = False,
    device: str = "",
    as_json: bool = False,
) -> int:
    """Predict every case and print each output's path on stdout.

    Parameters
    ----------
    paths
        Run folders, then images, folders or lists.
    together
        Whether the images are the channels of one case.
    overwrite, skip
        Whether outputs that exist are replaced, or their cases left out.
    name
        Of an output in a folder, with {case}.
    probabilities
        Whether the probabilities of all classes are written beside each output.
    mirror
        Whether mirrored windows are averaged, whatever the experiment says.
    device
        Where to compute; empty: as is best here.

    Returns
    -------
    0, or 130 when Ctrl-C ended it; what was written by then is whole.
    """
    runs, images = split_arguments(paths)
    for path in images:
        if not path.exists():
            raise DataError(*why_missing(path, str(path)))
    from segexplorer.training.ensemble import Ensemble
    from segexplorer.training.predict import load_predictor

    ensemble = Ensemble([load_predictor(run, checkpoint, device=device or "auto") for run in runs])
    channels = len(ensemble.predictors[0].fitted.intensities)
    refs = cases_to_predict(images, channels, together=together, select=select)
    targets = output_paths(refs, output, name=name, overwrite=overwrite or skip)
    if skip:
        left = [(ref, target) for ref, target in zip(refs, targets, strict=True) if not target.exists()]
        if len(left) < len(refs):
            remark(
                f"{len(refs) - len(left)} of {len(refs)} predictions exist already and are left as they are."
            )
        refs, targets = [ref for ref, _ in left], [target for _, target in left]
    volumes = [list(ref.open().images) for ref in refs]
    done: list[dict[str, Any]] = []
    try:
        for predictor in ensemble.predictors:
            predictor.mirror = predictor.mirror or mirror
        weights = [
            {"run": run.name, "checkpoint": predictor.pointer, "step": predictor.checkpoint.step}
            for run, predictor in zip(runs, ensemble.predictors, strict=True)
        ]
        used = [f"{used['checkpoint']} of {used['run']} (step {used['step']})" for used in weights]
        remark(f"Weights: {', '.join(used)}")
        counts = [ensemble.windows(case) for case in volumes]
        with WindowDisplay(remarks(), counts, paths=not as_json) as display, _folders_for(targets):
            for ref, target in zip(refs, targets, strict=True):
                began = time.monotonic()
                written = _predict_case(
                    ensemble, volumes.pop(0), target, display, probabilities=probabilities
                )
                seconds = round(time.monotonic() - began, 3)
                done.append({"case": ref.id, **written, "weights": weights, "seconds": seconds})
    except KeyboardInterrupt:
        shown = f"Stopped; {len(done)} of {len(targets)} predictions are written, none of them in part."
        remark(shown)
        if as_json:
            print_json(done)
        return ExitCode.INTERRUPTED
    if as_json:
        print_json(done)
    return 0


def _predict_case(
    ensemble: Ensemble,
    images: Sequence[Volume],
    target: Path,
    display: WindowDisplay,
    *,
    probabilities: bool,
) -> dict[str, Any]:
    """Predict and write a case; return what was written, and what is unlike training."""
    source = ensemble.steps(images, probabilities=probabilities)
    while True:
        try:
            at = next(source)
        except StopIteration as end:
            found = end.value
            break
        display.show(at.activity, at.done)
    display.show("writing", at.done)
    concerns = found.label.provenance.notes[len(images[0].provenance.notes) :]
    for concern in concerns:
        display.say(f"{target.name}: {concern}")
    written: dict[str, Any] = {"output": str(target), "concerns": list(concerns)}
    if found.probabilities is not None:
        # before the label, so that a case whose label is there is whole
        written["probabilities"] = str(_write_probabilities(found, ensemble.classes.names, target))
    segexplorer.save_volume(found.label, target, integer=True)
    display.case_done(target)
    return written


def _write_probabilities(found: Prediction, names: Sequence[str], target: Path) -> Path:
    """Write (C, i, j, k) probabilities in the image's own index order, packed, in half precision."""
    from segexplorer.core.atomic_files import atomic_write
    from segexplorer.scripting import stem

    assert found.probabilities is not None
    path = target.with_name(f"{stem(target)}_probabilities.npz")
    arrays: dict[str, Any] = {
        "probabilities": found.probabilities.astype(np.float16),
        "classes": np.array(["background", *names]),
        "affine": found.label.affine,
    }
    atomic_write(path, lambda file: np.savez_compressed(file, **arrays))
    return path


class WindowDisplay:
    """One bar over the windows of all cases; without a terminal, a line per case.

    Use as a context.

    Parameters
    ----------
    windows
        Of each case, in order.
    paths
        Whether the path of each output is printed on stdout.
    """

    def __init__(self, console: Console, windows: Sequence[int], *, paths: bool = True) -> None:
        self._console, self._windows, self._paths = console, windows, paths
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
        self._lines = PlainProgress(console, time.monotonic())

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
        if not self._console.is_terminal:
            case, of = self._pace.case, len(self._windows)
            what = f"case {case + 1} of {of}, {activity}"
            at = events.Progress(activity=what, done=done, total=self._windows[case])
            self._lines.show(at, time.monotonic())
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
            if self._paths:
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


def output_paths(refs: Sequence[CaseRef], output: Path, *, name: str, overwrite: bool) -> list[Path]:
    """Return where each prediction goes: the file named, or a file for each case in the folder named.

    Parameters
    ----------
    name
        Of a file in the folder, with {case}.

    Raises
    ------
    SpecError
        Before anything is computed: when an output would replace a file, several images share one, or the name
        is that of a file that cannot be written.
    """
    from segexplorer.data.formats.registry import writable_suffixes

    if "{case}" not in name or "/" in name or not name.lower().endswith(writable_suffixes()):
        raise SpecError(
            f"--name {name} is no name of a file for each case.",
            "Write it like '{case}.nii.gz'; it ends with one of " + ", ".join(writable_suffixes()) + ".",
        )
    if output.name.lower().endswith(writable_suffixes()):
        if len(refs) > 1:
            raise SpecError(f"{output} is one file for {len(refs)} images.", "Name a folder with -o.")
        targets = [output]
    elif output.is_file() or (not output.is_dir() and LOOKS_LIKE_A_SUFFIX.fullmatch(output.suffix)):
        raise SpecError(
            f"-o {output} is neither a folder nor a file that a prediction can be written to.",
            f"Files end with one of {', '.join(writable_suffixes())}; a folder of such a name must be made first.",
        )
    else:
        targets = [output / name.replace("{case}", ref.id) for ref in refs]
    for ref, target in zip(refs, targets, strict=True):
        sources = [source for source in ref.images if isinstance(source, Path)]
        if target.exists() and any(target.samefile(source) for source in sources if source.exists()):
            raise SpecError(f"{target} is the image itself.", "Name another output with -o.")
        if target.exists() and not overwrite:
            raise SpecError(
                f"{target} exists already.",
                "Name another output with -o, add --overwrite, or --skip to leave such cases out.",
            )
    return targets


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
