"""What goes into a paper and onto the terminal: escapes, marks, counts, groups, eighty columns."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from segexplorer.core.errors import SpecError
from segexplorer.core.events import CaseScore
from segexplorer.frontends.cli.app import run as cli
from segexplorer.frontends.cli.compare import print_comparison, print_groups
from segexplorer.study import compare, compare_groups
from segexplorer.study.plan import runs_of
from segexplorer.study.render import escaped, latex_tables, markdown_tables

RunMaker = Callable[..., Path]


def scores(shift: float = 0.0, count: int = 8, missed: int = 0) -> list[CaseScore]:
    rows = []
    for i in range(count):
        state = "missed" if i < missed else "scored"
        value = 0.0 if i < missed else 0.5 + 0.03 * i + shift * (1 + 0.1 * i)
        metrics = {"dice": value, "hd95": float("nan") if i < missed else 10 * (1 - value)}
        rows.append(
            CaseScore(
                case=f"c{i}",
                class_name="liver",
                role="validation",
                state=state,  # type: ignore[arg-type]
                metrics=metrics,
                false_positive_ml=0.0,
                false_negative_ml=0.0,
                truth_ml=1.0,
            )
        )
    return rows


@pytest.fixture
def runs(make_run: RunMaker) -> list[Path]:
    return [
        make_run(f"{name}{seed}", scores(shift + 0.001 * seed, missed=missed), loss=loss, seed=seed)
        for name, loss, shift, missed in (
            ("a", "cross_entropy", 0.0, 0),
            ("b", "adaptive_tversky_cross_entropy", 0.1, 0),
            ("c", "dice", 0.001, 1),
        )
        for seed in range(3)
    ]


def test_latex_is_escaped_and_marked(runs: list[Path]) -> None:
    text = latex_tables(compare(runs, metrics=["dice", "hd95"]))
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert r"adaptive\_tversky\_cross\_entropy & \textbf{0.741 [" in body
    assert r"]}$^{*}$" in body and r"Dice $\uparrow$ & HD95, mm $\downarrow$ & Missed" in body
    assert "& 3/24 " in body and "& 0/24 " in body  # the lazy one's missed structure
    assert "no statement of significance" in body and r"95 \% bootstrap" in body
    assert not re.search(r"(?<!\\)[_%#&](?![^\n]*\\\\$)", body.replace(" & ", " "))
    for environment in ("table", "tabular"):
        assert body.count(rf"\begin{{{environment}}}") == body.count(rf"\end{{{environment}}}") == 2
    for line in body.splitlines():
        if line.endswith(r"\\"):
            assert line.count(" & ") in (3, 5)


def test_every_character_of_latex_is_escaped_once() -> None:
    assert escaped(r"50% of a_b & {x} ~ \ ^ $ # < 1") == (
        r"50\% of a\_b \& \{x\} \textasciitilde{} \textbackslash{} \textasciicircum{} \$ \# $<$ 1"
    )


def test_markdown_has_cells_for_every_column(runs: list[Path]) -> None:
    text = markdown_tables(compare(runs, metrics=["dice"]))
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("|")]
    assert {len(row) for row in rows} == {3, 6}
    best = next(row for row in rows if "adaptive" in row[0])
    assert best[0].strip() == r"adaptive\_tversky\_cross\_entropy"
    assert best[1].strip().startswith("**0.741 [") and best[1].strip().endswith(r"**\*")


def test_bold_is_the_best_mean_and_the_star_significance(make_run: RunMaker) -> None:
    few = [
        make_run(loss, scores(shift, count=4), loss=loss) for loss, shift in (("dice", 0), ("tversky", 0.1))
    ]
    text = latex_tables(compare(few, metrics=["dice"]))
    assert r"\textbf{" in text and "$^{*}$" not in text  # four cases show no significance


def test_the_terminal_table_stands_in_eighty_columns(runs: list[Path]) -> None:
    shown = io.StringIO()
    print_comparison(
        compare(runs, metrics=["dice", "hd95"]), out=Console(file=shown, width=80, highlight=False)
    )
    lines = shown.getvalue().splitlines()
    tables = lines[: next(i for i, line in enumerate(lines) if line.startswith("Checkpoint"))]
    assert max(len(line.rstrip()) for line in tables) <= 80
    whole = [line for line in tables if line.startswith("adaptive_tversky_cross_entropy")]
    assert len(whole) == 4  # means, two differences, runs: no label is broken
    assert "<0.001" in whole[1] or "*" in whole[1]
    assert any("unpaired" in line for line in tables)  # HD95 of the missed structure


def test_runs_that_are_not_alike_are_compared_group_by_group(
    make_run: RunMaker, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folders = [
        make_run("a", scores(), loss="dice"),
        make_run("b", scores(0.1), loss="tversky"),
        make_run("e", scores(0.1), loss="dice", network={"kind": "unet", "levels": 3}),
    ]
    grouped = compare_groups(folders, metrics=["dice"])
    assert [len(g.conditions) for g in grouped.comparisons] == [2]
    assert len(grouped.alone) == 1 and "--allow network" in grouped.notes[0]
    everything = compare_groups(folders, metrics=["dice"], allow=["network"])
    assert [len(g.conditions) for g in everything.comparisons] == [3] and not everything.alone
    shown = io.StringIO()
    print_groups(grouped, out=Console(file=shown, width=80))
    assert "Not compared" in shown.getvalue() and "Group 1" in shown.getvalue()
    names = [str(f) for f in folders]
    table = tmp_path / "t.csv"
    assert cli(["compare", *names, "--metrics", "dice", "--csv", str(table), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["comparisons"]) == len(told["alone"]) == 1
    rows = list(csv.DictReader(io.StringIO(table.read_text())))
    assert {row["group"] for row in rows} == {"1", "2"}
    assert cli(["compare", names[0], names[2]]) == 2  # nothing is left to compare: refused by name
    assert "networks differ" in capsys.readouterr().err


def test_only_seeds_show_their_spread(make_run: RunMaker, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [make_run(f"s{seed}", scores(0.01 * seed), loss="dice", seed=seed) for seed in (0, 1, 2)]
    assert cli(["compare", *map(str, folders), "--metrics", "dice"]) == 0
    shown = capsys.readouterr().out
    assert "SD seeds" in shown and "0.014" in shown  # sd of 0.01 x seed x 1.35
    assert cli(["compare", *map(str, folders), "--metrics", "dice", "--latex", "-"]) == 2
    assert "one condition" in capsys.readouterr().err


def test_one_condition_of_few_cases_says_why_it_has_no_interval(make_run: RunMaker) -> None:
    lonely = compare_groups([make_run("few", scores(count=3), loss="dice")], metrics=["dice"])
    assert [note for note in lonely.notes if "No interval below 6 cases" in note]
    assert not compare_groups([make_run("eight", scores(), loss="dice")], metrics=["dice"]).notes


def test_a_folder_gives_the_runs_in_the_order_they_were_started_and_leaves_unfinished_ones_out(
    make_run: RunMaker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    late = make_run("a_late", scores(), loss="dice", started=200.0)
    early = make_run("b_early", scores(), loss="tversky", started=100.0)
    make_run("c_stopped", scores(), loss="cross_entropy", started=1.0, finished=False)
    found = runs_of([tmp_path])
    assert found.folders == (early, late) and found.left_out == ("c_stopped",)
    assert len(runs_of([tmp_path], unfinished=True).folders) == 3
    (tmp_path / "study.json").write_text('{"runs": ["a_late", "b_early"], "reference": ["b_early"]}')
    assert runs_of([tmp_path]).folders == (late, early) and runs_of([tmp_path]).reference == early
    assert cli(["compare", str(tmp_path), "--metrics", "dice", "--markdown", "-"]) == 0
    told = capsys.readouterr()
    assert "Difference from tversky" in told.out and "Left out, not finished: c_stopped" in told.err
    assert cli(["compare", str(tmp_path), "--metrics", "dice", "--reference", "a_late", "--latex", "-"]) == 0
    assert "Difference from dice" in capsys.readouterr().out
    with pytest.raises(SpecError, match="focal"):
        compare_groups(found.folders, reference="focal")
