"""A tiny job that can be trained, killed and trained again through the real launcher."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_trainer import preflight
from finetune_trainer.checkpoint.layout import JobFolder
from finetune_trainer.contract import (
    RUN_CONFIG_VARIABLE,
    STATUS_PORT_VARIABLE,
    TERMINATION_LOG_VARIABLE,
    AdapterSpec,
    CheckpointSpec,
    DatasetSpec,
    JobIdentity,
    ModelSpec,
    Plan,
    RunConfig,
    SamplesSpec,
    Termination,
    Topology,
    TrainingSpec,
)
from tests.trainer_builders import conversations, tiny_model, write_jsonl

ROWS = 48
TOTAL_STEPS = 18
DEADLINE_SECONDS = 240.0


@dataclass(frozen=True, slots=True)
class Sources:
    """A tiny model and data set that many jobs share, as file:// folders."""

    root: Path

    def make(self) -> Sources:
        tiny_model(self.root / "model")
        write_jsonl(self.root / "train.jsonl", conversations(ROWS))
        return self

    def config(
        self, workspace: Path, *, steps: int = TOTAL_STEPS, interval: int = 4, **changes: Any
    ) -> RunConfig:
        """A planned job: steps of 8 examples over 45 rows, NF4, dropout 0.1."""
        training = TrainingSpec(
            max_steps=steps,
            global_batch_size=8,
            micro_batch_size=3,
            learning_rate=2e-3,
            warmup_ratio=0.1,
            precision="FP32",
            samples=SamplesSpec(prompts=("what is number 3?",), max_new_tokens=4),
        )
        config = RunConfig(
            job=JobIdentity(namespace="team", name="tiny", uid="0123456789abcdef"),
            attempt=1,
            workspace=str(workspace),
            model=ModelSpec(source=f"file://{self.root}/model"),
            dataset=DatasetSpec(
                source=f"file://{self.root}/train.jsonl", eval_fraction=0.06, max_length=128
            ),
            adapter=AdapterSpec(rank=4, alpha=8, dropout=0.1),
            training=training,
            checkpoint=CheckpointSpec(interval=interval),
        ).model_copy(update=changes)
        report = preflight.run(config)
        assert report.ok, report.problems
        return config.model_copy(update={"plan": report.plan})


@dataclass(frozen=True, slots=True)
class Launched:
    """A running launcher of one attempt."""

    config: RunConfig
    process: subprocess.Popen[bytes]
    record: Path

    def wait(self) -> int:
        return self.process.wait(DEADLINE_SECONDS)

    def termination(self) -> Termination:
        return Termination.from_json(self.record.read_bytes())

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait_until(self, reached: Callable[[JobFolder], bool]) -> bool:
        """Watch the job's folder closely; False when the launcher ended first."""
        job = JobFolder.of(self.config)
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not reached(job):
            try:
                self.process.wait(0.002)
                return False
            except subprocess.TimeoutExpired:
                assert time.monotonic() < deadline, "not reached"
        return True


def launch(config: RunConfig, folder: Path, **environment: str) -> Launched:
    """Start the launcher on `config`; folder holds its record and its output."""
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / f"termination-{config.attempt}-{time.monotonic_ns()}.json"
    config = config.model_copy(
        update={"topology": config.topology.model_copy(update={"rendezvous_port": free_port()})}
    )
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "OMP_NUM_THREADS": "1",
        RUN_CONFIG_VARIABLE: config.to_json(),
        STATUS_PORT_VARIABLE: str(free_port()),
        TERMINATION_LOG_VARIABLE: str(record),
        **environment,
    }
    with (folder / "output.txt").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "finetune_trainer.launcher", "train"],
            env=environment,
            stdout=output,
            stderr=output,
        )
    return Launched(config, process, record)


def attempt(config: RunConfig, number: int, *, processes: int = 1) -> RunConfig:
    """The same job, attempt `number`, on so many processes."""
    topology = Topology(processes_per_node=processes)
    return config.model_copy(update={"attempt": number, "topology": topology})


def planned(config: RunConfig, **changes: Any) -> RunConfig:
    """The same job with another plan."""
    assert config.plan is not None
    plan = Plan(**{**config.plan.model_dump(), **changes})
    return config.model_copy(update={"plan": plan})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def steps_made(job: JobFolder, attempt: int) -> int:
    """Steps that the first execution of an attempt has made so far."""
    try:
        return job.execution_log(attempt, 1).read_bytes().count(b'"loss"')
    except FileNotFoundError:
        return 0


def adapter_bytes(job: JobFolder) -> bytes:
    """The trained adapter as `output/adapter` names it."""
    return (job.root / "output" / "adapter" / "adapter_model.safetensors").read_bytes()


def ranks_of(process: subprocess.Popen[bytes]) -> list[int]:
    """The pids of a launcher's ranks, in the order they were started."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return sorted(int(pid) for pid in children.split())
