"""Mutated and hostile run folders and archives: whatever is done with one ends in a result or in one sentence.

No traceback, no hang, no code of a stranger's, nothing written outside, no escape sequence on the terminal. In CI
the crafted folders and a few mutated ones from a fixed seed; a long run is
python tests/training/test_hostile_folders.py --folders 600 --archives 400
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import math
import os
import pickle
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from segexplorer.core.errors import DataError, SegExplorerError
from segexplorer.core.untrusted_files import checksum_of, fits_checksum_comment, with_checksum
from segexplorer.frontends.cli.app import run as command
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.history import open_run
from segexplorer.training.run import Run
from segexplorer.training.sharing import share_run, unpacked_run
from segexplorer.training.verification import is_sound, verify_run

Rng = np.random.Generator
SECONDS = 30
"""Longest computing time for everything that is tried with one folder; ten times as long where it waits."""
MEMORY = 12 * 2**30
"""Address space of a process that tries hostile folders; torch alone takes about 3 GiB of it."""
EXPERIMENT = {
    "data": {"kind": "phantom", "count": 2, "size": 16, "seed": 1},
    "split": {"validation_count": 1},
    "sampling": {"patch_size": [16, 16, 16], "batch_size": 1, "steps_per_epoch": 1},
    "network": {"kind": "unet", "base_features": 2, "levels": 2},
    "loss": "adaptive_region_tversky",
    "schedule": {"kind": "constant", "epochs": 2},
    "compute": {"device": "cpu", "precision": "float32", "threads": 1},
}
EVIL = "\x1b]0;owned\x07\x1b[31m\u202etxt\u2066\x9b2J"
ODD: tuple[Any, ...] = (
    10**30, -1, 0, 2**53, -(2**63), 1e308, math.nan, math.inf, "NaN", "-Infinity", "", EVIL, "x" * 200_000,
    "\ud800", [], {}, None, True, [[1, 2], [3]], {"a": {"b": None}}, "../../outside", "/dev/zero", "step_1", 0.5,
    "1e400", [None],
)  # fmt: skip
"""Values that break arithmetic, loops, types, paths and terminals."""


def make_run(place: Path) -> Path:
    """Train two steps on phantoms."""
    run = Run(RunFolder.create(Experiment.of(EXPERIMENT), place))
    assert list(run)[-1].state == "finished"  # type: ignore[attr-defined]
    return run.folder


# --- what is done with a folder ---


class HangError(Exception):
    """Something took longer than it may."""


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Interrupt what does not come to an end."""

    def stop(*_: object) -> None:
        raise HangError(f"longer than {seconds} s")

    timers = {signal.ITIMER_PROF: (signal.SIGPROF, 1), signal.ITIMER_REAL: (signal.SIGALRM, 10)}
    before = {number: signal.signal(number, stop) for number, _ in timers.values()}
    for timer, (_, factor) in timers.items():
        signal.setitimer(timer, factor * seconds)
    try:
        yield
    finally:
        for timer in timers:
            signal.setitimer(timer, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def cli(*words: str) -> tuple[int, str]:
    """Run a command; return its exit code and everything that it printed."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = command(words)
    text = out.getvalue()
    assert "Traceback" not in text and "defect" not in text, text[-2000:]
    assert not UNSAFE.search(text), f"control characters were printed: {text!r}"[:500]
    assert code in (0, 2), (code, text[-500:])
    return code, text


def use_folder(folder: Path, place: Path, *, network: bool = True) -> str:
    """Do what people do with a run folder of somebody else's; return "sound" or "sentence"."""
    ends = [cli("verify", str(folder))[0], cli("replay", str(folder), "--speed", "0")[0]]
    output = place / "shared.zip"
    output.unlink(missing_ok=True)
    ends.append(cli("share", str(folder), "-o", str(output), "--predictions")[0])
    ends += [tried(lambda: _read_all(folder)), tried(lambda: list(_pictures(folder)))]
    if network:
        ends.append(tried(lambda: _predict(folder)))
        ends.append(tried(lambda: Run(RunFolder.open(folder))))
    return "sentence" if any(ends) else "sound"


def tried(action: Callable[[], object]) -> int:
    """Return 2 where an action ends in a sentence."""
    try:
        action()
    except SegExplorerError as error:
        assert not UNSAFE.search(str(error)) and error.message.endswith((".", "?")), str(error)
        assert len(error.message) < 1000, error.message
        return 2
    return 0


def _read_all(folder: Path) -> None:
    from segexplorer.study.runs import read_run

    record = open_run(folder)
    record.events()
    assert record.state and record.notices() is not None
    assert record.metrics is not None
    assert record.experiment is not None
    record.scores("validation")
    read_run(folder)


def _pictures(folder: Path) -> Iterator[object]:
    from segexplorer.viewmodels.watched_case import SWITCHES, Wanted, frames_of, see

    for frames in frames_of(folder).values():
        for frame in frames:
            yield see(frame.load(), None, Wanted(frozenset(SWITCHES)))


def _predict(folder: Path) -> None:
    from segexplorer.data.volume import Volume
    from segexplorer.training.predict import load_predictor

    image = Volume.from_array(np.zeros((16, 16, 16), np.float32), affine=np.diag([18.0, 18, 18, 1]))
    for pointer in ("best", "last"):
        load_predictor(folder, pointer).predict([image])


# --- mutations of a folder ---


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def any_file(folder: Path, rng: Rng, ending: str = "") -> Path:
    """Return a file, each kind as often as the others, however many frames there are."""
    kinds: dict[str, list[Path]] = {}
    for path in files_of(folder):
        if path.name.endswith(ending):
            kinds.setdefault(path.name if len(path.name) > 1 else "chunk", []).append(path)
    names = sorted(kinds)
    some = kinds[names[int(rng.integers(len(names)))]]
    return some[int(rng.integers(len(some)))]


def resealed(folder: Path) -> None:
    """Write the checksums that fit, as whoever changes a file on purpose can."""
    for meta in folder.glob("checkpoints/step_*/meta.json"):
        try:
            content = json.loads(meta.read_text())
            for name in content["sha256"]:
                content["sha256"][name] = hashlib.sha256((meta.parent / name).read_bytes()).hexdigest()
            meta.write_text(json.dumps(with_checksum(content)))
        except (ValueError, OSError, TypeError, KeyError, RecursionError):
            continue


def places_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places_in(inner, (*path, key))


def odd_value(rng: Rng) -> Any:
    if rng.random() < 0.03:
        deep: Any = 0
        for _ in range(3000):
            deep = [deep]
        return deep
    return ODD[int(rng.integers(len(ODD)))]


def change_document(content: Any, rng: Rng) -> Any:
    """Replace, remove, rename or add something in a parsed document."""
    for _ in range(int(rng.integers(1, 4))):
        found = [path for path in places_in(content) if path]
        if not found:
            return odd_value(rng)
        *above, key = found[int(rng.integers(len(found)))]
        target = content
        for part in above:
            target = target[part]
        choice = rng.random()
        if choice < 0.65:
            target[key] = odd_value(rng)
        elif choice < 0.8:
            del target[key]
        elif isinstance(target, dict):
            target[EVIL if choice < 0.9 else "added"] = target[key]
        else:
            target.insert(0, target[key])
    return content


def mutate_json(folder: Path, rng: Rng) -> None:
    path = any_file(folder, rng, ".json")
    try:
        content = json.loads(path.read_text())
    except ValueError:
        return
    content = change_document(content, rng)
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, dict) and "checksum" in part:
            with contextlib.suppress(RecursionError, TypeError):
                part["checksum"] = checksum_of(part)
    with contextlib.suppress(RecursionError):
        path.write_text(json.dumps(content))


def mutate_events(folder: Path, rng: Rng) -> None:
    path = folder / "events.jsonl"
    lines = path.read_text().splitlines()
    if not lines:
        return
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(len(lines)))
        choice = rng.random()
        if choice < 0.7:
            with contextlib.suppress(ValueError, RecursionError):
                lines[at] = json.dumps(change_document(json.loads(lines[at]), rng))
        elif choice < 0.8:
            lines[at] = lines[at][: int(rng.integers(len(lines[at]) + 1))]
        elif choice < 0.9:
            lines.insert(at, lines[int(rng.integers(len(lines)))])
        else:
            lines = lines[: at + 1] * int(rng.integers(2, 30))
    path.write_text("\n".join(lines) + "\n" * int(rng.integers(2)))


def mutate_experiment(folder: Path, rng: Rng) -> None:
    path = folder / "experiment.yaml"
    content = yaml.safe_load(path.read_text())
    if isinstance(content, dict):
        with contextlib.suppress(RecursionError, yaml.YAMLError):
            path.write_text(yaml.safe_dump(change_document(content, rng)))


def mutate_bytes(folder: Path, rng: Rng) -> None:
    path = any_file(folder, rng)
    data = bytearray(path.read_bytes())
    if not data:
        return
    choice, at = rng.random(), int(rng.integers(len(data)))
    if choice < 0.4:
        for _ in range(int(rng.integers(1, 9))):
            data[int(rng.integers(len(data)))] = int(rng.integers(256))
    elif choice < 0.6:
        del data[at:]
    elif choice < 0.75:
        data += rng.bytes(int(rng.integers(1, 3000)))
    elif choice < 0.9:
        stop = min(len(data), at + int(rng.integers(1, 99)))
        data[at:stop] = bytes(stop - at)
    else:
        data = bytearray(rng.bytes(len(data)))
    path.write_bytes(bytes(data))


def replace_file(folder: Path, rng: Rng) -> None:
    """Put something in the place of a file, or of a folder, that is none."""
    everything = sorted(path for path in folder.rglob("*") if path.name != "experiment.yaml")
    path = everything[int(rng.integers(len(everything)))] if rng.random() < 0.5 else any_file(folder, rng)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    REPLACEMENTS[int(rng.integers(len(REPLACEMENTS)))](path)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made, contextlib.chdir(path.parent):
        made.bind(path.name)


def a_large_hole(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(70 * 2**30)


REPLACEMENTS: tuple[Callable[[Path], object], ...] = (
    lambda path: None,
    lambda path: path.mkdir(),
    lambda path: path.write_bytes(b""),
    lambda path: os.mkfifo(path),
    a_socket,
    a_large_hole,
    lambda path: path.symlink_to("/dev/zero"),
    lambda path: path.symlink_to("/etc/passwd"),
    lambda path: path.symlink_to("/proc/self/environ"),
    lambda path: path.symlink_to("/"),
    lambda path: path.symlink_to(path.name),
    lambda path: path.symlink_to("nowhere"),
)


def mutate_history(folder: Path, rng: Rng) -> None:
    """Change what describes an array, or its numbers, so that all else stays whole."""
    frames = sorted(folder.glob("history.zarr/*/[0-9]*"))
    frame = frames[int(rng.integers(len(frames)))]
    arrays = sorted(path for path in frame.iterdir() if (path / "zarr.json").is_file())
    array = arrays[int(rng.integers(len(arrays)))]
    CRAFTED_ARRAYS[int(rng.integers(len(CRAFTED_ARRAYS)))](array)


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def chunk_of(array: Path) -> Path:
    return next(path for path in sorted(array.rglob("*")) if path.is_file() and path.name == "0")


def bomb(array: Path) -> None:
    """Three GiB of zeros in a few kilobytes, with the shape that fits."""
    import numcodecs

    edit(array / "zarr.json", lambda c: c.update(shape=[3072, 1024, 1024], data_type="uint8"))
    edit(
        array / "zarr.json", lambda c: c["chunk_grid"]["configuration"].update(chunk_shape=[3072, 1024, 1024])
    )
    shutil.rmtree(array / "c")
    chunk = array / "c/0/0/0"
    chunk.parent.mkdir(parents=True)
    chunk.write_bytes(numcodecs.Zstd().encode(bytes(2**20)) * 3)


def bomb_in_a_small_shape(array: Path) -> None:
    """The shape of a case, and a chunk that unpacks to much more."""
    import numcodecs

    chunk_of(array).write_bytes(numcodecs.Zstd().encode(bytes(2**28)))


class Shell:
    """What runs a command where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.mark}'",)


def format_2_with_pickle(array: Path) -> None:
    """An array of zarr format 2 whose codec unpickles what it reads."""
    mark = array.parents[2] / "OWNED"
    shutil.rmtree(array)
    array.mkdir()
    header = {
        "zarr_format": 2, "shape": [1], "chunks": [1], "dtype": "|O", "fill_value": None, "order": "C",
        "compressor": None, "filters": [{"id": "pickle", "protocol": 5}],
    }  # fmt: skip
    (array / ".zarray").write_text(json.dumps(header))
    (array / "0").write_bytes(pickle.dumps([Shell(mark)]))


def format_2_root(array: Path) -> None:
    root = array.parents[2]
    for path in root.rglob("zarr.json"):
        path.unlink()
    for path in (root, array.parents[1], array.parent):
        (path / ".zgroup").write_text('{"zarr_format": 2}')
    format_2_with_pickle(array)


def consolidated(array: Path) -> None:
    """Metadata of an array in that of its group, where zarr would look first."""
    inner = json.loads((array / "zarr.json").read_text())
    inner["codecs"] = [{"name": "numcodecs.pickle", "configuration": {"id": "pickle"}}]
    edit(
        array.parent / "zarr.json",
        lambda c: c.update(
            consolidated_metadata={
                "kind": "inline", "must_understand": False, "metadata": {array.name: inner}
            }
        ),
    )  # fmt: skip


def lost_chunk(array: Path) -> None:
    """Zarr does not store a chunk of zeros, so that a lost one is a volume of background."""
    chunk_of(array).unlink()


def named_with_escapes(array: Path) -> None:
    edit(array.parent / "zarr.json", lambda c: c["attributes"].update(case=EVIL))


def far_ahead(array: Path) -> None:
    shutil.copytree(array.parent, array.parent.with_name("999999999"))


def odd_digits(array: Path) -> None:
    shutil.copytree(array.parent, array.parent.with_name("²³"))


HARMLESS_ARRAYS = (lost_chunk, named_with_escapes, far_ahead, odd_digits)
CRAFTED_ARRAYS: tuple[Callable[[Path], object], ...] = (
    *HARMLESS_ARRAYS,
    bomb,
    bomb_in_a_small_shape,
    format_2_with_pickle,
    format_2_root,
    consolidated,
    lambda a: edit(a / "zarr.json", lambda c: c.update(shape=[10**30, 1, 1])),
    lambda a: edit(a / "zarr.json", lambda c: c.update(shape=[0] * len(c["shape"]))),
    lambda a: edit(a / "zarr.json", lambda c: c.update(shape=c["shape"][:-1])),
    lambda a: edit(a / "zarr.json", lambda c: c["shape"].__setitem__(0, c["shape"][0] + 1)),
    lambda a: edit(a / "zarr.json", lambda c: c.update(data_type="float64")),
    lambda a: edit(a / "zarr.json", lambda c: c.update(data_type="string")),
    lambda a: edit(a / "zarr.json", lambda c: c.update(codecs=[{"name": "vlen-utf8"}])),
    lambda a: edit(a / "zarr.json", lambda c: c["codecs"].insert(1, {"name": "numcodecs.pickle"})),
    lambda a: edit(a / "zarr.json", lambda c: c["codecs"].append({"name": "crc32c"})),
    lambda a: edit(a / "zarr.json", lambda c: c["chunk_grid"]["configuration"].update(chunk_shape=[1, 1, 1])),
    lambda a: edit(a / "zarr.json", lambda c: c.update(storage_transformers=[{"name": "x"}])),
    lambda a: edit(a / "zarr.json", lambda c: c.update(fill_value="NaN")),
    lambda a: edit(a / "zarr.json", lambda c: c.update(chunk_key_encoding={"name": "v2"})),
    lambda a: chunk_of(a).write_bytes(b""),
    lambda a: edit(a.parent / "zarr.json", lambda c: c["attributes"].update(step=10**30)),
    lambda a: edit(a.parent / "zarr.json", lambda c: c["attributes"].update(class_names=[EVIL])),
    lambda a: edit(a.parent / "zarr.json", lambda c: c["attributes"].update(class_names=[])),
    lambda a: edit(
        a.parent / "zarr.json", lambda c: c["attributes"].update(affine=np.zeros((4, 4)).tolist())
    ),
    lambda a: edit(a.parent / "zarr.json", lambda c: c["attributes"].update(affine=[[math.inf] * 4] * 4)),
    lambda a: edit(
        a.parent / "zarr.json", lambda c: c["attributes"].update(edges=[[0, 2**40], [0, 1], [0, 1]])
    ),
    lambda a: edit(a.parent / "zarr.json", lambda c: c["attributes"].update(edges=[[5, 0], [0, 1], [0, 1]])),
    lambda a: edit(a.parent / "zarr.json", lambda c: c["attributes"].update(edges=[[0, 16]] * 3)),
)


def checkpoint_of(folder: Path) -> Path:
    return folder / "checkpoints" / (folder / "checkpoints/last").read_text().strip()


def infinite_weights(folder: Path) -> None:
    from safetensors.numpy import load_file, save_file

    path = checkpoint_of(folder) / "weights.safetensors"
    tensors = load_file(path)
    next(iter(tensors.values())).ravel()[:1] = np.inf
    save_file(tensors, path)


def other_weights(folder: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(3, np.float32)}, checkpoint_of(folder) / "weights.safetensors")


def long_header(folder: Path) -> None:
    path = checkpoint_of(folder) / "weights.safetensors"
    path.write_bytes(struct.pack("<Q", 2**62) + path.read_bytes()[8:])


def state_that_runs_code(folder: Path) -> None:
    import torch

    torch.save({"optimiser": Shell(folder / "OWNED")}, checkpoint_of(folder) / "state.pt")


def packed_state(folder: Path) -> None:
    path = checkpoint_of(folder) / "state.pt"
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content + bytes(2**22))


def checksums_of_elsewhere(folder: Path) -> None:
    path = checkpoint_of(folder) / "meta.json"
    content = json.loads(path.read_text())
    content["sha256"]["../../../../dev/zero"] = "0" * 64
    path.write_text(json.dumps(with_checksum(content)))


def meta(folder: Path, **changes: Any) -> None:
    path = checkpoint_of(folder) / "meta.json"
    path.write_text(json.dumps(with_checksum({**json.loads(path.read_text()), **changes})))


def of_a_later_version(folder: Path) -> None:
    meta(folder, position={"epoch": 1, "unknown": 2})


CRAFTED_CHECKPOINTS: tuple[Callable[[Path], object], ...] = (
    infinite_weights,
    other_weights,
    long_header,
    state_that_runs_code,
    packed_state,
    checksums_of_elsewhere,
    lambda f: meta(f, channels=10**6),
    lambda f: meta(f, patch=[10**9] * 3),
    lambda f: meta(f, patch=[0, 0, 0]),
    lambda f: meta(f, classes={"names": [EVIL], "values": [[1]], "other_labels": "background"}),
    lambda f: meta(f, classes={"names": ["a", "b"], "values": [[1]], "other_labels": "background"}),
    lambda f: meta(
        f, preprocessing={"intensities": [{"kind": "z_score"}], "numbers": [{}], "spacing": [1e-9] * 3}
    ),
    lambda f: meta(f, preprocessing={"intensities": [{"kind": "nothing"}], "numbers": [], "spacing": None}),
    lambda f: meta(f, classes={"names": ["a"], "values": [[]], "other_labels": "background"}),
    lambda f: meta(f, patch=[16, 16]),
    lambda f: meta(f, best=math.nan, step=10**30),
    of_a_later_version,
    lambda f: (f / "checkpoints/last").write_text("step_../../x"),
    lambda f: (f / "checkpoints/last").write_text(""),
)


def crafted_checkpoint(folder: Path, rng: Rng) -> None:
    CRAFTED_CHECKPOINTS[int(rng.integers(len(CRAFTED_CHECKPOINTS)))](folder)


MUTATIONS: tuple[Callable[[Path, Rng], object], ...] = (
    mutate_json,
    mutate_json,
    mutate_events,
    mutate_events,
    mutate_experiment,
    mutate_bytes,
    mutate_bytes,
    replace_file,
    replace_file,
    mutate_history,
    crafted_checkpoint,
)


# --- archives ---


def member(name: str, content: bytes = b"x", **fields: Any) -> tuple[zipfile.ZipInfo, bytes]:
    info = zipfile.ZipInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


EXTRA_MEMBERS: tuple[Callable[[], tuple[zipfile.ZipInfo, bytes]], ...] = (
    lambda: member("../outside.txt"),
    lambda: member("run/../../outside.txt"),
    lambda: member("/tmp/outside.txt"),
    lambda: member("run\\..\\outside.txt"),
    lambda: member("C:/outside.txt"),
    lambda: member("run/link", b"/etc/passwd", external_attr=0o120777 << 16),
    lambda: member("run/pipe", b"", external_attr=0o010644 << 16),
    lambda: member("run/zeros", bytes(2**26), compress_type=zipfile.ZIP_DEFLATED),
    lambda: member("run/lzma", bytes(2**20), compress_type=zipfile.ZIP_LZMA),
    lambda: member("run/experiment.yaml", b"data: 3"),
    lambda: member("run/experiment.yaml/inside", b"data: 3"),
    lambda: member(f"run/{EVIL}"),
    lambda: member("run/" + "deep/" * 300 + "x"),
    lambda: member("run/" + "n" * 400),
    lambda: member("other/experiment.yaml", b"data: 3"),
)


def mutate_archive(content: bytes, rng: Rng) -> bytes:
    """Change bytes of an archive, or what is packed in it."""
    data = bytearray(content)
    choice = rng.random()
    if choice < 0.3:
        for _ in range(int(rng.integers(1, 9))):
            data[int(rng.integers(len(data)))] = int(rng.integers(256))
        return bytes(data)
    if choice < 0.4:
        return bytes(data[: int(rng.integers(len(data)))])
    if choice < 0.55:  # the table of contents is at the end
        for _ in range(int(rng.integers(1, 9))):
            at = len(data) - 1 - int(rng.integers(min(len(data), 4000)))
            data[at] ^= 1 << int(rng.integers(8))
        return bytes(data)
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(packed, "w") as after:
        members = [(info, before.read(info)) for info in before.infolist()]
        if choice < 0.8:
            members.insert(0, EXTRA_MEMBERS[int(rng.integers(len(EXTRA_MEMBERS)))]())
        else:
            at = int(rng.integers(len(members)))
            inside = bytearray(members[at][1] or b"x")
            inside[int(rng.integers(len(inside)))] ^= 255
            members[at] = (members[at][0], bytes(inside))
        for info, inner in members:
            import warnings

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a name twice
                after.writestr(info, inner)
    return packed.getvalue()


def use_archive(path: Path) -> str:
    """Do what people do with an archive of somebody else's."""
    ends = [cli("verify", str(path))[0], cli("replay", str(path), "--speed", "0")[0]]
    return "sentence" if any(ends) else "sound"


# --- trying one ---


def try_folder(good: Path, place: Path, rng: Rng, *, network: bool = True) -> str:
    """Mutate a copy of a good folder and use it; return how it ended, or raise what should not have happened."""
    folder = place / "run"
    _remove(folder)
    shutil.copytree(good, folder)
    for _ in range(int(rng.integers(1, 3))):
        with contextlib.suppress(OSError, StopIteration, RecursionError, ValueError):  # after the one before
            MUTATIONS[int(rng.integers(len(MUTATIONS)))](folder, rng)
    if rng.random() < 0.6:
        with contextlib.suppress(OSError):
            resealed_quickly(folder)
    return used(folder, place, network=network)


def resealed_quickly(folder: Path) -> None:
    """Reseal, unless something is there that cannot be read at once."""
    kept = [p for p in folder.glob("checkpoints/step_*/*") if p.is_symlink() or not p.is_file()]
    large = [p for p in folder.glob("checkpoints/step_*/*") if p.is_file() and p.stat().st_size > 2**24]
    if not kept and not large:
        resealed(folder)


def used(folder: Path, place: Path, *, network: bool = True) -> str:
    """Use a folder within the time, and see that nothing happened beside."""
    before = {path.name for path in place.iterdir()} | {"shared.zip"}
    with limited(SECONDS):
        end = use_folder(folder, place, network=network)
    assert not list(place.rglob("OWNED")), "code of the folder was run"
    assert {path.name for path in place.iterdir()} | {"shared.zip"} == before
    return end


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


# --- tests ---


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("hostile") / "run")


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "run"))


def test_an_untouched_folder_is_sound_and_so_is_its_archive(folder: Path, tmp_path: Path) -> None:
    findings = verify_run(folder)
    assert is_sound(findings) and {f.state for f in findings} == {"sound"}
    assert used(folder, tmp_path) == "sound"
    assert use_archive(share_run(folder, tmp_path / "run.zip", predictions=True).path) == "sound"
    assert fits_checksum_comment((folder / "experiment.yaml").read_text()) is True


@pytest.mark.parametrize("number", range(len(CRAFTED_ARRAYS)))
def test_a_crafted_history_is_never_opened(folder: Path, number: int) -> None:
    array = folder / "history.zarr/train/000000/prediction"
    CRAFTED_ARRAYS[number](array)
    with limited(SECONDS):
        refused = tried(lambda: list(_pictures(folder))) == 2
    assert not list(folder.rglob("OWNED"))
    assert refused is (CRAFTED_ARRAYS[number] not in HARMLESS_ARRAYS)


@pytest.mark.parametrize("number", range(len(CRAFTED_CHECKPOINTS)))
def test_a_crafted_checkpoint_ends_in_a_sentence(folder: Path, number: int) -> None:
    CRAFTED_CHECKPOINTS[number](folder)
    resealed(folder)
    with limited(SECONDS):
        findings = verify_run(folder)
        tried(lambda: Run(RunFolder.open(folder)))
    assert not list(folder.rglob("OWNED"))
    assert is_sound(findings) is (CRAFTED_CHECKPOINTS[number] is of_a_later_version)


FILES = (
    "run.json", "experiment.yaml", "provenance.json", "events.jsonl", "metrics.csv", "checkpoints/last",
    "checkpoints", "history.zarr", "history.zarr/zarr.json", "history.zarr/train/000000/prediction/c/0/0/0",
)  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_only_regular_files_inside_the_folder_are_read(folder: Path, name: str) -> None:
    path = folder / name
    for replacement in REPLACEMENTS[3 + FILES.index(name) % 2 : 11 : 2]:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        replacement(path)
        with limited(SECONDS):
            ends = [tried(lambda: _read_all(folder)), tried(lambda: RunFolder.open(folder).last_checkpoint())]
            ends.append(tried(lambda: [f.load() for f in open_run(folder).watched("train")]))
        assert any(ends) or name == "checkpoints/last", name
    with limited(SECONDS):
        problem = tried(lambda: _raise_unsound(folder))
    assert problem == 2, name


def _raise_unsound(folder: Path) -> None:
    if not is_sound(verify_run(folder)):
        raise DataError("It is damaged.")


@pytest.mark.parametrize("number", range(len(EXTRA_MEMBERS)))
def test_an_archive_writes_nothing_but_a_run(
    folder: Path, tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(unpacked))
    info, content = EXTRA_MEMBERS[number]()
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr(info, content)
        archive.write(folder / "experiment.yaml", "run/experiment.yaml.real")
    before = sorted(path.name for path in tmp_path.iterdir())
    with limited(SECONDS), pytest.raises(DataError), unpacked_run(tmp_path / "evil.zip") as place:
        verify_run(place)
    assert sorted(path.name for path in tmp_path.iterdir()) == before and not list(unpacked.iterdir())


def test_mutated_folders_end_in_a_result_or_a_sentence(good: Path, tmp_path: Path) -> None:
    rng, ends = np.random.default_rng(20261128), Counter[str]()
    for _ in range(5):
        ends[try_folder(good, tmp_path, rng, network=False)] += 1
    assert ends["sentence"] > 1, ends


def test_mutated_archives_end_in_a_result_or_a_sentence(good: Path, tmp_path: Path) -> None:
    rng, ends = np.random.default_rng(20261128), Counter[str]()
    content = share_run(good, tmp_path / "run.zip", weights=False).path.read_bytes()
    for _ in range(6):
        (tmp_path / "run.zip").write_bytes(mutate_archive(content, rng))
        with limited(SECONDS):
            ends[use_archive(tmp_path / "run.zip")] += 1
    assert ends["sentence"] > 1, ends


def test_an_unfinished_last_line_is_left_out_with_a_notice(folder: Path) -> None:
    path = folder / "events.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]) + lines[-1][:40])
    record = open_run(folder)
    assert len(record.events()) == len(lines) - 1
    (notice,) = record.notices()
    assert "unfinished" in notice.message
    assert "unfinished" in cli("replay", str(folder), "--speed", "0")[1]
    assert any(f.name == "events.jsonl" and f.state == "note" for f in verify_run(folder))
    assert cli("verify", str(folder))[0] == 0


def test_exit_code_and_json_of_verify(folder: Path) -> None:
    code, text = cli("verify", str(folder), "--json")
    assert code == 0 and json.loads(text)["sound"] is True
    data = bytearray((checkpoint_of(folder) / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    (checkpoint_of(folder) / "weights.safetensors").write_bytes(bytes(data))
    code, text = cli("verify", str(folder))
    assert code == 2 and "weights.safetensors has another checksum" in text and "Damaged: 1 of" in text


# --- a long run ---


def _child(kind: str, seed: int, first: int, last: int) -> None:
    """Try some in this process; a line per trial, so that the parent knows what a crash or hang was about."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        good = make_run(place / "good")
        content = share_run(good, place / "good.zip", predictions=True).path.read_bytes()
        for number in range(first, last):
            rng = np.random.default_rng([seed, number])
            sys.__stdout__.write(f"START {number}\n")  # type: ignore[union-attr]
            sys.__stdout__.flush()  # type: ignore[union-attr]
            inside = place / f"trial{number}"
            inside.mkdir()
            try:
                if kind == "folders":
                    end = try_folder(good, inside, rng)
                else:
                    (inside / "run.zip").write_bytes(mutate_archive(content, rng))
                    with limited(SECONDS):
                        end = use_archive(inside / "run.zip")
            except HangError:
                end = f"hang {_place()}"
            except BaseException as error:
                end = f"traceback {type(error).__name__}: {_place()}: {str(error)[:300]!r}"
            sys.__stdout__.write(f"END {end}\n")  # type: ignore[union-attr]
            sys.__stdout__.flush()  # type: ignore[union-attr]
            shutil.rmtree(inside, ignore_errors=True)


def _place() -> str:
    frames = traceback.extract_tb(sys.exc_info()[2])
    ours = [f for f in frames if "/segexplorer/" in f.filename] or frames
    return f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"


def _many(kind: str, seed: int, count: int, batch: int = 50) -> Counter[str]:
    ends: Counter[str] = Counter()
    number = 0
    while number < count:
        last = min(count, number + batch)
        words = [sys.executable, __file__, "--child", kind, str(seed), str(number), str(last)]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            text, errors = process.communicate(timeout=600 + 10 * SECONDS * (last - number))
            died = f"crash {process.returncode}"
        except subprocess.TimeoutExpired:
            process.kill()
            text, errors = process.communicate()
            died = "hang"
        started = -1
        for line in text.splitlines():
            word, _, rest = line.partition(" ")
            if word == "START":
                started = int(rest)
            elif word == "END":
                ends[rest.split()[0]] += 1
                if rest.split()[0] not in ("sound", "sentence"):
                    print(f"  {kind} seed {seed} number {started}: {rest}", flush=True)
                started = -1
        if started >= 0:
            ends[died] += 1
            print(f"  {kind} seed {seed} number {started}: {died}", flush=True)
            number = started + 1
        elif process.returncode:
            raise SystemExit(f"the child ended with {process.returncode}:\n{errors[-3000:]}")
        else:
            number = last
    return ends


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folders", type=int, default=600)
    parser.add_argument("--archives", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--child", nargs=4)
    given = parser.parse_args()
    if given.child:
        _child(given.child[0], *map(int, given.child[1:]))
        return 0
    failed = False
    for kind, count in (("folders", given.folders), ("archives", given.archives)):
        ends = _many(kind, given.seed, count)
        print(
            f"{kind}: {sum(ends.values())} mutated; " + ", ".join(f"{n} {k}" for k, n in sorted(ends.items()))
        )
        failed |= bool(set(ends) - {"sound", "sentence"})
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
