"""Rank 0's Prometheus metrics, computed from Progress when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from finetune_trainer.contract import Progress

GAUGES: Final = {
    "finetune_step": ("step", "Optimizer steps done"),
    "finetune_total_steps": ("total_steps", "Optimizer steps of the whole run"),
    "finetune_epoch": ("epoch", "Passes over the training data done"),
    "finetune_train_loss": ("loss", "Loss per supervised token of the last step"),
    "finetune_eval_loss": ("eval_loss", "Held-out loss per supervised token"),
    "finetune_learning_rate": ("learning_rate", "Learning rate of the last step"),
    "finetune_gradient_norm": ("grad_norm", "L2 norm of the gradient before clipping"),
    "finetune_tokens_per_second": ("tokens_per_second", "Tokens per second, padding not counted"),
    "finetune_estimated_remaining_seconds": (
        "estimated_remaining_seconds",
        "Seconds until the last step at the present pace",
    ),
    "finetune_gpu_memory_bytes": ("gpu_memory_bytes", "GPU memory reserved by rank 0"),
    "finetune_resumed_from_step": ("resumed_from_step", "Step this execution started from"),
}


class ProgressCollector(Collector):
    """A gauge for each number that Progress has; unknown ones are absent, not zero."""

    def __init__(self, read: Callable[[], Progress]) -> None:
        self._read = read

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges of this moment."""
        progress = self._read()
        for name, (field, help_text) in GAUGES.items():
            value = getattr(progress, field)
            if value is not None:
                yield GaugeMetricFamily(name, help_text, value=float(value))
        if progress.last_checkpoint is not None:
            yield GaugeMetricFamily(
                "finetune_last_checkpoint_step",
                "Step of the newest verified checkpoint",
                value=progress.last_checkpoint.step,
            )


def render(read: Callable[[], Progress]) -> bytes:
    """The text that Prometheus scrapes."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ProgressCollector(read))
    return generate_latest(registry)
