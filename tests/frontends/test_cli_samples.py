"""`segexplorer samples`: a list with licences; fetching needs to be asked for, checks the hash, and can be used."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from monai.apps.datasets import DecathlonDataset

from segexplorer.data.datasets.downloads import SAMPLES
from segexplorer.data.io import save_volume
from segexplorer.data.volume import Volume
from segexplorer.frontends.cli.app import run

NAME = "Task04_Hippocampus"


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small archive in the place of the published one."""
    root = tmp_path / "web" / NAME
    for folder in ("imagesTr", "labelsTr"):
        (root / folder).mkdir(parents=True)
        voxels = np.arange(512, dtype=np.uint8).reshape(8, 8, 8) % 3
        save_volume(Volume.from_array(voxels), root / folder / "hippocampus_001.nii.gz", integer=True)
    described = {"modality": {"0": "MRI"}, "labels": {"0": "background", "1": "Anterior", "2": "Posterior"}}
    (root / "dataset.json").write_text(json.dumps(described))
    archive = tmp_path / "web" / f"{NAME}.tar"
    with tarfile.open(archive, "w") as packed:
        packed.add(root, NAME)
    digest = hashlib.md5(archive.read_bytes(), usedforsecurity=False).hexdigest()
    monkeypatch.setitem(DecathlonDataset.resource, NAME, archive.as_uri())
    monkeypatch.setitem(DecathlonDataset.md5, NAME, digest)
    return archive


def test_every_sample_is_one_that_monai_can_fetch_and_has_a_licence() -> None:
    assert {one.name for one in SAMPLES} == set(DecathlonDataset.resource)
    assert all(one.licence and one.reference and one.megabytes > 0 for one in SAMPLES)


def test_samples_are_listed_without_fetching(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert run(["samples"]) == 0
    out = capsys.readouterr().out
    assert NAME in out and "CC BY-SA 4.0" in out and "Nothing is fetched unasked" in out
    assert run(["samples", NAME]) == 0
    assert "Licence: CC BY-SA 4.0" in capsys.readouterr().out
    assert run(["samples", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == len(SAMPLES)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_fetched_sample_can_be_checked(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["samples", NAME, "--download", str(tmp_path / "data")]) == 0
    assert "Licence: CC BY-SA 4.0" in capsys.readouterr().out
    assert not (tmp_path / "data" / f"{NAME}.tar").exists()
    assert run(["check", str(tmp_path / "data" / NAME)]) == 0
    assert "Anterior (1), Posterior (2)" in capsys.readouterr().out
    assert run(["samples", NAME, "--download", str(tmp_path / "data")]) == 2
    assert "is there already" in capsys.readouterr().err


def test_a_damaged_or_missing_archive_is_reported(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published.write_bytes(published.read_bytes() + b"more")
    assert run(["samples", NAME, "--download", str(tmp_path / "data")]) == 2
    said = capsys.readouterr()
    assert "its hash is not that of the published file" in said.err and "medicaldecathlon.com" in said.err
    assert "ERROR" not in said.out
    published.unlink()
    assert run(["samples", NAME, "--download", str(tmp_path / "data")]) == 2
    assert "could not be downloaded" in capsys.readouterr().err


def test_mistakes_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["samples", "Task04_Hipocampus"]) == 2
    assert "Did you mean Task04_Hippocampus" in capsys.readouterr().err
    assert run(["samples", "--download", "x"]) == 2
    assert "needs the name of a sample" in capsys.readouterr().err
