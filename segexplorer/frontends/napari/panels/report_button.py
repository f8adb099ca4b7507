"""The button *Report…*: the run that is shown as one page, written in the background and opened in the browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qtpy.QtCore import QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QFileDialog, QMessageBox, QPushButton, QVBoxLayout, QWidget

from segexplorer.core.errors import SegExplorerError
from segexplorer.frontends.napari.panels import widgets
from segexplorer.frontends.napari.workers import LatestWork
from segexplorer.frontends.report import report
from segexplorer.frontends.report.writing import HEAD_WARNING

TITLE = "Report…"


class ReportButton(QWidget):  # type: ignore[misc, unused-ignore]
    """Writes a report of a run.

    Parameters
    ----------
    run_folder
        Returns the folder of the run that is shown, whether it trains or not; None where there is none.

    Attributes
    ----------
    button, message
        What is clicked, and what became of it.
    show_page
        Called with the page that was written; by default the system's browser opens it.
    """

    def __init__(self, run_folder: Callable[[], Path | None]) -> None:
        super().__init__()
        self._run_folder = run_folder
        self.show_page: Callable[[Path], object] = _open
        self.button = QPushButton(TITLE)
        self.button.setToolTip(
            "Plan, curves, cases with errors and maps, findings, scores and methods as one page, which needs "
            "nothing else; also of a run that still trains"
        )
        self.button.clicked.connect(lambda _=False: self._ask())
        self.message = widgets.guidance()
        self._work = LatestWork(self._on_written, self._on_refused)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.button)
        layout.addWidget(self.message)

    @property
    def busy(self) -> bool:
        """Whether a page is being written."""
        return self._work.busy

    def _ask(self) -> None:
        run = self._run_folder()
        if run is None:
            widgets.say(self.message, "Start a run, or open one: there is nothing to report yet.")
            return
        kinds = "Web page (*.html);;PDF (*.pdf)"
        chosen, _ = QFileDialog.getSaveFileName(self, "Where to write the report", f"{run.name}.html", kinds)
        if not chosen:
            return
        asked = QMessageBox(QMessageBox.Icon.Question, "Report", "May the page name cases and folders?")
        asked.setInformativeText(f"Otherwise cases are numbered. {HEAD_WARNING}")
        yes, no, cancel = (
            QMessageBox.StandardButton.Yes,
            QMessageBox.StandardButton.No,
            QMessageBox.StandardButton.Cancel,
        )
        asked.setStandardButtons(yes | no | cancel)
        asked.setDefaultButton(no)
        said = asked.exec()
        if said != cancel:
            self.write(run, Path(chosen), names=said == yes)

    def write(self, run: Path, path: Path, *, names: bool) -> None:
        """Write the report of a run in the background; a file of that name is replaced."""
        if path.suffix.lower() not in (".html", ".htm", ".pdf"):
            path = path.with_name(f"{path.name}.html")
        widgets.say(self.message, "Writing the report…")
        self.button.setEnabled(False)
        self._work.send(lambda: report(run, path, names=names, overwrite=True))

    def _on_written(self, path: Path) -> None:
        self.button.setEnabled(True)
        widgets.say(self.message, f"{path} was written, {path.stat().st_size / 1e6:.1f} MB.")
        self.show_page(path)

    def _on_refused(self, error: SegExplorerError) -> None:
        self.button.setEnabled(True)
        widgets.say(self.message, str(error), widgets.RED)

    def closing(self) -> None:
        """Let nothing come back any more."""
        self._work.close()


def _open(path: Path) -> None:
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(path.absolute())))
