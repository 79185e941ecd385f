"""Write or check the CRD: `python -m finetune_operator.api.crd --write crds | --check crds`.

The models are the source; the manifest below crds/ and its copy among the chart's templates are
generated and never edited by hand. The chart's copy differs by its condition and annotations alone.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from finetune_operator.api.rules import add_rules
from finetune_operator.api.schema import Schema, structural
from finetune_operator.api.v1alpha1 import FineTuneJobSpec, FineTuneJobStatus
from finetune_operator.constants import GROUP, KIND, PLURAL, VERSION

FILE_NAME: Final = f"{GROUP}_{PLURAL}.yaml"
CHART_COPY: Final = Path("charts/finetune-operator/templates/crd-finetunejobs.yaml")
HEADER: Final = "# Generated from operator/finetune_operator/api by `make generate`; do not edit.\n"

_CHART_ANNOTATIONS: Final = """\
metadata:
  {{- if .Values.crds.keep }}
  annotations:
    helm.sh/resource-policy: keep
  {{- end }}
"""

PRINTER_COLUMNS: Final[tuple[dict[str, str], ...]] = (
    {"name": "Phase", "type": "string", "jsonPath": ".status.phase"},
    {"name": "Step", "type": "integer", "jsonPath": ".status.progress.step"},
    {"name": "Total", "type": "integer", "jsonPath": ".status.plan.totalSteps"},
    {"name": "Loss", "type": "string", "jsonPath": ".status.progress.loss"},
    {"name": "Attempts", "type": "integer", "jsonPath": ".status.currentAttempt.number"},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
)


def object_schema() -> Schema:
    """The structural schema of a whole FineTuneJob."""
    root: Schema = {
        "description": "One fine-tuning run: from base model and dataset to a tuned adapter.",
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"description": "Version of this schema.", "type": "string"},
            "kind": {"description": "Kind of this object.", "type": "string"},
            # The name is spelled out for the sake of the rules that point at it.
            "metadata": {
                "type": "object",
                "properties": {"name": {"type": "string"}},
            },
            "spec": structural(FineTuneJobSpec, "spec"),
            "status": structural(FineTuneJobStatus, "status", observed=True),
        },
    }
    add_rules(root)
    return root


def custom_resource_definition() -> dict[str, Any]:
    """The CustomResourceDefinition of FineTuneJob."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["ftj"],
                "categories": ["finetune"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": list(PRINTER_COLUMNS),
                    "schema": {"openAPIV3Schema": object_schema()},
                }
            ],
        },
    }


class _Dumper(yaml.SafeDumper):
    """Block style without anchors, so that every property can be read where it stands."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def render() -> str:
    """The manifest as YAML."""
    definition = custom_resource_definition()
    return HEADER + yaml.dump(definition, Dumper=_Dumper, sort_keys=False, width=110)


def chart_template(manifest: str) -> str:
    """The manifest as a template of the chart: conditional, and kept on uninstall if so wished."""
    if "{{" in manifest:
        raise ValueError("the CRD contains '{{', which helm would interpret")
    body = manifest.replace("metadata:\n", _CHART_ANNOTATIONS, 1)
    return "{{- if .Values.crds.enabled }}\n" + body + "{{- end }}\n"


def generated_files(directory: Path) -> dict[Path, str]:
    """Path -> content of every generated file; the chart lies beside `directory`."""
    manifest = render()
    return {
        directory / FILE_NAME: manifest,
        directory.parent / CHART_COPY: chart_template(manifest),
    }


def stale(directory: Path) -> str:
    """A unified diff from the files on disk to what they should be; empty when up to date."""
    lines: list[str] = []
    for path, wanted in generated_files(directory).items():
        found = path.read_text() if path.exists() else ""
        lines += difflib.unified_diff(
            found.splitlines(keepends=True),
            wanted.splitlines(keepends=True),
            fromfile=str(path),
            tofile=f"{path} (generated)",
        )
    return "".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit 0 when written or up to date, 1 with a diff on stdout when stale, 2 for wrong usage."""
    parser = argparse.ArgumentParser(prog="finetune_operator.api.crd", description=__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--write", type=Path, metavar="DIR", help="write the generated files")
    action.add_argument("--check", type=Path, metavar="DIR", help="exit 1 when a file is stale")
    options = parser.parse_args(arguments)
    if options.write:
        for path, content in generated_files(options.write).items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return 0
    if difference := stale(options.check):
        sys.stdout.write(difference)
        sys.stderr.write("generated files are stale: run `make generate`\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
