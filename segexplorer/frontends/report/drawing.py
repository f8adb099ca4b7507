"""Slices, colour bars, curves and films as what the templates of a page print: paths, places, embedded PNG."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from segexplorer.core import colours
from segexplorer.core.colours import ClassColours
from segexplorer.core.label_scheme import LabelScheme
from segexplorer.viewmodels.case_slices import OPACITY, CaseSlice, Film, Raster
from segexplorer.viewmodels.curves import Floats
from segexplorer.viewmodels.outlines import COLOURS, Line, Lines
from segexplorer.viewmodels.report import Chart, Panel

WIDTH = 300.0
"""Units across a panel."""
LOWEST, HIGHEST = 0.6, 1.15
"""Least and greatest height of a panel, as a part of its width."""
LARGEST = 640
"""Pixels along a slice's longer side at most."""
BARS_MM = (200, 100, 50, 20, 10, 5, 2, 1)
"""Lengths of scale bars."""
Pen = tuple[str, float, float]
"""Colour, width in pixels, opacity."""
PENS: dict[Line, tuple[Pen, ...]] = {
    "correct": ((COLOURS["correct"], 1.5, 1.0),),
    "prediction": ((colours.TRUTH_OUTLINE, 3.0, 0.35), (COLOURS["prediction"], 1.5, 1.0)),
    "truth": ((colours.RIM, 3.0, 0.5), (COLOURS["truth"], 1.5, 1.0)),
    **{line: ((colours.RIM, 3.6, 1.0), (COLOURS[line], 1.6, 1.0)) for line in ("extra", "missed", "wrong")},
}
"""How each line is drawn, its casing first, as on the canvas of the window."""


def data_uri(pixels: NDArray[np.uint8]) -> str:
    """Return pixels as an embedded PNG: (h, w) grey values, or (h, w, 4) colours."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"


def palette_uri(pixels: NDArray[np.uint8]) -> str:
    """Return (h, w, 4) colours of which there are at most 256 as an embedded PNG with a palette."""
    found, places = np.unique(pixels.reshape(-1, 4), axis=0, return_inverse=True)
    if len(found) > 256:
        return data_uri(pixels)
    image = Image.fromarray(places.reshape(pixels.shape[:2]).astype(np.uint8), "P")
    image.putpalette(found[:, :3].tobytes())
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True, transparency=found[:, 3].tobytes())
    return f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"


def _smaller(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image of at most `LARGEST` pixels along its longer side."""
    factor = LARGEST / max(pixels.shape[:2])
    if factor >= 1:
        return pixels
    size = (max(1, round(pixels.shape[1] * factor)), max(1, round(pixels.shape[0] * factor)))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))


def slice_drawing(shown: CaseSlice) -> dict[str, Any]:
    """Return images and paths of a slice, in mm from its upper left corner."""
    images = []
    if shown.image is not None:
        images.append(_placed(shown.image, shown, data_uri(_smaller(shown.image.pixels)), pixels=False))
    images += [_placed(r, shown, palette_uri(r.pixels), pixels=True) for r in shown.overlays]
    paths = [
        {
            "d": path(lines, shown.left, shown.top),
            "colour": colour,
            "thickness": thickness,
            "opacity": opacity,
        }
        for line, lines in shown.lines.items()
        for colour, thickness, opacity in PENS[line]
    ]
    return {
        "width": round(shown.width, 3),
        "height": round(shown.height, 3),
        "images": images,
        "paths": paths,
    }


def _placed(raster: Raster, shown: CaseSlice, href: str, *, pixels: bool) -> dict[str, Any]:
    return {
        "x": round(raster.left - shown.left, 3),
        "y": round(raster.top - shown.top, 3),
        "width": round(raster.width, 3),
        "height": round(raster.height, 3),
        "href": href,
        "pixels": pixels,
    }


def path(lines: Lines, left: float, top: float) -> str:
    """Return segments as a path; each is along an axis."""
    parts = []
    for (x0, y0), (x1, y1) in (lines - np.array([left, top], np.float32)).tolist():
        end = f"H{_short(x1)}" if abs(y0 - y1) < abs(x0 - x1) else f"V{_short(y1)}"
        parts.append(f"M{_short(x0)} {_short(y0)}{end}")
    return "".join(parts)


def _short(value: float) -> str:
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def panel_drawing(panel: Panel, identity: str) -> dict[str, Any]:
    """Return a slice fitted into a panel, with letters, a scale bar, and the bar of its colours."""
    shown = panel.shown
    share = min(max(shown.height / shown.width, LOWEST), HIGHEST)
    height = round(WIDTH * share, 1)
    factor = min(WIDTH / shown.width, height / shown.height)
    w, h = shown.width * factor, shown.height * factor
    letters = shown.letters
    length = scale_bar(shown.width, WIDTH / factor / 3)
    return {
        "title": panel.title,
        "height": height,
        "x": round((WIDTH - w) / 2, 2),
        "y": round((height - h) / 2, 2),
        "w": round(w, 2),
        "h": round(h, 2),
        "slice": slice_drawing(shown),
        "letters": [
            {"x": 5, "y": height / 2 + 4, "anchor": "start", "text": letters.left},
            {"x": WIDTH - 5, "y": height / 2 + 4, "anchor": "end", "text": letters.right},
            {"x": WIDTH / 2, "y": 15, "anchor": "middle", "text": letters.top},
            {"x": WIDTH / 2, "y": height - 6, "anchor": "middle", "text": letters.bottom},
        ],
        "bar": {"length": round(length * factor, 2), "text": f"{length} mm"},
        "scale": None if panel.scale is None else bar_drawing(panel.scale, identity),
    }


def scale_bar(width_mm: float, most_mm: float) -> int:
    """Return the length of a scale bar, mm."""
    return next((mm for mm in BARS_MM if mm <= min(width_mm / 2, most_mm)), 1)


def bar_drawing(scale: Any, identity: str) -> dict[str, Any]:
    """Return a colour bar; `identity` is that of its gradient in the page."""
    table = scale.colours
    stops = [
        {
            "at": round(i / (len(table) - 1), 3),
            "colour": hex_colour(row),
            "opacity": round(float(row[3]), 3),
        }
        for i, row in enumerate(table)
    ]
    anchors = ("start", *["middle"] * (len(scale.ticks) - 2), "end")
    apart = WIDTH / (len(scale.ticks) - 1)
    return {
        "id": identity,
        "label": scale.title,
        "stops": stops,
        "numbers": [
            {"x": round(i * apart, 1), "anchor": anchor, "text": text}
            for i, (anchor, text) in enumerate(zip(anchors, scale.ticks, strict=True))
        ],
        "ends": scale.ends,
        "note": scale.note,
    }


def hex_colour(row: Sequence[float]) -> str:
    """Return "#rrggbb" of red, green and blue from 0 to 1."""
    return "#" + "".join(f"{round(255 * float(v)):02x}" for v in row[:3])


# ---- curves

LEFT, RIGHT, TOP, BOTTOM = 62.0, 510.0, 8.0, 228.0


def chart_drawing(chart: Chart) -> dict[str, Any]:
    """Return axes, ticks and paths of a chart."""
    steps = np.concatenate([c.steps for c in chart.curves])
    first, last = float(steps.min()), float(steps.max())
    if first == last:
        first, last = first - 1, last + 1
    log = chart.plot.logarithmic
    values = np.concatenate([c.values for c in chart.curves])
    low, high = _range(values, log, chart.plot.limits)

    def x(step: Floats) -> Floats:
        return LEFT + (step - first) / (last - first) * (RIGHT - LEFT)

    def y(value: Floats) -> Floats:
        shown = np.log10(np.where(value > 0, value, np.nan)) if log else value
        return BOTTOM - (shown - low) / (high - low) * (BOTTOM - TOP)

    lines = []
    for curve in chart.curves:
        points = np.stack([x(curve.steps), y(curve.values)], axis=1)
        few = chart.plot.domain == "whole volumes" and len(points) <= 60
        there = points[np.isfinite(points[:, 1])]
        lines.append(
            {
                "name": curve.name,
                "colour": curve.colour,
                "dashed": curve.dashed,
                "d": _polyline(points),
                "dots": [(round(float(a), 1), round(float(b), 1)) for a, b in there] if few else [],
            }
        )
    y_ticks = _log_ticks(low, high) if log else nice_ticks(low, high)
    return {
        "title": chart.plot.title,
        "y_title": chart.plot.y_title,
        "remark": chart.remark,
        "left": LEFT,
        "right": RIGHT,
        "top": TOP,
        "bottom": BOTTOM,
        "first": first,
        "last": last,
        "lines": lines,
        "marks": [
            {"at": round(float(x(np.array(m.step))), 1), "kind": m.kind, "text": m.text} for m in chart.marks
        ],
        "x_ticks": [
            {"at": round(float(x(np.array(t))), 1), "text": f"{t:g}"} for t in nice_ticks(first, last)
        ],
        "y_ticks": [
            {"at": round(float(BOTTOM - (t - low) / (high - low) * (BOTTOM - TOP)), 1), "text": text}
            for t, text in ((t, f"{10**t:.3g}" if log else f"{t:.4g}") for t in y_ticks)
        ],
    }


def _range(values: Floats, log: bool, limits: tuple[float, float] | None) -> tuple[float, float]:
    if limits is not None:
        return limits
    shown = values[np.isfinite(values) & ((values > 0) | (not log))]
    if not len(shown):
        return 0.0, 1.0
    low, high = float(shown.min()), float(shown.max())
    if log:
        low, high = math.log10(low), math.log10(high)
    else:
        low = min(0.0, low) if low < 0.5 * high else low
    pad = 0.05 * (high - low) or 0.5 * abs(high) or 0.5
    return (low if low == 0 else low - pad), high + pad


def nice_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return round numbers between two ends, at most so many."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Return the logarithms of 1, 2, 5, 10 ... between two ends; powers of ten alone where these are many."""
    factors = (1, 2, 5) if high - low < 2.5 else (1,)
    powers = range(math.floor(low), math.ceil(high) + 1)
    ticks = [p + math.log10(f) for p in powers for f in factors]
    found = [t for t in ticks if low <= t <= high]
    return found or [low, high]


def _polyline(points: Floats) -> str:
    """Return a path through points; it is broken where one is not finite."""
    parts, pen = [], "M"
    for px, py in points.tolist():
        if not math.isfinite(py):
            pen = "M"
            continue
        parts.append(f"{pen}{px:.1f} {py:.1f}")
        pen = "L"
    return "".join(parts)


# ---- films


def film_drawing(film: Film) -> dict[str, Any]:
    """Return what the page's script needs of a film: slices one below the other, a PNG per frame."""
    palette = ClassColours(film.class_names)

    def stacked(volume: NDArray[np.uint8]) -> str:
        return data_uri(np.ascontiguousarray(volume.reshape(-1, volume.shape[2])))

    height, width = film.predictions[0].shape[1:]
    weight = film.truth if film.truth is not None else film.predictions[-1]
    filled = ((weight != 0) & (weight != 255)).sum(axis=(1, 2))
    return {
        "start": int(filled.argmax()),
        "data": {
            "names": list(film.class_names),
            "colours": [palette.colour(i) for i in range(1, len(film.class_names) + 1)],
            "sets": _sets(film.scheme),
            "slices": list(film.slices),
            "count": film.count,
            "steps": list(film.steps),
            "width": width,
            "height": height,
            "pixel": list(film.pixel_mm),
            "letters": vars(film.letters),
            "image": None if film.image is None else stacked(film.image),
            "truth": None if film.truth is None else stacked(film.truth),
            "frames": [stacked(p) for p in film.predictions],
        },
    }


def _sets(scheme: LabelScheme) -> list[int] | None:
    """Return for each label index the classes that it stands for, as bits; None where it is a class."""
    if not scheme.overlapping:
        return None
    return [0, *(sum(1 << (c - 1) for c in own) for own in scheme.members)]


def script_colours() -> dict[str, Any]:
    """Return the colours with which the page's script draws."""
    return {
        "extra": colours.FALSE_POSITIVE,
        "missed": colours.FALSE_NEGATIVE,
        "wrong": colours.WRONG_CLASS,
        "errorOpacity": OPACITY["errors"],
        "classOpacity": OPACITY["classes"],
        "pens": {line: PENS[line] for line in ("correct", "truth", "prediction")},
    }
