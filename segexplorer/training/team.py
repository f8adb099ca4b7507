"""Several processes that train one network together, each on a device of its own (data-parallel training).

Every process has the same network and makes its own part of each batch. The loss is computed from the predictions
of *all* of them: `Team.gather` collects logits, labels and what the loss knows beyond, in the order of the batch,
and each process gets the gradient of its own part back. Averaging the losses of the parts would be another loss
where it is no mean over samples (ratios over the batch, top-k, Lovász, means over voxels that are not ignored).
The gradients of the network are then added up. Batch normalisation takes its statistics from the whole batch, and
dropout draws the mask of the whole batch, so that N devices compute what one would, but for rounding.

The first process, the leader, is an ordinary run. The others follow it (`training.followers`). The collective
calls are torch.distributed's: gloo between CPUs and for orders, NCCL between GPUs.
"""

from __future__ import annotations

import io
import json
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]
from torch.nn import functional

from segexplorer.core import errors
from segexplorer.core.errors import ExitCode, MachineError, RunStateError, SegExplorerError
from segexplorer.core.regions import PatchRegions
from segexplorer.functional.inputs import LossContext
from segexplorer.functional.regions import BatchRegions
from segexplorer.training.compute import require_devices

if TYPE_CHECKING:
    from segexplorer.training.compute import Compute, Runtime

POLL_SECONDS = 0.25
LEAVING_SECONDS = 15.0
"""How long the end of one process waits for the others to end by themselves."""
JOINING_SECONDS = 300.0
_FOREVER = timedelta(days=20)
"""Followers wait for the next order as long as a run is paused or validates; who dies closes its connections."""
_ALIGNED = 16
"""Bytes of the largest numbers that torch has."""
_PLACES = ("spacing", "origin", "volume_shape")
"""What a loss knows of each sample as numpy arrays, (B, axes) each."""
_ORDER_BYTES = 4096
"""Length of the message that most orders fit into, so that they take one broadcast."""
_LOOPBACK = {"linux": "lo", "darwin": "lo0"}


class Team:
    """The processes that share the steps of a run; use `launch` or `join`.

    Attributes
    ----------
    rank, size
        Number of this process, 0 for the leader, and how many there are.
    local_rank, local_size
        The same among the processes of this machine.
    """

    def __init__(
        self,
        store: Store,
        rank: int,
        size: int,
        *,
        local_rank: int | None = None,
        local_size: int | None = None,
        backend: str | None = None,
        followers: Sequence[_Follower] = (),
        on_preempted: Callable[[], object] | None = None,
        window: bool = False,
    ) -> None:
        self.rank, self.size = rank, size
        self.local_rank = rank if local_rank is None else local_rank
        self.local_size = size if local_size is None else local_size
        self._followers, self._store = followers, store
        self._on_preempted, self._window = on_preempted, window
        self._trouble: SegExplorerError | None = None
        self._ended = threading.Event()
        self._await_followers()
        if backend is None:
            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        with self._joining():
            dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_FOREVER)
        watch, arguments = (self._watch_leader, (_catch_term(),)) if rank else (self._watch_followers, ())
        threading.Thread(target=watch, args=arguments, name="segexplorer team", daemon=True).start()

    def _await_followers(self) -> None:
        """Wait until those that this process has started can be talked to; one that dies before says why.

        Raises
        ------
        MachineError
            When one of them has died.
        """
        if self.rank:
            self._store.add("here", 1)
        while self._followers and self._store.add("here", 0) < self.size - 1:
            dead = next((f for f in self._followers if f.process.poll() is not None), None)
            if dead is not None:
                how = dead.last_words()
                for follower in self._followers:
                    follower.process.kill()
                    follower.end()
                raise _died(how)
            time.sleep(0.05)

    def __deepcopy__(self, memo: dict[int, Any]) -> Team:
        """Return itself: the copy of a network whose layers know their team still belongs to it."""
        return self

    @contextmanager
    def _joining(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            raise MachineError(
                f"The {self.size} processes of the training could not connect: {errors.shorten(str(error), 160)}",
                "Set GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME to the network between the machines, and try again.",
            ) from error

    # ---- what every process does with the others

    @property
    def share(self) -> tuple[int, int]:
        """Which part of a batch is this process's: (number, count)."""
        return self.rank, self.size

    def runtime(self, runtime: Runtime, asked: Compute) -> Runtime:
        """Return where this process computes: its own GPU, or its part of the cores.

        Raises
        ------
        SpecError
            When there are fewer GPUs than processes.
        """
        if runtime.device.startswith("cuda"):
            require_devices(asked.device, self.local_size)
            device = f"cuda:{self.local_rank}"
            torch.cuda.set_device(device)
            return replace(runtime, device=device, devices=self.size)
        threads = asked.threads or max(1, runtime.threads // self.local_size)
        return replace(runtime, threads=threads, devices=self.size)

    def share_layers(self, network: nn.Module) -> nn.Module:
        """Exchange the layers that depend on the batch for those of the whole batch, in place.

        Names and values of the weights stay, so that checkpoints fit any number of devices.
        """
        if next(network.parameters()).device.type == "cuda":
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        for module in list(network.modules()):
            for name, child in list(module.named_children()):
                if (own := _shared(child, self)) is not None:
                    setattr(module, name, own.train(child.training))
        return network

    def gather(
        self, logits: Tensor | Sequence[Tensor], labels: Tensor, context: LossContext
    ) -> tuple[Tensor | list[Tensor], Tensor, LossContext]:
        """Return the logits, labels and context of the whole batch, in its order.

        Parameters
        ----------
        logits
            (B, C, *spatial) of this process, or several levels of them; the gradient comes back to them.
        labels
            (B, 1, *spatial), 255 at most.
        """
        levels = [logits] if isinstance(logits, Tensor) else list(logits)
        whole: list[Tensor] = [_Gathered.apply(level, self) for level in levels]  # type: ignore[no-untyped-call]
        every, context = self._gather_known(labels.to(torch.uint8), context)
        return (whole[0] if isinstance(logits, Tensor) else whole, every, context)

    def _gather_known(self, labels: Tensor, context: LossContext) -> tuple[Tensor, LossContext]:
        """Return labels and context of the whole batch, of which nothing has a gradient: in one message."""
        maps = context.distance_maps or {}
        own = {"labels": labels} | {f"map {name}": values for name, values in maps.items()}
        if context.voxel_weights is not None:
            own["voxel_weights"] = context.voxel_weights
        places = [name for name in _PLACES if getattr(context, name) is not None]
        for name in places:
            own[name] = torch.from_numpy(np.ascontiguousarray(getattr(context, name)))
        whole = dict(zip(own, self._all_of(list(own.values())), strict=True))
        changed: dict[str, Any] = {name: whole[name].numpy() for name in places}
        if maps:
            changed["distance_maps"] = {name: whole[f"map {name}"] for name in maps}
        if context.voxel_weights is not None:
            changed["voxel_weights"] = whole["voxel_weights"]
        if context.regions:
            changed["regions"] = self._gather_regions(context.regions, labels.device)
        return whole["labels"], replace(context, **changed)

    def _gather_regions(
        self, own: Mapping[Any, BatchRegions], device: torch.device
    ) -> dict[Any, BatchRegions]:
        every: list[Any] = [None] * self.size
        # what the others' patches see; their whole volumes are of no use here
        dist.all_gather_object(every, [[s.patch for s in regions.samples] for regions in own.values()])
        found = {}
        for number, (partition, regions) in enumerate(own.items()):
            samples = [PatchRegions(patch, patch) for part in every for patch in part[number]]
            first = self.rank * len(regions.samples)
            samples[first : first + len(regions.samples)] = regions.samples
            found[partition] = BatchRegions(samples, device)
        return found

    def _all_of(self, own: Sequence[Tensor]) -> list[Tensor]:
        """Return what all processes have of several tensors, (B, ...) each: one message for each device."""
        whole = list(own)
        for device in dict.fromkeys(tensor.device for tensor in own):
            numbers = [number for number, tensor in enumerate(own) if tensor.device == device]
            pieces = [own[number].contiguous().flatten().view(torch.uint8) for number in numbers]
            # numbers of any size begin at a multiple of it
            padded = [functional.pad(piece, (0, -len(piece) % _ALIGNED)) for piece in pieces]
            rows = self._all(torch.cat(padded)[None])
            columns = torch.split(rows, [len(piece) for piece in padded], dim=1)
            for number, piece, column in zip(numbers, pieces, columns, strict=True):
                shape = own[number].shape
                values = column[:, : len(piece)].view(own[number].dtype)
                whole[number] = values.reshape(self.size * shape[0], *shape[1:])
        return whole

    def _all(self, own: Tensor) -> Tensor:
        """Return what all processes have of a batch, (B, ...) each, one after the other."""
        own = own.contiguous()
        parts = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(parts, own)
        return torch.cat(parts)

    def reduce_gradients(self, network: Sequence[nn.Parameter], loss: Sequence[nn.Parameter]) -> None:
        """Add up the gradients of the network over all processes.

        Those of what the loss learns are whole everywhere already; their mean makes them equal to the bit.
        """
        for parameters, mean in ((network, False), (loss, True)):
            gradients = [p.grad for p in parameters if p.grad is not None]
            for some in _buckets(gradients):
                flat = torch.cat([g.flatten() for g in some])
                dist.all_reduce(flat)
                if mean:
                    flat /= self.size
                pieces: Sequence[Tensor] = torch.split(flat, [g.numel() for g in some])
                for gradient, summed in zip(some, pieces, strict=True):
                    gradient.copy_(summed.view_as(gradient))

    @contextmanager
    def together(self) -> Iterator[None]:
        """Say in one sentence what has happened where a collective call fails because another process is gone.

        Raises
        ------
        SegExplorerError
            What ended the other process, where it could say so; else that it died.
        """
        try:
            yield
        except SegExplorerError:
            raise
        except RuntimeError as error:
            if not _is_broken(error):
                raise
            deadline = time.monotonic() + 3.0
            while self._trouble is None and time.monotonic() < deadline:
                time.sleep(0.05)  # the thread that watches is about to hear why
            raise (self._trouble or _died("")) from error

    def require_all(self) -> None:
        """Make sure that no process is known to be gone.

        Raises
        ------
        SegExplorerError
            What ended the other process, where it could say so; else that it died.
        """
        if self._trouble is not None:
            raise self._trouble

    # ---- orders

    def tell(self, order: Mapping[str, Any]) -> None:
        """Send an order of plain values and tensors to the followers; the leader alone calls it."""
        written = io.BytesIO()
        torch.save(dict(order), written)
        content = written.getvalue()
        first = torch.zeros(_ORDER_BYTES, dtype=torch.uint8)
        first[:8] = torch.frombuffer(bytearray(len(content).to_bytes(8, "big")), dtype=torch.uint8)
        body = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        room = _ORDER_BYTES - 8
        first[8 : 8 + min(room, len(content))] = body[:room]
        dist.broadcast(first, 0)
        if len(content) > room:
            dist.broadcast(body[room:].contiguous(), 0)

    def hear(self) -> dict[str, Any]:
        """Wait for the next order; followers call it."""
        first = torch.empty(_ORDER_BYTES, dtype=torch.uint8)
        dist.broadcast(first, 0)
        length, room = int.from_bytes(first[:8].numpy().tobytes(), "big"), _ORDER_BYTES - 8
        content = first[8 : 8 + min(room, length)].numpy().tobytes()
        if length > room:
            rest = torch.empty(length - room, dtype=torch.uint8)
            dist.broadcast(rest, 0)
            content += rest.numpy().tobytes()
        order: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True)
        return order

    # ---- the end

    def end(self, code: int) -> None:
        """End the followers with an exit code, and wait for them; the leader calls it, at any point, also twice."""
        if self._ended.is_set():
            return
        self._ended.set()
        with suppress(RuntimeError):
            self._store.set("ended", str(int(code)))
            deadline = time.monotonic() + LEAVING_SECONDS
            while time.monotonic() < deadline and self._store.add("left", 0) < self.size - 1:
                if self._followers and all(f.process.poll() is not None for f in self._followers):
                    break
                time.sleep(0.02)
        for follower in self._followers:
            follower.end()
        with suppress(RuntimeError):
            dist.destroy_process_group()

    def fail(self, error: BaseException) -> NoReturn:
        """End this process, a follower, because of an error, which the leader tells and records."""
        code = int(getattr(error, "exit_code", ExitCode.FAILED))
        known = error if isinstance(error, SegExplorerError) else None
        if known is None and isinstance(error, RuntimeError) and _is_broken(error):
            code = ExitCode.MACHINE  # others were the cause, and have said so
        else:
            facts = {
                "kind": type(error).__name__,
                "message": known.message
                if known
                else f"{type(error).__name__}: {errors.shorten(str(error), 300)}",
                "remedy": known.remedy if known else "Please report it as a defect of segexplorer.",
                "where": self._name(),
            }
            with suppress(RuntimeError):
                self._store.compare_set("failed", "", json.dumps(facts))
        with suppress(RuntimeError):
            dist.destroy_process_group()  # whoever waits for this process now hears that it is gone
        time.sleep(LEAVING_SECONDS / 3)  # a leader that tells the reason ends us before
        os._exit(code)

    def _name(self) -> str:
        return f"process {self.rank} on {socket.gethostname()}"

    def _watch_followers(self) -> None:
        """Look after the followers, in a thread of the leader: what they ask for, and whether they live."""
        store, asked = self._store.clone(), False  # type: ignore[attr-defined]  # missing in the stubs
        while not self._ended.wait(POLL_SECONDS):
            with suppress(RuntimeError):
                if not asked and store.check(["preempted"]):
                    asked = True
                    if self._on_preempted is not None:
                        self._on_preempted()
                    else:
                        os.kill(os.getpid(), signal.SIGTERM)  # as if the scheduler had sent it here
                if self._trouble is None and store.check(["failed"]):
                    self._trouble = _told(store.get("failed").decode())
                    break
            dead = next((f for f in self._followers if f.process.poll() is not None), None)
            if dead is not None:
                time.sleep(POLL_SECONDS)
                with suppress(RuntimeError):
                    told = store.check(["failed"])
                    self._trouble = _told(store.get("failed").decode()) if told else None
                self._trouble = self._trouble or _died(dead.last_words())
                break
        if self._ended.wait(2 * LEAVING_SECONDS) or self._trouble is None:
            return
        # a call that waits for a dead process on a GPU does not return
        if self._window:
            with suppress(RuntimeError, AttributeError):
                dist.group.WORLD.abort()  # type: ignore[union-attr]  # NCCL's can be
        else:  # end here, as a kill would
            sys.stderr.write(f"segexplorer: {self._trouble}\n")
            sys.stderr.flush()
            os._exit(self._trouble.exit_code)

    def _watch_leader(self, wakes: socket.socket | None) -> None:
        """Look after the leader, in a thread of a follower: end with it, and pass on a request to make room."""
        store = self._store.clone()  # type: ignore[attr-defined]  # missing in the stubs
        while True:
            try:
                if wakes is not None and _arrived(wakes):
                    store.set("preempted", "1")
                if store.check(["ended"]):
                    code = int(store.get("ended"))
                    store.add("left", 1)
                    os._exit(code)
            except (RuntimeError, ValueError):
                time.sleep(2.0)  # the leader is gone; this process's own error may be about to be told
                os._exit(ExitCode.MACHINE)
            if wakes is None:
                time.sleep(POLL_SECONDS)


# ---- how the processes find each other


class _Follower:
    """A process that `launch` started."""

    def __init__(self, process: subprocess.Popen[bytes], words: Any) -> None:
        self.process, self._words = process, words

    def last_words(self) -> str:
        """Return how the process ended, with the last line that it wrote."""
        self._words.seek(0)
        lines = self._words.read().decode(errors="replace").strip().splitlines()
        code = self.process.returncode
        how = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        return f"it ended {how}" + (f" ({errors.shorten(lines[-1], 160)})" if lines else "")

    def end(self) -> None:
        """Wait for its end, and kill it where that does not come."""
        try:
            self.process.wait(LEAVING_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._words.close()


def launch(
    devices: int,
    *,
    program: Sequence[str] = ("-m", "segexplorer.training.followers"),
    backend: str | None = None,
    on_preempted: Callable[[], object] | None = None,
    window: bool = False,
) -> Team:
    """Start the followers of this process on this machine, and return the team that it leads.

    They talk through the loopback interface alone.

    Parameters
    ----------
    program
        What Python runs in the other processes; it calls `join`.
    backend
        Of torch.distributed; by default NCCL between GPUs and gloo for the rest.
    on_preempted
        Called by another thread when a scheduler asks a follower to make room; by default, SIGTERM is sent to this
        process.
    window
        Whether a viewer is open in this process, which does not end with a run.

    Raises
    ------
    RunStateError
        When this process leads a team already; torch has one for a process.
    MachineError
        When a follower does not even start.
    """
    if dist.is_initialized():
        raise RunStateError(
            "Another run of this process trains on several devices.",
            "Wait for its end, or set compute.devices to 1.",
        )
    loopback = _LOOPBACK.get(sys.platform)
    if loopback is not None:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", loopback)
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(devices * 4)
    port = listening.getsockname()[1]
    store = TCPStore(
        "127.0.0.1",
        port,
        devices,
        is_master=True,
        wait_for_workers=False,
        master_listen_fd=listening.detach(),
        timeout=timedelta(seconds=JOINING_SECONDS),
    )
    followers = []
    # the attempt is counted by torchrun, which has started none of these
    environment = {k: v for k, v in os.environ.items() if k != "TORCHELASTIC_RESTART_COUNT"}
    for rank in range(1, devices):
        numbers = {"RANK": rank, "WORLD_SIZE": devices, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": devices}
        own = {k: str(v) for k, v in numbers.items()} | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        if backend is not None:
            own["SEGEXPLORER_BACKEND"] = backend
        words = tempfile.TemporaryFile()  # noqa: SIM115  closed with the process
        process = subprocess.Popen(
            [sys.executable, *program],
            env={**environment, **own},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=words,
        )
        followers.append(_Follower(process, words))
    return Team(
        PrefixStore("segexplorer/0", store),
        0,
        devices,
        backend=backend,
        followers=followers,
        on_preempted=on_preempted,
        window=window,
    )


def launched_by_others(environment: Mapping[str, str] = os.environ) -> int:
    """Return how many processes torchrun (or anything else that sets its variables) has started; 0 without it."""
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= environment.keys():
        return 0
    return int(environment["WORLD_SIZE"])


def join(environment: Mapping[str, str] = os.environ) -> Team:
    """Return the team that the variables of torchrun describe, once all of it have joined.

    Raises
    ------
    MachineError
        When they do not find each other.
    """
    rank, size = int(environment["RANK"]), int(environment["WORLD_SIZE"])
    # torchrun's own process serves the store; without it, the leader does
    served = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    try:
        store: Store = TCPStore(
            environment["MASTER_ADDR"],
            int(environment["MASTER_PORT"]),
            size,
            is_master=rank == 0 and not served,
            wait_for_workers=False,
            timeout=timedelta(seconds=JOINING_SECONDS),
        )
    except RuntimeError as error:
        raise MachineError(
            f"Process {rank} of the training cannot reach {environment['MASTER_ADDR']}.",
            "Look at the other processes; the first may have ended.",
        ) from error
    return Team(
        _round(store, environment),
        rank,
        size,
        local_rank=int(environment.get("LOCAL_RANK", rank)),
        local_size=int(environment.get("LOCAL_WORLD_SIZE", size)),
        backend=environment.get("SEGEXPLORER_BACKEND"),
    )


def _round(store: Store, environment: Mapping[str, str] = os.environ) -> Store:
    """Return the store of this attempt: torchrun keeps its store when it starts the processes again."""
    return PrefixStore(f"segexplorer/{environment.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def _told(text: str) -> SegExplorerError:
    """Return the error of another process."""
    try:
        facts = json.loads(text)
        kind = getattr(errors, str(facts["kind"]), None)
        known = (
            kind if isinstance(kind, type) and issubclass(kind, SegExplorerError) else errors.TrainingError
        )
        return known(f"{facts['message']} (said by {facts['where']})", str(facts["remedy"]))
    except (ValueError, KeyError, TypeError):
        return _died("")


def _died(how: str) -> MachineError:
    what = f": {how}" if how else ""
    return MachineError(
        f"One of the processes that train together has died{what}.",
        "The last checkpoint is kept: go on with --resume, also on another number of devices.",
    )


def _is_broken(error: RuntimeError) -> bool:
    """Whether an error says that the connection to another process is lost; torch has no class for it in gloo."""
    text = str(error)
    return isinstance(error, dist.DistError) or any(
        words in text for words in ("gloo", "Connection", "NCCL", "Broken pipe", "process group")
    )


_WAKES: list[socket.socket] = []
"""The ends of the connection by which signals wake a thread; kept open."""


def _catch_term() -> socket.socket | None:
    """Return a socket that becomes readable at SIGTERM, even while the main thread waits inside a collective call.

    Ctrl-C is left to the leader. None where this is not the main thread, which alone may say what signals do.
    """
    if threading.current_thread() is not threading.main_thread():
        return None
    reading, writing = socket.socketpair()
    writing.setblocking(False)
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    _WAKES[:] = [reading, writing]
    return reading


def _arrived(wakes: socket.socket) -> bool:
    wakes.settimeout(POLL_SECONDS)
    try:
        return signal.SIGTERM in wakes.recv(64)
    except TimeoutError:
        return False


# ---- tensors over all processes


class _Gathered(torch.autograd.Function):
    """The tensors of all processes one after the other; the gradient of the own part comes back.

    The loss that follows is the same on every process, so that each needs its own part of the gradient only, and
    nothing is sent on the way back.
    """

    @staticmethod
    def forward(ctx: Any, own: Tensor, team: Team) -> Tensor:
        size = own.shape[0]
        ctx.part = slice(team.rank * size, (team.rank + 1) * size)
        return team._all(own)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient[ctx.part], None


class _NormalisedOverAll(torch.autograd.Function):
    """Batch normalisation with the mean and variance of all processes, which have equally many voxels.

    See Ioffe and Szegedy 2015 for the gradient; its two sums over the batch are those over all processes. The rest
    is done by torch's kernels for given statistics: what the sums add to the gradient of x is linear in the
    normalised x, hence itself such a normalisation.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        statistics: tuple[Tensor, Tensor],
        count: float,
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, *statistics)
        ctx.count, ctx.eps = count, eps
        return functional.batch_norm(x, *statistics, weight, bias, eps=eps)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance = ctx.saved_tensors
        of_x, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, x, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )
        sums = torch.stack([of_bias, of_weight]).double()
        dist.all_reduce(sums)
        plain, along = sums / ctx.count
        scale = -(variance.double() + ctx.eps).rsqrt()
        if weight is not None:
            scale = scale * weight
        of_x += functional.batch_norm(
            x, mean, variance, (scale * along).to(mean.dtype), (scale * plain).to(mean.dtype), eps=ctx.eps
        )
        if weight is None:
            return of_x, None, None, None, None, None
        return of_x, of_weight, of_bias, None, None, None


class SharedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation over the batches of all processes, also on the CPU, where torch has none.

    One message on the way there and one on the way back, which is the least: each layer needs the sums of the one
    before.
    """

    team: Team

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, C, *spatial)."""
        if not self.training:
            return super().forward(input)
        wide = input if input.dtype == torch.float64 else input.float()
        own = wide.numel() // wide.shape[1]
        count = float(self.team.size * own)
        with torch.no_grad():
            found = torch.stack(torch.batch_norm_update_stats(wide, None, None, 0.0)).double()
            means, variances = self.team._all(found[None]).unbind(1)
            # as many voxels in each process (Chan et al. 1983): no difference of large sums is taken
            mean = means.mean(0)
            variance = (variances + (means - mean).square()).mean(0)
            statistics = mean.to(wide.dtype), variance.to(wide.dtype)
            self._follow(statistics[0], (variance * (count / max(count - 1, 1))).to(wide.dtype))
        out: Tensor = _NormalisedOverAll.apply(wide, self.weight, self.bias, statistics, count, self.eps)  # type: ignore[no-untyped-call]
        return out.to(input.dtype)

    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        rate = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, rate)
        self.running_var.lerp_(variance, rate)

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of axes; the layer that it replaces took those of its network."""


_ELEMENTS: Mapping[type[nn.Module], Callable[..., Tensor]] = {nn.Dropout: functional.dropout}
_CHANNELS: Mapping[type[nn.Module], Callable[..., Tensor]] = {
    nn.Dropout1d: functional.dropout1d,
    nn.Dropout2d: functional.dropout2d,
    nn.Dropout3d: functional.dropout3d,
}


class SharedDropout(nn.Module):
    """Dropout whose mask is drawn for the whole batch, of which this process takes its own part.

    All processes draw the same numbers, so that their generators stay alike.
    """

    def __init__(self, layer: nn.modules.dropout._DropoutNd, team: Team) -> None:
        super().__init__()
        self.p, self.team = layer.p, team
        self._whole_channels = type(layer) in _CHANNELS
        self._drop = {**_ELEMENTS, **_CHANNELS}[type(layer)]

    def forward(self, input: Tensor) -> Tensor:
        """Drop elements or channels of (B, C, ...)."""
        if not self.training or self.p == 0:
            return input
        size = len(input)
        if self._whole_channels:
            ones = input.new_ones(size * self.team.size, input.shape[1], *[1] * (input.ndim - 2))
        else:  # in the order of the input in memory, in which numbers are drawn
            ones = _ones_like(input, size * self.team.size)
        mask = self._drop(ones, self.p, training=True)
        return input * mask[self.team.rank * size : (self.team.rank + 1) * size]

    def extra_repr(self) -> str:
        """Return the rate, as torch's layers do."""
        return f"p={self.p}"


def _ones_like(x: Tensor, size: int) -> Tensor:
    """Return ones of the shape and order in memory of a tensor, but with `size` samples."""
    axes = range(x.ndim)
    # the stride of one sample says nothing: samples are outermost
    outer = [math.inf if axis == 0 and len(x) == 1 else x.stride(axis) for axis in axes]
    order = sorted(axes, key=lambda axis: -outer[axis])
    shape = (size, *x.shape[1:])
    ones = x.new_ones([shape[axis] for axis in order])
    return ones.permute([order.index(axis) for axis in axes])


def _shared(layer: nn.Module, team: Team) -> nn.Module | None:
    """Return a layer of the whole batch in place of one that depends on the batch; None for all others."""
    if type(layer) in _ELEMENTS or type(layer) in _CHANNELS:
        assert isinstance(layer, nn.modules.dropout._DropoutNd)
        return SharedDropout(layer, team)
    if not isinstance(layer, nn.modules.batchnorm._BatchNorm) or isinstance(layer, nn.SyncBatchNorm):
        return None
    own = SharedBatchNorm(
        layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats
    )
    own.team = team
    own.weight, own.bias = layer.weight, layer.bias
    own.running_mean, own.running_var = layer.running_mean, layer.running_var
    own.num_batches_tracked = layer.num_batches_tracked
    return own


_BUCKET = 2**24
"""Numbers that are sent at once: the gradients of many small layers together, large ones in pieces of 64 MB."""


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    some: list[Tensor] = []
    for tensor in tensors:
        if some and (
            sum(t.numel() for t in some) + tensor.numel() > _BUCKET or tensor.dtype != some[0].dtype
        ):
            yield some
            some = []
        some.append(tensor)
    if some:
        yield some
