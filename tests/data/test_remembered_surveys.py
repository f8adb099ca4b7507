"""A second `init` or `check` of the same folder reads no voxel; what changed is read again, and nothing else."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from segexplorer.data import remembered as module
from segexplorer.data.case import ClassMap
from segexplorer.data.checks import CaseFacts, survey
from segexplorer.data.datasets import parse
from segexplorer.data.fingerprint import Fingerprint, take_fingerprint
from segexplorer.data.volume import Volume

CLASSES = ClassMap.from_classes({"liver": (1,), "lesion": (2,)})


class Reads:
    """Names of the files whose voxels were read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: list[str] = []
        original, lock = Volume.array.fget, threading.Lock()
        assert original is not None

        def array(volume: Volume) -> Any:
            if volume._array is None:
                with lock:
                    self.names.append(Path(volume.provenance.path or "").name)
            return original(volume)

        monkeypatch.setattr(Volume, "array", property(array))

    def taken(self) -> list[str]:
        names, self.names = sorted(self.names), []
        return names


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEGEXPLORER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "_SETTLED_NS", -(10**15))
    monkeypatch.setattr(module, "_known", {})
    for n in range(5):
        write(tmp_path / "data", n)
    return tmp_path / "data"


def write(root: Path, n: int, lift: float = 0.0, mark: int = 2) -> None:
    image = np.random.default_rng(n).normal(100 + lift, 20, (20, 24, 12)).astype(np.float32)
    label = np.zeros(image.shape, np.uint8)
    label[4:8, 4:8, 4:8] = 1
    label[12:14, 12:14, 2:4] = mark
    for part, voxels in (("images", image), ("labels", label)):
        (root / part).mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(voxels, np.diag([-1, 1, 2.5, 1.0])), root / part / f"p{n}.nii.gz")


def new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_known", {})


def check(root: Path, **rest: Any) -> tuple[list[CaseFacts], list[Any]]:
    refs = parse({"kind": "folder", "root": str(root)}).examine().cases
    return survey(refs, CLASSES, {ref.id: "train" for ref in refs}, **rest)


def init(root: Path) -> Fingerprint:
    return take_fingerprint(parse({"kind": "folder", "root": str(root)}))


def told(seen: Fingerprint) -> tuple[Any, ...]:
    return (
        seen.facts(),
        seen.channels,
        seen.class_facts,
        seen.nonzero,
        seen.problems,
        seen.left_out,
        seen.read,
    )


def test_a_second_check_reads_no_voxel(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = Reads(monkeypatch)
    first = check(root)
    assert len(reads.taken()) == 10
    new_process(monkeypatch)
    assert check(root) == first
    assert reads.taken() == []
    write(root, 3, lift=500)
    new_process(monkeypatch)
    rows, _ = check(root)
    assert set(reads.taken()) == {"p3.nii.gz"}
    assert [row for row in rows if row.case != "p3"] == [row for row in first[0] if row.case != "p3"]
    assert rows[3].typical[0] > 550 and rows[3].digest != first[0][3].digest  # type: ignore[index]


def test_a_second_init_reads_no_voxel(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = Reads(monkeypatch)
    first = init(root)
    assert len(reads.taken()) >= 10
    new_process(monkeypatch)
    assert told(init(root)) == told(first)
    assert reads.taken() == []
    write(root, 1, mark=1)
    new_process(monkeypatch)
    assert told(init(root)) != told(first)
    assert set(reads.taken()) == {"p1.nii.gz"}


def test_a_changed_file_of_the_same_size_and_time_is_noticed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = check(root)
    path = root / "labels/p2.nii.gz"
    before = path.stat()
    write(root, 2, mark=1)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    new_process(monkeypatch)
    assert check(root)[0][2].volumes_ml != first[0][2].volumes_ml


def test_facts_are_kept_without_the_names_of_cases(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root, 4, mark=9)  # a value that no class names, which is a note
    rows, _ = check(root)
    assert any(problem.case == "p4" for problem in rows[4].problems)
    kept = list((tmp_path / "cache").rglob("*.json"))
    assert kept and not any("p4" in file.read_text() for file in kept)
    new_process(monkeypatch)
    assert check(root)[0] == rows


def test_other_classes_are_another_question(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(root)
    reads = Reads(monkeypatch)
    refs = parse({"kind": "folder", "root": str(root)}).examine().cases
    rows, _ = survey(refs, ClassMap.from_classes({"all": (1, 2)}))
    assert len(reads.taken()) == 10 and set(rows[0].volumes_ml) == {"all"}


def test_what_cannot_be_read_is_asked_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = root / "images/p0.nii.gz"
    whole = path.read_bytes()
    path.write_bytes(b"no image")
    assert check(root)[0][0].problems[0].code == "unreadable"
    path.write_bytes(whole)
    new_process(monkeypatch)
    assert not any(problem.severity == "error" for problem in check(root)[0][0].problems)


def test_a_check_can_be_stopped_between_two_cases(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = Reads(monkeypatch)
    for n in range(5, 40):
        write(root, n)

    def stop(_: CaseFacts) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(root, looked=stop)
    assert len(reads.taken()) < 40  # of 80: those in hand are finished, none is begun any more
    check(root)
    assert len(reads.taken()) < 80  # and what was read is known
