"""The moving average of the weights: floats follow slowly, counters and indices at once."""

from __future__ import annotations

from collections.abc import Callable

import torch

from segexplorer.training.checkpoint import open_checkpoint
from segexplorer.training.run import Run


def test_integers_are_taken_over_and_floats_averaged(make_run: Callable[..., Run]) -> None:
    """Attention keeps tables of indices as buffers; torch's own average rounds some of them down."""
    run = make_run("run", network__normalisation="batch", validation__average_weights=0.9)
    list(run)
    networks = [run.experiment.network.build(dimensions=3, in_channels=1, out_channels=8) for _ in range(2)]
    checkpoint = open_checkpoint(run.folder / "checkpoints", "last")[0]
    for network, average in zip(networks, (False, True), strict=True):
        checkpoint.load_weights(network, average=average)
    last, averaged = (network.state_dict() for network in networks)
    counters = [n for n, v in last.items() if not v.is_floating_point()]
    assert counters and all(int(last[n]) == 6 for n in counters)
    assert all(torch.equal(averaged[n], last[n]) for n in counters)
    assert not torch.equal(averaged["head.weight"], last["head.weight"])
