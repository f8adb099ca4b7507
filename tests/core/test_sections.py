"""A section without a kind has that of its default; a section of another kind keeps what that kind has, too."""

from __future__ import annotations

from pathlib import Path

import pytest

import segexplorer
from segexplorer.core.errors import SpecError
from segexplorer.core.registry import families
from segexplorer.core.spec import replace_values
from segexplorer.frontends.cli.app import run
from segexplorer.frontends.cli.settings import parse_settings
from segexplorer.training.experiment import sample_configs

BASE = {"data": {"kind": "phantom"}}
Experiment = segexplorer.Experiment


def test_sections_without_a_kind_take_that_of_the_default() -> None:
    found = Experiment.of(
        {**BASE, "schedule": {"epochs": 2}, "optimiser": {"learning_rate": 0.5}, "network": {}}
    )
    plain = Experiment.of(BASE)
    assert found.schedule == type(plain.schedule)(epochs=2)
    assert found.optimiser.kind == plain.optimiser.kind and found.optimiser.learning_rate == 0.5
    assert found.network == plain.network
    with pytest.raises(SpecError, match="has no setting 'epoch'"):
        Experiment.of({**BASE, "schedule": {"epoch": 2}})
    with pytest.raises(SpecError, match="needs a kind"):
        Experiment.of({"data": {"seed": 3}})


@pytest.mark.parametrize("family", ["losses", "networks", "optimisers", "schedules"])
def test_every_kind_can_be_switched_to(family: str) -> None:
    section = {"losses": "loss", "networks": "network", "optimisers": "optimiser", "schedules": "schedule"}[
        family
    ]
    experiment = Experiment.of(BASE)
    for name, spec in families()[family].specs().items():
        if any(field.is_required() for field in spec.model_fields.values()):
            continue  # a kind that needs something of its own is given whole
        switched = replace_values(experiment, {f"{section}.kind": name})
        assert getattr(switched, section) == spec()


def test_what_was_set_is_kept_where_the_new_kind_has_it() -> None:
    experiment = Experiment.of({**BASE, "optimiser": {"kind": "adamw", "learning_rate": 0.123}})
    switched = replace_values(experiment, {"optimiser.kind": "sgd"})
    assert (switched.optimiser.kind, switched.optimiser.learning_rate) == ("sgd", 0.123)


@pytest.mark.parametrize("change", ["loss.kind=dice", "optimiser.kind=sgd", "network.kind=vnet"])
@pytest.mark.parametrize("path", sorted(sample_configs().glob("*hippocampus*.yaml")), ids=lambda p: p.stem)
def test_kinds_are_switched_on_the_command_line(path: Path, change: str) -> None:
    notes: list[str] = []
    settings = parse_settings([change])
    experiment = Experiment.from_yaml(path, settings, on_note=notes.append)
    (name, kind), before = next(iter(settings.items())), Experiment.from_yaml(path)
    section = name.partition(".")[0]
    assert getattr(experiment, section).kind == kind
    if notes:
        assert f"{name}={kind} has no" in notes[0] and getattr(before, section).kind != kind


def test_a_value_outside_the_new_kinds_range_stays_an_error(tmp_path: Path) -> None:
    text = "data: {kind: phantom}\nloss: {kind: tversky, alpha: 0.7, beta: 0.3, nonsense: 1}\n"
    (tmp_path / "e.yaml").write_text(text)
    with pytest.raises(SpecError, match="nonsense"):
        Experiment.from_yaml(tmp_path / "e.yaml")
    with pytest.raises(SpecError):
        Experiment.from_yaml(tmp_path / "e.yaml", {"loss.kind": "no_such_loss"})


def test_plain_text_is_taken_where_it_is_no_yaml() -> None:
    assert parse_settings(["labels={case}/seg.nii.gz", "a=@x", "b=*"]) == {
        "labels": "{case}/seg.nii.gz",
        "a": "@x",
        "b": "*",
    }
    with pytest.raises(SpecError, match="Close its brackets"):
        parse_settings(["patch=[64, 64"])


def test_a_kind_is_described_without_its_family(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["describe", "tversky"]) == 0
    alone = capsys.readouterr().out
    assert run(["describe", "losses", "tversky"]) == 0
    assert capsys.readouterr().out == alone
    assert run(["describe", "dice"]) == 0
    assert "segexplorer describe metrics dice" in capsys.readouterr().err
    assert run(["describe", "losses"]) == 2 and run(["describe", "tverksy"]) == 2
    assert "Did you mean tversky" in capsys.readouterr().err
    monkeypatch.setenv("COLUMNS", "60")
    assert run(["list", "losses"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 60
