"""ONNX: the network alone, for programs without Python; what is needed around it is in the file's metadata."""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from segexplorer.core.errors import SpecError, require
from segexplorer.core.fields import parameter
from segexplorer.training.exporters.base import (
    TOLERANCE,
    ExporterSpec,
    example,
    largest_difference,
    model_facts,
    registry,
)

if TYPE_CHECKING:
    from torch import Tensor

    from segexplorer.training.predict import Predictor

INPUT, OUTPUT, METADATA = "image", "logits", "segexplorer"


@registry.register
class Onnx(ExporterSpec):
    """A file with the network alone: image (batch, channels, x, y, z) in, logits (batch, classes, x, y, z) out.

    The patch has a fixed size, and the batch any, unless the network's code fixes it at one. Spacing, orientation,
    intensities and classes are in the file's metadata under `segexplorer`, as JSON. Every export is run by ONNX
    Runtime and compared with the network before it is kept. Needs the extra `export`.
    """

    display_name: ClassVar[str] = "ONNX"
    reference: ClassVar[str] = "https://onnx.ai/onnx"
    suffix: ClassVar[str] = ".onnx"
    kind: Literal["onnx"] = "onnx"
    patch_size: tuple[int, int, int] | None = parameter(
        None,
        title="Patch",
        description="Size of the input (x, y, z); none: that of training. Runs on whole volumes have none.",
        unit="voxels",
    )
    opset: int | None = parameter(
        None,
        title="Opset",
        description="Version of ONNX's operators; none: the one torch recommends.",
        ge=18,
        le=30,
    )

    def write(self, model: Predictor, output: Path) -> None:
        """Write the file.

        Raises
        ------
        SpecError
            When the patch does not fit, or the network cannot be exported.
        MissingExtraError
            When onnx, onnxscript or onnxruntime is not installed.
        """
        onnx = require("onnx", "export", "The exporter onnx")
        require("onnxscript", "export", "The exporter onnx")
        image = self._example(model)
        name = model.experiment.network.display_name
        try:
            try:
                written = _exported(model.network, image, self.opset, any_batch=True)
            except Exception:  # noqa: BLE001  some networks' code fixes the batch; one patch at a time may do
                written = _exported(model.network, image, self.opset, any_batch=False)
        except Exception as error:  # torch.export raises whatever a network's code led to
            raise SpecError(
                f"The network {name} cannot be exported to ONNX: {_first_line(error)}.",
                "Export the run as a monai-bundle.",
            ) from error
        facts = model_facts(model) | {"patch_size": list(image.shape[2:])}
        onnx.helper.set_model_props(written, {METADATA: json.dumps(facts)})
        onnx.save(written, output)
        difference = _difference(model.network, output, image)
        if not difference <= TOLERANCE:
            raise SpecError(
                f"The network {name} cannot be exported to ONNX: ONNX Runtime's output differs by {difference:.2g} "
                "of the largest logit.",
                "Export the run as a monai-bundle.",
            )

    def _example(self, model: Predictor) -> Tensor:
        patch = self.patch_size or model.patch
        if patch is None:
            raise SpecError(
                "The run was trained on whole volumes, so its input has no size of its own.",
                "Give one, e.g. --set patch_size=[96,96,96].",
            )
        if any(n < 1 or n % d for n, d in zip(patch, model.divisor, strict=True)):
            sizes = " × ".join(map(str, model.divisor))
            raise SpecError(
                f"The network does not take a patch of {' × '.join(map(str, patch))}.",
                f"Give multiples of {sizes}.",
            )
        return example(model, patch)


def _exported(network: Any, image: Tensor, opset: int | None, *, any_batch: bool) -> Any:
    """Return the network as an ONNX model, without the paths of the code that it came from."""
    import torch

    with warnings.catch_warnings(), _quiet("torch.onnx"):
        warnings.simplefilter("ignore")  # of torch's exporter about torch's own functions
        program = torch.onnx.export(
            torch.nn.Sequential(network),  # calls it as a module: networks of slices have hooks
            (
                torch.cat([image, image]) if any_batch else image,
            ),  # of a batch of one, export takes the 1 for fixed
            dynamo=True,
            opset_version=opset,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch")},) if any_batch else None,
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    for graph in (proto.graph, *proto.functions):
        for node in graph.node:
            del node.metadata_props[:]  # stack traces
            node.ClearField("doc_string")
    return proto


@contextlib.contextmanager
def _quiet(logger: str) -> Iterator[None]:
    """Keep a logger from telling what operators of packages it did not find."""
    silenced = logging.getLogger(logger)
    before = silenced.level
    silenced.setLevel(logging.ERROR)
    try:
        yield
    finally:
        silenced.setLevel(before)


def _difference(network: Any, path: Path, image: Tensor) -> float:
    """Return the largest difference between ONNX Runtime and torch, as a share of the largest logit."""
    import torch

    runtime = require("onnxruntime", "export", "The exporter onnx")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    size = session.get_inputs()[0].shape[0]
    batch = image if size == 1 else torch.cat([image, image.flip(2)])
    (found,) = session.run([OUTPUT], {INPUT: batch.numpy()})
    with torch.inference_mode():
        expected = network(batch)
    return largest_difference(torch.from_numpy(found), expected)


def _first_line(error: BaseException) -> str:
    """Return what went wrong first, in a line: exporters wrap errors in errors."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")
