"""Held-out loss and greedy samples, shared out over the ranks.

Work goes round by round: in each round every rank does one item, then all agree whether somebody
asked to stop, so an evaluation never delays a stop by more than one item. Random numbers are
forked: a run with evaluation trains the same bits as one without.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from finetune_trainer.contract import Sample, SamplesSpec
from finetune_trainer.data.store import Example
from finetune_trainer.data.template import ChatTokenizer
from finetune_trainer.training.batches import lay_out
from finetune_trainer.training.distributed import Ranks
from finetune_trainer.training.model import TrainedModel, sample
from finetune_trainer.training.randomness import forked_rng


class StopRequested(Exception):
    """All ranks agreed to stop; raised on each of them at the same place."""


def evaluate(
    model: TrainedModel,
    examples: Sequence[Example],
    *,
    batch_size: int,
    ranks: Ranks,
    stop: Callable[[], bool],
) -> float:
    """Mean loss per supervised token over all examples; NaN when there is no such token.

    Raises StopRequested when a rank was asked to stop.
    """
    batches = lay_out(examples, batch_size)
    total = torch.zeros(3, dtype=torch.float64, device=ranks.device)  # loss, tokens, stop flags
    model.peft.eval()
    try:
        with forked_rng(), torch.no_grad():
            for start in range(0, len(batches), ranks.world_size):
                partial = torch.zeros_like(total)
                for batch in batches[start : start + ranks.world_size][ranks.rank : ranks.rank + 1]:
                    if batch.supervised_tokens:
                        partial[0] = model.loss(batch, divisor=1).double()
                        partial[1] = batch.supervised_tokens
                partial[2] = float(stop())
                total += ranks.sum(partial)
                if total[2].item() > 0:
                    raise StopRequested
    finally:
        model.peft.train()
    loss, tokens, _ = total.tolist()
    return loss / tokens if tokens else math.nan


def take_samples(
    model: TrainedModel,
    spec: SamplesSpec,
    *,
    step: int,
    tokenizer: ChatTokenizer,
    ranks: Ranks,
    stop: Callable[[], bool],
) -> tuple[Sample, ...]:
    """A greedy answer to every prompt, in order, on every rank.

    Raises StopRequested when a rank was asked to stop.
    """
    mine: list[Sample] = []
    model.peft.eval()
    try:
        with forked_rng():
            for start in range(0, len(spec.prompts), ranks.world_size):
                turn = spec.prompts[start : start + ranks.world_size][ranks.rank : ranks.rank + 1]
                mine.extend(
                    sample(
                        model,
                        step,
                        prompt,
                        tokenizer=tokenizer,
                        max_new_tokens=spec.max_new_tokens,
                    )
                    for prompt in turn
                )
                if ranks.any(stop()):
                    raise StopRequested
    finally:
        model.peft.train()
    by_rank = ranks.gather(mine)
    return tuple(
        by_rank[position % ranks.world_size][position // ranks.world_size]
        for position in range(len(spec.prompts))
    )
