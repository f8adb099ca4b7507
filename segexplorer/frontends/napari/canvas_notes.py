"""What is written and drawn over a canvas beside napari's layers: caption, colour bar, and outlines of voxels.

Where they would hide much of a small picture, or belong to several views alike, caption and colour bar leave the
canvas: the one is above all views then, the other below them.

All of it draws a `Screen` and holds nothing of its own. Outlines are lines of one width on the screen, however far
the view is zoomed: napari's own contours are as thick as voxels and would cover small errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyqtgraph as pg
from qtpy.QtCore import QRect, QRectF, Qt
from qtpy.QtGui import QColor, QLinearGradient, QPainter, QPainterPath, QPen, QTransform
from qtpy.QtWidgets import QLabel, QSizePolicy, QWidget

from segexplorer.core import colours
from segexplorer.frontends.napari.linked_views import CanvasOverlay, PlaneView, VolumeView, caption_style
from segexplorer.frontends.napari.lull import LOOK_MS, Frames, PatientTimer
from segexplorer.frontends.napari.race_views import LaneView
from segexplorer.viewmodels.caption import Caption, elided
from segexplorer.viewmodels.outlines import COLOURS, Line, Lines, Outlines
from segexplorer.viewmodels.race import DIFFERENCE
from segexplorer.viewmodels.regions import Scale
from segexplorer.viewmodels.screen import Screen
from segexplorer.viewmodels.surfaces import ORDER
from segexplorer.viewmodels.why import PullScale

PAPER, INK = QColor(0, 0, 0, 150), "#f5f5f5"
"""Behind and of what is written on the canvas, in both themes: the image under it is dark or light anywhere."""
_WAITING = "#f2c230"
"""Ink of what is not there yet, on the same paper."""
_MARGIN = 6
_BESIDE_LETTER = 20
"""Room that is left for the letter in the middle of an edge."""
_ROOM = 250
"""Width that a caption takes where it can, so that it has few lines over a small picture."""
_LEAST_CANVAS = 440, 280
"""Width and height of a canvas that has room for caption and colour bar over its picture."""
_TWO_COLUMNS = 460
"""Width from which the words about a colour bar are beside it, not below."""


class CaptionStrip(QLabel):  # type: ignore[misc, unused-ignore]
    """The caption above all views, in as few lines as its width allows."""

    def __init__(self) -> None:
        super().__init__()
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setStyleSheet(f"padding: 2px {_MARGIN}px;")
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self._caption = Caption()
        self.draw(self._caption)

    def draw(self, caption: Caption, *, waiting: bool = False) -> None:
        """Write another caption; an empty one takes no room, unless the next one comes in a moment."""
        self._caption = caption
        kept = waiting and not caption and not self.isHidden()
        self.setMinimumHeight(self.height() if kept else 0)
        self._write()
        self.setVisible(bool(caption) or kept)

    def _write(self) -> None:
        room = max(40, self.width() - 2 * _MARGIN - 2)
        self.setText("\n".join(self._caption.flowing(room, self.fontMetrics().horizontalAdvance)))

    def resizeEvent(self, event: Any) -> None:
        """Break the lines anew."""
        super().resizeEvent(event)
        self._write()


class CanvasCaption(CanvasOverlay):
    """The caption in the upper left corner of a canvas, below the number of the slice, or above all views.

    Parameters
    ----------
    viewer, canvas
        As of `CanvasOverlay`.

    Attributes
    ----------
    strip
        For the place above the views; seen where the canvas has too little room.
    shared
        Whether the caption belongs to several views alike, which it is above then.
    elsewhere
        Whether it is written larger elsewhere, and not here.
    waiting
        Whether the next caption comes in a moment: the strip keeps its room, so that the views do not move.
    """

    def __init__(self, viewer: Any, canvas: QWidget) -> None:
        self._caption = Caption()
        self.shared = self.elsewhere = self.waiting = False
        self.strip = CaptionStrip()
        self.label = QLabel(canvas)
        self.label.setTextFormat(Qt.TextFormat.PlainText)
        self.label.setStyleSheet(
            f"color: {INK}; background: rgba(0, 0, 0, {PAPER.alpha()}); border-radius: 3px; padding: 3px 6px;"
        )
        super().__init__(viewer, canvas, (self.label,), (viewer.dims.events.ndisplay,))

    @property
    def text(self) -> str:
        """What can be read now."""
        label = self.strip if self.label.isHidden() else self.label
        return "" if label.isHidden() else str(label.text())

    def draw(self, caption: Caption) -> None:
        """Write another caption."""
        self._caption = caption
        self.follow()

    def follow(self, _: Any = None) -> None:
        """Fit the caption into the left half of the canvas where that has room, below the letter."""
        if self.elsewhere or self.shared or not _has_room(self.canvas):
            self.label.hide()
            self.strip.draw(
                Caption() if self.elsewhere else self._caption, waiting=self.waiting and not self.elsewhere
            )
            return
        self.strip.draw(Caption())
        half = self.canvas.width() // 2 - _MARGIN - _BESIDE_LETTER - 12
        room = max(40, half, min(_ROOM, self.canvas.width() - 2 * _MARGIN - 12))
        lines = self._caption.lines(room, self.label.fontMetrics().horizontalAdvance)
        self.label.setText("\n".join(lines))
        self.label.adjustSize()
        below_number = 2 * _MARGIN + self.label.fontMetrics().height() + 4
        self.label.move(_MARGIN, below_number if self.flat else _MARGIN)
        self.label.setVisible(bool(lines))

    def closing(self) -> None:
        """Let go of viewer and canvas, and take the strip away."""
        super().closing()
        self.strip.hide()
        self.strip.deleteLater()


def _has_room(canvas: QWidget) -> bool:
    """Whether caption and colour bar leave most of a picture free."""
    return bool(canvas.width() >= _LEAST_CANVAS[0] and canvas.height() >= _LEAST_CANVAS[1])


AnyScale = Scale | PullScale


class ColourBar(QWidget):  # type: ignore[misc, unused-ignore]
    """The colours of a map with their numbers, and what fainter ones mean.

    Parameters
    ----------
    parent
        The canvas that it is over; None: it is below all views, flat and as wide as they are.
    """

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.scale: AnyScale | None = None
        self._over_picture = parent is not None
        if not self._over_picture:
            self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            self.setFixedHeight(self._height_below())

    @property
    def texts(self) -> tuple[str, ...]:
        """Everything that is written on it."""
        if self.scale is None:
            return ()
        return (self.scale.title, self.scale.scope, *self.scale.ends, *self.scale.ticks, self.scale.note)

    def show_scale(self, scale: AnyScale | None, room: int) -> None:
        """Show another scale, at most so wide."""
        self.scale = scale
        if self._over_picture:
            width = max(80, min(room, 260))
            words = () if scale is None else (scale.title, scale.note, scale.scope)
            lines = 2 + sum(self._lines(text, width - 2 * _MARGIN) for text in words or ("", "", ""))
            self.resize(width, lines * self.fontMetrics().height() + 24)
        self.setToolTip("" if scale is None else f"{scale.title}; {scale.note}; {scale.scope}")
        self.update()

    def resizeEvent(self, event: Any) -> None:
        """Have room for what is below the bar where there is none beside it."""
        super().resizeEvent(event)
        if not self._over_picture:
            self.setFixedHeight(self._height_below())

    def _height_below(self) -> int:
        lines = 2 if self.width() >= _TWO_COLUMNS else 3
        return int(lines * self.fontMetrics().height() + 24)

    def paintEvent(self, event: object) -> None:
        """Draw title, bar, numbers and note."""
        if self.scale is None:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if self._over_picture:
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(PAPER)
            painter.drawRoundedRect(QRectF(self.rect()), 3, 3)
            self._paint_over(painter, self.scale)
        else:
            self._paint_below(painter, self.scale)
        painter.end()

    def _paint_over(self, painter: QPainter, scale: AnyScale) -> None:
        painter.setPen(QColor(INK))
        line, width = self.fontMetrics().height(), self.width() - 2 * _MARGIN
        row = self._lines(scale.title, width)
        self._paint_bar(painter, scale, _MARGIN, width, rows=row)
        place = QRectF(_MARGIN, (row + 1) * line + 19, width, line)
        self._write(painter, scale.ends[0], place)
        self._write(painter, scale.ends[1], place, Qt.AlignmentFlag.AlignRight)
        row += 2
        for text in (scale.note, scale.scope):
            rows = self._lines(text, width)
            self._write(painter, text, QRectF(_MARGIN, row * line + 19, width, rows * line))
            row += rows

    def _paint_below(self, painter: QPainter, scale: AnyScale) -> None:
        painter.setPen(self.palette().color(self.foregroundRole()))
        line, whole = self.fontMetrics().height(), self.width() - 2 * _MARGIN
        beside = self.width() >= _TWO_COLUMNS
        width = whole // 2 - _MARGIN if beside else whole
        self._paint_bar(painter, scale, _MARGIN, width, with_ends=True)
        if beside:
            left = 3 * _MARGIN + width
            for row, text in ((3, scale.note), (line + 19, scale.scope)):
                self._write(painter, text, QRectF(left, row, whole - left + _MARGIN, line))
        else:
            place = QRectF(_MARGIN, 2 * line + 19, width, line)
            self._write(painter, f"{scale.note} · {scale.scope}", place)

    def _paint_bar(
        self,
        painter: QPainter,
        scale: AnyScale,
        left: float,
        width: float,
        *,
        rows: int = 1,
        with_ends: bool = False,
    ) -> None:
        """Draw the title in so many rows, colours and numbers, below each other."""
        line = self.fontMetrics().height()
        self._write(painter, scale.title, QRectF(left, 3, width, rows * line))
        bar = QRectF(left, rows * line + 6, width, 12)
        gradient = QLinearGradient(bar.topLeft(), bar.topRight())
        table = scale.colours
        for number, colour in enumerate(table):
            gradient.setColorAt(number / (len(table) - 1), QColor.fromRgbF(*(float(c) for c in colour)))
        painter.fillRect(bar, gradient)
        low, *between, high = scale.ticks
        if with_ends:
            low, high = f"{low} {scale.ends[0]}", f"{scale.ends[1]} {high}"
        below = bar.bottom() + 1
        self._write(painter, low, QRectF(left, below, width, line))
        self._write(painter, high, QRectF(left, below, width, line), Qt.AlignmentFlag.AlignRight)
        apart, wide = width / (len(between) + 1), self.fontMetrics().horizontalAdvance
        taken = max(wide(low), wide(high)) + _MARGIN
        for number, text in enumerate(between, start=1):
            middle = number * apart
            if min(middle, width - middle) - wide(text) / 2 > taken:  # else it would run into an end's words
                around = QRectF(left + middle - apart / 2, below, apart, line)
                self._write(painter, text, around, Qt.AlignmentFlag.AlignHCenter)

    def _write(
        self,
        painter: QPainter,
        text: str,
        place: QRectF,
        side: Qt.AlignmentFlag = Qt.AlignmentFlag.AlignLeft,
    ) -> None:
        if place.height() > self.fontMetrics().height():
            painter.drawText(place, int(side | Qt.AlignmentFlag.AlignTop | Qt.TextFlag.TextWordWrap), text)
            return
        shown = elided(text, place.width(), self.fontMetrics().horizontalAdvance)
        painter.drawText(place, int(side | Qt.AlignmentFlag.AlignVCenter), shown)

    def _lines(self, text: str, width: float) -> int:
        """Return how many lines a text is written on: two where one is too short and it can be broken."""
        metrics = self.fontMetrics()
        if metrics.horizontalAdvance(text) <= width:
            return 1
        room = QRect(0, 0, int(width), 10_000)
        broken = metrics.boundingRect(room, int(Qt.TextFlag.TextWordWrap), text)
        fits = broken.width() <= width and broken.height() <= 2 * metrics.lineSpacing()
        return 2 if fits else 1


class CanvasColourBar(CanvasOverlay):
    """The colour bar in the lower left corner of a canvas, or below all views.

    Parameters as of `CanvasOverlay`.

    Attributes
    ----------
    strip
        For the place below the views; seen where the canvas has too little room.
    shared
        Whether the map is in several views alike.
    waiting
        Whether another map may come in a moment: the strip keeps its room, so that the views do not move.
    """

    def __init__(self, viewer: Any, canvas: QWidget) -> None:
        self._scale: AnyScale | None = None
        self.shared = self.waiting = False
        self.strip = ColourBar()
        self.bar = ColourBar(canvas)
        super().__init__(viewer, canvas, (self.bar,), (viewer.dims.events.ndisplay,))

    @property
    def texts(self) -> tuple[str, ...]:
        """What can be read now."""
        bar = self.strip if self.bar.isHidden() else self.bar
        return () if bar.isHidden() else bar.texts

    def draw(self, scale: AnyScale | None) -> None:
        """Show another scale, or none."""
        self._scale = scale
        self.follow()

    def follow(self, _: Any = None) -> None:
        """Place the bar."""
        seen = self._scale is not None and self.viewer.dims.ndisplay == 2
        over = not self.shared and _has_room(self.canvas)
        for bar in (self.bar, self.strip):
            bar.show_scale(self._scale, self.canvas.width() // 2 - _MARGIN - _BESIDE_LETTER)
        self.bar.move(_MARGIN, self.canvas.height() - self.bar.height() - _MARGIN)
        self.bar.setVisible(seen and over)
        kept = self.waiting and self._scale is None and not self.strip.isHidden()
        self.strip.setVisible((seen or kept) and not over)

    def closing(self) -> None:
        """Let go of viewer and canvas, and take the strip away."""
        super().closing()
        self.strip.hide()
        self.strip.deleteLater()


_WIDTH, _CASING = 1.4, 3.0
_MOST_SMOOTH = 20_000
"""With more segments than this lines are drawn without smoothing, which is much quicker."""


class _LineWidget(QWidget):  # type: ignore[misc, unused-ignore]
    """Draws paths in mm through a transform; the width of lines is in pixels."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.paths: dict[Line, QPainterPath] = {}
        self.place = QTransform()
        self.smooth = True

    def paintEvent(self, event: object) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing, self.smooth)
        painter.setTransform(self.place)
        for line, path in self.paths.items():
            for pen in _PENS[line]:
                painter.setPen(pen)
                painter.drawPath(path)
        painter.end()


def _pen(colour: str, width: float, opacity: float = 1.0) -> QPen:
    ink = QColor(colour)
    ink.setAlphaF(opacity)
    pen = QPen(ink, width)
    pen.setCosmetic(True)
    pen.setCapStyle(Qt.PenCapStyle.FlatCap)
    return pen


_PENS: dict[Line, tuple[QPen, ...]] = {
    "correct": (_pen(COLOURS["correct"], _WIDTH),),
    "prediction": (
        _pen(colours.TRUTH_OUTLINE, _CASING, 0.35),
        _pen(COLOURS["prediction"], _WIDTH),
    ),
    "truth": (_pen(colours.RIM, _CASING, 0.5), _pen(COLOURS["truth"], _WIDTH)),
    "here": (_pen(colours.RIM, 4.0, 0.5), _pen(COLOURS["here"], 2.4)),
    **{line: (_pen(colours.RIM, 4.5), _pen(COLOURS[line], 2.0)) for line in ("extra", "missed", "wrong")},
}


class CanvasOutlines(CanvasOverlay):
    """Outlines of truth and prediction, or dark rims of errors over a map, in the slice that a viewer shows.

    Parameters as of `CanvasOverlay`.
    """

    def __init__(self, viewer: Any, canvas: QWidget) -> None:
        self._outlines: Outlines | None = None
        self._rims = False
        self._known: tuple[Any, ...] | None = None
        self.lines: dict[Line, Lines] = {}
        self.widget = _LineWidget(canvas)
        camera = viewer.scene.camera.events
        signals = (
            viewer.dims.events.point,
            viewer.dims.events.order,
            viewer.dims.events.ndisplay,
            camera.center,
            camera.zoom,
            camera.orientation,
        )
        super().__init__(viewer, canvas, (self.widget,), signals)
        self.widget.lower()

    def draw(self, outlines: Outlines | None, *, rims: bool) -> None:
        """Draw other outlines, or none."""
        self._outlines, self._rims = outlines, rims
        self.follow()

    def follow(self, _: Any = None) -> None:
        """Draw the lines of the slice where the camera shows them."""
        dims = self.viewer.dims
        found = None
        if self._outlines is not None and self.flat and dims.ndim == 3:
            axis = int(dims.order[0])
            index = self._outlines.index(axis, float(dims.point[axis]))
            found = None if index is None else (self._outlines, self._rims, axis, index)
        if found != self._known:
            self._known = found
            self.lines = {} if found is None else found[0].lines(found[2], found[3], rims=found[1])
            self._make_paths(swapped=tuple(dims.order[-2:]) == tuple(sorted(dims.order[-2:], reverse=True)))
        if found is not None:
            self.widget.setGeometry(0, 0, self.canvas.width(), self.canvas.height())
            self.widget.place = self._place()
            self.widget.update()
        self.widget.setVisible(found is not None)

    def _make_paths(self, *, swapped: bool) -> None:
        """Turn segments into paths whose x runs along the width of the canvas."""
        across, along = (1, 0) if swapped else (0, 1)
        self.widget.paths = {
            line: pg.arrayToQPath(
                np.ascontiguousarray(ends[..., along], np.float64).ravel(),
                np.ascontiguousarray(ends[..., across], np.float64).ravel(),
                connect="pairs",
            )
            for line, ends in sorted(self.lines.items())
        }
        self.widget.smooth = sum(map(len, self.lines.values())) <= _MOST_SMOOTH

    def _place(self) -> QTransform:
        camera = self.viewer.scene.camera
        vertical, horizontal = (float(middle) for middle in camera.center[-2:])
        zoom = float(camera.zoom)
        right = -zoom if str(camera.orientation[-1]) == "left" else zoom
        down = -zoom if str(camera.orientation[-2]) == "up" else zoom
        middle = self.canvas.width() / 2, self.canvas.height() / 2
        return QTransform(right, 0, 0, down, middle[0] - horizontal * right, middle[1] - vertical * down)


class SliceNote(CanvasOverlay):
    """What must be known of the map on one slice, in the upper right corner of its canvas.

    Parameters as of `CanvasOverlay`.
    """

    def __init__(self, viewer: Any, canvas: QWidget) -> None:
        self._notes: Mapping[int, str] = {}
        self.label = QLabel(canvas)
        self.label.setStyleSheet(caption_style(_WAITING))
        super().__init__(
            viewer, canvas, (self.label,), (viewer.dims.events.order, viewer.dims.events.ndisplay)
        )

    @property
    def text(self) -> str:
        """What can be read now."""
        return "" if self.label.isHidden() else str(self.label.text())

    def draw(self, notes: Mapping[int, str]) -> None:
        """Write other notes, given for each axis that slices are across."""
        self._notes = notes
        self.follow()

    def follow(self, _: Any = None) -> None:
        """Write the note of the slice that is shown, below the letter at the upper edge."""
        note = self._notes.get(int(self.viewer.dims.order[0]), "") if self.flat else ""
        width = self.label.fontMetrics().horizontalAdvance
        self.label.setText(elided(note, self.canvas.width() - 4 * _MARGIN, width))
        self.label.adjustSize()
        below_letter = 2 * _MARGIN + self.label.fontMetrics().height() + 4
        self.label.move(self.canvas.width() - self.label.width() - _MARGIN, below_letter)
        self.label.setVisible(bool(note))


def _outlines_in(view: PlaneView, screen: Screen) -> Outlines | None:
    """Return the lines in a view: those of the prediction that is displayed, or of another lane of its race."""
    if not isinstance(view, LaneView):
        return screen.outlines
    lanes = () if screen.race is None else screen.race.lanes
    return next((lane.outlines for lane in lanes if lane.name == view.name), None)


def _has_rims(view: PlaneView, screen: Screen) -> bool:
    """Whether errors are outlined; the difference of lanes has none, and the truth alone is outlined."""
    return screen.rims and getattr(view, "name", "") != DIFFERENCE


class CanvasNotes:
    """Caption and colour bar over the main canvas, outlines over slices, surfaces in 3D: all of a display.

    Parameters
    ----------
    display
        What the window displays (`display.Display`).
    workbench
        Its views (`workbench.Workbench`).
    canvas, frames
        The main canvas, and its slices: they are drawn before surfaces.
    """

    def __init__(self, display: Any, workbench: Any, canvas: QWidget, frames: Frames) -> None:
        self.display, self._workbench = display, workbench
        self.caption = CanvasCaption(display.viewer, canvas)
        self.bar = CanvasColourBar(display.viewer, canvas)
        workbench.put_above(self.caption.strip)
        workbench.put_below(self.bar.strip)
        # the error that is looked at, above the outlines, which are put below what was there before
        self.mark = CanvasOutlines(display.viewer, canvas)
        self.outlines = CanvasOutlines(display.viewer, canvas)
        self._others: dict[Any, CanvasOutlines] = {}
        self._marks: dict[Any, CanvasOutlines] = {}
        self.slice_note = SliceNote(display.viewer, canvas)
        self.slice_notes: dict[Any, SliceNote] = {}
        self._volume: VolumeView | None = None
        # after the planes: together they would keep the window from the user for a fifth of a second
        self._solid = PatientTimer(self._draw_surfaces, LOOK_MS, frames, repeats=False)
        display.changed.connect(self._on_changed)
        workbench.changed.connect(self._on_views)
        self._on_views()
        self._on_changed(display.screen, frozenset({"caption", "map", "outlines", "mark"}))

    def _on_changed(self, screen: Screen, parts: frozenset[str]) -> None:
        self.caption.waiting = screen.request is not None
        self.bar.waiting = screen.request is not None or screen.why_request is not None
        if not parts.isdisjoint({"caption", "request"}):
            self.caption.draw(screen.caption)
        if not parts.isdisjoint({"map", "request", "why_request"}):
            self.bar.draw(screen.map)
        if not parts.isdisjoint({"outlines", "layers", "race"}):
            self.outlines.draw(screen.outlines, rims=screen.rims)
            for view, outlines in self._others.items():
                outlines.draw(_outlines_in(view, screen), rims=_has_rims(view, screen))
        if "mark" in parts:
            for mark in (self.mark, *self._marks.values()):
                mark.draw(screen.mark, rims=False)
        if "slice_notes" in parts:
            for note in (self.slice_note, *self.slice_notes.values()):
                note.draw(screen.slice_notes)
        if "surfaces" in parts:
            for view in self._volumes:
                view.hide_others(screen.surfaces)
            self._solid.ask()

    def _draw_surfaces(self) -> None:
        """Show the surfaces that are displayed by now."""
        surfaces = self.display.screen.surfaces
        for view in self._volumes:
            view.show_surfaces([surfaces[part] for part in ORDER if part in surfaces])

    @property
    def _volumes(self) -> list[VolumeView]:
        return [view for view in self._workbench.views.values() if isinstance(view, VolumeView)]

    def _on_views(self) -> None:
        """Draw over the planes that are shown now."""
        self.caption.elsewhere = self._workbench.enlarged
        for note in (self.caption, self.bar):
            note.shared = self._workbench.layout == "lanes"
            note.follow()
        planes = [view for view in self._workbench.views.values() if isinstance(view, PlaneView)]
        for view in [view for view in self._others if view not in planes]:
            self._others.pop(view).closing()
            self._marks.pop(view).closing()
            self.slice_notes.pop(view).closing()
        screen = self.display.screen
        for view in planes:
            if view not in self._others:
                self._marks[view] = CanvasOutlines(view.model, view.canvas)
                self._marks[view].draw(screen.mark, rims=False)
                self._others[view] = CanvasOutlines(view.model, view.canvas)
                self._others[view].draw(_outlines_in(view, screen), rims=_has_rims(view, screen))
                self.slice_notes[view] = SliceNote(view.model, view.canvas)
                self.slice_notes[view].draw(screen.slice_notes)
        volumes = self._volumes
        if any(view is not self._volume for view in volumes) and screen.surfaces:
            self._draw_surfaces()
        self._volume = next(iter(volumes), None)
        facts = {"solid": bool(volumes), "planes": tuple(view.axis for view in planes)}
        if any(getattr(self.display.reality, name) != fact for name, fact in facts.items()):
            self.display.learn(**facts)

    def closing(self) -> None:
        """Let go of display, viewers and canvases."""
        self._solid.stop()
        self.display.changed.disconnect(self._on_changed)
        self._workbench.changed.disconnect(self._on_views)
        over_planes = (*self._others.values(), *self._marks.values(), *self.slice_notes.values())
        for overlay in (self.caption, self.bar, self.outlines, self.mark, self.slice_note, *over_planes):
            overlay.closing()
        self._others, self._marks, self.slice_notes = {}, {}, {}
