"""The run of one execution, top to bottom: where it starts, what a step is, how it ends.

A step is an ordered list of micro-batches shared out over the ranks; one reduction later every rank
holds the same gradients and takes the same update. Rank 0 alone decides, writes and reports.
"""

from __future__ import annotations

import logging
import math
import time
from typing import Any, Final

import torch

from finetune_trainer.checkpoint.layout import JobFolder
from finetune_trainer.checkpoint.lineage import Execution
from finetune_trainer.checkpoint.registry import register
from finetune_trainer.checkpoint.resume import Start, choose_start
from finetune_trainer.checkpoint.writer import CheckpointWriter
from finetune_trainer.contract import MAX_SAMPLES, ExitCode, RunConfig, TrainerPhase
from finetune_trainer.data import store
from finetune_trainer.data.sources import model_folder
from finetune_trainer.data.template import load_tokenizer
from finetune_trainer.errors import TrainerError
from finetune_trainer.training.batches import Batches, StepBatch
from finetune_trainer.training.checkpoints import Checkpoints
from finetune_trainer.training.distributed import (
    Gradients,
    Ranks,
    StepResult,
    broadcast_parameters,
)
from finetune_trainer.training.evaluation import StopRequested, evaluate, take_samples
from finetune_trainer.training.log import StepLog
from finetune_trainer.training.model import TrainedModel
from finetune_trainer.training.optimizer import Optimizer
from finetune_trainer.training.output import write_output, write_samples
from finetune_trainer.training.progress import ProgressReport
from finetune_trainer.training.randomness import rng_state, seed_everything, seed_for
from finetune_trainer.training.reports import Scratch
from finetune_trainer.training.signals import StopRequest
from finetune_trainer.training.state import Snapshot, TrainerState, restore, run_identity

logger: Final = logging.getLogger(__name__)


class Run:
    """One execution on one rank."""

    def __init__(
        self, config: RunConfig, *, ranks: Ranks, stop: StopRequest, scratch: Scratch
    ) -> None:
        if config.plan is None:
            raise TrainerError(ExitCode.BAD_CONFIG, "NoPlan", "plan is missing: run preflight")
        self.config, self.plan, self.ranks, self.stop = config, config.plan, ranks, stop
        torch.use_deterministic_algorithms(config.training.deterministic)
        self.job = JobFolder.of(config)
        self.data = store.load(self.job.data(self.plan.data_fingerprint))
        self.batches = Batches(self.data, self.plan, seed=config.training.seed)
        self.base = model_folder(config.model.source, config.sources)
        self.tokenizer = load_tokenizer(self.base)
        self.identity = run_identity(config, template_sha256=self.data.template_sha256)
        self.report = ProgressReport(config, scratch) if ranks.is_main else None
        self.execution, self.start = ranks.decide(self._begin)
        self._load()

    def _begin(self) -> tuple[Execution, Start]:
        """Rank 0: choose the checkpoint and register, before anything is trained."""
        start = choose_start(
            self.job,
            self.identity,
            resume_from=self.config.resume_from,
            known=self.config.known_checkpoint,
        )
        execution = register(self.job, self.config.attempt, parent=start.checkpoint)
        writer = CheckpointWriter(self.job, execution, self.config.checkpoint.keep)
        writer.discard_leftovers()
        self.log = StepLog(self.job, execution)
        self.checkpoints = Checkpoints(self.config, self.identity, writer=writer, log=self.log)
        for reason in start.skipped:
            logger.warning("skipped checkpoint %s", reason)
        logger.info(
            "attempt %d, execution %d starts from %s",
            execution.attempt,
            execution.number,
            start.checkpoint or "step 0",
        )
        assert self.report is not None
        self.report.begun(execution, start)
        return execution, start

    def _load(self) -> None:
        """Base model, adapter and optimizer, in the state of the chosen checkpoint."""
        self._phase(TrainerPhase.LOAD)
        self.model = TrainedModel(
            self.config, self.base, pad_token_id=self.data.pad_token_id, ranks=self.ranks
        )
        self.optimizer = Optimizer(
            self.model.parameters, plan=self.plan, training=self.config.training
        )
        self.state = TrainerState()
        if self.start.checkpoint is not None:
            folder = self.job.checkpoints / str(self.start.checkpoint)
            self.state = restore(folder, self.model, optimizer=self.optimizer, rank=self.ranks.rank)
        self.optimizer.apply_factor(self.plan, self.config.learning_rate_factor)
        broadcast_parameters(self.ranks, self.model.parameters)
        self.gradients = Gradients(self.model.parameters, device=self.ranks.device)
        self.saved_step = self.state.step  # the newest step that is on the volume
        self.model.peft.train()
        if self.ranks.is_main:
            logger.info("%s; %d ranks", self.model.summary, self.ranks.world_size)

    def run(self) -> ExitCode:
        """Train to the last step, or to the step after which somebody asked to stop."""
        try:
            if self.ranks.any(self.stop.requested):
                raise StopRequested
            self._before()
            self._phase(TrainerPhase.TRAIN)
            while self.state.step < self.plan.total_steps:
                self._step(self.batches.step(self.state.step + 1))
            self._after()
            code = ExitCode.OK
        except StopRequested:
            self._save_once()
            new = self.saved_step > self.start.step
            code = ExitCode.STOPPED_SAVED if new else ExitCode.STOPPED_NOTHING_NEW
        self.ranks.finish()
        return code

    # --- the story of a step ----------------------------------------------------------------------

    def _step(self, batch: StepBatch) -> None:
        began = time.monotonic()
        learning_rate = self.optimizer.learning_rate
        result = self._reduced_gradients(batch)
        if not (math.isfinite(result.loss) and math.isfinite(result.grad_norm)):
            raise _not_finite(batch, result)
        self.optimizer.step()
        seconds = time.monotonic() - began
        self.state = self.state.model_copy(
            update={
                "step": batch.step,
                "elapsed_seconds": self.state.elapsed_seconds + seconds,
            }
        )
        self._write_step(batch, result, learning_rate=learning_rate, seconds=seconds)
        last = batch.step == self.plan.total_steps
        if last or batch.step % self.plan.checkpoint_interval == 0:
            self._save_once()
        if result.stop:
            raise StopRequested

    def _reduced_gradients(self, batch: StepBatch) -> StepResult:
        """Gradients of the step's mean loss per supervised token, clipped, on every rank."""
        self.gradients.zero()
        total = torch.zeros((), device=self.ranks.device)
        divisor = batch.supervised_tokens
        for item in batch.share(self.ranks.rank, self.ranks.world_size):
            seed_everything(seed_for(self.config.training.seed, batch.step, item.index))
            loss = self.model.loss(item, divisor=divisor)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return self.gradients.reduce(
            self.ranks,
            total,
            stop=self.stop.requested,
            max_norm=self.config.training.max_grad_norm,
        )

    def _write_step(
        self, batch: StepBatch, result: StepResult, *, learning_rate: float, seconds: float
    ) -> None:
        if self.report is None:
            return
        record: dict[str, Any] = {
            "step": batch.step,
            "total_steps": self.plan.total_steps,
            "epoch": round(batch.epoch, 6),
            "loss": result.loss,
            "learning_rate": learning_rate,
            "grad_norm": result.grad_norm,
            "tokens_per_second": round(batch.tokens / seconds, 3),
            "supervised_tokens": batch.supervised_tokens,
            "elapsed_seconds": round(self.state.elapsed_seconds, 3),
            "attempt": self.execution.attempt,
        }
        self.log.step(record)
        self.checkpoints.observe(result.loss)
        self.report.step(record, seconds=seconds)

    # --- around the steps -------------------------------------------------------------------------

    def _before(self) -> None:
        """Evaluate and sample the untrained adapter, unless the checkpoint already knows."""
        if self.state.step == 0:
            loss = self._evaluate()
            self.state = self.state.model_copy(update={"eval_loss_before": loss})
            self._report_evaluation(loss)
            self._sample()
        elif self.report is not None:
            self._report_evaluation(None)
            write_samples(self.job, self.state.samples)

    def _after(self) -> None:
        """Evaluate, sample and publish the trained adapter."""
        loss = self._evaluate()
        self._report_evaluation(loss)
        self._sample()
        if self.report is not None:
            self._phase(TrainerPhase.SAVE)
            output = write_output(
                self.job, self.execution, model=self.model, tokenizer=self.tokenizer
            )
            self.checkpoints.trust_all()
            newest = self.state.samples[-MAX_SAMPLES:]
            self.report.done(output.model_copy(update={"samples": newest}))

    def _evaluate(self) -> float | None:
        if not len(self.data.evaluation):
            return None
        self._phase(TrainerPhase.EVALUATE)
        loss = evaluate(
            self.model,
            self.data.evaluation,
            batch_size=self.plan.micro_batch_size,
            ranks=self.ranks,
            stop=self._asked,
        )
        if self.report is not None:
            self.log.evaluation(self.state.step, loss)
            if math.isfinite(loss):
                self.checkpoints.trust_all()
        return loss

    def _sample(self) -> None:
        spec = self.config.training.samples
        if not spec.prompts:
            return
        self._phase(TrainerPhase.SAMPLE)
        taken = take_samples(
            self.model,
            spec,
            step=self.state.step,
            tokenizer=self.tokenizer,
            ranks=self.ranks,
            stop=self._asked,
        )
        self.state = self.state.model_copy(update={"samples": (*self.state.samples, *taken)})
        if self.report is not None:
            write_samples(self.job, self.state.samples)

    def _save_once(self) -> None:
        """Save this step unless it is on the volume already."""
        if self.saved_step == self.state.step:
            return
        rng = self.ranks.gather(rng_state())
        if self.report is not None:
            self._phase(TrainerPhase.SAVE)
            snapshot = Snapshot(self.model, self.optimizer, self.state, rng)
            self.report.checkpoint(self.checkpoints.save(snapshot))
            self._phase(TrainerPhase.TRAIN)
        self.saved_step = self.state.step

    def _asked(self) -> bool:
        return self.stop.requested

    def _phase(self, phase: TrainerPhase) -> None:
        if self.report is not None:
            self.report.phase(phase)

    def _report_evaluation(self, loss: float | None) -> None:
        if self.report is not None:
            self.report.evaluation(loss, before=self.state.eval_loss_before)


def _not_finite(batch: StepBatch, result: StepResult) -> TrainerError:
    rows = sorted(example.row for item in batch.micro_batches for example in item.examples)
    shown = ", ".join(str(row) for row in rows[:20]) + (", …" if len(rows) > 20 else "")
    return TrainerError(
        ExitCode.NOT_FINITE,
        "NotFinite",
        f"step {batch.step}: loss {result.loss}, gradient norm {result.grad_norm};"
        f" the update was not made; rows {shown}",
    )
