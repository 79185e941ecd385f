"""A tiny model folder with a real tokenizer and chat template, and data sets in messages form.

The tokenizer is a byte-level BPE trained on a few sentences, as small as one can be and still have
every property of a real one: merges across white space, special tokens, offsets, a ChatML template.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>")
VOCABULARY_SIZE = 512
CORPUS = (
    "<|im_start|>system user assistant what is the answer to question number",
    "the module provides access to functions that return a string or a list of values",
    "how do I open a file and read its lines one by one in a loop?",
    "use the function with the name of the file\n\nand close it when done.\n",
)
TINY_CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": VOCABULARY_SIZE,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 3,
    "tie_word_embeddings": True,
    "dtype": "float32",
}


def tiny_tokenizer(
    folder: Path,
    *,
    template: str | None = CHATML,
    more_special_tokens: Sequence[str] = (),
    **settings: Any,
) -> Path:
    """Write the tiny model's tokenizer, config.json and one tensor; `settings` override names."""
    folder.mkdir(parents=True, exist_ok=True)
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[*SPECIAL_TOKENS, *more_special_tokens],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS * 4, trainer)
    backend.save(str(folder / "tokenizer.json"))
    names = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|endoftext|>",
        "eos_token": "<|im_end|>",
        "pad_token": "<|pad|>",
        "clean_up_tokenization_spaces": False,
        **settings,
    }
    if template is not None:
        names["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(names, indent=2))
    (folder / "config.json").write_text(json.dumps(TINY_CONFIG, indent=2))
    norm = np.ones(TINY_CONFIG["hidden_size"], np.float32)
    save_file({"model.norm.weight": norm}, folder / "model.safetensors")
    return folder


def tiny_model(folder: Path, *, seed: int = 0) -> Path:
    """The tokenizer and a two-layer Llama of about 100 k random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tiny_tokenizer(folder)
    torch.manual_seed(seed)
    LlamaForCausalLM(LlamaConfig(**TINY_CONFIG)).save_pretrained(folder)
    return folder


def conversation(question: str, answer: str, *, system: str | None = None) -> dict[str, Any]:
    """One row with one question and its answer."""
    head = [{"role": "system", "content": system}] if system else []
    return {
        "messages": [
            *head,
            {"role": "user", "content": question},
            {"role": "assistant", "content": answer},
        ]
    }


def conversations(count: int) -> list[dict[str, Any]]:
    """`count` different short rows, the same at every call."""
    return [
        conversation(
            f"what is number {index}?", f"the answer is {index * index % 97} of {index + 1}"
        )
        for index in range(count)
    ]


def write_jsonl(path: Path, rows: Iterable[Any] | Sequence[Any]) -> Path:
    """One JSON value a line; a string is written as it is, so that lines may be broken."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path
