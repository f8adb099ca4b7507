"""One case of other programs' results: classes on one grid, nnU-Net's probabilities, explanation."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from segexplorer.core.errors import DataError
from segexplorer.data.results import ResultCase, ResultListing, open_results
from segexplorer.data.results.probabilities import read_probabilities, read_region_probabilities
from segexplorer.data.volume import Volume
from segexplorer.training.result_cases import find_case, image_of_result, open_result
from segexplorer.viewmodels.decision import Decision
from tests.data.results.layouts import label, nnunet, predictions, write


def listing_of(folder: Path) -> ResultListing:
    (spec,) = open_results(folder)
    return spec.listing()


def test_a_case_has_prediction_truth_and_image(tmp_path: Path) -> None:
    listing = listing_of(nnunet(tmp_path))
    found = open_result(listing, "hippo_003")
    assert found.snapshot.class_names == ("anterior", "posterior")
    assert np.array_equal(found.snapshot.prediction, label(3, moved=3))
    assert found.snapshot.truth is not None and np.array_equal(found.snapshot.truth, label(3))
    image = image_of_result(listing, "hippo_003")
    assert image is not None and image.open().images[0].shape == (16, 12, 10)


def test_probabilities_give_the_prediction_and_explain_it(tmp_path: Path) -> None:
    found = open_result(listing_of(nnunet(tmp_path)), "hippo_003")
    probabilities = found.probabilities()
    assert np.array_equal(probabilities.argmax(axis=0), found.snapshot.prediction)
    explanation = found.explanation("dice")
    asked = explanation.asked(2)
    true, predicted = found.snapshot.truth == 2, found.snapshot.prediction == 2
    assert asked.values[true & ~predicted].min() >= 0 >= asked.values[predicted & ~true].max()
    counts = Decision(explanation.logits, explanation.labels, 2).counts()
    assert (counts.fp, counts.fn) == (int((predicted & ~true).sum()), int((true & ~predicted).sum()))


def test_classes_that_merge_label_values_add_their_probabilities(tmp_path: Path) -> None:
    found = open_result(listing_of(nnunet(tmp_path)), "hippo_001", classes={"all": (1, 2)})
    probabilities = found.probabilities()
    assert probabilities.shape[0] == 2
    assert np.array_equal(probabilities[1] > 0.5, label(1, moved=1) > 0)
    assert np.allclose(probabilities.sum(axis=0), 1)


@pytest.mark.parametrize("reorient", [False, True])
@pytest.mark.parametrize("axes", ["LPS", "RAS", "PIR", "SAL"])
def test_the_order_of_the_axes_is_found(tmp_path: Path, axes: str, reorient: bool) -> None:
    """The archive as nnU-Net's readers make it: in the file's order or (reorient) in RAS, and reversed."""
    ornt = nib.orientations
    turn = ornt.ornt_transform(ornt.axcodes2ornt("RAS"), ornt.axcodes2ornt(axes))
    ras = nib.Nifti1Image(label(0, moved=2)[1:, :, :9], np.diag([1.0, 2.0, 3.0, 1.0]))
    stored = ras.as_reoriented(turn)
    values: NDArray[np.uint8] = np.asarray(stored.dataobj)
    seen = np.asarray(ras.dataobj) if reorient else values
    channels = np.stack([(seen == value) * 0.8 + 0.1 for value in range(3)]).astype(np.float16)
    np.savez_compressed(tmp_path / "case.npz", probabilities=channels.transpose(0, 3, 2, 1))
    found = read_probabilities(tmp_path / "case.npz", Volume.from_array(values, affine=stored.affine))
    assert np.array_equal(found.argmax(axis=0), values)


def test_probabilities_follow_the_prediction_onto_the_grid_of_the_truth(tmp_path: Path) -> None:
    training = nnunet(tmp_path)
    truth = label(0)[::-1]
    path = tmp_path / "nnUNet_preprocessed/Dataset004_Hippo/gt_segmentations/hippo_000.nii.gz"
    affine = np.diag([-1.0, 1.0, 2.0, 1.0])
    affine[0, 3] = 15
    nib.save(nib.Nifti1Image(truth, affine), path)
    found = open_result(listing_of(training), "hippo_000")
    assert found.snapshot.truth is not None and np.array_equal(found.snapshot.truth, truth)
    assert np.array_equal(found.probabilities().argmax(axis=0), truth)


def _archive(path: Path, **arrays: NDArray[np.float32]) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"data": np.zeros((3, 10, 12, 16), np.float32)}, "no array probabilities"),
        ({"probabilities": np.zeros((10, 12, 16), np.float32)}, "has the shape"),
        ({"probabilities": np.zeros((3, 10, 12, 17), np.float32)}, "of different images"),
        ({"probabilities": np.full((3, 10, 12, 16), 0.3, np.float32)}, "do not belong"),
        ({"probabilities": np.array([None] * 8, object).reshape(2, 2, 2, 1)}, "has the shape|type object"),
    ],
)
def test_archives_that_are_none_are_refused(
    tmp_path: Path, arrays: dict[str, NDArray[np.float32]], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        read_probabilities(_archive(tmp_path / "x.npz", **arrays), Volume.from_array(label(0)))


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    whole = _archive(tmp_path / "x.npz", probabilities=np.zeros((3, 10, 12, 16), np.float32)).read_bytes()
    (tmp_path / "x.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="not a readable archive"):
        read_probabilities(tmp_path / "x.npz", Volume.from_array(label(0)))


REGIONS = {"background": 0, "whole": [1, 2], "core": [2]}


def _with_regions(tmp_path: Path, *, elsewhere: bool = False) -> ResultListing:
    """A training with two regions and the probabilities of one case, or of something else."""
    listing = listing_of(nnunet(tmp_path, labels=REGIONS))
    case = find_case(listing, "hippo_003")
    assert case.probabilities is not None
    values = label(3, moved=3)
    sigmoids = [np.where(own, 0.9, 0.2) for own in (values > 0, values == 2)]
    stored = np.stack(sigmoids).astype(np.float32)
    if elsewhere:
        stored = 1 - stored
    np.savez_compressed(case.probabilities, probabilities=stored.transpose(0, 3, 2, 1))
    return listing


def test_regions_overlap_in_what_is_shown_and_have_a_probability_each(tmp_path: Path) -> None:
    found = open_result(_with_regions(tmp_path), "hippo_003", names=("core", "whole"))
    snapshot = found.snapshot
    assert snapshot.class_names == ("core", "whole") and snapshot.truth is not None
    for index, values in ((1, (2,)), (2, (1, 2))):
        assert np.array_equal(snapshot.scheme.mask(snapshot.truth, index), np.isin(label(3), values))
        assert np.array_equal(
            snapshot.scheme.mask(snapshot.prediction, index), np.isin(label(3, moved=3), values)
        )
    probabilities = found.probabilities()
    assert np.array_equal(snapshot.scheme.decide(probabilities), snapshot.prediction)
    assert set(np.unique(probabilities[1])) == {np.float32(0.2), np.float32(0.9)}
    explanation = found.explanation("dice")
    asked = explanation.asked(2)
    true, predicted = label(3) > 0, label(3, moved=3) > 0
    assert asked.values[true & ~predicted].min() >= 0 >= asked.values[predicted & ~true].max()
    counts = Decision(explanation.logits, explanation.labels, 2, scheme=snapshot.scheme).counts()
    assert (counts.fp, counts.fn) == (int((predicted & ~true).sum()), int((true & ~predicted).sum()))


def test_one_region_alone_excludes_nothing_but_the_background(tmp_path: Path) -> None:
    listing = _with_regions(tmp_path)
    found = open_result(listing, "hippo_003", classes={"tumour": (1, 2)})
    assert not found.snapshot.scheme.overlapping
    assert np.array_equal(found.probabilities().argmax(0), found.snapshot.prediction)
    with pytest.raises(DataError, match="those of whole, core, not of oedema"):
        open_result(listing, "hippo_003", classes={"oedema": 1}).probabilities()


def test_probabilities_of_other_regions_are_refused(tmp_path: Path) -> None:
    other = open_result(_with_regions(tmp_path, elsewhere=True), "hippo_003")
    with pytest.raises(DataError, match="other regions are above one half"):
        other.probabilities()
    exclusive = open_result(listing_of(nnunet(tmp_path / "other")), "hippo_003")
    path, three = exclusive.source.probabilities, Volume.from_array(label(3))
    assert path is not None
    with pytest.raises(DataError, match="3 regions, dataset"):
        read_region_probabilities(path, three, [(1, 2), (2,)])


def test_a_case_without_label_shows_its_prediction(tmp_path: Path) -> None:
    write(tmp_path / "out/p1.nii.gz", label(0))
    found = open_result(listing_of(tmp_path / "out"), "p1", names=("label 2",))
    assert found.snapshot.truth is None and found.snapshot.class_names[0] == "label 2"
    assert int((found.snapshot.prediction == 1).sum()) == int((label(0) == 2).sum())
    with pytest.raises(DataError, match="no label"):
        found.explanation()


def test_classes_have_the_same_number_in_every_case(tmp_path: Path) -> None:
    folder = predictions(tmp_path, range(1))
    only_two = np.where(label(0) == 2, label(0), 0).astype(np.uint8)
    write(folder / "case_0.nii.gz", only_two)
    write(tmp_path / "labels/case_0.nii.gz", only_two)
    found = open_result(listing_of(folder), "case_0", names=("label 1", "label 2"))
    assert found.snapshot.class_names == ("label 1", "label 2")
    assert set(np.unique(found.snapshot.prediction)) == {0, 2}


def test_another_case_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    case = ResultCase("liver_1", tmp_path / "x.nii.gz")
    with pytest.raises(DataError, match="liver_1"):
        find_case(ResultListing((case,)), "livr_1")
