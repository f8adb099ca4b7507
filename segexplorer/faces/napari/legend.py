"""The legend of error colours (Okabe and Ito's), the same everywhere in the window."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QGridLayout, QLabel, QWidget

from segexplorer.viewmodels import colours, overlay


class Legend(QWidget):  # type: ignore[misc, unused-ignore]
    """Swatches and names of the errors layer and of the ends of the balance."""

    def __init__(self) -> None:
        super().__init__()
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(6)
        grid.setVerticalSpacing(2)
        for number, entry in enumerate(overlay.LEGEND):
            row, column = divmod(number, 2)
            grid.addWidget(_swatch(entry.colour, entry.outline), row, 2 * column)
            grid.addWidget(QLabel(entry.name), row, 2 * column + 1)
        balance = QLabel()
        balance.setFixedHeight(10)
        balance.setStyleSheet(
            "background: qlineargradient(x1:0, x2:1, "
            f"stop:0 {colours.FALSE_NEGATIVE}, stop:0.5 {colours.NEUTRAL}, stop:1 {colours.FALSE_POSITIVE});"
        )
        grid.addWidget(balance, 2, 0, 1, 4)
        # the same two ends whatever is shown: balance -1 to 1, beta high to low, alpha low to high
        grid.addWidget(QLabel("missed prevails"), 3, 0, 1, 2)
        extra = QLabel("extra prevails")
        extra.setAlignment(Qt.AlignmentFlag.AlignRight)
        grid.addWidget(extra, 3, 2, 1, 2)
        grid.setColumnStretch(1, 1)
        grid.setColumnStretch(3, 1)


def _swatch(colour: str, outline: bool) -> QLabel:
    swatch = QLabel()
    swatch.setFixedSize(14, 14)
    border = f"border: 2px solid {colour}; background: transparent;"
    swatch.setStyleSheet(border if outline else f"background: {colour};")
    return swatch
