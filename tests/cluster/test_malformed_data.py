"""Malformed data ends a job in preflight, with the line numbers, before an attempt exists."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dev.demo.kube import Object
from tests.cluster.conftest import INPUTS, Product, config_map
from tests.trainer_builders import conversation, conversations, write_jsonl

DATA = "malformed"


@dataclass(frozen=True, slots=True)
class Case:
    """A job's name, its rows (None: no file), and what the message must name."""

    name: str
    rows: list[Any] | None
    named: tuple[str, ...]

    @property
    def source(self) -> str:
        """The job's dataset.source."""
        return (
            f"pvc://{INPUTS}/nowhere.jsonl"
            if self.rows is None
            else f"configmap://{DATA}/{self.name}"
        )


BROKEN_LINE_17 = [*conversations(16), '{"messages": [', *conversations(40)[16:]]
EMPTY_ANSWERS = [
    conversation("what is it?", "  ") if line in (3, 8) else row
    for line, row in enumerate(conversations(40), start=1)
]
TOO_LONG = [conversation(f"what is number {n}?", "again and again " * 400) for n in range(12)]

CASES = {
    "broken JSON on line 17 is named by its line": Case("broken-json", BROKEN_LINE_17, ("17",)),
    "empty answers are named by their lines": Case("empty-answers", EMPTY_ANSWERS, ("3", "8")),
    "a missing file is named by its source": Case("missing-file", None, ("nowhere.jsonl",)),
    "rows that are all too long leave nothing to learn": Case("too-long", TOO_LONG, ("maxLength",)),
}


@pytest.fixture(scope="module")
def jobs(product: Product, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Object]:
    """All cases' finished jobs; they run side by side."""
    folder: Path = tmp_path_factory.mktemp("malformed")
    files = {c.name: write_jsonl(folder / c.name, c.rows) for c in CASES.values() if c.rows}
    product.cluster.apply(config_map(DATA, files))
    for case in CASES.values():
        product.create(case.name, {"spec.dataset.source": case.source})
    return {case.name: product.wait_for_end(case.name) for case in CASES.values()}


@pytest.mark.cluster
@pytest.mark.parametrize("sentence", CASES)
def test_malformed_data(jobs: dict[str, Object], product: Product, sentence: str) -> None:
    case = CASES[sentence]
    job = jobs[case.name]

    ended = {c["type"]: c for c in job["status"]["conditions"]}["Succeeded"]
    assert (job["status"]["phase"], ended["reason"]) == ("Failed", "PreflightFailed")
    for word in case.named:
        assert word in ended["message"]

    children = product.cluster.items("jobs", selector=f"finetune.dev/job={case.name}")
    assert [child["metadata"]["name"].split("-")[-2] for child in children] == ["preflight"]
    assert not job["status"].get("attempts")
