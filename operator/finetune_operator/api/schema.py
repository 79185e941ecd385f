"""Pydantic's JSON schema -> the structural schema of a CRD.

The API server wants OpenAPI 3.0 with restrictions of its own: no `$ref`, no null type, no `const`,
no unions but int-or-string, integers with a format, defaults only in the spec. Everything that has
no translation raises `UnsupportedSchema`, so that a new field type cannot end up half described.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

Schema = dict[str, Any]

_INT32_MAX: Final = 2**31 - 1
_KEPT: Final = (
    "type",
    "format",
    "enum",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "maxProperties",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
)


class UnsupportedSchema(TypeError):
    """A model uses something that a structural schema cannot say; the message has the path."""


def structural(model: type[BaseModel], path: str, *, observed: bool = False) -> Schema:
    """The structural schema of `model`, found at the dotted `path` of the object.

    With `observed` (status) defaults, CEL rules and patterns are left out: the operator writes
    these values, and a refused status write would only lose facts.
    """
    root = model.model_json_schema(by_alias=True)
    return _Converter(root.get("$defs", {}), observed=observed).convert(root, path)


class _Converter:
    def __init__(self, definitions: Schema, *, observed: bool) -> None:
        self._definitions = definitions
        self._observed = observed

    def convert(self, node: Schema, path: str) -> Schema:
        node = self._flatten(node, path)
        result = {"description": node["description"]} if "description" in node else {}
        result |= {key: node[key] for key in _KEPT if key in node}
        if "const" in node:
            result["enum"] = [node["const"]]
        if node.get("type") == "integer":
            wide = node.get("maximum", _INT32_MAX) > _INT32_MAX
            result["format"] = "int64" if wide else "int32"
        if node.get("type") == "array":
            result |= self._list(node, path)
        if node.get("type") == "object":
            result |= self._object(node, path)
        if node.get("x-kubernetes-int-or-string"):
            del result["type"]
        if self._observed:
            result.pop("pattern", None)
            return result
        if node.get("default") is not None:
            # The defaults of its members fill an object that is left out.
            result["default"] = {} if node.get("type") == "object" else node["default"]
        if rules := node.get("x-kubernetes-validations"):
            result["x-kubernetes-validations"] = [
                rule | {"message": f"{path} {rule['message']}"} for rule in rules
            ]
        return result

    def _flatten(self, node: Schema, path: str) -> Schema:
        """Resolve references and the two unions that have a translation; outer keywords win."""
        while "$ref" in node or "anyOf" in node:
            outer = {key: value for key, value in node.items() if key not in ("$ref", "anyOf")}
            if "$ref" in node:
                inner = self._definitions[node["$ref"].rpartition("/")[2]]
            else:
                inner = _union(node["anyOf"], path)
            node = inner | outer
        return node

    def _list(self, node: Schema, path: str) -> Schema:
        return {
            "items": self.convert(node["items"], f"{path}[]"),
            "x-kubernetes-list-type": node.get("x-kubernetes-list-type", "atomic"),
        }

    def _object(self, node: Schema, path: str) -> Schema:
        if "properties" not in node:
            values = node.get("additionalProperties")
            if not isinstance(values, dict):
                raise UnsupportedSchema(f"{path}: an object needs properties or a type of values")
            return {"additionalProperties": self.convert(values, f"{path}[]")}
        properties = {
            name: self.convert(child, f"{path}.{name}")
            for name, child in node["properties"].items()
        }
        result: Schema = {"properties": properties}
        if "required" in node:
            result["required"] = node["required"]
        return result


def _union(members: list[Schema], path: str) -> Schema:
    """`T | None` is T, left out when unset; `int | Literal[word]` is int-or-string."""
    members = [member for member in members if member.get("type") != "null"]
    if len(members) == 1:
        return members[0]
    whole = next((member for member in members if member.get("type") == "integer"), None)
    word = next((member["const"] for member in members if "const" in member), None)
    if len(members) != 2 or whole is None or word is None:
        raise UnsupportedSchema(f"{path}: only int or one word can be a union, not {members}")
    bounds = {key: value for key, value in whole.items() if key in ("minimum", "maximum")}
    return bounds | {
        "type": "int-or-string",
        "x-kubernetes-int-or-string": True,
        "pattern": f"^{word}$",
        "maxLength": len(word),
    }
