"""A formula drawn as it is printed, broken into lines that fit the dock."""

from __future__ import annotations

from qtpy.QtCore import QByteArray, QEvent, QRect, QRectF, QSize, Qt
from qtpy.QtGui import QFontInfo, QPainter
from qtpy.QtSvg import QSvgRenderer
from qtpy.QtWidgets import QSizePolicy, QWidget

from segexplorer.viewmodels.formula import INK, SIZE, Line, UnreadableFormulaError, lines_of, spoken

_LARGER = 1.2
"""Type of formulas against that of the panel: their serif letters are smaller at the same size."""
_SMALLEST = 9.0
_MARGIN, _LEADING = 4.0, 7.0
_WRAPPED = Qt.AlignmentFlag.AlignLeft | Qt.TextFlag.TextWordWrap


class FormulaView(QWidget):  # type: ignore[misc, unused-ignore]
    """Shows one formula in the colour and type size of the panel; smaller where a line cannot be broken far enough.

    A formula that cannot be read is shown as the LaTeX it is written in.
    """

    def __init__(self) -> None:
        super().__init__()
        self._latex = ""
        self._drawings: dict[str, QSvgRenderer] = {}
        policy = QSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)
        self.setVisible(False)

    @property
    def latex(self) -> str:
        """What is shown."""
        return self._latex

    def show_formula(self, latex: str) -> None:
        """Draw a formula, or hide for an empty one."""
        if latex == self._latex:
            return
        self._latex = latex
        self._drawings.clear()
        text = spoken(latex)
        self.setAccessibleName(text)
        self.setToolTip(text)
        self.setVisible(bool(latex))
        self._fit()
        self.update()

    def hasHeightForWidth(self) -> bool:
        """Whether a narrow place makes it higher: it does."""
        return True

    def heightForWidth(self, width: int) -> int:
        """Return the height that the lines need at a width."""
        found = self._laid_out(width)
        if found is None:
            height = float(self._text_bounds(width).height())
        else:
            lines, scale = found
            height = sum(scale * (line.ascent + line.descent) + _LEADING for line in lines)
            height -= _LEADING if lines else 0.0
        return round(height + 2 * _MARGIN) + 1

    def sizeHint(self) -> QSize:
        """Prefer the width there is."""
        width = max(self.width(), 220)
        return QSize(width, self.heightForWidth(width))

    def minimumSizeHint(self) -> QSize:
        """Shrink as far as the dock does."""
        return QSize(80, 20)

    def resizeEvent(self, event: object) -> None:
        """Break the lines anew."""
        super().resizeEvent(event)
        self._fit()

    def changeEvent(self, event: QEvent) -> None:
        """Follow the panel's type size and colours."""
        super().changeEvent(event)
        if event.type() in {QEvent.Type.FontChange, QEvent.Type.StyleChange, QEvent.Type.PaletteChange}:
            self._fit()
            self.update()

    def paintEvent(self, event: object) -> None:
        """Draw line by line; as vectors, so that it is sharp on every screen."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        ink = self.palette().color(self.foregroundRole())
        found = self._laid_out(self.width())
        if found is None:
            painter.setPen(ink)
            painter.drawText(self._text_bounds(self.width()), _WRAPPED, self._breakable())
        else:
            lines, scale = found
            y = _MARGIN
            for line in lines:
                self._draw(painter, line, y + scale * line.ascent, scale, ink.name())
                y += scale * (line.ascent + line.descent) + _LEADING
        painter.end()

    def _draw(self, painter: QPainter, line: Line, base: float, scale: float, ink: str) -> None:
        x = _MARGIN + scale * line.indent
        for piece in line.pieces:
            svg = piece.svg.replace(INK, ink)
            if svg not in self._drawings:
                self._drawings[svg] = QSvgRenderer(QByteArray(svg.encode()))
            height = scale * (piece.ascent + piece.descent)
            place = QRectF(x, base - scale * piece.ascent, scale * piece.width, height)
            self._drawings[svg].render(painter, place)
            x += scale * piece.width

    def _laid_out(self, width: float) -> tuple[list[Line], float] | None:
        """Return the lines and their scale at a width; None for a formula that cannot be read."""
        room = max(60.0, width - 2 * _MARGIN)
        pixels = _LARGER * QFontInfo(self.font()).pixelSize()
        try:
            lines = lines_of(self._latex, room * SIZE / pixels)
            widest = max((line.width for line in lines), default=0.0) * pixels / SIZE
            if widest > room:
                pixels = max(_SMALLEST, pixels * room / widest)
                lines = lines_of(self._latex, room * SIZE / pixels)
        except UnreadableFormulaError:
            return None
        return lines, pixels / SIZE

    def _text_bounds(self, width: float) -> QRect:
        """Return where the LaTeX of an unreadable formula is written."""
        room = QRect(round(_MARGIN), round(_MARGIN), round(width - 2 * _MARGIN), 10_000)
        return self.fontMetrics().boundingRect(room, _WRAPPED, self._breakable())

    def _breakable(self) -> str:
        """Return the LaTeX with places of no width before its commands, where its lines may end."""
        return self._latex.replace("\\", "\u200b\\")

    def _fit(self) -> None:
        wanted = self.heightForWidth(max(self.width(), 120))
        if self.minimumHeight() != wanted:
            self.setFixedHeight(wanted)
