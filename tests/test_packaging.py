"""The wheel as users get it: built, unpacked elsewhere, imported without the working tree."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from segexplorer.training.experiment import sample_configs

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = folder.glob("*.whl")
    return built


def test_wheel_holds_what_is_not_python(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"segexplorer/napari.yaml", "segexplorer/py.typed"} <= names
    configs = {f"segexplorer/sample_configs/{path.name}" for path in sample_configs().glob("*.yaml")}
    assert configs
    assert configs <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_wheel_holds_every_module_and_no_tests(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".py")}
    assert names == {str(path.relative_to(ROOT)) for path in (ROOT / "segexplorer").rglob("*.py")}


def test_wheel_works_elsewhere(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(target)  # a wheel of pure Python is installed by unpacking it
    program = (
        "import segexplorer; from importlib.metadata import entry_points, version;"
        "from segexplorer.frontends.cli.app import run;"
        "print(segexplorer.__file__); print(version('segexplorer'), segexplorer.__version__);"
        "print([p.value for p in entry_points(group='console_scripts', name='segexplorer')][0]);"
        "raise SystemExit(run(['list', 'losses']))"
    )
    environment = {**os.environ, "PYTHONPATH": str(target)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    where, versions, script, *listed = done.stdout.splitlines()
    assert Path(where).is_relative_to(target)
    assert len(set(versions.split())) == 1
    assert script == "segexplorer.frontends.cli:main"
    assert any(line.startswith("tversky") for line in listed)


def test_constraints_pin_every_direct_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    }
    groups = [project["project"]["dependencies"], *project["dependency-groups"].values()]
    groups.append(project["project"]["optional-dependencies"]["notebook"])
    for requirement in (requirement for group in groups for requirement in group):
        name = requirement.split(">")[0].split("!")[0].split("[")[0].lower().replace("_", "-")
        assert name in pinned, f"{name} is not pinned in constraints.txt"
