"""The last picture of a cell as HTML without a kernel: planes as PNG, legend, colour bar, curves and scores.

A saved notebook keeps it, and pages that are made of notebooks show it. It is drawn from the same scene and screen
as the live widget.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from segexplorer.core.colours import HERE, ClassColours
from segexplorer.frontends.notebook import html
from segexplorer.frontends.notebook.marks import badges_of, changes_html, colour_of
from segexplorer.viewmodels.curves import PLOTS, Curves, Plot, line_colour, line_title
from segexplorer.viewmodels.planes import ORDERS, Scene, View, render, segments
from segexplorer.viewmodels.screen import Screen

SIDE = 300
"""Longest side of a plane, pixels."""
_GAP = 8
_CURVES = ("loss", "weights", "dice")
_W, _H = 300, 129


def still_html(
    screen: Screen,
    scene: Scene,
    place: Sequence[float],
    curves: Curves | None = None,
    headline: str = "",
) -> str:
    """Return everything that a cell shows as one piece of HTML."""
    parts = [f'<div style="font-size:12px;max-width:{3 * SIDE + 2 * _GAP}px">']
    if headline:
        parts.append(f"<div><b>{html.text(headline)}</b></div>")
    if screen.caption:
        parts.append(f"<div>{html.text(screen.caption.text)}</div>")
    if scene.layers:
        encoded = base64.b64encode(png_of(scene, place)).decode()
        label = escape(screen.caption.text or "Planes of the case", quote=True)
        parts.append(
            f'<img alt="{label}" src="data:image/png;base64,{encoded}" style="max-width:100%;display:block">'
        )
    parts.append(_legend(screen))
    if screen.message:
        parts.append(f"<div>{html.text(screen.message)}</div>")
    if curves is not None:
        parts.append(curves_svg(curves, screen.class_names, screen.cursor))
    parts.append(html.scores(screen.scores, screen.scores_of, screen.class_names))
    if screen.answer is not None and screen.answer.sentence:
        parts.append(f"<div><i>{html.text(screen.answer.sentence)}</i></div>")
    if screen.navigator.entries:
        parts.append(f"<div>{html.text(screen.navigator.summary)}</div>")
    return "".join(parts) + "</div>"


def png_of(scene: Scene, place: Sequence[float]) -> bytes:
    """Return axial, coronal and sagittal slices through a point, side by side, as a PNG."""
    views = _views(scene)
    width = sum(view.size[1] for view in views) + _GAP * (len(views) - 1)
    height = max(view.size[0] for view in views)
    whole = Image.new("RGBA", (width, height))  # between the planes is the page, be it white or dark
    left = 0
    for view in views:
        whole.paste(_plane(scene, view, place), (left, 0))
        left += view.size[1] + _GAP
    stream = io.BytesIO()
    whole.save(stream, "PNG", optimize=False)
    return stream.getvalue()


def _views(scene: Scene) -> list[View]:
    """Return the planes at one scale, so that a millimetre is as long in each."""
    base = scene.base
    assert base is not None
    spans = [s * n for s, n in zip(base.scale, base.data.shape, strict=True)]
    each = max(spans) / SIDE
    found = []
    for plane, order in ORDERS.items():
        longest = max(spans[axis] for axis in order[1:])
        found.append(View.of(scene, plane, max(1, round(longest / each))))
    return found


def _plane(scene: Scene, view: View, place: Sequence[float]) -> Image.Image:
    picture = Image.fromarray(render(scene, view, place))
    draw = ImageDraw.Draw(picture)
    for lines in scene.lines:
        thick = 2 if lines.key == "mark" else 1
        for ink, ends in segments(lines, view, place).items():
            for (x0, y0), (x1, y1) in np.rint(ends - 0.5).astype(int).tolist():
                draw.line([(x0, y0), (x1, y1)], fill=ink, width=thick)
    row, column = view.pixel(place)
    for near, far in ((-14, -5), (5, 14)):
        draw.line([(column + near, row), (column + far, row)], fill=HERE)
        draw.line([(column, row + near), (column, row + far)], fill=HERE)
    letters = scene.letters(view.plane)
    height, width = view.size
    font = ImageFont.load_default(12)
    style: dict[str, Any] = {"fill": "white", "stroke_width": 1, "stroke_fill": "black", "font": font}
    draw.text((4, height / 2), letters.left, anchor="lm", **style)
    draw.text((width - 4, height / 2), letters.right, anchor="rm", **style)
    draw.text((width / 2, 3), letters.top, anchor="ma", **style)
    draw.text((width / 2, height - 3), letters.bottom, anchor="md", **style)
    return picture


def _legend(screen: Screen) -> str:
    entries = [
        f'<span style="margin-right:14px;white-space:nowrap">{html.swatch(entry.colour, entry.form)}'
        f"{html.text(entry.name)}</span>"
        for entry in screen.legend
    ]
    scale = screen.map
    if scale is None:
        return f"<div>{''.join(entries)}</div>"
    inks = np.rint(np.asarray(scale.colours) * 255).astype(int)
    stops = ",".join(f"rgba({r},{g},{b},{a / 255:.2f})" for r, g, b, a in inks.tolist())
    low, *_, high = scale.ticks
    bar = (
        f"<div>{html.text(scale.title)}: {html.text(low)} {html.text(scale.ends[0])} "
        f'<span style="display:inline-block;width:160px;height:9px;'
        f'background:linear-gradient(90deg,{stops}),#000"></span> '
        f"{html.text(high)} {html.text(scale.ends[1])}; {html.text(scale.note)}</div>"
    )
    return f"<div>{''.join(entries)}</div>{bar}"


def curves_svg(curves: Curves, classes: Sequence[str], cursor: int | None) -> str:
    """Return the loss, its weights and Dice as SVG, side by side."""
    shown = [plot for plot in PLOTS if plot.key in _CURVES and plot in curves.plots()]
    drawn = "".join(_plot(curves, plot, classes, cursor) for plot in shown)
    return f'<div style="display:flex;flex-wrap:wrap;gap:12px">{drawn}</div>{changes_html(curves)}'


def _plot(curves: Curves, plot: Plot, classes: Sequence[str], cursor: int | None) -> str:
    """Return one plot as SVG with its legend."""
    series = {
        name: (x, y) for name, (x, y) in curves.series(plot.key).items() if len(x) and np.isfinite(y).any()
    }
    if not series:
        return ""
    last = max(float(x[-1]) for x, _ in series.values()) or 1.0
    known = np.concatenate([y[np.isfinite(y)] for _, y in series.values()])
    low, high = plot.limits or (min(0.0, float(known.min())), float(known.max()) or 1.0)
    left, top, bottom = 34, 13, 16
    palette = ClassColours(tuple(classes))

    def at(x: float, y: float) -> str:
        across = left + (_W - left - 4) * x / last
        down = top + (_H - top - bottom) * (1 - (y - low) / ((high - low) or 1.0))
        return f"{across:.1f},{down:.1f}"

    drawn, legend = [], []
    for name, (x, y) in series.items():
        ink = line_colour(name, series, palette) or "currentColor"
        points = " ".join(at(float(a), float(b)) for a, b in zip(x, y, strict=True) if np.isfinite(b))
        if len(x) == 1:
            cx, cy = points.split(",")
            drawn.append(f'<circle cx="{cx}" cy="{cy}" r="2.5" fill="{ink}"/>')
        else:
            drawn.append(f'<polyline points="{points}" fill="none" stroke="{ink}" stroke-width="1.4"/>')
        shade = "#666" if ink == "currentColor" else ink
        legend.append(
            '<span style="display:inline-block;white-space:nowrap;margin-right:8px">'
            f"{html.swatch(shade)}{html.text(line_title(name, palette))}</span>"
        )
    for mark in curves.marks():
        across = at(float(mark.step), low).split(",")[0]
        drawn.append(
            f'<line x1="{across}" x2="{across}" y1="{top}" y2="{_H - bottom}" stroke="{colour_of(mark)}" '
            'stroke-dasharray="2 3">'
            f"<title>{html.text(mark.text)}</title></line>"
        )
    for step, text, ink in badges_of(curves, last):
        across = at(step, low).split(",")[0]
        anchor = "end" if float(across) > _W - 20 else "middle"
        drawn.append(f'<text x="{across}" y="{top - 3}" text-anchor="{anchor}" fill="{ink}">{text}</text>')
    if cursor is not None:
        across = at(float(min(cursor, last)), low).split(",")[0]
        drawn.append(f'<line x1="{across}" x2="{across}" y1="{top}" y2="{_H - bottom}" stroke="{HERE}"/>')
    axes = (
        f'<path d="M{left},{top}V{_H - bottom}H{_W - 4}" fill="none" stroke="currentColor" stroke-opacity=".5"/>'
        f'<text x="{left - 3}" y="{top + 9}" text-anchor="end">{high:.3g}</text>'
        f'<text x="{left - 3}" y="{_H - bottom}" text-anchor="end">{low:.3g}</text>'
        f'<text x="{_W - 4}" y="{_H - 3}" text-anchor="end">step {last:.0f}</text>'
    )
    return (
        f'<div style="width:{_W}px"><div>{html.text(plot.title)} ({html.text(plot.domain)})</div>'
        f'<svg width="{_W}" height="{_H}" viewBox="0 0 {_W} {_H}" role="img" '
        f'aria-label="{html.text(plot.title)}" style="font-size:9px;fill:currentColor">{axes}{"".join(drawn)}</svg>'
        f'<div style="font-size:11px">{"".join(legend)}</div></div>'
    )
