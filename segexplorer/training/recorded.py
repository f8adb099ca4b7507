"""What a run folder says of itself when another program trained it (`training.recorder`)."""

from __future__ import annotations

from pathlib import Path

from segexplorer.core.errors import SpecError
from segexplorer.training.run_files import Name, RunFile, read_run_file

RECORDED = "recorded.json"
RECORDED_CASES = "cases"
"""Folder of the run in which images and labels are kept that have no file of their own."""


class RecordedRun(RunFile):
    """`recorded.json`: who trained, which network, which loss, in a few words."""

    trainer: Name = ""
    network: Name = ""
    loss: Name = ""


def recorded_run(folder: Path) -> RecordedRun | None:
    """Return what another program said of a run that it recorded; None for runs of our own.

    Raises
    ------
    DataError
        When the file is damaged.
    """
    return read_run_file(folder, RECORDED, RecordedRun)


def require_own(folder: Path) -> None:
    """Refuse to train a recorded run further.

    Raises
    ------
    SpecError
        Naming the program that trained it.
    """
    found = recorded_run(folder)
    if found is not None:
        raise SpecError(
            f"{folder.name} was trained by {found.trainer or 'another program'} and only recorded here, "
            "so it cannot be trained further.",
            "Go on with the program that trained it.",
        )
