"""Proposed experiments: sizes that fit data and memory, lengths that fit the time, files that train as they are."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import segexplorer
from segexplorer.core.errors import DataError, SpecError
from segexplorer.core.events import RunFinished, StepDone
from segexplorer.data.datasets import parse
from segexplorer.data.fingerprint import CaseShape, ChannelFacts, ClassFacts, Fingerprint
from segexplorer.data.io import save_volume
from segexplorer.data.volume import Volume
from segexplorer.networks.base import padded
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.plan import resolve
from segexplorer.training.proposal import Hardware, propose
from segexplorer.training.proposal.commented_yaml import commented_yaml
from segexplorer.training.proposal.lengths import VALIDATING, Length, length
from segexplorer.training.proposal.settings import Draft, averaging, guess_task
from segexplorer.training.proposal.sizes import cube, depth, first_that, size, usual_spacing
from segexplorer.training.run import Run
from segexplorer.training.timing import Timing

GIB = 2**30
LAPTOP = Hardware("CPU, 2 cores", gpu=False, memory=4 * GIB, room=8 * GIB)
CARD = Hardware("a GPU", gpu=True, memory=10 * GIB, room=64 * GIB)


def fingerprint(
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    *,
    classes: int = 2,
    small_mm3: float | None = 4000.0,
    channels: int = 1,
    cases: int = 10,
    spacings: list[tuple[float, float, float]] | None = None,
) -> Fingerprint:
    """Return a fingerprint of so many cases of one size, without files."""
    names = [f"organ {n}" for n in range(classes)]
    sizes = spacings or [spacing] * cases
    return Fingerprint(
        dataset=parse({"kind": "phantom"}),
        cases=tuple(CaseShape(f"c{n}", f"c{n}", shape, mm, channels, True) for n, mm in enumerate(sizes)),
        refs={},
        left_out=(),
        incomplete=(),
        problems=(),
        classes={name: (n + 1,) for n, name in enumerate(names)},
        channels=(ChannelFacts("CT", (-50.0, 40.0, 180.0), -1000.0, 2000.0),) * channels,
        class_facts=tuple(ClassFacts(name, cases, 0.01, 20.0, 1.0, small_mm3) for name in names),
        read=cases,
        nonzero=1.0,
        turned=(None, None, None),
    )


# ---- sizes


@pytest.mark.slow
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    shape=st.tuples(st.integers(1, 800), st.integers(16, 600), st.integers(1, 800)),
    spacing=st.tuples(*[st.floats(0.3, 8.0)] * 3),
    classes=st.sampled_from([1, 2, 104]),
    memory=st.floats(0.6, 16.0),
    start=st.integers(0, 20),
    gpu=st.booleans(),
)
def test_sizes_fit_data_network_and_memory(
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    classes: int,
    memory: float,
    start: int,
    gpu: bool,
) -> None:
    machine = Hardware("some machine", gpu, int(memory * GIB), int(2 * memory * GIB))
    seen = fingerprint(shape, spacing, classes=classes)
    try:
        found = size(seen, machine, start)
    except DataError as error:
        assert "memory" in error.message  # 105 channels of logits in 0.6 GiB
        return
    assert found.memory <= machine.memory
    assert all(n % d == 0 for n, d in zip(found.patch, found.divisor, strict=True))
    smallest = [2 * d if d > 1 else 1 for d in found.divisor]
    needed = padded(found.largest, found.divisor)
    assert all(p <= max(n, s) for p, n, s in zip(found.patch, needed, smallest, strict=True))
    assert all(p >= s for p, s in zip(found.patch, smallest, strict=True))
    assert (found.thin is None) == (1 not in found.patch)
    assert all(s > 0 for s in found.spacing)
    assert found.batch >= 2
    # a whole prediction of the largest case fits, or no coarser voxel would help
    voxels = math.prod(found.largest)
    assert voxels * (5 + 4 * (classes + 1)) <= machine.room or found.coarsened


def test_small_volumes_are_seen_whole_without_padding_to_64() -> None:
    found = size(fingerprint((43, 58, 42), (1.0, 1.0, 1.0)), LAPTOP)
    assert found.patch == (48, 64, 48) and found.covered and found.limit == "image"
    found = size(fingerprint((36, 51, 36), (1.0, 1.0, 1.0)), LAPTOP)
    assert found.patch == (40, 56, 40)


def test_thick_slices_have_a_spacing_and_are_not_cut_thinner() -> None:
    found = size(fingerprint((256, 256, 30), (0.9, 0.9, 5.0)), LAPTOP)
    assert found.spacing == (0.9, 0.9, 5.0)
    assert found.patch[2] <= 32 and found.patch[0] > 2 * found.patch[2]
    mixed = fingerprint(
        (256, 256, 30), (0.9, 0.9, 5.0), spacings=[(0.9, 0.9, 3.0)] * 2 + [(0.9, 0.9, 5.0)] * 8
    )
    assert usual_spacing(mixed) == pytest.approx((0.9, 0.9, 3.0))


def test_few_slices_are_segmented_one_by_one() -> None:
    found = size(fingerprint((320, 320, 11), (0.5, 0.5, 7.5)), LAPTOP)
    assert found.thin == 2 and found.patch[2] == 1
    assert size(fingerprint((1, 512, 400), (1.0, 1.0, 1.0)), LAPTOP).thin == 0


def test_huge_volumes_get_coarser_voxels_but_not_beyond_their_small_structures() -> None:
    whole = (512, 512, 800)
    coarse = size(fingerprint(whole, (0.8, 0.8, 0.8)), LAPTOP)
    assert coarse.coarsened and min(coarse.spacing) > 1
    fine = size(fingerprint(whole, (0.8, 0.8, 0.8), small_mm3=10.0), replace(LAPTOP, room=200 * GIB))
    assert fine.spacing == (0.8, 0.8, 0.8) and not fine.coarsened
    many = size(fingerprint(whole, (0.8, 0.8, 0.8), classes=104, small_mm3=10.0), LAPTOP)
    assert math.prod(many.largest) * (5 + 4 * 105) <= LAPTOP.room / 2


def test_a_card_takes_larger_batches_of_small_patches() -> None:
    seen = fingerprint((36, 51, 36), (1.0, 1.0, 1.0), cases=200)
    assert size(seen, LAPTOP).batch == 2
    assert 2 < size(seen, CARD).batch <= 12
    assert size(fingerprint((36, 51, 36), (1.0, 1.0, 1.0), cases=10), CARD).batch == 2


@given(
    shape=st.lists(st.integers(1, 600), min_size=2, max_size=3),
    spacing=st.lists(st.floats(0.2, 9.0), min_size=3, max_size=3),
    voxels=st.integers(8, 200**3),
)
def test_a_box_is_within_its_voxels_and_its_volume(
    shape: list[int], spacing: list[float], voxels: int
) -> None:
    box = cube(shape, spacing[: len(shape)], voxels)
    assert math.prod(box) <= max(voxels, 1)
    assert all(1 <= b <= n for b, n in zip(box, shape, strict=True))


@pytest.mark.parametrize(
    ("patch", "levels"),
    [
        ((64, 64, 64), 5),
        ((48, 48, 48), 4),
        ((36, 51, 36), 4),
        ((128, 128, 24), 4),
        ((5, 6, 7), 2),
        ((256, 256), 6),
    ],
)
def test_levels_leave_some_voxels(patch: tuple[int, ...], levels: int) -> None:
    assert depth(patch) == levels


@given(start=st.integers(0, 20), more=st.integers(0, 20), first=st.integers(0, 50))
def test_bisection_finds_the_first(start: int, more: int, first: int) -> None:
    end = start + more
    expected = next((n for n in range(start, end) if n >= first), end)
    assert first_that(lambda n: n >= first, start, end) == expected


# ---- losses


@pytest.mark.parametrize(
    ("task", "share", "kind"),
    [
        ("organs", 0.01, "dice_cross_entropy"),
        ("organs", 0.0009, "unified_focal"),
        ("lesions", 0.0009, "unified_focal"),
        ("lesions", 0.002, "dice_cross_entropy"),
        ("vessels", 0.0009, "dice_cl_dice"),
    ],
)
def test_rare_classes_get_a_loss_that_is_made_for_them(task: str, share: float, kind: str) -> None:
    seen = fingerprint((64, 64, 64), (1.0, 1.0, 1.0))
    absent = ClassFacts("never there", 0, 0.0, None, None, None)
    facts = (seen.class_facts[0], replace(seen.class_facts[1], share=share), absent)
    seen = replace(seen, class_facts=facts)
    draft = Draft(seen, LAPTOP, task, asked=True, split={}, why_left_out={})
    experiment = draft.experiment(size(seen, LAPTOP), Length())
    assert experiment.loss.plain()["kind"] == kind
    assert ("organ 1 is 0.09 % of all voxels" in draft.reasons["loss"]) == (kind == "unified_focal")


# ---- lengths


@given(
    seconds=st.floats(30, 1e6),
    step=st.floats(0.001, 60),
    validation=st.floats(0.01, 600),
    reading=st.floats(0, 100),
)
def test_lengths_fit_the_time(seconds: float, step: float, validation: float, reading: float) -> None:
    timing = Timing(step, 3, 0.1, reading, 0, 0, validation=validation)
    found = length(seconds, timing)
    validations = math.ceil(found.epochs / found.every)
    spent = reading + found.total * step + validations * validation
    assert found.steps >= 1 and 1 <= found.every <= found.epochs and validations <= 20
    assert found.steps <= 250
    if found.total > 40:  # else the time is too short for anything
        assert spent <= seconds * 1.001 or validations * validation > VALIDATING * seconds
    assert 0.9 <= averaging(found.total) <= 0.999


# ---- files


def write(root: Path, image: Volume, label: Volume, case: str) -> None:
    for part, volume in (("images", image), ("labels", label)):
        (root / part).mkdir(parents=True, exist_ok=True)
        save_volume(volume, root / part / f"{case}.nii.gz", integer=part == "labels")


def phantoms(root: Path, count: int, anatomy: str = "mr_brain") -> Path:
    for ref in parse({"kind": "phantom", "anatomy": anatomy, "count": count, "size": 32}).cases():
        case = ref.open()
        assert case.label is not None
        write(root, case.images[0], case.label, ref.id)
    return root


def fast(plan: Any) -> Timing:
    """Stand in for timing steps: a tenth of a second each."""
    return Timing(0.1, 3, 0.05, 1.0, 0, 0, validation=0.5)


def proposed(source: Any, **given: Any) -> Any:
    return propose(source, hardware=LAPTOP, measure=fast, minutes=2, **given)


def test_a_folder_becomes_a_file_that_says_why_and_trains(tmp_path: Path) -> None:
    proposal = proposed(phantoms(tmp_path / "data", 3, "ct_abdomen"))
    file = tmp_path / "experiment.yaml"
    proposal.save(file)
    experiment = Experiment.from_yaml(file)
    assert experiment == proposal.experiment
    text = file.read_text(encoding="utf-8")
    for path in ("preprocessing.spacing", "sampling.patch_size", "network.levels", "schedule.epochs"):
        assert proposal.reasons[path][:30] in text.replace("\n  # ", " ")
    assert experiment.preprocessing.spacing == pytest.approx((9.0, 9.0, 9.0))
    assert experiment.preprocessing.intensity.plain()["kind"] == "ct_window"
    assert resolve(experiment).patch == tuple(proposal.settings["sampling"]["patch_size"])
    short = experiment.with_settings(
        {
            "sampling.steps_per_epoch": 1,
            "schedule.epochs": 1,
            "validation.every_epochs": 1,
            "validation.metrics": [],
            "compute.threads": 1,
        }
    )
    events = list(Run(RunFolder.create(short, tmp_path / "run")))
    assert sum(isinstance(e, StepDone) for e in events) == 1
    assert isinstance(events[-1], RunFinished) and events[-1].state == "finished"
    with pytest.raises(SpecError, match="exists already"):
        proposal.save(file)


def test_regions_that_are_asked_for_overlap_and_train(tmp_path: Path) -> None:
    regions = {"whole tumour": [1, 2, 3], "tumour core": [1, 3], "enhancing tumour": 3}
    proposal = proposed(phantoms(tmp_path / "data", 3, "mr_tumour"), classes=regions)
    file = tmp_path / "experiment.yaml"
    proposal.save(file)
    text = file.read_text(encoding="utf-8").replace("\n  # ", " ")
    assert "overlapping: true" in text
    assert "whole tumour and tumour core share the label value 1. Each class has a sigmoid" in text
    plan = resolve(Experiment.from_yaml(file))
    assert plan.classes.scheme.members == ((1,), (1, 2), (1, 2, 3)) and proposal.task == "lesions"


@pytest.mark.parametrize("task", ["organs", "lesions", "vessels"])
def test_masks_that_overlap_become_classes_that_do(tmp_path: Path, task: str) -> None:
    """A vessel in a liver: init says so, with the loss of every task, and the classes keep all their voxels."""
    for case in range(3):
        image = np.random.default_rng(case).normal(40, 30, (24, 24, 24)).astype(np.float32)
        folder = tmp_path / "data" / f"s{case}" / "segmentations"
        folder.mkdir(parents=True)
        save_volume(Volume.from_array(image, affine=np.eye(4)), folder.parent / "ct.nii.gz")
        for name, inside in (("liver", slice(4, 20)), ("vessel", slice(10, 13)), ("spleen", slice(20, 23))):
            mask = np.zeros((24, 24, 24), np.uint8)
            mask[inside, 6:18, 6:18] = 1
            save_volume(Volume.from_array(mask, affine=np.eye(4)), folder / f"{name}.nii.gz", integer=True)
    proposal = proposed(tmp_path / "data", task=task)
    assert "vessel is within liver" in proposal.reasons["data.overlapping"]
    file = tmp_path / "experiment.yaml"
    proposal.save(file)
    experiment = Experiment.from_yaml(file)
    assert experiment.data.classes == {"liver": 1, "spleen": 2, "vessel": 3}
    plan = resolve(experiment)
    assert plan.classes.names == ("liver", "spleen", "vessel") and plan.classes.scheme.overlapping
    label = experiment.data.cases()[0].open().label
    assert label is not None
    indices = plan.classes.encode(np.asarray(label.array))
    counts = [int(plan.classes.scheme.mask(indices, c).sum()) for c in (1, 2, 3)]
    assert counts == [16 * 144, 3 * 144, 3 * 144]


def test_one_case_validates_itself(tmp_path: Path) -> None:
    proposal = proposed(phantoms(tmp_path, 1))
    assert proposal.experiment.split.self_validation
    assert resolve(proposal.experiment).badges


def test_unusable_cases_are_left_out_and_the_rest_trains(tmp_path: Path) -> None:
    root = phantoms(tmp_path, 3)
    (root / "labels/broken.nii.gz").write_bytes(b"nothing")
    (root / "images/broken.nii.gz").write_bytes(b"nothing")
    (root / "labels/lonely.nii.gz").write_bytes((root / "labels/phantom_000.nii.gz").read_bytes())
    for part in ("images", "labels"):  # one image twice, which must not be on both sides of the split
        twin = root / part / "twin.nii.gz"
        twin.write_bytes((root / part / "phantom_001.nii.gz").read_bytes())
    proposal = proposed(root)
    plan = resolve(proposal.experiment)
    assert {"broken", "lonely"} <= set(proposal.fingerprint.left_out)
    assert set(plan.roles) <= {"phantom_000", "phantom_001", "phantom_002", "twin"}
    assert {p.case for p in proposal.problems} >= {"broken", "lonely"}
    assert proposal.settings["data"]["incomplete"] == "leave out"
    assert "validation" in plan.roles.values()


def test_pictures_are_segmented_in_two_dimensions(tmp_path: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    for n in range(3):
        picture = rng.integers(0, 255, (90 + n, 120)).astype(np.uint8)
        mask = np.zeros(picture.shape, np.uint8)
        mask[20:50, 30:70] = 255
        Image.fromarray(picture).save(tmp_path / f"{n}.png")
        Image.fromarray(mask).save(tmp_path / f"{n}_mask.png")
    proposal = proposed(tmp_path)
    patch = proposal.experiment.sampling.patch_size
    assert patch is not None and patch[2] == 1 and patch[0] <= 128
    assert resolve(proposal.experiment).memory_bytes > 0


def test_several_channels_and_two_namings(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for n in range(3):
        folder = tmp_path / f"p{n}"
        folder.mkdir()
        label = np.zeros((24, 24, 16), np.uint8)
        label[5:12, 5:12, 5:9] = 1
        for name in ("t1", "flair"):
            volume = Volume.from_array(rng.normal(100, 9, label.shape).astype(np.float32))
            save_volume(volume, folder / f"{name}.nii.gz")
        save_volume(Volume.from_array(label), folder / "lesion_seg.nii.gz", integer=True)
    proposal = proposed(tmp_path, task="lesions", classes={"plaque": 1})
    plan = resolve(proposal.experiment)
    assert plan.channels == 2 and plan.class_names == ("plaque",)
    assert proposal.experiment.augmentation.flips.left_right == 0.5
    assert proposal.experiment.validation.metrics == ("lesions",)
    vessels = proposed(tmp_path, task="vessels")
    assert vessels.experiment.loss.plain()["kind"] == "dice_cl_dice"


def test_a_list_whose_cases_all_train_names_those_that_validate(tmp_path: Path) -> None:
    phantoms(tmp_path, 5)
    rows = [f"{n},images/phantom_{n:03d}.nii.gz,labels/phantom_{n:03d}.nii.gz,train" for n in range(5)]
    (tmp_path / "cases.csv").write_text("\n".join(["case,image,label,role", *rows]), encoding="utf-8")
    proposal = proposed(tmp_path / "cases.csv")
    assert len(proposal.experiment.split.validation) == 1
    assert len(resolve(proposal.experiment).ids("validation")) == 1


def test_mirroring_is_off_where_left_and_right_are_classes(tmp_path: Path) -> None:
    classes = {"left lesion": 1, "right lesion": 2}
    proposal = proposed(phantoms(tmp_path, 2), task="lesions", classes=classes)
    flips = proposal.experiment.augmentation.flips
    assert (flips.left_right, flips.front_back, flips.head_foot) == (0.0, 0.5, 0.5)
    assert "left lesion" in proposal.reasons["augmentation.flips"]


def test_tasks_are_guessed_from_names_and_parts() -> None:
    seen = fingerprint((64, 64, 64), (1.0, 1.0, 1.0), classes=1)
    assert guess_task(seen) == "organs"
    scattered = replace(seen, class_facts=(ClassFacts("foreground", 10, 0.001, 2.0, 7.0, 20.0),))
    assert guess_task(scattered) == "lesions"
    named = replace(seen, class_facts=(ClassFacts("Portal vein", 10, 0.01, 20.0, 1.0, 900.0),))
    assert guess_task(named) == "vessels"


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no"):
        propose(tmp_path / "nowhere")
    with pytest.raises(SpecError, match="minutes"):
        propose(tmp_path, minutes=0)
    with pytest.raises(SpecError, match="no task"):
        propose(tmp_path, task="bones")


def test_it_is_a_public_name() -> None:
    assert segexplorer.propose is propose


def test_reasons_may_quote_anything() -> None:
    text = commented_yaml(
        {"data": {"kind": "folder", "classes": {"yes": 1, "a: b": [2, 3]}}, "seed": 0},
        {"data.classes": "from\nx: {broken"},
        ("title\n- {",),
    )
    from segexplorer.core.yaml_text import load_yaml

    assert load_yaml(text) == {"data": {"kind": "folder", "classes": {"yes": 1, "a: b": [2, 3]}}, "seed": 0}
