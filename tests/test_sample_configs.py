"""Every sample configuration loads, comes back unchanged from YAML, and trains for two steps.

Those on the papers' data sets train on a tiny folder in that data set's published layout.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from segexplorer.core.events import RunFinished, StepDone
from segexplorer.core.papers import PAPERS
from segexplorer.core.spec import replace_values
from segexplorer.networks import registry as networks
from segexplorer.study.matrix import expand
from segexplorer.training.experiment import Experiment, sample_configs
from segexplorer.training.folder import RunFolder
from segexplorer.training.run import Run

FILES = sorted(sample_configs().glob("*.yaml"))
SHAPE = (24, 20, 12)
RNG = np.random.default_rng(0)


def _image(path: Path) -> None:
    _save(path, RNG.normal(60, 40, SHAPE).astype(np.int16))


def _label(path: Path, *values: int) -> None:
    voxels = np.zeros(SHAPE, np.uint8)
    for place, value in enumerate(values):
        voxels[3 + 2 * place : 5 + 2 * place, 4:16, 2:10] = value
    _save(path, voxels)


def _save(path: Path, voxels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, np.diag([-1.0, -1.0, 1.5, 1.0])), path)


def _pancreas_ct(root: Path) -> None:
    for n in range(1, 16):
        _image(root / f"Pancreas-CT/PANCREAS_{n:04d}.nii.gz")
        _label(root / f"Pancreas-CT/TCIA_pancreas_labels-02-05-2017/label{n:04d}.nii.gz", 1)


def _msseg2(root: Path) -> None:
    for n in (*range(13, 17), 26, 27, 91, 94, 95, 99, 100):
        folder = root / f"MSSEG-2/training/{n:03d}"
        for visit in (1, 2):
            _image(folder / f"flair_time0{visit}_on_middle_space.nii.gz")
        _label(folder / "ground_truth.nii.gz", 1)


def _bus2017(root: Path) -> None:
    for n in range(1, 6):
        mask = np.zeros((40, 50), np.uint8)
        mask[10:25, 12:30] = 255
        for folder, pixels in (("original", RNG.integers(0, 255, (40, 50)).astype(np.uint8)), ("GT", mask)):
            path = root / f"BUS2017/{folder}/{n:06d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)


def _brats20(root: Path) -> None:
    for n in range(1, 6):
        case = f"BraTS20_Training_{n:03d}"
        for sequence in ("flair", "t1", "t1ce", "t2"):
            _image(root / f"BraTS20/{case}/{case}_{sequence}.nii.gz")
        _label(root / f"BraTS20/{case}/{case}_seg.nii.gz", 1, 2, 4)


def _kits19(root: Path) -> None:
    for n in (*range(5), 15, 23, 37, 68, 125, 133):
        _image(root / f"KiTS19/case_{n:05d}/imaging.nii.gz")
        _label(root / f"KiTS19/case_{n:05d}/segmentation.nii.gz", 1, 2)


def _lits(root: Path) -> None:
    for n in range(24):
        _image(root / f"LiTS/Training Batch 1/volume-{n}.nii")
        _label(root / f"LiTS/Training Batch 1/segmentation-{n}.nii", 1, 2)


def _btcv(folder: str) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        for n in range(1, 15):
            _image(root / f"{folder}/RawData/Training/img/img{n:04d}.nii.gz")
            _label(root / f"{folder}/RawData/Training/label/label{n:04d}.nii.gz", 1, 2, 3, 4, 6, 7, 8, 11)

    return make


def _acdc(root: Path) -> None:
    for n in range(1, 23):
        folder = root / f"ACDC/training/patient{n:03d}"
        for frame in (1, 9):
            _image(folder / f"patient{n:03d}_frame{frame:02d}.nii.gz")
            _label(folder / f"patient{n:03d}_frame{frame:02d}_gt.nii.gz", 1, 2, 3)
        (folder / "Info.cfg").write_text("ED: 1\nES: 9\nGroup: DCM\nHeight: 1.0\nNbFrame: 9\nWeight: 1.0\n")


def _pddca(root: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    organs = {"BrainStem": 3, "Mandible": 9, "Parotid_L": 15}
    for n in range(1, 12):
        folder = root / f"PDDCA/0522c{n:04d}"
        masks = {"img": RNG.normal(0, 90, SHAPE).astype(np.int16)}
        for name, first in organs.items():
            masks[f"structures/{name}"] = np.zeros(SHAPE, np.uint8)
            masks[f"structures/{name}"][first : first + 4, 4:16, 2:10] = 1
        for name, voxels in masks.items():
            path = folder / f"{name}.nrrd"
            path.parent.mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(sitk.GetImageFromArray(voxels.transpose(2, 1, 0)), str(path))


LAYOUTS: dict[str, Callable[[Path], None]] = {
    "zhang2025_nih_pancreas": _pancreas_ct,
    "perera2025_msseg2": _msseg2,
    "yeung2022_bus2017": _bus2017,
    "yeung2022_bus2017_deep": _bus2017,
    "yeung2022_bus2017_tuning": _bus2017,
    "yeung2022_brats20": _brats20,
    "yeung2022_brats20_deep": _brats20,
    "yeung2022_kits19": _kits19,
    "yeung2022_kits19_deep": _kits19,
    "oshah2025_synapse": _btcv("Synapse"),
    "oshah2025_acdc": _acdc,
    "chen2023_pddca": _pddca,
    "chen2023_pddca_regions": _pddca,
    "chen2023_pddca_range": _pddca,
    "chen2023_abdomen": _btcv("BTCV"),
    "chen2023_lits": _lits,
}


def read(file: Path) -> Experiment:
    """Read a file; those that need a plug-in which is not here are skipped."""
    if "levit_unet" in file.read_text() and importlib.util.find_spec("segexplorer_levit_unet") is None:
        pytest.skip("the plug-in segexplorer-levit-unet is not installed")
    return Experiment.from_yaml(file)


def small(experiment: Experiment) -> Experiment:
    """Shrink everything that does not change what is exercised."""
    network = experiment.network.plain()
    fewer = {"base_features": 4, "levels": 3, "size": "128s", "decoder_features": 32}
    settings: dict[str, Any] = {
        "sampling.steps_per_epoch": 2,
        "sampling.batch_size": 1,
        "schedule.epochs": 1,
        "network": {k: fewer.get(k, v) for k, v in network.items()},
        "compute.threads": 1,
        "validation.every_epochs": 1,
        "validation.overlap": 0.0,
    }
    if experiment.data.plain()["kind"] == "phantom":
        settings |= {"data.size": 48, "data.count": 2, "split.validation_count": 1}
    return replace_values(experiment, settings)


def smaller_volumes(experiment: Experiment) -> Experiment:
    """Shrink patches and volumes to the tiny data sets'."""
    patch, resize = experiment.sampling.patch_size, experiment.preprocessing.resize
    settings: dict[str, Any] = {"split.validation_fraction": 0.4}
    if experiment.split.validation_count is not None:
        settings["split.validation_count"] = 1
    if patch is not None and 1 not in patch:
        settings["sampling.patch_size"] = [16, 16, 16]
    if patch is not None and 1 in patch and "levit" not in str(experiment.network.plain()["kind"]):
        settings |= {"sampling.patch_size": [32, 32, 1], "preprocessing.resize": [32, 32, 0]}
    elif resize is not None and patch is None:
        settings["preprocessing.resize"] = [24, 16, 16]
    if experiment.preprocessing.spacing is not None:
        settings["preprocessing.spacing"] = [1.2, 1.2, 1.5]
    return replace_values(experiment, settings)


def train(experiment: Experiment, folder: Path) -> None:
    events = list(Run(RunFolder.create(experiment, folder)))
    end = events[-1]
    assert isinstance(end, RunFinished) and end.state == "finished", end
    assert sum(isinstance(e, StepDone) for e in events) == 2


def test_there_is_an_experiment_of_every_paper() -> None:
    for paper in PAPERS.values():
        assert any(f.stem.startswith(f"{paper.prefix}_") for f in FILES), paper.citation
    assert set(LAYOUTS) <= {f.stem for f in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_it_comes_back_from_yaml(file: Path, tmp_path: Path) -> None:
    experiment = read(file)
    again = tmp_path / "again.yaml"
    experiment.save(again)
    assert Experiment.from_yaml(again) == experiment


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_it_trains_for_two_steps(
    file: Path, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = read(file)
    if file.stem in LAYOUTS:
        LAYOUTS[file.stem](tmp_path)
        monkeypatch.setenv("SEGEXPLORER_DATA", str(tmp_path))
        experiment = smaller_volumes(experiment)
    else:
        monkeypatch.setenv("SEGEXPLORER_DATA", str(request.getfixturevalue("shared_data")))
    train(small(experiment), tmp_path / "run")


@pytest.mark.parametrize("file", [f for f in FILES if f.stem in LAYOUTS], ids=lambda f: f.stem)
def test_a_missing_data_set_is_told_at_once(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from segexplorer.frontends.cli.app import run

    read(file)
    monkeypatch.setenv("SEGEXPLORER_DATA", str(tmp_path))
    begun = time.process_time()
    assert run(["check", str(file)]) == 2
    assert time.process_time() - begun < 20
    told = capsys.readouterr()
    assert str(tmp_path) in (told.out + told.err).replace("\n", "")


MATRICES = [f for f in FILES if "\nmatrix:" in f.read_text()]


@pytest.mark.parametrize("file", MATRICES, ids=lambda f: f.stem)
def test_every_experiment_of_a_matrix_is_allowed_and_differs(
    file: Path, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(file)
    if file.stem in LAYOUTS:
        LAYOUTS[file.stem](tmp_path)
        monkeypatch.setenv("SEGEXPLORER_DATA", str(tmp_path))
    else:
        monkeypatch.setenv("SEGEXPLORER_DATA", str(request.getfixturevalue("shared_data")))
    points = expand(file)
    assert len(points) > 1 and len({p.name for p in points}) == len(points)
    assert len({p.experiment.to_yaml() for p in points}) == len(points)


def test_networks_of_the_papers_are_named_in_the_files() -> None:
    named = "".join(f.read_text() for f in FILES)
    used = [name for name in networks.presets() if f"network: {name}" in named]
    assert {"zhang2025_unet_3d", "perera2025_longitudinal_vnet", "yeung2022_unet_2d", "chen2023_vnet"} <= set(
        used
    )
