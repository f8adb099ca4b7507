"""Links between the pages resolve where they are read as files, and the check of the built site finds bad ones."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
READ_AS_FILES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "plugins/*/*.md")
    for path in ROOT.glob(pattern)
)


def slug(heading: str) -> str:
    """Return the anchor that code hosts and the site give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", READ_AS_FILES)
def test_relative_links_resolve(page: str) -> None:
    path = ROOT / page
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for address in re.findall(r"\]\(([^)\s]+)\)", text):
        if address.startswith(("http://", "https://")):
            continue
        name, _, anchor = address.partition("#")
        target = path.parent / name if name else path
        assert target.exists(), f"{page} points at {address}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, f"{page} points at {address}"


@pytest.fixture(scope="module")
def checker() -> ModuleType:
    found = importlib.util.spec_from_file_location("check_site", ROOT / "scripts" / "check_site.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_a_sound_site_passes(checker: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text('<a href="a.html#x">a</a> <a href="https://example.org">b</a>')
    (tmp_path / "a.html").write_text('<h1 id="x">A</h1><img src="p.png"><a href="#x">up</a>')
    (tmp_path / "p.png").write_bytes(b"")
    (tmp_path / "s.js").write_text("// see https://example.org\nfetch('searchindex.js')")
    assert checker.problems(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("index.html", '<a href="b.html">b</a>', "index.html points at b.html, which does not exist."),
        ("index.html", '<a href="#y">y</a>', "index.html points at #y, but that page has no such place."),
        ("index.html", '<script src="https://cdn.example/x.js"></script>', "loads https://cdn.example/x.js"),
        ("index.html", '<link rel="stylesheet" href="//fonts.example/c">', "loads //fonts.example/c"),
        ("s.css", "@import 'https://fonts.example/c.css';", "s.css loads https://fonts.example/c.css"),
        (
            "s.css",
            "a { background: url(https://cdn.example/p.png) }",
            "s.css loads https://cdn.example/p.png",
        ),
        ("s.js", 'fetch("https://api.example/v1")', "s.js loads https://api.example/v1"),
    ],
)
def test_what_is_wrong_with_a_site_is_found(
    checker: ModuleType, tmp_path: Path, name: str, text: str, sentence: str
) -> None:
    (tmp_path / "index.html").write_text("")
    (tmp_path / name).write_text(text)
    (found,) = checker.problems(tmp_path)
    assert sentence in found


def test_a_folder_without_a_site_is_refused(checker: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        checker.problems(tmp_path)
