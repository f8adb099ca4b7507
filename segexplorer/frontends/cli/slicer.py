"""`segexplorer slicer`: a case of a run, or of results, in 3D Slicer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, get_args

from segexplorer.core.errors import DataError, SpecError, did_you_mean
from segexplorer.core.events import Role
from segexplorer.frontends.cli.open import OpenOptions, opened
from segexplorer.frontends.cli.settings import parse_classes
from segexplorer.frontends.cli.terminal import print_json, remark
from segexplorer.frontends.slicer import WEBSITE, find_slicer, open_in_slicer, write_case
from segexplorer.training.run_files import EXPERIMENT

if TYPE_CHECKING:
    from segexplorer.data.case import CaseRef
    from segexplorer.training.snapshots import WatchedSnapshot

Found = tuple["WatchedSnapshot", "CaseRef | None"]


def run_slicer(
    place: Path,
    case: str,
    output: Path | None,
    asked: OpenOptions,
    *,
    step: int | None,
    write_only: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write a case as a folder for 3D Slicer, and open it there if Slicer is installed.

    Parameters
    ----------
    place
        Run folder, or a folder of results.
    case
        Its id; of a run "" takes the first watched case.
    output
        Folder to write; None: slicer-CASE.
    asked
        How results are opened.
    step
        Of a run: the prediction nearest to this step; None takes the newest.

    Raises
    ------
    DataError
        When there is no such case, it cannot be read, or the folder is not empty.
    """
    program = None if write_only else find_slicer()
    if (place / EXPERIMENT).is_file():
        snapshot, ref = _of_run(place, case, step)
    else:
        if step is not None:
            raise SpecError("Predictions of other programs have no step.", "Leave out --step.")
        snapshot, ref = _of_results(place, case, asked)
    folder = output if output is not None else Path(f"slicer-{Path(snapshot.case).name}")
    image = None if ref is None else ref.open().images[0]
    files = write_case(snapshot, image, folder, overwrite=overwrite)
    if image is None:
        remark(f"No image of {snapshot.case} was found (--images), so the labels are written alone.")
    if program is not None:
        open_in_slicer(program, files)
        remark(f"Opened in {program}.")
    elif not write_only:
        remark(f"3D Slicer was not found; install it from {WEBSITE}, and drop the folder on its window.")
    if as_json:
        print_json(
            {
                "folder": str(folder),
                "files": [path.name for path in files],
                "slicer": None if program is None else str(program),
            }
        )
    else:
        print(folder)


def _of_run(place: Path, case: str, step: int | None) -> Found:
    from segexplorer.training.history import open_run
    from segexplorer.viewmodels.watched_case import RunHistoryLoader

    record = open_run(place)
    frames = [frame for role in ("validation", *get_args(Role)) for frame in record.watched(role)]
    known = list(dict.fromkeys(frame.facts.case for frame in frames))
    if not known:
        raise DataError(f"{place.name} has no recorded prediction.", "The first comes with a validation.")
    if case and case not in known:
        raise DataError(f"{place.name} watches no case {case}.", did_you_mean(case, known))
    own = [frame for frame in frames if frame.facts.case == (case or known[0])]
    newest = max(own, key=lambda frame: frame.step)
    frame = newest if step is None else min(own, key=lambda frame: abs(frame.step - step))
    loader = RunHistoryLoader(record.experiment)
    return loader.snapshot(frame), loader.ref(frame.facts.case)


def _of_results(place: Path, case: str, asked: OpenOptions) -> Found:
    from segexplorer.training.result_cases import image_of_result, open_result

    listings = [spec.listing() for spec in opened(place, asked)]
    known = list(dict.fromkeys(found.id for listing in listings for found in listing.cases))
    if not case:
        raise SpecError(
            f"{place} holds {len(known)} cases; which one?",
            "Name it with --case; segexplorer open lists them, the worst first.",
        )
    listing = next((one for one in listings if any(found.id == case for found in one.cases)), None)
    if listing is None:
        raise DataError(f"{place} has no case {case}.", did_you_mean(case, known))
    result = open_result(listing, case, classes=parse_classes(asked.classes), resample=asked.resample)
    for note in result.notes:
        remark(note)
    return result.snapshot, image_of_result(listing, case)
