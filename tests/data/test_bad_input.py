"""Bad input ends in one sentence that names the case or file and says what to do, and loses nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import yaml

from segexplorer.core.errors import SegExplorerError
from segexplorer.frontends.cli.app import run
from segexplorer.training.experiment import Experiment
from segexplorer.training.plan import resolve

SHAPE = (20, 18, 16)


def write(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> None:
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data set of three good cases."""
    rng = np.random.default_rng(0)
    for part in ("images", "labels"):
        (tmp_path / "set" / part).mkdir(parents=True)
    for name in ("ann", "bob", "cleo"):
        label = np.zeros(SHAPE, np.uint8)
        label[4:12, 4:12, 4:12] = 1
        write(tmp_path / "set/images" / f"{name}.nii.gz", rng.normal(size=SHAPE).astype(np.float32))
        write(tmp_path / "set/labels" / f"{name}.nii.gz", label)
    return tmp_path / "set"


def settings(root: Path) -> dict[str, object]:
    return {
        "data": {"kind": "folder", "root": str(root), "classes": {"organ": 1}},
        "split": {"validation_count": 1},
        "sampling": {"patch_size": [16, 16, 16]},
        "network": {"kind": "unet", "base_features": 4, "levels": 2},
        "schedule": {"kind": "constant", "epochs": 1},
    }


def _image(root: Path) -> Path:
    return root / "images/bob.nii.gz"


def _label(root: Path) -> Path:
    return root / "labels/bob.nii.gz"


def label_of_another_shape(root: Path) -> None:
    write(_label(root), np.ones((20, 18, 15), np.uint8))


def disagreeing_affine(root: Path) -> None:
    write(_label(root), np.ones(SHAPE, np.uint8), np.diag([1, 1, 1.5, 1]))


def flat(root: Path) -> None:
    write(_image(root), np.ones((20, 18), np.float32))


def several_frames(root: Path) -> None:
    write(_image(root), np.ones((*SHAPE, 3), np.float32))


def truncated(root: Path) -> None:
    data = _image(root).read_bytes()
    _image(root).write_bytes(data[: len(data) // 2])


def text_file(root: Path) -> None:
    _image(root).write_text("these are my notes, not a scan\n")


def not_a_number(root: Path) -> None:
    array = np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)
    array[3, 3, 3] = np.nan
    write(_image(root), array)


DAMAGE = [
    label_of_another_shape,
    disagreeing_affine,
    flat,
    several_frames,
    truncated,
    text_file,
    not_a_number,
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_reported_before_training(
    root: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    damage(root)
    with pytest.raises(SegExplorerError) as caught:
        resolve(Experiment.of(settings(root)))
    assert "bob" in str(caught.value)
    assert caught.value.remedy
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("command", ["check", "train"])
def test_the_command_line_says_it_and_ends_with_2(
    root: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    damage: Callable[[Path], None],
    command: str,
) -> None:
    damage(root)
    before = {path: path.read_bytes() for path in root.rglob("*.nii.gz")}
    config = tmp_path / "experiment.yaml"
    config.write_text(yaml.safe_dump(settings(root)))
    output = tmp_path / "runs"
    extra = ["--output", str(output)] if command == "train" else []
    assert run([command, str(config), *extra]) == 2
    told = "".join(capfd.readouterr())
    assert "bob" in told and "Traceback" not in told
    assert {path: path.read_bytes() for path in root.rglob("*.nii.gz")} == before
    assert not output.exists() or not any(output.rglob("*.pt"))


@pytest.mark.parametrize("content", [0, 7], ids=["empty label", "labels no class names"])
def test_a_useless_label_is_reported_but_does_not_stop(
    root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], content: int
) -> None:
    write(_label(root), np.full(SHAPE, content, np.uint8))
    config = tmp_path / "experiment.yaml"
    config.write_text(yaml.safe_dump(settings(root)))
    assert run(["check", str(config)]) == 0
    told = "".join(capfd.readouterr())
    assert "bob" in told and ("marks nothing" in told or "None of the chosen classes" in told)


def test_no_training_label_at_all_is_reported(root: Path) -> None:
    for path in (root / "labels").iterdir():
        write(path, np.full(SHAPE, 7, np.uint8))
    with pytest.raises(SegExplorerError, match="organ"):
        resolve(Experiment.of(settings(root)))


def test_a_path_that_is_not_there(root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "experiment.yaml"
    config.write_text(yaml.safe_dump(settings(root / "nowhere")))
    for command in (["check", str(config)], ["train", str(config)], ["check", str(tmp_path / "none.yaml")]):
        assert run(command) == 2
        told = "".join(capfd.readouterr())
        assert ("nowhere" in told or "none.yaml" in told) and "Traceback" not in told
