"""Fingerprints see every file of a case; splits keep patients together; coarse sampling is smoothed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segexplorer.core.errors import DataError, SpecError
from segexplorer.data.case import CaseRef
from segexplorer.data.datasets.phantom import Phantoms
from segexplorer.data.splits import Split, assign_roles
from segexplorer.data.transforms.preprocessing import before_downsampling


def named(name: str, patient: str = "", role: str | None = None) -> CaseRef:
    return CaseRef(name, (Path("image"),), Path("label"), patient or name, role)  # type: ignore[arg-type]


def test_fingerprint_sees_every_image_and_the_label(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a", "b", "label")]
    for path in paths:
        path.write_bytes(b"x" * 3_000_000)
    ref = CaseRef("case", (paths[0], paths[1]), paths[2])
    seen = {ref.fingerprint()}
    for path in paths:
        path.write_bytes(path.read_bytes()[:-1] + b"y")
        seen.add(ref.fingerprint())
    assert len(seen) == 4
    paths[1].unlink()
    with pytest.raises(DataError, match=r"case: .*b cannot be read"):
        ref.fingerprint()


def test_a_phantoms_fingerprint_renders_nothing() -> None:
    first, second = Phantoms(count=2, size=32).cases()
    assert first.fingerprint() != second.fingerprint()
    assert first.fingerprint() == Phantoms(count=1, size=32).cases()[0].fingerprint()
    assert first.fingerprint() != Phantoms(count=1, size=32, seed=1).cases()[0].fingerprint()
    image = first.images[0]
    assert not isinstance(image, Path) and not image.loaded


@settings(max_examples=30, deadline=None)
@given(st.permutations(range(12)), st.integers(0, 99), st.floats(0, 0.6))
def test_split_is_by_patient_and_ignores_the_order(order: list[int], seed: int, fraction: float) -> None:
    refs = [named(f"case{i:02d}", f"patient{i // 3}") for i in range(12)]
    split = Split(validation_fraction=fraction)
    roles = assign_roles(refs, split, seed)
    assert roles == assign_roles([refs[i] for i in order], split, seed)
    for patient in range(4):
        assert len({roles[f"case{i:02d}"] for i in range(12) if i // 3 == patient}) == 1
    assert "train" in roles.values()


def test_one_patient_in_two_roles_is_refused() -> None:
    refs = [named("scan1", "ann"), named("scan2", "ann"), named("scan3", "bob")]
    with pytest.raises(DataError, match=r"scan1 \(for validation\) and scan2 \(for test\) .* ann"):
        assign_roles(refs, Split(validation=("scan1",), test=("scan2",)), 0)
    given_role = [named("scan1", "ann", "train"), named("scan2", "ann"), named("scan3", "bob")]
    with pytest.raises(DataError, match="same role"):
        assign_roles(given_role, Split(validation=("scan2",)), 0)


def test_named_cases_take_their_patient_along() -> None:
    refs = [named("scan1", "ann"), named("scan2", "ann"), named("scan3", "bob")]
    roles = assign_roles(refs, Split(validation=("scan1",)), 0)
    assert roles == {"scan1": "validation", "scan2": "validation", "scan3": "train"}


def test_excluded_cases_have_no_role_and_are_not_counted() -> None:
    refs = [named(f"case{i}") for i in range(10)]
    split = Split(excluded=("case2", "case7"), validation_fraction=0.25, test_fraction=0.25)
    roles = assign_roles(refs, split, 0)
    assert set(roles) == {f"case{i}" for i in range(10)} - {"case2", "case7"}
    assert sorted(roles.values()) == ["test"] * 2 + ["train"] * 4 + ["validation"] * 2
    with pytest.raises(SpecError, match=r"no case 'case77'.*case7"):
        assign_roles(refs, Split(excluded=("case77",)), 0)
    with pytest.raises(SpecError, match="case2 is left out and kept apart"):
        assign_roles(refs, Split(excluded=("case2",), test=("case2",)), 0)


def test_cases_named_for_training_train_whatever_the_data_set_says() -> None:
    refs = [named("a", role="validation"), named("b", role="validation"), named("c"), named("d", role="test")]
    roles = assign_roles(refs, Split(train=("a",)), 0)
    assert roles == {"a": "train", "b": "validation", "c": "train", "d": "test"}
    with pytest.raises(SpecError, match="no case 'x' to train on"):
        assign_roles(refs, Split(train=("x",)), 0)
    for other in ("validation", "test", "excluded"):
        with pytest.raises(SpecError, match="Case a trains and does not at once"):
            assign_roles(refs, Split.of({"train": ["a"], other: ["a"]}), 0)


def test_where_too_few_cases_are_left_their_number_is_reported() -> None:
    refs = [named(f"case{i}") for i in range(5)]
    with pytest.raises(DataError, match="of 5 labelled cases 4 validate and 1 test"):
        assign_roles(refs, Split(validation_count=4, test=("case0",)), 0)


def test_a_lone_case_trains() -> None:
    assert assign_roles([named("one")], Split(), 0) == {"one": "train"}
    assert assign_roles([named("one")], Split(self_validation=True), 0) == {"one": "train"}


def test_fine_stripes_fade_instead_of_folding() -> None:
    stripes = np.zeros((64, 6, 6), np.float32)
    stripes[::2] = 1
    smooth = before_downsampling(stripes, (1, 1, 1), (3, 1, 1))
    assert np.ptp(smooth[8:-8:3]) < 0.1 < np.ptp(stripes[8:-8:3])
    assert smooth[8:-8].mean() == pytest.approx(0.5, abs=0.01)
    assert before_downsampling(stripes, (1, 1, 1), (1.5, 1, 1)) is stripes
