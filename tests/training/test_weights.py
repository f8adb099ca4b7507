"""Pre-trained weights and frozen layers: what is taken, what is told, what stays as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from monai.networks.nets import DynUNet as MonaiDynUNet
from safetensors.torch import save_file, save_model
from torch import nn
from torch.nn import functional

from segexplorer import networks
from segexplorer.core.errors import DataError, SpecError
from segexplorer.core.events import Notice, RunFinished
from segexplorer.core.spec import replace_values
from segexplorer.frontends.cli.app import run as cli
from segexplorer.training.checkpoint import open_checkpoint
from segexplorer.training.event_log import read_events
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.plan import resolve
from segexplorer.training.run import Run
from segexplorer.training.weights import NetworkWeights, check_weights, freeze, load_weights


def small(seed: int = 0, classes: int = 2, kind: str = "unet", **settings: object) -> nn.Module:
    torch.manual_seed(seed)
    settings = {"base_features": 4, "levels": 3, **settings}
    return networks.create(kind, dimensions=2, out_channels=classes, **settings)


def same(a: nn.Module, b: nn.Module) -> list[str]:
    theirs = b.state_dict()
    return [k for k, v in a.state_dict().items() if k in theirs and torch.equal(v, theirs[k])]


def test_another_number_of_classes_leaves_the_head(tmp_path: Path) -> None:
    source, target = small(1, classes=5), small(2)
    save_file(source.state_dict(), tmp_path / "w.safetensors")
    before = target.head.weight.detach().clone()
    report = load_weights(target, tmp_path / "w.safetensors")
    assert report.unfitting == ("head.weight", "head.bias")
    assert set(report.matched) == set(target.state_dict()) - {"head.weight", "head.bias"}
    assert report.resized == report.missing == report.unused == ()
    assert torch.equal(target.head.weight, before)
    assert set(report.matched) <= set(same(target, source))
    assert "w.safetensors (sha256 " in report.sentence()
    assert "2 of another shape, left as initialised (head.weight, head.bias)" in report.sentence()


@pytest.mark.parametrize("wrapper", ["state_dict", "network_weights"])
@pytest.mark.parametrize("front", ["", "module.", "module._orig_mod."])
def test_torch_files_with_names_in_front(tmp_path: Path, wrapper: str, front: str) -> None:
    source, target = small(1), small(2)
    state = {front + k: v for k, v in source.state_dict().items()}
    torch.save({wrapper: state, "epoch": 3}, tmp_path / "w.pt")
    report = load_weights(target, tmp_path / "w.pt")
    assert set(report.matched) == set(target.state_dict()) == set(same(target, source))


def test_weights_of_one_child_find_their_place(tmp_path: Path) -> None:
    """An encoder trained alone: its names lack the name that it has inside the network."""
    source, target = small(1), small(2)
    torch.save({f"student.{k}": v for k, v in source.encoder.state_dict().items()}, tmp_path / "w.pt")
    report = load_weights(target, tmp_path / "w.pt")
    assert report.matched and all(name.startswith("encoder.") for name in report.matched)
    assert set(same(target.encoder, source.encoder)) == set(source.encoder.state_dict())
    assert "head.weight" in report.missing


def test_longer_kernels_are_interpolated(tmp_path: Path) -> None:
    source = small(1, kind="longitudinal_vnet", kernel=3)
    target = small(2, kind="longitudinal_vnet", kernel=5)
    torch.save(source.state_dict(), tmp_path / "w.pth")
    report = load_weights(target, tmp_path / "w.pth")
    assert report.unfitting == report.missing == report.unused == ()
    own, theirs = target.state_dict(), source.state_dict()
    assert report.resized
    for name in report.resized:
        expected = functional.interpolate(theirs[name], own[name].shape[2:], mode="bilinear")
        torch.testing.assert_close(own[name], expected)


def test_tensors_held_under_two_names_are_not_missing(tmp_path: Path) -> None:
    """MONAI's DynUNet holds its layers twice; safetensors stores one of the two."""

    def twice(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return MonaiDynUNet(2, 1, 2, [3] * 3, [1, 2, 2], [2, 2], (4, 8, 16))

    source, target = twice(1), twice(2)
    save_model(source, str(tmp_path / "w.safetensors"))
    report = load_weights(target, tmp_path / "w.safetensors")
    assert report.missing == report.unfitting == ()
    assert set(same(target, source)) == set(target.state_dict())


def test_names_that_nobody_has_are_reported(tmp_path: Path) -> None:
    source, target = small(1, levels=4), small(2)
    torch.save(source.state_dict(), tmp_path / "w.pt")
    report = load_weights(target, tmp_path / "w.pt")
    assert any(name.startswith("encoder.3") for name in report.unused)
    assert "in the file without a place" in report.sentence()


def test_files_that_are_no_weights_are_reported(tmp_path: Path) -> None:
    network = small()
    torch.save(nn.Linear(2, 2), tmp_path / "module.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"a": torch.zeros(2)}, tmp_path / "other.pt")
    (tmp_path / "text.pt").write_text("hello")
    (tmp_path / "cut.safetensors").write_bytes(b"\x08\x00")
    for name, told in (
        ("module.pt", "could run code"),
        ("list.pt", "no weights by name"),
        ("other.pt", "No weight of other.pt fits"),
        ("text.pt", "text.pt"),
        ("cut.safetensors", "not a complete safetensors"),
        ("absent.pt", "does not exist"),
    ):
        with pytest.raises(DataError, match=told):
            load_weights(network, tmp_path / name)


def test_freezing_keeps_layers_and_their_statistics() -> None:
    network = small(normalisation="batch")
    still = freeze(network, ["encoder", "decoder.*.0.weight"])
    frozen = {n for n, p in network.named_parameters() if not p.requires_grad}
    expected = {
        n
        for n, _ in network.named_parameters()
        if n.startswith("encoder.") or (n.startswith("decoder.") and n.endswith(".0.weight"))
    }
    assert frozen == expected
    inside = set(network.encoder.modules())
    assert set(still) == {m for m in inside if isinstance(m, nn.BatchNorm2d)}


def test_patterns_that_fit_nothing_or_everything_are_refused() -> None:
    with pytest.raises(SpecError, match=r"called 'encodr'.*encoder, "):
        freeze(small(), ["encodr"])
    with pytest.raises(SpecError, match="nothing to train"):
        freeze(small(), ["*"])


def test_a_run_starts_from_another_runs_weights_and_leaves_the_frozen(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    first = make_run("first", validation__average_weights=0.5)
    list(first)
    settings = {
        "network_weights__path": str(first.folder),
        "network_weights__freeze": ["encoder"],
        "network__normalisation": "batch",
        "validation__average_weights": 0.5,
    }
    second = make_run("second", **settings)
    events = list(second)
    assert isinstance(events[-1], RunFinished) and events[-1].state == "finished", events[-1]
    told = [e.message for e in events if isinstance(e, Notice) and "tensors taken over" in e.message]
    assert len(told) == 1 and "average.safetensors" in told[0]
    assert told[0] in [e.message for e in read_events(second.folder) if isinstance(e, Notice)]
    source, result = (
        networks.parse(r.experiment.network).build(dimensions=3, in_channels=1, out_channels=8)
        for r in (first, second)
    )
    open_checkpoint(first.folder / "checkpoints", "best")[0].load_weights(source, average=True)
    open_checkpoint(second.folder / "checkpoints", "last")[0].load_weights(result)
    unchanged = set(same(result, source))
    taken = set(source.state_dict()) & set(result.state_dict())
    assert unchanged == {name for name in taken if name.startswith("encoder.")}


def test_a_resumed_run_needs_the_file_no_more(make_run: Callable[..., Run], tmp_path: Path) -> None:
    network = networks.create("unet", base_features=4, levels=2, in_channels=1, out_channels=8)
    file = tmp_path / "w.safetensors"
    save_file(network.state_dict(), file)
    run = make_run("run", network_weights__path=str(file))
    events = iter(run)
    for event in events:
        if getattr(event, "step", 0) == 2 and run.accepts("stop"):
            run.stop()
    file.unlink()
    last = list(Run(RunFolder.open(run.folder)))[-1]
    assert isinstance(last, RunFinished) and last.state == "finished", last


def test_a_fresh_run_is_refused_before_anything_is_planned(
    tmp_path: Path, tiny: Experiment, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "experiment.yaml", tmp_path / "run"
    replace_values(tiny, {"network_weights.path": str(tmp_path / "none.pt")}).save(file)
    assert cli(["train", str(file), "--output", str(out)]) == 2
    told = capsys.readouterr().err
    assert "does not exist" in told and "network_weights.path" in told
    assert "Steps" not in told and not out.exists()


def test_relative_paths_resolve_against_the_file(tmp_path: Path, tiny: Experiment) -> None:
    file = tmp_path / "experiment.yaml"
    file.write_text(tiny.to_yaml().replace("  path: ''", "  path: weights/w.pt"))
    assert Experiment.from_yaml(file).network_weights.path == str(tmp_path / "weights" / "w.pt")


def test_weights_that_are_not_there_are_reported_before_training(
    tmp_path: Path, tiny: Experiment, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    for name, told in (("none.pt", "does not exist"), ("run", "no checkpoint")):
        asked = replace_values(tiny, {"network_weights.path": str(tmp_path / name)})
        assert any(told in sentence for sentence in resolve(asked).warning_sentences())
        asked.save(tmp_path / "experiment.yaml")
        assert cli(["check", str(tmp_path / "experiment.yaml"), "--quick", "--json"]) == 2
        assert told in capsys.readouterr().out
    (tmp_path / "none.pt").touch()
    assert not check_weights(NetworkWeights(path=str(tmp_path / "none.pt")))
    assert not check_weights(NetworkWeights())
