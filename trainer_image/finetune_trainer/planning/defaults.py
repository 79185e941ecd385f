"""The one table behind `Auto`, with where its numbers come from.

Sources are four teaching texts on QLoRA fine-tuning: a lesson on the training loop and debugging
(S1), a tuning guide (S2), an article from theory to a script (S3), a configuration lesson for small
GPUs (S4). Where they differ, the choice is named. Numbers without a source are our own judgement:
no run of this project has measured them yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class RowClass:
    """Values for data sets with up to `rows` rows kept (the first class that fits).

    alpha = rank x alpha_ratio. `why_*` end the sentence "chosen because ...".
    """

    rows: float
    learning_rate: float
    epochs: int
    rank: int
    alpha_ratio: int
    why_learning_rate: str
    why_epochs: str
    why_rank: str


ROW_CLASSES: Final = (
    RowClass(
        100, 1e-4, 2, 8, 2,
        "S4: 1e-4 below 100 rows",
        "S4: 1-2 epochs below 200 rows",
        "S2: rank 4-8 for little data",
    ),
    RowClass(
        200, 2e-4, 2, 8, 2,
        "S4: 2e-4 for 100-1,000 rows; S1 usual",
        "S4: 1-2 epochs below 200 rows",
        "S2: start with rank 8, alpha 16",
    ),
    RowClass(
        500, 2e-4, 3, 8, 2,
        "S4: 2e-4 for 100-1,000 rows; S1 usual",
        "S4: 2-3 epochs for 200-500 rows",
        "S2: start with rank 8, alpha 16",
    ),
    RowClass(
        1_000, 2e-4, 2, 8, 2,
        "S4: 2e-4 for 100-1,000 rows; S1 usual",
        "S4 and S1: 1-3 epochs for 500-2,000 rows",
        "S2: start with rank 8, alpha 16",
    ),
    RowClass(
        2_000, 1e-4, 2, 16, 2,
        "S4: 2e-4 down to 5e-5 for 1,000-10,000 rows; S2 and S3 start at 1e-4",
        "S4 and S1: 1-3 epochs for 500-2,000 rows",
        "S2: rank 8-16 regularly; S3: rank 16, alpha 32",
    ),
    RowClass(
        10_000, 1e-4, 1, 16, 2,
        "S4: 2e-4 down to 5e-5 for 1,000-10,000 rows; S2 and S3 start at 1e-4",
        "S4: 1 epoch above 2,000 rows; S3: even 2-3 can overfit",
        "S2: rank 8-16 regularly; S3: rank 16, alpha 32",
    ),
    RowClass(
        float("inf"), 5e-5, 1, 32, 1,
        "S4: 5e-5 above 10,000 rows",
        "S4: 1 epoch above 2,000 rows; S1: 1 epoch at 50,000",
        "S2: rank 16-32 with alpha = rank for large data",
    ),
)  # fmt: skip

WARMUP_RATIO: Final = 0.03  # S1, S4; S3: 0.03-0.10
CHECKPOINTS_PER_RUN: Final = 10  # a kill costs at most a tenth of a short run ...
MAX_CHECKPOINT_INTERVAL: Final = 50  # ... and at most 50 steps of a long one
MICRO_BATCH_GPU: Final = 2  # S4: 8B in NF4 with 2 examples needs about 13 of a T4's 16 GB
MICRO_BATCH_CPU: Final = 2
LONG_EXAMPLE: Final = 2048  # tokens: beyond, one example at a time
MAX_STEPS: Final = 10_000_000  # the bound of training.maxSteps: four months at a step a second
FEW_STEPS: Final = 30  # fewer updates than this rarely move the loss


@dataclass(frozen=True, slots=True)
class Range:
    """The usual range of a user's value and what to expect outside of it."""

    low: float
    high: float
    below: str
    above: str


RANGES: Final[dict[str, Range]] = {
    "training.learningRate": Range(
        2e-5, 5e-4,
        "the loss may hardly fall (S1: 2.1 to 2.02 in 200 steps at 1e-6)",
        "expect spikes or NaN early on (S1: NaN within 50 steps at 3e-3)",
    ),
    "training.warmupRatio": Range(
        0.01, 0.2,
        "expect an unstable start: gradients are largest in the first steps (S4)",
        "much of the run is spent below the rate that was asked for",
    ),
    "training.epochs": Range(
        0.5, 5,
        "most rows are never seen",
        "expect overfitting: evaluation loss rises while training loss falls (S1: above 3)",
    ),
    "training.globalBatchSize": Range(
        4, 128,
        "expect a zigzagging loss (S3: 1-2)",
        "expect too few updates to learn from (S3: 512)",
    ),
    "training.maxGradNorm": Range(
        0.1, 2.0,
        "every update is cut: learning is slow",
        "large gradients pass unclipped: expect spikes",
    ),
    "adapter.rank": Range(
        2, 128,
        "the adapter can hold little: expect underfitting",
        "expect overfitting and memory use without gain (S2: 32-64 at most)",
    ),
    "adapter.dropout": Range(
        0.0, 0.3, "", "expect underfitting (S1: 0.1-0.2 against overfitting)"
    ),
}  # fmt: skip


def row_class(rows: int) -> RowClass:
    """The class of a data set with `rows` rows kept for training."""
    return next(each for each in ROW_CLASSES if rows < each.rows)
