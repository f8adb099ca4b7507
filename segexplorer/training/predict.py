"""Prediction of whole volumes, in their own grid, with a trained network."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.core.events import Progress
from segexplorer.core.label_scheme import EXCLUSIVE, LabelScheme
from segexplorer.data.case import Case, CaseRef, ClassMap
from segexplorer.data.geometry import Grid
from segexplorer.data.io import open_volume
from segexplorer.data.seen_images import SeenImages, own_spacing
from segexplorer.data.transforms import FittedPreprocessing
from segexplorer.data.volume import Volume
from segexplorer.metrics.calibration import CalibrationCounts
from segexplorer.networks.base import padded
from segexplorer.training.checkpoint import Checkpoint, Pointer, open_checkpoint
from segexplorer.training.compute import Compute, Runtime, resolve_compute
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.own_grid import OwnGrid, Receive
from segexplorer.training.run_files import COPY_AGAIN, require_keys
from segexplorer.training.slices import Layout
from segexplorer.training.sliding_window import Tile, likeliest, stream_logits, window_count

if TYPE_CHECKING:
    import torch


class Predictor:
    """A trained network with everything that belongs to it: preprocessing, classes, windows.

    Parameters
    ----------
    checkpoint
        An opened checkpoint.
    runtime
        Where to compute; None: as the experiment says, on `device`.
    pointer
        Which of the run's checkpoints it is.
    device
        cpu, cuda ...; the device of the training machine may not be here, so that auto takes the best there is.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        runtime: Runtime | None = None,
        pointer: Pointer = "last",
        device: str = "auto",
    ) -> None:
        self.checkpoint = checkpoint
        meta = checkpoint.meta
        require_keys(meta, ("experiment", "classes", "preprocessing", "channels"), checkpoint.folder.name)
        # a sink says nothing of a network, and its plug-in may not be installed here
        self.experiment = Experiment.of({**meta["experiment"], "sinks": []}, "the checkpoint's experiment")
        # the precision is kept
        spec = self.experiment.compute.model_copy(update={"device": device})
        self.runtime = runtime if runtime is not None else resolve_compute(Compute.of(spec.plain()))
        self.classes = ClassMap.of(meta["classes"])
        try:
            self.fitted = FittedPreprocessing.of(meta["preprocessing"])
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise DataError(
                f"meta.json of {checkpoint.folder.name} is damaged (preprocessing).", COPY_AGAIN
            ) from error
        self.mirror: bool = self.experiment.validation.mirror
        self.pointer: Pointer = pointer
        self.channels = int(meta["channels"])
        self.seen = SeenImages.of(meta.get("seen"))
        self.patch: tuple[int, ...] | None = tuple(meta["patch"]) if meta.get("patch") else None
        self.layout = Layout.of(self.experiment.sampling.patch_size)
        self.divisor = self.layout.divisor(self.experiment.network)
        network = self.layout.build(
            self.experiment.network,
            self.channels,
            len(self.classes.names) + 1,
            overlapping=self.classes.overlapping,
        )
        checkpoint.load_weights(network, average=True)
        self.network: torch.nn.Module = self.runtime.place_network(network, self.layout.dimensions).eval()

    @property
    def weights_text(self) -> str:
        """Which weights these are, e.g. "best weights (step 40)"."""
        return f"{self.pointer} weights (step {self.checkpoint.step})"

    def windows(self, images: Sequence[Volume]) -> int:
        """Return how many windows a case will take, from its header alone; the crop may leave fewer."""
        shape = self.fitted.prepared_shape(CaseRef("case", (images[0],)))
        return window_count(
            shape,
            self._window(shape),
            self._overlap,
            classes=len(self.classes.names) + 1,
            memory=self.runtime.device_bytes(math.prod(images[0].shape)),
        )

    def steps(self, images: Sequence[Volume]) -> Generator[Progress, None, Volume]:
        """Predict a case, yielding what it is at: reading it, each window, bringing the result back.

        Returns
        -------
        Label volume with the data set's own values, in the first image's grid and index order; where the images are
        unlike those of training, its notes say so.

        Raises
        ------
        DataError
            When the images are not those that the network takes.
        """
        found = yield from self.class_steps(images)
        indices = found.classes
        predicted = images[0].with_array(self.classes.decode(indices), label_names=self.classes.label_names)
        for concern in found.concerns:
            predicted = predicted.with_note(concern)
        return predicted

    def class_steps(
        self,
        images: Sequence[Volume],
        *,
        probabilities: bool = False,
        calibration: CalibrationCounts | None = None,
        truth: NDArray[np.uint8] | None = None,
        receive: Receive | None = None,
        share: int = 1,
    ) -> Generator[Progress, None, PredictedCase]:
        """Predict a case as `steps` does, but return class indices.

        Parameters
        ----------
        probabilities
            Whether to return those of all voxels and classes too, which takes memory for all of them.
        calibration, truth
            Where to count how often probabilities are right, without keeping them, and the class indices of the
            case in its own grid and index order.
        receive
            Is given the probabilities piece by piece, as `OwnGrid` says; between two pieces the generator yields.
        share
            Networks that predict at the same time, and share the memory that a case may take.
        """
        import torch

        total = self.windows(self._checked(images))
        yield Progress(activity="reading", done=0, total=total)
        prepared = self.fitted.apply(Case("case", tuple(images), None), self.classes)
        concerns: list[str] = []
        if self.seen is not None:
            size = None if self.fitted.resize is not None else own_spacing(prepared)
            concerns = self.seen.concerns(size, prepared.image)
        classes = len(self.classes.names) + 1
        own = OwnGrid(
            self.fitted,
            prepared.grid,
            classes,
            self.classes.scheme,
            everything=probabilities,
            calibration=calibration,
            truth=truth,
            receive=receive,
        )
        source = stream_logits(
            self.network,
            torch.from_numpy(prepared.image[None]),
            classes=classes,
            patch=self._window(prepared.image.shape[1:]),
            overlap=self._overlap,
            runtime=self.runtime,
            mirror=self.mirror,
            memory=self.runtime.device_bytes(own.nbytes) // share,
            halo=own.halo,
            means=own.needs_means,
        )
        done = 0
        yield Progress(activity="predicting", done=done, total=total)
        while True:
            with self.runtime.active():  # not while the caller has its turn
                item = next(source, None)
                if isinstance(item, Tile):
                    own.add(item)
            if item is None:
                break
            if isinstance(item, Tile):
                if receive is None:
                    continue
            else:
                done, total = item
            yield Progress(activity="predicting", done=done, total=total)
        yield Progress(activity="putting back", done=done, total=total)
        return PredictedCase(own.labels(), own.probabilities(), tuple(concerns))

    def predict(self, images: Sequence[Volume]) -> Volume:
        """Predict a case at one go; see `steps`."""
        source = self.steps(images)
        while True:
            try:
                next(source)
            except StopIteration as end:
                volume: Volume = end.value
                return volume

    @property
    def division(self) -> tuple[object, ...]:
        """What decides the pieces in which a case is predicted; those of equal networks come in the same order."""
        fitted = self.fitted
        kept = fitted.spacing, fitted.resize, fitted.crop
        return (
            self.patch,
            self.divisor,
            self._overlap,
            len(self.classes.names),
            self.classes.overlapping,
            self.runtime.case_bytes,
            *kept,
        )

    @property
    def _overlap(self) -> float:
        return self.experiment.validation.overlap

    def _window(self, shape: Sequence[int]) -> tuple[int, ...]:
        return self.patch or padded(shape, self.divisor)

    def _checked(self, images: Sequence[Volume]) -> Sequence[Volume]:
        if len(images) != (wanted := len(self.fitted.intensities)):
            raise DataError(
                f"The network takes {wanted} image(s) per case, not {len(images)}.",
                "Give the same images as in training, in the same order.",
            )
        return images


@dataclass(frozen=True)
class PredictedCase:
    """A case predicted in its own grid and index order.

    Attributes
    ----------
    classes
        (x, y, z) label indices, 0 is background.
    probabilities
        (C, x, y, z) float32, background first; None where they were not asked for.
    concerns
        What is unlike training in the case's images, as sentences.
    """

    classes: NDArray[np.uint8]
    probabilities: NDArray[np.float32] | None = None
    concerns: tuple[str, ...] = ()


def own_classes(
    logits: torch.Tensor,
    fitted: FittedPreprocessing,
    grid: Grid,
    scheme: LabelScheme = EXCLUSIVE,
    *,
    resampled: bool,
) -> NDArray[np.uint8]:
    """Return the label indices of a case in its own grid and index order.

    Parameters
    ----------
    logits
        (C, x, y, z) in the training grid, on the CPU.
    grid
        `Prepared.grid` of the case.
    resampled
        Whether the spacing was changed; then probabilities are brought back, which gives smoother borders.
    """
    if not resampled:
        return fitted.restore(likeliest(logits, scheme).numpy(), grid, order=0).astype(np.uint8)
    return scheme.decide(fitted.restore(scheme.probabilities(logits).numpy(), grid, order=1))


def predict(
    folder: str | Path,
    images: Sequence[str | Path | Volume] | str | Path | Volume,
    *,
    checkpoint: str = "best",
) -> Volume:
    """Predict one case with a run's network.

    Parameters
    ----------
    folder
        A run folder.
    images
        The image, or the case's images in the order of training.
    checkpoint
        "best" (chosen by validation; "last" where nothing was validated yet), "last" or "previous".

    Returns
    -------
    Label volume with the data set's own values, exactly in the first image's grid; its notes say which weights
    predicted it.

    Raises
    ------
    DataError
        When the folder holds no checkpoint or an image cannot be used.
    """
    several = images if isinstance(images, Sequence) and not isinstance(images, str) else (images,)
    volumes = [v if isinstance(v, Volume) else open_volume(v) for v in several]
    predictor = load_predictor(folder, checkpoint)
    return predictor.predict(volumes).with_note(f"Predicted with the {predictor.weights_text}.")


def load_predictor(
    folder: str | Path, checkpoint: str = "best", runtime: Runtime | None = None, *, device: str = "auto"
) -> Predictor:
    """Load a run's network for predicting many cases; see `predict` and `Predictor` for the arguments."""
    if checkpoint not in ("best", "last", "previous"):
        raise DataError(f"There is no checkpoint {checkpoint!r}.", "Use best, last or previous.")
    root = RunFolder.open(folder).checkpoints
    pointer: Pointer = checkpoint  # type: ignore[assignment]
    if checkpoint == "best" and not (root / "best").exists():
        pointer = "last"
    opened, _ = open_checkpoint(root, pointer)
    return Predictor(opened, runtime, pointer, device)
