"""Two small parts of the Run tab: what happened when, and why a run failed."""

from __future__ import annotations

from collections.abc import Iterable

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QPlainTextEdit, QPushButton, QVBoxLayout, QWidget

from segexplorer.faces.napari.panels import parts
from segexplorer.viewmodels.status import LogLine


class RunLog(QPlainTextEdit):  # type: ignore[misc, unused-ignore]
    """Lines of the log, the newest at the end; it can be selected and copied."""

    def __init__(self) -> None:
        super().__init__()
        self.setReadOnly(True)
        self.setMinimumHeight(110)
        self.setPlaceholderText("Validations, checkpoints and applied changes are listed here.")
        self._last: LogLine | None = None

    def clear(self) -> None:
        """Forget the lines."""
        super().clear()
        self._last = None

    def show_lines(self, lines: Iterable[LogLine]) -> None:
        """Add the lines that are new."""
        known = list(lines)
        if not known or known[-1] is self._last:
            return
        start = next((i + 1 for i, line in enumerate(known) if line is self._last), 0)
        for line in known[start:]:
            self.appendPlainText(line.sentence)
        self._last = known[-1]


class FailureBox(QWidget):  # type: ignore[misc, unused-ignore]
    """Why a run failed and what to do; the traceback unfolds, for a report."""

    def __init__(self) -> None:
        super().__init__()
        self._text = parts.guidance("", parts.RED)
        self._more = QPushButton("Show the cause")
        self._more.setCheckable(True)
        self._cause = QPlainTextEdit()
        self._cause.setReadOnly(True)
        self._cause.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self._cause.setMinimumHeight(140)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._text)
        layout.addWidget(self._more, 0, Qt.AlignmentFlag.AlignLeft)
        layout.addWidget(self._cause)
        self._more.toggled.connect(self._unfold)
        self.clear()

    @property
    def text(self) -> str:
        """The sentence that is shown, "" without a failure."""
        return str(self._text.text())

    def show_failure(self, text: str, cause: str) -> None:
        """Show a failure with its traceback folded."""
        parts.say(self._text, text, parts.RED)
        self._cause.setPlainText(cause)
        self._more.setVisible(bool(cause))
        self._more.setChecked(False)
        self.setVisible(True)

    def clear(self) -> None:
        """Show nothing."""
        self._more.setChecked(False)
        self._cause.setVisible(False)
        parts.say(self._text, "")
        self.setVisible(False)

    def _unfold(self, shown: bool) -> None:
        self._cause.setVisible(shown)
        self._more.setText("Hide the cause" if shown else "Show the cause")
