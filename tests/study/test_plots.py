"""Plots of a comparison: each in every format, with what its picture must say, and a remedy without matplotlib."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.transforms import Bbox
from PIL import Image

from segexplorer.core.events import CaseScore
from segexplorer.frontends.cli.app import run as cli
from segexplorer.study import compare, plots
from segexplorer.study.comparison import Comparison
from segexplorer.study.plots import (
    FORMATS,
    PLOTS,
    boxes,
    critical_difference,
    differences,
    pairs,
    write_plots,
)

RunMaker = Callable[..., Path]
LOSSES = {"dice": 0.0, "tversky": 0.15, "adaptive_tversky_cross_entropy": 0.01}


@pytest.fixture
def folders(make_run: RunMaker) -> list[Path]:
    rng = np.random.default_rng(0)
    case = rng.normal(size=9) * 0.05
    found = []
    for loss, shift in LOSSES.items():
        for seed in range(3):
            values = 0.6 + shift + case + 0.01 * rng.normal() + 0.01 * rng.normal(size=9)
            scores = [
                CaseScore(
                    case=f"c{i}",
                    class_name="liver",
                    role="validation",
                    state="scored",
                    metrics={"dice": float(v), "hd95": float(20 * (1 - v))},
                    false_positive_ml=0.0,
                    false_negative_ml=0.0,
                    truth_ml=1.0,
                )
                for i, v in enumerate(values)
            ]
            found.append(make_run(f"{loss}{seed}", scores, loss=loss, seed=seed))
    return found


@pytest.fixture
def comparison(folders: list[Path]) -> Comparison:
    return compare(folders, metrics=["dice", "hd95"], margins={"dice": 0.1})


def texts(figure: object) -> str:
    from matplotlib.text import Text

    return " ".join(t.get_text() for t in figure.findobj(Text))  # type: ignore[attr-defined]


def test_every_plot_in_every_format_and_the_same_bytes_again(
    comparison: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = replace(comparison, metrics=("dice",))
    files = dict(write_plots(one, FORMATS))
    assert set(files) == {f"dice_{name}.{suffix}" for name in PLOTS for suffix in FORMATS}
    for name, content in files.items():
        if name.endswith("png"):
            assert Image.open(io.BytesIO(content)).width == 1280
        elif name.endswith("svg"):
            assert ET.fromstring(content).tag.endswith("svg")
        else:
            assert content.startswith(b"%PDF")
    monkeypatch.setattr(plots, "PLOTS", {"boxes": boxes})
    again = dict(write_plots(one, FORMATS))
    assert len(again) == 3 and all(files[name] == content for name, content in again.items())


@pytest.mark.parametrize("name", PLOTS)
def test_no_text_lies_over_another(comparison: Comparison, name: str) -> None:
    for metric in comparison.metrics:
        figure = PLOTS[name](comparison, metric)
        assert figure is not None
        FigureCanvasAgg(figure).draw()
        shown = list(figure.texts)
        for axes in figure.axes:
            shown += [axes.title, axes.xaxis.label, axes.yaxis.label, *axes.texts]
        shown = [t for t in shown if t.get_text().strip()]
        boxes_of = [t.get_window_extent() for t in shown]
        for i, one in enumerate(boxes_of):
            assert one.x0 >= 0 and one.x1 <= figure.bbox.x1 + 1, shown[i].get_text()
            for k in range(i):
                overlap = Bbox.intersection(one, boxes_of[k])
                assert overlap is None or overlap.width * overlap.height < 4, (
                    shown[i].get_text(),
                    shown[k].get_text(),
                )


def test_boxes_show_every_case_and_the_mean(comparison: Comparison) -> None:
    figure = boxes(comparison, "dice")
    assert figure is not None
    dots = figure.axes[0].collections
    assert [len(d.get_offsets()) for d in dots] == [9, 9, 9]
    shown = sorted(float(x) for x, _ in dots[1].get_offsets())
    assert shown == pytest.approx(sorted(comparison.conditions[1].case_means["dice"].values()))
    assert "9 cases, each the mean of seeds 0, 1, 2" in texts(figure).replace("\n", " ")


def test_pairs_count_what_is_higher_or_lower(comparison: Comparison) -> None:
    higher, lower = pairs(comparison, "dice"), pairs(comparison, "hd95")
    assert higher is not None and lower is not None
    assert "higher in 9 of 9" in texts(higher) and "lower in 9 of 9" in texts(lower)
    assert " in mm\nliver; lower is better" in texts(lower)


def test_differences_have_stars_and_the_margin(comparison: Comparison) -> None:
    figure = differences(comparison, "dice")
    assert figure is not None
    rows = {d.condition: d for d in comparison.differences_of("dice")}
    assert rows["tversky"].marked and rows["adaptive_tversky_cross_entropy"].equivalent
    assert texts(figure).count("p < 0.001 *") == 1 and "±0.1" in texts(figure)


def test_a_critical_difference_diagram_joins_what_is_not_distinguished(comparison: Comparison) -> None:
    (ranking, _) = comparison.rankings
    assert ranking.conditions[0] == "tversky" and ranking.groups == ((1, 2),)
    figure = critical_difference(comparison, "dice")
    assert figure is not None and "tversky (1.00)" in texts(figure)
    thick = [line for line in figure.axes[0].lines if line.get_linewidth() == 4.0]
    assert len(thick) == 1


def test_the_command_writes_them_and_says_what_is_missing(
    folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [str(f) for f in folders]
    out = tmp_path / "plots"
    arguments = ["compare", *runs, "--metrics", "dice", "--plots", str(out)]
    assert cli([*arguments, "--format", "png,svg"]) == 0
    assert {p.name for p in out.iterdir()} == {f"dice_{name}.{f}" for name in PLOTS for f in ("png", "svg")}
    assert "10 plots in" in capsys.readouterr().err
    assert cli([*arguments, "--format", "gif"]) == 2
    assert "Known: svg, png, pdf" in capsys.readouterr().err
    assert cli(["compare", *runs[:3], "--metrics", "dice", "--plots", str(out)]) == 2  # one condition
    (tmp_path / "file").touch()
    assert cli(["compare", *runs, "--plots", str(tmp_path / "file")]) == 2
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    capsys.readouterr()
    assert cli(arguments) == 2
    assert 'pip install "segexplorer[plots]"' in " ".join(capsys.readouterr().err.split())
