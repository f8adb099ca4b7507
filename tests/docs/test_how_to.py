"""The how-to guides `docs/how-to/add-*.md`, done as a reader does them: every file written, every command run.

Each guide has two parts under these headings, and what is in one is done in a place of its own:

`## In the source tree`
    in a copy of the tree.
`## In a package of your own`
    in an empty folder, from which the package is installed beside the tree.

What is done, in the order of the page:

* A code block with a caption is a new file of that name. In the tree it must not exist yet: kinds are found, not
  listed. A block in the language `diff` changes a file that does: its lines are `+`, `-` or, for context, ` `.

      ```{code-block} python
      :caption: segexplorer/losses/mine.py

* A sentence that begins "Copy `A` ... to `B`." copies a file of the page's first part into the second.
* A block in the language `bash` is a list of commands: `segexplorer`, `python`, `pytest`, `pip install .`, and
  `make TARGET`, of which it is only checked that the target exists. All others have to succeed.
* A block in the language `text` right after it is what they print: each of its lines has to appear in that order,
  `...` stands for anything, and the number of blanks does not matter.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs" / "how-to").glob("add-*.md"))
INSIDE, OUTSIDE = "In the source tree", "In a package of your own"
COPIED = ("segexplorer", "tests", "sample_configs", "pyproject.toml", "Makefile")
PYTHON = {"segexplorer": ["-m", "segexplorer.frontends.cli"], "python": [], "pytest": ["-m", "pytest", "-q"]}
_STEP = re.compile(
    r"^```\{code-block\} (?P<language>\w+)\n:caption: (?P<name>\S+)\n\n(?P<content>.*?)^```$"
    r"|^```(?P<plain>\w+)\n(?P<lines>.*?)^```$"
    r"|^Copy `(?P<source>\S+)`.*? to `(?P<target>\S+)`\.",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class File:
    """A file to write, or, as a diff, to change."""

    name: str
    content: str
    language: str


@dataclass(frozen=True)
class Commands:
    """Commands to run, and what they print."""

    lines: tuple[str, ...]
    printed: tuple[str, ...] = ()


def part_of(page: Path, heading: str) -> str:
    """Return the text under a heading of the second level."""
    text = page.read_text(encoding="utf-8")
    found = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"{page.name} has no part '## {heading}'"
    return found[1]


def steps_of(page: Path, heading: str) -> list[File | Commands]:
    """Return what a reader does in one part of a page, in order."""
    steps: list[File | Commands] = []
    for found in _STEP.finditer(part_of(page, heading)):
        if found["name"]:
            steps.append(File(found["name"], found["content"], found["language"]))
        elif found["source"]:
            written = {s.name: s.content for s in steps_of(page, INSIDE) if isinstance(s, File)}
            assert found["source"] in written, f"{page.name} copies {found['source']}, which it did not write"
            steps.append(File(found["target"], written[found["source"]], "python"))
        elif found["plain"] == "bash":
            steps.append(Commands(tuple(filter(None, map(str.strip, found["lines"].splitlines())))))
        elif found["plain"] == "text" and steps and isinstance(last := steps[-1], Commands):
            steps[-1] = Commands(last.lines, tuple(found["lines"].splitlines()))
    return steps


def write(step: File, folder: Path, *, new: bool) -> None:
    """Write or change a file."""
    path = folder / step.name
    if step.language == "diff":
        lines = step.content.splitlines()
        before = "\n".join(line[1:] for line in lines if line[:1] in ("-", " "))
        after = "\n".join(line[1:] for line in lines if line[:1] in ("+", " "))
        text = path.read_text(encoding="utf-8")
        assert text.count(before) == 1, f"{step.name} does not hold these lines once:\n{before}"
        path.write_text(text.replace(before, after), encoding="utf-8")
        return
    assert not (new and path.exists()), f"{step.name} exists already; a new kind should need new files only"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(step.content, encoding="utf-8")


def run(step: Commands, folder: Path, import_from: list[Path]) -> None:
    """Run commands in a folder and compare what they print with the page."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, import_from)),
        "COLUMNS": "200",
    }
    printed = ""
    for line in step.lines:
        program, *arguments = shlex.split(line, comments=True)
        if program == "make":
            makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
            assert re.search(rf"^{arguments[0]}:", makefile, re.MULTILINE), (
                f"make has no target {arguments[0]}"
            )
            continue
        if program == "pip":
            assert arguments == ["install", "."], f"only `pip install .` is run, not {line!r}"
            into = ["--no-deps", "--no-build-isolation", "--quiet", "--target", str(import_from[0])]
            command = [sys.executable, "-m", "pip", "install", *into, "."]
        else:
            assert program in PYTHON, f"{line!r} is none of the commands that a guide may use"
            command = [sys.executable, *PYTHON[program], *arguments]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=250
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        printed += done.stdout
    assert_printed(step.printed, printed)


def assert_printed(expected: tuple[str, ...], printed: str) -> None:
    """Check that lines appear in what was printed, in order."""
    rest = [" ".join(line.split()) for line in printed.splitlines()]
    for line in filter(str.strip, expected):
        pattern = re.compile(re.escape(" ".join(line.split())).replace(re.escape("..."), ".*"))
        at = next((i for i, found in enumerate(rest) if pattern.fullmatch(found)), None)
        assert at is not None, f"{line!r} was not printed, or not after the line before it:\n{printed}"
        rest = rest[at + 1 :]


def copy_of_the_tree(target: Path) -> Path:
    """Copy what a contributor needs; of the tests, those beside which new ones are written."""
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, target / name, ignore=ignored)
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, target / name)
    return target


@pytest.fixture(params=PAGES, ids=lambda page: page.stem)
def page(request: pytest.FixtureRequest) -> Iterator[Path]:
    yield request.param


@pytest.mark.slow
def test_the_guide_works_in_the_source_tree(page: Path, tmp_path: Path) -> None:
    tree = copy_of_the_tree(tmp_path / "tree")
    steps = steps_of(page, INSIDE)
    assert any(isinstance(s, File) for s in steps) and any(isinstance(s, Commands) for s in steps)
    for step in steps:
        if isinstance(step, File):
            write(step, tree, new=True)
        else:
            run(step, tree, [tree])
    written = [s.name for s in steps if isinstance(s, File) and s.name.endswith(".py")]
    if shutil.which("ruff") or (Path(sys.executable).parent / "ruff").exists():
        for command in (["check"], ["format", "--check"]):
            done = subprocess.run(
                [sys.executable, "-m", "ruff", *command, "--no-cache", *written],
                cwd=tree,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"ruff {command[0]} of the code on {page.name}:\n{done.stdout}"


@pytest.mark.slow
def test_the_guide_works_in_a_package_of_ones_own(page: Path, tmp_path: Path) -> None:
    package, site = tmp_path / "package", tmp_path / "site"
    package.mkdir()
    steps = steps_of(page, OUTSIDE)
    for step in steps:
        if isinstance(step, File):
            write(step, package, new=True)
        else:
            run(step, package, [site, ROOT])
    project = tomllib.loads((package / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"]["segexplorer.plugins"], "the package names no plug-in"
    assert list(site.glob("*.dist-info")), "the page does not say: pip install ."


# ---- the machinery itself


def test_what_is_printed_is_compared_in_order() -> None:
    printed = "a table\nname   value\nloss   0.25\nthe end\n"
    assert_printed(("name value", "loss 0...", "the end"), printed)
    for wrong in (("loss 0.26",), ("the end", "a table"), ("loss",)):
        with pytest.raises(AssertionError, match="was not printed"):
            assert_printed(wrong, printed)


def test_a_page_is_read_in_order(tmp_path: Path) -> None:
    text = (
        f"# Add\n```bash\nrm -rf /\n```\n## {INSIDE}\n```{{code-block}} python\n:caption: a/b.py\n\nx = 1\n```\n"
        "```bash\npytest a\nmake pages\n```\n```text\n1 passed\n```\n"
        f"## {OUTSIDE}\nCopy `a/b.py` from above to `c.py`. It\n```yaml\nno: step\n```\n"
        "## More\n```bash\nno step\n```\n"
    )
    page = tmp_path / "add.md"
    page.write_text(text, encoding="utf-8")
    commands = Commands(("pytest a", "make pages"), ("1 passed",))
    assert steps_of(page, INSIDE) == [File("a/b.py", "x = 1\n", "python"), commands]
    assert steps_of(page, OUTSIDE) == [File("c.py", "x = 1\n", "python")]
    with pytest.raises(AssertionError, match="no part"):
        steps_of(page, "Elsewhere")


def test_a_file_is_new_or_changed_by_a_diff(tmp_path: Path) -> None:
    write(File("a.txt", "one\ntwo\n", "text"), tmp_path, new=True)
    with pytest.raises(AssertionError, match="exists already"):
        write(File("a.txt", "", "text"), tmp_path, new=True)
    write(File("a.txt", " one\n-two\n+three\n", "diff"), tmp_path, new=True)
    assert (tmp_path / "a.txt").read_text() == "one\nthree\n"
    with pytest.raises(AssertionError, match="does not hold these lines once"):
        write(File("a.txt", "-two\n", "diff"), tmp_path, new=True)


def test_a_command_that_fails_or_is_unknown_is_named(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"python -c 'raise SystemExit\(3\)'"):
        run(Commands(("python -c 'raise SystemExit(3)'",)), tmp_path, [ROOT])
    with pytest.raises(AssertionError, match="none of the commands"):
        run(Commands(("rm -rf x",)), tmp_path, [ROOT])
    with pytest.raises(AssertionError, match="no target nothing"):
        run(Commands(("make nothing",)), tmp_path, [ROOT])
