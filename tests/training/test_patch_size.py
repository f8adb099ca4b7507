"""What is said of the patches before training: too small for the network, larger than every image."""

from __future__ import annotations

import pytest

from segexplorer.core.errors import SpecError
from segexplorer.core.spec import replace_values
from segexplorer.training.experiment import Experiment
from segexplorer.training.plan import resolve


def test_a_patch_that_the_network_cannot_be_trained_on_is_refused_with_one_that_it_can(
    tiny: Experiment,
) -> None:
    small = {"network": {"kind": "swin_unetr", "base_features": 12}, "sampling.patch_size": [32, 32, 32]}
    with pytest.raises(SpecError, match=r"Swin UNETR cannot be trained on patches of 32 × 32 × 32") as caught:
        resolve(replace_values(tiny, small))
    assert "64 × 32 × 32" in caught.value.remedy
    # two voxels on the coarsest level along any axis are enough, as the network itself shows
    resolve(replace_values(tiny, {**small, "sampling.patch_size": [32, 32, 64]}))


def test_a_patch_larger_than_every_image_is_reported(tiny: Experiment) -> None:
    said = resolve(replace_values(tiny, {"sampling.patch_size": [48, 48, 48]})).warning_sentences()
    assert any("mostly padding" in s and "32 × 32 × 32" in s for s in said), said
    for patch in ([32, 32, 32], [32, 32, 40]):  # a little padding is none of anybody's business
        said = resolve(replace_values(tiny, {"sampling.patch_size": patch})).warning_sentences()
        assert not any("padding" in s for s in said), said


def test_a_small_network_tells_its_memory_in_mebibytes(tiny: Experiment) -> None:
    assert resolve(tiny).summary()["Memory"].endswith("MiB")
