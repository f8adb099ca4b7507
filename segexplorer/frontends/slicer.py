"""3D Slicer: a case with its errors as a folder that it opens, and the program itself where it is installed.

The folder holds the image (`image.nrrd`), truth, prediction and errors as segmentations (`.seg.nrrd`, with the
names and colours of the window), and the list of errors as control points (`errors.mrk.json`). Positions are
written in LPS, which is the default of Slicer's schema of markups (version 1.0.3) and named in the file all the
same.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.atomic_files import atomic_write, translate_disk_errors
from segexplorer.core.colours import FALSE_NEGATIVE, FALSE_POSITIVE, rgba
from segexplorer.core.errors import DataError
from segexplorer.data.io import save_volume
from segexplorer.data.volume import Volume
from segexplorer.training.snapshots import WatchedSnapshot
from segexplorer.viewmodels.error_pieces import KINDS, ErrorPiece, error_pieces
from segexplorer.viewmodels.errors import IGNORED, Code, error_codes

PROGRAM_VARIABLE = "SEGEXPLORER_SLICER"
"""Environment variable that names the program, where it is not at a usual place."""
SCHEMA = (
    "https://raw.githubusercontent.com/slicer/slicer/master/Modules/Loadable/Markups/Resources/Schema/"
    "markups-schema-v1.0.3.json#"
)
MOST_ERRORS = 200
"""Control points that are written, the largest errors first."""
WEBSITE = "https://www.slicer.org"
ERROR_NAMES = {
    int(Code.FALSE_POSITIVE): "false positive",
    int(Code.FALSE_NEGATIVE): "false negative",
    int(Code.WRONG_CLASS): "wrong class",
}
"""Segments of the errors, by the names that have the colours of errors everywhere."""


def write_case(
    snapshot: WatchedSnapshot, image: Volume | None, folder: Path, *, overwrite: bool = False
) -> tuple[Path, ...]:
    """Write a case for 3D Slicer and return its files in the order in which they are opened; slow.

    Parameters
    ----------
    snapshot
        Prediction and truth.
    image
        What they are drawn on; None writes none.
    folder
        Made where it is missing.
    overwrite
        Whether the folder may hold files already.

    Raises
    ------
    DataError
        When the folder is not empty, or the disk is full.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not overwrite):
        raise DataError(f"{folder} exists already and is not empty.", "Name another folder, or --overwrite.")
    with translate_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    scheme = snapshot.scheme
    indices = range(1, scheme.indices(len(snapshot.class_names)))
    names = {index: scheme.name(index, snapshot.class_names) for index in indices}
    written: list[Path] = []
    if image is not None:
        written.append(save_volume(image, folder / "image.nrrd"))

    def segments(name: str, array: NDArray[np.uint8], of: dict[int, str]) -> None:
        volume = Volume.from_array(array, affine=snapshot.affine)
        written.append(save_volume(volume, folder / f"{name}.seg.nrrd", integer=True, names=of))

    if snapshot.truth is not None:
        segments(
            "truth",
            np.where(snapshot.truth == IGNORED, 0, snapshot.truth).astype(np.uint8),
            names,
        )
    segments("prediction", snapshot.prediction, names)
    if snapshot.truth is not None:
        codes = error_codes(snapshot.prediction, snapshot.truth, scheme=scheme)
        segments("errors", np.where(codes == Code.TRUE_POSITIVE, 0, codes).astype(np.uint8), ERROR_NAMES)
        pieces = error_pieces(
            snapshot.prediction,
            snapshot.truth,
            snapshot.class_names,
            snapshot.affine,
            limit=MOST_ERRORS,
            scheme=scheme,
        )
        path = folder / "errors.mrk.json"
        atomic_write(path, json.dumps(markups(pieces), indent=1).encode())
        written.append(path)
    return tuple(written)


def markups(pieces: Sequence[ErrorPiece]) -> dict[str, object]:
    """Return errors as a list of control points, as a `.mrk.json` file holds it.

    A point is at the deepest voxel of its error. What is extra is "selected", which Slicer draws in the list's
    second colour, so that the two kinds differ as in the window.
    """
    points = [
        {
            "id": str(number),
            "label": f"{number} {KINDS[piece.kind]}, {piece.class_name}, {piece.volume_ml:.2f} ml",
            "description": f"{piece.sentence}; {piece.depth_mm:.1f} mm deep; {piece.place.words}",
            "position": [
                float(-piece.world[0]) + 0.0,
                float(-piece.world[1]) + 0.0,
                float(piece.world[2]),
            ],
            "selected": piece.family == "extra",
            "locked": True,
            "visibility": True,
            "positionStatus": "defined",
        }
        for number, piece in enumerate(pieces, start=1)
    ]
    return {
        "@schema": SCHEMA,
        "markups": [
            {
                "type": "Fiducial",
                "name": "errors",
                "coordinateSystem": "LPS",
                "coordinateUnits": "mm",
                "locked": True,
                "controlPoints": points,
                "display": {
                    "visibility": True,
                    "color": list(rgba(FALSE_NEGATIVE)[:3]),
                    "selectedColor": list(rgba(FALSE_POSITIVE)[:3]),
                    "pointLabelsVisibility": False,
                    "textScale": 2.0,
                    "glyphType": "Sphere3D",
                    "useGlyphScale": False,
                    "glyphSize": 4.0,
                },
            }
        ],
    }


def find_slicer() -> Path | None:
    """Return the installed program, the newest where there are several; None where none is found.

    Raises
    ------
    DataError
        When the environment variable names a program that is not there.
    """
    if given := os.environ.get(PROGRAM_VARIABLE, ""):
        program = Path(given).expanduser()
        if not program.is_file():
            raise DataError(
                f"{PROGRAM_VARIABLE} names {program}, which is not there.", "Correct it, or unset it."
            )
        return program
    if found := shutil.which("Slicer"):
        return Path(found)
    programs = (path for pattern in _places() for path in _matches(pattern) if path.is_file())
    return max(programs, key=_version, default=None)


def _places() -> list[str]:
    """Return where installers and archives put the program, as patterns."""
    home = Path.home()
    if sys.platform == "darwin":
        folders = [Path("/Applications"), home / "Applications"]
        return [str(folder / "Slicer*.app/Contents/MacOS/Slicer") for folder in folders]
    if sys.platform == "win32":
        bases = [os.environ.get(name, "") for name in ("LOCALAPPDATA", "ProgramFiles", "ProgramData")]
        return [
            str(Path(base) / inner / "Slicer *" / "Slicer.exe")
            for base in bases
            if base
            for inner in ("", "slicer.org", "NA-MIC")
        ]
    return [str(folder / "Slicer*" / "Slicer") for folder in (home, Path("/opt"), Path("/usr/local"))]


def _matches(pattern: str) -> Iterable[Path]:
    root = Path(Path(pattern).anchor)
    try:
        return list(root.glob(str(Path(pattern).relative_to(root))))
    except OSError:  # a folder of another user
        return []


def _version(path: Path) -> tuple[int, ...]:
    found = re.search(r"Slicer[^0-9/\\]*(\d+(?:\.\d+)*)", str(path))
    return tuple(int(part) for part in found[1].split(".")) if found else ()


def open_in_slicer(
    program: Path,
    files: Sequence[Path],
    start: Callable[..., object] = subprocess.Popen,
) -> None:
    """Start the program with files; it goes on when this process ends.

    Raises
    ------
    DataError
        When it cannot be started.
    """
    # the variables of this environment would make Slicer load our Qt and our Python packages
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("QT_", "PYTHON", "VIRTUAL_"))
    }
    try:
        start(
            [str(program), *(str(path.absolute()) for path in files)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=kept,
            start_new_session=True,
        )
    except OSError as error:
        raise DataError(
            f"{program} cannot be started: {error.strerror or error}.", "Open the files by hand."
        ) from error
