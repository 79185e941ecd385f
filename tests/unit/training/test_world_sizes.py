"""The examples and the arithmetic of a step do not depend on who computes what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load

from finetune_trainer.checkpoint.layout import JobFolder
from finetune_trainer.contract import AdapterSpec, ExitCode, RunConfig, Topology
from tests.forked_ranks import run_ranks
from tests.training_runs import Sources, adapter_bytes, planned

pytestmark = pytest.mark.usefixtures("forked")
TOLERANCE = 1e-5


def split(
    sources: Sources,
    folder: Path,
    *,
    world: int,
    micro_batch: int,
    dropout: float = 0.0,
    checkpointing: str = "None",
) -> RunConfig:
    """Eight steps in unquantised fp32 on so many ranks, so many examples at once."""
    config = sources.config(
        folder / "workspace",
        adapter=AdapterSpec(quantization="None", rank=4, alpha=8, dropout=dropout),
        topology=Topology(processes_per_node=world),
    )
    return planned(
        config,
        micro_batch_size=micro_batch,
        activation_checkpointing=checkpointing,
        total_steps=8,
    )


def train(config: RunConfig, folder: Path) -> tuple[dict[str, torch.Tensor], list[Any]]:
    """The trained adapter and the logged lines."""
    outcome = run_ranks(config, folder / "scratch")
    assert outcome.codes == {ExitCode.OK}, outcome.endings
    job = JobFolder.of(config)
    lines = [json.loads(line) for line in job.log.read_text().splitlines()]
    return load(adapter_bytes(job)), lines


def assert_equal(found: Any, wanted: Any) -> None:
    adapter, lines = found
    for name, tensor in wanted[0].items():
        torch.testing.assert_close(adapter[name], tensor, rtol=0, atol=TOLERANCE)
    for line, other in zip(lines, wanted[1], strict=True):
        assert line["supervised_tokens"] == other["supervised_tokens"]
        for field in ("loss", "grad_norm", "learning_rate", "eval_loss"):
            assert line.get(field, 0.0) == pytest.approx(other.get(field, 0.0), abs=TOLERANCE)


@pytest.fixture(scope="module")
def whole(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One rank, the whole global batch at once."""
    folder = tmp_path_factory.mktemp("whole")
    return train(split(sources, folder, world=1, micro_batch=8), folder)


@pytest.mark.parametrize(("world", "micro_batch"), [(1, 3), (2, 3), (2, 8), (4, 1), (4, 2)])
def test_ranks_and_splits_give_the_same_adapter(
    sources: Sources, tmp_path: Path, whole: Any, world: int, micro_batch: int
) -> None:
    config = split(sources, tmp_path, world=world, micro_batch=micro_batch)
    assert_equal(train(config, tmp_path), whole)


def test_full_checkpointing_gives_the_same_adapter(
    sources: Sources, tmp_path: Path, whole: Any
) -> None:
    config = split(sources, tmp_path, world=1, micro_batch=8, checkpointing="Full")
    assert_equal(train(config, tmp_path), whole)


def test_dropout_does_not_depend_on_the_rank_that_draws_it(
    sources: Sources, tmp_path: Path
) -> None:
    results = []
    for world in (1, 2):
        folder = tmp_path / str(world)
        config = split(sources, folder, world=world, micro_batch=2, dropout=0.2)
        results.append(train(config, folder))
    assert_equal(*results)
