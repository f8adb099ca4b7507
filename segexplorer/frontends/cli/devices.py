"""`segexplorer train --devices N`, and `torchrun ... -m segexplorer train`: several processes train one run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from segexplorer.core.errors import ExitCode, SegExplorerError, SpecError, require

if TYPE_CHECKING:
    from segexplorer.training.run import Run
    from segexplorer.training.team import Team


class SharedTraining:
    """One command's team of processes; of one device there is none.

    Attributes
    ----------
    code
        How the command ends, for the other processes.
    """

    def __init__(self, devices: int, team: Team | None = None) -> None:
        self.devices, self.team = devices, team
        self.code: int = ExitCode.DONE

    def share(self, run: Run) -> None:
        """Have the other processes take part in a run that is about to begin; they are started here.

        Raises
        ------
        SpecError
            When there are not so many devices, or the batch cannot be divided.
        """
        if self.devices > 1 and self.team is None:
            from segexplorer.training.team import launch, require_devices, require_divisible

            require_divisible(run.experiment.sampling.batch_size, self.devices)
            require_devices(run.experiment.compute.device, self.devices)
            self.team = launch(self.devices)
        run.team = self.team


@contextmanager
def shared_training(devices: int | None) -> Iterator[SharedTraining]:
    """Make the team of a command, and end its other processes with it; a process that torchrun started may follow.

    Raises
    ------
    SpecError
        When `devices` contradicts torchrun.
    """
    require_distributed = devices is not None and devices > 1
    import os

    started = "WORLD_SIZE" in os.environ and "RANK" in os.environ
    among = SharedTraining(devices or 1)
    if require_distributed or started:
        _require_torch_distributed()
        from segexplorer.training.team import join, launched_by_others

        if (processes := launched_by_others()) > 1:
            if devices is not None and devices != processes:
                raise SpecError(
                    f"--devices is {devices}, and torchrun has started {processes} processes.",
                    "Leave --devices out; torchrun --nproc-per-node decides.",
                )
            if int(os.environ["RANK"]) > 0:
                from segexplorer.training.followers import follow

                follow(join())
            among = SharedTraining(processes, join())
    try:
        yield among
    except SegExplorerError as error:
        among.code = error.exit_code
        raise
    except BaseException:
        among.code = ExitCode.INTERRUPTED
        raise
    finally:
        if among.team is not None:
            among.team.end(among.code)


def _require_torch_distributed() -> None:
    dist = require("torch.distributed", "", "Training on several devices")
    if not dist.is_available():
        raise SpecError(
            "This torch was built without its distributed package.",
            "Install torch from pytorch.org, or train on one device.",
        )
