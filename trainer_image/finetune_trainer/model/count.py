"""Counts what will be trained without loading a weight: the model is built on the meta device.

Counted are the modules that really exist, so a new architecture needs no formula here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from finetune_trainer.contract import ExitCode, Problem
from finetune_trainer.errors import TrainerError

ALL_LINEAR = "all-linear"


def trainable_parameters(folder: Path, *, rank: int, target_modules: tuple[str, ...]) -> int:
    """Weights of a LoRA adapter: rank x (inputs + outputs) of every adapted linear layer.

    `all-linear` means every linear layer but the output head, as peft does; other names match the
    last part of a module's name. Raises TrainerError (14, ModelUnsupported) when transformers
    cannot build the model, (10, BadConfig) when a target matches no layer.
    """
    model = _empty_model(folder)
    head = model.get_output_embeddings()
    linear = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not head
    }
    adapted: dict[str, nn.Linear] = {}
    for target in target_modules:
        found = {name: layer for name, layer in linear.items() if _matches(name, target)}
        if not found:
            names = ", ".join(sorted({name.rpartition(".")[2] for name in linear}))
            raise _error(
                ExitCode.BAD_CONFIG,
                f"adapter.targetModules {target!r} matches no linear layer; the model has {names}",
            )
        adapted |= found
    return sum(rank * (layer.in_features + layer.out_features) for layer in adapted.values())


def _matches(name: str, target: str) -> bool:
    return target == ALL_LINEAR or name == target or name.endswith(f".{target}")


def _empty_model(folder: Path) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True)
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config)
    except Exception as error:  # whatever an unknown or broken configuration makes it raise
        message = f"{folder} holds no model that this release can train: {error}"
        raise _error(ExitCode.MODEL, message) from error


def _error(code: ExitCode, message: str) -> TrainerError:
    model = code is ExitCode.MODEL
    problem = Problem(
        code="unsupported_model" if model else "bad_config", severity="error", message=message
    )
    reason = "ModelUnsupported" if model else "BadConfig"
    return TrainerError(code, reason, message, problems=(problem,))
