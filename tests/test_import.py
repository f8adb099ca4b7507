"""Importing the package, and asking it what there is, must not wait for torch or a toolkit."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "torch",
    "monai",
    "napari",
    "qtpy",
    "PySide6",
    "PyQt6",
    "pyqtgraph",
    "magicgui",
    "vispy",
    "ziamath",
    "latex2mathml",
)

REPORT = """
import sys, time
start = time.perf_counter()
{statement}
print(f"{{time.perf_counter() - start:.3f}} s", file=sys.stderr)
print(" ".join(sorted({{name.partition(".")[0] for name in sys.modules}})))
"""


def loaded_after(statement: str) -> set[str]:
    """Return the top-level packages that a fresh interpreter has loaded after a statement; print its time."""
    done = subprocess.run(
        [sys.executable, "-c", REPORT.format(statement=statement)], capture_output=True, text=True, check=True
    )
    print(f"{statement}: {done.stderr.splitlines()[-1]}")
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "statement",
    [
        "import segexplorer",
        "from segexplorer.frontends.cli.app import run; run(['--version'])",
        "from segexplorer.frontends.cli.app import run; run(['list', 'losses'])",
        "from segexplorer.frontends.cli.app import run; run(['describe', 'losses', 'tversky'])",
    ],
)
def test_answers_without_torch_and_without_a_toolkit(statement: str) -> None:
    loaded = loaded_after(statement)
    assert "segexplorer" in loaded
    assert not loaded.intersection(HEAVY)


def test_package_alone_loads_next_to_nothing() -> None:
    ours = {"segexplorer"}
    assert loaded_after("import segexplorer").isdisjoint({"numpy", "pydantic", "rich", "typer"})
    assert ours <= loaded_after("import segexplorer")


def test_every_public_name_is_listed_and_there() -> None:
    import segexplorer

    assert set(segexplorer.__all__) <= set(dir(segexplorer))
    for name in segexplorer.__all__:
        assert getattr(segexplorer, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'lossses'"):
        _ = segexplorer.lossses  # type: ignore[attr-defined]
