"""The wheel and the source distribution as users get them: built, installed and tested elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import segexplorer
from segexplorer.training.experiment import sample_configs

ROOT = Path(__file__).resolve().parents[1]
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel and the source distribution; the wheel is built from the latter, as an installer would."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,), (source,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, source


@pytest.fixture(scope="module")
def unpacked(archives: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution in a folder of its own."""
    folder = tmp_path_factory.mktemp("source")
    with tarfile.open(archives[1]) as archive:
        archive.extractall(folder, filter="data")
    (inside,) = folder.iterdir()
    return inside


@pytest.fixture(scope="module")
def installed(archives: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Command:
    """Runs a program of an environment in which the wheel is installed; its dependencies are those of this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=os.name != "nt")
    paths = {name: sysconfig.get_path(name, "venv", {"base": str(folder)}) for name in ("scripts", "purelib")}
    programs, packages = Path(paths["scripts"]), Path(paths["purelib"])
    pip = [sys.executable, "-m", "pip", "--python", str(programs / "python"), "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(archives[0])], check=True)
    # afterwards, or pip would find the editable install of this environment and remove it; a .pth file of the
    # added folders is not read, so that install cannot be imported
    ours = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    (packages / "dependencies.pth").write_text("\n".join(sorted(ours)))
    # the current folder is not put on the path, so nothing but the wheel can be imported
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}
    environment.pop("PYTHONPATH", None)

    def run(program: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        command = [str(programs / program), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment, cwd=cwd, encoding="utf-8"
        )

    return run


@pytest.mark.slow
def test_the_wheel_holds_what_is_not_python(archives: tuple[Path, Path]) -> None:
    names = set(zipfile.ZipFile(archives[0]).namelist())
    assert {"segexplorer/napari.yaml", "segexplorer/py.typed"} <= names
    configs = {f"segexplorer/sample_configs/{path.name}" for path in sample_configs().glob("*.yaml")}
    assert configs
    assert configs <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.mark.slow
def test_the_wheel_holds_every_module_and_no_tests(archives: tuple[Path, Path]) -> None:
    names = {name for name in zipfile.ZipFile(archives[0]).namelist() if name.endswith(".py")}
    assert names == {path.relative_to(ROOT).as_posix() for path in (ROOT / "segexplorer").rglob("*.py")}


@pytest.mark.slow
def test_the_long_description_points_at_nothing_that_is_not_in_it(archives: tuple[Path, Path]) -> None:
    wheel = zipfile.ZipFile(archives[0])
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    text = wheel.read(name).decode()
    assert "Description-Content-Type: text/markdown" in text
    assert "## Install with pip" in text and "docs/reference/losses.md" not in text
    assert not re.findall(r"!\[", text)
    assert all(link.startswith("https://") for link in re.findall(r"\]\(([^)]+)\)", text))


@pytest.mark.slow
def test_the_source_distribution_holds_what_git_keeps(archives: tuple[Path, Path]) -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode or not (ROOT / ".git").exists():
        pytest.skip("this is no clone")
    kept = {name for name in listed.stdout.splitlines() if (ROOT / name).exists()}
    with tarfile.open(archives[1]) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}
    assert {name for name in kept - names if not name.startswith(".ci/")} == set()
    assert {"pyproject.toml", "scripts/set_up.sh", "CITATION.cff", "SECURITY.md"} <= names


@pytest.mark.slow
def test_commands_of_the_installed_wheel_work(installed: Command, tmp_path: Path) -> None:
    shown = (
        "import segexplorer, segexplorer.training.experiment as e; print(segexplorer.__file__); "
        "print(e.sample_configs())"
    )
    where = installed("python", "-c", shown, cwd=tmp_path)
    package, samples = (Path(line) for line in where.stdout.splitlines())
    assert not package.is_relative_to(ROOT)
    assert samples == package.parent / "sample_configs"
    assert installed("segexplorer", "--version", cwd=tmp_path).stdout.split()[-1] == segexplorer.__version__
    losses = installed("segexplorer", "list", "losses", cwd=tmp_path)
    assert any(line.startswith("tversky") for line in losses.stdout.splitlines()), losses.stderr
    described = installed("segexplorer", "describe", "losses", "tversky", cwd=tmp_path)
    assert described.returncode == 0 and "alpha" in described.stdout, described.stderr
    config = next(path for path in sorted(samples.glob("*.yaml")) if "phantom" in path.name)
    checked = installed("segexplorer", "check", str(config), cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    refused = installed("segexplorer", "train", "nowhere.yaml", cwd=tmp_path)
    assert refused.returncode == 2 and "Traceback" not in refused.stderr


@pytest.mark.slow
def test_the_source_distribution_tests_the_installed_wheel(installed: Command, unpacked: Path) -> None:
    """A part of its tests, with those that read other files of the distribution and build from it."""
    parts = ["tests/core", "tests/test_readme.py", "tests/test_packaging.py"]
    assert all((unpacked / part).exists() for part in parts)
    options = ["-q", "-n", "0", "-p", "no:cacheprovider", "-m", "not slow and not gui"]
    done = installed("python", "-m", "pytest", *options, *parts, cwd=unpacked)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None and int(passed[1]) > 100


def test_the_citation_names_this_version_and_its_authors() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert str(citation["version"]) == project["version"] == segexplorer.__version__
    assert citation["license"] == project["license"]
    assert [author["name"] for author in citation["authors"]] == [a["name"] for a in project["authors"]]
    assert all(name in (ROOT / "LICENSE").read_text() for name in (a["name"] for a in project["authors"]))


def test_extras_are_named_where_they_are_needed() -> None:
    """Every extra that an error names exists, and every extra is needed by code or is a sum of others."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "segexplorer").rglob("*.py"))
    named = set(re.findall(r"\brequire\(\s*\"[\w.]+\",\s*\"(\w+)\"", sources))
    named |= set(re.findall(r"MissingExtraError\.of\(\s*\"[\w.]+\",\s*\"(\w+)\"", sources))
    assert named == set(extras)


def test_hooks_run_on_any_system() -> None:
    """No shell, no path of an environment: programs by name, with arguments alone."""
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0][
        "hooks"
    ]
    assert {hook["entry"].split()[0] for hook in hooks} == {"ruff", "mypy", "lint-imports"}
    assert all("/" not in hook["entry"] and "\\" not in hook["entry"] for hook in hooks)


def test_workflows_pin_actions_and_test_every_python_that_is_promised() -> None:
    folder = ROOT / ".github" / "workflows"
    jobs = {
        name: job
        for path in folder.glob("*.yml")
        for name, job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].items()
    }
    used = [step["uses"] for job in jobs.values() for step in job["steps"] if "uses" in step]
    assert used and all(re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", action) for action in used)
    assert all("timeout-minutes" in job for job in jobs.values())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    promised = {c.rpartition(" ")[2] for c in project["classifiers"] if re.search(r":: 3\.\d+$", c)}
    assert set(jobs["tests"]["strategy"]["matrix"]["python"]) == promised
    assert f">={min(promised, key=lambda v: int(v.split('.')[1]))}" == project["requires-python"]


def test_constraints_pin_every_direct_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    }
    groups = [project["project"]["dependencies"], *project["dependency-groups"].values()]
    groups.extend(project["project"]["optional-dependencies"].values())
    for requirement in (requirement for group in groups for requirement in group):
        name = re.split(r"[<>=!;\[ ]", requirement)[0].lower().replace("_", "-")
        assert name in pinned | {"segexplorer"}, f"{name} is not pinned in constraints.txt"
