"""A screen is made where there is none, and given up again."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from segexplorer.core.errors import SegExplorerError
from segexplorer.frontends.cli.screen import has_screen, main, run_with_screen, virtual_screen

needs_xvfb = pytest.mark.skipif(shutil.which("Xvfb") is None, reason="needs Xvfb")


@pytest.mark.parametrize(
    ("environment", "platform", "expected"),
    [
        ({}, "linux", False),
        ({"DISPLAY": ""}, "linux", False),
        ({"DISPLAY": ":0"}, "linux", True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", True),
        ({}, "darwin", True),
        ({}, "win32", True),
    ],
)
def test_knows_whether_windows_can_open(environment: dict[str, str], platform: str, expected: bool) -> None:
    assert has_screen(environment, platform) is expected


@needs_xvfb
def test_virtual_screens_do_not_share_a_display() -> None:
    with virtual_screen() as first, virtual_screen() as second:
        assert first["DISPLAY"] != second["DISPLAY"]
        sockets = [Path(f"/tmp/.X11-unix/X{screen['DISPLAY'][1:]}") for screen in (first, second)]
        assert all(socket.exists() for socket in sockets)
    assert not any(socket.exists() for socket in sockets)


@needs_xvfb
def test_command_gets_the_screen_and_its_exit_code_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    program = "import os, sys; sys.exit(7 if os.environ['DISPLAY'] and os.environ['QT_QPA_PLATFORM'] else 1)"
    assert run_with_screen([sys.executable, "-c", program]) == 7


def test_missing_xvfb_is_reported_with_its_cure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SegExplorerError, match="apt-get install xvfb"), virtual_screen():
        pass


def test_it_says_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "COMMAND" in capsys.readouterr().out
    assert main([]) == 2
    assert "COMMAND" in capsys.readouterr().err


def test_a_program_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["no-such-program", "--flag"]) == 2
    assert "There is no program no-such-program." in capsys.readouterr().err
