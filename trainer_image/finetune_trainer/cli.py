"""`finetune-trainer`: the trainer on a laptop, without Kubernetes.

JSON alone goes to standard output (with --json), words go to standard error. Exit codes: 0 fine,
1 the data, plan or checkpoint has problems, 2 wrong usage; `train` ends with the launcher's codes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from pydantic import ValidationError

from finetune_trainer.checkpoint.layout import JobFolder
from finetune_trainer.contract import (
    RUN_CONFIG_VARIABLE,
    AdapterSpec,
    DatasetSpec,
    ExitCode,
    JobIdentity,
    ModelSpec,
    PreflightReport,
    RunConfig,
    Topology,
    TrainingSpec,
)
from finetune_trainer.failures import classify

OK: Final = 0
PROBLEMS: Final = 1
USAGE: Final = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. Wrong usage raises SystemExit(2)."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        result: int = options.command(options, parser)
    except OSError as error:  # storage that fails is no mistake of ours: no traceback
        _say(f"{parser.prog}: {classify(error).message}")
        return PROBLEMS
    return result


def preflight(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Check a data set against a model and show the plan."""
    from finetune_trainer.preflight import examine

    config = _config(options, parser)
    with tempfile.TemporaryDirectory(prefix="finetune-") as scratch:
        report = examine(config, folder=Path(scratch))
    _say_report(report)
    if options.json:
        _print(report.model_dump(mode="json", exclude={"exit_code"}))
    return OK if report.ok else PROBLEMS


def train(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Run preflight when the config has no plan, then the launcher; its exit code is ours."""
    from finetune_trainer import launcher

    try:
        config = RunConfig.from_json(options.config.read_bytes())
    except (OSError, ValidationError) as error:
        _refuse(parser, f"--config {options.config}: {error}")
    os.environ[RUN_CONFIG_VARIABLE] = config.to_json()
    try:
        code = ExitCode.OK if config.plan is not None else _plan_in_child(config)
        if code == ExitCode.OK:
            code = launcher.main(["train"])
    except OSError as error:
        failure = classify(error)
        _say(f"{parser.prog}: {failure.message}")
        code = failure.code
    if options.json:
        _print({"exit_code": code})
    return code


def _plan_in_child(config: RunConfig) -> int:
    """Preflight's exit code; the plan goes into the environment.

    A process of its own: the launcher forwards signals only when no library has started threads.
    """
    child = [sys.executable, "-m", "finetune_trainer.preflight"]
    code = subprocess.run(child, check=False).returncode
    if code == ExitCode.OK:
        report = PreflightReport.from_json(JobFolder.of(config).preflight.read_bytes())
        _say_report(report)
        planned = config.model_copy(update={"plan": report.plan})
        os.environ[RUN_CONFIG_VARIABLE] = planned.to_json()
    return code


def verify_checkpoint(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Say whether a checkpoint folder is complete and unchanged."""
    from finetune_trainer.checkpoint import manifest

    folder: Path = options.folder
    if not folder.is_dir():
        _refuse(parser, f"{folder} is no folder")
    problems = manifest.verify(folder)
    for problem in problems or ["every file is as its manifest says"]:
        _say(problem)
    if options.json:
        found = None if problems else manifest.reference(folder)
        details = found.model_dump(mode="json", exclude={"path"}) if found else {}
        _print({"ok": not problems, "problems": problems, **details})
    return PROBLEMS if problems else OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="finetune-trainer", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print the result as JSON")

    check = commands.add_parser("preflight", parents=[common], help=preflight.__doc__)
    check.set_defaults(command=preflight)
    check.add_argument("--model", type=Path, required=True, help="model folder")
    check.add_argument("--dataset", type=Path, required=True, help="JSON lines or a JSON array")
    check.add_argument("--eval-dataset", type=Path, help="held-out data; else a share is split off")
    check.add_argument("--eval-fraction", help="share that is split off")
    check.add_argument("--max-length", help="tokens of the longest example that is kept")
    check.add_argument("--overlength", help="Drop, Truncate or Fail")
    check.add_argument("--epochs", help="passes over the data")
    check.add_argument("--max-steps", help="optimizer steps, instead of epochs")
    check.add_argument("--global-batch-size", help="examples of an optimizer step")
    check.add_argument("--learning-rate", help="highest learning rate, or Auto")
    check.add_argument("--rank", help="rank of the adapter, or Auto")
    check.add_argument("--seed", help="seed of the split")
    check.add_argument("--nodes", help="nodes to plan for")
    check.add_argument("--gpus-per-node", type=int, default=0, help="GPUs of each node, 0 for CPU")

    run = commands.add_parser("train", parents=[common], help=train.__doc__)
    run.set_defaults(command=train)
    run.add_argument("--config", type=Path, required=True, help="RunConfig as JSON")

    verify = commands.add_parser(
        "verify-checkpoint", parents=[common], help=verify_checkpoint.__doc__
    )
    verify.set_defaults(command=verify_checkpoint)
    verify.add_argument("folder", type=Path, metavar="DIR", help="checkpoint folder")
    return parser


def _config(options: argparse.Namespace, parser: argparse.ArgumentParser) -> RunConfig:
    """The RunConfig that a command line means; pydantic converts and checks the values."""

    def given(*names: str) -> dict[str, Any]:
        values = {name: getattr(options, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}

    dataset = given("eval_fraction", "max_length", "overlength")
    if options.eval_dataset:
        dataset["eval_source"] = _file_source(options.eval_dataset)
    gpus: int = options.gpus_per_node
    try:
        return RunConfig(
            job=JobIdentity(namespace="local", name="preflight", uid="00000000"),
            attempt=1,
            model=ModelSpec(source=_file_source(options.model)),
            dataset=DatasetSpec(source=_file_source(options.dataset), **dataset),
            adapter=AdapterSpec(**given("rank")),
            training=TrainingSpec(
                **given("epochs", "max_steps", "global_batch_size", "learning_rate", "seed")
            ),
            topology=Topology(
                gpus_per_node=gpus, processes_per_node=max(1, gpus), **given("nodes")
            ),
        )
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + str(first["loc"][0]).replace("_", "-")
        _refuse(parser, f"{option}: {first['msg']}")


def _file_source(path: Path) -> str:
    return f"file://{path.absolute()}"


def _say_report(report: PreflightReport) -> None:
    for problem in report.problems:
        _say(f"{problem.severity}: {problem.code}: {problem.message}")
    data, plan = report.data, report.plan
    if data.rows:
        _say(
            f"data: {data.rows_kept} of {data.rows} rows to train on, {data.eval_rows} held out, "
            f"{data.tokens} tokens, {data.supervised_tokens} of them learned"
        )
    if plan:
        _say(
            f"plan: {plan.total_steps} steps of {plan.effective_batch_size} examples "
            f"({plan.steps_per_epoch} an epoch), learning rate {plan.learning_rate:g}, "
            f"rank {plan.rank}, a checkpoint every {plan.checkpoint_interval} steps"
        )


def _refuse(parser: argparse.ArgumentParser, message: str) -> NoReturn:
    parser.exit(USAGE, f"{parser.prog}: {message}\n")


def _print(value: dict[str, Any]) -> None:
    print(json.dumps(value, indent=2))  # noqa: T201


def _say(words: str) -> None:
    print(words, file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
