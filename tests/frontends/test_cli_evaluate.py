"""`segexplorer evaluate` over folders: tables that stay legible, files with every metric, clear refusals."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from segexplorer import metrics
from segexplorer.data.io import open_volume, save_volume
from segexplorer.data.volume import Volume
from segexplorer.frontends.cli import evaluate
from segexplorer.frontends.cli.app import run
from segexplorer.frontends.cli.evaluate import case_tables, extreme_table, spread_tables
from segexplorer.metrics.formatting import interval_text, value_text

SPACING = (1.0, 1.0, 2.0)
CLASSES = "{liver: 1, lesion: 2}"


def label(shift: int = 0, lesion: bool = True) -> np.ndarray:
    array = np.zeros((16, 14, 8), np.uint8)
    array[3 + shift : 10 + shift, 3:10, 2:6] = 1
    if lesion:
        array[5:7, 5:7, 3:5] = 2
    return array


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return predictions and truths: one perfect, two shifted, one that missed the lesion, one that invents it."""
    root = tmp_path_factory.mktemp("scored")
    p, t = root / "predictions", root / "truths"
    p.mkdir(), t.mkdir()
    made = {"a": (0, True, True), "b": (1, True, True), "c": (2, True, True), "d": (0, False, True)}
    for name, (shift, found, true) in {**made, "e": (0, True, False)}.items():
        save_volume(Volume.from_array(label(shift, found), spacing=SPACING), p / f"{name}_prediction.mha")
        save_volume(
            Volume.from_array(label(0, true), spacing=SPACING), t / f"{name}_seg.nii.gz", integer=True
        )
    save_volume(Volume.from_array(label(), spacing=SPACING), p / "nobody.mha")
    return p, t


def test_the_printed_figures_are_the_metrics_own(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", *map(str, folders), "--classes", CLASSES]) == 0
    told = capsys.readouterr()
    assert "nobody.mha" in told.err
    scores = [
        s
        for name in "abcde"
        for s in metrics.score_case(
            open_volume(folders[0] / f"{name}_prediction.mha", label=True).array,
            open_volume(folders[1] / f"{name}_seg.nii.gz", label=True).array,
            ("liver", "lesion"),
            SPACING,
            case=name,
            surfaces=True,
        )
    ]
    lines = told.out.splitlines()
    for row in metrics.distributions(scores, ["dice", "f2"]):
        assert any(
            f"{row.mean:.3f}" in line and interval_text(row.low, row.high, row.metric) in line
            for line in lines
        )
    lesion = {r.metric: r for r in metrics.distributions(scores, ["hd95", "hd95_penalised"])[2:4]}
    (found,) = [x.split() for x in lines if x.startswith("  HD95, mm")][1:2]
    # the mean is over the three found, with one missed and one spurious beside it
    assert found[2:6] == ["3", "1", "1", f"{lesion['hd95'].mean:.2f}"]
    (penalised,) = [x.split() for x in lines if x.startswith("  HD95 pen., mm")][1:2]
    assert penalised[3:7] == ["5", "1", "1", f"{lesion['hd95_penalised'].mean:.2f}"]
    assert "F2" in told.out and "missed" in told.out and "spurious" in told.out
    assert "Mean foreground Dice" in lines[-2]


@pytest.mark.parametrize("width", [80, 120])
def test_every_figure_is_legible(folders: tuple[Path, Path], width: int) -> None:
    found = evaluate.pair(*folders)
    scores = [
        s
        for p in found.pairs
        for s in evaluate.score_pair(
            p, {"left ventricular cavity": (1,), "lesion": (2,)}, named=True, surfaces=True
        )
    ]
    console = Console(width=width, record=True, file=io.StringIO())
    rows = metrics.distributions(scores)
    for table in (
        *case_tables(scores, metrics.default_names(), width),
        *spread_tables(rows, width),
        extreme_table(rows, width),
    ):
        console.print(table)
    text = console.export_text()
    assert "…" not in text and max(map(len, text.splitlines())) <= width
    for score in scores:
        for name in metrics.default_names():
            value = score.metrics[name]
            assert np.isnan(value) or value_text(value, name) in text
    assert text.count("near 1 by") >= 4  # specificity and accuracy say so wherever they stand


def test_files_hold_every_metric_whatever_is_shown(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases, spread = tmp_path / "cases.csv", tmp_path / "spread.csv"
    arguments = ["--metrics", "f2,hd95_pooled", "--csv", str(cases), "--spread-csv", str(spread)]
    assert run(["evaluate", *map(str, folders), "--classes", CLASSES, *arguments]) == 0
    shown = capsys.readouterr().out
    assert "pooled" in shown and "F2" in shown and "Prec." not in shown
    table = pd.read_csv(cases)
    assert len(table) == 10 and set(metrics.default_names()) <= set(table.columns)
    assert list(table[table["class"] == "lesion"]["state"]) == [*3 * ["scored"], "missed", "spurious"]
    assert set(pd.read_csv(spread)["metric"]) == set(metrics.default_names())
    assert [path.name for path in tmp_path.iterdir()] != [] and not list(tmp_path.glob(".*"))


def test_json_has_the_spread(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", *map(str, folders), "--classes", CLASSES, "--metrics", "dice", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(r["class_name"], r["metric"]) for r in told["spread"]] == [
        ("liver", "dice"),
        ("lesion", "dice"),
        (metrics.ALL_CLASSES, "dice"),
    ]
    assert told["predictions_without_truth"] == ["nobody.mha"]
    assert set(told["scores"][0]["metrics"]) == set(metrics.default_names())


def test_an_unknown_metric_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", str(tmp_path / "none"), str(tmp_path), "--metrics", "dice,hd59"]) == 2
    assert "no metric 'hd59'. Did you mean hd95" in capsys.readouterr().err


def test_a_table_cannot_replace_a_folder(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", *map(str, folders), "--csv", str(tmp_path)]) == 2
    assert "is a folder" in capsys.readouterr().err


def test_a_case_that_cannot_be_scored_is_named(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, shape in (("p", (4, 4, 4)), ("t", (4, 4, 5))):
        (tmp_path / folder).mkdir()
        for name in ("fine", "odd"):
            array = np.ones(shape if name == "odd" else (4, 4, 4), np.uint8)
            spacing = (1, 1, 4 / array.shape[2])
            save_volume(
                Volume.from_array(array, spacing=spacing), tmp_path / folder / f"{name}.nii.gz", integer=True
            )
    assert run(["evaluate", str(tmp_path / "p"), str(tmp_path / "t")]) == 2
    assert "odd: The prediction and the truth have different grids" in capsys.readouterr().err


def test_formats_may_differ_and_names_of_segments_decide(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A .seg.nrrd numbers its segments otherwise; pictures are masks of 0 and 255."""
    p, t = tmp_path / "p", tmp_path / "t"
    p.mkdir(), t.mkdir()
    truth = Volume.from_array(label(), spacing=SPACING)
    save_volume(truth, t / "a.seg.nrrd", integer=True, names={1: "liver", 2: "lesion"})
    swapped = np.array([0, 2, 1], np.uint8)[label()]
    save_volume(truth.with_array(swapped), p / "a.seg.nrrd", integer=True, names={1: "lesion", 2: "liver"})
    assert run(["evaluate", str(p), str(t), "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert [(s["class_name"], s["metrics"]["dice"]) for s in scores] == [("liver", 1.0), ("lesion", 1.0)]


def test_pictures_are_masks_of_0_and_255(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    for folder, shift in (("p", 1), ("t", 0)):
        (tmp_path / folder).mkdir()
        for name in ("a", "normal"):
            array = np.zeros((20, 24), np.uint8)
            array[5 + shift : 12 + shift, 4:16] = 255 if name == "a" else 0
            Image.fromarray(array).save(tmp_path / folder / f"{name}.png")
    assert run(["evaluate", str(tmp_path / "p"), str(tmp_path / "t"), "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert [(s["case"], s["state"]) for s in scores] == [("a", "scored"), ("normal", "absent")]
    assert scores[0]["metrics"]["dice"] == pytest.approx(6 / 7)
    assert scores[0]["metrics"]["hd"] == 1  # contours one pixel apart
    assert run(["evaluate", str(tmp_path / "p"), str(tmp_path / "t")]) == 0
    told = capsys.readouterr()
    assert "Without a label in prediction and truth: normal" in told.err
    assert "absent " not in told.out.split("Over cases")[0]  # nobody asked for that class there


def test_dicom_segments_against_a_volume_in_folders(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("highdicom")
    import shutil

    source = shared_data / "ct_dicom_seg_dcmqi"
    p, t = tmp_path / "p", tmp_path / "t"
    p.mkdir(), t.mkdir()
    shutil.copy(source / "liver.dcm", t / "case_1.dcm")
    liver = open_volume(source / "liver.dcm", label=True)
    save_volume(liver, p / "case_1_prediction.seg.nrrd", integer=True)
    assert run(["evaluate", str(p), str(t), "--json"]) == 0
    (score,) = json.loads(capsys.readouterr().out)["scores"]
    assert (score["case"], score["class_name"], score["metrics"]["dice"]) == ("case_1", "Liver", 1.0)


def test_a_class_that_is_nowhere_is_rather_a_slip(
    folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", *map(str, folders), "--classes", "{liver: 1, spleen: 99}"]) == 0
    streams = capsys.readouterr()
    assert "No prediction and no truth holds spleen" in streams.err and "liver" not in streams.err
    assert run(["evaluate", *map(str, folders), "--classes", "{spleen: 99}"]) == 0
    assert "nan" not in capsys.readouterr().out


def test_255_beside_other_labels_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = label(0, False)
    truth[0] = 255
    for name, array in (("p", label(0, False)), ("t", truth)):
        save_volume(Volume.from_array(array, spacing=SPACING), tmp_path / f"{name}.mha", integer=True)
    files = [str(tmp_path / "p.mha"), str(tmp_path / "t.mha")]
    assert run(["evaluate", *files]) == 0
    assert "255 is scored as a class" in capsys.readouterr().err
    assert run(["evaluate", *files, "--classes", "{liver: 1, ignore: 255}", "--json"]) == 0
    streams = capsys.readouterr()
    (score,) = json.loads(streams.out)["scores"]
    assert score["metrics"]["dice"] == 1.0 and "255" not in streams.err


# ---- metrics on request


@pytest.fixture(scope="module")
def lesion_folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return predictions and truths of lesions: one found and one missed, one invented, and a case without any."""
    root = tmp_path_factory.mktemp("lesions")
    p, t = root / "predictions", root / "truths"
    p.mkdir(), t.mkdir()
    nothing = np.zeros((20, 14, 8), np.uint8)
    two, one = nothing.copy(), nothing.copy()
    two[2:6, 2:6, 2:6] = two[12:14, 2:4, 2:4] = 1
    one[3:6, 2:6, 2:6] = 1
    for name, (found, true) in {"a": (one, two), "b": (one, nothing), "c": (nothing, nothing)}.items():
        for folder, array in ((p, found), (t, true)):
            save_volume(Volume.from_array(array, spacing=(1, 1, 2)), folder / f"{name}.nii.gz", integer=True)
    return p, t


def test_metrics_of_a_task_are_printed_and_written(
    lesion_folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    csv = tmp_path / "cases.csv"
    arguments = ["--classes", "{lesion: 1}", "--metrics", "lesions", "--csv", str(csv), "--json"]
    assert run(["evaluate", *map(str, lesion_folders), *arguments]) == 0
    spread = {row["metric"]: row for row in json.loads(capsys.readouterr().out)["spread"]}
    assert set(spread) == {metric.name for metric in metrics.metrics_for("lesions")}
    assert spread["lesion_sensitivity"]["mean"] == 0.5 and spread["lesion_sensitivity"]["n"] == 1
    # one false lesion in three cases: the one without any lesion counts
    assert spread["lesion_fp"]["mean"] == pytest.approx(1 / 3) and spread["lesion_fp"]["n"] == 3
    table = pd.read_csv(csv)
    assert {*metrics.default_names(), "lesion_f1", "pq"} <= set(table.columns)
    assert run(["evaluate", *map(str, lesion_folders), "--metrics", "lesions,mcc"]) == 0
    shown = capsys.readouterr().out
    assert "Lesion" in shown and "MCC" in shown and "HD95" not in shown


def test_the_options_decide_what_is_found(
    lesion_folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    def sensitivity(*settings: str) -> float:
        given = [word for setting in settings for word in ("--set", setting)]
        chosen = ["--metrics", "lesion_sensitivity", "--json", "--classes", "{lesion: 1}"]
        assert run(["evaluate", *map(str, lesion_folders), *chosen, *given]) == 0
        return json.loads(capsys.readouterr().out)["spread"][0]["mean"]

    assert sensitivity() == 0.5
    assert sensitivity("min_voxels=20") == 1
    assert sensitivity("matching=overlap", "min_overlap=0.8") == 0
    assert run(["evaluate", *map(str, lesion_folders), "--set", "matching=touch"]) == 2
    assert "matching" in capsys.readouterr().err


def test_a_protocol_is_printed_beside_our_definitions(
    lesion_folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    pair = [str(folder / "a.nii.gz") for folder in lesion_folders]
    assert run(["evaluate", *pair, "--protocol", "coactseg", "--json"]) == 0
    (score,) = json.loads(capsys.readouterr().out)["scores"]
    values = score["metrics"]
    assert values["coactseg_dice"] == values["dice"]
    assert values["coactseg_f1"] == 1  # the lesion of 8 voxels is none there
    assert run(["evaluate", *pair, "--protocol", "coactseg"]) == 0
    shown = capsys.readouterr().out
    assert "CoactSeg" in shown and "HD95" in shown
    assert run(["evaluate", *pair, "--protocol", "coactsegg"]) == 2
    assert "coactseg" in capsys.readouterr().err


def test_lesions_are_written_one_by_one_and_counted_by_size(
    lesion_folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "lesions.csv"
    arguments = ["--lesions-csv", str(path), "--set", "lesion_sizes=[30]", "--classes", "{lesion: 1}"]
    assert run(["evaluate", *map(str, lesion_folders), *arguments]) == 0
    shown = capsys.readouterr().out
    table = pd.read_csv(path)
    assert len(table) == 4 and set(table["volume"]) == {"truth", "prediction"}
    assert table[table["volume"] == "truth"]["mm3"].tolist() == [128.0, 16.0]
    (small,) = [line.split() for line in shown.splitlines() if "0 to 30" in line]
    assert small[-8:] == ["1", "0", "0", "0", "0.000", "–", "–", "0.00"]
    (everything,) = [line.split() for line in shown.splitlines() if line.split()[:1] == ["all"]]
    assert everything == ["all", "2", "1", "2", "1", "0.500", "0.500", "0.500", "0.33"]
    assert "any voxel is in the other volume" in shown
