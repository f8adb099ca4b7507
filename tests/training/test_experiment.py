"""The experiment: YAML there and back, settings from the command line, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from segexplorer.core import plugins
from segexplorer.core.errors import SpecError
from segexplorer.losses.base import registry as losses
from segexplorer.training.experiment import Experiment

MINIMAL = "data: {kind: phantom, count: 2, size: 32}\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "experiment.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_come_back_equal(tmp_path: Path) -> None:
    first = Experiment.from_yaml(written(tmp_path, MINIMAL))
    first.save(tmp_path / "again.yaml")
    assert Experiment.from_yaml(tmp_path / "again.yaml") == first


def test_bare_names_choose_kinds_and_presets(tmp_path: Path) -> None:
    text = MINIMAL + "loss: chen2023_adaptive_region\nnetwork: segresnet\noptimiser: sgd\n"
    experiment = Experiment.from_yaml(written(tmp_path, text))
    plain = experiment.plain()
    assert plain["loss"]["kind"] == "weighted_sum"
    assert (plain["network"]["kind"], plain["optimiser"]["kind"]) == ("segresnet", "sgd")


def test_paths_in_the_file_resolve_against_it_and_settings_against_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    monkeypatch.chdir(here)
    path = written(home, "data: {kind: folder, root: cases}\n")
    assert Experiment.from_yaml(path).plain()["data"]["root"] == str(home / "cases")
    changed = Experiment.from_yaml(path, {"data.root": "mine"})
    assert changed.plain()["data"]["root"] == str(here / "mine")


def test_variables_stay_unexpanded(tmp_path: Path) -> None:
    path = written(tmp_path, "data: {kind: folder, root: '${SCANS}/cases'}\n")
    assert "${SCANS}/cases" in Experiment.from_yaml(path).to_yaml()


def test_a_setting_may_give_what_the_file_leaves_out(tmp_path: Path) -> None:
    path = written(tmp_path, "data: {kind: folder}\n")
    with pytest.raises(SpecError, match="root is missing"):
        Experiment.from_yaml(path)
    assert Experiment.from_yaml(path, {"data.root": str(tmp_path)}).plain()["data"]["root"] == str(tmp_path)


def test_settings_reach_into_kinds_that_the_file_names_bare(tmp_path: Path) -> None:
    path = written(tmp_path, MINIMAL + "loss: tversky\n")
    experiment = Experiment.from_yaml(path, {"loss.alpha": "0.7", "schedule.epochs": 3, "seed": 5})
    plain = experiment.plain()
    assert (plain["loss"]["alpha"], plain["schedule"]["epochs"], plain["seed"]) == (0.7, 3, 5)


@pytest.mark.parametrize(
    ("text", "settings", "words"),
    [
        ("dta: {}\n", {}, ["dta", "data"]),
        (MINIMAL + "loss: tverski\n", {}, ["tverski", "tversky"]),
        (MINIMAL + "loss: {kind: tversky, alfa: 1}\n", {}, ["alfa", "alpha"]),
        (MINIMAL + "sampling: {batch_size: 0}\n", {}, ["sampling.batch_size", "at least 1"]),
        (MINIMAL, {"los.alpha": 1}, ["los", "loss"]),
        (MINIMAL, {"loss.tversky_weigth": 1}, ["tversky_weigth"]),
        ("data: [1, 2\n", {}, ["YAML", "line"]),
        ("- 1\n", {}, ["does not contain an experiment"]),
    ],
)
def test_mistakes_are_one_sentence_with_the_nearest_name(
    tmp_path: Path, text: str, settings: dict[str, object], words: list[str]
) -> None:
    with pytest.raises(SpecError) as caught:
        Experiment.from_yaml(written(tmp_path, text), settings)
    told = str(caught.value)
    assert all(word in told for word in words), told
    assert "\n" not in told


def test_code_in_a_file_is_never_run(tmp_path: Path) -> None:
    path = written(tmp_path, "data: !!python/object/apply:os.system ['touch run']\n")
    with pytest.raises(SpecError, match="YAML"):
        Experiment.from_yaml(path)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("missing", ["nowhere.yaml", "."])
def test_a_file_that_is_not_there_is_a_sentence(tmp_path: Path, missing: str) -> None:
    with pytest.raises(SpecError):
        Experiment.from_yaml(tmp_path / missing)


def test_a_file_names_the_package_of_a_kind_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = losses._entries
    monkeypatch.setitem(entries, "dice", (entries["dice"][0], "dice_pack.losses"))
    report = plugins.PluginReport("dice", "dice_pack.losses", "dice-pack", "1.0")
    monkeypatch.setattr(plugins, "_reports", [report])
    experiment = Experiment.of({"data": {"kind": "phantom"}, "loss": "dice"})
    path = tmp_path / "experiment.yaml"
    experiment.save(path)
    assert path.read_text().startswith("# losses dice: package dice-pack\n")
    assert Experiment.from_yaml(path) == experiment
    monkeypatch.delitem(entries, "dice")
    monkeypatch.setattr(plugins, "_reports", [])
    with pytest.raises(SpecError, match="loss dice comes from the package dice-pack, which is not installed"):
        Experiment.from_yaml(path)
