"""What a picker offers: groups, search, sentences."""

from __future__ import annotations

import re

import pytest

from segexplorer.core.papers import PAPERS, citation_of
from segexplorer.core.purposes import PURPOSES, meant
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
    assert "Hausdorff distance (Karimi 2019)" in boundary


@pytest.mark.parametrize(
    ("query", "expected", "other"),
    [
        ("unified", "Unified focal (Yeung 2022)", "Dice (Milletari 2016)"),
        ("false negatives", "Tversky (Salehi 2017)", "Lovasz softmax (Berman 2018)"),
        ("Chen 2023 region", "Region Dice", "Combo (Taghanaki 2019)"),
        ("region tversky", "Adaptive region loss", "Squared Dice + cross entropy"),
        ("T-VMF", "t-vMF Dice (Kato 2022)", "Dice (Milletari 2016)"),
        ("salehi", "Tversky (Salehi 2017)", "Dice (Milletari 2016)"),
        ("2017", "Focal (Lin 2017)", "Dice (Milletari 2016)"),
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


@pytest.mark.parametrize(
    ("query", "title", "expected", "other"),
    [
        ("small lesion", "For small lesions and structures", "kind:focal_tversky", "kind:cl_dice"),
        ("Tumours", "For small lesions and structures", "kind:tversky", "kind:hausdorff"),
        ("false negatives", "For fewer false negatives (missed)", "kind:asymmetric_similarity", "kind:dice"),
        ("recall", "For fewer false negatives (missed)", "kind:tversky", "kind:top_k"),
        ("over-segmentation", "For fewer false positives (extra)", "kind:tversky", "kind:ws_dice"),
        ("boundary", "For boundary and shape", "kind:hausdorff", "kind:tversky"),
        ("class imbalance", "For class imbalance", "kind:balanced_cross_entropy", "kind:hausdorff"),
        ("calibration", "For calibrated probabilities", "kind:dice_plus_plus", "kind:dice"),
        ("vessel", "For thin and tubular structures", "kind:cl_dice", "kind:dice"),
        ("noise", "For noisy labels", "kind:t_loss", "kind:dice"),
    ],
)
def test_search_by_purpose_comes_first(query: str, title: str, expected: str, other: str) -> None:
    first = catalogue.filtered(catalogue.groups(losses), query)[0]
    assert first.title == title
    keys = {choice.key for choice in first.choices}
    assert expected in keys and other not in keys


@pytest.mark.parametrize("registry", [losses, networks], ids=["losses", "networks"])
def test_every_kind_says_what_it_is_for_and_where_it_comes_from(registry: object) -> None:
    for kind, spec in registry.specs().items():  # type: ignore[attr-defined]
        assert set(spec.purposes) <= set(PURPOSES), kind
        if not spec.__module__.startswith("segexplorer."):
            continue  # a plug-in may leave it out
        assert spec.purposes or kind == "weighted_sum", kind
        shown = catalogue.choice(registry, f"kind:{kind}").title  # type: ignore[arg-type]
        assert re.search(r"\(\w[\w’'-]* (19|20)\d\d\)$", shown) or kind == "weighted_sum", shown


def test_purposes_of_a_preset_are_those_of_its_terms() -> None:
    known = catalogue.choice(losses, "preset:chen2023_adaptive_region")
    assert {"local_errors", "general", "overlap"} <= set(known.purposes)
    assert "errors that differ from place to place" in catalogue.for_what(known)
    offered = catalogue.purposes_in(catalogue.groups(losses))
    assert "class imbalance" in offered and "follow-up and new lesions" not in offered
    assert meant("") == () and meant("dice") == (PURPOSES["overlap"],)


@pytest.mark.parametrize(
    ("reference", "citation"),
    [
        ("Salehi 2017, arXiv:1706.05721", "Salehi 2017"),
        ("Karimi and Salcudean 2019, arXiv:1904.10030", "Karimi 2019"),
        ("Oktay et al. 2018, arXiv:1804.03999", "Oktay 2018"),
        ("Ronneberger et al., 2015, doi:10.1007", "Ronneberger 2015"),
        ("Gonzalez-Jimenez 2023, arXiv:2306.00753", "Gonzalez-Jimenez 2023"),
        ("Çiçek et al. 2016", "Çiçek 2016"),
        ("general form of the compound losses of Oshah 2025, table 1", ""),
        ("", ""),
    ],
)
def test_author_and_year_of_a_reference(reference: str, citation: str) -> None:
    assert citation_of(reference) == citation
