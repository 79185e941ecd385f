"""Programs are stopped by identity: a pid that belongs to somebody else by now is left alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from dev.cluster.errors import ClusterError
from dev.cluster.processes import Processes, identify, stop_identity
from dev.cluster.shell import wait_until

SLEEP = ["sleep", "60"]


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    started = Processes(tmp_path)
    yield started
    for name in started.names():
        started.stop(name, seconds=0)


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    child = subprocess.Popen(SLEEP)
    yield child
    child.kill()
    child.wait()


def _pid_file(tmp_path: Path, name: str) -> Path:
    return tmp_path / "pids" / f"{name}.json"


def test_a_started_program_lives_until_it_is_stopped(processes: Processes) -> None:
    assert processes.start("one", SLEEP)
    assert processes.alive("one")
    processes.stop("one")
    assert not processes.alive("one")
    assert processes.names() == []


def test_a_running_program_is_not_started_again(processes: Processes) -> None:
    processes.start("one", SLEEP)
    before = processes.identity("one")
    assert not processes.start("one", SLEEP)
    assert processes.identity("one") == before


def test_a_killed_program_is_started_again(processes: Processes) -> None:
    processes.start("one", SLEEP)
    first = processes.identity("one")
    assert first is not None
    os.kill(first.pid, signal.SIGKILL)
    wait_until(lambda: not processes.alive("one"), what="death", seconds=5)
    assert processes.start("one", SLEEP)
    assert processes.identity("one") != first


def test_a_recycled_pid_is_never_killed(
    processes: Processes, stranger: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    """The pid file of a dead program names a number that a stranger has now."""
    identity = identify(stranger.pid)
    assert identity is not None
    _pid_file(tmp_path, "one").parent.mkdir()
    for other in (
        replace(identity, started=identity.started - 1),
        replace(identity, boot="another boot"),
    ):
        _pid_file(tmp_path, "one").write_text(json.dumps(asdict(other)))
        assert not processes.alive("one")
        processes.stop("one", seconds=0)
        stop_identity(other, seconds=0)
    assert stranger.poll() is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}'])
def test_a_pid_file_cut_off_by_a_crash_counts_as_none(
    processes: Processes, tmp_path: Path, content: str
) -> None:
    _pid_file(tmp_path, "one").parent.mkdir()
    _pid_file(tmp_path, "one").write_text(content)
    assert not processes.alive("one")
    assert processes.start("one", SLEEP)


def test_a_program_that_ignores_sigterm_is_killed(processes: Processes) -> None:
    script = "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True)"
    processes.start("stubborn", [sys.executable, "-c", f"{script}; time.sleep(60)"])
    wait_until(lambda: processes.tail("stubborn") == "1", what="its start", seconds=10)
    processes.stop("stubborn", seconds=0.2)
    assert not processes.alive("stubborn")


def test_a_zombie_has_ended(stranger: subprocess.Popen[bytes]) -> None:
    identity = identify(stranger.pid)
    assert identity is not None
    stranger.kill()
    wait_until(lambda: not identity.alive(), what="death", seconds=5)


def test_an_ended_program_is_reported_with_its_last_words(processes: Processes) -> None:
    processes.start("brief", ["sh", "-c", "echo no such flag; exit 2"])
    wait_until(lambda: not processes.alive("brief"), what="its end", seconds=5)
    with pytest.raises(ClusterError, match=r"brief ended.*no such flag"):
        processes.check("brief")
