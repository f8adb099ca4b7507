"""Prediction of whole volumes, in their own grid, with a trained network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segexplorer.core.errors import DataError
from segexplorer.data.case import Case, ClassMap
from segexplorer.data.transforms import FittedPreprocessing
from segexplorer.data.volume import Volume, open_volume
from segexplorer.networks.base import padded
from segexplorer.training.checkpoint import Checkpoint, Pointer, open_checkpoint
from segexplorer.training.compute import Compute, Runtime, resolve_compute
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.slices import Layout
from segexplorer.training.windows import predict_logits

if TYPE_CHECKING:
    import torch


class Predictor:
    """A trained network with everything that belongs to it: preprocessing, classes, windows.

    Parameters
    ----------
    checkpoint
        An opened checkpoint.
    runtime
        Where to compute; None: as the experiment says, on this machine.
    """

    def __init__(self, checkpoint: Checkpoint, runtime: Runtime | None = None) -> None:
        meta = checkpoint.meta
        self.experiment = Experiment.of(meta["experiment"], "the checkpoint's experiment")
        # the device of the training machine may not be here; precision is kept
        spec = self.experiment.compute.model_copy(update={"device": "auto"})
        self.runtime = runtime if runtime is not None else resolve_compute(Compute.of(spec.plain()))
        self.classes = ClassMap.of(meta["classes"])
        self.fitted = FittedPreprocessing.of(meta["preprocessing"])
        self.channels = int(meta["channels"])
        self._patch: tuple[int, ...] | None = tuple(meta["patch"]) if meta["patch"] else None
        self._layout = Layout.of(self.experiment.sampling.patch_size)
        network = self._layout.build(self.experiment.network, self.channels, len(self.classes.names) + 1)
        checkpoint.load_weights(network, average=True)
        self.network: torch.nn.Module = self.runtime.place_network(network, self._layout.dimensions).eval()

    def logits(self, images: Sequence[Volume]) -> tuple[torch.Tensor, Any]:
        """Predict a case; returns (1, C, x, y, z) logits in the training grid and the prepared case."""
        import torch

        if len(images) != (wanted := len(self.fitted.intensities)):
            raise DataError(
                f"The network takes {wanted} image(s) per case, not {len(images)}.",
                "Give the same images as in training, in the same order.",
            )
        prepared = self.fitted.apply(Case("case", tuple(images), None), self.classes)
        divisor = self._layout.divisor(self.experiment.network)
        source = predict_logits(
            self.network,
            torch.from_numpy(prepared.image[None]),
            classes=len(self.classes.names) + 1,
            patch=self._patch or padded(prepared.image.shape[1:], divisor),
            overlap=self.experiment.validation.overlap,
            runtime=self.runtime,
            mirror=self.experiment.validation.mirror,
        )
        with self.runtime.active():
            while True:
                try:
                    next(source)
                except StopIteration as end:
                    return end.value, prepared

    def predict(self, images: Sequence[Volume]) -> Volume:
        """Predict a case; label values are the data set's own, in the first image's grid and index order."""
        import torch

        logits, prepared = self.logits(images)
        if prepared.resampled:
            probabilities = torch.softmax(logits[0], 0).numpy()
            indices = self.fitted.restore(probabilities, prepared.grid, order=1).argmax(0)
        else:
            indices = self.fitted.restore(logits[0].argmax(0).numpy(), prepared.grid, order=0)
        names = {
            values[0]: name for name, values in zip(self.classes.names, self.classes.values, strict=True)
        }
        return images[0].with_array(self.classes.decode(indices.astype(np.uint8)), label_names=names)


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
        "best" (highest validation Dice; "last" where nothing was validated yet), "last" or "previous".

    Returns
    -------
    Label volume with the data set's own values, exactly in the first image's grid.

    Raises
    ------
    DataError
        When the folder holds no checkpoint or an image cannot be used.
    """
    several = images if isinstance(images, Sequence) and not isinstance(images, str) else (images,)
    volumes = [v if isinstance(v, Volume) else open_volume(v) for v in several]
    return load_predictor(folder, checkpoint).predict(volumes)


def load_predictor(folder: str | Path, checkpoint: str = "best", runtime: Runtime | None = None) -> Predictor:
    """Load a run's network for predicting many cases; see `predict` for the arguments."""
    if checkpoint not in ("best", "last", "previous"):
        raise DataError(f"There is no checkpoint {checkpoint!r}.", "Use best, last or previous.")
    root = RunFolder.open(folder).checkpoints
    pointer: Pointer = checkpoint  # type: ignore[assignment]
    if checkpoint == "best" and not (root / "best").exists():
        pointer = "last"
    opened, _ = open_checkpoint(root, pointer)
    return Predictor(opened, runtime)
