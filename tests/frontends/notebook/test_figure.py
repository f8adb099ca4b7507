"""A figure in a cell: its code goes once to a page that asks, and the figure whenever it changed."""

from __future__ import annotations

import json
import zlib
from typing import Any

import pytest

from segexplorer.core.events import CheckpointSaved, ParameterApplied, StepDone
from segexplorer.frontends.notebook.curves import CurvesFigure
from segexplorer.frontends.notebook.figure import FigureWidget
from segexplorer.frontends.notebook.forms import close_all
from segexplorer.frontends.notebook.marks import badges_of, changes_html, changes_of
from segexplorer.viewmodels.curves import Curves


@pytest.fixture
def shown() -> Any:
    """A figure with what it has sent: (kind, what was in its buffer)."""
    from plotly.graph_objects import Figure

    widget = FigureWidget(Figure(layout={"height": 200}))
    sent: list[tuple[str, str]] = []

    def send(content: Any, buffers: Any = None) -> None:
        sent.append((content["kind"], zlib.decompress(buffers[0]).decode()))

    widget.send = send
    yield widget, sent
    close_all(widget)


def test_nothing_is_sent_before_a_page_asks_and_the_code_only_to_one_that_has_none(shown: Any) -> None:
    widget, sent = shown
    widget.figure.add_scatter(x=[1, 2], y=[3, 4])
    widget.draw()
    assert sent == []
    widget._on_message(None, {"kind": "ready", "code": True}, [])
    assert [kind for kind, _ in sent] == ["code", "figure"] and "Plotly" in sent[0][1]
    widget._on_message(None, {"kind": "ready", "code": False}, [])
    widget.figure.data[0].y = [3, 5]
    widget.draw()
    assert [kind for kind, _ in sent[2:]] == ["figure", "figure"]
    assert json.loads(sent[-1][1])["data"][0]["y"] == [3, 5]


def test_the_state_that_a_saved_notebook_may_keep_holds_neither_code_nor_figure(shown: Any) -> None:
    widget, _ = shown
    assert sum(len(str(value)) for value in widget.get_state().values()) < 10_000


def step(number: int) -> StepDone:
    return StepDone(
        epoch=1,
        loss=0.5,
        terms={"dice": (0.5, 1.0)},
        learning_rate=1e-3,
        gradient_norm=1.0,
        seconds=0.1,
        samples=1,
        step=number,
    )


def changed(*steps: int) -> Curves:
    curves = Curves()
    for number, step in enumerate(steps):
        for name in ("alpha", "beta"):
            event = ParameterApplied(field=f"loss.{name}", previous=0.5, value=0.1 * number, step=step)
            curves.add(event)
    return curves


def test_changes_of_one_step_are_one_and_numbers_that_would_overlap_are_written_together() -> None:
    curves = changed(10, 12, 14, 60, 100)
    assert [step for step, _ in changes_of(curves)] == [10, 12, 14, 60, 100]
    assert all("loss.alpha" in text and "loss.beta" in text for _, text in changes_of(curves))
    assert [(step, text) for step, text, _ in badges_of(curves, 100)] == [(12, "1–3"), (60, "4"), (100, "5")]
    assert changes_html(curves).count("<div>") == 5 and changes_html(Curves()) == ""


def test_a_figure_that_is_drawn_again_has_no_more_lines_and_texts_than_there_are_marks() -> None:
    figure = CurvesFigure(("loss",))
    curves = changed(10, 60)
    curves.add(step(90))
    curves.add(CheckpointSaved(folder="step_80", pointers=("best",), step=80))
    for cursor in (None, 60, 60, 80):
        figure.draw(curves, (), cursor)
    layout = figure.figure.layout
    assert [note.text for note in layout.annotations][1:] == ["1", "2", "best"]
    assert sorted(shape.x0 for shape in layout.shapes) == [10, 60, 80, 80]
    close_all(figure.widget)


def test_titles_are_apart_also_while_a_plot_has_no_line_yet() -> None:
    figure = CurvesFigure()
    curves = Curves()
    curves.add(step(1))
    figure.draw(curves, (), 1)
    layout = figure.figure.layout
    heights = [note.y for note in layout.annotations]
    assert len(heights) == 4 and sorted(set(heights), reverse=True) == heights
    assert {note.yref for note in layout.annotations} == {"paper"}
    assert {shape.yref for shape in layout.shapes} == {"y domain", "y2 domain"}
    close_all(figure.widget)
