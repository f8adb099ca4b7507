"""Every published layout is recognised by looking, and its cases, channels, classes and patients are right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import segexplorer
from segexplorer.core.errors import DataError
from segexplorer.core.label_scheme import IGNORED
from segexplorer.data import datasets
from segexplorer.data.case import ClassMap
from segexplorer.data.datasets.base import DatasetSpec
from segexplorer.data.splits import Split, assign_roles

Made = Callable[..., DatasetSpec]


def test_layout_is_recognised_and_every_case_opens(made: Made, layout: str, layouts: ModuleType) -> None:
    data = made(layout)
    kind = layouts.LAYOUTS[layout][1]
    assert type(data).model_fields["kind"].default == kind
    assert not [p for p in data.listing().problems if p.severity == "error"]
    cases = data.cases()
    assert [ref.id for ref in cases] == sorted(ref.id for ref in cases)
    classes = ClassMap.from_classes(data.class_values(), data.other_labels)
    for ref in cases:
        case = ref.open()
        assert len(case.images) == len(cases[0].images)
        assert {image.shape for image in case.images} == {layouts.SHAPE}
        assert case.images[0].array.shape == layouts.SHAPE
        if case.label is not None:
            assert not classes.unnamed(case.label.array)
            assert case.label.shape == layouts.SHAPE
        assert len(ref.fingerprint()) == 64
    again = datasets.parse({"kind": "auto", "root": _root(data), "classes": data.classes})
    assert [ref.id for ref in again.cases()] == [ref.id for ref in cases]
    assert again.class_values() == data.class_values()


def _root(data: DatasetSpec) -> str:
    return str(data.plain()["root"])


def test_recognition_gives_its_reason(tmp_path: Path, layouts: ModuleType) -> None:
    layouts.kits19(tmp_path)
    found = datasets.recognise(tmp_path)
    assert (found.kind, found.folder.name) == ("kits", "data")
    assert found.reason == "case_00000 with a file imaging"


def test_folder_of_unknown_layout_says_what_to_do(tmp_path: Path, layouts: ModuleType) -> None:
    layouts.image(tmp_path / "something.nii.gz")
    with pytest.raises(
        DataError, match=r"does not have the layout of a known data set \(1 file \.nii\.gz\)\. .*\{case\}"
    ):
        segexplorer.open_dataset(tmp_path)
    layouts.lits(tmp_path / "one")
    layouts.btcv(tmp_path / "two")
    with pytest.raises(DataError, match=r"several data sets: one \(lits\), RawData \(btcv\)"):
        datasets.recognise(tmp_path)


def test_decathlon_channels_are_the_frames_of_a_4d_file(made: Made) -> None:
    (ref,) = made("decathlon_4d").cases()
    arrays = [image.array for image in ref.open().images]
    assert len(arrays) == 4
    assert not np.array_equal(arrays[0], arrays[3])


def test_nnunet_regions_become_classes_that_exclude_each_other(made: Made) -> None:
    data = made("nnunet_v2")
    values = data.class_values()
    assert values == {
        "whole tumor without tumor core, enhancing": (1,),
        "tumor core without enhancing": (2,),
        "enhancing": (3,),
        "ignore": (4,),
    }
    label = data.cases()[0].open().label
    assert label is not None
    coded = ClassMap.from_classes(values).encode(label.array)
    assert np.array_equal(coded == IGNORED, label.array == 4)
    assert np.array_equal(coded == 3, label.array == 3)


def test_chosen_classes_keep_nnunets_ignored_voxels(made: Made) -> None:
    data = made("nnunet_v2", classes={"tumour": (1, 2, 3)})
    assert data.class_values() == {"tumour": (1, 2, 3), "ignore": (4,)}


def test_nnunet_v1_names_its_channels_and_misses_none(made: Made) -> None:
    data = made("nnunet_v1")
    assert data.class_values() == {"PZ": (1,), "TZ": (2,)}
    assert [len(ref.images) for ref in data.cases()] == [2, 2]
    Path(_root(data), "imagesTr/prostate_01_0001.nii.gz").unlink()
    (problem,) = data.listing().problems
    assert (problem.case, problem.message) == ("prostate_01", "It has no channel 0001.")
    with pytest.raises(DataError, match=r"prostate_01: It has no channel 0001\. Every case needs"):
        data.cases()


def test_brats_has_four_sequences_label_4_and_the_misnamed_label(made: Made) -> None:
    data = made("brats20")
    first, odd = data.cases()
    assert [path.name.rsplit("_", 1)[1] for path in first.images] == [
        "flair.nii",
        "t1.nii",
        "t1ce.nii",
        "t2.nii",
    ]  # type: ignore[union-attr]
    assert isinstance(odd.label, Path) and odd.label.name == "W39_1998.09.19_Segm.nii"
    assert data.class_values()["enhancing tumour"] == (4,)
    two = data.model_copy(update={"sequences": ("t1ce", "flair")})
    assert [path.name.rsplit("_", 1)[1] for path in two.cases()[0].images] == ["t1ce.nii", "flair.nii"]  # type: ignore[union-attr]


def test_later_brats_has_label_3_and_visits_of_one_patient(made: Made) -> None:
    data = made("brats23")
    assert data.class_values()["enhancing tumour"] == (3,)
    assert {ref.patient for ref in data.cases()} == {"BraTS-GLI-00003"}


def test_cases_without_label_are_kept_for_prediction(made: Made) -> None:
    assert [ref.label is None for ref in made("kits19").cases()] == [False, True]
    assert [ref.id for ref in made("btcv").cases() if ref.label is None] == ["img0061"]


def test_the_folder_above_will_do(tmp_path: Path, layouts: ModuleType) -> None:
    for name, kind, count in (("kits19", "kits", 2), ("brats20", "brats", 2), ("btcv", "btcv", 3)):
        layouts.LAYOUTS[name][0](tmp_path / name)
        named = segexplorer.open_dataset(tmp_path / name, kind=kind)
        found = segexplorer.open_dataset(tmp_path / name)
        assert [ref.id for ref in named.cases()] == [ref.id for ref in found.cases()]
        assert len(named.cases()) == count


def test_msseg2_learns_the_consensus_or_an_expert(made: Made) -> None:
    data = made("msseg2")
    labels = [ref.label for ref in data.cases()]
    assert [path.name for path in labels] == ["ground_truth.nii.gz"] * 2  # type: ignore[union-attr]
    expert = data.model_copy(update={"reader": "expert3"}).cases()[0].label
    assert isinstance(expert, Path) and expert.name == "ground_truth_expert3.nii.gz"


def test_acdc_phases_stay_with_their_patient_and_testing_tests(made: Made) -> None:
    data = made("acdc")
    refs = data.cases()
    assert [(r.id, r.patient, r.role) for r in refs] == [
        ("patient001_ED", "patient001", None),
        ("patient001_ES", "patient001", None),
        ("patient101_ED", "patient101", "test"),
        ("patient101_ES", "patient101", "test"),
    ]
    roles = assign_roles(refs, Split(), 0)
    assert set(roles.values()) == {"train", "test"}
    assert [r.id for r in data.model_copy(update={"phases": "ES"}).cases()] == [
        "patient001_ES",
        "patient101_ES",
    ]


def test_bids_subjects_stay_together_and_values_have_names(made: Made) -> None:
    data = made("bids")
    assert [(r.id, r.patient) for r in data.cases()] == [
        ("sub-01_ses-a", "sub-01"),
        ("sub-01_ses-b", "sub-01"),
        ("sub-02_ses-a", "sub-02"),
    ]
    assert data.class_values() == {"cortex": (1,), "thalamus": (7,)}


def test_bids_asks_which_where_there_are_several(made: Made, layouts: ModuleType) -> None:
    data = made("bids")
    for session in ("a", "b"):
        name = f"sub-01/ses-{session}/anat/sub-01_ses-{session}"
        layouts.image(Path(_root(data), f"{name}_FLAIR.nii.gz"))
        layouts.label(Path(_root(data), f"derivatives/manual/{name}_label-lesion_mask.nii.gz"))
    with pytest.raises(DataError, match=r"kinds of label: dseg, label-lesion_mask\. .*data\.label: dseg"):
        data.cases()
    lesions = data.model_copy(update={"label": "label-lesion_mask"})
    with pytest.raises(DataError, match=r"end in FLAIR, T1w\. .*data\.images: \[FLAIR\]"):
        lesions.cases()
    both = lesions.model_copy(update={"images": ("T1w", "FLAIR")})
    assert [p.case for p in both.listing().problems] == ["sub-02_ses-a"]
    assert [len(r.images) for r in both.listing().cases] == [2, 2]


def test_one_mask_of_0_and_255_is_one_class(made: Made) -> None:
    assert made("side_by_side").class_values() == {"foreground": (255,)}


def test_label_without_image_is_reported_and_the_rest_is_listed(made: Made, layouts: ModuleType) -> None:
    data = made("two_folders")
    layouts.label(Path(_root(data), "Masks/p9.nii.gz"))
    listing = data.listing()
    assert [ref.id for ref in listing.cases] == ["p1", "p2"]
    assert [(p.code, p.case) for p in listing.problems] == [("no_image", "p9")]
    with pytest.raises(DataError, match="p9: The label has no image"):
        data.cases()


def test_a_pattern_may_name_the_patient(tmp_path: Path, layouts: ModuleType) -> None:
    for patient, visit in (("ann", 1), ("ann", 2), ("bob", 1)):
        layouts.image(tmp_path / patient / f"v{visit}/ct.nii.gz")
        layouts.label(tmp_path / patient / f"v{visit}/seg.nii.gz")
    data = segexplorer.open_dataset(
        tmp_path, kind="folder", images="{patient}/{case}/ct.nii.gz", labels="{patient}/{case}/seg.nii.gz"
    )
    assert [(r.id, r.patient) for r in data.cases()] == [
        ("ann_v1", "ann"),
        ("ann_v2", "ann"),
        ("bob_v1", "bob"),
    ]
