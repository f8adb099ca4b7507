"""LeViT-UNet: the public conformance suite, and what is special to it."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("transformers")
plugin = pytest.importorskip("segexplorer_levit_unet")

from segexplorer_levit_unet.download import NAMES  # noqa: E402
from segexplorer_levit_unet.network import SIZES  # noqa: E402

from segexplorer import networks  # noqa: E402
from segexplorer.core import plugins  # noqa: E402
from segexplorer.core.errors import SpecError  # noqa: E402
from segexplorer.core.events import RunFinished, StepDone  # noqa: E402
from segexplorer.networks.cost import parameter_count  # noqa: E402
from segexplorer.testing.networks import CHECKS  # noqa: E402
from segexplorer.training.experiment import Experiment  # noqa: E402
from segexplorer.training.folder import RunFolder  # noqa: E402
from segexplorer.training.run import Run  # noqa: E402
from segexplorer.training.weights import load_weights  # noqa: E402

TINY = {"size": "128s", "image_size": 80, "decoder_features": 16}


@pytest.mark.slow
@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
def test_it_keeps_what_every_network_promises(check, dimensions: int) -> None:
    check(plugin.LeViTUNet(**TINY), dimensions)


def test_segexplorer_finds_it() -> None:
    assert "levit_unet" in networks.names()
    assert [r.error for r in plugins.load() if r.name == "levit_unet"] == [""]


def test_where_its_size_differs_from_that_of_oshah_2025() -> None:
    """Table 3: 52,156,519 parameters, which the public code of LeViT-UNet has with three classes.

    That code takes one channel, has three blocks of two 3 x 3 convolutions with batch normalisation, whose output
    is joined with a skip before the next block, and a 3 x 3 convolution as its output layer.
    """
    count = parameter_count(plugin.LeViTUNet(), dimensions=2, in_channels=1, out_channels=9)
    decoder = plugin.LeViTUNet().build(dimensions=2, in_channels=1, out_channels=9)
    own = sum(p.numel() for part in (decoder.decoder, decoder.head) for p in part.parameters())
    encoder = count - own - 2 * 9 * 48  # three colours in place of one, at 48 features of 3 x 3

    def block(above: int, width: int) -> int:
        return 9 * above * width + 9 * width * width + 4 * width

    def public(classes: int) -> int:
        blocks = block(2048, 512) + block(512 + 192, 256) + block(256 + 96, 128)
        return encoder + blocks + (9 * (128 + 48) + 1) * classes

    assert (public(9), public(3)) == (52_166_029, 52_156_519)
    assert (count, count - public(9)) == (52_872_317, 864 + 705_424)


@pytest.mark.parametrize(("plane", "axis"), [("sagittal", 0), ("coronal", 1), ("axial", 2)])
def test_volumes_are_taken_slice_by_slice(plane: str, axis: int) -> None:
    torch.manual_seed(0)
    network = networks.create("levit_unet", plane=plane, **TINY).eval()
    volume = torch.randn(2, 1, 5, 6, 7)
    changed = volume.clone()
    changed.select(2 + axis, 3).add_(1)
    with torch.no_grad():
        difference = (network(volume) - network(changed)).abs().sum((0, 1))
    others = tuple(a for a in range(3) if a != axis)
    assert difference.sum(others).nonzero().flatten().tolist() == [3]


def test_slices_of_the_papers_size_are_not_resized() -> None:
    network = networks.create("levit_unet", dimensions=2, size="128s", decoder_features=16, out_channels=9)
    stages = [
        (stage.resolution_in, stage.layers[0].module.len_points) for stage in network.levit.encoder.stages
    ]
    assert [points for _, points in stages] == [14 * 14, 7 * 7, 4 * 4]
    with torch.no_grad():
        assert network.eval()(torch.randn(1, 1, 224, 224)).shape == (1, 9, 224, 224)


def test_changed_weights_count_at_once_in_evaluation() -> None:
    """The encoder of transformers caches attention biases in evaluation mode, also across a change of them."""
    torch.manual_seed(0)
    network = networks.create("levit_unet", dimensions=2, **TINY).eval()
    image = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        before = network(image)
        for name, weight in network.named_parameters():
            if name.endswith("attention_biases"):
                weight.add_(torch.randn_like(weight))
        after = network(image)
    assert not torch.equal(before, after)
    network(image)
    copied = copy.deepcopy(network)  # a cache with a graph could not be copied
    with torch.no_grad():
        assert torch.equal(copied(image), after)


@pytest.mark.slow
@pytest.mark.parametrize("dimensions", [2, 3])
def test_weights_of_transformers_fit(tmp_path: Path, dimensions: int) -> None:
    """A file as the hub has it: an image classifier with two heads, whose encoder is called levit."""
    from transformers import LevitConfig, LevitForImageClassificationWithTeacher

    torch.manual_seed(0)
    size = SIZES["128s"]
    config = LevitConfig(
        image_size=80,
        hidden_sizes=list(size.features),
        num_attention_heads=list(size.heads),
        depths=list(size.depths),
        key_dim=[size.keys] * 3,
        num_labels=10,
    )
    classifier = LevitForImageClassificationWithTeacher(config)
    torch.save(classifier.state_dict(), tmp_path / "pytorch_model.bin")
    network = networks.create("levit_unet", dimensions=dimensions, **TINY)
    report = load_weights(network, tmp_path / "pytorch_model.bin")
    encoder = {n for n in network.state_dict() if "levit." in n}
    assert set(report.matched) == encoder and not report.unfitting
    assert all("classifier" in name for name in report.unused)
    inner = network if dimensions == 2 else network.network
    for name, value in classifier.levit.state_dict().items():
        assert torch.equal(inner.levit.state_dict()[name], value)


def test_a_run_trains_it_on_volumes(tmp_path: Path) -> None:
    experiment = Experiment.of(
        {
            "data": {"kind": "phantom", "count": 2, "size": 32, "seed": 1},
            "split": {"validation_count": 1},
            "sampling": {"patch_size": [32, 32, 8], "batch_size": 1, "steps_per_epoch": 2},
            "network": {"kind": "levit_unet", **TINY},
            "schedule": {"kind": "polynomial", "epochs": 1},
            "validation": {"overlap": 0},
            "compute": {"device": "cpu", "precision": "bfloat16", "threads": 1},
        }
    )
    assert Experiment.of(experiment.plain()) == experiment
    events = list(Run(RunFolder.create(experiment, tmp_path / "run")))
    assert isinstance(events[-1], RunFinished) and events[-1].state == "finished", events[-1]
    assert [e.step for e in events if isinstance(e, StepDone)] == [1, 2]


def test_every_size_has_its_weights_and_senseless_ones_are_refused() -> None:
    assert set(NAMES) == set(SIZES)
    with pytest.raises(SpecError, match="multiple of 16"):
        networks.create("levit_unet", image_size=100)


def test_the_spec_loads_neither_torch_nor_transformers() -> None:
    import subprocess

    code = (
        "import sys, segexplorer_levit_unet as p; p.LeViTUNet().plain(); "
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_plan_says_that_volumes_are_slices_to_it() -> None:
    network = plugin.LeViTUNet(plane="coronal")
    message = network.warning_message((32, 12, 32))
    assert "12 of them" in message and "[224, 1, 224]" in message
    assert network.warning_message((224, 224)) == ""
