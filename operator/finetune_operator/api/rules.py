"""CEL rules of the CRD that span fields, and the list of what this release does not do yet.

Rules over one value stand with its type in `fields`. Every message starts with the path of the
field to change, because that is all a user sees of a refused `kubectl apply`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from finetune_operator.api.spec import FineTuneJobSpec, FixedSpec
from finetune_operator.constants import NAME_LIMIT

_ABSENT: Final = "false"  # a rule is evaluated only where its field is set
_FALSE: Final = "!self"
_EMPTY: Final = "size(self) == 0"

NOT_YET: Final[Mapping[str, str]] = {
    "spec.profile": _ABSENT,
    "spec.suspend": _FALSE,
    "spec.model.credentialsSecret": _ABSENT,
    "spec.model.chatTemplate": _ABSENT,
    "spec.model.trustRemoteCode": _FALSE,
    "spec.dataset.split": _ABSENT,
    "spec.dataset.mixture": _ABSENT,
    "spec.dataset.columns": _ABSENT,
    "spec.dataset.roles": _ABSENT,
    "spec.dataset.credentialsSecret": _ABSENT,
    "spec.dataset.packing": _FALSE,
    "spec.training.initialAdapter": _ABSENT,
    "spec.training.globalBatchTokens": _ABSENT,
    "spec.training.minLearningRateRatio": _ABSENT,
    "spec.training.runName": _ABSENT,
    "spec.training.neftuneNoiseAlpha": _ABSENT,
    "spec.training.onSpike": _ABSENT,
    "spec.training.loggingSteps": _ABSENT,
    "spec.training.evalSteps": _ABSENT,
    "spec.training.earlyStopping": _ABSENT,
    "spec.training.loadBest": _ABSENT,
    "spec.training.samples.everySteps": _ABSENT,
    "spec.training.samples.temperature": _ABSENT,
    "spec.training.reportTo": _ABSENT,
    "spec.training.reporting": _ABSENT,
    "spec.compute.gpuType": _ABSENT,
    "spec.compute.gpuMemory": _ABSENT,
    "spec.compute.queueName": _ABSENT,
    "spec.compute.queuePriorityClass": _ABSENT,
    "spec.compute.image": _ABSENT,
    "spec.compute.serviceAccountName": _ABSENT,
    "spec.compute.preflight.queueName": _ABSENT,
    "spec.workspace.resumeFrom": _ABSENT,
    "spec.recovery.maxReplans": _ABSENT,
    "spec.recovery.maxRollbacks": _ABSENT,
    "spec.recovery.learningRateFactor": _ABSENT,
    "spec.recovery.hangTimeoutSeconds": _ABSENT,
    "spec.recovery.lostNodeSeconds": _ABSENT,
    "spec.output.mergeWeights": _FALSE,
    "spec.output.publish": _EMPTY,
    "spec.activeDeadlineSeconds": _ABSENT,
    "spec.ttlSecondsAfterFinished": _ABSENT,
}
"""Path of a field whose behaviour a later release brings -> what its value may still be."""


@dataclass(frozen=True, slots=True)
class ObjectRule:
    """A rule over several fields of the object at `path`; `field` is where the error is shown."""

    path: str
    rule: str
    message: str
    field: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The entry of `x-kubernetes-validations`."""
        entry = {"rule": self.rule, "message": self.message}
        return entry | ({"fieldPath": self.field} if self.field else {})


OBJECT_RULES: Final[tuple[ObjectRule, ...]] = (
    ObjectRule(
        "",
        f"size(self.metadata.name) <= {NAME_LIMIT}",
        f"metadata.name must be at most {NAME_LIMIT} characters: "
        "names of Jobs and pods are made from it",
        ".metadata.name",
    ),
    ObjectRule(
        "",
        "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
        "metadata.name must start with a letter and hold only lower case letters, digits and '-'",
        ".metadata.name",
    ),
    ObjectRule(
        "spec.training",
        "!(has(self.epochs) && has(self.maxSteps))",
        "spec.training.epochs and spec.training.maxSteps exclude each other: set one of them",
        ".maxSteps",
    ),
    ObjectRule(
        "spec.workspace",
        "!has(self.claimName) || !(has(self.size) || has(self.storageClassName)"
        " || has(self.retain))",
        "spec.workspace.claimName names an existing claim and excludes "
        "spec.workspace.size, storageClassName and retain",
        ".claimName",
    ),
    ObjectRule(
        "spec.workspace",
        "!has(self.subPath) || has(self.claimName)",
        "spec.workspace.subPath needs spec.workspace.claimName",
        ".subPath",
    ),
    ObjectRule(
        "spec.compute",
        "!has(self.processesPerNode) || self.gpusPerNode == 0",
        "spec.compute.processesPerNode is for runs without GPUs: set spec.compute.gpusPerNode to 0",
        ".processesPerNode",
    ),
    ObjectRule(
        "spec.compute.tolerations[]",
        "has(self.operator) && self.operator == 'Exists' ? !has(self.value) : has(self.key)",
        "spec.compute.tolerations[]: operator Exists excludes a value, operator Equal needs a key",
    ),
    ObjectRule(
        "spec.compute.tolerations[]",
        "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
        "spec.compute.tolerations[].tolerationSeconds needs effect NoExecute",
        ".tolerationSeconds",
    ),
)


def immutability() -> dict[str, Any]:
    """The one transition rule of the spec: presence and value of every fixed field stay.

    The message lists what changed. Optional selection (`self.?x == oldSelf.?x`) and a joined list
    would be shorter, but the API server cannot price them and refuses the CRD.
    """
    fixed = _aliases(FixedSpec.model_fields.values())
    mutable = [
        name for name in _aliases(FineTuneJobSpec.model_fields.values()) if name not in fixed
    ]
    same = {name: _same(name) for name in fixed}
    changed = " + ".join(f"({rule} ? '' : 'spec.{name} ')" for name, rule in same.items())
    allowed = ", ".join(mutable)
    return {
        "rule": " && ".join(f"({rule})" for rule in same.values()),
        "message": f"spec: only {allowed} may change once the job exists",
        "messageExpression": (
            f"{changed} + 'cannot change once the job exists; only {allowed} may'"
        ),
    }


def _same(name: str) -> str:
    old, new = f"oldSelf.{name}", f"self.{name}"
    return f"has({new}) == has({old}) && (!has({new}) || {new} == {old})"


def _aliases(fields: Iterable[Any]) -> list[str]:
    return [field.alias for field in fields]


def add_rules(root: dict[str, Any]) -> None:
    """Put every rule of this module into the schema of the whole object, in place."""
    for path, rule in NOT_YET.items():
        message = f"{path} is not supported in this release"
        if rule != _ABSENT:
            message = f"{path} is not supported in this release: leave it out"
        _validations(_at(root, path)).insert(0, {"rule": rule, "message": message})
    for entry in OBJECT_RULES:
        _validations(_at(root, entry.path)).append(entry.to_dict())
    _validations(_at(root, "spec")).append(immutability())


def _validations(node: dict[str, Any]) -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = node.setdefault("x-kubernetes-validations", [])
    return rules


def _at(root: dict[str, Any], path: str) -> dict[str, Any]:
    """The schema at a dotted path; `name[]` stands for the items of a list."""
    node = root
    for part in filter(None, path.split(".")):
        node = node["properties"][part.removesuffix("[]")]
        if part.endswith("[]"):
            node = node["items"]
    return node
