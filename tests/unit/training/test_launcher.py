"""What PID 1 does before and around the ranks, through the real process."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.checkpoint.layout import JobFolder
from finetune_trainer.contract import (
    RUN_CONFIG_VARIABLE,
    STATUS_PORT_VARIABLE,
    ExitCode,
    Progress,
    RunConfig,
    Termination,
    Topology,
)
from finetune_trainer.errors import TrainerError
from finetune_trainer.pod import read_config
from finetune_trainer.training.node import NODE_RANK_VARIABLE, make_node
from finetune_trainer.training.reports import Scratch
from tests.training_runs import Launched, Sources, attempt, free_port, launch


def wrong(record: dict[str, Any], path: str, value: Any) -> str:
    """The record as JSON with one member set, or removed when the value is None."""
    *parents, last = path.split(".")
    inner = record = json.loads(json.dumps(record))
    for parent in parents:
        inner = inner[parent]
    inner.pop(last, None) if value is None else inner.update({last: value})
    return json.dumps(record)


FIELDS = {
    "training.learningRate": "fast",
    "adapter.quantization": "Int8",
    "topology.nodes": 0,
    "model.source": None,
    "unknownField": 1,
}


@pytest.mark.parametrize(("path", "value"), FIELDS.items(), ids=FIELDS.keys())
def test_10_names_the_wrong_field(sources: Sources, tmp_path: Path, path: str, value: Any) -> None:
    record = sources.config(tmp_path).to_dict()
    with pytest.raises(TrainerError) as failure:
        read_config({RUN_CONFIG_VARIABLE: wrong(record, path, value)})
    assert failure.value.code == ExitCode.BAD_CONFIG
    assert path.split(".")[-1] in failure.value.message


def test_10_for_training_without_a_plan(sources: Sources, tmp_path: Path) -> None:
    unplanned = sources.config(tmp_path).model_copy(update={"plan": None})
    with pytest.raises(TrainerError, match="plan: missing") as failure:
        make_node(unplanned, {}, scratch=Scratch(tmp_path))
    assert failure.value.code == ExitCode.BAD_CONFIG


def test_a_launcher_without_a_config_leaves_a_record(tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    environment = {"PYTHONPATH": ":".join(sys.path), "FINETUNE_TERMINATION_LOG": str(record)}
    done = subprocess.run(
        [sys.executable, "-m", "finetune_trainer.launcher", "train"], env=environment, check=False
    )
    assert done.returncode == ExitCode.BAD_CONFIG
    assert Termination.from_json(record.read_bytes()).reason == "BadConfig"


def test_a_record_that_cannot_be_written_leaves_the_exit_code_as_it_is() -> None:
    environment = {"PYTHONPATH": ":".join(sys.path), "FINETUNE_TERMINATION_LOG": "/dev/full"}
    done = subprocess.run(
        [sys.executable, "-m", "finetune_trainer.launcher", "train"], env=environment, check=False
    )
    assert done.returncode == ExitCode.BAD_CONFIG


def two_nodes(sources: Sources, folder: Path, **changes: Any) -> RunConfig:
    return sources.config(folder / "workspace").model_copy(
        update={"topology": Topology(nodes=2), **changes}
    )


def test_peers_that_never_come_are_not_a_failure(sources: Sources, tmp_path: Path) -> None:
    config = two_nodes(sources, tmp_path, start_deadline_seconds=1)
    lonely = launch(config, tmp_path / "output", **{NODE_RANK_VARIABLE: "0"})
    assert lonely.wait() == ExitCode.STOPPED_NOTHING_NEW
    assert lonely.termination().reason == "NotStarted"


@pytest.mark.parametrize("index", ["2", "-1", "", "first"])
def test_a_pod_that_the_topology_does_not_have_is_refused(
    sources: Sources, tmp_path: Path, index: str
) -> None:
    stray = launch(two_nodes(sources, tmp_path), tmp_path, **{NODE_RANK_VARIABLE: index})
    assert stray.wait() == ExitCode.BAD_CONFIG
    assert stray.termination().reason == "WorldSize"


def status(port: int) -> Progress:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/status")
    return Progress.from_json(connection.getresponse().read())


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def waiting_for_peers(sources: Sources, folder: Path, config: RunConfig) -> tuple[Launched, int]:
    port = free_port()
    running = launch(config, folder, **{NODE_RANK_VARIABLE: "0", STATUS_PORT_VARIABLE: str(port)})
    assert running.wait_until(lambda job: answers(port))
    return running, port


def test_status_answers_before_anything_is_loaded_and_a_stop_is_76(
    sources: Sources, tmp_path: Path
) -> None:
    """The second attempt reports how the first one ended."""
    config = two_nodes(sources, tmp_path)
    earlier = Termination(code=20, reason="RankKilled", attempt=1)
    path = JobFolder.of(config).termination(1)
    path.parent.mkdir(parents=True)
    path.write_text(earlier.to_json())
    second = attempt(config, 2).model_copy(update={"topology": Topology(nodes=2)})
    running, port = waiting_for_peers(sources, tmp_path, second)
    progress = status(port)
    assert (progress.uid, progress.attempt, progress.step) == (config.job.uid, 2, 0)
    assert progress.previous == earlier
    running.signal(signal.SIGTERM)
    assert running.wait() == ExitCode.STOPPED_NOTHING_NEW
    assert json.loads(JobFolder.of(config).termination(2).read_text())["code"] == 76


def test_a_node_whose_peer_ends_says_peer_lost(sources: Sources, tmp_path: Path) -> None:
    """Node 1 is there, node 0 is killed while the ranks import."""
    config = two_nodes(sources, tmp_path)
    first, port = waiting_for_peers(sources, tmp_path, config)
    second = launch(
        config, tmp_path / "1", **{NODE_RANK_VARIABLE: "1", STATUS_PORT_VARIABLE: str(port)}
    )
    assert second.wait_until(lambda job: children(first) and children(second))
    first.signal(signal.SIGKILL)
    assert second.wait() == ExitCode.PEER_LOST
    assert second.termination().reason == "PeerLost"
    first.wait()


def test_nodes_that_are_stopped_one_after_the_other_did_not_fail(
    sources: Sources, tmp_path: Path
) -> None:
    """Node 0 is gone before node 1 is asked, and before their ranks have met."""
    config = two_nodes(sources, tmp_path)
    first, port = waiting_for_peers(sources, tmp_path, config)
    second = launch(
        config, tmp_path / "1", **{NODE_RANK_VARIABLE: "1", STATUS_PORT_VARIABLE: str(port)}
    )
    assert second.wait_until(lambda job: children(first) and children(second))
    for node in (first, second):
        node.signal(signal.SIGTERM)
        assert node.wait() == ExitCode.STOPPED_NOTHING_NEW


def test_a_node_that_is_stopped_before_the_meeting_leaves_its_peers_waiting(
    sources: Sources, tmp_path: Path
) -> None:
    """Node 1 has no peer to lose yet: asked too, it stopped like node 0."""
    config = sources.config(tmp_path / "workspace").model_copy(
        update={"topology": Topology(nodes=3)}
    )
    first, port = waiting_for_peers(sources, tmp_path, config)
    second = launch(
        config, tmp_path / "1", **{NODE_RANK_VARIABLE: "1", STATUS_PORT_VARIABLE: str(port)}
    )
    assert second.wait_until(lambda job: connected(port))
    for node in (first, second):
        node.signal(signal.SIGTERM)
        assert node.wait() == ExitCode.STOPPED_NOTHING_NEW


def connected(port: int) -> bool:
    """Whether somebody on this machine holds a connection to the port."""
    established = f":{port:04X} 01 "  # remote address, state
    return established in Path("/proc/net/tcp").read_text()


def children(launched: Launched) -> bool:
    pid = launched.process.pid
    return bool(Path(f"/proc/{pid}/task/{pid}/children").read_text().strip())


def test_the_launcher_imports_no_torch() -> None:
    code = "import sys, finetune_trainer.launcher; sys.exit('torch' in sys.modules)"
    environment = {"PYTHONPATH": ":".join(sys.path)}
    assert (
        subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
    )
