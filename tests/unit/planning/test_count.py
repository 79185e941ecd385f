"""Trainable parameters without weights: the same number as peft counts on the real model."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune_trainer.errors import TrainerError
from finetune_trainer.model.count import trainable_parameters
from tests.trainer_builders import tiny_model, tiny_tokenizer


@pytest.mark.parametrize("targets", [("all-linear",), ("q_proj", "v_proj"), ("down_proj",)])
def test_the_count_is_pefts(targets: tuple[str, ...], tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = tiny_model(tmp_path)
    names = targets[0] if targets == ("all-linear",) else list(targets)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(folder),
        LoraConfig(r=4, target_modules=names, task_type="CAUSAL_LM"),
    )
    expected = sum(each.numel() for each in model.parameters() if each.requires_grad)
    assert trainable_parameters(folder, rank=4, target_modules=targets) == expected


def test_a_target_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    folder = tiny_tokenizer(tmp_path)
    with pytest.raises(
        TrainerError, match="'q_prj' matches no linear layer; the model has"
    ) as caught:
        trainable_parameters(folder, rank=4, target_modules=("q_prj",))
    assert caught.value.code == 10
    assert "q_proj" in caught.value.message
