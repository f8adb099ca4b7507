"""Which kind of results a folder holds, and how many sets: found out from names, the most particular kind first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segexplorer.core.errors import DataError
from segexplorer.data.results.base import ResultRecognition, ResultsSpec, registry


def recognise(folder: Path) -> list[ResultRecognition]:
    """Return the result sets in a folder; a folder of nnU-Net trainings has several.

    Raises
    ------
    DataError
        When there is no such folder, or it is laid out as no kind expects.
    """
    if not folder.exists():
        raise DataError(f"There is no folder {folder}.", "Check the path of the results.")
    if not folder.is_dir():
        raise DataError(
            f"{folder} is a file.", "Name the folder of the predictions, or use segexplorer evaluate."
        )
    for kind in sorted(registry.specs().values(), key=lambda kind: kind.generality):
        if found := kind.recognise(folder):
            return found
    raise DataError(
        f"{folder} does not have the layout of known results.",
        "Say where the predictions are: --pattern '{case}/mask.nii.gz', and where their labels are: --labels DIR.",
    )


def open_results(
    folder: str | Path,
    *,
    kind: str = "",
    labels: str = "",
    images: str = "",
    pattern: str = "",
    **settings: Any,
) -> list[ResultsSpec]:
    """Return the result sets of a folder.

    Parameters
    ----------
    kind
        Of results; by default it is recognised.
    labels, images
        Folders, or patterns with {case}; by default they are looked for.
    pattern
        Where predictions are below the folder, with {case}; makes it a folder of predictions.
    settings
        Others of the kind.

    Raises
    ------
    DataError
        When there is no such folder, or its layout is not known.
    """
    place = Path(folder).expanduser()
    given: Mapping[str, Any] = {"labels": str(labels), "images": str(images), **settings}
    if pattern:
        kind, given = kind or "prediction_folder", {**given, "pattern": pattern}
    found = [ResultRecognition(kind, place, "")] if kind else recognise(place)
    return [
        registry.spec(one.kind).of({"root": str(one.folder), **one.settings, **given}, f"results {one.kind}")
        for one in found
    ]
