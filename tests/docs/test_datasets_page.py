"""docs/reference/datasets.md explains every code of a problem."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from segexplorer.data import datasets

ROOT = Path(__file__).resolve().parents[2]
TEXT = ROOT / "docs" / "reference" / "datasets.md"


@pytest.fixture(scope="module")
def text() -> str:
    if not TEXT.is_file():
        pytest.skip("no docs beside the tests")
    return TEXT.read_text(encoding="utf-8")


def test_every_kind_shows_its_layout() -> None:
    for kind in datasets.names():
        assert kind == "phantom" or datasets.spec(kind).layout


def test_every_problem_is_explained(text: str) -> None:
    import segexplorer.data

    package = Path(segexplorer.data.__file__).parent
    folders = (package, package / "datasets", package / "transforms")
    sources = [path for folder in folders for path in folder.glob("*.py")]
    written = {
        code
        for path in sources
        for code in re.findall(r'Problem\(\s*"(?:error|warning|note)",\s*"(\w+)"', path.read_text("utf-8"))
    }
    assert len(written) > 12
    explained = {
        code
        for row in re.findall(r"^\| (`.*?) \| (?:error|warning|note)", text, re.MULTILINE)
        for code in re.findall(r"`(\w+)`", row)
    }
    assert not written - explained
    everything = "".join(path.read_text("utf-8") for path in sources)
    everything += (package.parent / "frontends/cli/check.py").read_text("utf-8")
    assert not [code for code in explained if f'"{code}"' not in everything]
