"""`segexplorer cost`, as a user calls it."""

from __future__ import annotations

import json

import pytest

from segexplorer.frontends.cli.app import run
from segexplorer.networks import parse
from segexplorer.networks.cost import cost
from segexplorer.training.experiment import sample_configs


def test_networks_stand_side_by_side(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cost", "unet", "segresnet", "--patch", "64x64", "--channels", "4"]) == 0
    told = capsys.readouterr().out
    expected = cost(parse("unet"), (64, 64), in_channels=4)
    assert "unet" in told and "segresnet" in told and "64×64" in told
    assert f"{expected.flops / 1e6:.3g} M" in told
    assert "--measure" in told


def test_an_experiment_file_brings_patch_channels_classes_and_windows(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["cost", str(sample_configs() / "chen2023_phantom.yaml"), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["patch"], row["channels"], row["classes"]) == ([48, 48, 48], 1, 8)
    assert row["passes_per_volume"] == 3**3  # 96 voxels a side, windows of 48 that overlap by a quarter
    assert row["measured"] is None


def test_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["cost", "unet", "--patch", "32,32", "--measure", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["measured"]["passes"] == 5 and row["measured"]["seconds"] > 0


def test_without_its_data_a_file_is_counted_for_what_the_user_says(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SEGEXPLORER_DATA", raising=False)
    file = str(sample_configs() / "chen2023_pddca.yaml")
    assert run(["cost", file]) == 2
    assert "--patch" in capsys.readouterr().err
    assert run(["cost", file, "--patch", "64,64,32", "--classes", "10"]) == 0
    streams = capsys.readouterr()
    assert "64×64×32" in streams.out and "1 channel" in streams.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["unte"], "There is no network 'unte'. Did you mean unet"),
        (["unet", "--patch", "64"], "--patch '64' is no size"),
        (["unet", "--patch", "0,64"], "--patch '0,64' is no size"),
    ],
)
def test_what_cannot_be_counted_is_reported(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["cost", *arguments]) == 2
    assert sentence in capsys.readouterr().err
