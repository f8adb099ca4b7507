"""What the configuration of an exported MONAI bundle calls: the network, and the way to it and back.

Every part takes plain values, so that `inference.json` says all of it. Together they do what `segexplorer predict`
does, in a MONAI workflow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segexplorer.data.case import Case, ClassMap
from segexplorer.data.geometry import Grid
from segexplorer.data.io import open_volume, save_volume
from segexplorer.data.transforms import FittedPreprocessing
from segexplorer.data.transforms.preprocessing import CaseGrid
from segexplorer.networks.base import padded, registry
from segexplorer.training.predict import own_classes
from segexplorer.training.slices import Layout

if TYPE_CHECKING:
    from torch import Tensor, nn

SUFFIX = "_segmentation.nii.gz"


def build_network(
    settings: Mapping[str, Any],
    patch_size: Sequence[int] | None,
    in_channels: int,
    out_channels: int,
    overlapping: bool = False,
) -> nn.Module:
    """Return a network of these settings for (B, in_channels, x, y, z), its weights not loaded yet.

    Parameters
    ----------
    settings
        Kind and parameters, as in an experiment's `network`.
    patch_size
        As in training: one voxel along an axis makes a network of slices.
    overlapping
        Whether each class has a sigmoid; the first channel, of the background, is 0 then.
    """
    layout = Layout.of(patch_size)
    return layout.build(registry.parse(dict(settings)), in_channels, out_channels, overlapping=overlapping)


class Prepare:
    """Reads the images of a case and brings them to what the network was trained on.

    Takes `{"image": path}` or `{"image": [path, ...]}`, one path for each image of a case in the order of training,
    and returns `{"image": (C, x, y, z) MetaTensor}`, float32.
    """

    def __init__(self, preprocessing: Mapping[str, Any], classes: Mapping[str, Any]) -> None:
        self._fitted, self._classes = FittedPreprocessing.of(preprocessing), ClassMap.of(classes)

    def __call__(self, item: Mapping[str, Any]) -> dict[str, Any]:
        import torch
        from monai.data import MetaTensor

        given = item["image"]
        paths = [str(p) for p in ([given] if isinstance(given, (str, Path)) else given)]
        case = Case(Path(paths[0]).name, tuple(open_volume(p) for p in paths))
        prepared = self._fitted.apply(case, self._classes)
        meta = {"filename_or_obj": paths[0], "resampled": prepared.resampled}
        image = MetaTensor(
            torch.from_numpy(prepared.image), affine=torch.from_numpy(prepared.affine), meta=meta
        )
        return {**item, "image": image}


class Windows:
    """Predicts a whole prepared volume by overlapping windows, as an inferer of MONAI does."""

    def __init__(
        self,
        classes: int,
        patch_size: Sequence[int] | None,
        multiple_of: Sequence[int],
        overlap: float,
        mirror: bool,
    ) -> None:
        self._classes, self._patch, self._divisor = classes, patch_size, tuple(multiple_of)
        self._overlap, self._mirror = overlap, mirror

    def __call__(self, inputs: Tensor, network: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        """Return (B, classes, x, y, z) logits of (B, channels, x, y, z) images, on their device."""
        import torch

        return torch.cat([self._predict(inputs[i : i + 1], network) for i in range(len(inputs))])

    def _predict(self, image: Tensor, network: nn.Module) -> Tensor:
        import torch

        from segexplorer.training.compute import Runtime
        from segexplorer.training.sliding_window import predict_logits

        size = padded(image.shape[2:], self._divisor)
        device = str(image.device)
        source = predict_logits(
            network,
            image.as_subclass(torch.Tensor),  # without MONAI's metadata, which every window would carry along
            classes=self._classes,
            patch=self._patch or size,
            overlap=self._overlap,
            runtime=Runtime(device, device, "float32", torch.get_num_threads(), channels_last=False),
            mirror=self._mirror,
        )
        while True:
            try:
                next(source)
            except StopIteration as end:
                logits: Tensor = end.value
                return logits.to(image.device)


class PutBack:
    """Brings logits back to a case's own grid as label values and writes them as NIfTI.

    Takes `{"image": what Prepare gave, "pred": (classes, x, y, z) logits}`, replaces `pred` by the labels in the
    first image's own grid and index order, and writes them to the output folder.
    """

    def __init__(
        self, preprocessing: Mapping[str, Any], classes: Mapping[str, Any], output_dir: str | Path
    ) -> None:
        self._fitted, self._classes = FittedPreprocessing.of(preprocessing), ClassMap.of(classes)
        self._output = Path(output_dir)

    def __call__(self, item: Mapping[str, Any]) -> dict[str, Any]:
        import torch

        meta, affine = item["image"].meta, item["image"].affine
        source = Path(meta["filename_or_obj"])
        image = open_volume(source)
        logits = item["pred"].as_subclass(torch.Tensor).cpu()
        prepared = Grid(tuple(logits.shape[1:]), np.asarray(affine.cpu(), np.float64))
        grid = CaseGrid.of(Grid(image.shape, image.affine), prepared)
        indices = own_classes(
            logits, self._fitted, grid, self._classes.scheme, resampled=bool(meta["resampled"])
        )
        labels = image.with_array(self._classes.decode(indices), label_names=self._classes.label_names)
        self._output.mkdir(parents=True, exist_ok=True)
        name = source.name.removesuffix(".gz").rpartition(".")[0] or source.name
        save_volume(labels, self._output / f"{name}{SUFFIX}", integer=True)
        return {**item, "pred": torch.from_numpy(np.ascontiguousarray(labels.array))[None]}
