"""What the demo claims, read from the files that the job left, and checked before it is printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from dev.demo.kube import Cluster, Object, read_file

TRAIN_TOKEN_LIMIT: Final = 30_000
EVALUATION_TOKEN_LIMIT: Final = 2_000
MIN_STEPS: Final = 30
ATTEMPT_FIELDS: Final = ("number", "outcome", "reason", "fromStep", "toStep", "stepsLost")


@dataclass(frozen=True, slots=True)
class Results:
    """The finished job and what lies in its folder on the volume."""

    job: Object
    log: list[dict[str, Any]]  # trainer_log.jsonl
    samples: list[dict[str, Any]]  # samples.jsonl
    termination: dict[str, Any]  # of the last attempt

    @property
    def attempts(self) -> list[dict[str, Any]]:
        """Rows of status.attempts, oldest first."""
        rows = self.job.get("status", {}).get("attempts", [])
        return sorted(rows, key=lambda row: int(row["number"]))

    @property
    def resumed_from_step(self) -> int:
        """Where the last attempt took up the work; 0 = at the beginning."""
        return int(self.attempts[-1].get("fromStep", 0)) if self.attempts else 0

    @property
    def total_steps(self) -> int:
        """Optimizer steps planned."""
        return int(self.job["status"].get("plan", {}).get("totalSteps", 0))

    def tokens_trained(self) -> int:
        """Upper bound of all tokens trained on, padding and redone steps included."""
        status = self.job["status"]
        redone = sum(int(row.get("stepsLost", 0)) for row in self.attempts)
        batch = int(status["plan"]["effectiveBatchSize"])
        return (self.total_steps + redone) * batch * int(status["data"]["longest"])

    def tokens_evaluated(self) -> int:
        """Upper bound of all tokens evaluated on, before step 1 and at the end."""
        longest = int(self.job["spec"]["dataset"]["maxLength"])
        return 2 * int(self.job["status"]["data"]["evalRows"]) * longest

    def answers(self) -> list[tuple[str, str, str]]:
        """(prompt, answer before training, answer after) for each prompt asked both times."""
        last = max((sample["step"] for sample in self.samples), default=0)
        after = {s["prompt"]: s["answer"] for s in self.samples if s["step"] == last}
        before = {s["prompt"]: s["answer"] for s in self.samples if s["step"] == 0}
        return [(p, before[p], after[p]) for p in before if last > 0 and p in after]

    def summary(self, seconds: dict[str, float]) -> dict[str, Any]:
        """The content of summary.json."""
        return {
            "phase": self.job["status"]["phase"],
            "attempts": [{name: row.get(name) for name in ATTEMPT_FIELDS} for row in self.attempts],
            "resumedFromStep": self.resumed_from_step,
            "totalSteps": self.total_steps,
            "lossFirst": self.log[0]["loss"] if self.log else None,
            "lossLast": self.log[-1]["loss"] if self.log else None,
            "evalLossBefore": _number(self.termination.get("evalLossBefore")),
            "evalLossAfter": _number(self.termination.get("evalLoss")),
            "seconds": seconds,
        }


def _number(text: str | None) -> float | None:
    return None if text is None else float(text)


def _eval_loss_fell(results: Results) -> bool:
    facts = results.summary({})
    before, after = facts["evalLossBefore"], facts["evalLossAfter"]
    return before is not None and after is not None and after < before


CLAIMS: Final[tuple[tuple[str, Callable[[Results], bool]], ...]] = (
    ("the job succeeded", lambda r: r.job["status"]["phase"] == "Succeeded"),
    ("there were at least 2 attempts", lambda r: len(r.attempts) >= 2),
    ("the last attempt resumed from a step > 0", lambda r: r.resumed_from_step > 0),
    (f"the run had at least {MIN_STEPS} steps", lambda r: r.total_steps >= MIN_STEPS),
    (
        "trainer_log.jsonl has every step exactly once, in order",
        lambda r: [line["step"] for line in r.log] == list(range(1, r.total_steps + 1)),
    ),
    ("the held-out loss fell", _eval_loss_fell),
    ("every prompt was answered before and after", lambda r: len(r.answers()) >= 3),
    (
        f"at most {TRAIN_TOKEN_LIMIT} tokens were trained on",
        lambda r: r.tokens_trained() <= TRAIN_TOKEN_LIMIT,
    ),
    (
        f"at most {EVALUATION_TOKEN_LIMIT} tokens were evaluated on",
        lambda r: r.tokens_evaluated() <= EVALUATION_TOKEN_LIMIT,
    ),
)


def broken_claims(results: Results) -> list[str]:
    """Sentences that the results do not bear out."""
    return [sentence for sentence, holds in CLAIMS if not holds(results)]


def job_folder(job: Object) -> str:
    """The job's folder on its volume."""
    meta = job["metadata"]
    return f"{meta['namespace']}-{meta['name']}-{meta['uid'][:8]}"


def workspace_claim(job: Object) -> str:
    """The claim of the job's workspace: its own, or the one that the operator made for it."""
    meta = job["metadata"]
    named = job["spec"].get("workspace", {}).get("claimName")
    return str(named or f"{meta['name']}-{meta['uid'][:5]}")


def collect(cluster: Cluster, job: Object, *, reader: str, out: Path) -> Results:
    """Copy log, samples and loss curve from the volume (pod `reader`) into `out` and read them."""
    folder = job_folder(job)
    attempts = [int(row["number"]) for row in job["status"].get("attempts", [])]
    texts = {}
    for name in ("trainer_log.jsonl", "samples.jsonl"):
        content = read_file(cluster, reader, f"{folder}/{name}")
        (out / name).write_bytes(content)
        texts[name] = [json.loads(line) for line in content.splitlines()]
    record = read_file(cluster, reader, f"{folder}/attempts/{max(attempts)}/termination.json")
    termination = json.loads(record)
    curve = termination.get("output", {}).get("lossCurve")
    if curve is not None:
        (out / "loss_curve.png").write_bytes(read_file(cluster, reader, f"{folder}/{curve}"))
    return Results(job, texts["trainer_log.jsonl"], texts["samples.jsonl"], termination)


def show(results: Results) -> None:
    """Print the attempts table and the answers before and after."""
    console = Console()
    table = Table(title="Attempts")
    for name in ATTEMPT_FIELDS:
        table.add_column(name)
    for row in results.summary({})["attempts"]:
        table.add_row(*("" if row[name] is None else str(row[name]) for name in ATTEMPT_FIELDS))
    console.print(table)
    for prompt, before, after in results.answers():
        console.print(f"\n[bold]{prompt}[/bold]", highlight=False)
        console.print("  before: ", before.strip(), markup=False, highlight=False)
        console.print("  after:  ", after.strip(), markup=False, highlight=False)
