"""The demo without a screen, as `make demo` runs it, on a machine that is too slow for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
from pathlib import Path
import segexplorer.frontends.cli.demo as command
from segexplorer.frontends.napari import demo

demo.GIVEN_UP_S = 2
report = demo.run_demo(Path(sys.argv[1]), headless=True)
command._tell(report, Path(sys.argv[1]))
"""


@pytest.mark.gui
@pytest.mark.slow
def test_a_demo_that_takes_too_long_ends_by_itself(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    assert "Error" not in done.stderr
    assert "The run was stopped after step " in done.stdout
    pictures = {path.stem for path in tmp_path.glob("*.png")}
    assert {"1-cases", "2-experiment", "3-preparing", "4-first-steps", "9-finished"} <= pictures
    assert "10-inspect-finished" not in pictures
    assert (tmp_path / "curves.csv").exists()
