"""Nothing of a patient goes beyond the DICOM file: planted names are sought in everything we make of it."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segexplorer.core.errors import DataError
from segexplorer.core.events import ValidationDone
from segexplorer.data.case import CaseRef
from segexplorer.data.datasets.discovery import kept_together
from segexplorer.data.formats.dicom.files import patient_key
from segexplorer.data.formats.dicom.seg import write_seg
from segexplorer.data.formats.dicom.series import list_series
from segexplorer.data.grid import describe
from segexplorer.data.io import open_volume, save_volume
from segexplorer.frontends.napari.layers import layer_arguments
from segexplorer.testing.dicom import PATIENT, write_series
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.predict import predict
from segexplorer.training.run import Run
from segexplorer.viewmodels.layer_images import image_picture

PLANTED = [*PATIENT.values(), "PLANTED-", "Planted^Doctor", "Planted Hospital"]
PLANTED.remove("O")  # a sex of one letter is everywhere


def assert_clean(text: object) -> None:
    words = text if isinstance(text, bytes) else str(text).encode()
    assert not [word for word in PLANTED if word.encode() in words]
    assert b"planted" not in words.lower()


def series(folder: Path, seed: int) -> Path:
    """A bright box in noise."""
    rng = np.random.default_rng(seed)
    voxels = rng.integers(900, 1100, (20, 20, 20)).astype(np.uint16)
    voxels[5:14, 4:15, 6:16] += 400

    def patient(data: Any, k: int) -> None:
        data.PatientID = f"PLANTED-{seed}"  # else a split would keep the cases together

    write_series(folder, voxels, spacing=(1, 1), step=(0, 0, 1.0), number=seed, change=patient)
    return folder


def test_a_volume_and_its_layer_hold_nothing_of_the_patient(tmp_path: Path) -> None:
    volume = open_volume(series(tmp_path / "ct", 1))
    picture = image_picture(volume, "ct")
    for text in (
        repr(volume),
        volume.provenance,
        volume.notes,
        describe(volume),
        layer_arguments(picture),
        [one.facts for one in list_series(tmp_path)],
        list_series(tmp_path),
        pickle.dumps(volume),
    ):
        assert_clean(text)
    saved = save_volume(volume, tmp_path / "out.nii")
    assert_clean(saved.read_bytes())


def test_a_run_on_dicom_leaves_nothing_of_the_patient(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Cases of a CT folder and a DICOM SEG each, trained, predicted, and written as NIfTI."""
    pytest.importorskip("highdicom")  # no wheels for Python 3.14 yet
    caplog.set_level(logging.DEBUG)
    pairs = []
    for n in (1, 2):
        image = open_volume(series(tmp_path / f"ct{n}", n))
        label = image.with_array((image.array > 150).astype(np.uint8))
        seg = write_seg(label, tmp_path / f"seg{n}.dcm", names={1: "Box"})
        assert b"Planted" in seg.read_bytes()  # DICOM wants it there, and nowhere else
        pairs.append({"case": f"case {n}", "image": str(tmp_path / f"ct{n}"), "label": str(seg)})
    experiment = Experiment.of(
        {
            "data": {"kind": "pairs", "pairs": pairs},
            "split": {"validation_count": 1},
            "sampling": {"patch_size": [16, 16, 16], "batch_size": 2, "steps_per_epoch": 12},
            "network": {"kind": "unet", "base_features": 4, "levels": 2},
            "optimiser": {"kind": "adamw", "learning_rate": 0.01},
            "schedule": {"kind": "constant", "epochs": 1},
            "compute": {"device": "cpu", "threads": 1},
        }
    )
    run = Run(RunFolder.create(experiment, tmp_path / "run"))
    events = list(run)
    scores = [event for event in events if isinstance(event, ValidationDone)]
    assert scores and scores[-1].mean_dice > 0.3
    assert_clean(pickle.dumps(events))
    prediction = predict(run.folder, tmp_path / "ct1", checkpoint="last")
    save_volume(prediction, tmp_path / "run" / "prediction.nii", integer=True)
    files = [path for path in run.folder.rglob("*") if path.is_file()]
    assert len(files) > 10
    for path in files:
        assert_clean(path.read_bytes())
        assert_clean(path.name)
    assert_clean(caplog.text)
    assert_clean("".join(capfd.readouterr()))
    written = save_volume(prediction, tmp_path / "prediction.dcm", integer=True)
    back = open_volume(written, label=True, like=prediction)
    np.testing.assert_array_equal(back.array, prediction.array)


def test_errors_do_not_name_the_patient(tmp_path: Path) -> None:
    paths = write_series(tmp_path, np.ones((3, 4, 4), np.uint16))
    for cut in range(0, len(paths[0].read_bytes()), 61):
        broken = tmp_path / "broken.dcm"
        broken.write_bytes(paths[0].read_bytes()[:cut])
        try:
            open_volume(broken)
        except DataError as error:
            assert_clean(error)
            assert_clean(error.__cause__)


def test_patients_are_told_apart_by_salted_keys(tmp_path: Path) -> None:
    def of(number: str, issuer: str = ""):  # type: ignore[no-untyped-def]
        def change(data: object, k: int) -> None:
            data.PatientID, data.IssuerOfPatientID = number, issuer  # type: ignore[attr-defined]

        return change

    voxels = np.ones((2, 4, 4), np.uint16)
    for name, number, issuer in (
        ("c", "PLANTED-1", ""),
        ("a", "PLANTED-1", ""),
        ("b", "PLANTED-2", ""),
        ("d", "PLANTED-1", "other"),
        ("e", "", ""),
        ("f", "", ""),
    ):
        write_series(tmp_path / name, voxels, change=of(number, issuer))
    together = kept_together([CaseRef(name, (tmp_path / name,)) for name in "abcdef"])
    assert {ref.id: ref.patient for ref in together} == {
        "a": "a",
        "b": "b",
        "c": "a",
        "d": "d",
        "e": "e",
        "f": "f",
    }
    key = patient_key(tmp_path / "a", b"salt")
    assert key == patient_key(tmp_path / "c", b"salt") != patient_key(tmp_path / "a", b"pepper")
    assert patient_key(tmp_path / "a") == patient_key(tmp_path / "c")
    assert patient_key(tmp_path / "e") == ""
    assert_clean(key)
