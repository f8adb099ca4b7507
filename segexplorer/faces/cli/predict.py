"""`segexplorer predict`: one output per image, nothing that exists replaced unasked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rich.progress import track

import segexplorer
from segexplorer.core.errors import SpecError
from segexplorer.faces.cli.output import remarks
from segexplorer.faces.cli.series import selected


def run_predict(
    run: Path,
    images: Sequence[Path],
    output: Path,
    checkpoint: Literal["best", "last"],
    *,
    together: bool,
    overwrite: bool,
    select: str | None = None,
) -> None:
    """Predict every case and print each output's path on stdout; `together`: the images are one case."""
    cases = [list(images)] if together else [[image] for image in images]
    targets = output_paths([case[0] for case in cases], output, overwrite=overwrite)
    out = remarks()
    jobs = list(zip(cases, targets, strict=True))
    for case, target in track(jobs, "predicting", console=out, transient=True, disable=not out.is_terminal):
        volume = segexplorer.predict(run, [selected(image, select) for image in case], checkpoint=checkpoint)
        target.parent.mkdir(parents=True, exist_ok=True)
        segexplorer.save_volume(volume, target, integer=True)
        print(target)


def output_paths(images: Sequence[Path], output: Path, *, overwrite: bool) -> list[Path]:
    """Return where each prediction goes: the file named, or `<image>_prediction.nii.gz` in the folder named.

    Raises
    ------
    SpecError
        Before anything is computed: when an output would replace a file, or several images share one.
    """
    from segexplorer.data.readers import writable_suffixes
    from segexplorer.scripting import stem

    if output.name.lower().endswith(writable_suffixes()):
        if len(images) > 1:
            raise SpecError(f"{output} is one file for {len(images)} images.", "Name a folder with -o.")
        targets = [output]
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
