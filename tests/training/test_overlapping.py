"""Runs whose classes overlap: nested structures are learned, shown, predicted, resumed and compared like others."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import segexplorer
from segexplorer.core.colours import ClassColours, rgba
from segexplorer.core.errors import SpecError
from segexplorer.core.events import Event, StepDone, ValidationDone, WatchedDone
from segexplorer.core.spec import replace_values
from segexplorer.data.io import open_volume
from segexplorer.data.volume import Volume
from segexplorer.frontends.cli.app import run as cli
from segexplorer.frontends.report.drawing import film_drawing
from segexplorer.metrics import score_case
from segexplorer.metrics.calibration import ANY_CLASS
from segexplorer.networks.base import registry as networks
from segexplorer.training.checkpoint import WEIGHTS, open_checkpoint
from segexplorer.training.experiment import Experiment
from segexplorer.training.explanation import explain_run
from segexplorer.training.folder import RunFolder
from segexplorer.training.history import open_run
from segexplorer.training.identity import Identity, compare
from segexplorer.training.plan import resolve
from segexplorer.training.predict import load_predictor
from segexplorer.training.run import Run
from segexplorer.training.sinks.pictures import PlaneView
from segexplorer.training.slices import PRIOR, Layout
from segexplorer.training.team import launch
from segexplorer.viewmodels.errors import Code
from segexplorer.viewmodels.outlines import Outlines
from segexplorer.viewmodels.report import run_report
from segexplorer.viewmodels.watched_case import (
    RunHistoryLoader,
    Wanted,
    decision_of,
    prediction_picture,
    see,
    under_cursor,
)

NAMES = ("whole", "core", "enhancing")
CLASSES = {"whole": [1, 2, 3], "core": [1, 3], "enhancing": 3}
SIZE = 24
AFFINE = np.diag([-1.5, 1.0, 2.0, 1.0])


def nested(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Return image and label of balls within each other, brighter to the inside: oedema 2, necrosis 1, rim 3."""
    rng = np.random.default_rng([3, number])
    centre = rng.uniform(10, 14, 3)
    radius = np.linalg.norm(np.stack(np.indices((SIZE,) * 3), -1) - centre, axis=-1)
    label = np.zeros((SIZE,) * 3, np.int16)
    for limit, value in ((9, 2), (6, 1), (3.5, 3)):
        label[radius < limit] = value
    brightness = np.array([0, 200, 100, 300])
    return (brightness[label] + rng.normal(0, 15, label.shape)).astype(np.float32), label


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    folder = tmp_path_factory.mktemp("nested")
    pairs = []
    for number in range(3):
        paths = {}
        for name, array in zip(("image", "label"), nested(number), strict=True):
            paths[name] = str(folder / f"{number}-{name}.nii.gz")
            segexplorer.save_volume(
                Volume.from_array(array, affine=AFFINE), Path(paths[name]), integer=name == "label"
            )
        pairs.append({"case": f"case_{number}", **paths})
    return Experiment.of(
        {
            "data": {"kind": "pairs", "pairs": pairs, "classes": CLASSES, "overlapping": True},
            "split": {"validation": ["case_2"]},
            "preprocessing": {"intensity": "z_score", "spacing": None},
            "sampling": {"patch_size": [16, 16, 16], "batch_size": 1, "steps_per_epoch": 30},
            "network": {"kind": "unet", "base_features": 8, "levels": 2},
            "loss": "dice_cross_entropy",
            "optimiser": {"kind": "adamw", "learning_rate": 0.01},
            "schedule": {"kind": "polynomial", "epochs": 2},
            "augmentation": {"enabled": False},
            "monitoring": {"gradients_every": 10},
            "compute": {"device": "cpu", "precision": "float32", "threads": 1},
        }
    )


@pytest.fixture(scope="module")
def trained(experiment: Experiment, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Event]]:
    folder = tmp_path_factory.mktemp("trained") / "run"
    events = list(Run(RunFolder.create(experiment, folder)))
    assert events[-1].state == "finished", events[-1].error
    return folder, events


def losses_of(events: list[Event]) -> dict[int, float]:
    return {e.step: e.loss for e in events if isinstance(e, StepDone)}


def test_nested_classes_are_learned(trained: tuple[Path, list[Event]]) -> None:
    _, events = trained
    done = [e for e in events if isinstance(e, ValidationDone)][-1]
    dice = {s.class_name: s.metrics["dice"] for s in done.scores}
    assert tuple(dice) == NAMES
    assert dice["whole"] >= dice["core"] >= 0.7 and dice["enhancing"] > 0.5
    assert done.mean_dice == pytest.approx(np.mean(list(dice.values())))
    truth = {s.class_name: s.truth_ml for s in done.scores}
    label, ml = nested(2)[1], 3.0 / 1000
    assert truth["whole"] == pytest.approx(np.isin(label, [1, 2, 3]).sum() * ml)
    assert truth["core"] == pytest.approx(np.isin(label, [1, 3]).sum() * ml)
    assert truth["enhancing"] == pytest.approx((label == 3).sum() * ml)
    measured = [e for e in events if isinstance(e, StepDone) and e.references]
    assert measured
    assert measured[-1].references["perfect"] < measured[-1].references["all background"]
    assert {"dice", "cross_entropy"} <= measured[-1].term_gradients.keys()


def test_the_network_has_one_output_per_class(trained: tuple[Path, list[Event]]) -> None:
    weights = open_checkpoint(trained[0] / "checkpoints", "last")[0]
    predictor = load_predictor(trained[0], "last")
    image = torch.zeros(1, 1, 16, 16, 16)
    logits = predictor.network(image)
    assert logits.shape[1] == 4 and not logits[:, 0].any()
    last = [m for m in predictor.network.modules() if isinstance(m, torch.nn.Conv3d)][-1]
    assert last.out_channels == 3
    assert weights.meta["classes"]["overlapping"] is True


@pytest.mark.parametrize("settings", [{}, {"deep_supervision": "stride"}])
def test_an_untrained_network_expects_hardly_any_voxel_to_be_of_a_class(
    experiment: Experiment, settings: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    spec = networks.parse({"kind": "unet", "base_features": 8, "levels": 3, **settings})
    network = Layout().build(spec, 1, 4, overlapping=True)
    outputs = network(torch.randn(1, 1, 16, 16, 16))
    levels = outputs if isinstance(outputs, (tuple, list)) else [outputs]
    assert len(levels) > 1 or not settings
    for logits in levels:
        probabilities = logits[:, 1:].sigmoid()
        assert PRIOR / 4 < probabilities.mean() < 4 * PRIOR and (probabilities > 0.5).float().mean() < 0.01
        assert not logits[:, 0].any()


def test_the_same_run_twice_and_stopped_halfway(
    trained: tuple[Path, list[Event]], experiment: Experiment, tmp_path: Path
) -> None:
    """Bit for bit: trained again, stopped after step 17 and resumed."""
    run = Run(RunFolder.create(experiment, tmp_path / "again"))
    first: list[Event] = []
    for event in run:
        first.append(event)
        if isinstance(event, StepDone) and event.step == 17:
            run.stop()
    assert first[-1].state == "stopped"
    rest = list(Run(RunFolder.open(tmp_path / "again")))
    assert rest[-1].state == "finished"
    assert {**losses_of(first), **losses_of(rest)} == losses_of(trained[1])
    sums = [
        open_checkpoint(f / "checkpoints", "last")[0].meta["sha256"][WEIGHTS]
        for f in (trained[0], tmp_path / "again")
    ]
    assert sums[0] == sums[1]


def test_another_setting_of_overlap_is_refused_at_resume(
    trained: tuple[Path, list[Event]], experiment: Experiment
) -> None:
    before = Identity.of_meta(open_checkpoint(trained[0] / "checkpoints", "last")[0].meta, "run")
    other = replace_values(
        experiment, {"data.classes": {"whole": [2], "core": [1], "enhancing": [3]}, "data.overlapping": False}
    )
    found = compare(before, Identity.of_plan(resolve(other), other))
    refused = " ".join(finding.sentence for finding in found.of("refused"))
    assert "classes" in refused
    with pytest.raises(SpecError):
        found.require()


def test_a_prediction_holds_label_values_and_is_scored_as_the_run_scored_it(
    trained: tuple[Path, list[Event]], experiment: Experiment, tmp_path: Path
) -> None:
    image, label = (experiment.data.plain()["pairs"][2][key] for key in ("image", "label"))
    out = tmp_path / "prediction.nii.gz"
    assert cli(["predict", str(trained[0]), image, "-o", str(out), "--checkpoint", "last"]) == 0
    predicted = np.asarray(open_volume(out, label=True).array)
    assert set(np.unique(predicted)) <= {0, 1, 2, 3}
    done = [e for e in trained[1] if isinstance(e, ValidationDone)][-1]
    listed = json.dumps(CLASSES)
    report = tmp_path / "scores.json"
    with report.open("w") as file, pytest.MonkeyPatch.context() as patched:
        patched.setattr("sys.stdout", file)
        assert cli(["evaluate", str(out), label, "--classes", listed, "--json"]) == 0
    text = report.read_text()
    for score in done.scores:
        assert f"{score.metrics['dice']:.6f}"[:6] in text, (score.class_name, text)


def test_streamed_prediction_is_that_of_all_logits(
    trained: tuple[Path, list[Event]], experiment: Experiment
) -> None:
    """Labels, probabilities, calibration and the loss of a case do not depend on the windows' tiles."""
    predictor = load_predictor(trained[0], "last")
    case = experiment.data.cases()[2].open()
    source = predictor.class_steps(case.images, probabilities=True)
    while True:
        try:
            next(source)
        except StopIteration as end:
            found = end.value
            break
    p = found.probabilities
    assert p is not None
    np.testing.assert_allclose(p[0], 1 - p[1:].max(0), atol=1e-6)
    np.testing.assert_array_equal(found.classes, predictor.classes.scheme.decide(p))
    inside = p[1:] > 0.5
    consistent = (inside[1] <= inside[0]) & (inside[2] <= inside[1])
    for c in range(3):
        mask = predictor.classes.scheme.mask(found.classes, c + 1)
        np.testing.assert_array_equal(mask[consistent], inside[c][consistent])


def test_watched_frames_know_what_their_labels_mean(
    trained: tuple[Path, list[Event]], experiment: Experiment
) -> None:
    record = open_run(trained[0])
    frame = record.watched("validation")[-1]
    snapshot = RunHistoryLoader(experiment).snapshot(frame)
    assert snapshot.scheme.members == ((1,), (1, 2), (1, 2, 3))
    assert snapshot.truth is not None and set(np.unique(snapshot.truth)) == {0, 1, 2, 3}
    scores = score_case(
        snapshot.prediction, snapshot.truth, NAMES, (1.5, 1.0, 2.0), scheme=snapshot.scheme, surfaces=True
    )
    done = [e for e in trained[1] if isinstance(e, ValidationDone)][-1]
    for ours, theirs in zip(scores, done.scores, strict=True):
        assert ours.metrics["dice"] == theirs.metrics["dice"]
        assert ours.metrics["hd95"] == pytest.approx(theirs.metrics["hd95"])
    curves = [e for e in trained[1] if isinstance(e, WatchedDone) and e.calibration][-1].calibration
    assert {curve.class_name for curve in curves} == {*NAMES, ANY_CLASS}
    for curve in curves:
        if curve.region == "all":
            assert sum(curve.counts) == SIZE**3
            assert 0 <= sum(curve.corrects) <= SIZE**3 and np.isfinite(curve.nll)


def test_what_the_window_shows_of_them(trained: tuple[Path, list[Event]], experiment: Experiment) -> None:
    snapshot = RunHistoryLoader(experiment).snapshot(open_run(trained[0]).watched("validation")[-1])
    every = see(snapshot, None, Wanted(frozenset({"prediction", "errors"})))
    core = see(snapshot, None, Wanted(frozenset({"prediction", "errors"}), class_index=2))
    assert every.predicted == (1, 2, 3)
    pictures = {p.key: p.data for p in every.pictures}, {p.key: p.data for p in core.pictures}
    # all classes: the last one on top; one class: whole, although another class lies within it
    assert set(np.unique(pictures[0]["prediction"])) <= {0, 1, 2, 3}
    assert (pictures[1]["prediction"] == 2).sum() == (snapshot.prediction >= 2).sum()
    wrong = (pictures[1]["errors"] == Code.FALSE_NEGATIVE).sum()
    assert wrong == ((snapshot.truth >= 2) & (snapshot.prediction < 2)).sum()
    assert not (pictures[0]["errors"] == Code.WRONG_CLASS).any()  # within each other nothing is confused
    listed = {piece.class_name for piece in every.pieces}
    assert listed <= set(NAMES)
    assert {piece.class_name for piece in core.pieces} <= {"core"}
    voxels = sum(piece.voxels for piece in core.pieces)
    assert voxels <= ((snapshot.truth >= 2) != (snapshot.prediction >= 2)).sum()
    outlines = Outlines.of(snapshot, None)
    assert outlines is not None
    drawn = outlines.lines(0, 12)
    own = [Outlines.of(snapshot, c).lines(0, 12) for c in (1, 2, 3)]  # type: ignore[union-attr]

    def length(lines: dict[Any, Any]) -> float:
        return sum(float(np.abs(np.diff(s, axis=1)).sum()) for s in lines.values())

    assert length(drawn) <= sum(map(length, own)) + 1e-3
    assert length(drawn) >= max(map(length, own)) - 1e-3
    centre = np.argwhere(snapshot.truth == 3)[0]
    x, y, z = (AFFINE @ [*centre, 1])[:3]
    assert "whole + core + enhancing" in under_cursor(snapshot, None, (z, y, x))
    assert prediction_picture(snapshot).values == dict(enumerate(NAMES, 1))


def test_report_film_and_loggers_show_every_class(trained: tuple[Path, list[Event]]) -> None:
    done = [e for e in trained[1] if isinstance(e, ValidationDone)][-1]
    report = run_report(trained[0], named=True)
    section = report.watched[0]
    assert section.scores is not None and section.film is not None
    shown = {row[0]: float(row[1]) for row in section.scores.rows}
    assert shown == {s.class_name: pytest.approx(s.metrics["dice"], abs=5e-3) for s in done.scores}
    film, frame = section.film, open_run(trained[0]).watched("validation")[-1]
    snapshot = frame.load()
    assert film.scheme == snapshot.scheme and film.scheme.overlapping
    assert set(np.unique(film.predictions[-1])) <= set(range(4)) and 1 in film.predictions[-1]
    assert film_drawing(film)["data"]["sets"] == [0, 0b001, 0b011, 0b111]
    # loggers: the border of each class
    view = PlaneView.of(nested(2)[0], snapshot.prediction, snapshot.affine, snapshot.scheme)
    picture = view.picture(snapshot.prediction)
    for c in (1, 2, 3):
        colour = np.round(255 * np.array(rgba(ClassColours().colour(c))[:3]))
        assert (picture == colour).all(-1).any()


def test_a_bias_moves_one_class_alone(trained: tuple[Path, list[Event]], experiment: Experiment) -> None:
    snapshot = RunHistoryLoader(experiment).snapshot(open_run(trained[0]).watched("validation")[-1])
    assert snapshot.truth is not None
    decision = decision_of(snapshot, 3)
    mask = snapshot.scheme.mask
    at_rest = decision.prediction(0.0)
    counts = decision.counts(0.0)
    assert counts.tp == (mask(at_rest, 3) & mask(snapshot.truth, 3)).sum()
    more = decision.prediction(3.0)
    assert mask(more, 3).sum() > mask(at_rest, 3).sum()
    kept = mask(at_rest, 1)
    np.testing.assert_array_equal(mask(more, 1)[kept], True)
    moved = decision.counts(3.0)
    assert moved.tp + moved.fp == mask(more, 3)[snapshot.truth != 255].sum()


def test_why_is_asked_of_each_class(trained: tuple[Path, list[Event]]) -> None:
    explanation = explain_run(trained[0], loss="cross_entropy")
    logits, labels = explanation.logits, explanation.labels
    for c in (1, 2, 3):
        asked = explanation.asked(c)
        p = 1 / (1 + np.exp(-logits[c]))
        expected = (labels >= c) - p
        scale = np.abs(expected).mean()
        np.testing.assert_allclose(asked.values, expected / scale, atol=2e-3)
    inner = tuple(int(i) for i in np.argwhere(labels == 3)[0])
    assert "Truth: whole + core + enhancing" in explanation.why(inner)


def test_a_loss_without_sigmoid_form_is_refused_at_planning(experiment: Experiment) -> None:
    found = replace_values(experiment, {"loss": "adaptive_t_vmf_dice"})
    with pytest.raises(Exception, match="no form for overlapping classes"):
        resolve(found)


@pytest.mark.parametrize("loss", ["adaptive_region_tversky", "boundary", "distance_cross_entropy"])
def test_losses_of_regions_and_distances_train(experiment: Experiment, tmp_path: Path, loss: str) -> None:
    changed = replace_values(
        experiment,
        {
            "loss": loss,
            "sampling.steps_per_epoch": 2,
            "schedule.epochs": 1,
            "monitoring.gradients_every": 1,
            "augmentation.enabled": True,
        },
    )
    events = list(Run(RunFolder.create(changed, tmp_path / "run")))
    assert events[-1].state == "finished", events[-1].error
    assert all(np.isfinite(value) for value in losses_of(events).values())
    snapshot = open_run(tmp_path / "run").watched("validation")[-1].load()
    assert snapshot.regions is not None and np.isfinite(snapshot.loss)
    for values in snapshot.regions.values.values():
        assert values.shape[0] == 4 and np.isnan(values[0]).all()


@pytest.mark.skipif(sys.platform == "win32", reason="signals and process ends are those of POSIX")
def test_two_devices_train_as_one(experiment: Experiment, tmp_path: Path) -> None:
    """Sums over the batch, regions, distances, ignored voxels, learned weights: one step of two is that of one."""
    terms = [
        {"loss": kind}
        for kind in ("dice", "cross_entropy", "chen2023_adaptive_region", "distance_cross_entropy")
    ]
    settings = {
        "loss": {"kind": "weighted_sum", "weighting": "uncertainty", "terms": terms},
        "data.classes": {"whole": [1, 2], "core": [1], "ignore": 3},
        "sampling.batch_size": 2,
        "sampling.steps_per_epoch": 4,
        "network": {"kind": "unet", "base_features": 4, "levels": 2, "normalisation": "batch"},
    }
    short = replace_values(experiment, settings)
    losses, dice, weights = [], [], []
    for devices in (1, 2):
        run = Run(RunFolder.create(short, tmp_path / f"run{devices}"))
        run.team = launch(2) if devices == 2 else None
        try:
            events = list(run)
        finally:
            if run.team is not None:
                run.team.end(0)
        assert events[-1].state == "finished", events[-1].error
        losses.append(losses_of(events))
        dice.append([e.mean_dice for e in events if isinstance(e, ValidationDone)][-1])
        last = load_predictor(tmp_path / f"run{devices}", "last")
        weights.append(torch.cat([p.detach().flatten() for p in last.network.parameters()]))
    assert len(losses[0]) == 8 and losses[1] == pytest.approx(losses[0], rel=2e-4)
    assert dice[1] == pytest.approx(dice[0], abs=5e-3)
    # far nearer to each other than to where they began
    assert (weights[0] - weights[1]).norm() < 0.01 * weights[0].norm()


def test_shared_values_need_the_setting(experiment: Experiment) -> None:
    plain = experiment.plain()
    plain["data"]["overlapping"] = False
    with pytest.raises(SpecError, match="overlapping: true"):
        Experiment.of(plain)
    assert Experiment.of(yaml.safe_load(experiment.to_yaml())) == experiment
