"""Names that users, tests and both halves of the product rely on."""

from __future__ import annotations

from typing import Final

GROUP: Final = "finetune.dev"
VERSION: Final = "v1alpha1"
KIND: Final = "FineTuneJob"
PLURAL: Final = "finetunejobs"
API_VERSION: Final = f"{GROUP}/{VERSION}"

LABEL_JOB: Final = f"{GROUP}/job"  # name of the FineTuneJob
LABEL_UID: Final = f"{GROUP}/uid"  # its uid
LABEL_ATTEMPT: Final = f"{GROUP}/attempt"  # number of the attempt; preflight Jobs: "preflight-<k>"
LABEL_ROLE: Final = f"{GROUP}/role"  # "preflight" or "train"

TRAINER_UID: Final = 65532  # user and group of trainer pods, owner of what they write
NAME_LIMIT: Final = 40  # characters of a FineTuneJob's name
UID_PREFIX: Final = 5  # characters of the uid in the names of children
ATTEMPTS_KEPT: Final = 10  # rows of status.attempts
