"""A formula drawn as it is printed: fractions, scripts, roots, broken into lines that fit the dock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qtpy.QtCore import QLineF, QPointF, QSize, Qt
from qtpy.QtGui import QFont, QFontMetricsF, QPainter, QPen
from qtpy.QtWidgets import QSizePolicy, QWidget

from segexplorer.viewmodels.formula import (
    Accent,
    Fraction,
    Node,
    Radical,
    Row,
    Scripts,
    Symbol,
    break_points,
    pieces,
    read_formula,
    spoken,
)

FAMILIES = ("STIX Two Text", "Cambria", "Times New Roman", "Liberation Serif", "DejaVu Serif")
PIXELS = 15.0
_SMALLEST = 9.0
_SCRIPT, _FRACTION = 0.72, 0.88
_MARGIN, _LEADING, _HANGING = 4.0, 7.0, 18.0

Paint = Callable[[QPainter, float, float], None]
"""Draws with its left end at x and its base line at y."""


@dataclass(frozen=True)
class Box:
    """Something laid out: how wide, how far above and below the base line, and how to draw it."""

    width: float
    ascent: float
    descent: float
    paint: Paint


def font_of(pixels: float, *, italic: bool = False) -> QFont:
    """Return the serif font of formulas in a size."""
    font = QFont()
    font.setFamilies(list(FAMILIES))
    font.setStyleHint(QFont.StyleHint.Serif)
    font.setPixelSize(max(1, round(pixels)))
    font.setItalic(italic)
    return font


def lay_out(node: Node, pixels: float) -> Box:
    """Return the box of a node at a size of type."""
    pixels = max(pixels, _SMALLEST)
    if isinstance(node, Symbol):
        return _symbol(node, pixels)
    if isinstance(node, Row):
        return beside([lay_out(item, pixels) for item in node.items])
    if isinstance(node, Fraction):
        return _fraction(node, pixels)
    if isinstance(node, Scripts):
        return _scripts(node, pixels)
    if isinstance(node, Radical):
        return _radical(node, pixels)
    return _accent(node, pixels)


def beside(boxes: Sequence[Box]) -> Box:
    """Return boxes in a row on one base line."""

    def paint(painter: QPainter, x: float, y: float) -> None:
        for box in boxes:
            box.paint(painter, x, y)
            x += box.width

    ascent = max((box.ascent for box in boxes), default=0.0)
    descent = max((box.descent for box in boxes), default=0.0)
    return Box(sum(box.width for box in boxes), ascent, descent, paint)


def _symbol(symbol: Symbol, pixels: float) -> Box:
    if symbol.role == "space":
        return Box(0.25 * pixels * len(symbol.text), 0.0, 0.0, lambda painter, x, y: None)
    font = font_of(pixels * (1.45 if symbol.large else 1.0), italic=symbol.style == "italic")
    metrics = QFontMetricsF(font)
    rest = QFontMetricsF(font_of(pixels))
    around = {"relation": 0.28, "operator": 0.18}.get(symbol.role, 0.0) * pixels
    behind = 0.18 * pixels if symbol.role == "punctuation" else 0.05 * pixels * (symbol.style == "italic")
    drop = 0.18 * pixels if symbol.large else 0.0

    def paint(painter: QPainter, x: float, y: float) -> None:
        painter.setFont(font)
        painter.drawText(QPointF(x + around, y + drop), symbol.text)

    width = metrics.horizontalAdvance(symbol.text) + 2 * around + behind
    extra = 0.25 * pixels if symbol.large else 0.0
    return Box(width, 0.78 * rest.ascent() + extra, 0.8 * rest.descent() + extra, paint)


def _fraction(node: Fraction, pixels: float) -> Box:
    top, bottom = lay_out(node.top, pixels * _FRACTION), lay_out(node.bottom, pixels * _FRACTION)
    axis, gap = 0.3 * pixels, 0.16 * pixels
    width = max(top.width, bottom.width) + 0.3 * pixels

    def paint(painter: QPainter, x: float, y: float) -> None:
        top.paint(painter, x + (width - top.width) / 2, y - axis - gap - top.descent)
        bottom.paint(painter, x + (width - bottom.width) / 2, y - axis + gap + bottom.ascent)
        _rule(painter, x + 0.06 * pixels, y - axis, x + width - 0.06 * pixels, y - axis)

    ascent = axis + gap + top.descent + top.ascent
    return Box(width, ascent, gap + bottom.ascent + bottom.descent - axis, paint)


def _scripts(node: Scripts, pixels: float) -> Box:
    base = lay_out(node.base, pixels)
    low = lay_out(node.low, pixels * _SCRIPT) if node.low is not None else None
    high = lay_out(node.high, pixels * _SCRIPT) if node.high is not None else None
    down = max(0.26 * pixels, base.descent - 0.1 * pixels)
    up = max(0.42 * pixels, base.ascent - 0.34 * pixels)
    width = base.width + max((box.width for box in (low, high) if box), default=0.0) + 0.06 * pixels

    def paint(painter: QPainter, x: float, y: float) -> None:
        base.paint(painter, x, y)
        if low is not None:
            low.paint(painter, x + base.width, y + down)
        if high is not None:
            high.paint(painter, x + base.width, y - up)

    ascent = max(base.ascent, up + high.ascent if high else 0.0)
    descent = max(base.descent, down + low.descent if low else 0.0)
    return Box(width, ascent, descent, paint)


def _radical(node: Radical, pixels: float) -> Box:
    body = lay_out(node.body, pixels)
    hook, roof = 0.6 * pixels, 0.14 * pixels

    def paint(painter: QPainter, x: float, y: float) -> None:
        over, under = y - body.ascent - roof, y + body.descent
        middle = (over + under) / 2 + 0.1 * pixels
        _rule(painter, x + 0.05 * pixels, middle, x + 0.2 * pixels, middle - 0.1 * pixels)
        _rule(painter, x + 0.2 * pixels, middle - 0.1 * pixels, x + 0.36 * pixels, under)
        _rule(painter, x + 0.36 * pixels, under, x + hook, over)
        _rule(painter, x + hook, over, x + hook + body.width, over)
        body.paint(painter, x + hook, y)

    return Box(hook + body.width + 0.1 * pixels, body.ascent + 2 * roof, body.descent, paint)


def _accent(node: Accent, pixels: float) -> Box:
    body = lay_out(node.body, pixels)
    height = 0.16 * pixels

    def paint(painter: QPainter, x: float, y: float) -> None:
        body.paint(painter, x, y)
        over, left, right = y - body.ascent, x + 0.1 * body.width, x + 0.95 * body.width
        if node.mark == "bar":
            _rule(painter, left, over, right, over)
        else:
            middle = (left + right) / 2 + 0.05 * pixels
            _rule(painter, middle - 0.2 * pixels, over + height / 2, middle, over - height / 2)
            _rule(painter, middle, over - height / 2, middle + 0.2 * pixels, over + height / 2)

    return Box(body.width, body.ascent + height, body.descent, paint)


def _rule(painter: QPainter, x0: float, y0: float, x1: float, y1: float) -> None:
    painter.drawLine(QLineF(x0, y0, x1, y1))


def lines_of(latex: str, width: float, pixels: float = PIXELS) -> list[tuple[float, Box]]:
    """Return the lines of a formula as (indent, box), none wider than `width` where it can be broken."""
    lines: list[tuple[float, Box]] = []
    for part in break_points(read_formula(latex)):
        boxes: list[Box] = []
        for piece in pieces(part):
            box = lay_out(Row(piece), pixels)
            inner = pieces(piece, inside=True) if box.width > width - _HANGING else [piece]
            boxes += [lay_out(Row(shorter), pixels) for shorter in inner]
        row: list[Box] = []
        indent = 0.0
        for box in boxes:
            if row and indent + sum(b.width for b in row) + box.width > width:
                lines.append((indent, beside(row)))
                row, indent = [], _HANGING
            row.append(box)
        lines.append((indent, beside(row)))
    return lines


class FormulaView(QWidget):  # type: ignore[misc, unused-ignore]
    """Shows one formula in the ink of the window; smaller type where a line cannot be broken far enough."""

    def __init__(self) -> None:
        super().__init__()
        self._latex = ""
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
        self.setAccessibleName(spoken(latex))
        self.setToolTip(spoken(latex))
        self.setVisible(bool(latex))
        self._fit()
        self.update()

    def _laid_out(self, width: float) -> tuple[list[tuple[float, Box]], float]:
        """Return the lines and their height at a width."""
        room, pixels = max(60.0, width - 2 * _MARGIN), PIXELS
        lines = lines_of(self._latex, room, pixels)
        widest = max((indent + box.width for indent, box in lines), default=0.0)
        if widest > room:
            lines = lines_of(self._latex, room, max(_SMALLEST, pixels * room / widest))
        height = sum(box.ascent + box.descent + _LEADING for _, box in lines)
        return lines, height + 2 * _MARGIN - (_LEADING if lines else 0.0)

    def hasHeightForWidth(self) -> bool:
        """Whether a narrow place makes it higher: it does."""
        return True

    def heightForWidth(self, width: int) -> int:
        """Return the height that the lines need at a width."""
        return round(self._laid_out(width)[1]) + 1

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

    def _fit(self) -> None:
        wanted = self.heightForWidth(max(self.width(), 120))
        if self.minimumHeight() != wanted:
            self.setFixedHeight(wanted)

    def paintEvent(self, event: object) -> None:
        """Draw line by line."""
        lines, _ = self._laid_out(self.width())
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(self.palette().color(self.foregroundRole()), 1.1, Qt.PenStyle.SolidLine))
        y = _MARGIN
        for indent, box in lines:
            box.paint(painter, _MARGIN + indent, y + box.ascent)
            y += box.ascent + box.descent + _LEADING
        painter.end()
