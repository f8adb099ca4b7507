"""The shared cache: one entry for all, whoever makes it, is killed, or needs its room."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segexplorer.core.label_scheme import IGNORED
from segexplorer.data.cache_folder import VARIABLE, CaseCache, base_folder
from segexplorer.data.case import CaseRef, ClassMap
from segexplorer.data.foreground import VOXELS_PER_CLASS, Foreground
from segexplorer.data.io import save_volume
from segexplorer.data.sampler import Batch, Sampler, Sampling
from segexplorer.data.store import PreprocessedCache
from segexplorer.data.stored_case import StoredCase
from segexplorer.data.transforms import Augmentation, Preprocessing, fit
from segexplorer.data.transforms.distance_maps import MAPS
from segexplorer.data.transforms.preprocessing import FittedPreprocessing
from segexplorer.data.volume import Volume
from segexplorer.data.voxel_file import DamagedFileError, write_voxels

CLASSES = ClassMap.from_classes({"a": 1, "b": 2})


def content(fill: int, nbytes: int = 10_000) -> Callable[[IO[bytes]], None]:
    array = np.random.default_rng(fill).integers(0, 255, (nbytes // 2000, 40, 50), np.uint8)
    return lambda file: write_voxels(file, {"fill": fill}, {"a": array})


# ---- where it is


def test_the_setting_goes_before_the_variable_before_the_systems_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "team"))
    assert base_folder(tmp_path / "mine") == tmp_path / "mine" and base_folder() == tmp_path / "team"
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert base_folder().name == "segexplorer"


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_nobody_else_may_look_into_a_folder_that_is_made(tmp_path: Path) -> None:
    CaseCache(tmp_path / "new" / "cache").make("ab12", content(1))
    for folder in ("new", "new/cache", "new/cache/prepared"):
        assert stat.S_IMODE((tmp_path / folder).stat().st_mode) == 0o700
    team = tmp_path / "team"
    team.mkdir(mode=0o770)
    team.chmod(0o770)
    CaseCache(team).make("ab12", content(1))
    assert stat.S_IMODE(team.stat().st_mode) == 0o770


# ---- several processes


def _race(base: str, key: str, begin: float, answers: Any) -> None:
    cache, made = CaseCache(Path(base)), 0

    def write(file: IO[bytes]) -> None:
        nonlocal made
        made += 1
        time.sleep(0.05)
        content(7)(file)

    time.sleep(max(0.0, begin - time.time()))
    found = cache.make(key, write)
    assert found is not None
    answers.put((made, found.facts["fill"], int(np.asarray(found.arrays["a"]).sum())))


def test_of_many_processes_one_makes_the_entry_and_all_read_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    begin = time.time() + 4
    workers = [context.Process(target=_race, args=(str(tmp_path), "cd34", begin, answers)) for _ in range(3)]
    for worker in workers:
        worker.start()
    found = [answers.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(30)
        assert worker.exitcode == 0
    assert sum(made for made, _, _ in found) == 1
    assert len({(fill, total) for _, fill, total in found}) == 1
    assert not list(tmp_path.rglob("*.part")) and not list((tmp_path / "prepared" / "locks").iterdir())


def test_a_writer_that_is_killed_leaves_nothing_that_is_read(tmp_path: Path) -> None:
    code = f"""
import time, sys
from pathlib import Path
from segexplorer.data.cache_folder import CaseCache
def write(file):
    file.write(b"half of it" * 1000); file.flush()
    print("writing", flush=True)
    time.sleep(600)
CaseCache(Path({str(tmp_path)!r})).make("ef56", write)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    process.stdout.close()
    cache = CaseCache(tmp_path)
    (part,) = tmp_path.rglob("*.part")
    assert cache.open("ef56") is None
    found = cache.make("ef56", content(3))
    assert found is not None and found.facts == {"fill": 3}
    cache.set_limit(None)
    assert part.exists(), "it might be another process's"
    os.utime(part, (1, 1))
    cache.set_limit(None)
    assert not part.exists() and len(cache.entries()) == 1


# ---- size


def test_the_least_recently_used_goes_first_and_never_what_a_living_process_reads(tmp_path: Path) -> None:
    mine, other = CaseCache(tmp_path), CaseCache(tmp_path)
    keys = [f"{n:02x}00" for n in range(6)]
    for n, key in enumerate(keys):
        mine.make(key, content(n))
        os.utime(mine._path(key), (1000 + n, 1000 + n))
    mine.close()
    size = mine.entries()[0].nbytes
    assert [e.key for e in mine.entries()] == keys and not any(e.in_use for e in mine.entries())
    held = other.open(keys[0])  # used now, though it is the oldest
    assert held is not None and mine.entries()[-1].key == keys[0] and mine.entries()[-1].in_use
    os.utime(mine._path(keys[0]), (1, 1))
    mine.set_limit(3 * size)
    assert {e.key for e in mine.entries()} == {keys[0], keys[4], keys[5]}
    assert mine.make("ff00", content(9)) is not None
    assert {e.key for e in mine.entries()} == {keys[0], keys[5], "ff00"}
    other.close()
    mine.set_limit(size)
    assert {e.key for e in mine.entries()} == {"ff00"}, "mine is in use, the other one's not any more"
    assert np.asarray(held.arrays["a"]).any(), "what is open is read on"


def test_a_process_that_died_keeps_nothing(tmp_path: Path) -> None:
    maker = CaseCache(tmp_path)
    maker.make("ab00", content(1))
    maker.close()
    code = f"""
import os
from pathlib import Path
from segexplorer.data.cache_folder import CaseCache
cache = CaseCache(Path({str(tmp_path)!r})); cache.open("ab00")
assert CaseCache(Path({str(tmp_path)!r})).entries()[0].in_use
os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 9
    users = tmp_path / "prepared" / "users"
    assert list(users.iterdir())
    fresh = CaseCache(tmp_path)
    assert not fresh.entries()[0].in_use
    fresh.set_limit(0)
    assert not fresh.entries()


def test_a_cache_full_of_what_is_used_takes_no_more(tmp_path: Path) -> None:
    cache = CaseCache(tmp_path)
    cache.set_limit(25_000)
    kept = [cache.make(f"{n:02x}00", content(n)) for n in range(5)]
    there = [found for found in kept if found is not None]
    assert 2 <= len(there) <= 3 and kept[-1] is None
    assert sum(e.nbytes for e in cache.entries()) <= 25_000 + there[0].nbytes


@settings(deadline=None, max_examples=15)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), min_size=1, max_size=12), st.integers(0, 60_000)
)
def test_the_limit_holds_for_whatever_is_not_in_use(
    tmp_path_factory: pytest.TempPathFactory, uses: list[tuple[int, int]], limit: int
) -> None:
    base = tmp_path_factory.mktemp("cache")
    caches = [CaseCache(base) for _ in range(4)]
    caches[0].set_limit(limit)
    for key, who in uses:
        found = caches[who].make(f"{key:02x}00", content(key))
        assert found is None or found.facts["fill"] == key
    for cache in caches:
        cache.close()
    caches[0].set_limit(limit)
    assert sum(e.nbytes for e in caches[0].entries()) <= limit
    assert not list((base / "prepared" / "users").glob("*"))


def test_clear_leaves_what_is_in_use_and_what_is_recent(tmp_path: Path) -> None:
    cache, other = CaseCache(tmp_path), CaseCache(tmp_path)
    for n in range(3):
        cache.make(f"{n:02x}00", content(n))
    cache.close()
    os.utime(cache._path("0000"), (1, 1))
    other.open("0200")
    assert cache.clear(unused_days=1)[0] == 1
    assert cache.clear()[0] == 1 and [e.key for e in cache.entries()] == ["0200"]


def test_a_limit_from_a_damaged_file_is_none(tmp_path: Path) -> None:
    cache = CaseCache(tmp_path)
    cache.set_limit(5)
    assert cache.limit == cache.given_limit == 5
    (tmp_path / "prepared" / "limit.json").write_text(json.dumps({"bytes": -1}))
    assert cache.given_limit is None and cache.limit > 10**6


# ---- cases in it


def refs(folder: Path, count: int = 3, *, sparse: bool = False) -> list[CaseRef]:
    rng = np.random.default_rng(5)
    found = []
    for n in range(count):
        shape = (40 + 3 * n, 37, 45)
        label = np.zeros(shape, np.uint8)
        label[5:20, 8:20, 9:30] = 1
        label[22:30, 20:33, 5:12] = 2
        if sparse:
            label[:, :, 33:] = 7
        image = rng.integers(-300, 300, shape).astype(np.int16)
        if not (folder / f"label_{n}.nii.gz").exists():
            save_volume(Volume.from_array(image, modality="CT"), folder / f"image_{n}.nii.gz")
            save_volume(Volume.from_array(label), folder / f"label_{n}.nii.gz", integer=True)
        found.append(CaseRef(f"c{n}", (folder / f"image_{n}.nii.gz",), folder / f"label_{n}.nii.gz", f"c{n}"))
    return found


def stores(given: list[CaseRef], folder: Path, **preprocessing: Any) -> tuple[PreprocessedCache, ...]:
    """Return a store that keeps cases in memory, and one that cuts patches from files."""
    fitted, maps = fit(Preprocessing(**preprocessing), given), MAPS[:2]
    classes = ClassMap.from_classes({"a": 1, "b": 2, "ignore": 7})
    memory = PreprocessedCache(given, fitted, classes, 2**30, None, maps)
    files = PreprocessedCache(given, fitted, classes, 10, folder, maps, resident=False, resident_maps=False)
    return memory, files


def batches(store: PreprocessedCache, augmentation: Augmentation, **sampling: Any) -> list[Batch]:
    settings_ = Sampling(**{"patch_size": (24, 16, 20), "batch_size": 3, **sampling})
    sampler = Sampler(store, list(store.refs), settings_, augmentation, seed=11)
    return [sampler.batch(epoch, index) for epoch in (1, 2) for index in range(4)]


def equal(one: Batch, two: Batch) -> bool:
    pairs = [(one.images, two.images), (one.labels, two.labels), (one.origins, two.origins)]
    pairs += [(one.maps[name], two.maps[name]) for name in one.maps]
    return one.cases == two.cases and all(np.array_equal(a, b) for a, b in pairs)


VARIATIONS = {
    "still": {"enabled": False},
    "mirrored": {"placement": {"probability": 0}, "flips": {"left_right": 0.5}},
    "turned": {"placement": {"probability": 1, "rotation": 40, "translation": 9}},
    "deformed": {"elastic": {"probability": 1}, "placement": {"probability": 0.5}},
}


@pytest.mark.parametrize("variation", list(VARIATIONS))
@pytest.mark.parametrize("spacing", [None, (1.4, 1.1, 1.7)])
def test_patches_from_files_are_those_from_memory_bit_for_bit(
    variation: str, spacing: Any, tmp_path: Path
) -> None:
    memory, files = stores(refs(tmp_path), tmp_path / "cache", spacing=spacing)
    augmentation = Augmentation.of(VARIATIONS[variation])
    for again in range(2):
        found = batches(files, augmentation)
        assert all(map(equal, found, batches(memory, augmentation)))
        if again:
            assert isinstance(files.open("c0"), StoredCase)
        memory, files = stores(refs(tmp_path), tmp_path / "cache", spacing=spacing)


@pytest.mark.parametrize("balanced", [True, False])
def test_sparse_labels_and_shares_draw_the_same_voxels(balanced: bool, tmp_path: Path) -> None:
    memory, files = stores(refs(tmp_path, sparse=True), tmp_path / "cache")
    still = Augmentation.of({"enabled": False})
    for ratio in (0.0, 0.5, 1.0):
        rest = {"class_balanced": balanced, "foreground_ratio": ratio}
        assert all(map(equal, batches(memory, still, **rest), batches(files, still, **rest)))


def test_two_runs_prepare_a_case_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    apply = FittedPreprocessing.apply
    monkeypatch.setattr(
        FittedPreprocessing,
        "apply",
        lambda self, case, classes: (made.append(case.id), apply(self, case, classes))[1],
    )
    given, still = refs(tmp_path), Augmentation.of({"enabled": False})
    _, one = stores(given, tmp_path / "cache")
    _, two = stores(given, tmp_path / "cache")
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda store: batches(store, still), (one, two)))
    assert sorted(made) == ["c0", "c1", "c2"]
    assert all(map(equal, *found))
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for path in tmp_path.glob("*.nii.gz"):
        os.link(path, moved / path.name)
    other = [
        CaseRef(f"patient {n}", (moved / f"image_{n}.nii.gz",), moved / f"label_{n}.nii.gz") for n in range(3)
    ]
    _, third = stores(other, tmp_path / "cache")
    assert third.open("patient 1").case == "patient 1" and len(made) == 3, "neither name nor place matters"
    names = b"".join(path.read_bytes() for path in (tmp_path / "cache").rglob("*.zip"))
    assert b"patient 1" not in names and b"c1" not in [
        p.stem.encode() for p in (tmp_path / "cache").rglob("*")
    ]


def test_an_entry_that_goes_while_it_is_used_changes_nothing(tmp_path: Path) -> None:
    given, still = refs(tmp_path), Augmentation.of({"enabled": False})
    memory, files = stores(given, tmp_path / "cache")
    expected = batches(memory, still)
    batches(files, still)
    stop = threading.Event()

    def delete() -> None:
        while not stop.is_set():
            for path in (tmp_path / "cache").rglob("*.zip"):
                path.unlink(missing_ok=True)
            time.sleep(0.002)

    thread = threading.Thread(target=delete)
    thread.start()
    try:
        for _ in range(3):
            _, again = stores(given, tmp_path / "cache")
            assert all(map(equal, expected, batches(again, still)))
    finally:
        stop.set()
        thread.join()


def test_a_damaged_entry_is_made_again_while_patches_are_drawn(tmp_path: Path) -> None:
    given, still = refs(tmp_path), Augmentation.of({"enabled": False})
    memory, files = stores(given, tmp_path / "cache")
    expected = batches(memory, still)
    batches(files, still)
    for path in (tmp_path / "cache").rglob("*.zip"):
        raw = bytearray(path.read_bytes())
        raw[200:1500:7] = bytes(len(raw[200:1500:7]))  # chunks of the first array
        path.write_bytes(raw)
    _, again = stores(given, tmp_path / "cache")
    assert all(map(equal, expected, batches(again, still)))


def test_a_damaged_map_is_deleted_and_says_how_to_go_on(tmp_path: Path) -> None:
    _, files = stores(refs(tmp_path, 1), tmp_path / "cache")
    maps = files.maps("c0")
    whole = {name: np.asarray(stored) for name, stored in maps.items()}
    for path in (tmp_path / "cache").rglob("*.zip"):
        raw = bytearray(path.read_bytes())
        raw[300:3000] = bytes(2700)
        path.write_bytes(raw)
    _, again = stores(refs(tmp_path, 1), tmp_path / "cache")
    for stored in again.maps("c0").values():
        with pytest.raises(DamagedFileError) as caught:
            np.asarray(stored)
        assert "continue the run" in caught.value.remedy
    _, third = stores(refs(tmp_path, 1), tmp_path / "cache")
    assert all(np.array_equal(np.asarray(m), whole[name]) for name, m in third.maps("c0").items())


# ---- foreground


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.floats(0, 0.999), st.floats(0, 0.999))
def test_foreground_is_every_class_in_order(seed: int, classes: int, first: float, second: float) -> None:
    rng = np.random.default_rng(seed)
    label = rng.choice([*range(classes), IGNORED], (7, 9, 8)).astype(np.uint8)
    flat, found = label.ravel(), Foreground.of(label)
    present = [k for k in np.unique(flat) if k not in (0, IGNORED)]
    assert found.counts == tuple(int((flat == k).sum()) for k in present)
    if present:
        own = np.flatnonzero(flat == present[int(first * len(present))])
        assert found.choose((first, second), balanced=True) == own[int(second * len(own))]
        assert flat[found.choose((first, second), balanced=False)] in present
    if found.annotated:
        counted = np.flatnonzero(flat != IGNORED)
        assert found.choose_annotated((first, second)) == counted[int(second * len(counted))]


def test_foreground_of_a_hundred_classes_stays_small() -> None:
    label = (np.arange(128**3).reshape(128, 128, 128) // 997 % 118).astype(np.uint8)
    found = Foreground.of(label)
    assert len(found.counts) == 117 and found.nbytes == 4 * sum(found.counts)
    large = Foreground.of(np.ones((128, 128, 64), np.uint8))
    assert large.counts[0] <= VOXELS_PER_CLASS and large.nbytes <= 4 * VOXELS_PER_CLASS
