"""The result: a folder that PEFT loads as it is, with tokenizer and chat template."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from transformers import GenerationConfig

from finetune_trainer.checkpoint.layout import (
    TEMPORARY_PREFIX,
    JobFolder,
    sync,
    sync_tree,
    write_durably,
)
from finetune_trainer.checkpoint.lineage import Execution
from finetune_trainer.contract import OutputReference, Sample
from finetune_trainer.data.template import ChatTokenizer
from finetune_trainer.model.lora import save_adapter
from finetune_trainer.report.plots import loss_curve
from finetune_trainer.training.model import TrainedModel, stop_tokens

CURVE_FILE = "loss-curve.png"


def write_output(
    job: JobFolder, execution: Execution, *, model: TrainedModel, tokenizer: ChatTokenizer
) -> OutputReference:
    """Write output/a<n>.e<m>/ with adapter and loss curve, and point output/adapter at it.

    The folder appears complete or not at all. Paths in the result are relative to the job's folder.
    """
    final = job.output(execution.attempt, execution.number)
    temporary = final.with_name(TEMPORARY_PREFIX + final.name)
    shutil.rmtree(temporary, ignore_errors=True)
    adapter = temporary / "adapter"
    adapter.mkdir(parents=True)
    save_adapter(model.peft, adapter)
    tokenizer.tokenizer.save_pretrained(str(adapter))
    _generation_config(model, tokenizer).save_pretrained(str(adapter))
    loss_curve(job.log, temporary / CURVE_FILE)
    _let_group_read(temporary)
    sync_tree(temporary)
    temporary.rename(final)
    _link(final.parent / "adapter", Path(final.name) / "adapter")
    sync(final.parent)
    relative = final.relative_to(job.root)
    return OutputReference(adapter=str(relative / "adapter"), loss_curve=str(relative / CURVE_FILE))


def write_samples(job: JobFolder, samples: tuple[Sample, ...]) -> None:
    """Replace samples.jsonl; like the log it is derived, so a resumed run repeats no line."""
    write_durably(job.samples, "".join(sample.to_json() + "\n" for sample in samples))


def _generation_config(model: TrainedModel, tokenizer: ChatTokenizer) -> GenerationConfig:
    """The base model's, ending where the trained turns end and decoding greedily by default."""
    base = model.peft.generation_config
    return GenerationConfig(
        bos_token_id=base.bos_token_id if base is not None else None,
        eos_token_id=stop_tokens(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
    )


def _let_group_read(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        group = stat.S_IRGRP | (stat.S_IXGRP if path.is_dir() else 0)
        path.chmod(path.stat().st_mode | group)


def _link(link: Path, target: Path) -> None:
    temporary = link.with_name(TEMPORARY_PREFIX + link.name)
    temporary.unlink(missing_ok=True)
    os.symlink(target, temporary)
    temporary.rename(link)
