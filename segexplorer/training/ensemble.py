"""Several runs that predict together: the folds or seeds of a study, whose probabilities are averaged."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.core.events import Progress
from segexplorer.data import geometry
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
        if not probabilities and len(self.predictors) > 1 and self._divide_alike():
            return (yield from self._together(images))
        needed = probabilities or len(self.predictors) > 1
        self._require_memory(images, needed)
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
            classes = self.classes.scheme.decide(mean)
        return Prediction(self._label(images[0], classes, concerns), mean if probabilities else None)

    def _label(self, image: Volume, classes: NDArray[np.uint8], concerns: Iterable[str]) -> Volume:
        label = image.with_array(self.classes.decode(classes), label_names=self.classes.label_names)
        for concern in concerns:
            label = label.with_note(concern)
        return label

    def _divide_alike(self) -> bool:
        return len({predictor.division for predictor in self.predictors}) == 1

    def _require_memory(self, images: Sequence[Volume], needed: bool) -> None:
        """Refuse probabilities of all voxels at once where they take more than a case may.

        Raises
        ------
        DataError
            With both sizes.
        """
        count = 4 * (len(self.classes.names) + 1) * math.prod(images[0].shape)
        count *= 1 if len(self.predictors) == 1 else 2  # those of a network, and their mean
        most = min(predictor.runtime.case_bytes for predictor in self.predictors)
        if needed and count > most:
            why = "" if self._divide_alike() else ", for the runs cut it into different windows"
            raise DataError(
                f"The probabilities of all voxels of this case would take {count / 1e9:,.0f} GB{why}; "
                f"a case may take {most / 1e9:,.1f} GB here.",
                "Predict labels alone, with one run or with runs of the same settings, on a larger machine, or set "
                "compute.case_gb.",
            )

    def _together(self, images: Sequence[Volume]) -> Generator[Progress, None, Prediction]:
        """Predict with all networks at the same time, so that only pieces of their probabilities exist."""
        total, count = self.windows(images), len(self.predictors)
        waiting: list[deque[Piece]] = [deque() for _ in self.predictors]
        sources = [
            predictor.class_steps(images, receive=partial(_keep, pieces), share=count)
            for predictor, pieces in zip(self.predictors, waiting, strict=True)
        ]
        done, finished = [0] * count, [False] * count
        concerns: dict[str, None] = {}
        full = geometry.canonical_grid(images[0].shape, images[0].affine)
        labels, scheme = np.zeros(full.shape, np.uint8), self.classes.scheme
        while not all(finished):
            for n, source in enumerate(sources):
                while not waiting[n] and not finished[n]:
                    try:
                        at = next(source)
                    except StopIteration as end:
                        finished[n] = True
                        concerns.update(dict.fromkeys(end.value.concerns))
                        break
                    done[n] = at.done
                    yield Progress(activity=at.activity, done=sum(done), total=total)
            while all(waiting):
                pieces = [own.popleft() for own in waiting]
                assert all(place == pieces[0][0] for place, _ in pieces)
                mean = pieces[0][1].copy()
                for _, more in pieces[1:]:
                    mean += more
                labels[pieces[0][0]] = scheme.decide(mean / len(pieces))
        classes = np.ascontiguousarray(geometry.from_canonical(labels, images[0].affine))
        return Prediction(self._label(images[0], classes, concerns))


Piece = tuple[tuple[slice, ...], NDArray[np.float32]]
"""Place in the case's own grid, in closest-canonical order, and (C, ...) probabilities."""


def _keep(pieces: deque[Piece], place: tuple[slice, ...], probabilities: NDArray[np.float32]) -> None:
    pieces.append((place, probabilities))
