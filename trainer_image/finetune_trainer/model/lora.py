"""The adapter: LoRA on every linear layer, in fp32 from the first step to the file.

TRL casts adapters of quantised models to bf16 and PEFT loads them back in fp32, so a resumed run
trains other numbers than the one it continues. Adapters that are always fp32 make resume exact, and
cost half a GiB for an 8B model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import nn

from finetune_trainer.contract import AdapterSpec, ExitCode, Plan
from finetune_trainer.errors import TrainerError

ALL_LINEAR: Final = "all-linear"


def add_adapter(model: nn.Module, adapter: AdapterSpec, *, plan: Plan, seed: int) -> PeftModel:
    """Wrap `model` with a fresh adapter, the same on every rank for the same seed.

    Raises TrainerError (14) when a target module does not exist in the model.
    """
    targets = adapter.target_modules
    config = LoraConfig(
        r=plan.rank,
        lora_alpha=plan.alpha,
        lora_dropout=adapter.dropout,
        target_modules=ALL_LINEAR if targets == (ALL_LINEAR,) else list(targets),
        bias="none",
        task_type="CAUSAL_LM",
    )
    torch.manual_seed(seed)
    try:
        wrapped = get_peft_model(model, config)
    except ValueError as error:
        raise TrainerError(
            ExitCode.MODEL, "AdapterImpossible", f"adapter.targetModules {targets}: {error}"
        ) from error
    for parameter in trainable_parameters(wrapped):
        parameter.data = parameter.data.float()
    return cast(PeftModel, wrapped)


def trainable_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The adapter's parameters in a fixed order."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def save_adapter(model: PeftModel, folder: Path) -> None:
    """Write adapter_config.json and adapter_model.safetensors."""
    model.save_pretrained(str(folder), save_embedding_layers=False)


def load_adapter(model: PeftModel, file: Path) -> None:
    """Copy saved tensors into the existing fp32 parameters, bit for bit.

    Raises ValueError when the file lacks a tensor of the model or has one more.
    """
    result = set_peft_model_state_dict(model, load_file(str(file)))
    missing = [name for name in result.missing_keys if "lora_" in name]
    if missing or result.unexpected_keys:
        raise ValueError(f"{file.name}: missing {missing}, unexpected {result.unexpected_keys}")
