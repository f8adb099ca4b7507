"""`segexplorer open` without a screen: the case table, several results side by side, JSON, CSV, mistakes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from segexplorer.core.errors import ExitCode
from segexplorer.data.cache_folder import VARIABLE as CACHE_VARIABLE
from segexplorer.frontends.cli.app import run
from tests.data.results.layouts import label, nnunet, predictions, write


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    for name in ("nnUNet_raw", "nnUNet_preprocessed"):
        monkeypatch.delenv(name, raising=False)


def test_the_worst_case_is_the_first_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["open", str(nnunet(tmp_path)), "--headless"]) == ExitCode.DONE
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split()[0] for line in lines if line.startswith("hippo")]
    assert rows == ["hippo_003", "hippo_002", "hippo_001", "hippo_000"]
    assert "4 of 4 cases scored, the worst first by Dice" in "\n".join(lines)


def test_json_holds_cases_problems_and_comparison(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = predictions(tmp_path / "a", range(3)), predictions(tmp_path / "b", range(3), moved=2)
    (other / "case_2.nii.gz").write_bytes(b"no image")
    assert run(["open", str(one), str(other), "--json"]) == ExitCode.DONE
    found = json.loads(capsys.readouterr().out)
    assert [case["results"] for case in found["cases"]][-1] == "b/predictions"
    assert [p["case"] for p in found["problems"]] == ["case_2"]
    assert (
        found["comparison"]["cases"] == ["case_0", "case_1"]
        and found["comparison"]["reference"] == "a/predictions"
    )


def test_several_results_are_printed_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [predictions(tmp_path / name, range(3), moved=n) for n, name in enumerate("ab")]
    assert run(["open", *map(str, folders), "--headless", "--reference", "b/predictions"]) == ExitCode.DONE
    printed = capsys.readouterr().out
    assert "Side by side" in printed and "no difference has a star" in " ".join(printed.split())


def test_csv_has_a_row_per_case_and_class(tmp_path: Path) -> None:
    file = tmp_path / "scores.csv"
    assert run(["open", str(predictions(tmp_path, range(2))), "--csv", str(file)]) == ExitCode.DONE
    rows = list(csv.DictReader(file.read_text().splitlines()))
    assert [(row["case"], row["class"]) for row in rows] == [
        ("case_1", "label 1"),
        ("case_1", "label 2"),
        ("case_0", "label 1"),
        ("case_0", "label 2"),
    ]


def test_predictions_without_labels_say_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "out/p1.nii.gz", label(0))
    assert run(["open", str(tmp_path / "out"), "--headless"]) == ExitCode.MISTAKE
    assert "--labels" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere", "--headless"], "no folder"),
        (["out", "--kind", "nnunet", "--headless"], "nnunet_results"),
        (
            ["out", "--pattern", "{case}.nii.gz", "--kind", "monai_results", "--headless"],
            "Leave one of them out",
        ),
        (["out", "--sort", "dise", "--headless"], "dice"),
    ],
)
def test_mistakes_are_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    words: str,
) -> None:
    write(tmp_path / "out/p1.nii.gz", label(0))
    monkeypatch.chdir(tmp_path)
    assert run(["open", *arguments]) == ExitCode.MISTAKE
    assert words in capsys.readouterr().err


def test_real_hippocampus_predictions(
    tmp_path: Path, shared_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One label against another one of the same case, cut: the cut one is found first."""
    from segexplorer.data.io import open_volume, save_volume

    truths = sorted((shared_data / "Task04_Hippocampus/labelsTr").glob("*.nii.gz"))[:3]
    for n, path in enumerate(truths):
        volume = open_volume(path, label=True)
        voxels = volume.array.copy()
        voxels[: n * voxels.shape[0] // 4] = 0
        (tmp_path / "out").mkdir(exist_ok=True)
        save_volume(volume.with_array(voxels), tmp_path / "out" / path.name, integer=True)
    labels = str(shared_data / "Task04_Hippocampus/labelsTr")
    assert run(["open", str(tmp_path / "out"), "--labels", labels, "--json"]) == ExitCode.DONE
    cases = [case["case"] for case in json.loads(capsys.readouterr().out)["cases"] if case["classes"]]
    names = [path.name.removesuffix(".nii.gz") for path in truths]
    assert cases == [names[2], names[1], names[0]]
