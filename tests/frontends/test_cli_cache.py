"""`segexplorer cache`: size, list, clear, limit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from segexplorer.data.cache_folder import CaseCache
from segexplorer.data.voxel_file import write_voxels
from segexplorer.frontends.cli.app import run


def filled(folder: Path, count: int = 3) -> None:
    cache = CaseCache(folder)
    for n in range(count):
        array = np.random.default_rng(n).integers(0, 255, (20, 20, 20), np.uint8)
        cache.make(f"{n:02x}ab", lambda file, array=array: write_voxels(file, {}, {"a": array}))  # type: ignore[misc]
    cache.close()


def asked(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    assert run(["cache", *arguments, "--json"]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_size_list_limit_and_clear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEGEXPLORER_CACHE", str(tmp_path))
    assert asked(capsys)["count"] == 0
    filled(tmp_path)
    found = asked(capsys, "list")
    on_disk = sum(path.stat().st_size for path in tmp_path.rglob("*.zip"))
    assert found["count"] == 3 and found["bytes"] == on_disk and found["limit_set"] is False
    assert [entry["in_use"] for entry in found["entries"]] == [False] * 3  # type: ignore[attr-defined]
    assert run(["cache", "list"]) == 0
    shown = capsys.readouterr().out
    assert "02ab" in shown and "3 files" in shown and "half of the disk" in shown
    limited = asked(capsys, "limit", f"{on_disk * 0.8 / 1e6:.6f} MB")
    assert abs(int(str(limited["limit"])) - on_disk * 0.8) < 2 and limited["limit_set"] is True
    assert limited["count"] == 2
    assert asked(capsys, "limit", "none")["limit_set"] is False
    assert run(["cache", "clear", "--unused-days", "1"]) == 0
    assert asked(capsys)["count"] == 2
    assert run(["cache", "clear"]) == 0
    assert "Deleted 2 files" in capsys.readouterr().err
    assert asked(capsys, "--folder", str(tmp_path / "other"))["count"] == 0


@pytest.mark.parametrize(
    "arguments", [["limit"], ["limit", "many"], ["limit", "3 parsecs"], ["clear", "2GB"]]
)
def test_mistakes_are_told(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEGEXPLORER_CACHE", str(tmp_path))
    assert run(["cache", *arguments]) == 2
    assert "rite it like" in capsys.readouterr().err
