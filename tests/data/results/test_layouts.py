"""Results of other programs: recognised by names, with labels and images where these programs keep them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segexplorer.core.errors import DataError
from segexplorer.data.io import open_volume
from segexplorer.data.results import ResultListing, ResultsSpec, open_results, recognise, registry
from segexplorer.data.sources import Structures
from tests.data.results.layouts import label, nnunet, predictions, structures, write, write_image


def only(folder: Path, **settings: Any) -> ResultsSpec:
    (found,) = open_results(folder, **settings)
    return found


def by_id(listing: ResultListing) -> dict[str, Any]:
    return {case.id: case for case in listing.cases}


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.delenv(name, raising=False)


# ---- nnU-Net


def test_nnunet_training_is_one_set_over_its_folds(tmp_path: Path) -> None:
    training = nnunet(tmp_path)
    spec = only(training)
    assert spec.kind == "nnunet_results" and spec.title == "nnUNetTrainer__nnUNetPlans__3d_fullres"
    listing = spec.listing()
    assert [case.id for case in listing.cases] == ["hippo_000", "hippo_001", "hippo_002", "hippo_003"]
    assert listing.classes == {"anterior": (1,), "posterior": (2,)} and listing.problems == ()
    case = by_id(listing)["hippo_001"]
    assert case.prediction == training / "fold_1/validation/hippo_001.nii.gz"
    assert case.truth == tmp_path / "nnUNet_preprocessed/Dataset004_Hippo/gt_segmentations/hippo_001.nii.gz"
    assert case.images == (tmp_path / "nnUNet_raw/Dataset004_Hippo/imagesTr/hippo_001_0000.nii.gz",)
    assert case.probabilities == training / "fold_1/validation/hippo_001.npz"


@pytest.mark.parametrize("place", ["fold_1", "fold_1/validation"])
def test_nnunet_one_fold(tmp_path: Path, place: str) -> None:
    spec = only(nnunet(tmp_path) / place)
    assert spec.title.endswith("fold_1")
    listing = spec.listing()
    assert [case.id for case in listing.scorable] == ["hippo_001", "hippo_003"]
    assert listing.classes == {"anterior": (1,), "posterior": (2,)}


def test_nnunet_results_folder_holds_a_set_per_training(tmp_path: Path) -> None:
    training = nnunet(tmp_path)
    shutil.copytree(training, training.with_name("nnUNetTrainer__nnUNetPlans__2d"))
    for place in (tmp_path / "nnUNet_results", training.parent):
        assert [spec.title for spec in open_results(place)] == [
            "nnUNetTrainer__nnUNetPlans__2d",
            "nnUNetTrainer__nnUNetPlans__3d_fullres",
        ]


def test_nnunet_variables_lead_to_labels_and_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    training = nnunet(tmp_path / "a")
    moved = tmp_path / "elsewhere" / "training"
    shutil.copytree(training, moved)
    assert not only(moved).listing().scorable
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "a" / "nnUNet_preprocessed"))
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "a" / "nnUNet_raw"))
    listing = only(moved).listing()
    assert len(listing.scorable) == 4 and all(case.images for case in listing.cases)


def test_nnunet_summary_names_the_labels(tmp_path: Path) -> None:
    training = nnunet(tmp_path)
    hidden = tmp_path / "kept"
    shutil.move(tmp_path / "nnUNet_preprocessed", hidden)
    summary = training / "fold_0/validation/summary.json"
    content = json.loads(summary.read_text())
    for row in content["metric_per_case"]:
        row["reference_file"] = str(
            hidden / "Dataset004_Hippo/gt_segmentations" / Path(row["prediction_file"]).name
        )
    summary.write_text(json.dumps(content))
    assert [case.id for case in only(training / "fold_0").listing().scorable] == ["hippo_000", "hippo_002"]


def test_nnunet_predictions_of_test_images(tmp_path: Path) -> None:
    training = nnunet(tmp_path)
    place = tmp_path / "predicted"
    write(place / "test_1.nii.gz", label(1))
    for name in ("dataset.json", "plans.json"):
        shutil.copy(training / name, place / name)
    (place / "predict_from_raw_data_args.json").write_text("{}")
    raw = tmp_path / "nnUNet_raw/Dataset004_Hippo"
    write(raw / "labelsTs/test_1.nii.gz", label(1))
    write_image(raw / "imagesTs/test_1_0000.nii.gz", label(1))
    (case,) = only(place).listing().cases
    assert case.truth == raw / "labelsTs/test_1.nii.gz" and case.images == (
        raw / "imagesTs/test_1_0000.nii.gz",
    )


def test_nnunet_cases_that_their_fold_did_not_predict(tmp_path: Path) -> None:
    training = nnunet(tmp_path)
    (training / "fold_1/validation/hippo_003.nii.gz").unlink()
    (training / "fold_1/validation/hippo_003.npz").unlink()
    listing = only(training).listing()
    assert [(p.case, p.code) for p in listing.problems] == [("hippo_003", "no_prediction")]


def test_nnunet_fold_all_is_badged(tmp_path: Path) -> None:
    training = nnunet(tmp_path, folds=1)
    shutil.move(training / "fold_0", training / "fold_all")
    listing = only(training).listing()
    assert {case.badge for case in listing.cases} == {"training case, not held out"} and listing.notes


def test_nnunet_ignore_label_and_regions(tmp_path: Path) -> None:
    labels = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}
    listing = only(nnunet(tmp_path, labels=labels)).listing()
    assert listing.classes == {"whole": (1, 2), "core": (2,)} and listing.ignored == (3,)


# ---- MONAI


@pytest.mark.parametrize("postfix", ["seg", "trans"])
def test_monai_bundle_output(tmp_path: Path, postfix: str) -> None:
    for n in range(3):
        write(tmp_path / f"eval/spleen_{n}/spleen_{n}_{postfix}.nii.gz", label(n))
        write(tmp_path / f"labelsTr/spleen_{n}.nii.gz", label(n))
        write_image(tmp_path / f"imagesTr/spleen_{n}.nii.gz", label(n))
    spec = only(tmp_path / "eval", labels=str(tmp_path / "labelsTr"), images=str(tmp_path / "imagesTr"))
    assert spec.kind == "monai_results" and spec.plain()["postfix"] == postfix
    listing = spec.listing()
    assert [case.id for case in listing.scorable] == ["spleen_0", "spleen_1", "spleen_2"]
    assert all(len(case.images) == 1 for case in listing.cases)


def test_auto3dseg_ensemble_finds_the_labels_of_its_data_list(tmp_path: Path) -> None:
    work, data = tmp_path / "work_dir", tmp_path / "data"
    rows = []
    for n in range(2):
        write_image(data / f"imagesTr/la_{n}.nii.gz", label(n))
        write(data / f"labelsTr/la_{n}.nii.gz", label(n))
        rows.append({"image": f"imagesTr/la_{n}.nii.gz", "label": f"labelsTr/la_{n}.nii.gz", "fold": n})
        write(work / f"ensemble_output/imagesTr/la_{n}/la_{n}_ensemble.nii.gz", label(n))
    (data / "list.json").write_text(json.dumps({"training": rows, "testing": []}))
    (work / "input.yaml").write_text(f"modality: MRI\ndatalist: {data / 'list.json'}\ndataroot: {data}\n")
    spec = only(work)
    assert spec.title == "work_dir/ensemble_output"
    listing = spec.listing()
    assert [case.id for case in listing.scorable] == ["la_0", "la_1"]
    assert by_id(listing)["la_1"].images == (data / "imagesTr/la_1.nii.gz",)


# ---- TotalSegmentator

ORGANS = {1: "liver", 2: "spleen", 3: "aorta"}


def test_totalsegmentator_folder_per_case(tmp_path: Path) -> None:
    for n in range(2):
        structures(tmp_path / "out" / f"s{n:04}", label(n), ORGANS)
        (tmp_path / "out" / f"s{n:04}" / "statistics.json").write_text("{}")
        structures(tmp_path / "truth" / f"s{n:04}" / "segmentations", label(n), ORGANS)
        write_image(tmp_path / "truth" / f"s{n:04}" / "ct.nii.gz", label(n))
    spec = only(tmp_path / "out", labels=str(tmp_path / "truth"), images=str(tmp_path / "truth"))
    assert spec.kind == "structure_results"
    (first, second) = spec.listing().scorable
    assert first.id == "s0000" and first.images == (tmp_path / "truth/s0000/ct.nii.gz",)
    assert isinstance(second.prediction, Structures) and isinstance(second.truth, Structures)
    opened = second.prediction.open(label=True)
    assert opened.label_names == {1: "aorta", 2: "liver", 3: "spleen"}


def test_totalsegmentator_one_case(tmp_path: Path) -> None:
    structures(tmp_path / "s0011", label(0), ORGANS)
    (case,) = only(tmp_path / "s0011").listing().cases
    assert case.id == "s0011"


def test_totalsegmentator_multilabel_file_names_its_values(tmp_path: Path) -> None:
    import nibabel as nib

    xml = (
        '<?xml version="1.0" encoding="UTF-8"?> <CaretExtension> <VolumeInformation Index="0"> <LabelTable>\n'
        '<Label Key="1" Red="1.0" Green="0.0" Blue="0.0" Alpha="1"><![CDATA[spleen]]></Label>\n'
        '<Label Key="2" Red="0.0" Green="1.0" Blue="0.0" Alpha="1"><![CDATA[kidney_right]]></Label>\n'
        "</LabelTable></VolumeInformation></CaretExtension>"
    )
    image = nib.Nifti1Image(label(0), np.eye(4))
    image.header.extensions.append(nib.nifti1.Nifti1Extension(0, xml.encode()))
    nib.save(image, tmp_path / "seg.nii.gz")
    assert open_volume(tmp_path / "seg.nii.gz", label=True).label_names == {1: "spleen", 2: "kidney_right"}


# ---- any program


@pytest.mark.parametrize("ending", ["", "_pred", "_seg"])
def test_predictions_beside_labels(tmp_path: Path, ending: str) -> None:
    spec = only(predictions(tmp_path, range(3), ending=ending))
    assert spec.kind == "prediction_folder"
    listing = spec.listing()
    assert [case.id for case in listing.scorable] == ["case_0", "case_1", "case_2"]
    assert all(case.images for case in listing.cases)
    assert only(tmp_path).listing() == listing


def test_predictions_by_pattern(tmp_path: Path) -> None:
    for n in range(2):
        write(tmp_path / f"runs/p{n}/out/mask.nii.gz", label(n))
        write(tmp_path / f"ref/p{n}/gt.nii.gz", label(n))
    spec = only(
        tmp_path / "runs", pattern="{case}/out/mask.nii.gz", labels=str(tmp_path / "ref/{case}/gt.nii.gz")
    )
    assert [case.id for case in spec.listing().scorable] == ["p0", "p1"]


def test_labels_and_predictions_without_partner_are_problems_of_their_case(tmp_path: Path) -> None:
    folder = predictions(tmp_path, range(3))
    (folder / "case_1.nii.gz").unlink()
    (tmp_path / "labels/case_2.nii.gz").unlink()
    problems = {p.case: p.code for p in only(folder).listing().problems}
    assert problems == {"case_1": "no_prediction", "case_2": "no_label"}


def test_unknown_layouts_and_missing_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="does not have the layout"):
        recognise(tmp_path / "empty")
    with pytest.raises(DataError, match="There is no folder"):
        recognise(tmp_path / "nowhere")
    write(tmp_path / "file.nii.gz", label(0))
    with pytest.raises(DataError, match="is a file"):
        recognise(tmp_path / "file.nii.gz")


def test_every_kind_has_a_layout_and_refuses_a_folder_that_is_not_there(tmp_path: Path) -> None:
    for name, kind in registry.specs().items():
        assert kind.layout and kind.display_name, name
        with pytest.raises(DataError):
            kind.of({"root": str(tmp_path / "nowhere")}).listing()
