"""Tab completion, through the shells' protocol: what they ask in the environment, and read from stdout."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from segexplorer import losses, networks
from segexplorer.core.registry import families
from segexplorer.frontends.cli import completion
from segexplorer.frontends.cli.app import app, run
from segexplorer.metrics import names as metric_names
from segexplorer.training.experiment import sample_configs
from segexplorer.training.run_files import EXPERIMENT

Complete = Callable[..., list[str]]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(params=["bash", "zsh"])
def complete(
    request: pytest.FixtureRequest,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Complete:
    """Return what a shell is offered for the last of some words, as words of the command line."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setattr(completion, "cache_file", lambda: cache / "completion.json")
    monkeypatch.chdir(tmp_path)

    def bash(*words: str) -> list[str]:
        # bash takes words apart at "=", and what it is given takes the place of the last piece
        apart = [
            piece for word in words for piece in word.replace("=", "\n=\n").split("\n") if piece or not word
        ]
        monkeypatch.setenv("COMP_WORDS", "\n".join(["segexplorer", *apart]))
        monkeypatch.setenv("COMP_CWORD", str(len(apart)))
        before = words[-1].rpartition("=")[0] + "=" if "=" in words[-1] else ""
        return [before + line for line in answered("bash")]

    def zsh(*words: str) -> list[str]:
        monkeypatch.setenv("_TYPER_COMPLETE_ARGS", " ".join(["segexplorer", *words]))
        found = [re.match(r"""(?:_arguments '\*: :\(\()?"([^"]*)\"""", line) for line in answered("zsh")]
        return [each[1] for each in found if each]

    def answered(shell: str) -> list[str]:
        monkeypatch.setenv(completion.VARIABLE, f"complete_{shell}")
        capsys.readouterr()
        assert run([]) == 0
        return [line for line in capsys.readouterr().out.splitlines() if line]

    return {"bash": bash, "zsh": zsh}[request.param]


def test_commands_and_options(complete: Complete) -> None:
    names = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    assert {"evaluate", "export"} < set(complete("e")) == {name for name in names if name.startswith("e")}
    assert complete("train", "--re") == ["--resume"]


def test_kinds_of_every_family(complete: Complete) -> None:
    assert complete("describe", "losses", "tv") == ["tversky"]
    assert complete("describe", "perera2025_t") == ["perera2025_tversky"]
    assert {"losses", "networks", "metrics", "formats"} <= set(complete("list", ""))
    for name, registry in families().items():
        offered = complete("describe", name, "")
        assert offered == [*registry.names(), *registry.presets()] or offered == [], name
    assert complete("describe", "metrics", "hd95_p") == ["hd95_penalised", "hd95_pooled"]
    assert complete("cost", "unet") == [name for name in networks.registry.names() if name.startswith("unet")]
    assert complete("check", "x", "--kind", "nn") == ["nnunet"]
    assert complete("export", "x", "--format", "on") == ["onnx"]


def test_metrics_with_commas(complete: Complete) -> None:
    assert complete("evaluate", "a", "b", "--metrics", "dice,cld") == ["dice,cldice"]
    assert complete("compare", "a", "--metrics", "les")[-1] == "lesions"
    assert set(metric_names()) < set(complete("evaluate", "--metrics", ""))


def test_settings_by_their_path_and_their_values(complete: Complete) -> None:
    assert {"loss.", "loss=", "seed=", "seed=0", "sampling."} <= set(complete("train", "x.yaml", "--set", ""))
    assert complete("train", "--set", "schedule.ep") == ["schedule.epochs=", "schedule.epochs=50"]
    assert complete("train", "--set", "sampling.class") == [
        "sampling.class_balanced=",
        "sampling.class_balanced=true",
    ]
    assert set(complete("train", "--set", "loss=tv")) == {"loss=tversky"}
    assert complete("train", "--set", "loss.kind=tv") == ["loss.kind=tversky"]
    assert complete("train", "--set", "preprocessing.crop.to=b") == ["preprocessing.crop.to=body"]
    assert complete("evaluate", "a", "b", "--set", "matching=i") == ["matching=iou"]
    assert "opset=" in complete("export", "x", "-f", "onnx", "--set", "")
    assert complete("train", "--set", "nothing.here") == []


def test_settings_are_those_of_the_chosen_kind(complete: Complete, tmp_path: Path) -> None:
    assert complete("train", "--set", "loss.alp") == []
    assert "loss.alpha=" in complete("train", "--set", "loss.kind=tversky", "--set", "loss.alp")
    assert "loss.alpha=" in complete("train", "--set", "loss=perera2025_tversky", "--set", "loss.alp")
    (tmp_path / "mine.yaml").write_text("loss: {kind: weighted_sum, terms: [{loss: dice}, {loss: focal}]}")
    assert "loss.terms.1.loss.gamma=" in complete("train", "mine.yaml", "--set", "loss.terms.1.loss.g")
    (tmp_path / "broken.yaml").write_text("loss: {kind: [")
    assert "loss.kind=" in complete("train", "broken.yaml", "--set", "loss.")


def test_run_folders_in_their_usual_place_and_beside_what_is_typed(
    complete: Complete, tmp_path: Path
) -> None:
    assert EXPERIMENT in completion.RUN_FILES
    for place in ("segexplorer-runs/first", "segexplorer-runs/study one", "other/mine", "here"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / EXPERIMENT).touch()
    (tmp_path / "segexplorer-runs" / "no run").mkdir()
    assert set(complete("predict", "")) == {"here", "segexplorer-runs/first", "segexplorer-runs/study one"}
    assert complete("compare", "segexplorer-runs/f") == ["segexplorer-runs/first"]
    assert complete("train", "--resume", "other/") == ["other/mine"]
    assert complete("verify", "nowhere/") == []


def test_shipped_experiments_are_known() -> None:
    assert completion.collect()["configs"] == sorted(path.stem for path in sample_configs().glob("*.yaml"))


def test_what_is_kept_is_made_anew_when_the_installation_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "deep" / "completion.json"
    made: list[int] = []
    monkeypatch.setattr(completion, "cache_file", lambda: place)
    monkeypatch.setattr(completion, "collect", lambda: made.append(1) or {"configs": ["a"]})
    for _ in range(2):
        assert completion.config_names("") == ["a"]
    assert len(made) == 1 and json.loads(place.read_text())["configs"] == ["a"]
    monkeypatch.setattr(completion, "_installation", lambda: ["another"])
    assert completion.config_names("") == ["a"] and len(made) == 2
    place.write_text("{")
    assert completion.config_names("") == ["a"] and len(made) == 3
    place.unlink()
    place.parent.rmdir()
    place.parent.touch()  # no folder can be made there
    assert completion.config_names("") == ["a"] and len(made) == 4


def test_a_completion_imports_neither_torch_nor_numpy(cache: Path, tmp_path: Path) -> None:
    """One that imports them takes seconds."""
    environment = {**os.environ, **dict.fromkeys(("XDG_CACHE_HOME", "HOME", "LOCALAPPDATA"), str(tmp_path))}
    environment |= {completion.VARIABLE: "complete_bash", "COMP_WORDS": "segexplorer\ndescribe\nlosses\ntv"}
    environment |= {"COMP_CWORD": "3"}
    code = (
        "import sys; from segexplorer.frontends.cli.app import run; code = run([]); "
        "print(code, *sorted({'torch', 'numpy', 'napari'} & set(sys.modules)), file=sys.stderr)"
    )
    done = [
        subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
        )
        for _ in range(2)  # the first one fills the cache
    ]
    assert [each.stdout.split() for each in done] == [["tversky"]] * 2
    assert done[1].stderr.split() == ["0"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not here")
def test_bash_takes_the_script(tmp_path: Path) -> None:
    """What `--install-completion` puts into ~/.bashrc completes in a real bash."""
    bin_folder = Path(sys.executable).parent
    if not (bin_folder / "segexplorer").exists():
        pytest.skip("the command is not installed")
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    environment["PATH"] = f"{bin_folder}{os.pathsep}{environment['PATH']}"
    script = """
        segexplorer --install-completion bash > /dev/null
        source ~/.bashrc
        COMP_WORDS=(segexplorer describe losses tv) COMP_CWORD=3
        _segexplorer_completion segexplorer
        echo "${COMPREPLY[@]}"
    """
    environment["_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION"] = "1"  # so that the shell is named
    done = subprocess.run(
        ["bash", "--norc", "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["tversky"], done.stderr


def test_help_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    assert "--install-completion" in capsys.readouterr().out and app._add_completion
    assert losses.names()
