"""FineTuneJob manifests for tests: a minimal one, and changes to it by dotted path."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

from finetune_operator.api.schema import Schema
from finetune_operator.constants import API_VERSION, KIND

REMOVED: Final = object()
"""As the value of a change: take the field out."""


def finetunejob(
    name: str = "job", changes: Mapping[str, Any] | None = None, *, namespace: str = "default"
) -> dict[str, Any]:
    """A minimal valid FineTuneJob with `changes`: dotted path -> value or REMOVED."""
    manifest: dict[str, Any] = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "model": {"source": "pvc://models/base"},
            "dataset": {"source": "pvc://data/train.jsonl"},
        },
    }
    return changed(manifest, changes or {})


def changed(manifest: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of `manifest` with each dotted path set to its value, or taken out."""
    result: dict[str, Any] = copy.deepcopy(dict(manifest))
    for path, value in changes.items():
        *parents, last = path.split(".")
        node = result
        for parent in parents:
            node = node.setdefault(parent, {})
        if value is REMOVED:
            node.pop(last, None)
        else:
            node[last] = copy.deepcopy(value)
    return result


def merged(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with every value of `top` laid over it, object by object."""
    result = dict(base)
    for key, value in top.items():
        below = result.get(key)
        both = isinstance(value, Mapping) and isinstance(below, Mapping)
        result[key] = merged(result[key], value) if both else value
    return result


def example(schema: Schema) -> Any:
    """A value that a structural schema admits, with every property set."""
    if "enum" in schema:
        return schema["enum"][-1]
    if schema.get("x-kubernetes-int-or-string"):
        return schema["minimum"] if "maximum" in schema else "1"  # a quantity is text
    match schema["type"]:
        case "object" if "properties" in schema:
            return {name: example(child) for name, child in schema["properties"].items()}
        case "object":
            return {"key": example(schema["additionalProperties"])}
        case "array":
            return [example(schema["items"])]
        case "integer":
            return schema.get("minimum", 0)
        case "boolean":
            return True
        case "string" if schema.get("format") == "date-time":
            return "2026-01-02T03:04:05Z"
        case "string":
            return "1"
        case other:
            raise AssertionError(f"no example for type {other}")
