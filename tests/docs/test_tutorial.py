"""What the tutorial and the how-to guides show can be typed: files, settings, commands and their options exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from segexplorer.frontends.cli.app import run as run_cli
from segexplorer.training.experiment import Experiment

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("tutorial", "how-to", "explanation")
    for path in (ROOT / "docs" / folder).glob("*.md")
)


def blocks(page: str, language: str) -> list[str]:
    """Return the fenced blocks of a language, "" for those without one."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.findall(r"^ *```([^\n]*)\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE)
    return [body for name, body in found if name == language]


def commands(page: str) -> list[list[str]]:
    """Return the words of every `segexplorer` command that a page tells its reader to type."""
    lines = [line for name in ("", "bash") for block in blocks(page, name) for line in block.splitlines()]
    typed = [line.removeprefix("$ ") for line in lines]
    return [shlex.split(line, comments=True)[1:] for line in typed if line.startswith("segexplorer ")]


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)])
def test_commands_and_options_exist(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in commands(page):
        assert run_cli([words[0], "--help"]) == 0, words
        printed = capsys.readouterr().out
        assert all(word in printed for word in words if word.startswith("-")), words


def test_the_tutorial_shows_the_file_that_it_names() -> None:
    (shown,) = blocks("docs/tutorial/on-the-command-line.md", "yaml")
    file = Experiment.from_yaml(ROOT / "sample_configs" / "chen2023_phantom.yaml")
    assert Experiment.of(yaml.safe_load(shown)) == file


def test_the_tutorial_saves_a_validation_case() -> None:
    (shown,) = blocks("docs/tutorial/on-the-command-line.md", "python")
    (number,) = re.findall(r"cases\(\)\[(\d+)\]", shown)
    from segexplorer.training.plan import resolve

    plan = resolve(Experiment.from_yaml(ROOT / "sample_configs" / "chen2023_phantom.yaml"))
    chosen = plan.experiment.data.cases()[int(number)].id
    assert plan.roles[chosen] == "validation"


@pytest.mark.parametrize("page", PAGES)
def test_pictures_are_there_and_described(page: str) -> None:
    for words, address in re.findall(r"!\[(.*?)\]\((.*?)\)", (ROOT / page).read_text(), re.DOTALL):
        assert words.strip() and ((ROOT / page).parent / address).is_file(), address
