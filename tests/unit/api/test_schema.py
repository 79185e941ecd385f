"""The CRD as a document: what the API server demands of it, and what a reader may expect."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from finetune_operator.api import crd
from finetune_operator.api.schema import Schema, UnsupportedSchema, structural

FORBIDDEN = ("$ref", "anyOf", "oneOf", "allOf", "nullable", "uniqueItems", "title", "const")


def walk(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from walk(child, f"{path}.{name}")
    if "items" in schema:
        yield from walk(schema["items"], f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from walk(schema["additionalProperties"], f"{path}{{}}")


def nodes() -> list[tuple[str, Schema]]:
    root = crd.object_schema()["properties"]
    return [node for part in ("spec", "status") for node in walk(root[part], part)]


NODES = nodes()


def offenders(holds: Callable[[Schema], bool]) -> list[str]:
    """Paths of the nodes for which `holds` is false."""
    return [path for path, schema in NODES if not holds(schema)]


def test_every_property_is_described_in_sentences() -> None:
    properties = [(path, node) for path, node in NODES if not path.endswith(("[]", "{}"))]
    assert len(properties) > 200
    assert [path for path, node in properties if not node["description"].endswith(".")] == []


def test_every_node_has_one_type_and_none_is_a_float() -> None:
    types = ("object", "array", "string", "integer", "boolean")

    def typed(schema: Schema) -> bool:
        if schema.get("x-kubernetes-int-or-string"):
            return "type" not in schema
        return schema["type"] in types

    assert offenders(typed) == []


def test_every_value_is_bounded() -> None:
    def bounded(schema: Schema) -> bool:
        match schema.get("type", "int-or-string"):
            case "string":
                return "maxLength" in schema or "enum" in schema
            case "array":
                return bool(schema["maxItems"] <= 64)
            case "integer":
                return {"minimum", "maximum", "format"} <= schema.keys()
            case "object" if "properties" not in schema:
                return bool(schema["maxProperties"] <= 32)
            case "int-or-string":
                return "maxLength" in schema
            case _:
                return True

    assert offenders(bounded) == []


def test_nothing_that_a_structural_schema_cannot_say() -> None:
    def structural_only(schema: Schema) -> bool:
        return (
            not set(FORBIDDEN) & schema.keys()
            and schema.get("additionalProperties") is not False
            and schema.get("default", "") is not None
        )

    assert offenders(structural_only) == []


def test_status_has_no_defaults_and_no_rules() -> None:
    observed = [schema for path, schema in NODES if path.startswith("status")]
    assert not [s for s in observed if {"default", "x-kubernetes-validations"} & s.keys()]


def test_only_the_two_sources_are_required_of_a_user() -> None:
    spec = crd.object_schema()["properties"]["spec"]
    assert spec["required"] == ["model", "dataset"]
    optional_objects = [
        path
        for path, schema in NODES
        if path.startswith("spec") and "required" in schema and not path.endswith("[]")
    ]
    # patience is required of those who ask for early stopping
    assert set(optional_objects) == {
        "spec",
        "spec.model",
        "spec.dataset",
        "spec.training.earlyStopping",
    }


def test_what_the_operator_or_a_platform_team_presets_has_no_default() -> None:
    unset = {
        "spec.workspace",
        "spec.training.epochs",
        "spec.training.maxSteps",
        "spec.training.globalBatchSize",
        "spec.compute.cpu",
        "spec.compute.memory",
        "spec.compute.tolerations",
        "spec.workspace.size",
    }
    assert not [path for path, schema in NODES if path in unset and "default" in schema]


def test_auto_is_the_default_of_what_preflight_chooses() -> None:
    auto = {path for path, schema in NODES if schema.get("default") == "Auto"}
    assert auto == {
        "spec.dataset.format",
        "spec.adapter.rank",
        "spec.adapter.alpha",
        "spec.training.microBatchSize",
        "spec.training.learningRate",
        "spec.training.warmupRatio",
        "spec.training.precision",
        "spec.training.activationCheckpointing",
        "spec.checkpoint.interval",
    }


def test_the_manifest_is_small_enough_for_plain_kubectl_apply() -> None:
    assert len(crd.render().encode()) < 200_000


def test_get_shows_phase_step_total_loss_attempts_and_age() -> None:
    names = [column["name"] for column in crd.PRINTER_COLUMNS]
    assert names == ["Phase", "Step", "Total", "Loss", "Attempts", "Age"]


def test_generated_files_are_up_to_date() -> None:
    assert crd.stale(Path("crds")) == ""


def test_check_prints_a_diff_and_fails_when_a_file_is_stale(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "crds"
    assert crd.main(["--write", str(directory)]) == 0
    assert crd.main(["--check", str(directory)]) == 0
    target = directory / crd.FILE_NAME
    target.write_text(target.read_text().replace("kind: FineTuneJob", "kind: Other"))
    assert crd.main(["--check", str(directory)]) == 1
    assert "-    kind: Other\n+    kind: FineTuneJob\n" in capsys.readouterr().out


def test_the_charts_copy_holds_the_same_definition() -> None:
    template = crd.chart_template(crd.render())
    plain = "\n".join(
        line
        for line in template.splitlines()
        if "{{" not in line
        and line.strip() not in ("annotations:", "helm.sh/resource-policy: keep")
    )
    assert yaml.safe_load(plain) == crd.custom_resource_definition()


class Floating(BaseModel):
    rate: float | str = "1"


class Anything(BaseModel):
    anything: dict[str, Any] = {}


@pytest.mark.parametrize("model", [Floating, Anything])
def test_a_type_without_a_translation_is_refused_by_path(model: type[BaseModel]) -> None:
    with pytest.raises(UnsupportedSchema, match=r"^spec\.\w+: "):
        structural(model, "spec")
