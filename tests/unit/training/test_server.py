"""What rank 0's port answers, and how nodes meet there."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from finetune_trainer.contract import CheckpointReference, ExitCode, Progress
from finetune_trainer.errors import TrainerError
from finetune_trainer.training.rendezvous import Attendance, Meeting
from finetune_trainer.training.server import StatusServer
from tests.training_runs import free_port

DEADLINE = 20.0
PROGRESS = Progress(
    uid="u",
    attempt=2,
    step=7,
    total_steps=96,
    loss=float("nan"),
    learning_rate=2e-4,
    last_checkpoint=CheckpointReference(step=5, path="step-00000005.a1.e1", digest="d"),
)


@dataclass(frozen=True, slots=True)
class Site:
    port: int
    server: StatusServer
    meeting: Meeting

    def get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    log = tmp_path / "trainer_log.jsonl"
    log.write_text('{"step": 1}\n')
    (tmp_path / "secret.jsonl").write_text("{}")
    meeting = Meeting("uid/2", nodes=3)
    port = free_port()
    files = {"trainer_log.jsonl": lambda: log, "loss-curve.png": lambda: None}
    server = StatusServer(port, status=lambda: PROGRESS, files=files, meeting=meeting)
    yield Site(port, server, meeting)
    meeting.close()
    server.close()


def test_status_is_progress(site: Site) -> None:
    status, body = site.get("/status")
    assert (status, Progress.from_json(body).step) == (200, 7)
    assert json.loads(body)["loss"] == "NaN"


def test_metrics_show_what_is_known_and_leave_out_the_rest(site: Site) -> None:
    _, body = site.get("/metrics")
    values = dict(line.rsplit(" ", 1) for line in body.splitlines() if not line.startswith("#"))
    assert values["finetune_step"] == "7.0"
    assert values["finetune_train_loss"] == "NaN"
    assert values["finetune_last_checkpoint_step"] == "5.0"
    assert "finetune_eval_loss" not in values


def test_files_are_those_that_exist(site: Site) -> None:
    assert json.loads(site.get("/files")[1]) == ["trainer_log.jsonl"]
    assert site.get("/files/trainer_log.jsonl") == (200, '{"step": 1}\n')


@pytest.mark.parametrize(
    "path",
    [
        "/files/secret.jsonl",
        "/files/../secret.jsonl",
        "/files/..%2Fsecret.jsonl",
        "/files//etc/passwd",
        "/files/loss-curve.png",
        "/",
        "/statuses",
    ],
)
def test_nothing_else_is_served(site: Site, path: str) -> None:
    assert site.get(path)[0] == 404


def test_a_port_that_is_taken_is_a_bad_config(site: Site) -> None:
    with pytest.raises(TrainerError) as failure:
        StatusServer(site.port, status=lambda: PROGRESS, files={}, meeting=site.meeting)
    assert failure.value.code == ExitCode.BAD_CONFIG


def attend(site: Site, node: int, *, run: str = "uid/2") -> Attendance:
    return Attendance("127.0.0.1", node=node, run=run, port=site.port)


def test_nodes_start_when_all_are_there(site: Site) -> None:
    first = attend(site, 1)
    assert not first.ready.wait(0.1)
    second = attend(site, 2)
    for ready in (first.ready, second.ready, site.meeting.ready):
        assert ready.wait(DEADLINE)
    assert not site.meeting.lost.is_set()


@pytest.mark.parametrize(("node", "run"), [(1, "uid/1"), (3, "uid/2"), (0, "uid/2")])
def test_strangers_are_not_admitted(site: Site, node: int, run: str) -> None:
    assert site.get(f"/join?node={node}&run={run}")[0] == 409


def test_the_end_of_node_0_is_noticed(site: Site) -> None:
    peers = [attend(site, 1), attend(site, 2)]
    assert all(peer.ready.wait(DEADLINE) for peer in peers)
    site.meeting.close()
    assert all(peer.lost.wait(DEADLINE) for peer in peers)


def test_the_end_of_a_peer_is_noticed(site: Site) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=DEADLINE)
    connection.request("GET", "/join?node=1&run=uid/2")
    response = connection.getresponse()
    other = attend(site, 2)
    assert other.ready.wait(DEADLINE)
    response.close()
    connection.close()
    assert site.meeting.lost.wait(DEADLINE)


def test_a_peer_that_lost_touch_and_came_anew_is_there(site: Site) -> None:
    heard = threading.Event()

    def hear(beat: bytes) -> None:
        heard.set()

    def lose_touch(beat: bytes) -> None:
        threading.Thread(target=site.meeting.attend, args=(1, hear), daemon=True).start()
        assert heard.wait(DEADLINE)
        raise ConnectionResetError

    site.meeting.attend(1, lose_touch)
    assert attend(site, 2).ready.wait(DEADLINE)
    assert not site.meeting.lost.is_set()


def test_a_peer_waits_for_a_node_0_that_comes_later() -> None:
    port = free_port()
    peer = Attendance("127.0.0.1", node=1, run="uid/1", port=port)
    meeting = Meeting("uid/1", nodes=2)
    server = StatusServer(port, status=lambda: PROGRESS, files={}, meeting=meeting)
    assert peer.ready.wait(DEADLINE)
    meeting.close()
    server.close()
