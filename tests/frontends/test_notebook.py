"""The notebook face: figures follow a run's events, volumes keep their voxels, missing packages are named."""

from __future__ import annotations

import importlib
import sys
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from psygnal import Signal

from segexplorer.core.errors import MissingExtraError, SpecError
from segexplorer.core.events import (
    Event,
    Planned,
    Progress,
    RunFinished,
    StateChanged,
    StepDone,
    ValidationDone,
    to_json,
)
from segexplorer.frontends import notebook

needs_plotly = pytest.mark.skipif(
    importlib.util.find_spec("plotly") is None, reason="needs the notebook extra"
)
needs_niivue = pytest.mark.skipif(
    importlib.util.find_spec("ipyniivue") is None, reason="needs the notebook extra"
)


class TalkingRun:
    """The part of a run that a figure listens to."""

    events = Signal(Event)

    def __init__(self, folder: Path = Path("no-such-run")) -> None:
        self.folder = folder


@dataclass
class Grid:
    """The part of a volume that a viewer shows."""

    array: NDArray[Any]
    affine: NDArray[np.float64]


def step(number: int, loss: float) -> StepDone:
    return StepDone(
        step=number,
        epoch=1,
        loss=loss,
        terms={"dice": (loss / 2, 1.0), "cross entropy": (loss / 2, 1.0)},
        learning_rate=1e-3,
        gradient_norm=1.0,
        seconds=0.1,
        samples=2,
    )


def lines(figure: Any) -> dict[str, list[float]]:
    return {trace.name: [float(v) for v in trace.y] for trace in figure.data}


@needs_plotly
def test_figure_follows_a_run() -> None:
    run = TalkingRun()
    figure = notebook.curves(run, ("loss",))  # type: ignore[arg-type]
    for number, loss in enumerate([1.0, 0.5, 0.25], start=1):
        run.events.emit(step(number, loss))
    run.events.emit(RunFinished(state="finished", reason="all epochs done", step=3))
    drawn = lines(figure)
    assert drawn["total"] == [1.0, 0.5, 0.25]
    assert set(drawn) == {"total", "dice", "cross entropy"}


@needs_plotly
def test_a_run_that_went_on_before_is_shown_from_its_beginning_and_nothing_twice(tmp_path: Path) -> None:
    past = [replace(step(n, loss), seq=n) for n, loss in enumerate([1.0, 0.5, 0.25], start=1)]
    (tmp_path / "events.jsonl").write_text("".join(to_json(e) + "\n" for e in past))
    run = TalkingRun(tmp_path)
    figure = notebook.curves(run, ("loss",))  # type: ignore[arg-type]
    assert lines(figure)["total"] == [1.0, 0.5, 0.25]
    run.events.emit(past[-1])  # told while the folder was being read
    run.events.emit(replace(step(4, 0.125), seq=4))
    run.events.emit(RunFinished(state="finished", reason="all epochs done", step=4, seq=5))
    assert lines(figure)["total"] == [1.0, 0.5, 0.25, 0.125]


@needs_plotly
def test_title_says_what_the_run_is_at_and_how_long_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook, "REDRAW_SECONDS", 0)
    run = TalkingRun()
    figure = notebook.curves(run, ("loss",))  # type: ignore[arg-type]
    run.events.emit(Planned(steps=40, epochs=4, steps_per_epoch=10, badges=("edited while it ran",)))
    run.events.emit(StateChanged(state="running"))
    run.events.emit(step(1, 1.0))
    assert figure.layout.title.text == "training · epoch 1 of 4, 4 s left · edited while it ran"
    run.events.emit(Progress(activity="validating case 1 of 2", done=3, total=8, step=10))
    assert figure.layout.title.text.startswith("validating case 1 of 2 3 of 8")
    run.events.emit(RunFinished(state="failed", reason="failed", error="No memory.", remedy="Use less."))
    assert figure.layout.title.text.startswith("failed: No memory. Use less.")


@needs_plotly
def test_one_validation_is_seen() -> None:
    figure = notebook.CurvesFigure(("loss", "dice"))
    scored = ValidationDone(
        step=4, epoch=1, loss=0.5, scores=(), mean_dice=0.7, class_dice={"liver": 0.7}, n_used=1, n_absent=0,
        n_missed=0, best=True, seconds=1.0,
    )  # fmt: skip
    figure.take([step(1, 1.0), scored])
    modes = {trace.name: trace.mode for trace in figure.widget.data}
    assert "markers" in modes["liver"] and modes["total"] == "lines"


@needs_plotly
def test_events_of_several_threads_are_all_drawn() -> None:
    run = TalkingRun()
    figure = notebook.curves(run, ("loss",))  # type: ignore[arg-type]
    threads = [threading.Thread(target=run.events.emit, args=(step(n, 1.0 / n),)) for n in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run.events.emit(RunFinished(state="finished", reason="done", step=8))
    assert sorted(lines(figure)["total"]) == sorted(1.0 / n for n in range(1, 9))


@needs_plotly
def test_each_plot_says_what_it_was_measured_on() -> None:
    figure = notebook.CurvesFigure(("loss", "dice"))
    titles = [axis.title.text for axis in figure.widget.select_yaxes()]
    assert "training, patches" in titles[0]
    assert "whole volumes" in titles[1]


@needs_niivue
def test_volume_arrives_with_its_voxels_and_place() -> None:
    affine = np.diag([-2.0, -2.0, 3.0, 1.0])
    image = Grid(np.arange(24, dtype=np.float32).reshape(2, 3, 4), affine)
    label = Grid((image.array > 10).astype(np.uint8), affine)
    viewer = notebook.volumes(image, label)  # type: ignore[arg-type]
    shown = [nibabel.Nifti1Image.from_bytes(layer.data) for layer in viewer.volumes]
    np.testing.assert_array_equal(shown[0].get_fdata(), image.array)
    np.testing.assert_array_equal(shown[1].get_fdata(), label.array)
    np.testing.assert_allclose(shown[0].affine, affine)


@pytest.mark.parametrize(
    ("missing", "call"),
    [
        ("plotly.graph_objects", lambda: notebook.CurvesFigure(("loss",))),
        ("ipyniivue", lambda: notebook.volumes(Grid(np.zeros((2, 2, 2)), np.eye(4)))),  # type: ignore[arg-type]
    ],
)
def test_missing_package_is_named_with_the_command_that_installs_it(
    missing: str, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    if missing != "ipyniivue":
        monkeypatch.setitem(sys.modules, "anywidget", sys)
    with pytest.raises(MissingExtraError, match=r'pip install "segexplorer\[notebook\]"'):
        call()


@pytest.mark.parametrize(("plots", "told"), [(["losss"], "Did you mean loss"), ([], "No plot is chosen")])
def test_a_plot_that_is_not_known_is_reported(plots: list[str], told: str) -> None:
    with pytest.raises(SpecError, match=told):
        notebook.curves("run", plots)
