"""Names, limits, codes and words that both halves use."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Final

RUN_CONFIG_VARIABLE: Final = "FINETUNE_RUN_CONFIG"
TERMINATION_LOG_VARIABLE: Final = "FINETUNE_TERMINATION_LOG"  # default /dev/termination-log
TERMINATION_LIMIT_BYTES: Final = 4000  # the kubelet keeps the last 4096 bytes: stay below
STATUS_PORT: Final = 9400
STATUS_PORT_VARIABLE: Final = "FINETUNE_STATUS_PORT"  # for laptops, where 9400 may be taken
RENDEZVOUS_PORT: Final = 29500
WORKSPACE_MOUNT: Final = "/workspace"
SOURCES_MOUNT: Final = "/mnt/sources"  # claims in pvc/<claim>, config maps in configmap/<name>
MAX_PROBLEM_ROWS: Final = 5  # row numbers per problem that fit a termination record
MAX_SAMPLES: Final = 16  # the newest ones, in records and status; samples.jsonl has all


class ExitCode(IntEnum):
    """Exit codes of the launcher, PID 1 of every pod (design section 6)."""

    OK = 0
    BAD_CONFIG = 10
    DATA_UNREADABLE = 11
    NOTHING_TO_LEARN = 12
    TOKENIZER = 13
    MODEL = 14
    INFRASTRUCTURE = 20
    PEER_LOST = 21
    GPU_FAULT = 22
    HANG = 23
    GPU_OUT_OF_MEMORY = 30
    HOST_OUT_OF_MEMORY = 31
    DISK_FULL = 32
    NOT_FINITE = 40
    DIVERGED = 41
    NO_CHECKPOINT_VERIFIES = 50
    FOREIGN_CHECKPOINT = 51
    STOPPED_SAVED = 75
    STOPPED_NOTHING_NEW = 76


class ResumePolicy(StrEnum):
    """Which checkpoint an attempt may start from."""

    NEWEST = "Newest"
    AT_MOST = "AtMost"


class TrainerPhase(StrEnum):
    """What rank 0 is doing; each phase has its own hang limit."""

    START = "Start"
    LOAD = "Load"
    TRAIN = "Train"
    EVALUATE = "Evaluate"
    SAMPLE = "Sample"
    SAVE = "Save"
    DONE = "Done"
