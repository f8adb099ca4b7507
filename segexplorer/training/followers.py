"""What the leader of a team tells its followers, and what they do: the second half of data-parallel training.

A follower has network, optimiser and loss, and makes its part of each batch. It has no run folder, validates
nothing, and decides nothing: each order for a step says where training is, at which learning rate, with which
settings and with which adaptive numbers of the loss. So commands, live changes, schedules and whatever adapts are
the leader's alone, and equal everywhere. Weights and optimiser are sent once, at the beginning; from then on
every process makes the same steps.

`python -m segexplorer.training.followers` is a follower that `team.launch` starts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from segexplorer.core.errors import DataError
from segexplorer.core.events import Role
from segexplorer.data.sampler import Batch, Loader, Sampler, Sampling
from segexplorer.data.transforms import FittedPreprocessing
from segexplorer.training.compute import Runtime, cores, resolve_compute, translate_memory_errors
from segexplorer.training.experiment import Experiment
from segexplorer.training.learner import Learner
from segexplorer.training.plan import Plan

if TYPE_CHECKING:
    from segexplorer.training.progress import Position
    from segexplorer.training.team import Team


class Leader:
    """The orders that the leading process gives, one before each step that it takes itself.

    Parameters
    ----------
    team
        Of which this process is the first.
    plan, experiment, learner
        What the leader trains: everything that the followers need to do the same.
    """

    def __init__(self, team: Team, plan: Plan, experiment: Experiment, learner: Learner) -> None:
        self.team, self.learner = team, learner
        self._experiment = experiment
        with team.together():
            team.tell(
                {
                    "experiment": experiment.plain(),
                    "plan": _plain_plan(plan),
                    "steps": plan.steps,
                    "network": {k: v.detach().cpu() for k, v in learner.network.state_dict().items()},
                    "state": learner.state(),
                }
            )

    def step(self, position: Position, experiment: Experiment, *, rate: float) -> None:
        """Have the followers take a step with this process, at a learning rate."""
        changed, self._experiment = experiment != self._experiment, experiment
        with self.team.together():
            self.team.tell(
                {
                    "epoch": position.epoch,
                    "index": position.index,
                    "step": position.step,
                    "rate": rate,
                    "adapted": {k: v.detach().cpu() for k, v in self.learner.loss.named_buffers()},
                    "experiment": experiment.plain() if changed else None,
                }
            )


def _plain_plan(plan: Plan) -> dict[str, Any]:
    return {
        "roles": dict(plan.roles),
        "fitted": plan.fitted.plain(),
        "sampling": plan.sampling.plain(),
        "patch": None if plan.patch is None else list(plan.patch),
        "divisor": list(plan.divisor),
        "steps_per_epoch": plan.steps_per_epoch,
        "channels": plan.channels,
        "precision": plan.runtime.precision,
    }


def follow(team: Team) -> NoReturn:
    """Follow the leader until it ends this process; where that fails, this process ends itself, and says why."""
    try:
        order = team.hear()
        follower = Follower(team, order)
        with follower.learner.runtime.active():
            while True:
                follower.step(team.hear())
    except BaseException as error:  # noqa: BLE001  the leader tells it
        team.fail(error)


class Follower:
    """Makes the steps of the leader.

    Parameters
    ----------
    team
        Of which this process is one, not the first.
    order
        The first one.
    """

    def __init__(self, team: Team, order: dict[str, Any]) -> None:
        from segexplorer.losses.base import partitions_in

        experiment = Experiment.of(order["experiment"])
        asked = experiment.compute
        plan = _plan_of(order["plan"], experiment, team.runtime(resolve_compute(asked), asked))
        store = plan.open_store(processes=team.local_size)
        self.learner = Learner(
            experiment,
            plan.runtime,
            channels=plan.channels,
            classes=len(plan.class_names) + 1,
            scheme=plan.classes.scheme,
            steps=int(order["steps"]),
            team=team,
        )
        self.learner.network.load_state_dict(order["network"])
        self.learner.load(order["state"])
        sampler = Sampler(
            store,
            plan.ids("train"),
            plan.sampling,
            experiment.augmentation,
            experiment.seed,
            partitions_in(experiment.loss),
            share=team.share,
        )
        self._loader, self._store = loader_of(sampler, plan.runtime), store

    def step(self, order: dict[str, Any]) -> None:
        """Take the step that an order describes."""
        if order["experiment"] is not None:
            self.learner.apply(Experiment.of(order["experiment"]))
        self.learner.loss.load_state_dict(order["adapted"], strict=False)
        batch = self._loader.batch(order["epoch"], order["index"])
        self._store.take_notes()  # the leader tells what it finds in its own cases
        with translate_memory_errors():
            self.learner.step(batch, order["step"], order["epoch"], rate=float(order["rate"]))


def loader_of(sampler: Sampler, runtime: Runtime) -> Loader:
    """Return the loader of a sampler's batches; ahead of a GPU several are prepared at once."""
    on_gpu = runtime.device.startswith("cuda")
    if not on_gpu:
        return Loader(sampler, workers=1, ahead=2)
    return Loader(sampler, workers=min(4, cores()), ahead=8, finish=_pinned)


def _pinned(batch: Batch) -> Batch:
    """Return a batch in page-locked memory, from which a GPU copies while it computes."""
    import torch

    def pinned(array: np.ndarray) -> np.ndarray:
        return torch.from_numpy(array).pin_memory().numpy()

    maps = {name: pinned(pieces) for name, pieces in batch.maps.items()}
    return replace(batch, images=pinned(batch.images), labels=pinned(batch.labels), maps=maps)


def _plan_of(plain: dict[str, Any], experiment: Experiment, runtime: Runtime) -> Plan:
    """Return the leader's plan on this machine, without what only the leader needs: checks, memory, watched cases.

    Raises
    ------
    DataError
        When a case that the leader trains on is not here.
    """
    refs = {ref.id: ref for ref in experiment.data.cases() if ref.id in plain["roles"]}
    if missing := plain["roles"].keys() - refs.keys():
        raise DataError(
            f"The case {min(missing)} is not on this computer.", "All nodes have to see the same data folder."
        )
    roles: dict[str, Role] = plain["roles"]
    return Plan(
        experiment=experiment,
        refs=refs,
        roles=roles,
        classes=experiment.data.class_map(),
        fitted=FittedPreprocessing.of(plain["fitted"]),
        sampling=Sampling.of(plain["sampling"]),
        patch=None if plain["patch"] is None else tuple(plain["patch"]),
        divisor=tuple(plain["divisor"]),
        steps_per_epoch=int(plain["steps_per_epoch"]),
        channels=int(plain["channels"]),
        runtime=replace(runtime, precision=plain["precision"]),
        network_parameters=0,
        memory_bytes=0,
        problems=(),
        badges=(),
        watched={},
    )


def main() -> None:
    """Join the team that the environment describes, and follow."""
    from segexplorer.training.team import join

    follow(join())


if __name__ == "__main__":
    main()
