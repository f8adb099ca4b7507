"""Verdicts on errors: kept beside the run, also while it is trained, verified, and shared without free text."""

from __future__ import annotations

import json
import multiprocessing
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from segexplorer.core.errors import DataError, DiskError, RunHeldError
from segexplorer.training import verdicts
from segexplorer.training.run import Run
from segexplorer.training.sharing import share_run
from segexplorer.training.verdicts import LOCK, VERDICTS, Verdict, keep_verdict, read_verdicts
from segexplorer.training.verification import is_sound, verify_run


def verdict(**changes: object) -> Verdict:
    facts = {
        "case": "phantom_001", "role": "validation", "family": "missing", "class_name": "liver",
        "judgement": "label_error", "note": "the radiologist Mueller agrees", "step": 3, "shape": (4, 5, 6),
        "voxels": 3, "samples": [1, 2, 3], "volume_ml": 1.5, "place": "left, slice 3",
    }  # fmt: skip
    return Verdict.model_validate({**facts, **changes})


@pytest.fixture
def folder(make_run: Callable[..., Run]) -> Path:
    """A run folder that nothing was trained in yet."""
    return make_run().folder.path if hasattr(make_run().folder, "path") else Path(make_run("other").folder)


def test_kept_changed_and_taken_back(folder: Path) -> None:
    first, second = verdict(), verdict(case="phantom_002", judgement=None, done=True, note="")
    keep_verdict(folder, first)
    assert keep_verdict(folder, second) == (first, second) == read_verdicts(folder)
    changed = first.model_copy(update={"judgement": "unclear"})
    assert keep_verdict(folder, changed) == (changed, second)
    nothing = second.model_copy(update={"done": False})
    assert nothing.empty
    assert keep_verdict(folder, nothing) == (changed,)


def test_only_run_folders_get_verdicts(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a run folder"):
        keep_verdict(tmp_path, verdict())
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_being_trained_gets_verdicts(make_run: Callable[..., Run]) -> None:
    run = make_run()
    kept = 0
    for _ in run:
        if kept < 3:
            keep_verdict(Path(run.folder), verdict())
            kept += 1
    assert run.state == "finished"
    assert len(read_verdicts(Path(run.folder))) == 3
    findings = verify_run(Path(run.folder))
    assert is_sound(findings)
    assert {f.name: f.text for f in findings}[VERDICTS] == "3 verdicts, its checksum fits"
    assert LOCK not in {f.name for f in findings}


def _judge(folder: Path, number: int) -> None:
    for index in range(5):
        keep_verdict(folder, verdict(case=f"case_{number}_{index}"))


def test_readers_at_the_same_time_lose_nothing(folder: Path) -> None:
    context = multiprocessing.get_context("fork" if hasattr(os, "fork") else "spawn")
    readers = [context.Process(target=_judge, args=(folder, number)) for number in range(3)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(60)
        assert reader.exitcode == 0
    assert len({v.case for v in read_verdicts(folder)}) == 15


def test_a_lock_that_is_not_given_free_ends_in_a_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verdicts, "PATIENCE_S", 0.05)
    with FileLock(folder / LOCK), pytest.raises(RunHeldError, match="Another process is writing"):
        keep_verdict(folder, verdict())
    assert read_verdicts(folder) == ()


def test_a_damaged_file_is_not_replaced(folder: Path) -> None:
    keep_verdict(folder, verdict())
    stored = json.loads((folder / VERDICTS).read_text())
    stored["verdicts"][0]["judgement"] = "true_error"
    (folder / VERDICTS).write_text(json.dumps(stored))
    with pytest.raises(DataError, match="checksum"):
        keep_verdict(folder, verdict())
    assert json.loads((folder / VERDICTS).read_text()) == stored
    assert not is_sound(verify_run(folder))


@pytest.mark.parametrize(
    "changes",
    [
        {"judgement": "whatever"},
        {"samples": list(range(10_000))},
        {"shape": (4, 5)},
        {"volume_ml": float("inf")},
        {"id": "../x"},
    ],
)
def test_what_others_wrote_is_validated(folder: Path, changes: dict[str, object]) -> None:
    plain = {**verdict().model_dump(mode="json"), **changes}
    (folder / VERDICTS).write_text(json.dumps({"verdicts": [plain]}))
    with pytest.raises(DataError, match="damaged"):
        read_verdicts(folder)


def test_a_link_out_of_the_folder_is_not_followed(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("")
    (folder / LOCK).symlink_to(outside)
    with pytest.raises(DataError, match="leads out"):
        keep_verdict(folder, verdict())


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_is_read_only_says_so(folder: Path) -> None:
    folder.chmod(0o500)
    try:
        with pytest.raises(DiskError):
            keep_verdict(folder, verdict())
    finally:
        folder.chmod(0o700)


def _shared(folder: Path, output: Path, **options: bool) -> list[dict[str, object]]:
    share_run(folder, output, weights=False, **options)
    with zipfile.ZipFile(output) as archive:
        found: list[dict[str, object]] = json.loads(archive.read(f"run/{VERDICTS}"))["verdicts"]
    return found


def test_shared_copies_have_no_notes_places_or_times(folder: Path, tmp_path: Path) -> None:
    keep_verdict(folder, verdict(corrected="Mueller_v2.nii.gz", later="a word of a later version"))
    (shared,) = _shared(folder, tmp_path / "a.zip")
    assert "Mueller" not in json.dumps(shared) and "later" not in shared
    assert (shared["case"], shared["class_name"], shared["judgement"]) == ("case_001", "liver", "label_error")
    assert (shared["note"], shared["samples"], shared["when"], shared["corrected"]) == ("", [], 0, "")
    (shared,) = _shared(folder, tmp_path / "b.zip", notes=True, predictions=True)
    assert shared["note"] == "the radiologist Mueller agrees"
    assert shared["samples"] == [1, 2, 3]
