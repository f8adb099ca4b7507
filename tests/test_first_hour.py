"""Folders as researchers have them lead to a first validation with three commands (`benchmarks/first_hour.py`)."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "first_hour.py"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("folder", ["patient folders", "DICOM with scouts", "Excel list"])
def test_three_commands_lead_to_a_validation(
    folder: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = importlib.util.spec_from_file_location("first_hour", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "first_hour", module)  # dataclasses look their module up
    spec.loader.exec_module(module)
    (found,) = module.main(["--small", "--folders", folder])
    assert [command.split()[1] for command in found.commands] == ["check", "init", "train"]
    assert found.dice is not None and found.words < 600
    assert folder in capsys.readouterr().out
