"""Checks data and model on a CPU and makes the plan, before a GPU is held.

Reads the sources, tokenises once into the workspace, counts the model's layers without loading a
weight, and ends with one report: every problem with its rows, and the plan that training follows.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from finetune_trainer.checkpoint.layout import JobFolder, write_durably
from finetune_trainer.contract import (
    MAX_PROBLEM_ROWS,
    DataSummary,
    ExitCode,
    Plan,
    PreflightReport,
    RunConfig,
    Termination,
)
from finetune_trainer.data import prepare, sources, store
from finetune_trainer.data.checks import Findings, exit_code
from finetune_trainer.data.fingerprint import data_fingerprint, model_commit
from finetune_trainer.data.template import load_tokenizer
from finetune_trainer.errors import TrainerError
from finetune_trainer.failures import MESSAGE_LIMIT, classify
from finetune_trainer.planning.plan import Measured, lint, make_plan
from finetune_trainer.pod import read_config, write_record

QUOTED_PROBLEMS: Final = 5  # in the message; the record and the report list all
REASONS: Final = {
    ExitCode.OK: "Passed",
    ExitCode.BAD_CONFIG: "BadConfig",
    ExitCode.DATA_UNREADABLE: "DataUnreadable",
    ExitCode.NOTHING_TO_LEARN: "NothingToLearn",
    ExitCode.TOKENIZER: "Tokenizer",
    ExitCode.MODEL: "Model",
}

logger: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Inputs:
    """Where the job's sources are; evaluation is None when evalFraction splits the data."""

    train: Path
    evaluation: Path | None
    model: Path


def run(config: RunConfig) -> PreflightReport:
    """Check everything, write the tokenised data and preflight.json into the job's folder.

    Raises OSError when the volume fails; what is wrong with data or model is in the report.
    """
    job = JobFolder.of(config)
    job.root.mkdir(parents=True, exist_ok=True)
    report = examine(config, folder=job.root)
    write_durably(job.preflight, report.to_json(indent=2) + "\n")
    return report


def examine(config: RunConfig, *, folder: Path) -> PreflightReport:
    """The report; the tokenised data is written below `folder` when no error was found."""
    findings = Findings()
    data, plan = None, None
    if inputs := _locate(config, findings):
        data = _data(config, inputs, folder=folder, findings=findings)
        if data and exit_code(findings.problems) is ExitCode.OK:
            plan = _plan(config, inputs, data=data, findings=findings)
    problems = findings.problems
    code = exit_code(problems)
    return PreflightReport(
        ok=code is ExitCode.OK,
        exit_code=code,
        problems=problems,
        data=data.summary if data else DataSummary(),
        plan=plan,
        total_steps=plan.total_steps if plan else None,
        steps_per_epoch=plan.steps_per_epoch if plan else None,
        effective_batch_size=plan.effective_batch_size if plan else None,
    )


def termination(report: PreflightReport, *, number: int) -> Termination:
    """The record for the operator: plan and data first, problems with a few rows each."""
    errors = [each for each in report.problems if each.severity == "error"]
    said = [f"{each.code}: {each.message}" for each in errors[:QUOTED_PROBLEMS]]
    if len(errors) > QUOTED_PROBLEMS:
        said.append(f"and {len(errors) - QUOTED_PROBLEMS} more")
    code = ExitCode(report.exit_code)
    shown = [
        each.model_copy(update={"rows": each.rows[:MAX_PROBLEM_ROWS]}) for each in report.problems
    ]
    return Termination(
        code=code,
        reason=REASONS[code],
        message="; ".join(said)[:MESSAGE_LIMIT],
        attempt=number,
        total_steps=report.total_steps,
        plan=report.plan,
        data=report.data,
        problems=tuple(shown),
    )


def main(environment: Mapping[str, str] = os.environ) -> int:
    """The launcher's child: run on the RunConfig in the environment, leave the record.

    Returns the exit code of design section 6.
    """
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s preflight %(message)s", stream=sys.stderr
    )
    number: int | None = None
    try:
        config = read_config(environment)
        number = config.attempt
        record = termination(run(config), number=number)
    except Exception as error:  # the process ends here: everything must become a code
        failure = classify(error)
        if failure.reason == "UnexpectedError":  # ours to repair
            logger.exception("preflight failed")
        record = Termination(
            code=failure.code, reason=failure.reason, message=failure.message, attempt=number
        )
    write_record(record, environment)
    return record.code


def _locate(config: RunConfig, findings: Findings) -> Inputs | None:
    """The paths of all sources; every one that is missing becomes a problem."""
    dataset, root = config.dataset, config.sources
    train = _attempt(findings, sources.data_file, dataset.source, root)
    evaluation = None
    if dataset.eval_source:
        evaluation = _attempt(findings, sources.evaluation_file, dataset.eval_source, root)
    model = _attempt(findings, sources.model_folder, config.model.source, root)
    if train is None or model is None or (dataset.eval_source and evaluation is None):
        return None
    return Inputs(train=train, evaluation=evaluation, model=model)


def _attempt(
    findings: Findings, find: Callable[[str, str], Path], source: str, root: str
) -> Path | None:
    try:
        return find(source, root)
    except TrainerError as failure:
        findings.add_failure(failure)
        return None


def _data(
    config: RunConfig, inputs: Inputs, *, folder: Path, findings: Findings
) -> store.TokenisedData | None:
    """Tokenise, or take what an earlier preflight of the same left; None without a tokenizer."""
    dataset, seed = config.dataset, config.training.seed
    fingerprint = data_fingerprint(
        dataset, train=inputs.train, evaluation=inputs.evaluation, model=inputs.model, seed=seed
    )
    target = folder / "data" / fingerprint
    if store.is_valid(target):
        data = store.load(target)
        findings.given.extend(data.problems)
        return data
    rows = prepare.read_sources(
        dataset, train=inputs.train, evaluation=inputs.evaluation, seed=seed, findings=findings
    )
    try:
        chat = load_tokenizer(inputs.model)
    except TrainerError as failure:
        findings.add_failure(failure)
        return None
    data = prepare.tokenise_sources(
        rows, chat, dataset=dataset, fingerprint=fingerprint, findings=findings
    )
    if exit_code(findings.problems) is ExitCode.OK:
        store.write(target, replace(data, problems=findings.problems))
    return data


def _plan(
    config: RunConfig, inputs: Inputs, *, data: store.TokenisedData, findings: Findings
) -> Plan | None:
    from finetune_trainer.model.count import trainable_parameters  # torch: seconds to import

    measured = Measured(
        rows_kept=data.summary.rows_kept,
        longest=data.summary.longest,
        data_fingerprint=data.fingerprint,
        model_commit=model_commit(inputs.model),
    )
    try:
        plan = make_plan(config, measured)
        parameters = trainable_parameters(
            inputs.model, rank=plan.rank, target_modules=config.adapter.target_modules
        )
    except TrainerError as failure:
        findings.add_failure(failure)
        return None
    findings.given.extend(lint(config, plan))
    return plan.model_copy(update={"trainable_parameters": parameters})


if __name__ == "__main__":
    sys.exit(main())
