"""The tables of rules: complete, and each message starts with the path of a field that exists."""

from __future__ import annotations

import pytest

from finetune_operator.api.crd import object_schema
from finetune_operator.api.rules import NOT_YET, OBJECT_RULES, ObjectRule, immutability
from finetune_operator.api.schema import Schema
from finetune_operator.api.v1alpha1 import FixedSpec

UNSUPPORTED_WORDS = "Not supported in this release."
FALSE_ONLY_WORDS = "Only false is supported in this release."


def described_as_unsupported() -> set[str]:
    found: set[str] = set()

    def visit(schema: Schema, path: str) -> None:
        for name, child in schema.get("properties", {}).items():
            if child["description"].endswith((UNSUPPORTED_WORDS, FALSE_ONLY_WORDS)):
                found.add(f"{path}.{name}")
            visit(child, f"{path}.{name}")

    visit(object_schema()["properties"]["spec"], "spec")
    return found


def test_the_description_says_so_exactly_where_a_rule_refuses() -> None:
    assert described_as_unsupported() == set(NOT_YET)


@pytest.mark.parametrize("rule", OBJECT_RULES, ids=lambda rule: rule.message[:50])
def test_messages_start_with_the_path_of_the_field(rule: ObjectRule) -> None:
    assert rule.message.startswith(rule.path or "metadata.name")


def test_the_transition_rule_covers_presence_and_value_of_every_fixed_field() -> None:
    rule = immutability()["rule"]
    for field in FixedSpec.model_fields.values():
        assert f"has(self.{field.alias}) == has(oldSelf.{field.alias})" in rule
        assert f"self.{field.alias} == oldSelf.{field.alias})" in rule
