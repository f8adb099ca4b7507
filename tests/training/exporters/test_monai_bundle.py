"""The MONAI bundle: read by MONAI's own tools, it predicts what segexplorer predicts."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, verify_net_in_out
from monai.data import decollate_batch

from segexplorer.core.errors import SpecError
from segexplorer.data.io import open_volume
from segexplorer.training.exporters import export_run, registry
from segexplorer.training.predict import load_predictor, predict
from segexplorer.training.run import Run

pytestmark = pytest.mark.slow


def found_packages() -> set[str]:
    """Return which of the optional packages of MONAI's bundles are there."""
    return {name for name in ("ignite", "fire") if importlib.util.find_spec(name) is not None}


@pytest.fixture(params=["patches", "whole", "slices", "resampled"])
def bundle(request: pytest.FixtureRequest, trained: dict[str, Run], tmp_path: Path) -> tuple[Run, Path]:
    run = trained[request.param]
    return run, export_run(run.folder, "monai_bundle", tmp_path / "bundle")


def configs(bundle: Path) -> tuple[str, str]:
    return str(bundle / "configs" / "inference.json"), str(bundle / "configs" / "metadata.json")


def test_the_network_of_the_bundle_gives_the_same_logits(bundle: tuple[Run, Path]) -> None:
    run, folder = bundle
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    assert files == ["configs/inference.json", "configs/metadata.json", "docs/README.md", "models/model.pt"]
    parser = ConfigParser()
    parser.read_config(configs(folder)[0])
    network = parser.get_parsed_content("network_def").eval()
    state = torch.load(folder / "models" / "model.pt", weights_only=True)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(state)
    assert any(not torch.equal(before[name], value) for name, value in state.items())
    predictor = load_predictor(run.folder)
    patch = torch.randn(2, 1, *(predictor.patch or (16, 16, 16)))
    with torch.inference_mode():
        logits = network(patch)
        expected = predictor.network(patch)
    # the same weights and layers; only the memory format, and with it the order of sums, may differ
    assert (logits - expected).abs().max() <= 1e-5 * expected.abs().max()
    assert logits.std() > 1e-3


def test_monai_finds_the_network_as_the_metadata_says(bundle: tuple[Run, Path]) -> None:
    _, folder = bundle
    inference, metadata = configs(folder)
    verify_net_in_out(net_id="network_def", meta_file=metadata, config_file=inference, device="cpu", n=2)


def test_the_parts_of_the_bundle_segment_as_predict_does(
    bundle: tuple[Run, Path], image_file: Path, tmp_path: Path
) -> None:
    run, folder = bundle
    parser = ConfigParser()
    parser.read_config(configs(folder)[0])
    places = {"bundle_root": folder, "dataset_dir": image_file.parent, "output_dir": tmp_path / "out"}
    for name, place in places.items():
        parser[name] = str(place)
    parser["device"] = "cpu"
    parser.get_parsed_content("initialize")
    (batch,) = parser.get_parsed_content("dataloader")
    network, inferer = parser.get_parsed_content("network").eval(), parser.get_parsed_content("inferer")
    logits = inferer(batch["image"], network)
    (item,) = decollate_batch({"image": batch["image"], "pred": logits})
    done = parser.get_parsed_content("postprocessing")(item)
    assert_segmented(run, image_file, tmp_path / "out")
    np.testing.assert_array_equal(done["pred"][0], predict(run.folder, image_file).array)


def assert_segmented(run: Run, image: Path, folder: Path) -> None:
    """Check that the one file in a folder is what `predict` gives for an image."""
    (written,) = folder.iterdir()
    assert written.name == "abdomen_segmentation.nii.gz"
    found, expected = open_volume(written), predict(run.folder, image)
    np.testing.assert_array_equal(np.asarray(found.array), np.asarray(expected.array))
    np.testing.assert_allclose(found.affine, expected.affine, atol=1e-5)
    assert len(np.unique(found.array)) > 1


@pytest.mark.skipif(not {"ignite", "fire"} <= found_packages(), reason="monai[ignite,fire] is not installed")
def test_monai_runs_the_bundle_as_its_readme_says(
    trained: dict[str, Run], image_file: Path, tmp_path: Path
) -> None:
    run = trained["resampled"]
    folder = export_run(run.folder, "monai_bundle", tmp_path / "bundle")
    readme = (folder / "docs" / "README.md").read_text()
    (command,) = re.findall(r"python (-m monai\.bundle run .*?)\n\n", readme, re.DOTALL)
    arguments = [
        *command.replace("\\\n", " ").split(),
        "--dataset_dir",
        str(image_file.parent),
        "--device",
        "cpu",
    ]
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=250
    )
    assert done.returncode == 0, done.stderr
    assert_segmented(run, image_file, folder / "segmentations")


def test_the_metadata_say_what_a_user_must_know_and_name_no_case(
    trained: dict[str, Run], tmp_path: Path
) -> None:
    run = trained["resampled"]
    spec = registry.parse(
        {"kind": "monai_bundle", "title": "Organs", "authors": "A. Nobody", "version": "2.0"}
    )
    folder = export_run(run.folder, spec, tmp_path / "bundle")
    text = (folder / "configs" / "metadata.json").read_text()
    metadata = json.loads(text)
    assert (metadata["name"], metadata["authors"], metadata["version"]) == ("Organs", "A. Nobody", "2.0")
    assert "medical device" in metadata["intended_use"]
    own = metadata["segexplorer"]
    assert own["spacing_mm"] == [5.0, 5.0, 6.0] and own["orientation"] == "RAS"
    assert own["patch_size"] == [16, 16, 16] and own["mirrored_predictions"] is True
    assert own["preprocessing"]["intensities"][0]["kind"] == "ct_window"
    assert run.plan is not None
    names = ["background", *run.plan.class_names]
    assert [own["classes"][str(i)]["name"] for i in range(len(names))] == names
    output = metadata["network_data_format"]["outputs"]["pred"]
    assert list(output["channel_def"].values()) == names and output["num_channels"] == len(names)
    everything = text + (folder / "configs" / "inference.json").read_text()
    for private in (*run.plan.refs, str(run.folder), str(Path.home()), run.folder.parent.name):
        assert private not in everything, private


def test_nothing_that_exists_is_replaced_and_nothing_half_is_left(
    trained: dict[str, Run], tmp_path: Path
) -> None:
    there = tmp_path / "there"
    there.mkdir()
    (there / "precious").write_text("x")
    with pytest.raises(SpecError, match=r"there exists already, and folders are not replaced"):
        export_run(trained["patches"].folder, "monai_bundle", there, overwrite=True)
    assert (there / "precious").read_text() == "x"


def test_a_network_that_comes_out_different_is_refused_by_name(
    trained: dict[str, Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from segexplorer.training.exporters import monai_bundle

    settings = load_predictor(trained["patches"].folder).experiment.network.plain()
    changed = "batch" if settings["normalisation"] != "batch" else "instance"
    monkeypatch.setattr(monai_bundle, "network_settings", lambda model: settings | {"normalisation": changed})
    with pytest.raises(SpecError, match="U-Net cannot be exported as a MONAI bundle"):
        export_run(trained["patches"].folder, "monai_bundle", tmp_path / "bundle")
    assert not list(tmp_path.iterdir())
