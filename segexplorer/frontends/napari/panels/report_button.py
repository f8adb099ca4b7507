"""The button *Report…*: the run that is shown as one page, written in the background and opened in the browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from qtpy.QtCore import QUrl
from qtpy.QtGui import QDesktopServices
from qtpy.QtWidgets import QFileDialog, QMessageBox

from segexplorer.frontends.napari.panels import widgets
from segexplorer.frontends.napari.panels.task_button import TaskButton
from segexplorer.frontends.report import report
from segexplorer.frontends.report.writing import HEAD_WARNING

TITLE = "Report…"


class ReportButton(TaskButton):
    """Writes a report of a run.

    Parameters
    ----------
    run_folder
        Returns the folder of the run that is shown, whether it trains or not; None where there is none.

    Attributes
    ----------
    show_page
        Called with the page that was written; by default the system's browser opens it.
    """

    def __init__(self, run_folder: Callable[[], Path | None]) -> None:
        super().__init__(
            TITLE,
            "Plan, curves, cases with errors and maps, findings, scores and methods as one page, which needs "
            "nothing else; also of a run that still trains",
        )
        self._run_folder = run_folder
        self.show_page: Callable[[Path], object] = _open

    def ask(self) -> None:
        """Ask where to write the page, and whether it may name cases."""
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
        self.begin("Writing the report…", lambda: report(run, path, names=names, overwrite=True))

    def finished(self, result: Path) -> str:
        """Open the page that was written."""
        self.show_page(result)
        return f"{result} was written, {result.stat().st_size / 1e6:.1f} MB."


def _open(path: Path) -> None:
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(path.absolute())))
