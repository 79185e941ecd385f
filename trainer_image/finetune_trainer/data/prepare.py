"""From the user's files to tokenised examples, with everything that is wrong with them.

Preflight calls this once; what it returns is written to the volume and is all that training reads.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from finetune_trainer.contract import DatasetSpec, DataSummary
from finetune_trainer.data import checks, labels
from finetune_trainer.data.checks import FEW_EXAMPLES, Findings
from finetune_trainer.data.formats import Conversation, Finding, read_conversations, row_unit
from finetune_trainer.data.store import Example, TokenisedData
from finetune_trainer.data.template import TEMPLATE_DATE, ChatTokenizer

BATCH: Final = 256  # conversations tokenised at once
EVALUATION: Final = "evalSource"


@dataclass(frozen=True, slots=True)
class Sources:
    """The rows of both files; rows = those that were there, broken ones included."""

    train: list[Conversation]
    evaluation: list[Conversation]
    rows: int


def read_sources(
    dataset: DatasetSpec, *, train: Path, evaluation: Path | None, seed: int, findings: Findings
) -> Sources:
    """Parse and check both files; split off evalFraction when there is no evaluation file."""
    conversations, rows = _read(train, dataset=dataset, source="", findings=findings)
    for finding in checks.duplicates(conversations):
        findings.add(finding)
    if evaluation is None:
        kept, held_out = split(conversations, fraction=dataset.eval_fraction, seed=seed)
        return Sources(kept, held_out, rows)
    held_out, _ = _read(evaluation, dataset=dataset, source=EVALUATION, findings=findings)
    for finding in checks.overlap(conversations, held_out):
        findings.add(finding, source=EVALUATION)
    return Sources(conversations, held_out, rows)


def tokenise_sources(
    sources: Sources,
    chat: ChatTokenizer,
    *,
    dataset: DatasetSpec,
    fingerprint: str,
    findings: Findings,
) -> TokenisedData:
    """Render, tokenise, label, cut and count. Look at `findings` before using the result."""
    held_out = EVALUATION if dataset.eval_source else ""
    dropped: Counter[str] = Counter()
    train = _Tokeniser(chat, dataset, findings, "", dropped).run(sources.train)
    evaluation = _Tokeniser(chat, dataset, findings, held_out, Counter()).run(sources.evaluation)
    _judge_amount(train, dropped, findings)
    if train and not evaluation:
        _judge_evaluation(dataset, len(sources.evaluation), findings)
    if chat.end_of_turn is None:
        findings.add_problem(
            "missing_end_of_turn",
            "the chat template writes no special token after an answer: "
            "the tuned model will not learn when to stop",
        )
    return TokenisedData(
        train=train,
        evaluation=evaluation,
        pad_token_id=chat.pad_token_id,
        end_of_turn_id=chat.end_of_turn_id,
        template_sha256=chat.template_sha256,
        fingerprint=fingerprint,
        date=TEMPLATE_DATE.isoformat(),
        summary=summarise(sources.rows, train, evaluation, dropped),
    )


def split(
    conversations: Sequence[Conversation], *, fraction: float, seed: int
) -> tuple[list[Conversation], list[Conversation]]:
    """(train, evaluation) in source order: the share with the smallest hashes of (seed, content).

    Equal conversations fall on the same side, so the held-out part is never trained on. Adding rows
    moves few of the others.
    """
    keys = {each.row: each.key for each in conversations}
    ranks = {key: hashlib.sha256(f"{seed}:{key}".encode()).digest() for key in keys.values()}
    wanted = round(len(conversations) * fraction)
    copies = Counter(keys.values())
    held_out: set[str] = set()
    for key in sorted(ranks, key=ranks.__getitem__):
        if copies[key] <= wanted:
            held_out.add(key)
            wanted -= copies[key]
    train = [each for each in conversations if keys[each.row] not in held_out]
    evaluation = [each for each in conversations if keys[each.row] in held_out]
    return train, evaluation


def summarise(
    rows: int, train: Sequence[Example], evaluation: Sequence[Example], dropped: Counter[str]
) -> DataSummary:
    """Counts for status; tokens are those of the rows kept for training."""
    tokens = sum(len(example.input_ids) for example in train)
    supervised = sum(example.supervised for example in train)
    return DataSummary(
        rows=rows,
        rows_kept=len(train),
        eval_rows=len(evaluation),
        dropped=dict(sorted(dropped.items())),
        tokens=tokens,
        supervised_tokens=supervised,
        supervised_fraction=round(supervised / tokens, 4) if tokens else None,
        longest=max((len(example.input_ids) for example in train), default=0),
    )


def _read(
    path: Path, *, dataset: DatasetSpec, source: str, findings: Findings
) -> tuple[list[Conversation], int]:
    findings.units[source] = row_unit(path)
    conversations: list[Conversation] = []
    rows = 0
    for each in read_conversations(path, format=dataset.format):
        rows += 1
        if isinstance(each, Finding):
            findings.add(each, source=source)
        else:
            conversations.append(each)
    return conversations, rows


def _judge_amount(train: list[Example], dropped: Counter[str], findings: Findings) -> None:
    if not train:
        reasons = ", ".join(f"{count} {code}" for code, count in sorted(dropped.items()))
        message = "no row is left to train on" + (f" (dropped: {reasons})" if reasons else "")
        for code in dropped:
            findings.escalate(code)
        findings.add_problem("too_few_examples", message, error=True)
    elif len(train) < FEW_EXAMPLES:
        findings.add_problem(
            "too_few_examples",
            f"only {len(train)} rows to train on; at least {FEW_EXAMPLES} are advisable",
        )


def _judge_evaluation(dataset: DatasetSpec, rows: int, findings: Findings) -> None:
    """Say that nothing is left of an evaluation that was asked for; `rows` were read for it."""
    if rows:
        why = f"all {rows} rows that it should be made on were dropped"
    elif dataset.eval_source:
        why = f"dataset.evalSource {dataset.eval_source} holds no row"
    elif dataset.eval_fraction:
        why = f"dataset.evalFraction = {dataset.eval_fraction:g} of these rows is none"
    else:
        return
    findings.add_problem("too_few_examples", f"there will be no evaluation: {why}")


@dataclass(slots=True)
class _Tokeniser:
    """One pass over one part of the data; what cannot be used goes to findings and `dropped`."""

    chat: ChatTokenizer
    dataset: DatasetSpec
    findings: Findings
    source: str
    dropped: Counter[str]

    def run(self, conversations: Sequence[Conversation]) -> list[Example]:
        examples: list[Example] = []
        for first in range(0, len(conversations), BATCH):
            rendered = list(self._render(conversations[first : first + BATCH]))
            for (conversation, _), example in zip(
                rendered, labels.tokenise(self.chat, rendered), strict=True
            ):
                if usable := self._check(conversation, example):
                    examples.append(usable)
        return examples

    def _render(
        self, conversations: Sequence[Conversation]
    ) -> Iterator[tuple[Conversation, labels.Rendered]]:
        for conversation in conversations:
            row = conversation.row
            if found := labels.control_tokens(self.chat, conversation):
                self._drop(found)
                continue
            try:
                yield conversation, labels.render_conversation(self.chat, conversation.messages)
            except labels.UnstableTemplate as error:
                self._drop(Finding("template_unstable", row, str(error)))
            except Exception as error:  # jinja2.TemplateError and whatever a template raises
                self._drop(Finding("template_error", row, f"the chat template fails: {error}"))

    def _check(self, conversation: Conversation, example: Example) -> Example | None:
        row = conversation.row
        if max(example.input_ids, default=0) >= self.chat.vocabulary_size:
            message = f"holds a token beyond the model's {self.chat.vocabulary_size} embedding rows"
            self._drop(Finding("vocabulary_mismatch", row, message))
            return None
        begin = self.chat.tokenizer.bos_token_id
        if begin is not None and example.input_ids[:2] == [begin, begin]:
            self._add(Finding("double_bos", row, "begins with two begin-of-sequence tokens"))
        if example.supervised == 0:
            self._drop(Finding("nothing_supervised", row, "has no answer to learn"))
            return None
        if found := labels.label_problem(self.chat, conversation, example):
            self._drop(found)
            return None
        limit = self.dataset.max_length
        if len(example.input_ids) <= limit:
            return example
        return self._shorten(example, limit)

    def _shorten(self, example: Example, limit: int) -> Example | None:
        policy = self.dataset.overlength
        message = f"has more than dataset.maxLength = {limit} tokens ({policy})"
        finding = Finding("over_length", example.row, message)
        if policy != "Truncate":
            self.findings.add(finding, source=self.source, error=policy == "Fail")
            self.dropped["over_length"] += 1
            return None
        self._add(finding)
        short = replace(example, input_ids=example.input_ids[:limit], labels=example.labels[:limit])
        if short.supervised:
            return short
        message = f"has no answer within dataset.maxLength = {limit} tokens"
        self._drop(Finding("nothing_supervised", example.row, message))
        return None

    def _add(self, finding: Finding) -> None:
        self.findings.add(finding, source=self.source)

    def _drop(self, finding: Finding) -> None:
        self._add(finding)
        self.dropped[finding.code] += 1
