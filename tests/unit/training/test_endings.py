"""How an execution ends when something is wrong, and what the next one makes of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from finetune_trainer.checkpoint.layout import JobFolder
from finetune_trainer.checkpoint.manifest import ADAPTER_FILE, read, verify
from finetune_trainer.checkpoint.writer import Health, read_health
from finetune_trainer.contract import (
    MAX_SAMPLES,
    CheckpointReference,
    ExitCode,
    RunConfig,
    SamplesSpec,
    TrainingSpec,
)
from tests.forked_ranks import Outcome, prepare, run_ranks
from tests.training_runs import TOTAL_STEPS, Sources, adapter_bytes, planned

pytestmark = pytest.mark.usefixtures("forked")


def training(config: RunConfig, **changes: Any) -> RunConfig:
    spec = TrainingSpec(**{**config.training.model_dump(), **changes})
    return config.model_copy(update={"training": spec})


def next_attempt(config: RunConfig, **changes: Any) -> RunConfig:
    return config.model_copy(update={"attempt": config.attempt + 1, **changes})


def only(outcome: Outcome) -> tuple[int, str, str]:
    (ending,) = outcome.endings
    return ending.code, ending.reason, ending.message


@pytest.fixture(scope="module")
def finished(sources: Sources, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """A job that ran to its end; tests copy its folder."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        prepare(monkeypatch)
        folder = tmp_path_factory.mktemp("finished")
        config = sources.config(folder / "workspace")
        assert only(run_ranks(config, folder / "scratch"))[0] == ExitCode.OK
        return config


@pytest.fixture
def again(finished: RunConfig, tmp_path: Path) -> RunConfig:
    """Attempt 2 of the finished job, in a copy of its workspace."""
    shutil.copytree(finished.workspace, tmp_path / "workspace", symlinks=True)
    return next_attempt(finished, workspace=str(tmp_path / "workspace"))


def test_a_good_end_leaves_a_complete_adapter_and_trusted_checkpoints(
    finished: RunConfig,
) -> None:
    job = JobFolder.of(finished)
    adapter = job.root / "output" / "a1.e1" / "adapter"
    assert {path.name for path in adapter.iterdir()} >= {
        "adapter_config.json",
        "adapter_model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "generation_config.json",
    }
    assert (job.root / "output" / "adapter").readlink() == Path("a1.e1/adapter")
    assert json.loads((adapter / "generation_config.json").read_text())["eos_token_id"] == [2]
    assert all(path.stat().st_mode & 0o040 for path in adapter.iterdir())
    assert (adapter.parent / "loss-curve.png").read_bytes().startswith(b"\x89PNG")
    folders = sorted(job.checkpoints.glob("step-*.a1.e1"))
    assert [verify(folder) for folder in folders] == [[]] * len(folders)
    assert {read_health(folder) for folder in folders} == {Health.HEALTHY}
    saved = load_file(folders[-1] / ADAPTER_FILE).values()
    assert {tensor.dtype for tensor in saved} == {torch.float32}


def test_a_damaged_newest_checkpoint_costs_steps_but_not_a_bit(
    finished: RunConfig, again: RunConfig, tmp_path: Path
) -> None:
    job = JobFolder.of(again)
    for step in (16, TOTAL_STEPS):
        path = job.checkpoints / f"step-{step:08d}.a1.e1" / "optimizer.pt"
        path.write_bytes(path.read_bytes()[:-7])
    outcome = run_ranks(again, tmp_path / "scratch")
    assert only(outcome)[0] == ExitCode.OK
    assert outcome.facts is not None
    assert outcome.facts.progress.resumed_from_step == 12
    assert [reason.split(":")[0] for reason in outcome.facts.progress.skipped_checkpoints] == [
        "step-00000018.a1.e1",
        "step-00000016.a1.e1",
    ]
    assert adapter_bytes(job) == adapter_bytes(JobFolder.of(finished))
    steps = [json.loads(line)["step"] for line in job.log.read_text().splitlines()]
    assert steps == list(range(1, TOTAL_STEPS + 1))


def test_50_when_status_knows_a_checkpoint_that_is_gone(sources: Sources, tmp_path: Path) -> None:
    known = CheckpointReference(step=8, path="step-00000008.a1.e1", digest="d")
    config = sources.config(tmp_path / "workspace").model_copy(update={"known_checkpoint": known})
    code, reason, message = only(run_ranks(config, tmp_path / "scratch"))
    assert (code, reason) == (ExitCode.NO_CHECKPOINT_VERIFIES, "NoCheckpointVerifies")
    assert "step-00000008.a1.e1" in message


def test_51_when_the_checkpoint_is_of_another_seed(again: RunConfig, tmp_path: Path) -> None:
    code, reason, message = only(run_ranks(training(again, seed=7), tmp_path / "scratch"))
    assert (code, reason) == (ExitCode.FOREIGN_CHECKPOINT, "ForeignCheckpoint")
    assert "seed: 42 -> 7" in message


def test_40_before_an_update_that_is_not_finite(sources: Sources, tmp_path: Path) -> None:
    config = planned(
        sources.config(tmp_path / "workspace"), learning_rate=1e36, checkpoint_interval=1
    )
    code, reason, message = only(run_ranks(config, tmp_path / "scratch"))
    assert (code, reason) == (ExitCode.NOT_FINITE, "NotFinite")
    assert "the update was not made; rows" in message


def test_the_learning_rate_factor_reaches_the_first_step_after_a_resume(
    again: RunConfig, tmp_path: Path
) -> None:
    job = JobFolder.of(again)
    before = [json.loads(line) for line in job.log.read_text().splitlines()]
    for step in (16, TOTAL_STEPS):
        (job.checkpoints / f"step-{step:08d}.a1.e1" / "MANIFEST.json").unlink()
    slower = again.model_copy(update={"learning_rate_factor": 0.5})
    assert only(run_ranks(slower, tmp_path / "scratch"))[0] == ExitCode.OK
    after = [json.loads(line) for line in job.log.read_text().splitlines()]
    for old, new in zip(before, after, strict=True):
        factor = 1.0 if new["attempt"] == 1 else 0.5
        assert new["learning_rate"] == pytest.approx(old["learning_rate"] * factor, rel=1e-12)
    newest = job.checkpoints / job.latest.read_text().strip()
    assert read(newest).learning_rate_factor == 0.5


def test_a_wrong_world_size_is_refused(sources: Sources, tmp_path: Path) -> None:
    config = sources.config(tmp_path / "workspace")
    outcome = run_ranks(config, tmp_path / "scratch", claimed_world=3)
    code, reason, message = only(outcome)
    assert (code, reason) == (ExitCode.BAD_CONFIG, "WorldSize")
    assert "WORLD_SIZE is 3" in message


def test_a_stop_before_step_1_has_nothing_to_save(sources: Sources, tmp_path: Path) -> None:
    config = sources.config(tmp_path / "workspace")
    outcome = run_ranks(config, tmp_path / "scratch", stop=True)
    assert only(outcome)[0] == ExitCode.STOPPED_NOTHING_NEW
    assert not JobFolder.of(config).checkpoints.exists()


def test_14_when_the_model_cannot_be_loaded(sources: Sources, tmp_path: Path) -> None:
    config = sources.config(tmp_path / "workspace")
    broken = Sources(tmp_path / "broken").make()
    (broken.root / "model" / "model.safetensors").write_bytes(b"not a model")
    source = config.model.model_copy(update={"source": f"file://{broken.root}/model"})
    outcome = run_ranks(config.model_copy(update={"model": source}), tmp_path / "scratch")
    code, reason, message = only(outcome)
    assert (code, reason) == (ExitCode.MODEL, "ModelUnusable")
    assert "model.source" in message


def test_11_when_the_tokenised_data_is_damaged(sources: Sources, tmp_path: Path) -> None:
    config = sources.config(tmp_path / "workspace")
    assert config.plan is not None
    arrow = JobFolder.of(config).data(config.plan.data_fingerprint) / "train.arrow"
    arrow.write_bytes(arrow.read_bytes()[:-9])
    code, reason, _ = only(run_ranks(config, tmp_path / "scratch"))
    assert (code, reason) == (ExitCode.DATA_UNREADABLE, "DataDamaged")


def test_the_record_tells_the_newest_samples_and_the_file_all(
    again: RunConfig, tmp_path: Path
) -> None:
    prompts = tuple(f"what is number {number}?" for number in range(MAX_SAMPLES))
    asked = training(again, samples=SamplesSpec(prompts=prompts, max_new_tokens=1))
    outcome = run_ranks(asked, tmp_path / "scratch")
    assert only(outcome)[0] == ExitCode.OK
    assert outcome.facts is not None and outcome.facts.output is not None
    told = outcome.facts.output.samples
    assert [(each.step, each.prompt) for each in told] == [(TOTAL_STEPS, each) for each in prompts]
    assert len(outcome.job.samples.read_text().splitlines()) == 1 + MAX_SAMPLES
