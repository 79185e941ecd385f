"""The operator's settings: one frozen object, read once from flags and environment.

A flag wins over its environment variable; the chart sets the variables. Tests make the clocks
faster by the same variables, so that nothing has a second way in.
"""

from __future__ import annotations

import argparse
import socket
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything configurable. Times in seconds."""

    trainer_image: str
    namespaces: tuple[str, ...]  # watched ones; empty: all
    identity: str  # of this process in the leader election: the pod's name
    lease_namespace: str
    lease_name: str
    lease_seconds: float
    metrics_port: int
    health_port: int
    workers: int  # reconciles at a time
    log_format: str
    scrape_seconds: float  # between two looks at a job's rank 0
    progress_seconds: float  # between two writes of a job's progress
    resync_seconds: float  # between two sweeps over all jobs


@dataclass(frozen=True, slots=True)
class _Option:
    flag: str
    variable: str
    default: str
    help: str


_OPTIONS: Final = (
    _Option(
        "--trainer-image", "FINETUNE_TRAINER_IMAGE", "", "image of the trainer pods (required)"
    ),
    _Option(
        "--namespaces", "FINETUNE_NAMESPACES", "", "watched namespaces, comma-separated; empty: all"
    ),
    _Option("--pod-name", "POD_NAME", "", "name of this pod, its identity in the leader election"),
    _Option(
        "--pod-namespace", "POD_NAMESPACE", "default", "namespace of this pod and of the lease"
    ),
    _Option("--lease-name", "FINETUNE_LEASE_NAME", "finetune-operator", "name of the lease"),
    _Option("--lease-seconds", "FINETUNE_LEASE_SECONDS", "15", "duration of the lease"),
    _Option("--metrics-port", "FINETUNE_METRICS_PORT", "9401", "port of /metrics"),
    _Option("--health-port", "FINETUNE_HEALTH_PORT", "8080", "port of /healthz and /readyz"),
    _Option("--workers", "FINETUNE_WORKERS", "8", "reconciles at a time"),
    _Option("--log-format", "FINETUNE_LOG_FORMAT", "json", "json or text"),
    _Option("--scrape-seconds", "FINETUNE_SCRAPE_SECONDS", "10", "between two looks at a job"),
    _Option(
        "--progress-seconds", "FINETUNE_PROGRESS_SECONDS", "30", "between two writes of progress"
    ),
    _Option("--resync-seconds", "FINETUNE_RESYNC_SECONDS", "600", "between two sweeps"),
)


def read_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Parse and check; ends the process with a message that names the wrong option."""
    parser = argparse.ArgumentParser(
        prog="finetune-operator", description="Runs FineTuneJobs: one batch Job per attempt."
    )
    for option in _OPTIONS:
        parser.add_argument(
            option.flag,
            default=environment.get(option.variable) or option.default,
            help=f"{option.help} [{option.variable}, default: {option.default or 'empty'}]",
        )
    found = parser.parse_args(arguments)
    try:
        return _checked(found)
    except ValueError as error:
        parser.error(str(error))


def _checked(found: argparse.Namespace) -> Settings:
    if not found.trainer_image:
        raise ValueError("--trainer-image (FINETUNE_TRAINER_IMAGE) is required")
    if found.log_format not in ("json", "text"):
        raise ValueError(f"--log-format is json or text, not {found.log_format!r}")
    return Settings(
        trainer_image=found.trainer_image,
        namespaces=tuple(sorted({n.strip() for n in found.namespaces.split(",") if n.strip()})),
        identity=found.pod_name or f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}",
        lease_namespace=found.pod_namespace,
        lease_name=found.lease_name,
        lease_seconds=_number(found, "lease_seconds", least=1),
        metrics_port=int(_number(found, "metrics_port", least=1)),
        health_port=int(_number(found, "health_port", least=1)),
        workers=int(_number(found, "workers", least=1)),
        log_format=found.log_format,
        scrape_seconds=_number(found, "scrape_seconds", least=0.1),
        progress_seconds=_number(found, "progress_seconds", least=0.1),
        resync_seconds=_number(found, "resync_seconds", least=1),
    )


def _number(found: argparse.Namespace, name: str, *, least: float) -> float:
    text = getattr(found, name)
    flag = "--" + name.replace("_", "-")
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{flag} is a number, not {text!r}") from None
    if value < least:
        raise ValueError(f"{flag} is at least {least:g}, not {text}")
    return value
