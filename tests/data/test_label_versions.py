"""Corrected labels as versions: numbered, with provenance, never over the old; listed only where asked for."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from segexplorer.core.errors import DataError
from segexplorer.data import datasets
from segexplorer.data.io import open_volume, save_volume
from segexplorer.data.label_versions import newest_version, next_version, save_version, versions_of
from segexplorer.data.volume import Volume


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Two cases in imagesTr and labelsTr."""
    array = np.zeros((4, 5, 6), np.uint8)
    array[1:3, 1:3, 1:3] = 1
    for folder, voxels in (("imagesTr", array.astype(np.float32)), ("labelsTr", array)):
        (tmp_path / folder).mkdir()
        for name in ("a", "b"):
            volume = Volume.from_array(voxels, affine=np.diag([-2.0, 2.0, 3.0, 1.0]))
            save_volume(volume, tmp_path / folder / f"{name}.nii.gz", integer=folder == "labelsTr")
    pairs = [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in ("a", "b")]
    manifest = {"labels": {"0": "background", "1": "liver"}, "training": pairs}
    (tmp_path / "dataset.json").write_text(json.dumps(manifest))
    return tmp_path


def corrected(path: Path) -> Volume:
    label = open_volume(path, label=True)
    array = np.array(label.array)
    array[0, 0, 0] = 1
    return label.with_array(array)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_versions_count_up_say_where_they_come_from_and_leave_the_original_alone(dataset: Path) -> None:
    label = dataset / "labelsTr/a.nii.gz"
    before = sha256(label)
    first, version = save_version(
        label, corrected(label), voxels_changed=1, reason={"case": "a", "note": "rim"}, by="reader 1"
    )
    assert first == dataset / "labelsTr/label_versions/a_v2.nii.gz" and sha256(label) == before
    assert (version.parent, version.parent_sha256, version.original) == ("a.nii.gz", before, "a.nii.gz")
    assert (version.number, version.by, version.reason["note"]) == (2, "reader 1", "rim")
    assert version.sha256 == sha256(first)
    saved = open_volume(first, label=True)
    assert np.array_equal(saved.array, corrected(label).array)
    assert np.allclose(saved.affine, open_volume(label).affine)
    second, third = save_version(first, corrected(first), voxels_changed=3, by="reader 2")
    assert (second.name, third.parent, third.original) == ("a_v3.nii.gz", "a_v2.nii.gz", "a.nii.gz")
    assert third.parent_sha256 == version.sha256 == sha256(first), "a version is not touched either"
    assert [v.number for v in versions_of(label)] == [2, 3] == [v.number for v in versions_of(second)]
    assert newest_version(label) == (second, third)
    assert newest_version(dataset / "labelsTr/b.nii.gz") == (dataset / "labelsTr/b.nii.gz", None)


def test_names_of_the_next_version(tmp_path: Path) -> None:
    assert next_version(tmp_path / "liver.nii.gz") == tmp_path / "label_versions/liver_v2.nii.gz"
    (tmp_path / "label_versions").mkdir()
    (tmp_path / "label_versions/liver_v4.nii.gz").touch()
    assert next_version(tmp_path / "liver.nii.gz").name == "liver_v5.nii.gz", "also without its provenance"
    assert next_version(tmp_path / "label_versions/liver_v4.nii.gz").name == "liver_v5.nii.gz"
    assert next_version(tmp_path / "liver_v7.nrrd").name == "liver_v7_v2.nrrd", "an original of that name"
    (tmp_path / "new").mkdir()
    (tmp_path / "new/liver_v2.nrrd").touch()
    assert next_version(tmp_path / "liver.nrrd", tmp_path / "new") == tmp_path / "new/liver_v3.nrrd"
    assert next_version(tmp_path / "a.dcm").name == "a_v2.nii.gz", "what cannot be written becomes NIfTI"


def test_a_listing_uses_the_newest_ones_only_where_asked_and_says_so(dataset: Path) -> None:
    label = dataset / "labelsTr/a.nii.gz"
    spec = datasets.registry.parse({"kind": "decathlon", "root": str(dataset)})
    asked = spec.model_copy(update={"label_versions": "newest"})
    plain = spec.examine()
    (problem,) = [p for p in asked.examine().problems if p.code == "label_versions"]
    assert "all labels are the originals" in problem.message
    path, _ = save_version(label, corrected(label), voxels_changed=1)
    assert spec.examine() == plain, "a version is no further case"
    found = asked.examine()
    assert [ref.label for ref in found.cases] == [path, plain.cases[1].label]
    (problem,) = [p for p in found.problems if p.code == "label_versions"]
    assert "a (version 2, 20" in problem.message and "b" not in problem.message.split("for", 1)[1]
    assert found.cases[0].fingerprint() != plain.cases[0].fingerprint()
    assert found.cases[0].open().label.array[0, 0, 0] == 1  # type: ignore[union-attr]
    assert replace(found.cases[0], label=label) == plain.cases[0]


def test_what_cannot_be_a_version_is_refused(dataset: Path) -> None:
    label = dataset / "labelsTr/a.nii.gz"
    with pytest.raises(DataError, match="No voxel"):
        save_version(label, corrected(label), voxels_changed=0)
    with pytest.raises(DataError, match="not one file"):
        save_version(dataset / "labelsTr", corrected(label), voxels_changed=1)
    path, _ = save_version(label, corrected(label), voxels_changed=1)
    said = path.with_name("a_v2.json")
    text = said.read_text()
    said.write_text(text.replace("a_v2.nii.gz", "../../a.nii.gz"))
    with pytest.raises(DataError):
        versions_of(label)
    said.write_text(json.dumps({"file": "a_v2.nii.gz"}))
    with pytest.raises(DataError, match="where the label comes from"):
        versions_of(label)
    said.write_text(text)
    path.unlink()
    with pytest.raises(DataError, match="not there"):
        newest_version(label)
