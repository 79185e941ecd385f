"""The claims and config maps that a job names.

Grammar of sources (enforced by the CRD): `pvc://<claim>/<path>`, `configmap://<name>/<key>`,
`file:///<path>`.
"""

from __future__ import annotations

from typing import Final

from finetune_operator.api.v1alpha1 import FixedSpec
from finetune_operator.domain.names import child_name
from finetune_trainer.contract import JobIdentity

CLAIM_SCHEME: Final = "pvc://"
CONFIG_MAP_SCHEME: Final = "configmap://"


def workspace_claim(identity: JobIdentity, resolved: FixedSpec) -> str:
    """The claim of the workspace: the user's, or the one created under the job's child name."""
    return named_claim(resolved) or child_name(identity)


def named_claim(resolved: FixedSpec) -> str | None:
    """The user's claim for the workspace, None when the job creates one."""
    return resolved.workspace.claim_name if resolved.workspace else None


def source_claims(resolved: FixedSpec) -> dict[str, str]:
    """Claim -> the first field that names it, in the order of the fields."""
    return _hosts(resolved, CLAIM_SCHEME)


def source_config_maps(resolved: FixedSpec) -> dict[str, str]:
    """Config map -> the first field that names it, in the order of the fields."""
    return _hosts(resolved, CONFIG_MAP_SCHEME)


def _hosts(resolved: FixedSpec, scheme: str) -> dict[str, str]:
    sources = {
        "model.source": resolved.model.source,
        "dataset.source": resolved.dataset.source,
        "dataset.evalSource": resolved.dataset.eval_source or "",
    }
    found: dict[str, str] = {}
    for field, source in sources.items():
        if source.startswith(scheme):
            found.setdefault(source.removeprefix(scheme).partition("/")[0], field)
    return found
