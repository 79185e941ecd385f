"""The ranks of an attempt: one process group, one reduction per step.

Every gradient lives in one flat buffer with the loss and the stop flag at its end, so a step has
one all-reduce and one host synchronisation. DistributedDataParallel is not used: it rebuilds its
buckets after the first step, so a resumed run would add the same numbers in another order, and it
needs every rank to run the same number of micro-batches.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from torch import nn

from finetune_trainer.contract import ExitCode, Topology
from finetune_trainer.errors import TrainerError

COLLECTIVE_TIMEOUT = timedelta(minutes=10)  # a dead peer closes its connections long before
Result = TypeVar("Result")


class Ranks:
    """One process among all of them, and what they do together.

    Raises TrainerError: 10 for a wrong world size, 21 when the others do not come, 22 without GPUs.
    """

    def __init__(self, topology: Topology, *, precision: str) -> None:
        _require_world(topology)
        use_gpu = topology.gpus_per_node > 0
        if use_gpu and torch.cuda.device_count() < topology.processes_per_node:
            raise TrainerError(
                ExitCode.GPU_FAULT,
                "GPUMissing",
                f"{topology.processes_per_node} GPUs are needed on this node,"
                f" {torch.cuda.device_count()} are visible",
            )
        backend = InitProcessGroupKwargs(
            backend="nccl" if use_gpu else "gloo", timeout=COLLECTIVE_TIMEOUT
        )
        self.accelerator: Any = _with_peers(
            lambda: Accelerator(
                cpu=not use_gpu,
                mixed_precision="bf16" if precision == "BF16" else "no",
                kwargs_handlers=[backend],
            )
        )
        self.rank: int = self.accelerator.process_index
        self.world_size: int = self.accelerator.num_processes
        self.device: torch.device = self.accelerator.device

    @property
    def is_main(self) -> bool:
        """Rank 0 decides, writes and reports."""
        return self.rank == 0

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Add `tensor` over all ranks, in place."""
        if self.world_size > 1:
            _with_peers(lambda: dist.all_reduce(tensor))
        return tensor

    def broadcast(self, tensor: torch.Tensor) -> None:
        """Give every rank the values of rank 0, in place."""
        if self.world_size > 1:
            _with_peers(lambda: dist.broadcast(tensor, src=0))

    def decide(self, choice: Callable[[], Result]) -> Result:
        """Run `choice` on rank 0 and give every rank its result.

        When it raises there, every other rank raises peer lost: rank 0 tells the cause.
        """
        box = [choice() if self.is_main else None]
        if self.world_size > 1:
            _with_peers(lambda: dist.broadcast_object_list(box, src=0))
        return box[0]  # type: ignore[return-value]

    def gather(self, value: Result) -> list[Result]:
        """The value of each rank, by rank, on every rank."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        _with_peers(lambda: dist.all_gather_object(values, value))
        return values

    def any(self, flag: bool) -> bool:
        """Whether `flag` is set on at least one rank."""
        return self.sum(torch.tensor([float(flag)], device=self.device)).item() > 0

    def finish(self) -> None:
        """Wait for all ranks, then leave together."""
        if self.world_size > 1:
            _with_peers(dist.barrier)
            dist.destroy_process_group()


@dataclass(frozen=True, slots=True)
class StepResult:
    """What all ranks know after a step's reduction."""

    loss: float
    grad_norm: float  # before clipping
    stop: bool


class Gradients:
    """The adapter's gradients in one fp32 buffer; its last two places carry loss and stop flag."""

    def __init__(self, parameters: Sequence[nn.Parameter], *, device: torch.device) -> None:
        sizes = [parameter.numel() for parameter in parameters]
        self.buffer = torch.zeros(sum(sizes) + 2, dtype=torch.float32, device=device)
        self.values = self.buffer[:-2]
        self.tail = self.buffer[-2:]
        for parameter, view in zip(parameters, torch.split(self.values, sizes), strict=True):
            parameter.grad = view.view_as(parameter)

    def zero(self) -> None:
        """Begin a step; the parameters keep their views, so autograd adds in place."""
        self.buffer.zero_()

    def reduce(
        self, ranks: Ranks, loss: torch.Tensor, *, stop: bool, max_norm: float
    ) -> StepResult:
        """Add gradients, loss and stop flags over all ranks, then clip to `max_norm` (L2)."""
        self.tail[0] = loss
        self.tail[1] = float(stop)
        ranks.sum(self.buffer)
        norm = torch.linalg.vector_norm(self.values)
        self.values.mul_((max_norm / (norm + 1e-6)).clamp(max=1.0))
        total, stops, grad_norm = torch.cat([self.tail, norm.reshape(1)]).tolist()
        return StepResult(loss=total, grad_norm=grad_norm, stop=stops > 0)


def broadcast_parameters(ranks: Ranks, parameters: Iterable[nn.Parameter]) -> None:
    """Make every rank's adapter that of rank 0."""
    for parameter in parameters:
        ranks.broadcast(parameter.data)


def _require_world(topology: Topology) -> None:
    found = os.environ.get("WORLD_SIZE", "1")
    if found != str(topology.world_size):
        raise TrainerError(
            ExitCode.BAD_CONFIG,
            "WorldSize",
            f"WORLD_SIZE is {found}, but topology asks for {topology.nodes} nodes x"
            f" {topology.processes_per_node} processes = {topology.world_size}",
        )


def _with_peers(call: Callable[[], Result]) -> Result:
    """Run a collective; when it fails, another rank is gone."""
    try:
        return call()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise TrainerError(
            ExitCode.PEER_LOST, "PeerLost", f"another rank is gone: {str(error).splitlines()[0]}"
        ) from error
