"""The mapping of label values to classes and back."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segexplorer.core.errors import DataError
from segexplorer.core.label_scheme import IGNORED
from segexplorer.data.case import ClassMap

MERGED = {"kidneys": [2, 3], "liver": 5}


@pytest.mark.parametrize(("other_labels", "other"), [("background", 0), ("ignored", IGNORED)])
def test_values_are_merged_and_others_are_background_or_ignored(other_labels: str, other: int) -> None:
    classes = ClassMap.from_classes(MERGED, other_labels)  # type: ignore[arg-type]
    label = np.array([[0, 2, 3], [5, 4, 200]], np.uint8)
    assert classes.names == ("kidneys", "liver")
    assert classes.encode(label).tolist() == [[0, 1, 1], [2, other, other]]
    assert classes.encode(label).dtype == np.uint8
    assert classes.unnamed(label) == [4, 200]
    assert classes.label_names == {2: "kidneys", 5: "liver"}


def test_the_name_ignore_makes_no_class_whatever_becomes_of_others() -> None:
    classes = ClassMap.from_classes({"liver": 5, "ignore": [7, 9]})
    assert classes.names == ("liver",)
    assert classes.encode(np.array([0, 5, 6, 7, 9])).tolist() == [0, 1, 0, IGNORED, IGNORED]
    assert classes.unnamed(np.array([0, 5, 6, 7])) == [6]


def test_decoding_gives_a_merged_class_its_first_value_and_ignored_voxels_background() -> None:
    classes = ClassMap.from_classes(MERGED)
    decoded = classes.decode(np.array([0, 1, 2, IGNORED], np.uint8))
    assert decoded.tolist() == [0, 2, 5, 0] and decoded.dtype == np.uint8
    wide = ClassMap.from_classes({"a": 1000, "b": -3})
    assert wide.decode(np.array([0, 1, 2], np.uint8)).tolist() == [0, 1000, -3]


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.int64, np.float32, np.float64])
def test_any_kind_of_numbers_will_do(kind: type) -> None:
    label = np.array([0, 2, 3, 5, 9], kind)
    assert ClassMap.from_classes(MERGED).encode(label).tolist() == [0, 1, 1, 2, 0]


def test_large_and_negative_values() -> None:
    classes = ClassMap.from_classes({"a": -1, "b": 10**6})
    assert classes.encode(np.array([-1, 0, 10**6, 7, -5])).tolist() == [1, 0, 2, 0, 0]
    assert classes.encode(np.zeros((0, 2), np.int16)).shape == (0, 2)


def test_a_mask_of_0_and_255_is_read_as_0_and_1_only_where_that_is_meant() -> None:
    mask = np.array([0, 255, 255], np.uint8)
    assert ClassMap.from_classes({"lesion": 1}).encode(mask).tolist() == [0, 1, 1]
    assert ClassMap.from_classes({"lesion": 1}).encode(np.array([0, 1, 255])).tolist() == [0, 1, 0]
    for classes in (
        ClassMap.from_classes({"lesion": 1}, "ignored"),
        ClassMap.from_classes({"lesion": 1, "ignore": 255}),
    ):
        assert classes.encode(mask).tolist() == [0, IGNORED, IGNORED]
    assert ClassMap.from_classes({"lesion": 2}).encode(mask).tolist() == [0, 0, 0]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=12, unique=True), st.data())
def test_encoding_undoes_decoding(values: list[int], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, len(values)), max_size=4)) | {0, len(values)})
    groups = [values[a:b] for a, b in itertools.pairwise(cuts)]
    classes = ClassMap.from_classes({f"class {i}": group for i, group in enumerate(groups)})
    indices = np.arange(len(groups) + 1, dtype=np.uint8)
    assert np.array_equal(classes.encode(classes.decode(indices)), indices)
    assert ClassMap.of(json.loads(json.dumps(classes.plain()))) == classes


@pytest.mark.parametrize(
    ("classes", "told"),
    [
        ({}, "No class"),
        ({"ignore": 3}, "No class"),
        ({"a": 1, "b": [2, 1]}, "is in two classes, a and b"),
        ({"a": [0, 1]}, "background"),
        ({str(n): n for n in range(1, 300)}, "too many"),
    ],
)
def test_what_is_no_mapping_is_reported(classes: dict[str, int | list[int]], told: str) -> None:
    with pytest.raises(DataError, match=told):
        ClassMap.from_classes(classes)


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf])
def test_a_label_of_no_whole_numbers_is_refused(value: float) -> None:
    with pytest.raises(DataError, match="whole numbers"):
        ClassMap.from_classes(MERGED).encode(np.array([0, 1, value]))
