"""When the loop saves, and what becomes of the checkpoints afterwards."""

from __future__ import annotations

from finetune_trainer.checkpoint.lineage import CheckpointName, visible
from finetune_trainer.checkpoint.registry import list_checkpoints, read_executions
from finetune_trainer.checkpoint.writer import CheckpointWriter, Health, read_health, write_health
from finetune_trainer.contract import CheckpointReference, RunConfig, RunIdentity
from finetune_trainer.training.health import Quiet
from finetune_trainer.training.log import StepLog, read_run
from finetune_trainer.training.state import Snapshot, describe


class Checkpoints:
    """Rank 0's checkpoints of one execution, and the health of all that the run still has."""

    def __init__(
        self, config: RunConfig, identity: RunIdentity, *, writer: CheckpointWriter, log: StepLog
    ) -> None:
        self._config = config
        self._identity = identity
        self._writer = writer
        self._log = log
        self._folder = writer.job.checkpoints
        self._quiet = Quiet(float(line["loss"]) for line in read_run(writer.job))
        names = visible(read_executions(writer.job), list_checkpoints(writer.job))
        self._pending = [name for name in names if self._health(name) is Health.PENDING]

    def save(self, snapshot: Snapshot) -> CheckpointReference:
        """Write the checkpoint of this step; the log up to it is made durable first."""
        self._log.sync()
        reference = self._writer.save(
            snapshot.state.step,
            snapshot.write,
            describe=lambda name, files: describe(
                self._config,
                self._identity,
                name=name,
                files=files,
                device=snapshot.model.device,
            ),
        )
        name = CheckpointName.parse(reference.path)
        assert name is not None
        self._pending.append(name)
        return reference

    def observe(self, loss: float) -> None:
        """Add the loss of a step; checkpoints that enough quiet steps followed become healthy."""
        self._quiet.observe(loss)
        self._mark([name for name in self._pending if self._quiet.vouches_for(name.step)])

    def trust_all(self) -> None:
        """A finite evaluation or a good end vouches for everything before it."""
        self._mark(list(self._pending))

    def _mark(self, names: list[CheckpointName]) -> None:
        for name in names:
            self._pending.remove(name)
            if (self._folder / str(name)).is_dir():
                write_health(self._folder / str(name), Health.HEALTHY)

    def _health(self, name: CheckpointName) -> Health:
        return read_health(self._folder / str(name))
