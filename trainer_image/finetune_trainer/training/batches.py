"""Which examples a step sees, and how they are laid into micro-batches.

Everything is a function of data, plan, seed and step alone. Rank and world size only decide who
computes what, so a run may be resumed at any step, on another number of processes, without an
example repeated or lost.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from finetune_trainer.contract import ExitCode, Plan
from finetune_trainer.data.store import IGNORED, Example, TokenisedData
from finetune_trainer.errors import TrainerError


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Examples of one forward pass. index = its place in the step, on whichever rank it runs."""

    index: int
    examples: tuple[Example, ...]

    @property
    def supervised_tokens(self) -> int:
        """Tokens that have a loss: a first token has nothing before it to be predicted from."""
        return sum(example.supervised - (example.labels[0] != IGNORED) for example in self.examples)


@dataclass(frozen=True, slots=True)
class StepBatch:
    """One optimizer step: its ordered micro-batches, over all ranks."""

    step: int
    epoch: float  # fraction of passes over the data when this step is done
    micro_batches: tuple[MicroBatch, ...]

    @property
    def supervised_tokens(self) -> int:
        """What the step's loss is divided by."""
        return sum(batch.supervised_tokens for batch in self.micro_batches)

    @property
    def tokens(self) -> int:
        """All real tokens, padding not counted."""
        return sum(
            len(example.input_ids) for batch in self.micro_batches for example in batch.examples
        )

    def share(self, rank: int, world_size: int) -> tuple[MicroBatch, ...]:
        """What one rank computes: items r, r+W, ...; a rank with fewer adds zero to the sums."""
        return self.micro_batches[rank::world_size]


@lru_cache(maxsize=2)
def epoch_order(rows: int, *, seed: int, epoch: int) -> tuple[int, ...]:
    """The order of the rows in one pass over the data."""
    order = list(range(rows))
    random.Random(f"{seed}/{epoch}").shuffle(order)
    return tuple(order)


def lay_out(examples: Sequence[Example], size: int) -> tuple[MicroBatch, ...]:
    """Micro-batches of at most `size` examples, longest first, so that little is padding."""
    ordered = sorted(examples, key=lambda example: -len(example.input_ids))
    return tuple(
        MicroBatch(index, tuple(ordered[start : start + size]))
        for index, start in enumerate(range(0, len(ordered), size))
    )


class Batches:
    """The steps of a run, counted from 1."""

    def __init__(self, data: TokenisedData, plan: Plan, *, seed: int) -> None:
        """Raise TrainerError (11, DataDiffersFromPlan) when the plan was made for other data."""
        self.train = data.train
        self.plan = plan
        self.seed = seed
        steps = -(-len(data.train) // plan.effective_batch_size)
        if steps != plan.steps_per_epoch:
            raise TrainerError(
                ExitCode.DATA_UNREADABLE,
                "DataDiffersFromPlan",
                f"{len(data.train)} rows make {steps} steps per epoch, the plan says"
                f" {plan.steps_per_epoch}",
            )

    def step(self, step: int) -> StepBatch:
        """The micro-batches of optimizer step `step` (1..total_steps)."""
        epoch, position = divmod(step - 1, self.plan.steps_per_epoch)
        order = epoch_order(len(self.train), seed=self.seed, epoch=epoch)
        size = self.plan.effective_batch_size
        rows = order[position * size : (position + 1) * size]
        micro_batches = lay_out([self.train[row] for row in rows], self.plan.micro_batch_size)
        return StepBatch(step, step / self.plan.steps_per_epoch, micro_batches)
