"""One pod's part of an attempt: meet the other nodes, run the ranks, say how it ended."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from finetune_trainer.checkpoint.layout import JobFolder, write_durably
from finetune_trainer.contract import (
    STATUS_PORT,
    STATUS_PORT_VARIABLE,
    ExitCode,
    Progress,
    RunConfig,
    Termination,
)
from finetune_trainer.errors import TrainerError
from finetune_trainer.training.cgroup import Cgroup
from finetune_trainer.training.outcome import RankExit, node_ending
from finetune_trainer.training.processes import Ended, Processes, next_signal
from finetune_trainer.training.rendezvous import Attendance, Meeting
from finetune_trainer.training.reports import PARENT_VARIABLE, SCRATCH_VARIABLE, Ending, Scratch
from finetune_trainer.training.server import StatusServer
from finetune_trainer.training.signals import STOP_SIGNALS

NODE_RANK_VARIABLE: Final = "JOB_COMPLETION_INDEX"
GRACE_MARGIN_SECONDS: Final = 5  # of the grace period, kept for the record and the exit
RANK_MODULE: Final = "finetune_trainer.training.rank"

logger: Final = logging.getLogger("launcher")


@dataclass(frozen=True, slots=True)
class Node:
    """One pod among those of an attempt."""

    config: RunConfig
    index: int
    scratch: Scratch
    status_port: int

    @property
    def job(self) -> JobFolder:
        """The job's files."""
        return JobFolder.of(self.config)

    @property
    def run_name(self) -> str:
        """Tells this attempt from any other, the same on every node."""
        return f"{self.config.job.uid}/{self.config.attempt}"

    def rank_environments(self) -> list[dict[str, str]]:
        """What each rank's process finds in its environment."""
        topology = self.config.topology
        local = topology.processes_per_node
        threads = str(max(1, Cgroup().cpus() // local))
        common = {
            "WORLD_SIZE": str(topology.world_size),
            "LOCAL_WORLD_SIZE": str(local),
            "MASTER_ADDR": topology.rendezvous_host,
            "MASTER_PORT": str(topology.rendezvous_port),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads),
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # what `deterministic` needs on a GPU
            "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
            "TOKENIZERS_PARALLELISM": "false",
            "HF_HUB_OFFLINE": "1",
            SCRATCH_VARIABLE: str(self.scratch.folder),
            PARENT_VARIABLE: str(os.getpid()),
        }
        return [
            {**common, "RANK": str(self.index * local + number), "LOCAL_RANK": str(number)}
            for number in range(local)
        ]


def make_node(config: RunConfig, environment: Mapping[str, str], *, scratch: Scratch) -> Node:
    """Find the pod's place and part.

    Raises TrainerError (10) when its index is not in the topology or the config has no plan.
    """
    if config.plan is None:
        raise TrainerError(ExitCode.BAD_CONFIG, "BadConfig", "plan: missing; run preflight first")
    index = environment.get(NODE_RANK_VARIABLE, "0")
    if index not in map(str, range(config.topology.nodes)):
        raise TrainerError(
            ExitCode.BAD_CONFIG,
            "WorldSize",
            f"{NODE_RANK_VARIABLE} is {index!r}, but topology.nodes is {config.topology.nodes}",
        )
    port = int(environment.get(STATUS_PORT_VARIABLE, str(STATUS_PORT)))
    return Node(config, int(index), scratch, port)


def train(node: Node) -> Ending:
    """Run this node's part of an attempt to its end."""
    config = node.config
    meeting = Meeting(node.run_name, config.topology.nodes)
    company: Meeting | Attendance = meeting
    server = None
    if node.index == 0:
        _record_config(node)
        server = _serve(node, meeting)
    else:
        company = Attendance(
            config.topology.rendezvous_host,
            node=node.index,
            run=node.run_name,
            port=node.status_port,
        )
    try:
        ending = _wait_for_peers(config, company)
        return ending if ending is not None else _run_ranks(node, company)
    finally:
        company.close()
        if server is not None:
            server.close()


def _wait_for_peers(config: RunConfig, company: Meeting | Attendance) -> Ending | None:
    """None when all nodes are there; the ending when they do not come or we are stopped."""
    deadline = time.monotonic() + config.start_deadline_seconds
    while not company.ready.is_set():
        reason, message = "", ""
        if time.monotonic() > deadline:
            reason = "NotStarted"
            message = f"not all nodes joined within {config.start_deadline_seconds} s"
        elif next_signal(timeout=0.5) in STOP_SIGNALS:
            reason = "StoppedNothingNew"
        if reason:
            return Ending(
                code=ExitCode.STOPPED_NOTHING_NEW, reason=reason, message=message, time=time.time()
            )
    return None


def _run_ranks(node: Node, company: Meeting | Attendance) -> Ending:
    kills_before = Cgroup().oom_kills()
    environments = node.rank_environments()
    logger.info("starting %d of %s ranks", len(environments), environments[0]["WORLD_SIZE"])
    processes = Processes(["-m", RANK_MODULE], environments)
    grace = max(1, node.config.termination_grace_seconds - GRACE_MARGIN_SECONDS)
    ended = processes.supervise(stop_seconds=grace, peer_lost=company.lost.is_set)
    return _explain(node, ended, out_of_memory=Cgroup().oom_kills() > kills_before)


def _explain(node: Node, ended: Ended, *, out_of_memory: bool) -> Ending:
    first = node.index * node.config.topology.processes_per_node
    exits = [
        RankExit(first + local, code, node.scratch.read_ending(first + local))
        for local, code in ended.returncodes.items()
    ]
    return node_ending(
        exits,
        node.scratch.read_facts(),
        stop_requested=ended.stop_requested,
        out_of_memory=out_of_memory,
        time=time.time(),
    )


def _record_config(node: Node) -> None:
    folder = node.job.attempt(node.config.attempt)
    write_durably(folder / "config.json", node.config.to_json(indent=2) + "\n")
    handler = logging.FileHandler(folder / "launcher.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger.addHandler(handler)


def _serve(node: Node, meeting: Meeting) -> StatusServer:
    config, job = node.config, node.job
    previous = _previous_termination(node)
    initial = Progress(
        uid=config.job.uid,
        attempt=config.attempt,
        total_steps=config.plan.total_steps if config.plan else 0,
    )

    def status() -> Progress:
        facts = node.scratch.read_facts()
        progress = initial if facts is None else facts.progress
        return progress.model_copy(update={"previous": previous})

    def curve() -> Path | None:
        facts = node.scratch.read_facts()
        output = facts.output if facts is not None else None
        return job.root / output.loss_curve if output and output.loss_curve else None

    files = {
        "trainer_log.jsonl": lambda: job.log,
        "samples.jsonl": lambda: job.samples,
        "loss-curve.png": curve,
    }
    return StatusServer(node.status_port, status=status, files=files, meeting=meeting)


def _previous_termination(node: Node) -> Termination | None:
    """What the attempt before this one left, for an operator that missed it."""
    if node.config.attempt == 1:
        return None
    try:
        return Termination.from_json(node.job.termination(node.config.attempt - 1).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
