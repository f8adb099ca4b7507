"""What a data set is like: read case by case, the unreadable ones named, the others measured."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from segexplorer.core.errors import DataError
from segexplorer.data.datasets import parse
from segexplorer.data.fingerprint import mirrored_classes, take_fingerprint


def write(root: Path, case: str, label: np.ndarray | None, image: np.ndarray, mm: tuple[float, ...]) -> None:
    for part, voxels in (("images", image), ("labels", label)):
        (root / part).mkdir(parents=True, exist_ok=True)
        if voxels is not None:
            affine = np.diag([-mm[0], mm[1], mm[2], 1.0])  # LAS, as many files are
            nib.save(nib.Nifti1Image(voxels, affine), root / part / f"{case}.nii.gz")


def make(root: Path, count: int = 4) -> Path:
    for n in range(count):
        image = np.random.default_rng(n).normal(100, 20, (20 + n, 24, 12)).astype(np.float32)
        label = np.zeros(image.shape, np.uint8)
        label[4:8, 4:8, 4:8] = 1
        label[12:14, 12:14, 2:4] = 2
        if n % 2:
            label[16, 16, 8] = 2
        image[label == 1] = 300 + n
        write(root, f"p{n}", label, image, (1.0, 1.0, 2.5))
    return root


def test_sizes_classes_and_parts_are_measured(tmp_path: Path) -> None:
    seen = take_fingerprint(parse({"kind": "auto", "root": str(make(tmp_path))}))
    assert [case.shape for case in seen.cases] == [(20, 24, 12), (21, 24, 12), (22, 24, 12), (23, 24, 12)]
    assert seen.median_spacing == pytest.approx((1, 1, 2.5)) and seen.one_spacing
    first, second = seen.class_facts
    assert (first.name, first.cases, first.components) == ("label 1", 4, 1)
    assert first.volume_ml == pytest.approx(64 * 2.5 / 1000)
    assert second.components == 1.5 and second.small_mm3 == pytest.approx(2.5)
    voxels = sum(24 * 12 * (20 + n) for n in range(4))
    assert first.share == pytest.approx(4 * 64 / voxels)
    (channel,) = seen.channels
    assert channel.modality == "MR" and 250 < channel.foreground[2] < 310
    assert seen.left_out == () and seen.read == 4


def test_cases_that_cannot_be_used_are_named_and_the_others_go_on(tmp_path: Path) -> None:
    root = make(tmp_path)
    write(root, "shifted", np.zeros((20, 24, 12), np.uint8), np.zeros((20, 24, 12), np.float32), (1, 1, 2.5))
    nib.save(
        nib.Nifti1Image(np.ones((7, 7, 7), np.uint8), np.diag([0.7, 0.7, 0.7, 1])),
        root / "labels/shifted.nii.gz",
    )
    (root / "images/broken.nii.gz").write_bytes(b"no image at all")
    (root / "labels/broken.nii.gz").write_bytes(b"no label at all")
    spare = np.ones((20, 24, 12), np.uint8)
    write(root, "lonely", spare, spare.astype(np.float32), (1, 1, 2.5))
    (root / "images/lonely.nii.gz").unlink()
    floats = np.random.default_rng(9).normal(size=(20, 24, 12)).astype(np.float32)
    write(root, "unlike", floats, floats + 1, (1, 1, 2.5))
    stages = []
    seen = take_fingerprint(
        parse({"kind": "folder", "root": str(root)}), looked=lambda *stage: stages.append(stage)
    )
    assert sorted(seen.left_out) == ["broken", "lonely", "shifted", "unlike"]
    assert seen.incomplete == ("lonely",)
    assert {p.case for p in seen.problems} == set(seen.left_out)
    assert [case.case for case in seen.cases] == ["p0", "p1", "p2", "p3"]
    assert ("headers", 7, 7) in stages and stages[-1][0] == "voxels"


def test_without_a_label_there_is_a_sentence(tmp_path: Path) -> None:
    for n in range(2):
        write(tmp_path, f"p{n}", None, np.full((8, 8, 8), n, np.float32), (1, 1, 1))
    (tmp_path / "labels").rmdir()
    data = parse(
        {
            "kind": "pairs",
            "pairs": [{"case": "p0", "image": str(tmp_path / "images/p0.nii.gz")}],
        }
    )
    with pytest.raises(DataError, match="has a label"):
        take_fingerprint(data)


def test_reading_can_be_stopped(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="stopped"):
        take_fingerprint(parse({"kind": "auto", "root": str(make(tmp_path))}), stopped=lambda: True)


@pytest.mark.parametrize(
    ("names", "turned"),
    [
        (("kidney_left", "kidney_right", "liver"), (("kidney_left", "kidney_right"), None, None)),
        (("Parotid_L", "Parotid_R"), (("Parotid_L", "Parotid_R"), None, None)),
        (("LeftLung", "RightLung"), (("LeftLung", "RightLung"), None, None)),
        (("Anterior", "Posterior"), (None, ("Anterior", "Posterior"), None)),
        (("upper lobe left", "lower lobe left"), (None, None, ("upper lobe left", "lower lobe left"))),
        (("liver", "lesion", "left"), (None, None, None)),
    ],
)
def test_classes_that_mirroring_would_exchange(names: tuple[str, ...], turned: tuple[object, ...]) -> None:
    assert mirrored_classes(names) == turned
