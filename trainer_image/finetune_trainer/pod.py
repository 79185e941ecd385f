"""What a pod of either kind is given and what it leaves: its configuration and its record."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from finetune_trainer.contract import (
    RUN_CONFIG_VARIABLE,
    TERMINATION_LOG_VARIABLE,
    ExitCode,
    RunConfig,
    Termination,
)
from finetune_trainer.errors import TrainerError

TERMINATION_LOG: Final = "/dev/termination-log"
QUOTED_FIELDS: Final = 10

logger: Final = logging.getLogger("launcher.record")  # a launcher's log has it too


def read_config(environment: Mapping[str, str]) -> RunConfig:
    """The RunConfig in the environment.

    Raises TrainerError (10, BadConfig) that names each wrong field.
    """
    try:
        return RunConfig.from_json(environment.get(RUN_CONFIG_VARIABLE, ""))
    except ValidationError as error:
        wrong = [
            f"{'.'.join(map(str, each['loc'])) or RUN_CONFIG_VARIABLE}: {each['msg']}"
            for each in error.errors()[:QUOTED_FIELDS]
        ]
        raise TrainerError(ExitCode.BAD_CONFIG, "BadConfig", "; ".join(wrong)) from error


def write_record(record: Termination, environment: Mapping[str, str]) -> None:
    """Leave the record where the kubelet reads it, or where the environment says."""
    logger.info("exit %d %s %s", record.code, record.reason, record.message)
    path = Path(environment.get(TERMINATION_LOG_VARIABLE, TERMINATION_LOG))
    if TERMINATION_LOG_VARIABLE in environment or path.exists():
        try:
            path.write_text(record.to_log(), encoding="utf-8")
        except OSError as error:  # the node's disk is full: the exit code still says most
            logger.warning("the termination record was not written: %s", error)
