"""Where and how precisely to compute: device, precision and threads, and the `Runtime` that they resolve to.

Errors of torch and numpy that mean "out of memory" become a sentence with remedies here
(`translate_memory_errors`).
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from segexplorer.core.errors import NotEnoughMemoryError, SpecError
from segexplorer.core.fields import parameter
from segexplorer.core.spec import Spec

if TYPE_CHECKING:
    import torch


Precision = Literal["float32", "bfloat16", "float16"]


class Compute(Spec):
    """Device, precision and threads."""

    device: str = parameter(
        "auto",
        title="Device",
        description="auto takes an NVIDIA GPU where torch can use one, else the CPU. Or cpu, cuda, cuda:1.",
        resume="announce",
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = parameter(
        "auto",
        title="Precision",
        description="Precision of convolutions; losses always compute in float32. auto: bfloat16 where it pays.",
        resume="announce",
    )
    devices: int = parameter(
        1,
        title="Devices",
        description="How many GPUs of this machine share each step; the batch stays as it is, and is divided "
        "equally. With device cpu: processes, which share its cores.",
        ge=1,
        le=64,
        advanced=True,
        resume="free",
    )
    threads: int | None = parameter(
        None,
        title="CPU threads",
        description="None: all cores that this process may use, one fewer while a window is open, and no more than "
        "OMP_NUM_THREADS. Equal threads give equal numbers.",
        ge=1,
        le=1024,
        advanced=True,
        resume="announce",
    )
    cudnn_benchmark: bool = parameter(
        True,
        title="Try convolutions out",
        description="On an NVIDIA GPU, cuDNN times its ways to compute each convolution and takes the fastest: the "
        "first steps are slower, all others faster, since patches have one size. Off: its own choice, which is the "
        "same in every run; also better where whole volumes of many sizes are trained on.",
        advanced=True,
        resume="announce",
    )
    tf32: bool = parameter(
        False,
        title="TensorFloat-32",
        description="With precision float32 on an NVIDIA GPU, lets convolutions and matrix products use inputs of "
        "10 bits instead of 23, which is several times as fast. Off, since who asks for float32 wants its digits; "
        "bfloat16, which auto chooses on these GPUs, is faster still.",
        advanced=True,
        resume="announce",
    )
    compile: bool = parameter(
        False,
        title="Compile the network",
        description="Training steps run a version of the network that torch.compile makes, faster on a GPU; making "
        "it takes a minute at each start. Checkpoints are the same with and without. Where it cannot be made, the "
        "run says so and goes on with the network as it is.",
        advanced=True,
        resume="announce",
    )
    cache_gb: float = parameter(
        4.0,
        title="Memory for prepared cases",
        description="Of more cases, patches are read from the cache on the disk.",
        unit="GB",
        gt=0,
        advanced=True,
        resume="free",
    )
    case_gb: float | None = parameter(
        None,
        title="Memory for a whole case",
        description="Most that predicting, validating or scoring one whole case takes beside the network and the "
        "image. Large cases are worked on in pieces; where the pieces get small, some windows are predicted twice. "
        "None: half of the memory of this machine.",
        unit="GB",
        gt=0,
        advanced=True,
        resume="free",
    )
    cache_folder: str | None = parameter(
        None,
        title="Cache folder",
        description="Where prepared cases are kept for all runs, e.g. a team's folder. None: the folder that the "
        "environment variable SEGEXPLORER_CACHE names, else the system's place for caches.",
        path="folder",
        advanced=True,
        resume="free",
    )

    def case_bytes(self) -> int:
        """Return the bytes that a whole case may take on this machine."""
        if self.case_gb is not None:
            return int(self.case_gb * 1e9)
        return (memory_limit() or UNKNOWN_MEMORY) // 2


UNKNOWN_MEMORY = 8 * 2**30
"""Memory of a machine whose system does not say."""


_active: list[tuple[Runtime, _Flags]] = []
"""What is active now, in the order of entering, with the flags of torch that each came upon."""
_active_lock = threading.Lock()


_Float32 = Literal["none", "ieee", "tf32"]
"""How exactly torch multiplies in float32; "none": as its more general setting says."""


@dataclass(frozen=True)
class _Flags:
    """What torch keeps for the whole process."""

    threads: int
    benchmark: bool
    convolutions: _Float32
    products: _Float32

    @classmethod
    def now(cls) -> _Flags:
        import torch

        backends: Any = torch.backends  # its stubs lack most of it
        return cls(
            torch.get_num_threads(),
            backends.cudnn.benchmark,
            backends.cudnn.conv.fp32_precision,
            backends.cuda.matmul.fp32_precision,
        )

    def set(self) -> None:
        import torch

        torch.set_num_threads(self.threads)
        backends: Any = torch.backends
        backends.cudnn.benchmark = self.benchmark
        backends.cudnn.conv.fp32_precision = self.convolutions
        # of no use here, but code that asks for both at once is answered only where they agree
        backends.cudnn.rnn.fp32_precision = self.convolutions
        backends.cuda.matmul.fp32_precision = self.products


@dataclass(frozen=True)
class Runtime:
    """A resolved place to compute.

    Attributes
    ----------
    device, device_name
        torch device string and what people call it.
    precision
        Of the network's convolutions under autocast.
    threads
        torch CPU threads during the run.
    channels_last
        Whether network and images use the channels-last memory format.
    case_bytes
        What one whole case may take (`Compute.case_gb`).
    devices
        How many devices share each step; this is the runtime of one of them.
    cudnn_benchmark, tf32, compile
        As in `Compute`.
    """

    device: str
    device_name: str
    precision: Precision
    threads: int
    channels_last: bool
    case_bytes: int = UNKNOWN_MEMORY // 2
    devices: int = 1
    cudnn_benchmark: bool = False
    tf32: bool = False
    compile: bool = False

    @property
    def works_ahead(self) -> bool:
        """Whether the device takes orders and carries them out later, so that reading a number means waiting."""
        return self.device != "cpu"

    def switches(self) -> dict[str, bool]:
        """Return what else decides the last digits of results on this device, by the names of `Compute`."""
        found = {"compile": self.compile}
        if self.device.startswith("cuda"):
            found |= {"cudnn_benchmark": self.cudnn_benchmark, "tf32": self.tf32}
        return found

    def device_bytes(self, taken: int) -> int:
        """Return what the logits of a whole case may take on the device, where `taken` bytes are in use for it.

        On the CPU at least a quarter of `case_bytes`; on a GPU half of what is free there.
        """
        if self.device.startswith("cuda"):
            import torch

            free, _ = torch.cuda.mem_get_info(self.device)
            reserved = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
            return int(free + reserved) // 2
        return max(self.case_bytes // 4, self.case_bytes - taken)

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the autocast context of the forward pass."""
        import torch

        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.split(":")[0], dtype=getattr(torch, self.precision))

    def scaler(self) -> torch.amp.GradScaler:
        """Return the gradient scaler, which does nothing except for float16 on CUDA."""
        import torch

        on_cuda = self.device.startswith("cuda")
        return torch.amp.GradScaler(
            "cuda" if on_cuda else "cpu", enabled=on_cuda and self.precision == "float16"
        )

    def place(self, tensor: torch.Tensor) -> torch.Tensor:
        """Move an image batch to the device in the run's memory format."""
        import torch

        there = self.send(tensor)
        if self.channels_last and tensor.ndim in (4, 5):
            layout = torch.channels_last_3d if tensor.ndim == 5 else torch.channels_last
            return there.contiguous(memory_format=layout)
        return there

    def send(self, tensor: torch.Tensor) -> torch.Tensor:
        """Copy a tensor of the host to the device, which fetches it without anybody waiting."""
        from segexplorer.functional.transfer import sent

        return sent(tensor, self.device)

    def place_network(self, network: torch.nn.Module, dimensions: int) -> torch.nn.Module:
        """Move a network to the device in the run's memory format."""
        import torch

        if self.channels_last:
            layout: Any = torch.channels_last_3d if dimensions == 3 else torch.channels_last
            # torch has no overload for it in its stubs, though the argument is documented
            return network.to(self.device, memory_format=layout)  # type: ignore[call-overload,no-any-return]
        return network.to(self.device)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Set torch's thread count and, on CUDA, its flags for the duration.

        Runs that are iterated alternately (a race) end in any order; what was set before the first of them comes
        back with the last.
        """
        with _active_lock:
            found = _Flags.now()
            _active.append((self, found))
            own = replace(found, threads=self.threads)
            if self.device.startswith("cuda"):
                kind: _Float32 = "tf32" if self.tf32 else "ieee"
                own = replace(own, benchmark=self.cudnn_benchmark, convolutions=kind, products=kind)
            own.set()
        try:
            yield
        finally:
            with _active_lock:
                place = next(n for n, (runtime, _) in enumerate(_active) if runtime is self)
                _, before = _active.pop(place)
                if place < len(
                    _active
                ):  # a later one is still active: it returns to what was before this one
                    _active[place] = (_active[place][0], before)
                else:
                    before.set()

    def memory_in_use(self) -> int:
        """Return bytes in use: peak allocated on CUDA, resident memory of the process on the CPU."""
        import torch

        if self.device.startswith("cuda"):
            return int(torch.cuda.max_memory_allocated(self.device))
        return _resident_bytes()


def _resident_bytes() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)


def memory_limit(device: str = "cpu") -> int | None:
    """Return the bytes that this process may use at most: of the GPU, or of the machine and its control group.

    None where the system does not say.
    """
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.get_device_properties(device).total_memory)
    found: list[int] = []
    with contextlib.suppress(ValueError, OSError, AttributeError):  # no sysconf on Windows
        found.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for place in ("memory.max", "memory/memory.limit_in_bytes"):  # control groups of version 2 and 1
        with contextlib.suppress(OSError, ValueError):  # "max": no limit
            found.append(int(Path("/sys/fs/cgroup", place).read_text(encoding="ascii")))
    return min(found, default=None)


def resolve_compute(spec: Compute, *, window: bool = False) -> Runtime:
    """Resolve "auto" against this machine.

    Parameters
    ----------
    window
        Whether a viewer is open in this process; then one core is left to it (`usable_threads`).

    Raises
    ------
    SpecError
        For a device that torch cannot use here.
    """
    import torch

    device = spec.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise SpecError(f"There is no device {device!r}.", "Use auto, cpu, cuda or cuda:0.") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise SpecError("torch cannot use a CUDA GPU here.", gpu_remedy() or "Set compute.device to cpu.")
    if kind == "cuda" and (torch.device(device).index or 0) >= torch.cuda.device_count():
        raise SpecError(f"There is no {device}.", f"This machine has {torch.cuda.device_count()} GPU(s).")
    threads = spec.threads or usable_threads(window=window)
    precision: Precision = _auto_precision(kind) if spec.precision == "auto" else spec.precision
    if kind == "cpu" and precision == "float16":
        raise SpecError("float16 does not train on the CPU.", "Set compute.precision to bfloat16 or float32.")
    last = kind in ("cpu", "cuda")
    return Runtime(
        device,
        device_name(device),
        precision,
        threads,
        last,
        spec.case_bytes(),
        cudnn_benchmark=spec.cudnn_benchmark,
        tf32=spec.tf32,
        compile=spec.compile,
    )


def require_divisible(batch_size: int, count: int) -> None:
    """Make sure that a batch can be divided equally among so many devices.

    Raises
    ------
    SpecError
        When it cannot.
    """
    if count < 1:
        raise SpecError(f"A run cannot be trained on {count} devices.", "Use 1 or more.")
    if batch_size % count:
        raise SpecError(
            f"A batch of {batch_size} cannot be divided equally among {count} devices.",
            f"Set sampling.batch_size to a multiple of {count}, or use another number of devices.",
        )


def require_devices(device: str, count: int) -> None:
    """Make sure that this machine has a device for each of so many processes.

    Parameters
    ----------
    device
        As `compute.device` says.

    Raises
    ------
    SpecError
        When one of several GPUs is named, or there are fewer.
    """
    if count == 1:
        return
    if device.startswith("cuda:"):
        raise SpecError(
            f"compute.device is {device}, which is one device, and {count} are wanted.",
            "Set compute.device to auto or cuda, and CUDA_VISIBLE_DEVICES to the GPUs that may be used.",
        )
    import torch

    if device == "cpu" or not torch.cuda.is_available():
        return
    if count > (there := torch.cuda.device_count()):
        raise SpecError(
            f"This machine has {there} GPU{'' if there == 1 else 's'}, not {count}.",
            f"Use {there}, or set compute.device to cpu.",
        )


def require_torch_distributed() -> None:
    """Make sure that this torch can train on several devices.

    Raises
    ------
    SpecError
        When it was built without its distributed package.
    """
    import torch.distributed

    if not torch.distributed.is_available():
        raise SpecError(
            "This torch was built without its distributed package.",
            "Install torch from pytorch.org, or train on one device.",
        )


def _auto_precision(kind: str) -> Precision:
    import torch

    if kind == "cpu":
        return "bfloat16" if _cpu_multiplies_bfloat16() else "float32"
    if kind == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    return "float32"


def _cpu_multiplies_bfloat16() -> bool:
    """Whether the CPU has bfloat16 instructions; emulated ones are slower than float32."""
    import torch

    return (
        "amx_bf16" in _cpu_flags()
        or "avx512_bf16" in _cpu_flags()
        or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


def _cpu_flags() -> set[str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            for line in file:
                if line.startswith(("flags", "Features")):
                    return set(line.split(":", 1)[1].split())
    except OSError:
        pass
    return set()


def device_name(device: str) -> str:
    """Return what people call the device, e.g. "NVIDIA H200 (139 GiB)" or "CPU, 2 cores"."""
    import torch

    if device.startswith("cuda"):
        properties = torch.cuda.get_device_properties(device)
        return f"{properties.name} ({properties.total_memory / 2**30:.0f} GiB)"
    return f"CPU, {cores()} core{'s' if cores() > 1 else ''}" if device == "cpu" else device


def gpu_count() -> int:
    """Return how many GPUs torch can use here."""
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def gpu_remedy() -> str:
    """Return the command that makes an NVIDIA GPU usable by torch, "" where none is needed."""
    import shutil

    import torch

    if torch.cuda.is_available() or shutil.which("nvidia-smi") is None:
        return ""
    if torch.version.cuda is None:
        return (
            "This torch is a CPU build. Run: pip install --force-reinstall torch "
            "--index-url https://download.pytorch.org/whl/cu128"
        )
    return f"torch was built for CUDA {torch.version.cuda}; update the NVIDIA driver, then restart."


# ---- cores and threads


def usable_threads(*, window: bool = False, environment: Mapping[str, str] = os.environ) -> int:
    """Return how many threads a run takes where its experiment does not say so, at least 1.

    Parameters
    ----------
    window
        Whether a viewer is open in this process; then one core is left to it (measured on 2 cores: 231 training
        steps beside a window with one thread, 43 with two, for OpenMP waits by spinning).
    environment
        `OMP_NUM_THREADS`, "8" or "8,2" (of nested levels), is the most that is taken.
    """
    free = cores(environment=environment) - (1 if window else 0)
    asked = _positive(environment.get("OMP_NUM_THREADS", "").partition(",")[0])
    return max(1, free if asked is None else min(free, asked))


def cores(*, environment: Mapping[str, str] = os.environ, root: Path = Path("/")) -> int:
    """Return how many CPU cores this process may use, at least 1.

    That is the least of those that it is bound to, those that SLURM gave to each task (`SLURM_CPUS_PER_TASK`) and
    the quota of its control group. The quota is rounded down: threads beyond it would wait for one another.

    Parameters
    ----------
    root
        Where `proc` and `sys` are mounted.
    """
    allowed = getattr(os, "sched_getaffinity", None)  # Linux alone has it
    bound = len(allowed(0)) if allowed is not None else os.cpu_count() or 1
    quota = _quota(root)
    limits = (bound, _positive(environment.get("SLURM_CPUS_PER_TASK", "")), quota)
    return max(1, int(min(limit for limit in limits if limit is not None)))


def _positive(text: str) -> int | None:
    return int(text) if text.strip().isdecimal() and int(text) > 0 else None


def _quota(root: Path) -> float | None:
    """Return the processor time per time that the control groups of this process allow; None without a limit.

    A group is limited by those above it, too. See cgroups(7): version 2 has `cpu.max`, version 1 two files.
    """
    limits = []
    for folder, top in _control_groups(root):
        while True:
            limits.append(_limit(folder))
            if folder == top:
                break
            folder = folder.parent
    return min((limit for limit in limits if limit is not None), default=None)


def _control_groups(root: Path) -> Iterator[tuple[Path, Path]]:
    """Yield (folder of this process's group, folder where its hierarchy is mounted) for those that limit the CPU.

    In a container, only a part of the hierarchy may be mounted; `mountinfo` says which one (proc(5)).
    """
    groups: dict[str, str] = {}  # controller -> group; version 2 has no controllers here
    for line in _lines_of(root / "proc/self/cgroup"):
        _, controllers, group = line.split(":", 2)
        groups.update(dict.fromkeys(controllers.split(","), group))
    for line in _lines_of(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        own = groups.get("" if kind == "cgroup2" else "cpu")
        if own is None or not (kind == "cgroup2" or (kind == "cgroup" and "cpu" in options.split(","))):
            continue
        mounted, at = before.split(" ")[3:5]
        top = root / at.lstrip("/")
        below = Path(own).relative_to(mounted) if Path(own).is_relative_to(mounted) else Path()
        yield top / below, top


def _limit(folder: Path) -> float | None:
    """Return the quota of one group as a number of cores."""
    if lines := _lines_of(folder / "cpu.max"):
        quota, _, period = lines[0].partition(" ")
    else:
        quota, period = ("".join(_lines_of(folder / f"cpu.cfs_{name}_us")) for name in ("quota", "period"))
    time, each = _positive(quota), _positive(period)  # "max" or "-1" is no limit
    return None if time is None or each is None else time / each


def _lines_of(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


# ---- out of memory

_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "CUDA out of memory")
"""Texts of the plain RuntimeErrors by which torch reports it."""


@contextmanager
def translate_memory_errors() -> Iterator[None]:
    """Turn "out of memory" within the block into an error of the machine.

    Raises
    ------
    NotEnoughMemoryError
        With three remedies.
    """
    try:
        yield
    except Exception as error:
        if not _is_out_of_memory(error):
            raise
        raise NotEnoughMemoryError(
            "There is not enough memory for this step.",
            "Use smaller patches (sampling.patch_size), fewer per batch (sampling.batch_size), "
            "or a smaller network (fewer features); the last checkpoint is kept.",
        ) from error


def _is_out_of_memory(error: Exception) -> bool:
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or any(text in str(error) for text in _OUT_OF_MEMORY)
