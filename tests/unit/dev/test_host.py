"""What is missing on a machine is said in one sentence."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from dev.cluster import host
from dev.cluster.errors import ClusterError
from dev.cluster.paths import REPOSITORY

Usage = namedtuple("Usage", "total used free")


def test_a_taken_port_is_named_with_its_owner() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ClusterError, match=f"port {port} on 127.0.0.1 is taken by .*") as error:
            host.require_port_free("127.0.0.1", port)
    if shutil.which("ss"):
        assert f"pid={os.getpid()}" in str(error.value)
    host.require_port_free("127.0.0.1", port)


def test_a_full_disk_says_how_much_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, 9.4 * 2**30))
    with pytest.raises(ClusterError, match=r"9\.4 GiB free, 10 are needed"):
        host.require_disk(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can stop being root")
def test_somebody_else_than_root_is_told_what_to_do() -> None:
    script = (
        "import os\nfrom dev.cluster.__main__ import main\nos.seteuid(65534)\n"
        "raise SystemExit(main(['up']))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert result.stderr.startswith("error: a local cluster needs root")
    assert "Traceback" not in result.stderr


def test_a_machine_without_apt_is_told_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(ClusterError, match="no apt-get here: install buildah, debootstrap"):
        host.install(host.IMAGE_PROGRAMS)
