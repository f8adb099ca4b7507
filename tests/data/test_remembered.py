"""What is remembered of files: until they change in whatever way, and no longer."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from segexplorer.core.errors import DataError
from segexplorer.data import case as case_module
from segexplorer.data import remembered as module
from segexplorer.data.case import (
    CaseRef,
    ClassMap,
    case_identity,
    label_values,
    newest_change,
    source_identity,
)
from segexplorer.data.checks import check_dataset
from segexplorer.data.class_voxels import class_problems, count_classes
from segexplorer.data.io import save_volume
from segexplorer.data.remembered import forget, remembered
from segexplorer.data.transforms import Preprocessing, fit
from segexplorer.data.volume import Volume


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGEXPLORER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "_SETTLED_NS", -(10**15))
    monkeypatch.setattr(module, "_known", {})


def new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_known", {})


def asked(path: Path, answers: list[Any], question: str = "size", **rest: Any) -> Any:
    return remembered(
        question,
        lambda: source_identity(path),
        lambda: answers.pop(0),
        newest=lambda: newest_change(path),
        **rest,
    )


def test_an_answer_is_kept_over_processes_and_by_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"one")
    answers = [[1, {"x": 2.5}], "other", "again"]
    for _ in range(3):
        assert asked(file, answers) == [1, {"x": 2.5}]
        new_process(monkeypatch)
    assert asked(file, answers, "colour") == "other"
    assert asked(file, answers, again=True) == "again" == asked(file, answers)
    new_process(monkeypatch)
    assert asked(file, answers) == "again" and not answers


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda path: path.write_bytes(b"two"),
    "longer": lambda path: path.write_bytes(b"longer"),
    "time": lambda path: os.utime(path, (5, 5)),
    "replaced, its time set back": lambda path: _replaced(path),
    "moved": lambda path: path.rename(path.with_name("b")) and None,
}


def _replaced(path: Path) -> None:
    about = path.stat()
    other = path.with_name("new")
    other.write_bytes(b"new")
    os.utime(other, ns=(about.st_atime_ns, about.st_mtime_ns))
    other.replace(path)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (about.st_size, about.st_mtime_ns)


@pytest.mark.parametrize("change", list(CHANGES))
def test_whatever_changes_it_is_asked_again(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"one")
    answers = [1, 2]
    asked(file, answers)
    CHANGES[change](file)
    new_process(monkeypatch)
    assert asked(tmp_path / "b" if change == "moved" else file, answers) == 2


def test_a_file_in_a_folder_of_slices_counts(tmp_path: Path) -> None:
    folder = tmp_path / "series"
    folder.mkdir()
    (folder / "1").write_bytes(b"one")
    answers = [1, 2, 3]
    assert asked(folder, answers) == asked(folder, answers) == 1
    (folder / "2").write_bytes(b"two")
    assert asked(folder, answers) == 2
    (folder / "1").unlink()
    assert asked(folder, answers) == 3


def test_a_file_that_changes_while_it_is_read_or_is_too_new_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"one")

    def answer() -> int:
        file.write_bytes(b"changed meanwhile")
        return 1

    remembered("q", lambda: source_identity(file), answer, newest=lambda: newest_change(file))
    new_process(monkeypatch)
    assert asked(file, [2], "q") == 2
    monkeypatch.setattr(module, "_SETTLED_NS", 3600 * 10**9)
    new_process(monkeypatch)
    assert asked(file, [3], "new") == 3
    new_process(monkeypatch)
    assert asked(file, [4], "new") == 4


def test_damage_a_missing_place_and_forgetting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a"
    file.write_bytes(b"one")
    asked(file, [1])
    (kept,) = (tmp_path / "cache" / "facts").rglob("*.json")
    for content in (b"", b"{", kept.read_bytes().replace(b"1", b"2"), b"[1]"):
        kept.write_bytes(content)
        new_process(monkeypatch)
        assert asked(file, [7]) == 7
    assert "tmp" not in kept.read_text() and str(tmp_path) not in kept.read_text()
    forget()
    assert asked(file, [8]) == 8
    (tmp_path / "blocked").write_text("in the way")
    monkeypatch.setenv("SEGEXPLORER_CACHE", str(tmp_path / "blocked"))
    new_process(monkeypatch)
    assert asked(file, [9]) == 9


# ---- what asks


CLASSES = ClassMap.from_classes({"a": 1})


@pytest.fixture
def refs(tmp_path: Path) -> list[CaseRef]:
    found = []
    for n in range(3):
        rng = np.random.default_rng(n)
        label = (rng.random((12, 11, 10)) > 0.6).astype(np.uint8)
        save_volume(
            Volume.from_array(rng.integers(0, 900, label.shape).astype(np.int16)), tmp_path / f"i{n}.nii.gz"
        )
        save_volume(Volume.from_array(label), tmp_path / f"l{n}.nii.gz", integer=True)
        found.append(CaseRef(f"c{n}", (tmp_path / f"i{n}.nii.gz",), tmp_path / f"l{n}.nii.gz", f"c{n}"))
    return found


def everything(refs: list[CaseRef]) -> list[Any]:
    """Ask all that a launch asks about the cases."""
    roles: Any = {"c0": "train", "c1": "train", "c2": "validation"}
    fitted = fit(Preprocessing.of({"intensity": {"kind": "ct_window", "scale": "standard"}}), refs)
    return [
        [label_values(ref) for ref in refs],
        check_dataset(refs, roles, CLASSES),
        fitted,
        fit(Preprocessing(), refs),
        [count_classes(ref, fitted, CLASSES) for ref in refs],
        class_problems({r.id: r for r in refs}, roles, fitted, CLASSES),
        [ref.fingerprint() for ref in refs],
    ]


def test_a_second_launch_reads_no_voxel(refs: list[CaseRef], monkeypatch: pytest.MonkeyPatch) -> None:
    first = everything(refs)
    new_process(monkeypatch)

    def unwanted(*arguments: Any, **rest: Any) -> Any:
        raise AssertionError("voxels or bytes were read")

    monkeypatch.setattr(Volume, "array", property(unwanted))
    monkeypatch.setattr(case_module, "_content", unwanted)
    volume = refs[0].open().images[0]
    with pytest.raises(AssertionError, match="were read"):
        volume.array  # noqa: B018
    assert everything(refs) == first


def test_a_changed_label_is_read_again(refs: list[CaseRef], monkeypatch: pytest.MonkeyPatch) -> None:
    before = everything(refs)
    label = refs[1].label
    assert isinstance(label, Path)
    about = label.stat()
    save_volume(Volume.from_array(np.ones((12, 11, 10), np.uint8)), label, integer=True)
    os.utime(label, ns=(about.st_atime_ns, about.st_mtime_ns))
    new_process(monkeypatch)
    after = everything(refs)
    assert after[0][1] == {1} and after[4][1].stored == (0, 12 * 11 * 10) and after[6][1] != before[6][1]
    assert [after[4][n] == before[4][n] for n in range(3)] == [True, False, True]


def test_hashing_again_reads_and_can_be_stopped_within_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "label.raw"
    file.write_bytes(bytes(2**23))
    ref = CaseRef("c", (Volume.from_array(np.zeros((2, 2, 2), np.float32)),), file)
    monkeypatch.setattr(case_module, "_STRETCH", 2**20)
    looks: list[int] = []
    hashed = ref.fingerprint(looked=lambda: looks.append(1))
    assert len(looks) == 8
    assert ref.fingerprint(looked=lambda: looks.append(1)) == hashed and len(looks) == 8
    assert ref.fingerprint(again=True, looked=lambda: looks.append(1)) == hashed and len(looks) == 16

    class Stopped(BaseException):
        pass

    def stop() -> None:
        looks.append(1)
        if len(looks) == 19:
            raise Stopped

    with pytest.raises(Stopped):
        ref.fingerprint(again=True, looked=stop)
    assert len(looks) == 19


def test_threads_may_ask_at_once(refs: list[CaseRef]) -> None:
    expected = everything(refs)
    forget()
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(everything(refs))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and all(each == expected for each in found)


def test_errors_are_not_remembered(tmp_path: Path) -> None:
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"no volume")
    ref = CaseRef("c", (bad,), bad)
    for _ in range(2):
        with pytest.raises(DataError, match="c: "):
            label_values(ref)
    assert not list((tmp_path / "cache").rglob("*.json"))


def _pair(folder: Path, kind: str, voxels: np.ndarray) -> Path:
    """Write a label whose header is one file and whose voxels are another."""
    if kind == "hdr":
        nib.Nifti1Pair(voxels, np.eye(4)).to_filename(folder / "label.hdr")
        return folder / "label.hdr"
    (folder / "label.raw").write_bytes(voxels.tobytes(order="F"))
    sizes = " ".join(map(str, voxels.shape))
    header = {
        "mhd": f"ObjectType = Image\nNDims = 3\nDimSize = {sizes}\nElementType = MET_UCHAR\n"
        "ElementDataFile = label.raw\n",
        "nhdr": "NRRD0004\ntype: uint8\ndimension: 3\nspace: left-posterior-superior\n"
        f"sizes: {sizes}\nspace directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (0,0,0)\n"
        "encoding: raw\nendian: little\ndata file: label.raw\n",
    }
    (folder / f"label.{kind}").write_text(header[kind])
    return folder / f"label.{kind}"


@pytest.mark.parametrize("kind", ["mhd", "nhdr", "hdr"])
def test_voxels_beside_their_header_are_looked_at(tmp_path: Path, kind: str) -> None:
    voxels = np.zeros((6, 5, 4), np.uint8)
    voxels[0, 0, 0] = 1
    path = _pair(tmp_path, kind, voxels)
    ref = CaseRef("case", (path,), path)
    before, identity = ref.fingerprint(), case_identity(ref)
    assert label_values(ref) == {0, 1}
    header = path.read_bytes()
    voxels[1, 1, 1] = 2
    assert _pair(tmp_path, kind, voxels) == path and path.read_bytes() == header
    assert case_identity(ref) != identity
    assert label_values(ref) == {0, 1, 2}
    assert ref.fingerprint() != before
