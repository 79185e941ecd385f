"""What a person sees while the job runs: one line of facts, redrawn on a terminal, else printed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from dev.demo.kube import Cluster, Object

RANK_0 = "batch.kubernetes.io/job-completion-index=0"


@dataclass(frozen=True, slots=True)
class View:
    """The facts of the moment. `remaining` is in seconds; None = not known yet."""

    phase: str
    attempt: int
    step: int
    total_steps: int
    loss: str | None
    remaining: int | None
    checkpoint: int | None

    def line(self) -> str:
        """The view in one line."""
        minutes, seconds = divmod(self.remaining or 0, 60)
        facts = [
            f"{self.phase:<10}",
            f"attempt {self.attempt}" if self.attempt else "",
            f"step {self.step}/{self.total_steps}" if self.total_steps else "",
            f"loss {float(self.loss):.3f}" if self.loss is not None else "",
            f"ETA {minutes}:{seconds:02d}" if self.remaining is not None else "",
            f"checkpoint {self.checkpoint}" if self.checkpoint is not None else "",
        ]
        return "  ".join(fact for fact in facts if fact)


def view_of(job: Object, fresh: dict[str, Any] | None = None) -> View:
    """What status says; `fresh`, rank 0's own /status, is newer once it has made a step."""
    status = job.get("status", {})
    progress = status.get("progress", {})
    if fresh and "loss" in fresh:
        progress = fresh
    return View(
        phase=status.get("phase", "Pending"),
        attempt=status.get("currentAttempt", {}).get("number", 0),
        step=progress.get("step", 0),
        total_steps=progress.get("totalSteps", 0),
        loss=progress.get("loss"),
        remaining=progress.get("estimatedRemainingSeconds"),
        checkpoint=status.get("lastCheckpoint", {}).get("step"),
    )


def ask_rank_0(cluster: Cluster, job: Object) -> dict[str, Any] | None:
    """Rank 0's /status through the API server, or None where it cannot be reached just now."""
    attempt = job.get("status", {}).get("currentAttempt", {}).get("jobName")
    if attempt is None:
        return None
    pods = cluster.items("pods", selector=f"job-name={attempt},{RANK_0}")
    running = [p["metadata"]["name"] for p in pods if p["status"].get("phase") == "Running"]
    if not running:
        return None
    path = f"/api/v1/namespaces/{cluster.namespace}/pods/{running[0]}:9400/proxy/status"
    answer = cluster.try_kubectl("get", "--raw", path)
    if answer.returncode != 0:
        return None
    fresh: dict[str, Any] = json.loads(answer.stdout)
    return fresh


class Display:
    """Shows views: a table that is redrawn on a terminal, one line per change elsewhere."""

    def __init__(self) -> None:
        self._console = Console()
        self._live = Live(console=self._console) if self._console.is_terminal else None
        self._last = ""

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def show(self, view: View) -> None:
        """Show a view unless it says what the last one said."""
        line = view.line()
        if line == self._last:
            return
        self._last = line
        if self._live:
            self._live.update(_table(view))
        else:
            print(f"   {line}", flush=True)

    def say(self, words: str) -> None:
        """Say something that stays on the screen."""
        self._console.print(f"   {words}", highlight=False)


def _table(view: View) -> Table:
    table = Table.grid()
    table.add_row(f"   {view.line()}")
    table.add_row(ProgressBar(total=view.total_steps or 1, completed=view.step, width=70))
    return table
