"""What a real API server makes of a FineTuneJob: refused with the field's name, or completed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from dev.cluster.control_plane import EnvTest
from dev.cluster.errors import ClusterError
from finetune_operator.api.crd import object_schema
from finetune_operator.api.rules import NOT_YET
from finetune_operator.api.v1alpha1 import FineTuneJobSpec, FineTuneJobStatus, FixedSpec
from finetune_operator.constants import GROUP, PLURAL, VERSION
from tests.crd_cases import ACCEPTED, DEFAULTS, EDITS, LATER, REFUSED
from tests.manifests import changed, example, finetunejob, merged

pytestmark = pytest.mark.integration

NAMESPACE: Final = "default"
Manifest = dict[str, Any]


@pytest.fixture(scope="module")
def api(api_server: EnvTest) -> Iterator[client.CustomObjectsApi]:
    with config.new_client_from_config(str(api_server.kubeconfig)) as connection:
        yield client.CustomObjectsApi(connection)


def create(api: client.CustomObjectsApi, manifest: Manifest, *, dry: bool = True) -> Manifest:
    options = {"dry_run": "All"} if dry else {}
    return api.create_namespaced_custom_object(
        GROUP, VERSION, NAMESPACE, PLURAL, manifest, field_validation="Strict", **options
    )


def update(api: client.CustomObjectsApi, manifest: Manifest) -> Manifest:
    return api.replace_namespaced_custom_object(
        GROUP, VERSION, NAMESPACE, PLURAL, manifest["metadata"]["name"], manifest, dry_run="All"
    )


def refusal(error: pytest.ExceptionInfo[ApiException]) -> str:
    assert error.value.status == 422
    return str(json.loads(error.value.body)["message"])


@pytest.mark.parametrize("what", REFUSED)
def test_a_wrong_job_is_refused_with_the_fields_name(
    api: client.CustomObjectsApi, what: str
) -> None:
    changes, message = REFUSED[what]
    with pytest.raises(ApiException) as error:
        create(api, finetunejob(changes=changes))
    assert message in refusal(error)


def test_the_table_has_a_value_for_every_field_of_a_later_release() -> None:
    assert LATER.keys() == NOT_YET.keys()


@pytest.mark.parametrize("path", LATER)
def test_a_field_without_behaviour_is_refused_and_never_ignored(
    api: client.CustomObjectsApi, path: str
) -> None:
    with pytest.raises(ApiException) as error:
        create(api, finetunejob(changes={path: LATER[path]}))
    assert f"{path} is not supported in this release" in refusal(error)


def test_kubectl_apply_refuses_an_unknown_field(api_server: EnvTest) -> None:
    manifest = finetunejob(changes={"spec.training.learnigRate": "2e-4"})
    with pytest.raises(ClusterError, match=r'unknown field "spec\.training\.learnigRate"'):
        api_server.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))


@pytest.mark.parametrize("what", ACCEPTED)
def test_a_good_job_keeps_what_it_says(api: client.CustomObjectsApi, what: str) -> None:
    manifest = finetunejob(changes=ACCEPTED[what])
    stored = create(api, manifest)["spec"]
    assert merged(stored, manifest["spec"]) == stored


@pytest.mark.parametrize("path", sorted(Path("examples").glob("*.yaml")), ids=lambda p: p.name)
def test_the_examples_are_good_jobs(api_server: EnvTest, path: Path) -> None:
    api_server.kubectl("apply", "--dry-run=server", "-f", str(path))


def test_a_minimal_job_comes_back_with_the_defaults(api: client.CustomObjectsApi) -> None:
    assert create(api, finetunejob())["spec"] == DEFAULTS


@pytest.mark.parametrize("what", ACCEPTED)
def test_the_operator_reads_exactly_what_the_server_stored(
    api: client.CustomObjectsApi, what: str
) -> None:
    stored = create(api, finetunejob(changes=ACCEPTED[what]))["spec"]
    read = FineTuneJobSpec.model_validate(stored).to_dict()
    # A quantity may be written as a number; the operator has text.
    cpu = stored["compute"].get("cpu")
    assert read == (changed(stored, {"compute.cpu": str(cpu)}) if cpu else stored)


@pytest.fixture(scope="module")
def stored(api: client.CustomObjectsApi) -> Iterator[Manifest]:
    """A job in the API server in which every fixed field but profile is set."""
    changes = {"spec.workspace": {"size": "5Gi"}, "spec.training.epochs": "3"}
    yield create(api, finetunejob("stored", changes), dry=False)
    api.delete_namespaced_custom_object(GROUP, VERSION, NAMESPACE, PLURAL, "stored")


def test_every_fixed_field_is_tried() -> None:
    assert EDITS.keys() == {f"spec.{field.alias}" for field in FixedSpec.model_fields.values()}


@pytest.mark.parametrize("field", EDITS)
def test_a_fixed_field_cannot_change(
    api: client.CustomObjectsApi, stored: Manifest, field: str
) -> None:
    with pytest.raises(ApiException) as error:
        update(api, changed(stored, EDITS[field]))
    assert f"{field} cannot change once the job exists; only suspend" in refusal(error)


def test_several_changes_are_all_named(api: client.CustomObjectsApi, stored: Manifest) -> None:
    with pytest.raises(ApiException) as error:
        update(api, changed(stored, EDITS["spec.model"] | EDITS["spec.adapter"]))
    assert "spec.model spec.adapter cannot change" in refusal(error)


@pytest.mark.parametrize(
    "changes",
    [
        {"spec.recovery.maxFailures": 9},
        {"spec.startDeadlineSeconds": 60},
        {"spec.suspend": False},
    ],
    ids=str,
)
def test_the_rest_of_the_spec_may_change(
    api: client.CustomObjectsApi, stored: Manifest, changes: Manifest
) -> None:
    wanted = changed(stored, changes)
    assert update(api, wanted)["spec"] == wanted["spec"]


def test_status_holds_all_that_the_operator_writes(
    api: client.CustomObjectsApi, stored: Manifest
) -> None:
    schema = object_schema()["properties"]["status"]
    written = changed(example(schema), {"resolved.compute.gpuResourceName": "nvidia.com/gpu"})
    written["conditions"][0]["reason"] = "Accepted"
    assert FineTuneJobStatus.model_validate(written).to_dict() == written
    answer = api.patch_namespaced_custom_object_status(
        GROUP, VERSION, NAMESPACE, PLURAL, "stored", {"status": written}
    )
    assert answer["status"] == written
    assert answer["spec"] == stored["spec"]


def test_kubectl_get_shows_the_run_at_a_glance(
    api_server: EnvTest, api: client.CustomObjectsApi, stored: Manifest
) -> None:
    status = {
        "phase": "Running",
        "plan": {"totalSteps": 96},
        "progress": {"step": 12, "loss": "2.0413"},
        "currentAttempt": {"number": 2},
    }
    api.patch_namespaced_custom_object_status(
        GROUP, VERSION, NAMESPACE, PLURAL, "stored", {"status": status}
    )
    header, row = api_server.kubectl("get", "ftj", "stored").strip().splitlines()
    assert header.split() == ["NAME", "PHASE", "STEP", "TOTAL", "LOSS", "ATTEMPTS", "AGE"]
    assert row.split()[:6] == ["stored", "Running", "12", "96", "2.0413", "2"]


def test_kubectl_explain_describes_a_field(api_server: EnvTest) -> None:
    text = api_server.kubectl("explain", "finetunejob.spec.training.learningRate")
    assert 'Peak learning rate, such as "2e-4".' in text
