"""Loading the frozen base model: NF4 with double quantisation, or unquantised.

transformers quantises shard by shard on arrival, so host memory holds one shard more than the
result. `prepare_model_for_kbit_training` is not used: it casts norms and embeddings to fp32, which
costs memory and speed and gives nothing while the base is frozen.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch
from torch import nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from transformers.utils import logging as transformers_logging
from trl.trainer.utils import add_fused_lm_head

from finetune_trainer.contract import AdapterSpec, ExitCode, Plan
from finetune_trainer.errors import TrainerError, blames_machine

REPACKS: Final = "support_avx512bf16_for_cpu"  # an attribute of bitsandbytes' Linear4bit
DTYPES: Final = {"BF16": torch.bfloat16, "FP32": torch.float32}


def load_base(
    folder: Path, adapter: AdapterSpec, *, precision: str, device: torch.device
) -> nn.Module:
    """A causal language model in Hugging Face layout, frozen, on `device`.

    precision "BF16" or "FP32" is the dtype of what is not quantised and of the computation.
    Raises TrainerError (14) when the folder holds no model that transformers and bitsandbytes load.
    """
    if not (folder / "config.json").is_file():
        raise _refused(folder, "ModelMissing", "there is no config.json")
    transformers_logging.disable_progress_bar()
    dtype = DTYPES[precision]
    try:
        model = AutoModelForCausalLM.from_pretrained(
            str(folder),
            dtype=dtype,
            quantization_config=_quantization(adapter, dtype),
            device_map={"": device},
            local_files_only=True,
        )
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # transformers raises a dozen kinds for a folder it cannot load
        if blames_machine(error):
            raise
        raise _refused(folder, "ModelUnusable", f"{type(error).__name__}: {error}") from error
    model.requires_grad_(False)
    keep_training_layout(model)
    if device.type == "cuda":
        # TRL's Triton head never holds the (tokens x vocabulary) logits. Its fallback on a CPU
        # scores every position and is a third slower than the model's own head.
        add_fused_lm_head(model)
    return model  # type: ignore[no-any-return]


def head_arguments(device: torch.device) -> dict[str, Any]:
    """What a forward pass needs to use the head that `load_base` chose for `device`."""
    return {"fused_lm_head": True} if device.type == "cuda" else {}


def enable_checkpointing(model: nn.Module, level: str) -> None:
    """Recompute activations in the backward pass: "None" or "Full" (every layer)."""
    if level == "Full":
        model.gradient_checkpointing_enable({"use_reentrant": False})  # type: ignore[operator]


def keep_training_layout(model: nn.Module) -> None:
    """Keep bitsandbytes from repacking 4-bit weights in evaluation.

    On CPUs with AVX512-BF16, bitsandbytes 0.50 repacks weights in place at the first forward pass
    without gradients; later training then uses wrong weights without an error.
    """
    for module in model.modules():
        if hasattr(module, REPACKS):
            setattr(module, REPACKS, False)


def _quantization(adapter: AdapterSpec, dtype: torch.dtype) -> BitsAndBytesConfig | None:
    if adapter.quantization == "None":
        return None
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=adapter.double_quantization,
        bnb_4bit_compute_dtype=dtype,
    )


def _refused(folder: Path, reason: str, why: str) -> TrainerError:
    return TrainerError(ExitCode.MODEL, reason, f"model.source: {folder} cannot be used: {why}")


def parameter_summary(model: nn.Module, plan: Plan) -> str:
    """One sentence with the numbers a user wants to see before a run."""
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return (
        f"{trainable:,} trainable parameters of {model.num_parameters():,};"  # type: ignore[operator]
        f" {plan.total_steps} steps of {plan.effective_batch_size} examples in micro-batches of"
        f" {plan.micro_batch_size}, {plan.precision}, checkpointing {plan.activation_checkpointing}"
    )
