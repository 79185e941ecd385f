"""The order of examples is a function of data, plan, seed and step alone."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_trainer.contract import DataSummary, ExitCode, Plan
from finetune_trainer.data.store import IGNORED, Example, TokenisedData
from finetune_trainer.errors import TrainerError
from finetune_trainer.training.batches import Batches, StepBatch


def example(row: int, length: int) -> Example:
    """The first half of the tokens is the prompt."""
    tokens = list(range(length))
    labels = [IGNORED] * (length // 2) + tokens[length // 2 :]
    return Example(input_ids=tokens, labels=labels, row=row)


def data(lengths: list[int]) -> TokenisedData:
    return TokenisedData(
        train=[example(row, length) for row, length in enumerate(lengths, start=1)],
        evaluation=[],
        pad_token_id=0,
        end_of_turn_id=None,
        template_sha256="t",
        fingerprint="f",
        date="2025-01-01",
        summary=DataSummary(),
    )


def plan(rows: int, *, batch: int, micro: int) -> Plan:
    steps = -(-rows // batch)
    return Plan(
        micro_batch_size=micro,
        gradient_accumulation_steps=1,
        effective_batch_size=batch,
        activation_checkpointing="None",
        precision="FP32",
        steps_per_epoch=steps,
        total_steps=3 * steps,
        learning_rate=1e-3,
        warmup_steps=0,
        rank=4,
        alpha=8,
        checkpoint_interval=10,
        data_fingerprint="f",
        model_commit="m",
    )


def rows_of(batch: StepBatch) -> list[int]:
    return [item.row for micro in batch.micro_batches for item in micro.examples]


lengths = st.lists(st.integers(2, 40), min_size=1, max_size=40)


@given(lengths, st.integers(1, 12), st.integers(1, 5), st.integers(0, 99))
def test_every_epoch_sees_every_row_once(
    sizes: list[int], batch: int, micro: int, seed: int
) -> None:
    made = plan(len(sizes), batch=batch, micro=micro)
    batches = Batches(data(sizes), made, seed=seed)
    for epoch in range(3):
        first = epoch * made.steps_per_epoch + 1
        seen: Counter[int] = Counter()
        for step in range(first, first + made.steps_per_epoch):
            seen.update(rows_of(batches.step(step)))
        assert seen == Counter(range(1, len(sizes) + 1))


@given(lengths, st.integers(1, 12), st.integers(1, 5), st.integers(1, 5), st.integers(1, 4))
def test_micro_batches_and_ranks_change_nothing_about_a_step(
    sizes: list[int], batch: int, micro: int, other: int, world: int
) -> None:
    one = Batches(data(sizes), plan(len(sizes), batch=batch, micro=micro), seed=7).step(1)
    two = Batches(data(sizes), plan(len(sizes), batch=batch, micro=other), seed=7).step(1)
    assert sorted(rows_of(one)) == sorted(rows_of(two))
    assert one.supervised_tokens == two.supervised_tokens
    assert one.tokens == two.tokens
    shares = [one.share(rank, world) for rank in range(world)]
    indices = sorted(item.index for share in shares for item in share)
    assert indices == list(range(len(one.micro_batches)))


def test_500_rows_in_batches_of_16_are_32_steps_with_a_short_last_one() -> None:
    made = plan(500, batch=16, micro=4)
    batches = Batches(data([4] * 500), made, seed=42)
    assert made.total_steps == 96
    assert len(rows_of(batches.step(32))) == 500 - 31 * 16
    assert batches.step(32).epoch == 1.0
    assert rows_of(batches.step(33)) != rows_of(batches.step(1))


def test_the_longest_rows_share_a_micro_batch() -> None:
    batch = Batches(data([3, 9, 4, 8]), plan(4, batch=4, micro=2), seed=1).step(1)
    found = [[len(item.input_ids) for item in micro.examples] for micro in batch.micro_batches]
    assert found == [[9, 8], [4, 3]]


def test_a_first_token_is_never_predicted() -> None:
    learned = Example(input_ids=[5, 6, 7], labels=[5, 6, 7], row=1)
    tokens = data([2]).train[:0]
    batches = Batches(
        TokenisedData([learned, *tokens], [], 0, None, "t", "f", "d", DataSummary()),
        plan(1, batch=1, micro=1),
        seed=0,
    )
    assert batches.step(1).supervised_tokens == 2


def test_a_plan_for_other_data_is_refused() -> None:
    with pytest.raises(TrainerError) as failure:
        Batches(data([4] * 9), plan(20, batch=4, micro=1), seed=0)
    assert failure.value.code == ExitCode.DATA_UNREADABLE
    assert failure.value.reason == "DataDiffersFromPlan"
