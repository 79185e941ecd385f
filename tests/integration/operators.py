"""Operators as real processes: started, killed and stopped by the tests, with logs under out/."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from dev.cluster.control_plane import free_ports
from tests.integration.waiting import eventually

ROOT = Path(__file__).parents[2]
IMAGE = "registry.test/trainer@sha256:" + "0" * 64


def environment(*, kubeconfig: Path, namespace: str) -> dict[str, str]:
    """What the chart would set for an operator of one namespace, with fast clocks."""
    health, metrics = free_ports(2)
    return {
        "KUBECONFIG": str(kubeconfig),
        "FINETUNE_TRAINER_IMAGE": IMAGE,
        "FINETUNE_NAMESPACES": namespace,
        "POD_NAME": "finetune-operator-0",
        "POD_NAMESPACE": namespace,
        "FINETUNE_LEASE_NAME": "finetune-operator",
        "FINETUNE_METRICS_PORT": str(metrics),
        "FINETUNE_HEALTH_PORT": str(health),
        "FINETUNE_LOG_FORMAT": "text",
        "FINETUNE_SCRAPE_SECONDS": "0.2",
        "FINETUNE_PROGRESS_SECONDS": "0.2",
    }


class Operator:
    """One operator process, known by its pid."""

    def __init__(self, pid: int, *, process: subprocess.Popen[bytes] | None = None) -> None:
        self.pid = pid
        self._process = process

    def kill(self) -> None:
        """SIGKILL."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def terminate(self) -> None:
        """SIGTERM."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)

    @property
    def alive(self) -> bool:
        if self._process is not None:
            return self._process.poll() is None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True

    @property
    def exit_code(self) -> int | None:
        """Of an operator that was started as a program of its own."""
        return self._process.poll() if self._process is not None else None

    def wait(self) -> None:
        """Until the process is gone."""
        eventually(lambda: not self.alive, what=f"the end of process {self.pid}")


def start_program(variables: Mapping[str, str], *, log: Path) -> Operator:
    """Start `python -m finetune_operator.main` as the image does."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "finetune_operator.main"],
            env=os.environ | dict(variables),
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
        )
    return Operator(process.pid, process=process)


class Zygote:
    """Forks operators that need not import anything any more."""

    def __init__(self) -> None:
        self._asking = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.zygote"],
            env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'operator'}:{ROOT / 'trainer_image'}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def start(self, variables: Mapping[str, str], *, log: Path) -> Operator:
        """Fork an operator; its log is appended to."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        log.parent.mkdir(parents=True, exist_ok=True)
        order = {"environment": dict(variables), "log": str(log)}
        with self._asking:  # or two stages would get each other's process, and kill it
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            return Operator(int(self._process.stdout.readline()))

    def close(self) -> None:
        """End the zygote; operators that live are the caller's."""
        self._process.kill()
        self._process.wait(10)
