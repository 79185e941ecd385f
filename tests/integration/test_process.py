"""The process around the reconciles: leadership, orderly ends, faults of the API server."""

from __future__ import annotations

import pytest

from dev.cluster.control_plane import free_ports
from tests.integration.stage import Stage, script
from tests.integration.waiting import eventually

pytestmark = pytest.mark.integration


def holder(stage: Stage) -> str:
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{stage.namespace}/leases"
    items = stage.env.api.items(leases)
    return str(items[0]["spec"].get("holderIdentity", "")) if items else ""


def second_replica(stage: Stage) -> dict[str, str]:
    health, metrics = free_ports(2)
    return {
        "POD_NAME": "finetune-operator-1",
        "FINETUNE_HEALTH_PORT": str(health),
        "FINETUNE_METRICS_PORT": str(metrics),
    }


def test_asked_to_end_it_releases_the_lease_and_another_takes_over(stage: Stage) -> None:
    stage.play(script())
    first = stage.start_program()
    eventually(lambda: holder(stage) == "finetune-operator-0", what="the first leader")
    stage.start_program(**second_replica(stage))
    first.terminate()
    first.wait()
    assert first.exit_code == 0
    # Well within the 15 seconds of the lease.
    eventually(lambda: holder(stage) == "finetune-operator-1", what="the second leader", seconds=10)
    stage.apply("tune")
    stage.until_phase("tune", "Succeeded")


def test_a_replica_that_waits_for_the_lease_is_healthy_and_ends_when_asked(stage: Stage) -> None:
    stage.start_program(**second_replica(stage))
    eventually(lambda: holder(stage) == "finetune-operator-1", what="the leader")
    waiting = stage.start_program()
    eventually(lambda: stage.probe() == 200, what="the second one's probe")
    assert stage.metrics()["finetune_operator_leader_election_master_status"] == 0
    waiting.terminate()
    waiting.wait()
    assert waiting.exit_code == 0


def test_without_its_lease_the_process_ends(stage: Stage) -> None:
    operator = stage.start_program(FINETUNE_LEASE_SECONDS="1")
    eventually(lambda: holder(stage) == "finetune-operator-0", what="the leader")
    lease = f"/apis/coordination.k8s.io/v1/namespaces/{stage.namespace}/leases/finetune-operator"
    stolen = {"holderIdentity": "thief", "leaseDurationSeconds": 3600}

    def steal() -> bool:
        stage.env.api.merge(lease, {"spec": stolen})
        return not operator.alive

    eventually(steal, what="the end of the process", seconds=20)
    assert operator.exit_code == 1


def test_a_fault_of_the_api_server_is_waited_out(stage: Stage) -> None:
    stage.play(script())
    operator = stage.start_operator()
    stage.apply("first")
    stage.until_phase("first", "Succeeded")
    stage.proxy.fault = 503
    stage.apply("second")
    eventually(lambda: len(stage.proxy.refused) > 10, what="refused requests")
    stage.proxy.fault = None
    stage.until_phase("second", "Succeeded")
    assert operator.alive


def test_cut_watches_are_made_again(stage: Stage) -> None:
    played = stage.play(script(a1=None))
    stage.start_operator()
    stage.apply("tune")
    stage.until_phase("tune", "Running")
    for _ in range(3):
        stage.proxy_loop.run(stage.proxy.cut())
    played.script = script()
    stage.until_phase("tune", "Succeeded")
    stage.apply("later")
    stage.until_phase("later", "Succeeded")


def test_when_a_watch_dies_the_process_ends_and_its_successor_goes_on(stage: Stage) -> None:
    """410 as the status of a watch request is fatal to Kopf: a restart beats a deaf leader."""
    stage.play(script())
    operator = stage.start_program()
    stage.apply("first")
    stage.until_phase("first", "Succeeded")
    stage.proxy.fault = 410
    stage.proxy_loop.run(stage.proxy.cut())
    operator.wait()
    assert operator.exit_code == 1
    stage.proxy.fault = None
    stage.apply("second")
    stage.start_operator()
    stage.until_phase("second", "Succeeded")


def test_without_a_list_of_namespaces_it_watches_all_of_them(stage: Stage) -> None:
    """With the chart's rights alone: no list of namespaces or CRDs is needed."""
    stage.play(script())
    stage.start_operator(FINETUNE_NAMESPACES="")
    stage.apply("tune")
    stage.until_phase("tune", "Succeeded")


def test_two_operators_at_a_time_still_make_one_job_per_attempt(stage: Stage) -> None:
    """The lease is no lock: deterministic names and conditional writes carry safety."""
    played = stage.play(script())
    stage.start_operator()
    stage.start_operator(**second_replica(stage), FINETUNE_LEASE_NAME="finetune-operator-twin")
    for number in range(5):
        stage.apply(f"tune-{number}")
    for number in range(5):
        stage.until_phase(f"tune-{number}", "Succeeded")
    assert len(played.seen) == 10
    assert all(len(uids) == 1 for uids in played.seen.values())
