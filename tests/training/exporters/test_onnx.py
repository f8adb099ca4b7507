"""ONNX: run by ONNX Runtime, an exported network gives the logits of the trained one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from torch import nn

from segexplorer.core.errors import MissingExtraError, SpecError
from segexplorer.core.spec import replace_values
from segexplorer.networks.base import NetworkSpec
from segexplorer.networks.base import registry as networks
from segexplorer.training.exporters import export_run, onnx, registry
from segexplorer.training.folder import RunFolder
from segexplorer.training.predict import load_predictor
from segexplorer.training.run import Run

pytestmark = pytest.mark.slow

runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
TOLERANCE = 1e-5
"""Of a logit, as a share of the largest: float32 sums in another order. Measured: 4e-7 to 2e-6."""


def logits_of(path: Path, image: torch.Tensor) -> Any:
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["image"]
    (logits,) = session.run(["logits"], {"image": image.numpy()})
    return logits


@pytest.mark.parametrize(("variant", "batch"), [("patches", 3), ("slices", 2)])
def test_onnx_runtime_gives_the_same_logits(
    trained: dict[str, Run], tmp_path: Path, variant: str, batch: int
) -> None:
    run = trained[variant]
    path = export_run(run.folder, "onnx", tmp_path / "network")
    assert path == tmp_path / "network.onnx" and list(tmp_path.iterdir()) == [path]
    model = load_predictor(run.folder)
    assert model.patch is not None
    image = torch.randn(batch, 1, *model.patch)
    with torch.inference_mode():
        expected = model.network(image).numpy()
    found = logits_of(path, image)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()


def test_the_file_holds_what_is_needed_around_the_network(trained: dict[str, Run], tmp_path: Path) -> None:
    run = trained["resampled"]
    path = export_run(run.folder, "onnx", tmp_path / "network.onnx")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    facts = json.loads(session.get_modelmeta().custom_metadata_map["segexplorer"])
    assert facts["spacing_mm"] == [5.0, 5.0, 6.0] and facts["patch_size"] == [16, 16, 16]
    assert run.plan is not None
    assert [c["name"] for c in facts["classes"].values()] == ["background", *run.plan.class_names]
    content = path.read_bytes()
    for private in (*run.plan.refs, str(run.folder), str(Path(torch.__file__).parent)):
        assert private.encode() not in content, private


def test_a_run_on_whole_volumes_needs_a_size(trained: dict[str, Run], tmp_path: Path) -> None:
    folder = trained["whole"].folder
    with pytest.raises(SpecError, match="whole volumes, so its input has no size"):
        export_run(folder, "onnx", tmp_path / "network.onnx")
    with pytest.raises(
        SpecError, match=r"does not take a patch of 17 × 16 × 16. Give multiples of 2 × 2 × 2"
    ):
        export_run(folder, registry.parse({"kind": "onnx", "patch_size": [17, 16, 16]}), tmp_path / "a.onnx")
    path = export_run(folder, registry.parse({"kind": "onnx", "patch_size": [16, 8, 8]}), tmp_path / "b.onnx")
    image = torch.randn(1, 1, 16, 8, 8)
    with torch.inference_mode():
        expected = load_predictor(folder).network(image).numpy()
    assert np.abs(logits_of(path, image) - expected).max() <= TOLERANCE * np.abs(expected).max()
    with pytest.raises(SpecError, match="exists already"):
        export_run(folder, "onnx", path)
    assert (
        export_run(folder, registry.parse({"kind": "onnx", "patch_size": [8, 8, 8]}), path, overwrite=True)
        == path
    )


class Undecided(NetworkSpec):
    """Chooses by the values in the image which layer it uses: no graph can say that."""

    display_name: ClassVar[str] = "Undecided network"
    kind: Literal["undecided"] = "undecided"

    def _build(self, dimensions: int, in_channels: int, out_channels: int) -> nn.Module:
        return _Undecided(in_channels, out_channels)

    def divisor(self, dimensions: int) -> tuple[int, ...]:
        return (1,) * dimensions


class _Undecided(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.one = nn.Conv3d(in_channels, out_channels, 1)
        self.other = nn.Conv3d(in_channels, out_channels, 3, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        positive = image.device.type == "meta" or image.sum().item() > 0
        return self.one(image) if positive else self.other(image)


@pytest.fixture
def undecided() -> Iterator[None]:
    networks.register(Undecided)
    yield
    networks.unregister("undecided")


@pytest.mark.usefixtures("undecided")
def test_a_network_that_cannot_be_exported_is_refused_by_name(
    trained: dict[str, Run], tmp_path: Path
) -> None:
    experiment = replace_values(trained["patches"].planned, {"network": "undecided"})
    run = Run(RunFolder.create(experiment, tmp_path / "run"))
    assert list(run)[-1].state == "finished"  # type: ignore[attr-defined]
    with pytest.raises(SpecError) as caught:
        export_run(run.folder, "onnx", tmp_path / "network.onnx")
    assert caught.value.message.startswith("The network Undecided network cannot be exported to ONNX: ")
    assert "\n" not in caught.value.message and caught.value.remedy == "Export the run as a monai-bundle."
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
    assert export_run(run.folder, "monai_bundle", tmp_path / "bundle").is_dir()


def test_an_export_that_differs_is_refused(
    trained: dict[str, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx, "TOLERANCE", -1.0)
    with pytest.raises(SpecError, match="output differs by"):
        export_run(trained["patches"].folder, "onnx", tmp_path / "network.onnx")
    assert not list(tmp_path.iterdir())


def test_without_onnx_the_extra_is_named(
    trained: dict[str, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"needs the package onnx.*segexplorer\[export\]"):
        export_run(trained["patches"].folder, "onnx", tmp_path / "network.onnx")
