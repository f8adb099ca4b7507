"""docs/networks.md names every network and preset, with the numbers that the code gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from segexplorer import networks
from segexplorer.networks.cost import cost
from segexplorer.networks.deep_supervision import SupervisedNetwork

TEXT = (Path(__file__).parents[2] / "docs" / "networks.md").read_text(encoding="utf-8")
ROWS = {
    cells[0].strip("`"): cells
    for line in TEXT.splitlines()
    if line.startswith("| `") and len(cells := [c.strip() for c in line.strip("|").split("|")]) == 7
}
OWN = [k for k, s in networks.registry.specs().items() if s.__module__.startswith("segexplorer.")]


@pytest.mark.parametrize("kind", OWN)
def test_the_table_is_true(kind: str) -> None:
    spec = networks.spec(kind)
    if missing := spec.missing_packages():
        pytest.skip(f"{kind} needs {', '.join(missing)}")
    _, _, parameters, operations, memory, divisor, supervised = ROWS[kind]
    network = spec()
    count = network.parameter_count(dimensions=3, in_channels=1, out_channels=2)
    assert f"{count / 1e6:.1f} M" == parameters
    assert f"{cost(network, (96, 96, 96)).flops / 1e9:,.0f}" == operations
    needed = network.memory_estimate((96, 96, 96), 2, in_channels=1, out_channels=2)
    assert float(memory) == pytest.approx(needed / 2**30, abs=0.06)
    assert network.divisor(3) == (int(divisor),) * 3
    assert (supervised == "yes") == isinstance(network, SupervisedNetwork)


def test_every_preset_is_named() -> None:
    own = [n for n in networks.registry.presets() if n.startswith("paper")]
    assert [n for n in own if f"`{n}`" not in TEXT] == []
