"""Figures of a run for papers and talks: a montage of a case, its curves, its history as a moving picture.

They have the colours of the window. A montage and curves are drawn by matplotlib (the extra `plots`) as SVG, PDF or
PNG at the width of a column; lines and letters stay lines and letters. The history is a GIF, drawn by Pillow.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from segexplorer.core import colours
from segexplorer.core.atomic_files import atomic_write
from segexplorer.core.errors import DataError, SpecError, require
from segexplorer.core.events import Planned
from segexplorer.core.label_scheme import LabelScheme
from segexplorer.frontends.report.drawing import BARS_MM, PENS, scale_bar
from segexplorer.study.plots import FORMATS, GREY, INK, PALE, STYLE, Format
from segexplorer.training.history import open_run
from segexplorer.training.step_columns import events_of
from segexplorer.viewmodels.case_slices import OPACITY, CaseSlice, Film, Raster
from segexplorer.viewmodels.errors import COLOURS, Code, LegendEntry, error_codes
from segexplorer.viewmodels.outlines import Line, Lines, Outlines
from segexplorer.viewmodels.report import CaseSection, Chart, Panel, ShownRun, case_section, charts

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from segexplorer.training.run import Run

Subject = Literal["montage", "curves", "history"]
SUBJECTS: tuple[Subject, ...] = get_args(Subject)
MM_PER_INCH = 25.4
POINTS = 0.75
"""Points per pixel of the page, in which the widths of lines are given."""
FRAME_S, LAST_FRAME_S = 0.6, 2.0
"""How long each frame of a history is seen, and the last one."""


def figure(
    run: Run | str | Path,
    output: str | Path,
    *,
    of: Subject | None = None,
    case: str = "",
    names: bool = False,
    width_mm: float = 180.0,
    dpi: int = 300,
    overwrite: bool = False,
) -> Path:
    """Write a figure of a run.

    >>> segexplorer.figure("runs/liver", "montage.pdf", width_mm=180)  # doctest: +SKIP
    >>> segexplorer.figure("runs/liver", "history.gif")  # doctest: +SKIP

    Parameters
    ----------
    run
        A run, or its folder.
    output
        The file: .svg, .pdf or .png of a montage or of curves, .gif of a history.
    of
        "montage": three planes through the largest error of a case, and the maps of its loss; "curves": loss,
        Dice and error volumes; "history": the recorded predictions of the case, one after the other. By default
        what the name of the file suggests.
    case
        A watched case, or the worst or best validation case; by default the watched one that was not trained on.
    names
        Whether the case is named in the figure.
    width_mm, dpi
        Width, and pixels per inch of a PNG or GIF.
    overwrite
        Whether to replace a file of that name.

    Raises
    ------
    SpecError
        When the file exists, or cannot be of that kind.
    DataError
        When the run has no such case, or no recorded prediction.
    MissingExtraError
        Without matplotlib, for what it draws.
    """
    folder = Path(run) if isinstance(run, (str, Path)) else run.folder
    path = Path(output)
    subject = _subject(path, of)
    if path.exists() and not overwrite:
        raise SpecError(f"{path} already exists.", "Choose another file name, or add --overwrite.")
    if not 10 <= width_mm <= 2000:
        raise SpecError(f"A figure is not {width_mm:g} mm wide.", "Choose a width from 10 to 2000 mm.")
    if not 50 <= dpi <= 1200:
        raise SpecError(f"{dpi} pixels per inch are not drawn.", "Choose 50 to 1200.")
    open_run(folder)
    if subject == "history":
        section = case_section(folder, case, named=names)
        content = history_gif(section, round(width_mm / MM_PER_INCH * dpi))
    else:
        content = _drawn(folder, subject, case, path, named=names, width_mm=width_mm, dpi=dpi)
    atomic_write(path.absolute(), content)
    return path


def _subject(path: Path, of: Subject | None) -> Subject:
    suffix = path.suffix.lower().removeprefix(".")
    subject: Subject = of or ("history" if suffix == "gif" else "montage")
    if subject not in SUBJECTS:
        raise SpecError(f"There is no figure {of!r}.", f"Known: {', '.join(SUBJECTS)}.")
    kinds = ("gif",) if subject == "history" else FORMATS
    if suffix not in kinds:
        raise SpecError(
            f"A figure of {subject} is not written as {path.name}.",
            f"Choose a name that ends with {' or '.join(f'.{kind}' for kind in kinds)}.",
        )
    return subject


def _drawn(
    folder: Path, subject: Subject, case: str, path: Path, *, named: bool, width_mm: float, dpi: int
) -> bytes:
    matplotlib = require("matplotlib", "plots", "A figure")
    suffix: Format = next(f for f in FORMATS if path.suffix.lower() == f".{f}")
    with matplotlib.rc_context({**STYLE, "svg.fonttype": "none", "font.size": 8, "axes.titlesize": 8}):
        if subject == "montage":
            made = montage(case_section(folder, case, named=named), width_mm)
        else:
            record = ShownRun(folder, named=named)
            events = record.events()
            planned = next(reversed(events_of(events, Planned)), None)
            made = curves(charts(events, () if planned is None else planned.classes), width_mm)
        stream = io.BytesIO()
        undated: dict[str, dict[str, Any]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}
        made.savefig(stream, format=suffix, dpi=dpi, facecolor="white", metadata=undated[suffix])
    return stream.getvalue()


# ---- a montage


def montage(section: CaseSection, width_mm: float) -> Figure:
    """Draw the slices of a case beside each other, the maps of its loss below, and a legend."""
    if not section.panels:
        raise DataError(
            f"There is no picture of {section.title}.", " ".join(section.notes) or "Choose another case."
        )
    rows = [section.panels, *([section.maps] if section.maps else [])]
    columns = max(map(len, rows))
    width = width_mm / MM_PER_INCH
    side = width / columns
    heights = [side * min(max(max(p.shown.height / p.shown.width for p in row), 0.5), 1.3) for row in rows]
    characters = max(12, round(side * 72 / 3.9))
    titles = [[textwrap.fill(p.title, characters) for p in row] for row in rows]
    below = [0.1 + 0.12 * max(t.count("\n") + 1 for t in row) for row in titles]
    bars = [0.3 if any(p.scale for p in row) else 0.0 for row in rows]
    legend_height = 0.2 + 0.16 * math.ceil(len(section.legend) / 3)
    total = 0.3 + sum(heights) + sum(below) + sum(bars) + legend_height
    made: Figure = require("matplotlib.figure", "plots", "A figure").Figure((width, total))
    made.text(0.005, 1 - 0.07 / total, _heading(section), va="top", fontsize=8)
    top = total - 0.3
    for row, named, height, room, bar_room in zip(rows, titles, heights, below, bars, strict=True):
        for column, (panel, title) in enumerate(zip(row, named, strict=True)):
            axes = made.add_axes(
                (column / columns + 0.004, (top - height) / total, 1 / columns - 0.008, height / total)
            )
            draw_slice(axes, panel.shown)
            axes.set_anchor("N")
            axes.set_title(title, y=-0.01, va="top", pad=-1, fontsize=7)
            if panel.scale is not None:
                bar = made.add_axes(
                    (
                        column / columns + 0.05,
                        (top - height - room - 0.07) / total,
                        1 / columns - 0.1,
                        0.07 / total,
                    )
                )
                _draw_bar(bar, panel)
        top -= height + room + bar_room
    made.legend(
        handles=[_handle(entry) for entry in section.legend],
        loc="lower left",
        ncols=3,
        frameon=False,
        fontsize=7,
        handlelength=1.6,
    )
    return made


def _heading(section: CaseSection) -> str:
    return f"{section.title}, {section.held}. {section.about}"


def draw_slice(axes: Axes, shown: CaseSlice) -> None:
    """Draw a slice with its outlines, letters and a scale bar into axes, in mm."""
    from matplotlib.collections import LineCollection

    axes.set_facecolor("black")
    if shown.image is not None:
        axes.imshow(shown.image.pixels, cmap="gray", vmin=0, vmax=255, extent=_extent(shown.image))
    for raster in shown.overlays:
        axes.imshow(raster.pixels, extent=_extent(raster), interpolation="nearest")
    for line, segments in shown.lines.items():
        for colour, thickness, opacity in PENS[line]:
            axes.add_collection(
                LineCollection(
                    list(segments),
                    colors=colour,
                    linewidths=0.6 * POINTS * thickness,
                    alpha=opacity,
                    capstyle="butt",
                )
            )
    axes.set_xlim(shown.left, shown.left + shown.width)
    axes.set_ylim(shown.top + shown.height, shown.top)
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)
    _write_around(axes, shown)


def _extent(raster: Raster) -> tuple[float, float, float, float]:
    return raster.left, raster.left + raster.width, raster.top + raster.height, raster.top


def _write_around(axes: Axes, shown: CaseSlice) -> None:
    # a dark paper behind them: with a rim, letters would become outlines in an SVG
    paper = {"facecolor": "black", "alpha": 0.45, "linewidth": 0, "pad": 0.8}
    places: Sequence[tuple[float, float, str, str, str]] = (
        (0.02, 0.5, shown.letters.left, "left", "center"),
        (0.98, 0.5, shown.letters.right, "right", "center"),
        (0.5, 0.98, shown.letters.top, "center", "top"),
        (0.5, 0.02, shown.letters.bottom, "center", "bottom"),
    )
    for x, y, text, ha, va in places:
        axes.text(
            x, y, text, transform=axes.transAxes, ha=ha, va=va, color="white", fontsize=7, bbox=paper
        )  # fmt: skip
    length = scale_bar(shown.width, shown.width / 3)
    right, bottom = shown.left + 0.97 * shown.width, shown.top + 0.96 * shown.height
    axes.plot([right - length, right], [bottom, bottom], color="black", linewidth=2.4)
    axes.plot([right - length, right], [bottom, bottom], color="white", linewidth=1.4)
    axes.annotate(
        f"{length} mm",
        (right, bottom),
        (0, 3),
        textcoords="offset points",
        ha="right",
        color="white",
        fontsize=6.5,
        bbox=paper,
    )


def _draw_bar(axes: Axes, panel: Panel) -> None:
    scale = panel.scale
    assert scale is not None
    axes.set_facecolor("black")
    axes.imshow(scale.colours[np.newaxis], aspect="auto", extent=(0, 1, 0, 1))
    low, *between, high = scale.ticks
    ends = scale.ends
    places = np.linspace(0, 1, len(scale.ticks))
    axes.set_xticks(places, [f"{low}\n{ends[0]}", *between, f"{high}\n{ends[1]}"], fontsize=6)
    axes.set_yticks([])
    axes.tick_params(length=0, pad=1)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _handle(entry: LegendEntry) -> Any:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
    from matplotlib.patheffects import withStroke

    if entry.form == "line":
        rim = [withStroke(linewidth=2.6, foreground="#999999")]
        return Line2D([], [], color=entry.colour, linewidth=1.3, label=entry.name, path_effects=rim)
    return Patch(facecolor=entry.colour, label=entry.name)


# ---- curves

SHOWN = ("loss", "dice", "validation_loss", "error_volume")


def curves(of: Sequence[Chart], width_mm: float) -> Figure:
    """Draw the curves of a run, two in a row."""
    shown = [chart for key in SHOWN for chart in of if chart.plot.key == key]
    if not shown:
        raise DataError("The run has no curves yet.", "They appear when training starts.")
    columns = min(2, len(shown))
    rows = math.ceil(len(shown) / columns)
    width = width_mm / MM_PER_INCH
    size = (width, rows * width / columns * 0.72)
    made: Figure = require("matplotlib.figure", "plots", "A figure").Figure(size, layout="constrained")
    panels = made.subplots(rows, columns, squeeze=False)
    for axes, chart in zip(panels.flat, shown, strict=False):
        for curve in chart.curves:
            many = len(curve.steps) > 60
            axes.plot(
                curve.steps,
                curve.values,
                "--" if curve.dashed else "-",
                color=curve.colour or INK,
                marker=None if many else "o",
                markersize=2.5,
                linewidth=1.0,
                label=curve.name,
            )
        for mark in chart.marks:
            axes.axvline(mark.step, color=GREY, linewidth=0.6, linestyle=":")
        axes.set_title(chart.plot.title, loc="left", fontsize=8)
        axes.set_xlabel(chart.plot.x_title, fontsize=7)
        axes.set_ylabel(chart.plot.y_title, fontsize=7)
        axes.tick_params(labelsize=7)
        if chart.plot.logarithmic:
            axes.set_yscale("log")
        if chart.plot.limits is not None:
            axes.set_ylim(*chart.plot.limits)
        axes.grid(axis="y", color=PALE, linewidth=0.5)
        if len(chart.curves) > 1:
            axes.legend(frameon=False, fontsize=6)
    for axes in panels.flat[len(shown) :]:
        axes.set_axis_off()
    return made


# ---- a history


def history_gif(section: CaseSection, width: int) -> bytes:
    """Return the recorded predictions of a case as a moving picture of one axial slice, the one with most label."""
    film = section.film
    if film is None:
        raise DataError(
            f"{section.title} has fewer than two recorded predictions.", "Wait for the next validation."
        )
    at = _fullest(film)
    frames = [_frame(film, number, at, width) for number in range(len(film.steps))]
    # one palette for all frames, or their greys would flicker
    together = Image.fromarray(
        np.concatenate([np.asarray(f) for f in frames[:: max(1, len(frames) // 8)]], axis=0)
    )
    palette = together.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    pictures = [f.quantize(palette=palette, dither=Image.Dither.NONE) for f in frames]
    stream = io.BytesIO()
    times = [round(1000 * FRAME_S)] * (len(frames) - 1) + [round(1000 * LAST_FRAME_S)]
    pictures[0].save(
        stream, "GIF", save_all=True, append_images=pictures[1:], duration=times, loop=0, optimize=False
    )
    return stream.getvalue()


def _fullest(film: Film) -> int:
    weight = film.truth if film.truth is not None else film.predictions[-1]
    return int(((weight != 0) & (weight != 255)).sum(axis=(1, 2)).argmax())


def _frame(film: Film, number: int, at: int, width: int) -> Image.Image:
    """Draw one frame: image, errors, outlines, the step, letters and a scale bar."""
    prediction = film.predictions[number][at]
    truth = prediction if film.truth is None else film.truth[at]
    rows, columns = prediction.shape
    height = max(1, round(width * rows * film.pixel_mm[0] / (columns * film.pixel_mm[1])))
    size = (width, height)
    grey = np.zeros((rows, columns), np.uint8) if film.image is None else film.image[at]
    canvas = Image.fromarray(grey).resize(size, Image.Resampling.BILINEAR).convert("RGBA")
    fill = Image.fromarray(_painted(prediction, truth, film.scheme)).resize(size, Image.Resampling.NEAREST)
    canvas.alpha_composite(fill)
    draw = ImageDraw.Draw(canvas, "RGBA")
    scale = (width / columns, height / rows)
    unit = max(1.0, width / 420)
    for line, segments in _outlines(prediction, truth, film.scheme).items():
        for colour, thickness, opacity in PENS[line]:
            ink = (*(round(255 * c) for c in colours.rgba(colour)[:3]), round(255 * opacity))
            for (y0, x0), (y1, x1) in (segments + 0.5).tolist():
                ends = [(x0 * scale[0], y0 * scale[1]), (x1 * scale[0], y1 * scale[1])]
                draw.line(ends, fill=ink, width=max(1, round(thickness * unit)))
    _write_on(draw, film, number, at, size, unit)
    return canvas.convert("RGB")


def _painted(
    prediction: NDArray[np.uint8], truth: NDArray[np.uint8], scheme: LabelScheme
) -> NDArray[np.uint8]:
    codes = error_codes(prediction, truth, scheme=scheme)
    found = np.zeros((*prediction.shape, 4), np.uint8)
    for code in (Code.FALSE_POSITIVE, Code.FALSE_NEGATIVE, Code.WRONG_CLASS):
        found[codes == code] = [round(255 * c) for c in colours.rgba(COLOURS[code], OPACITY["errors"])]
    return found


def _outlines(
    prediction: NDArray[np.uint8], truth: NDArray[np.uint8], scheme: LabelScheme
) -> dict[Line, Lines]:
    """Return the lines of a slice in pixels, the middle of the first one at 0."""
    one = Outlines(truth[np.newaxis], prediction[np.newaxis], None, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), scheme)
    return one.lines(0, 0)


def _write_on(
    draw: ImageDraw.ImageDraw, film: Film, number: int, at: int, size: tuple[int, int], unit: float
) -> None:
    font = ImageFont.load_default(size=round(14 * unit))
    rim = max(1, round(2 * unit))
    width, height = size
    gap = 6 * unit
    letters = film.letters
    texts: Sequence[tuple[float, float, str, str]] = (
        (gap, gap, f"step {film.steps[number]}", "la"),
        (width - gap, gap, f"axial {film.slices[at]}", "ra"),
        (gap, height / 2, letters.left, "lm"),
        (width - gap, height / 2, letters.right, "rm"),
        (width / 2, gap, letters.top, "ma"),
        (width / 2, height - gap, letters.bottom, "md"),
    )
    for x, y, text, anchor in texts:
        draw.text((x, y), text, "white", font, anchor, stroke_width=rim, stroke_fill="black")
    per_pixel = film.pixel_mm[1] * film.predictions[0].shape[2] / width
    length = next((mm for mm in BARS_MM if mm / per_pixel <= width / 4), 1)
    right, bottom = width - gap, height - gap
    draw.rectangle((right - length / per_pixel, bottom - 3 * unit, right, bottom), "white", "black")
    draw.text(
        (right, bottom - 6 * unit), f"{length} mm", "white", font, "rd", stroke_width=rim, stroke_fill="black"
    )
