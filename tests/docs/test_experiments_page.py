"""docs/explanation/experiments.md names every file of a paper, and what it shows is allowed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from segexplorer import losses
from segexplorer.core.papers import PAPERS
from segexplorer.core.spec import get_value
from segexplorer.study.matrix import expand
from segexplorer.training.experiment import Experiment, read_yaml, sample_configs
from segexplorer.training.optimisers import registry as optimisers

ROOT = Path(__file__).resolve().parents[2]
TEXT = ROOT / "docs" / "explanation" / "experiments.md"


@pytest.fixture(scope="module")
def text() -> str:
    if not TEXT.is_file():
        pytest.skip("docs/ is not here")
    return TEXT.read_text(encoding="utf-8")


def test_every_file_of_a_paper_is_named_and_every_named_file_is_there(text: str) -> None:
    files = {path.stem for path in sample_configs().glob("*.yaml")}
    of_papers = {stem for stem in files if stem.startswith(tuple(f"{p.prefix}_" for p in PAPERS.values()))}
    assert len(of_papers) > len(PAPERS)
    named = set(re.findall(r"`(?:sample_configs/)?(\w+)\.yaml`", text))
    assert not {stem for stem in of_papers - named if not stem.endswith("_deep")}
    assert named <= files


def test_every_paper_has_a_section_with_its_title_and_doi(text: str) -> None:
    for citation, paper in PAPERS.items():
        assert f"## {citation}: " in text
        assert f"[{paper.title}](https://doi.org/{paper.doi})" in text


def test_what_it_shows_is_an_experiment(text: str) -> None:
    (shown,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    experiment = Experiment.of({"data": {"kind": "phantom"}, **yaml.safe_load(shown)})
    assert experiment.preprocessing.crop.to == "body" and experiment.sampling.shift == 10


# ---- what the page says of the files


def of_papers() -> dict[str, dict]:
    """Return the mappings in the papers' files, without those on substitutes for the papers' data."""
    prefixes = tuple(f"{p.prefix}_" for p in PAPERS.values())
    files = [f for f in sorted(sample_configs().glob("*.yaml")) if f.stem.startswith(prefixes)]
    return {f.stem: read_yaml(f) for f in files if not f.stem.endswith(("hippocampus", "phantom"))}


FILES = of_papers()


def of(prefix: str) -> list[dict]:
    return [data for stem, data in FILES.items() if stem.startswith(prefix)]


def test_gradients_are_clipped_and_weights_decay_where_the_page_says_so(text: str) -> None:
    assert len(FILES) > 15
    for stem, data in FILES.items():
        chosen = optimisers.parse(data["optimiser"])
        assert (chosen.gradient_clip, chosen.weight_decay) == (None, 0), stem
    for file in sample_configs().glob("*.yaml"):
        if file.stem not in FILES:
            chosen = optimisers.parse(read_yaml(file)["optimiser"])
            usual = type(chosen)()
            assert (chosen.gradient_clip, chosen.weight_decay) == (usual.gradient_clip, usual.weight_decay)
    norm = optimisers.parse("adam").gradient_clip
    decay = {kind: optimisers.parse(kind).weight_decay for kind in ("sgd", "adamw")}
    assert f"clipped to a norm of {norm:g}" in text
    assert "SGD decays the weights by 3e-5 and AdamW by 0.01" in text and decay == {
        "sgd": 3e-5,
        "adamw": 0.01,
    }


def test_the_best_checkpoint_is_chosen_as_the_page_says() -> None:
    for stem, data in FILES.items():
        chosen = data.get("validation", {}).get("select_best", "dice")
        assert chosen == ("loss" if stem.startswith("yeung2022_") else "dice"), stem


def test_what_it_says_of_zhang_2025() -> None:
    (data,) = of("zhang2025")
    assert data["split"] == {"test_fraction": 0.2, "validation_count": 8}
    assert (round(80 * 0.2), 80 - 8 - round(80 * 0.2)) == (16, 56)
    assert data["optimiser"]["learning_rate"] == 0.005 and data["schedule"]["epochs"] == 150
    assert (data["sampling"]["batch_size"], data["sampling"]["steps_per_epoch"]) == (10, 50)
    assert data["sampling"]["patch_size"] == [96] * 3 and data["preprocessing"]["spacing"] == [1.0] * 3
    assert data["preprocessing"]["intensity"]["window"] == "abdomen"
    assert (len(data["matrix"]["network"]), len(data["matrix"]["loss"])) == (2, 3)


def test_what_it_says_of_perera_2025(text: str) -> None:
    (data,) = of("perera2025")
    held_out = data["split"]["validation"]
    assert len(held_out) == 8 and ", ".join(held_out) in text and data["preprocessing"]["difference"]
    assert data["preprocessing"]["spacing"] == [0.5, 0.75, 0.75]
    sampling = data["sampling"]
    assert sampling["patch_size"] == [80] * 3 and (sampling["foreground_ratio"], sampling["shift"]) == (1, 10)
    assert "steps_per_epoch" not in sampling, "one patch for each of 32 cases, in batches of 4, are 8 steps"
    assert data["optimiser"] == {"kind": "adam", "learning_rate": 0.001, "gradient_clip": None}
    assert (
        sampling["batch_size"] == 4
        and data["schedule"]["epochs"] == 250
        and len(data["matrix"]["loss"]) == 13
    )


def test_what_it_says_of_yeung_2022() -> None:
    bus, brats, kits = (FILES[f"yeung2022_{name}"] for name in ("bus2017", "brats20", "kits19"))
    assert [d["sampling"]["batch_size"] for d in (bus, brats, kits)] == [32, 2, 2]
    assert [d["schedule"]["epochs"] for d in (bus, brats, kits)] == [100, 400, 500]
    assert brats["sampling"]["patch_size"] == [96] * 3 and kits["sampling"]["patch_size"] == [160, 160, 80]
    assert kits["preprocessing"]["spacing"] == [1.62, 1.62, 3.22]
    assert {k: kits["preprocessing"]["intensity"][k] for k in ("low", "high")} == {"low": -79, "high": 304}
    excluded = [f"case_{n:05d}" for n in (15, 23, 37, 68, 125, 133)]
    assert kits["split"]["excluded"] == excluded and 210 - len(excluded) == 204
    assert brats["data"]["sequences"] == ["t1ce"] and brats["split"]["excluded"] == []
    for data in (brats, kits):
        rate = data["optimiser"]["learning_rate"]
        assert rate == 3e-4 and rate * data["schedule"]["floor"] == pytest.approx(1e-6, rel=0.01)
        assert data["validation"]["overlap"] == 0.5 and data["sampling"]["foreground_ratio"] == 0
    sgd = {"learning_rate": 0.01, "momentum": 0.99, "nesterov": True}
    deep = [data for stem, data in FILES.items() if stem.endswith("_deep")]
    assert len(deep) == 3
    for data in (bus, *deep):
        assert sgd.items() <= data["optimiser"].items() and data["schedule"]["power"] == 0.9
        assert data["schedule"]["floor"] == 0
    assert {d["schedule"]["epochs"] for d in deep} == {1000}
    assert all(d["matrix"]["folds"] == 5 for d in of("yeung2022"))


def test_the_settings_of_table_2_of_yeung_2022(text: str) -> None:
    """Rows of the three columns; (delta, gamma, lambda) = (.6, .2, .5) is in two of them."""
    file = sample_configs() / "yeung2022_bus2017_tuning.yaml"
    found = [losses.parse(entry) for entry in read_yaml(file)["matrix"]["loss"]]
    rows = {tuple(round(get_value(s, n), 9) for n in ("delta", "gamma", "lam")) for s in found}
    table = {(k / 10, 0.0, 0.5) for k in range(1, 10)}
    table |= {(0.6, round(k * 0.05, 9), 0.5) for k in range(1, 11)}
    table |= {(0.6, 0.2, k / 10) for k in range(11)}
    assert rows == table and len(found) == len(rows) == 29 and "29 settings" in text
    best = losses.presets()["yeung2022_unified_focal_asymmetric"].spec
    assert best in found and all(s.kind == "unified_focal" and not s.symmetric for s in found)


def test_what_it_says_of_oshah_2025() -> None:
    synapse, acdc = FILES["oshah2025_synapse"], FILES["oshah2025_acdc"]
    assert synapse["split"]["validation_count"] == 12 and acdc["split"]["validation_count"] == 20
    assert len(synapse["data"]["classes"]) == 8
    steps = synapse["sampling"]["steps_per_epoch"]
    assert steps == 283 == round(3779 * 18 / 30 / 8) and acdc["sampling"]["steps_per_epoch"] == 200
    for data in (synapse, acdc):
        assert data["sampling"]["patch_size"] == [224, 224, 1] and data["sampling"]["batch_size"] == 8
        assert data["optimiser"]["learning_rate"] == 0.002 and data["schedule"]["epochs"] == 30
        assert data["network"] == {"kind": "levit_unet", "size": "384"}


def test_what_it_says_of_chen_2023() -> None:
    pddca, abdomen, lits = (FILES[f"chen2023_{name}"] for name in ("pddca", "abdomen", "lits"))
    assert pddca["split"] == {"validation_count": 6, "test_fraction": 0.21} and round(48 * 0.21) == 10
    assert lits["split"] == {"validation_count": 15, "test_fraction": 0.23} and round(131 * 0.23) == 30
    assert abdomen["split"]["validation_count"] == 10 and abdomen["matrix"]["folds"] == 3
    assert abdomen["preprocessing"]["resize"] == [144, 96, 112] and len(abdomen["data"]["classes"]) == 8
    assert lits["preprocessing"]["resize"] == [192, 144, 80]
    windows = [[d["preprocessing"]["intensity"][k] for k in ("low", "high")] for d in (pddca, abdomen, lits)]
    assert (
        windows == [[-200, 400], [-500, 800], [-250, 250]] and pddca["preprocessing"]["spacing"] == [1.5] * 3
    )
    for data in of("chen2023"):
        assert data["sampling"] == {"patch_size": None, "batch_size": 1} and data["schedule"]["epochs"] == 150
        assert data["optimiser"]["learning_rate"] == 1e-3 and data["network"] == "chen2023_vnet"
        assert data["preprocessing"]["crop"] == {"to": "body", "margin": 0}
    assert all("left_right" not in d["augmentation"]["flips"] for d in (pddca, abdomen))
    regions = FILES["chen2023_pddca_regions"]["matrix"]["loss.terms.2.loss.grid"]
    assert regions == [1, 2, 4, 8, 16]
    ranges = FILES["chen2023_pddca_range"]["matrix"]["loss.terms.2.loss"]
    widths = [entry["b"] for entry in ranges]
    assert (min(widths), max(widths)) == (0, 0.6)
    assert all(entry["a"] + entry["b"] / 2 == pytest.approx(0.5) for entry in ranges)
    chosen = losses.presets()["chen2023_adaptive_region"].spec
    assert losses.parse(ranges[4]) == get_value(chosen, "terms.2.loss")


def test_the_study_of_table_2_can_be_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    for n in range(5):
        for folder in ("original", "GT"):
            path = tmp_path / "BUS2017" / folder / f"{n:06d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (40, 30), 255 * (folder == "GT")).save(path)
    monkeypatch.setenv("SEGEXPLORER_DATA", str(tmp_path))
    points = expand(sample_configs() / "yeung2022_bus2017_tuning.yaml")
    assert len(points) == 29 * 5 and len({p.name for p in points}) == len(points)
    assert all(p.experiment.validation.select_best == "loss" for p in points)
