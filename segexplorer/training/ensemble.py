"""Several runs that predict together: the folds or seeds of a study, whose probabilities are averaged."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.core.events import Progress
from segexplorer.data.volume import Volume
from segexplorer.training.predict import Predictor


@dataclass(frozen=True)
class Prediction:
    """A predicted case.

    Attributes
    ----------
    label
        With the data set's own values, in the first image's grid and index order.
    probabilities
        (C, i, j, k) float32 in the same order, background first; None where they were not asked for.
    """

    label: Volume
    probabilities: NDArray[np.float32] | None = None


class Ensemble:
    """One or several trained networks for the same classes.

    Parameters
    ----------
    predictors
        At least one; several are averaged, each by its probabilities in the case's own grid.

    Raises
    ------
    DataError
        When they were trained on other classes.
    """

    def __init__(self, predictors: Sequence[Predictor]) -> None:
        self.predictors = tuple(predictors)
        self.classes = self.predictors[0].classes
        for other in self.predictors[1:]:
            if other.classes != self.classes:
                raise DataError(
                    f"The runs were trained on other classes: {', '.join(self.classes.names)} and "
                    f"{', '.join(other.classes.names)}.",
                    "Predict with runs of one study.",
                )

    def windows(self, images: Sequence[Volume]) -> int:
        """Return how many windows a case will take with all networks, from its header alone."""
        return sum(predictor.windows(images) for predictor in self.predictors)

    def steps(
        self, images: Sequence[Volume], *, probabilities: bool = False
    ) -> Generator[Progress, None, Prediction]:
        """Predict a case, yielding what it is at; windows are counted over all networks.

        Raises
        ------
        DataError
            When the images are not those that a network takes.
        """
        needed = probabilities or len(self.predictors) > 1
        total, before = self.windows(images), 0
        mean: NDArray[np.float32] | None = None
        concerns: dict[str, None] = {}
        for predictor in self.predictors:
            source = predictor.class_steps(images, probabilities=needed)
            while True:
                try:
                    at = next(source)
                except StopIteration as end:
                    found = end.value
                    break
                yield Progress(activity=at.activity, done=before + at.done, total=total)
            before += predictor.windows(images)
            concerns.update(dict.fromkeys(found.concerns))
            if found.probabilities is not None:
                mean = found.probabilities if mean is None else mean + found.probabilities
        classes = found.classes
        if mean is not None and len(self.predictors) > 1:
            mean /= len(self.predictors)
            classes = np.asarray(mean.argmax(0), np.uint8)
        label = images[0].with_array(self.classes.decode(classes), label_names=self.classes.label_names)
        for concern in concerns:
            label = label.with_note(concern)
        return Prediction(label, mean if probabilities else None)
