"""The model's loss and gradients, where a library could change them silently."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM
from trl.trainer.utils import add_fused_lm_head

from finetune_trainer.contract import AdapterSpec, ExitCode, Topology
from finetune_trainer.data.store import IGNORED, Example
from finetune_trainer.errors import TrainerError
from finetune_trainer.model.load import load_base
from finetune_trainer.training.batches import MicroBatch
from finetune_trainer.training.distributed import Gradients, Ranks
from finetune_trainer.training.model import TrainedModel
from tests.training_runs import Sources, free_port, planned

TOKENS = list(range(40, 72))
BATCH = MicroBatch(
    0,
    (
        Example(TOKENS, [IGNORED] * 16 + TOKENS[16:], 1),
        Example(TOKENS[:20], [IGNORED] * 5 + TOKENS[5:20], 2),
    ),
)


@pytest.fixture
def ranks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Ranks]:
    for name, value in (("RANK", "0"), ("LOCAL_RANK", "0"), ("WORLD_SIZE", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(free_port()))
    ranks = Ranks(Topology(), precision="FP32")
    yield ranks
    ranks.finish()


def tiny(
    sources: Sources, folder: Path, ranks: Ranks, *, quantization: str, precision: str = "FP32"
) -> TrainedModel:
    adapter = AdapterSpec.model_validate({"quantization": quantization, "rank": 4, "alpha": 8})
    config = planned(sources.config(folder, adapter=adapter), precision=precision)
    return TrainedModel(config, sources.root / "model", pad_token_id=3, ranks=ranks)


def loss_and_gradients(model: TrainedModel) -> tuple[float, torch.Tensor]:
    gradients = Gradients(model.parameters, device=torch.device("cpu"))
    model.peft.train()
    loss = model.loss(BATCH, divisor=BATCH.supervised_tokens)
    loss.backward()  # type: ignore[no-untyped-call]
    return loss.item(), gradients.values.clone()


def test_an_evaluation_leaves_the_gradients_of_nf4_as_they_were(
    sources: Sources, tmp_path: Path, ranks: Ranks
) -> None:
    """Left to itself, bitsandbytes repacks 4-bit weights in evaluation on CPUs with AVX512-BF16."""
    model = tiny(sources, tmp_path, ranks, quantization="NF4", precision="BF16")
    _, before = loss_and_gradients(model)
    model.peft.eval()
    with torch.no_grad():
        model.loss(BATCH, divisor=1)
    _, after = loss_and_gradients(model)
    assert before.abs().max() > 0
    assert torch.equal(before, after)


def test_the_head_that_gpus_use_gives_the_same_loss_and_gradients(
    sources: Sources, tmp_path: Path, ranks: Ranks
) -> None:
    plain = tiny(sources, tmp_path, ranks, quantization="None")
    loss, gradients = loss_and_gradients(plain)
    add_fused_lm_head(plain.peft.get_base_model())
    plain._head = {"fused_lm_head": True}
    fused_loss, fused_gradients = loss_and_gradients(plain)
    assert fused_loss == pytest.approx(loss, abs=1e-6)
    torch.testing.assert_close(fused_gradients, gradients, rtol=0, atol=1e-6)


def test_every_linear_layer_but_the_head_is_adapted_in_fp32(
    sources: Sources, tmp_path: Path, ranks: Ranks
) -> None:
    model = tiny(sources, tmp_path, ranks, quantization="NF4", precision="BF16")
    adapted = {
        name.split(".lora_")[0].rpartition(".")[2]
        for name, parameter in model.peft.named_parameters()
        if parameter.requires_grad
    }
    assert adapted == {
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"
    }  # fmt: skip
    assert {parameter.dtype for parameter in model.parameters} == {torch.float32}


def test_a_target_that_the_model_does_not_have_is_refused(
    sources: Sources, tmp_path: Path, ranks: Ranks
) -> None:
    config = sources.config(tmp_path)
    adapter = config.adapter.model_copy(update={"target_modules": ("nowhere",)})
    wrong = config.model_copy(update={"adapter": adapter})
    with pytest.raises(TrainerError) as failure:
        TrainedModel(wrong, sources.root / "model", pad_token_id=3, ranks=ranks)
    assert failure.value.code == ExitCode.MODEL
    assert "nowhere" in failure.value.message


ELSEWHERE: dict[str, Exception] = {
    "a volume that fails": OSError(errno.ESTALE, "Stale file handle"),
    "a volume that fails, as safetensors says it": Exception("Input/output error (os error 5)"),
    "a GPU that fails": RuntimeError("CUDA error: uncorrectable ECC error encountered"),
    "host memory": RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
}


@pytest.mark.parametrize("failure", ELSEWHERE.values(), ids=ELSEWHERE.keys())
def test_what_the_machine_does_wrong_while_loading_is_not_the_models_fault(
    failure: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise failure

    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", fail)
    with pytest.raises(type(failure), match=re.escape(str(failure))):
        load_base(
            tmp_path,
            AdapterSpec(quantization="None"),
            precision="FP32",
            device=torch.device("cpu"),
        )
