"""Every block of shell or Python on a page is run as it is written, from the top of the page to its end.

A page begins in a folder with the things that pages name: `experiment.yaml`, a run `RUN`, data sets, predictions
(`write_workbench`). There, `sample_configs/` holds the shipped experiments; those that pages train are small.

* Blocks in `python` share the names of their page. Runs that a block starts have ended when the next one begins,
  and windows are not opened.
* Lines of blocks in `bash` are commands of `segexplorer`, without pipes, wildcards or variables.
* Blocks in `yaml` that begin with a comment `# NAME.yaml` are that file.
* A block right after the comment `<!-- not run: REASON -->`, which no page shows, is parsed, and its commands have
  to exist with their options. REASONS lists what may be a reason.

The guides to new kinds, which write packages, are carried out by `test_how_to.py`.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import re
import shlex
import shutil
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pydicom
import pytest
import yaml
from filelock import FileLock

import segexplorer
from segexplorer.core.events import ValidationDone
from segexplorer.core.registry import families
from segexplorer.data.io import open_volume, save_volume
from segexplorer.data.volume import Volume
from segexplorer.frontends import viewing
from segexplorer.frontends.cli.app import run as run_cli
from segexplorer.testing.dicom import write_series, write_structures
from segexplorer.training.experiment import Experiment, sample_configs

ROOT = Path(__file__).resolve().parents[2]
MODULE = "page"
"""In which the Python of a page is."""
LANGUAGES = {"bash", "python", "yaml", "text", "toml", "diff", "json"}
DIRECTIVES = re.compile(r"\{[\w-]+\}.*")
REASONS = {
    "installs",
    "needs data of your own",
    "needs the network",
    "opens a window",
    "needs another package",
    "opens a window and trains for minutes",
    "trains for an hour",
    "runs the suite",
    "takes minutes",
    "changes the start-up file of the shell",
    "needs a cluster",
}
PROGRAMS = {
    "segexplorer",
    "make",
    "pip",
    "python",
    "pre-commit",
    "pytest",
    "tensorboard",
    "export",
    "ray",
    "jupyter",
    "torchrun",
}
"""First words of lines in blocks that are not run, besides those of an environment."""
_FENCE = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^>]+) -->\n\s*)?^(?P<indent> *)```(?P<language>[^\n]*)\n(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; `reason` says why it is not run."""

    line: int
    language: str
    text: str
    reason: str = ""


def blocks_of(text: str) -> list[Block]:
    """Return the blocks of a page in order."""
    return [
        Block(
            text[: found.start("language")].count("\n") + 1,
            found["language"],
            re.sub(rf"^{found['indent']}", "", found["text"], flags=re.MULTILINE),
            (found["reason"] or "").strip(),
        )
        for found in _FENCE.finditer(text)
    ]


MISSING = {} if importlib.util.find_spec("highdicom") else {"docs/how-to/read-dicom.md": "highdicom"}
"""Pages that need a package which is not here: there are no wheels of highdicom for Python 3.14 yet."""
PAGES = {
    path.relative_to(ROOT).as_posix(): blocks_of(path.read_text(encoding="utf-8"))
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if not path.name.startswith("add-")
}


def code_of(page: str) -> list[Block]:
    """Return the blocks of a page that can be run."""
    return [block for block in PAGES[page] if block.language in ("bash", "python")]


# ---- what a page finds


def write_workbench(here: Path) -> None:
    """Write what pages name, small: experiments, data sets, a stopped run, a finished study, files."""
    write_experiments(here)
    for name in ("images", "labels", "predictions"):
        (here / name).mkdir()
    dataset = here / "Task04_Hippocampus"
    (dataset / "imagesTr").mkdir(parents=True)
    (dataset / "labelsTr").mkdir()
    phantoms = Experiment.from_yaml(here / "experiment.yaml").data.cases()
    for number, ref in enumerate(phantoms, start=1):
        case = ref.open()
        image, label = case.images[0], case.label
        assert label is not None
        two = label.with_array(np.minimum(np.asarray(label.array), 2))
        save_volume(image, dataset / "imagesTr" / f"hippocampus_{number:03d}.nii.gz")
        save_volume(two, dataset / "labelsTr" / f"hippocampus_{number:03d}.nii.gz", integer=True)
        save_volume(label, here / "labels" / f"case_{number}.nii.gz", integer=True)
        moved = label.with_array(np.roll(np.asarray(label.array), 1, axis=0))
        save_volume(moved, here / "predictions" / f"case_{number}.nii.gz", integer=True)
    save_volume(image, here / "image.nii.gz")
    described = {"modality": {"0": "MRI"}, "labels": {"0": "background", "1": "anterior", "2": "posterior"}}
    (dataset / "dataset.json").write_text(json.dumps(described))
    shutil.copytree(dataset, here / "DATASET")
    write_msseg2(here / "MSSEG-2")
    if not MISSING:
        write_dicom(here)
    train_and_stop(Experiment.from_yaml(here / "experiment.yaml"), here / "RUN")
    shutil.copytree(here / "RUN", here / "segexplorer-runs" / "RUN")
    assert run_cli(["study", str(here / "sample_configs" / "compare_losses_phantom.yaml")]) == 0


def write_experiments(here: Path) -> None:
    small = {
        "sampling": {"patch_size": [16, 16, 16], "batch_size": 1, "steps_per_epoch": 2},
        "network": {"kind": "unet", "base_features": 4, "levels": 2},
        "schedule": {"kind": "polynomial", "epochs": 2},
        "compute": {"device": "cpu", "threads": 1},
    }
    own = {
        "data": {"kind": "phantom", "count": 4, "size": 32, "seed": 1},
        "split": {"validation_count": 1, "test_fraction": 0.25},
        "loss": "adaptive_tversky_cross_entropy",
    }
    (here / "experiment.yaml").write_text(yaml.safe_dump(own | small))
    shutil.copytree(sample_configs(), here / "sample_configs")
    for name, fewer in {
        "chen2023_phantom": {},
        "hippocampus_adaptive_tversky_ce": {"split": {"validation_count": 1}},
        "compare_losses_phantom": {
            "split": {"validation_count": 1},
            "matrix": {"loss": ["dice_cross_entropy", "dice"], "seed": [0]},
        },
    }.items():
        path = here / "sample_configs" / f"{name}.yaml"
        changed = yaml.safe_load(path.read_text()) | small | fewer
        if changed["data"]["kind"] == "phantom":
            changed["data"] |= {"size": 32, "count": min(10, changed["data"]["count"])}
        path.write_text(yaml.safe_dump(changed))


def write_msseg2(root: Path) -> None:
    label = np.zeros((12, 10, 8), np.uint8)
    label[2:6, 2:8, 2:6] = 1
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    for patient in range(2):
        folder = root / "training" / f"01{patient}"
        folder.mkdir(parents=True)
        for visit in (1, 2):
            noise = np.random.default_rng(10 * patient + visit).normal(100, 20, label.shape)
            volume = Volume.from_array(noise.astype(np.float32), affine=affine)
            save_volume(volume, folder / f"flair_time0{visit}_on_middle_space.nii.gz")
        for name in ("ground_truth", *(f"ground_truth_expert{n}" for n in (1, 2, 3, 4))):
            save_volume(
                Volume.from_array(label, affine=affine),
                folder / f"{name}.nii.gz",
                integer=True,
            )


def write_dicom(here: Path) -> None:
    """Write DICOM: `study` with a scout, a CT, contours and segments; `FOLDER`, `LABEL` and `seg.dcm` beside it."""
    voxels = np.random.default_rng(0).integers(900, 1200, (8, 24, 20)).astype(np.uint16)
    write_series(here / "study" / "scout", voxels[:1], number=1)
    write_series(here / "study" / "ct", voxels, number=2)
    ct = open_volume(here / "study" / "ct")
    oval = np.array([[4 + 2 * np.cos(t), 5 + 3 * np.sin(t)] for t in np.linspace(0, 6, 40)])
    contours = []
    for k in (2, 3, 4):
        points = np.column_stack([oval * 2, np.full(len(oval), k), np.ones(len(oval))]) @ ct.affine.T
        contours.append(points[:, :3] * [-1, -1, 1])
    drawn = pydicom.dcmread(write_structures(here / "study" / "rt.dcm", {"Liver": contours}))
    drawn.SeriesNumber = 3
    drawn.save_as(here / "study" / "rt.dcm")
    label = np.zeros(ct.shape, np.uint8)
    label[4:12, 6:14, 2:6], label[6:9, 8:11, 3:5] = 1, 2
    segments = ct.with_array(label)
    save_volume(segments, here / "study" / "seg.dcm", integer=True, names={1: "Liver", 2: "Lesion"})
    shutil.copytree(here / "study", here / "FOLDER")
    shutil.copy(here / "study" / "seg.dcm", here / "seg.dcm")
    shutil.copy(here / "study" / "seg.dcm", here / "LABEL")


def train_and_stop(experiment: Experiment, folder: Path) -> None:
    """Train up to the first validation, so that the run can be continued."""
    run = segexplorer.Session().prepare(experiment, folder)
    for event in run:
        if isinstance(event, ValidationDone):
            run.stop()
    assert run.state == "stopped"


@pytest.fixture(scope="module")
def workbench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that pages begin in, written once for all processes of the tests."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if base.name.startswith("popen-") else base
    folder, done = shared / "workbench", shared / "workbench.done"
    with FileLock(shared / "workbench.lock"), pytest.MonkeyPatch.context() as patch:
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            patch.chdir(folder)
            write_workbench(folder)
            done.touch()
    return folder


@pytest.fixture
def page_folder(workbench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the workbench, as the current folder; windows are replaced by nothing."""
    folder = tmp_path / "page"
    shutil.copytree(workbench, folder)
    monkeypatch.chdir(folder)
    dock = importlib.import_module("segexplorer.frontends.napari.dock")
    for module, name in ((segexplorer, "view"), (viewing, "view"), (dock, "show_replay")):
        monkeypatch.setattr(module, name, lambda *things, **options: None)
    yield folder
    for registry in families().values():
        for kind in registry.names():
            if getattr(registry.spec(kind), "__module__", "") == MODULE:  # what the page has added
                registry.unregister(kind)


# ---- running


def run_python(block: Block, page: str, names: dict[str, Any]) -> None:
    """Run a block with the names of its page, and wait for the runs that it started."""
    before = set(threading.enumerate())
    exec(compile("\n" * block.line + block.text, page, "exec"), names)
    for thread in set(threading.enumerate()) - before:
        if thread.name.startswith("run "):
            thread.join(120)
            assert not thread.is_alive()


def commands_in(block: Block) -> list[list[str]]:
    """Return the words of every command line."""
    text = block.text.replace("\\\n", " ")
    return [words for line in text.splitlines() if (words := shlex.split(line, comments=True))]


def run_shell(block: Block, page: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Run commands of segexplorer in this process."""
    for words in commands_in(block):
        assert words[0] == "segexplorer", f"{page}:{block.line}: {words[0]} is not run here"
        assert not [word for word in words if re.fullmatch(r"[|<>&;]+.*|.*[$*].*|~.*", word)], words
        capsys.readouterr()
        code = run_cli(words[1:])
        printed = capsys.readouterr()
        assert code == 0, f"{page}:{block.line}: {shlex.join(words)}\n{printed.out}\n{printed.err}"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", [page for page in PAGES if any(not b.reason for b in code_of(page))])
def test_the_page_can_be_followed(
    page: str,
    page_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if page in MISSING:
        pytest.skip(f"{MISSING[page]} is not installed")
    module = ModuleType(MODULE)
    monkeypatch.setitem(sys.modules, MODULE, module)
    for block in PAGES[page]:
        if block.reason:
            continue
        if block.language == "python":
            run_python(block, page, vars(module))
        elif block.language == "bash":
            run_shell(block, page, capsys)
        elif block.language == "yaml" and (named := re.match(r"# (\w+\.yaml)\n", block.text)):
            Path(named[1]).write_text(block.text, encoding="utf-8")


@pytest.mark.parametrize("page", [page for page in PAGES if any(b.reason for b in code_of(page))])
def test_blocks_that_are_not_run_can_be_read(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    for block in (block for block in code_of(page) if block.reason):
        assert set(block.reason.split(", and ")) <= REASONS, f"{page}:{block.line}: {block.reason}"
        if block.language == "python":
            ast.parse(block.text)
            continue
        for words in commands_in(block):
            assert words[0] in PROGRAMS or re.search("activate$|^[A-Z_]+=", words[0], re.IGNORECASE), (
                f"{page}:{block.line}: {words[0]}"
            )
            if words[0] == "make":
                makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
                assert re.search(rf"^{words[1]}:", makefile, re.MULTILINE), words
            if words[0] == "segexplorer":
                assert run_cli([words[1], "--help"] if words[1][0] != "-" else ["--help"]) == 0
                printed = capsys.readouterr().out
                assert all(word in printed for word in words if word.startswith("-")), words


def test_every_block_names_its_language() -> None:
    for page, blocks in PAGES.items():
        for block in blocks:
            assert block.language in LANGUAGES or DIRECTIVES.fullmatch(block.language), (
                f"{page}:{block.line}: {block.language!r}"
            )


def test_every_marker_is_before_a_block() -> None:
    for page, blocks in PAGES.items():
        markers = (ROOT / page).read_text(encoding="utf-8").count("<!-- not run")
        assert markers == sum(bool(block.reason) for block in blocks), page
