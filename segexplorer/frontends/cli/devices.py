"""`segexplorer train --devices N`, and `torchrun ... -m segexplorer train`: several processes train one run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from segexplorer.core.errors import ExitCode, SegExplorerError, SpecError
from segexplorer.training.compute import require_torch_distributed

if TYPE_CHECKING:
    from segexplorer.training.run import Run
    from segexplorer.training.team import Team


class SharedTraining:
    """How many devices share the run of one command, and their processes where torchrun has started them.

    Attributes
    ----------
    code
        How the command ends, for the processes of torchrun.
    """

    def __init__(self, devices: int | None, team: Team | None = None) -> None:
        self.devices, self.team = devices, team
        self.code: int = ExitCode.DONE

    def share(self, run: Run) -> None:
        """Have a run that is about to begin trained by all of them; it starts those of this machine itself."""
        run.devices, run.team = self.devices, self.team


@contextmanager
def shared_training(devices: int | None) -> Iterator[SharedTraining]:
    """Join the processes of torchrun, and end them with the command; one that is not the first follows.

    Raises
    ------
    SpecError
        When `devices` contradicts torchrun.
    """
    among = SharedTraining(devices)
    if "WORLD_SIZE" in os.environ and "RANK" in os.environ:
        require_torch_distributed()
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
