"""What every exporter promises, the family "exporters", and the facts that a network is of no use without."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import segexplorer
from segexplorer.core.atomic_files import translate_disk_errors
from segexplorer.core.errors import SpecError
from segexplorer.core.fields import parameters
from segexplorer.core.registry import Registry
from segexplorer.core.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor

    from segexplorer.training.predict import Predictor

NOTICE = "For research and teaching; not a medical device."
TOLERANCE = 1e-3
"""Largest difference of a logit, as a share of the largest one, that is put down to another order of sums."""


class ExporterSpec(Spec):
    """Base of all exporters; a kind implements `write`."""

    reference: ClassVar[str] = ""
    """Where the format is described."""
    suffix: ClassVar[str] = ""
    """What the name of the exported file ends with; empty where it is a folder."""

    def write(self, model: Predictor, output: Path) -> None:
        """Write a trained network with all that is needed to use it.

        Parameters
        ----------
        model
            The network in evaluation mode, float32, on the CPU, with its preprocessing and classes.
        output
            A path that does not exist, in a folder that does. What is written there becomes the export only when
            this returns.

        Raises
        ------
        SpecError
            When the network cannot be exported; the sentence names it.
        MissingExtraError
            When a package is not installed; it is imported here (`core.errors.require`), not before.
        """
        raise NotImplementedError  # pragma: no cover  every kind has its own


registry: Registry[ExporterSpec] = Registry("exporters", ExporterSpec, "exporter")
AnyExporter = Annotated[ExporterSpec, registry.late_bound]


def export_run(
    folder: str | Path,
    exporter: ExporterSpec | str,
    output: str | Path,
    *,
    checkpoint: str = "best",
    overwrite: bool = False,
    on_weights: Callable[[str], object] | None = None,
) -> Path:
    """Export the network of a run; the output is whole or not there.

    Parameters
    ----------
    folder
        A run folder.
    exporter
        A kind, or a spec with its parameters.
    output
        The file or folder to make; a missing suffix is added.
    checkpoint
        "best" (chosen by validation; "last" where nothing was validated yet), "last" or "previous".
    overwrite
        Whether a file that is there already is replaced; a folder never is.
    on_weights
        Called with the weights that are exported: "best weights (step 40)".

    Returns
    -------
    Where it was written.

    Raises
    ------
    SpecError
        When the output exists, or the network cannot be exported.
    DataError
        When the folder holds no checkpoint.
    """
    from segexplorer.training.compute import Compute, resolve_compute
    from segexplorer.training.predict import load_predictor

    spec = registry.parse(exporter)
    target = Path(output)
    if spec.suffix and target.suffix.lower() != spec.suffix:
        target = target.with_name(target.name + spec.suffix)
    if target.is_dir():  # never removed: it may hold anything
        raise SpecError(f"{target} exists already, and folders are not replaced.", "Name another output.")
    if target.exists() and not overwrite:
        raise SpecError(f"{target} exists already.", "Name another output, or add --overwrite.")
    model = load_predictor(folder, checkpoint, resolve_compute(Compute(device="cpu", precision="float32")))
    if on_weights is not None:
        on_weights(model.weights_text)
    aside = target.with_name(f".{target.name}.{os.getpid()}.tmp{spec.suffix}")
    with translate_disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            spec.write(model, aside)
            aside.replace(target)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
            aside.unlink(missing_ok=True)
    return target


def network_settings(model: Predictor) -> dict[str, Any]:
    """Return the network's kind and settings, without places on this machine's disk."""
    spec = model.experiment.network
    places = {p.name for p in parameters(type(spec)) if p.path}
    return {name: value for name, value in spec.plain().items() if name not in places}


def example(model: Predictor, patch: Sequence[int]) -> Tensor:
    """Return a random (1, C, x, y, z) patch, always the same, to compare an exported network with its origin."""
    import torch

    return torch.randn((1, model.channels, *patch), generator=torch.Generator().manual_seed(0))


def largest_difference(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference between two outputs, as a share of the largest logit expected."""
    return float((found - expected).abs().max() / expected.abs().max())


def model_facts(model: Predictor) -> dict[str, Any]:
    """Return as plain data what a program must know to use the network: nothing in it names a case or a path.

    Images are brought to closest-canonical RAS order, cropped, resampled and scaled; windows of the patch size,
    overlapping, are predicted, and the class with the highest logit is taken; where `overlapping` is there, each
    class whose sigmoid is above 1/2, the last one first where no label value has all of them.
    """
    classes = model.classes
    return {
        "written_by": f"segexplorer {segexplorer.__version__}",
        "notice": NOTICE,
        "network": network_settings(model),
        "network_name": model.experiment.network.display_name,
        "in_channels": model.channels,
        "classes": {
            "0": {"name": "background", "label_value": 0},
            **{
                str(index): {"name": name, "label_value": values[0], "merged_label_values": list(values)}
                for index, (name, values) in enumerate(
                    zip(classes.names, classes.values, strict=True), start=1
                )
            },
        },
        **({"overlapping": True} if classes.overlapping else {}),
        "orientation": "RAS",
        "spacing_mm": None if model.fitted.spacing is None else list(model.fitted.spacing),
        "preprocessing": model.fitted.plain(),
        "patch_size": None if model.patch is None else list(model.patch),
        "size_must_be_multiple_of": list(model.divisor),
        "window_overlap": model.experiment.validation.overlap,
        "mirrored_predictions": model.experiment.validation.mirror,
    }
