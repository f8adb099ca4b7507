"""The notebook frontend: live curves of a run, and volumes with labels over them, in Jupyter.

>>> from segexplorer.frontends import notebook
>>> run = segexplorer.Session().prepare(experiment)  # doctest: +SKIP
>>> notebook.curves(run)  # the last line of a cell; it moves while run.start() trains  # doctest: +SKIP
>>> notebook.volumes(case.images[0], case.label)  # doctest: +SKIP
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segexplorer.core.errors import SpecError, did_you_mean, require
from segexplorer.core.events import Event, RunFinished
from segexplorer.training.history import drop_superseded, open_run, read_events
from segexplorer.training.replay import Replay
from segexplorer.viewmodels.curves import PLOTS, Curves, Plot
from segexplorer.viewmodels.status import Status

if TYPE_CHECKING:
    from segexplorer.data.volume import Volume
    from segexplorer.training.run import Run

REDRAW_SECONDS = 0.5
LABEL_OPACITY = 0.5
DEFAULT_PLOTS = ("loss", "weights", "dice", "learning_rate")


def curves(run: Run | Replay | str | Path, plots: Sequence[str] = DEFAULT_PLOTS) -> Any:
    """Return a figure of a run's curves: what is there by now, and, of a `Run`, what comes.

    Parameters
    ----------
    run
        A run or a `training.replay.Replay`, which moves the figure while it is iterated or started, or the folder
        of a run.
    plots
        Keys of `viewmodels.curves.PLOTS`, one below the other.

    Returns
    -------
    plotly.graph_objects.FigureWidget

    Raises
    ------
    SpecError
        For a plot that is not known, or none.
    MissingExtraError
        When plotly or anywidget is not installed.
    """
    known = [plot.key for plot in PLOTS]
    for key in plots:
        if key not in known:
            raise SpecError(f"There is no plot '{key}'.", did_you_mean(key, known))
    if not plots:
        raise SpecError("No plot is chosen.", f"Known: {', '.join(known)}.")
    figure = CurvesFigure(plots)
    if isinstance(run, (str, Path)):
        figure.take(open_run(run).events())
    else:
        run.events.connect(lambda event: figure.follow(event))  # a bound method would be referenced weakly
        if not isinstance(run, Replay):  # which emits recorded events by itself
            figure.take(drop_superseded(read_events(run.folder)))
    return figure.widget


class CurvesFigure:
    """A plotly figure fed by events: the view of a `Curves` and a `Status` model.

    Events may come from the thread that trains while the notebook goes on; each is taken once.
    """

    def __init__(self, plots: Sequence[str]) -> None:
        require("anywidget", "notebook", "Live figures in a notebook")
        graph = require("plotly.graph_objects", "notebook", "Live figures in a notebook")
        subplots = require("plotly.subplots", "notebook", "Live figures in a notebook")
        self._scatter = graph.Scatter
        self._model, self._status = Curves(), Status()
        self._lock = threading.Lock()
        self._newest = (0, 0)
        self._plots = [plot for plot in PLOTS if plot.key in plots]
        titles = [plot.title for plot in self._plots]
        grid = subplots.make_subplots(rows=len(titles), shared_xaxes=True, subplot_titles=titles)
        self.widget = graph.FigureWidget(grid)
        for row, plot in enumerate(self._plots, start=1):
            scale = "log" if plot.logarithmic else "linear"
            limits = list(plot.limits) if plot.limits is not None else None
            self.widget.update_yaxes(title_text=plot.y_title, type=scale, range=limits, row=row, col=1)
        self.widget.update_xaxes(title_text=PLOTS[0].x_title, row=len(titles), col=1)
        self.widget.update_layout(height=80 + 260 * len(titles))
        self._lines: dict[tuple[str, str], int] = {}
        self._drawn_at, self._drawn_revision = 0.0, -1

    def take(self, events: Sequence[Event]) -> None:
        """Add events and draw."""
        with self._lock:
            for event in events:
                self._add(event)
            self._draw()

    def follow(self, event: Event) -> None:
        """Add one event of a run that goes on; draws now and then, and at the end."""
        with self._lock:
            self._add(event)
            if isinstance(event, RunFinished) or time.monotonic() - self._drawn_at > REDRAW_SECONDS:
                self._draw()

    def _add(self, event: Event) -> None:
        order = (event.attempt, event.seq)
        if event.seq and order <= self._newest:
            return  # it was in the folder already, or has come while the folder was read
        self._newest = max(order, self._newest)
        self._model.add(event)
        self._status.add(event)

    def _draw(self) -> None:
        with self.widget.batch_update():
            shown = filter(None, (self._status.headline, self._status.progress, *self._status.badges))
            self.widget.layout.title.text = " · ".join(dict.fromkeys(shown))
            if self._model.revision != self._drawn_revision:
                for row, plot in enumerate(self._plots, start=1):
                    for name, (steps, values) in self._model.series(plot.key).items():
                        self._line(plot, name, row).update(x=steps, y=values)
        self._drawn_at, self._drawn_revision = time.monotonic(), self._model.revision

    def _line(self, plot: Plot, name: str, row: int) -> Any:
        if (plot.key, name) not in self._lines:
            self._lines[plot.key, name] = len(self.widget.data)
            # a line through one validation is nothing to be seen
            mode = "lines+markers" if plot.domain == "whole volumes" else "lines"
            trace = self._scatter(
                name=name, mode=mode, legendgroup=plot.key, legendgrouptitle_text=plot.title
            )
            self.widget.add_trace(trace, row=row, col=1)
        return self.widget.data[self._lines[plot.key, name]]


def volumes(image: Volume, *labels: Volume) -> Any:
    """Return a viewer of an image in three planes, with labels over it.

    Parameters
    ----------
    labels
        Label volumes, each with a grid of its own: the truth, a prediction, an error map.

    Returns
    -------
    ipyniivue.NiiVue

    Raises
    ------
    MissingExtraError
        When ipyniivue is not installed.
    """
    niivue = require("ipyniivue", "notebook", "Volumes in a notebook")
    viewer = niivue.NiiVue()
    layers = [niivue.Volume(name="image.nii", data=_nifti(image), colormap="gray")]
    for index, label in enumerate(labels):
        data = _nifti(label, integer=True)
        layers.append(
            niivue.Volume(name=f"label{index}.nii", data=data, colormap="random", opacity=LABEL_OPACITY)
        )
    viewer.load_volumes(layers)
    return viewer


def _nifti(volume: Volume, *, integer: bool = False) -> bytes:
    """Return a volume as the bytes of a NIfTI-1 file."""
    import nibabel

    array = np.asarray(volume.array, dtype=np.int16 if integer else np.float32)
    content: bytes = nibabel.Nifti1Image(array, volume.affine).to_bytes()
    return content
