"""The model as the loop sees it: a summed loss per micro-batch, and greedy answers."""

from __future__ import annotations

from pathlib import Path

import torch
from peft import PeftModel
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from finetune_trainer.contract import RunConfig, Sample
from finetune_trainer.data.template import ChatTokenizer
from finetune_trainer.model.load import (
    enable_checkpointing,
    head_arguments,
    load_base,
    parameter_summary,
)
from finetune_trainer.model.lora import add_adapter, trainable_parameters
from finetune_trainer.training.batches import MicroBatch
from finetune_trainer.training.distributed import Ranks


class TrainedModel:
    """Base and adapter on this rank's device."""

    def __init__(self, config: RunConfig, folder: Path, *, pad_token_id: int, ranks: Ranks) -> None:
        assert config.plan is not None
        base = load_base(
            folder, config.adapter, precision=config.plan.precision, device=ranks.device
        )
        self.peft: PeftModel = add_adapter(
            base, config.adapter, plan=config.plan, seed=config.training.seed
        )
        enable_checkpointing(base, config.plan.activation_checkpointing)
        self.parameters = trainable_parameters(self.peft)
        self.summary = parameter_summary(self.peft, config.plan)
        self.device = ranks.device
        self._autocast = ranks.accelerator.autocast
        self._collate = DataCollatorForLanguageModeling(pad_token_id=pad_token_id)
        self._head = head_arguments(ranks.device)

    def loss(self, batch: MicroBatch, *, divisor: int) -> torch.Tensor:
        """Cross-entropy summed over the supervised tokens of `batch`, over `divisor`; fp32."""
        inputs = self._collate(
            [
                {"input_ids": example.input_ids, "labels": example.labels}
                for example in batch.examples
            ]
        )
        on_device = {name: tensor.to(self.device) for name, tensor in inputs.items()}
        with self._autocast():
            output = self.peft(
                **on_device, **self._head, num_items_in_batch=divisor, use_cache=False
            )
        return output.loss  # type: ignore[no-any-return]

    @torch.no_grad()
    def answer(self, prompt: str, *, tokenizer: ChatTokenizer, max_new_tokens: int) -> str:
        """The most likely answer to one user message, without special tokens."""
        text = tokenizer.render([{"role": "user", "content": prompt}], add_generation_prompt=True)
        inputs = tokenizer.tokenizer(text, add_special_tokens=False, return_tensors="pt")
        length = inputs["input_ids"].shape[1]
        with self._autocast():
            tokens = self.peft.generate(
                input_ids=inputs["input_ids"].to(self.device),
                attention_mask=inputs["attention_mask"].to(self.device),
                do_sample=False,
                max_new_tokens=max_new_tokens,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=stop_tokens(tokenizer),
            )
        return str(tokenizer.tokenizer.decode(tokens[0, length:], skip_special_tokens=True)).strip()


def stop_tokens(tokenizer: ChatTokenizer) -> list[int]:
    """What ends an answer: the end of turn that was trained, and end-of-sequence."""
    ids = (tokenizer.end_of_turn_id, tokenizer.tokenizer.eos_token_id)
    return sorted({token for token in ids if token is not None})


def sample(
    model: TrainedModel, step: int, prompt: str, *, tokenizer: ChatTokenizer, max_new_tokens: int
) -> Sample:
    """One row of samples.jsonl."""
    answer = model.answer(prompt, tokenizer=tokenizer, max_new_tokens=max_new_tokens)
    return Sample(step=step, prompt=prompt, answer=answer)
