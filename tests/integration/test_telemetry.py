"""What the operator tells: progress in the status, Events, metrics, probes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from finetune_trainer.contract import STATUS_PORT, Progress, TrainerPhase
from tests.integration.stage import Stage, broken, checkpoint, script
from tests.integration.waiting import eventually

pytestmark = pytest.mark.integration

METRICS = {
    "finetune_operator_workqueue_depth",
    "finetune_operator_workqueue_adds_total",
    "finetune_operator_workqueue_retries_total",
    "finetune_operator_workqueue_queue_duration_seconds_count",
    "finetune_operator_workqueue_work_duration_seconds_count",
    "finetune_operator_workqueue_unfinished_work_seconds",
    "finetune_operator_workqueue_longest_running_processor_seconds",
    "finetune_operator_reconcile_total",
    "finetune_operator_reconcile_time_seconds_count",
    "finetune_operator_active_workers",
    "finetune_operator_max_concurrent_reconciles",
    "finetune_operator_api_requests_total",
    "finetune_operator_api_request_duration_seconds_count",
    "finetune_operator_leader_election_master_status",
    "finetune_operator_event_loop_lag_seconds",
    "finetune_operator_watch_events_total",
    "finetune_operator_resync_repairs_total",
    "finetune_operator_progress_scrapes_total",
    "finetune_operator_build_info",
    "finetunejob_phase",
    "finetunejob_attempts_total",
    "finetunejob_lost_steps_total",
    "finetunejob_time_to_first_step_seconds_count",
}


class Rank0:
    """What a trainer serves on :9400, with words that the test chooses."""

    def __init__(self, address: str) -> None:
        self.progress: Progress | None = None
        rank0 = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                words = rank0.progress
                self.send_response(200 if words and self.path == "/status" else 404)
                self.end_headers()
                if words:
                    self.wfile.write(words.to_json().encode())

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer((address, STATUS_PORT), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


@contextmanager
def serving(address: str) -> Iterator[Rank0]:
    rank0 = Rank0(address)
    try:
        yield rank0
    finally:
        rank0.close()


def test_what_rank_0_says_is_read_in_the_status(stage: Stage) -> None:
    address = "127.0.9.1"
    stage.play(script(a1=None), pod_address=address)
    stage.start_operator()
    uid = stage.apply("tune")["metadata"]["uid"]
    with serving(address) as rank0:
        rank0.progress = Progress(
            uid=uid,
            attempt=1,
            phase=TrainerPhase.TRAIN,
            step=7,
            total_steps=30,
            loss=2.25,
            learning_rate=2e-4,
            last_checkpoint=checkpoint(5),
        )
        status = stage.until(
            "tune", lambda s: (s.get("progress") or {}).get("step") == 7, what="step 7"
        )
        assert (status["progress"]["loss"], status["progress"]["percent"]) == ("2.25", 23)
        assert status["lastCheckpoint"]["step"] == 5
        assert status["phase"] == "Running"

        rank0.progress = rank0.progress.model_copy(update={"step": 9, "loss": float("nan")})
        status = stage.until("tune", lambda s: s["progress"]["step"] == 9, what="step 9")
        assert status["progress"]["loss"] == "NaN"

    # Rank 0 falls silent: unreachable is no failure.
    before = stage.metrics().get(SILENT, 0)
    eventually(lambda: stage.metrics().get(SILENT, 0) > before + 2, what="unanswered scrapes")
    status = stage.status("tune")
    assert (status["phase"], status["progress"]["step"]) == ("Running", 9)
    assert len(status["attempts"]) == 1


SILENT = 'finetune_operator_progress_scrapes_total{result="unreachable"}'


def test_another_jobs_rank_0_on_a_reused_address_is_not_believed(stage: Stage) -> None:
    address = "127.0.9.2"
    stage.play(script(a1=None), pod_address=address)
    stage.start_operator()
    stage.apply("tune")
    with serving(address) as rank0:
        rank0.progress = Progress(uid="another", attempt=1, step=29, total_steps=30)
        invalid = 'finetune_operator_progress_scrapes_total{result="invalid"}'
        stage.until_phase("tune", "Running")
        eventually(lambda: stage.metrics().get(invalid, 0) > 2, what="refused answers")
        assert "progress" not in stage.status("tune")


def test_events_tell_what_changed(stage: Stage) -> None:
    stage.play(script(a1=broken(12, saved=10)))
    stage.start_operator()
    uid = stage.apply("tune")["metadata"]["uid"]
    stage.until_phase("tune", "Succeeded")
    told = eventually(
        lambda: told if "Succeeded" in (told := reasons(stage, "tune")) else None,
        what="the last Event",
    )
    assert {"Accepted", "PreflightPassed", "AttemptFailed", "Succeeded"} <= set(told)
    assert {e["regarding"]["uid"] for e in told.values()} == {uid}
    assert told["AttemptFailed"]["type"] == "Warning"
    assert "the volume is gone" in told["AttemptFailed"]["note"]
    described = stage.env.kubectl(f"--namespace={stage.namespace}", "describe", "ftj", "tune")
    assert "AttemptFailed" in described


def reasons(stage: Stage, name: str) -> dict[str, dict[str, Any]]:
    return {event["reason"]: event for event in stage.events(name)}


def test_metrics_count_what_was_done(stage: Stage) -> None:
    address = "127.0.9.3"
    played = stage.play(script(a1=None), pod_address=address)
    stage.start_operator()
    uid = stage.apply("tune")["metadata"]["uid"]
    with serving(address) as rank0:
        rank0.progress = Progress(uid=uid, attempt=1, step=12, total_steps=30)
        stage.until("tune", lambda s: (s.get("progress") or {}).get("step"), what="a first step")
    played.script = script(a1=broken(12, saved=10))
    stage.until_phase("tune", "Succeeded")
    seen = eventually(
        lambda: m if (m := stage.metrics()).get('finetunejob_phase{phase="Succeeded"}') else None,
        what="the phase in the metrics",
    )
    assert {name.partition("{")[0] for name in seen} >= METRICS
    assert seen['finetunejob_attempts_total{outcome="Failed",reason="StorageError"}'] == 1
    assert seen['finetunejob_attempts_total{outcome="Succeeded",reason="Succeeded"}'] == 1
    assert seen["finetunejob_lost_steps_total"] == 2
    assert seen["finetunejob_time_to_first_step_seconds_count"] == 1
    assert seen["finetune_operator_leader_election_master_status"] == 1
    created = 'finetune_operator_api_requests_total{code="201",resource="jobs",verb="create"}'
    assert seen[created] == 3


def test_no_metric_has_a_label_without_bounds(stage: Stage) -> None:
    stage.play(script())
    stage.start_operator()
    stage.apply("tune")
    stage.until_phase("tune", "Succeeded")
    text = "\n".join(stage.metrics())
    for word in ("tune", stage.namespace, "namespace=", "name=", "uid="):
        assert word not in text.replace("finetune", ""), word


def test_the_probes_answer(stage: Stage) -> None:
    stage.start_operator()
    eventually(lambda: stage.probe("/healthz") == 200, what="/healthz")
    assert stage.probe("/readyz") == 200
