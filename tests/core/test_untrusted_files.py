"""Files of others: only regular ones, inside their folder, up to a limit; checksums of what is replaced whole."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from segexplorer.core.errors import DataError
from segexplorer.core.untrusted_files import (
    checksum_of,
    fits_checksum_comment,
    read_bytes,
    read_json,
    require_bounded,
    require_inside,
    with_checksum,
    with_checksum_comment,
)


def test_only_regular_files_up_to_the_limit(tmp_path: Path) -> None:
    (tmp_path / "good").write_bytes(b"12345")
    assert read_bytes(tmp_path / "good", 5) == b"12345"
    with pytest.raises(DataError, match="5 bytes, at most 4 bytes"):
        read_bytes(tmp_path / "good", 4)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "circle").symlink_to("circle")
    for name in ("pipe", "device", "."):
        with pytest.raises(DataError, match=r"not a regular file|cannot be read"):
            read_bytes(tmp_path / name, 100)
    with pytest.raises(DataError, match="cannot be read"):
        read_bytes(tmp_path / "circle", 100, within=tmp_path)
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "nothing", 100, within=tmp_path)


def test_links_may_lead_to_their_own_folder_only(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (tmp_path / "secret").write_text("x")
    (folder / "inside").write_text("y")
    (folder / "out").symlink_to("../secret")
    (folder / "in").symlink_to("inside")
    (tmp_path / "alias").symlink_to(folder)
    assert read_bytes(tmp_path / "alias" / "in", 10, within=tmp_path / "alias") == b"y"
    with pytest.raises(DataError, match="out in run is a link that leads out"):
        read_bytes(folder / "out", 10, within=folder)
    with pytest.raises(DataError, match="leads out"):
        require_inside(folder / ".." / "secret", folder)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "not a JSON document"),
        ("\xff", "not a JSON document"),
        ("[" * 100_000, "not a JSON document"),
        ("[" * 100 + "]" * 100, "nested too deeply"),
        ('{"step": 1' + "0" * 30 + "}", "too large"),
        ('{"step": 1' + "0" * 9999 + "}", "not a JSON document"),
    ],
)
def test_documents_are_bounded(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "a.json").write_bytes(text.encode("latin1"))
    with pytest.raises(DataError, match=why):
        read_json(tmp_path / "a.json", 10**6, within=tmp_path)


def test_repeated_parts_are_counted_each_time() -> None:
    """YAML aliases make a document of a few lines that unfolds to billions of values."""
    part: list[object] = ["x"]
    for _ in range(12):
        part = [part] * 10
    with pytest.raises(DataError, match="too many values"):
        require_bounded(part, "experiment.yaml")


def test_a_changed_document_is_found_out(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    document = with_checksum({"b": 1.1, "a": [None, "é", {"n": float("nan")}], "tuple": (1, 2)})
    path.write_text(json.dumps(document, indent=1))
    assert read_json(path, 1000)["b"] == 1.1
    path.write_text(json.dumps(dict(reversed(list(document.items())))))  # the order of keys means nothing
    assert read_json(path, 1000)["a"][1] == "é"
    assert with_checksum(document) == document and checksum_of(document) == document["checksum"]
    path.write_text(json.dumps(document).replace("1.1", "1.2"))
    with pytest.raises(DataError, match="checksum does not fit"):
        read_json(path, 1000)


def test_a_changed_text_is_found_out() -> None:
    text = with_checksum_comment("a: 1\nb: 2")
    assert text.startswith("a: 1\nb: 2\n#") and fits_checksum_comment(text) is True
    assert fits_checksum_comment(text.replace("a: 1", "a: 3")) is False
    assert fits_checksum_comment("a: 1\n") is None
