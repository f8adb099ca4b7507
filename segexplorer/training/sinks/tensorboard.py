"""TensorBoard: curves, pictures of the watched cases, and how the loss's weights spread over regions.

Written to `tensorboard/` in the run folder; `tensorboard --logdir segexplorer-runs` shows all runs side by side.
A resume opens a further file there and marks the step from which on earlier files are superseded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import require
from segexplorer.core.events import Event, ParameterApplied, StepDone, ValidationDone, WatchedDone
from segexplorer.core.fields import parameter
from segexplorer.training.sinks.base import Attempt, Sink, SinkSpec, registry
from segexplorer.training.sinks.pictures import PlaneView
from segexplorer.training.sinks.scalars import scalars
from segexplorer.training.snapshots import WatchedSnapshot

FOLDER = "tensorboard"


@registry.register
class TensorBoard(SinkSpec):
    """Writes curves, pictures of the watched cases and histograms of regions for TensorBoard.

    Under `train/` are loss, terms, their weights, learning rate and gradient norm of each step; under `epoch/` the
    means over it and what adapts; under `validation/` the loss, the mean Dice, and means of all metrics by class.
    Pictures show one axial slice: image, truth, prediction, errors. Needs the extra `tensorboard`.
    """

    display_name: ClassVar[str] = "TensorBoard"
    reference: ClassVar[str] = "https://www.tensorflow.org/tensorboard"
    kind: Literal["tensorboard"] = "tensorboard"
    every_steps: int = parameter(
        1,
        title="Every",
        description="Curves of training get a point after this many steps.",
        unit="steps",
        ge=1,
    )
    pictures: bool = parameter(
        True, title="Pictures", description="Show a slice of the watched cases at every validation."
    )
    histograms: bool = parameter(
        True,
        title="Histograms of regions",
        description="Show how alpha, beta and the errors spread over the regions of a loss that has regions.",
    )

    def open(self, attempt: Attempt) -> Sink:
        """Return a writer of one attempt.

        Raises
        ------
        MissingExtraError
            When the package tensorboard is not installed.
        """
        purpose = "The sink tensorboard"
        require("tensorboard", "tensorboard", purpose)
        writer = require("torch.utils.tensorboard", "tensorboard", purpose).SummaryWriter(
            log_dir=str(attempt.folder / FOLDER),
            # TensorBoard drops what earlier files hold from this step on
            purge_step=attempt.step + 1 if attempt.number > 1 else None,
        )
        return _Writer(self, writer, attempt)


class _Writer(Sink):
    def __init__(self, spec: TensorBoard, writer: Any, attempt: Attempt) -> None:
        self._spec, self._writer, self._attempt = spec, writer, attempt
        self._views: dict[str, PlaneView] = {}
        # an epoch's end that was emitted but not saved is emitted again, at a step that is not superseded
        self._told = {type(event) for event in attempt.earlier if event.step == attempt.step}
        if attempt.number == 1:
            writer.add_text("experiment", f"```yaml\n{attempt.experiment.to_yaml()}\n```", 0)

    def event(self, event: Event) -> None:
        if self._is_repeated(event):
            return
        if not isinstance(event, StepDone) or event.step % self._spec.every_steps == 0:
            for name, value in scalars(event).items():
                self._writer.add_scalar(name, value, event.step)
        if isinstance(event, ValidationDone):
            self._writer.flush()
        elif isinstance(event, ParameterApplied):
            text = f"`{event.field}` became {event.value} (was {event.previous})"
            self._writer.add_text("changes", text, event.step)

    def watched(self, snapshot: WatchedSnapshot) -> None:
        repeated = snapshot.step == self._attempt.step and WatchedDone in self._told
        if snapshot.partial or repeated:
            return  # of a step by hand only one slab is new
        if self._spec.pictures:
            picture = self._view(snapshot).picture(snapshot.prediction)
            self._writer.add_image(
                f"{snapshot.role}/{snapshot.case}", picture, snapshot.step, dataformats="HWC"
            )
        if self._spec.histograms and snapshot.regions is not None:
            names = ("background", *snapshot.class_names)
            for tag, values in _by_class(snapshot.regions.values, names):
                self._writer.add_histogram(f"{snapshot.role} regions/{tag}", values, snapshot.step)

    def close(self) -> None:
        self._writer.close()

    def _is_repeated(self, event: Event) -> bool:
        return event.step == self._attempt.step and type(event) in self._told

    def _view(self, snapshot: WatchedSnapshot) -> PlaneView:
        """Return the slice of a case, read once: the image does not change while its prediction does."""
        if snapshot.case not in self._views:
            image = self._attempt.case(snapshot.case).images[0]
            self._views[snapshot.case] = PlaneView.of(
                np.asarray(image.array), snapshot.truth, snapshot.affine, snapshot.scheme
            )
        return self._views[snapshot.case]


def _by_class(
    reported: Mapping[str, NDArray[np.float32]], names: tuple[str, ...]
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield the values of regions by "alpha/liver", without regions that the loss skips."""
    for name, rows in reported.items():
        for class_name, row in zip(names, rows, strict=True):
            if (values := row[np.isfinite(row)]).size:
                yield f"{name}/{class_name}", values
