"""The Weights & Biases sink: offline, on this machine alone, and read back from the file that it writes."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from segexplorer.training.sinks import registry

pytestmark = pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed")

# wandb starts threads and a process of its own, so it is looked at in another process
CHECK = """
import json, sys
from pathlib import Path
from segexplorer.testing.sinks import check_sink
from segexplorer.training.sinks import registry
check_sink(registry.spec("wandb")(), Path(sys.argv[1]))
"""
READ = """
import json, sys
from wandb.proto.wandb_internal_pb2 import Record
content = open(sys.argv[1], "rb").read()
assert content[:4] == b":W&B"
def chunks(at=7, block=32768):  # LevelDB's log: checksum, length, type (1 whole, 4 last) of each chunk
    part = b""
    while at + 7 <= len(content):
        if block - at % block < 7:
            at += block - at % block
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        part += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield part
            part = b""
rows, config, ids = [], {}, []
for data in chunks():
    record = Record()
    record.ParseFromString(data)
    kind = record.WhichOneof("record_type")
    if kind == "history":
        items = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}
        rows.append(items)
    elif kind == "run":
        ids.append(record.run.run_id)
        config = {i.key: json.loads(i.value_json) for i in record.run.config.update}
print(json.dumps({"rows": rows, "config": config, "ids": ids}))
"""


class Watchman:
    """A server that stands for the whole internet, through proxies, and counts who calls."""

    def __init__(self) -> None:
        self.calls = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._count, daemon=True).start()

    def _count(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self.calls += 1
            connection.close()

    def close(self) -> None:
        self._server.close()


def test_offline_nothing_is_sent_and_the_curves_are_there(tmp_path: Path) -> None:
    watchman = Watchman()
    home = tmp_path / "home"
    home.mkdir()
    proxies = {
        name: watchman.url for p in ("http", "https", "all") for name in (f"{p}_proxy", f"{p.upper()}_PROXY")
    }
    environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    environment |= {**proxies, "NO_PROXY": "", "no_proxy": "", "HOME": str(home)}
    folder = tmp_path / "check"
    folder.mkdir()

    def python(program: str, argument: Path) -> str:
        done = subprocess.run(
            [sys.executable, "-c", program, str(argument)],
            env=environment, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert python(CHECK, folder) == ""  # it says nothing on the terminal
    first, second = sorted((folder / "run" / "wandb").glob("offline-run-*/*.wandb"))
    attempts = [json.loads(python(READ, file)) for file in (first, second)]
    assert attempts[0]["ids"][0] == attempts[1]["ids"][0] == (folder / "run" / "wandb" / "id").read_text()
    rows = {row["_step"]: row for row in attempts[0]["rows"]}
    assert rows[1]["train/loss"] == 0.9 and rows[1]["train/weights/dice"] == 0.5
    assert rows[2]["validation/dice/liver"] == 0.5 and rows[2]["epoch/loss"] == 0.85
    assert "validation/hd95/spleen" not in rows[2]  # NaN: it has no meaning for a missed class
    assert {row["_step"] for row in attempts[1]["rows"]} == {2, 3}
    config = attempts[0]["config"]
    assert config["network"]["kind"] == "unet" and not {"data", "split", "sinks"} & config.keys()
    watchman.close()
    assert watchman.calls == 0
    assert "case_a" not in first.read_bytes().decode("latin-1")


def test_it_is_offline_unless_asked() -> None:
    spec = registry.spec("wandb")()
    assert spec.plain() == {"kind": "wandb", "mode": "offline", "project": "segexplorer", "every_steps": 1}
