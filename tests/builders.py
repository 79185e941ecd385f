"""Fluent builders of what the API server holds: raw objects, as the operator would read them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from finetune_operator.constants import LABEL_UID
from finetune_operator.domain.observed import Site
from finetune_trainer.contract import (
    CheckpointReference,
    DataSummary,
    JobIdentity,
    Plan,
    Progress,
    Termination,
    TrainerPhase,
)

UID = "5f2b8c1e-93a7-4d0c-8a55-0c9d6f1e2b34"
IDENTITY = JobIdentity(namespace="team-a", name="greeter", uid=UID)
CHILD = "greeter-5f2b8"
START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SITE = Site(trainer_image="registry.example/trainer:1", operator_namespace="finetune-system")
PLAN = Plan(
    micro_batch_size=2,
    gradient_accumulation_steps=8,
    effective_batch_size=16,
    activation_checkpointing="None",
    precision="BF16",
    steps_per_epoch=32,
    total_steps=96,
    learning_rate=2e-4,
    warmup_steps=3,
    rank=16,
    alpha=32,
    checkpoint_interval=10,
    data_fingerprint="d" * 64,
    model_commit="m" * 64,
)


def at(seconds: float) -> datetime:
    """`seconds` after the start of every story."""
    return START + timedelta(seconds=seconds)


def stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def a_spec(**sections: Any) -> dict[str, Any]:
    """The smallest spec that a user may write, with whole sections replaced."""
    return {
        "model": {"source": "pvc://inputs/model"},
        "dataset": {"source": "pvc://inputs/train.jsonl"},
        **sections,
    }


def a_checkpoint(step: int) -> CheckpointReference:
    return CheckpointReference(step=step, path=f"step-{step:08d}.a1.e1", digest=f"{step:064x}")


def a_record(code: int, reason: str = "", **fields: Any) -> Termination:
    return Termination(code=code, reason=reason, **fields)


def a_report(**fields: Any) -> Termination:
    """The record of a preflight that passed."""
    data = DataSummary(rows=520, rows_kept=500, tokens=90_000, supervised_tokens=60_000)
    return Termination(code=0, reason="Passed", **{"plan": PLAN, "data": data, **fields})


def some_progress(step: int, *, attempt: int = 1, **fields: Any) -> Progress:
    known = {"phase": TrainerPhase.TRAIN, "total_steps": 96, "loss": 2.5, "uid": UID}
    return Progress(attempt=attempt, step=step, **{**known, **fields})


@dataclass(frozen=True, slots=True)
class MakeJob:
    """A batch/v1 Job: `MakeJob("greeter-5f2b8-1").failing("BackoffLimitExceeded").obj()`."""

    name: str = f"{CHILD}-1"
    uid: str = "job-1"
    spec: dict[str, Any] = field(default_factory=dict)
    status: dict[str, Any] = field(default_factory=lambda: {"startTime": stamp(START)})
    deleting: bool = False

    def suspended(self) -> Self:
        return replace(self, spec={"suspend": True}, status={})

    def with_condition(self, kind: str, reason: str = "", *, since: datetime = START) -> Self:
        condition = {
            "type": kind,
            "status": "True",
            "reason": reason,
            "lastTransitionTime": stamp(since),
        }
        conditions = [*self.status.get("conditions", []), condition]
        return replace(self, status={**self.status, "conditions": conditions})

    def failing(self, reason: str = "BackoffLimitExceeded", *, since: datetime = START) -> Self:
        """FailureTarget: the outcome is decided, pods may still end."""
        return self.with_condition("FailureTarget", reason, since=since)

    def failed(self, reason: str = "BackoffLimitExceeded") -> Self:
        return self.failing(reason).with_condition("Failed", reason)

    def complete(self) -> Self:
        return self.with_condition("SuccessCriteriaMet").with_condition("Complete")

    def being_deleted(self) -> Self:
        return replace(self, deleting=True)

    def obj(self) -> dict[str, Any]:
        metadata: dict[str, Any] = {
            "name": self.name,
            "uid": self.uid,
            "ownerReferences": [{"uid": UID, "controller": True}],
        }
        if self.deleting:
            metadata["deletionTimestamp"] = stamp(START)
        return {"metadata": metadata, "spec": self.spec, "status": self.status}


@dataclass(frozen=True, slots=True)
class MakePod:
    """A pod of a Job: `MakePod(rank=1).exited(137).deleted().obj()`."""

    rank: int = 0
    job: str = "job-1"
    node: str = "node-a"
    status: dict[str, Any] = field(default_factory=lambda: {"phase": "Pending"})
    deleting: bool = False

    def running(self) -> Self:
        return self._container("Running", {"running": {}})

    def exited(self, code: int, record: Termination | None = None, *, reason: str = "") -> Self:
        ended: dict[str, Any] = {"exitCode": code, "reason": reason or "Error"}
        if record is not None:
            ended["message"] = record.to_log()
        return self._container("Failed" if code else "Succeeded", {"terminated": ended})

    def rejected(self, reason: str) -> Self:
        """Failed before its container ran."""
        return replace(self, status={**self.status, "phase": "Failed", "reason": reason})

    def evicted(self) -> Self:
        return replace(self, status={**self.status, "phase": "Failed", "reason": "Evicted"})

    def disrupted(self) -> Self:
        condition = {"type": "DisruptionTarget", "status": "True"}
        return replace(self, status={**self.status, "conditions": [condition]})

    def deleted(self) -> Self:
        return replace(self, deleting=True)

    def _container(self, phase: str, state: dict[str, Any]) -> Self:
        containers = [{"name": "trainer", "state": state}]
        return replace(
            self, status={**self.status, "phase": phase, "containerStatuses": containers}
        )

    def obj(self) -> dict[str, Any]:
        metadata: dict[str, Any] = {
            "name": f"{self.job}-{self.rank}",
            "uid": f"{self.job}-pod-{self.rank}",
            "labels": {"batch.kubernetes.io/job-completion-index": str(self.rank)},
            "ownerReferences": [{"uid": self.job, "controller": True}],
        }
        if self.deleting:
            metadata["deletionTimestamp"] = stamp(START)
        return {"metadata": metadata, "spec": {"nodeName": self.node}, "status": self.status}


def a_claim(name: str, *modes: str, uid: str = "") -> dict[str, Any]:
    labels = {LABEL_UID: uid} if uid else {}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"accessModes": list(modes or ("ReadWriteMany",))},
    }
