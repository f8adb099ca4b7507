"""What a picker offers: groups, search, sentences."""

from __future__ import annotations

import pytest

from segexplorer.core.papers import PAPERS
from segexplorer.losses import registry as losses
from segexplorer.networks import registry as networks
from segexplorer.viewmodels import catalogue


def titles(query: str = "") -> dict[str, list[str]]:
    shown = catalogue.filtered(catalogue.groups(losses), query)
    return {group.title: [choice.title for choice in group.choices] for group in shown}


def test_five_losses_to_start_with() -> None:
    first = catalogue.groups(losses)[0]
    assert first.title == "Start here"
    assert [choice.key for choice in first.choices] == [
        "kind:dice_cross_entropy",
        "kind:tversky",
        "kind:adaptive_tversky_cross_entropy",
        "kind:unified_focal",
        "preset:squared_dice_ce_adaptive_region",
    ]


@pytest.mark.parametrize("registry", [losses, networks], ids=["losses", "networks"])
def test_everything_registered_is_offered(registry: object) -> None:
    offered = {choice.key for group in catalogue.groups(registry) for choice in group.choices}  # type: ignore[arg-type]
    assert offered == set(catalogue.choices(registry))  # type: ignore[arg-type]


def test_papers_hold_their_presets_and_families_their_kinds() -> None:
    shown = titles()
    assert {"Adaptive region loss", "Region Dice"} <= set(shown["Adaptive region loss (Chen 2023)"])
    assert shown["Unified focal loss (Yeung 2022)"].count("Dice") == 1
    boundary = next(names for title, names in shown.items() if title.startswith("Boundary"))
    assert "Hausdorff distance" in boundary


@pytest.mark.parametrize(
    ("query", "expected", "other"),
    [
        ("unified", "Unified focal", "Dice"),
        ("false negatives", "Tversky", "Lovasz softmax"),
        ("Chen 2023 region", "Region Dice", "Combo"),
        ("region tversky", "Adaptive region loss", "Squared Dice + cross entropy"),
        ("T-VMF", "t-vMF Dice", "Dice"),
    ],
)
def test_search_by_name_paper_and_what_is_punished(query: str, expected: str, other: str) -> None:
    found = [name for names in titles(query).values() for name in names]
    assert expected in found and other not in found


def test_a_search_without_hits_is_empty() -> None:
    assert titles("no such thing") == {}


def test_sentences_of_a_choice() -> None:
    known = catalogue.choices(losses)
    assert "from 0 to 1; best is 0" in catalogue.range_sentence(known["kind:dice"].spec)
    assert "the lower the better" in catalogue.range_sentence(known["kind:boundary"].spec)
    # the parameters decide: a mean over regions, and the sums of the paper
    assert "from 0 to 1;" in catalogue.range_sentence(known["kind:adaptive_region_tversky"].spec)
    assert "from 0 up;" in catalogue.range_sentence(losses.parse({"kind": "dice", "class_reduction": "sum"}))
    preset = known["preset:chen2023_adaptive_region"]
    assert catalogue.punished(preset).splitlines()[0].startswith("Dice: ")
    assert len(catalogue.punished(preset).splitlines()) == 3
    assert preset.title == "Adaptive region loss (Chen 2023)"
    assert PAPERS["Chen 2023"].reference in catalogue.reference(preset)
    assert r"\alpha_{ck}" in catalogue.formula(preset)
    assert "Used in Zhang 2025" in catalogue.where_used(known["kind:tversky"])
