"""The button *3D Slicer…*: writes the displayed case as a folder, and opens it where Slicer is installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari.utils.notifications import show_info
from qtpy.QtWidgets import QFileDialog, QPushButton

from segexplorer.core.errors import SegExplorerError
from segexplorer.data.case import CaseRef
from segexplorer.frontends.napari.display import Display
from segexplorer.frontends.napari.workers import LatestWork
from segexplorer.frontends.slicer import WEBSITE, find_slicer, open_in_slicer, write_case
from segexplorer.training.snapshots import WatchedSnapshot
from segexplorer.viewmodels.screen import Screen

TITLE = "3D Slicer…"


class SlicerButton(QPushButton):  # type: ignore[misc, unused-ignore]
    """Hands the displayed case, of a run or of results, to 3D Slicer.

    Parameters
    ----------
    display
        What the window displays.

    Attributes
    ----------
    tell
        Called with a sentence about what was written; by default napari shows it.
    """

    def __init__(self, display: Display) -> None:
        super().__init__(TITLE)
        self.display = display
        self.tell: Callable[[str], object] = show_info
        self._work = LatestWork(self._on_written, self._on_refused)
        self.clicked.connect(lambda _=False: self._ask())
        display.changed.connect(self._on_screen)
        self._on_screen(display.screen, frozenset({"seen"}))

    @property
    def busy(self) -> bool:
        """Whether files are being written."""
        return self._work.busy

    def _on_screen(self, screen: Screen, parts: frozenset[str]) -> None:
        if "seen" in parts:
            whole = screen.seen is not None and screen.patch is None
            self.setEnabled(whole)
            self.setToolTip(
                "Image, truth, prediction, errors and the list of errors, as a folder that 3D Slicer opens"
                if whole
                else "No whole case is shown"
            )

    def _ask(self) -> None:
        folder = QFileDialog.getExistingDirectory(self, "Where to write the files for 3D Slicer")
        if folder:
            self.write(Path(folder))

    def write(self, place: Path) -> None:
        """Write the displayed case into a folder of its own below `place`, in the background, and open it."""
        seen, find = self.display.seen, self.display.finder
        if seen is None:
            return
        snapshot = seen.snapshot

        def work() -> tuple[Path, Path | None]:
            return _written(snapshot, find, place)

        self.setEnabled(False)
        self.setText("Writing…")
        self._work.send(work)

    def _on_written(self, answer: tuple[Path, Path | None]) -> None:
        folder, program = answer
        self._again()
        if program is not None:
            self.tell(f"{folder} was opened in 3D Slicer.")
        else:
            self.tell(
                f"3D Slicer was not found. {folder} was written: drop it on Slicer's window ({WEBSITE})."
            )

    def _on_refused(self, error: SegExplorerError) -> None:
        self._again()
        self.tell(str(error))

    def _again(self) -> None:
        self.setText(TITLE)
        self.setEnabled(self.display.seen is not None and self.display.screen.patch is None)

    def closing(self) -> None:
        """Draw nothing any more."""
        self._work.close()
        self.display.changed.disconnect(self._on_screen)


def _written(
    snapshot: WatchedSnapshot, find: Callable[[str], CaseRef | None] | None, place: Path
) -> tuple[Path, Path | None]:
    program = find_slicer()
    base = f"slicer-{Path(snapshot.case).name}"
    names = (base, *(f"{base}-{number}" for number in range(2, 1000)))
    folder = next(place / name for name in names if not (place / name).exists())
    ref: Any = None if find is None else find(snapshot.case)
    files = write_case(snapshot, None if ref is None else ref.open().images[0], folder)
    if program is not None:
        open_in_slicer(program, files)
    return folder, program
