"""AdamW in fp32 and the learning-rate schedule, with the factor that a rollback leaves behind."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from transformers import get_scheduler

from finetune_trainer.contract import Plan, TrainingSpec

SCHEDULERS: Final = {
    "Cosine": "cosine",
    "Linear": "linear",
    "Constant": "constant",
    "ConstantWithWarmup": "constant_with_warmup",
}
BETAS: Final = (0.9, 0.999)
EPSILON: Final = 1e-8


class Optimizer:
    """AdamW and scheduler as one thing that steps, saves and restores together."""

    def __init__(
        self, parameters: Iterable[nn.Parameter], *, plan: Plan, training: TrainingSpec
    ) -> None:
        trained = list(parameters)
        self.adamw = AdamW(
            trained,
            lr=plan.learning_rate,
            betas=BETAS,
            eps=EPSILON,
            weight_decay=training.weight_decay,
            fused=trained[0].is_cuda,
        )
        self.scheduler: LambdaLR = get_scheduler(
            SCHEDULERS[training.scheduler],
            self.adamw,
            num_warmup_steps=plan.warmup_steps,
            num_training_steps=plan.total_steps,
        )

    @property
    def learning_rate(self) -> float:
        """The rate that the next step uses."""
        return float(self.adamw.param_groups[0]["lr"])

    def step(self) -> None:
        """Update the parameters, then the rate."""
        self.adamw.step()
        self.scheduler.step()

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What optimizer.pt and scheduler.pt hold; schedule functions are not state."""
        scheduler = self.scheduler.state_dict()
        scheduler.pop("lr_lambdas")
        return self.adamw.state_dict(), scheduler

    def restore(self, adamw: dict[str, Any], scheduler: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        self.adamw.load_state_dict(adamw)
        self.scheduler.load_state_dict({**scheduler, "lr_lambdas": [None]})

    def apply_factor(self, plan: Plan, factor: float) -> None:
        """Set base and current rate to the scheduled one times `factor`.

        Called after `restore`: a checkpoint carries the factor of the attempt that wrote it.
        """
        base = plan.learning_rate * factor
        self.scheduler.base_lrs = [base for _ in self.adamw.param_groups]
        scheduled = [
            base * schedule(self.scheduler.last_epoch) for schedule in self.scheduler.lr_lambdas
        ]
        for group, rate in zip(self.adamw.param_groups, scheduled, strict=True):
            group["initial_lr"] = base
            group["lr"] = rate
        self.scheduler._last_lr = list(scheduled)


def save_state(state: dict[str, Any], path: Path) -> None:
    """Write a state file that `load_state` reads.

    Raises an error that tells a full volume from others: torch loses the reason when it opens the
    file itself.
    """
    with path.open("wb") as stream:
        torch.save(state, stream)


def load_state(path: Path) -> dict[str, Any]:
    """Read a state file on the CPU; only tensors and plain values are accepted."""
    return torch.load(path, map_location="cpu", weights_only=True)  # type: ignore[no-any-return]
