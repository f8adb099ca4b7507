"""The `cluster:` section of a study's file: where its runs are trained, and what each of them may use.

```yaml
cluster:
  kind: slurm
  partition: gpu
  gpus: 1
  cpus: 8
  memory: 48          # GB
  time: 24            # hours
  max_jobs: 20        # at once
  setup: [module load cuda, source ~/venv/bin/activate]
```

No run knows of it: the same study may be trained here today and there tomorrow, and its runs are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import StringConstraints

from segexplorer.core.errors import SpecError
from segexplorer.core.fields import parameter
from segexplorer.core.spec import Spec
from segexplorer.training.compute import require_divisible
from segexplorer.training.experiment import CLUSTER, Experiment, read_yaml

EngineKind = Literal["local", "slurm", "ray"]
ENGINES: tuple[EngineKind, ...] = get_args(EngineKind)

_Line = Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=r"^[^\n\r\x00]*$")]
_Word = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\s\x00]+$")]
_Option = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*$")]


class Cluster(Spec):
    """Where a study trains, and what each of its runs may use."""

    kind: EngineKind | None = parameter(
        None,
        title="Scheduler",
        description="local: several runs at once on this computer; slurm: job arrays; ray: tasks of a Ray cluster. "
        "None: one run after the other in the process itself. `--on` overrides it.",
    )
    partition: _Word | None = parameter(
        None, title="Partition", description="Of SLURM. None: the cluster's own choice."
    )
    gpus: int | None = parameter(
        None,
        title="GPUs of a run",
        description="Several share each step of the run. None: as many as compute.devices where the scheduler is "
        "local or Ray and has GPUs, unless compute.device is cpu; under SLURM none where that is 1.",
        ge=0,
        le=64,
    )
    cpus: int | None = parameter(
        None,
        title="CPU cores of a run",
        description="None: compute.threads for each device; where that is None too, an equal share of the cores "
        "for each run at once with a GPU, and one core for each device without.",
        ge=1,
        le=1024,
    )
    memory: float | None = parameter(
        None,
        title="Memory of a run",
        description="None: what the first run is estimated to need; under SLURM the partition's own choice.",
        unit="GB",
        gt=0,
    )
    time: float | None = parameter(
        None,
        title="Time limit of a job",
        description="A run that takes longer saves its state shortly before, and goes on in a further job. "
        "None: 24 hours.",
        unit="hours",
        gt=0,
        le=2000,
    )
    max_jobs: int | None = parameter(
        None,
        title="Jobs at once",
        description="None: as many as there is room for. `--jobs` overrides it.",
        ge=1,
        le=10000,
    )
    setup: tuple[_Line, ...] = parameter(
        (),
        title="Lines before each run",
        description="Shell commands that a job of SLURM begins with, e.g. module load cuda.",
    )
    options: dict[_Option, str | int | bool] = parameter(
        {},
        title="Options of sbatch",
        description="Further options of a job of SLURM by their long names, e.g. {account: lab, qos: long}.",
    )


def devices_of(experiment: Experiment, gpus: int | None) -> int:
    """Return how many devices share the steps of a run that gets so many GPUs (None: it is not said).

    Raises
    ------
    SpecError
        When it gets fewer than `compute.devices` asks for, or its batch cannot be divided.
    """
    asked = experiment.compute.devices
    if experiment.compute.device != "cpu" and gpus is not None and gpus > 0:
        if asked not in (1, gpus):
            raise SpecError(
                f"compute.devices is {asked}, and cluster.gpus is {gpus}.",
                "Leave one of them out: each GPU of a run is one of its devices.",
            )
        asked = gpus
    require_divisible(experiment.sampling.batch_size, asked)
    return asked


def cpus_of(experiment: Experiment, cluster: Cluster) -> int | None:
    """Return the CPU cores that a run is to have; None where neither file nor experiment says it."""
    if cluster.cpus is not None or experiment.compute.threads is None:
        return cluster.cpus
    return devices_of(experiment, cluster.gpus) * experiment.compute.threads


def read_cluster(file: Path, **changes: Any) -> Cluster:
    """Return the `cluster:` section of a study's file; an empty one where there is none.

    Parameters
    ----------
    changes
        Settings of the command line in place of those of the file; None: that of the file.

    Raises
    ------
    SpecError
        Naming every setting at fault.
    """
    section = read_yaml(file).get(CLUSTER) or {}
    if not isinstance(section, Mapping):
        raise SpecError(
            f"cluster: of {file.name} is no mapping.", "Write e.g. cluster: {kind: slurm, gpus: 1}."
        )
    given = {name: value for name, value in changes.items() if value is not None}
    return Cluster.of({**section, **given}, f"cluster: of {file.name}")
