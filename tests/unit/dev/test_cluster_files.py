"""What the cluster's programs read: rendered, parsed again, and written only when it changes."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tarfile
import tomllib
from pathlib import Path

import pytest

from dev.cluster import binaries, busybox, dns, host, images, node, registry, settings
from dev.cluster.errors import ClusterError
from dev.cluster.pki import Authority
from dev.cluster.shell import locked, write

CLUSTER = settings.derive("default", 2, nodes=2)
SECOND = CLUSTER.nodes[1]


def test_containerd_gets_its_own_sockets_and_pulls_from_the_cluster_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ptp").touch()
    monkeypatch.setattr(host, "_CNI_FOLDERS", (tmp_path,))
    config = tomllib.loads(node.containerd_config(CLUSTER, SECOND))
    cri = config["plugins"]["io.containerd.grpc.v1.cri"]
    assert config["grpc"]["address"] == str(SECOND.socket)
    assert cri["sandbox_image"] == busybox.IMAGE
    assert cri["registry"]["config_path"] == str(SECOND.folder / "certs.d")
    assert cri["cni"]["bin_dir"] == str(tmp_path)


def test_each_kubelet_has_its_own_cgroup_and_certificate() -> None:
    first, second = (node.kubelet_config(CLUSTER, one) for one in CLUSTER.nodes)
    for field in ("cgroupRoot", "tlsCertFile", "containerRuntimeEndpoint", "podLogsDir"):
        assert first[field] != second[field]
    assert second["clusterDNS"] == ["10.90.0.1"]
    assert second["failCgroupV1"] is False


def test_services_are_masqueraded_for_everyone_but_pods() -> None:
    config = node.proxy_config(CLUSTER, SECOND)
    assert config["clusterCIDR"] == "10.90.128.0/17"
    assert config["conntrack"] == {"maxPerCore": 0, "min": 0}


def test_pods_get_addresses_of_their_nodes_subnet() -> None:
    plugins = node.cni_config(CLUSTER, SECOND)["plugins"]
    assert plugins[0]["type"] == "ptp"  # type: ignore[index]
    assert plugins[0]["ipam"]["ranges"] == [[{"subnet": "10.90.130.0/24"}]]  # type: ignore[index]


def test_dns_and_registry_listen_on_the_bridge_only() -> None:
    corefile = dns.corefile_text(CLUSTER, Path("/k"))
    assert "bind 10.90.0.1\n" in corefile
    assert registry.config_content(CLUSTER)["http"] == {"addr": "10.90.0.1:21205"}


def test_certificates_name_user_groups_and_addresses(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.create()
    pair = authority.issue("k", user="system:node:n", groups=["system:nodes"], hosts=["10.0.0.1"])
    text = subprocess.run(
        ["openssl", "x509", "-in", pair.certificate, "-noout", "-text"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "O = system:nodes, CN = system:node:n" in text
    assert "IP Address:10.0.0.1" in text
    verify = ["openssl", "verify", "-CAfile", authority.certificate, pair.certificate]
    assert subprocess.run(verify, check=False, capture_output=True).returncode == 0
    config = authority.kubeconfig(tmp_path / "kubeconfig", server="https://a:1", pair=pair)
    assert config.stat().st_mode & 0o777 == 0o600


def test_the_busybox_archive_is_a_valid_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "busybox"
    program.write_text("#!/bin/sh\necho sh; echo ls; echo busybox\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    archives = [tmp_path / "a.tar", tmp_path / "b.tar"]
    for path in archives:
        busybox.write_archive(path)
    assert archives[0].read_bytes() == archives[1].read_bytes()
    with tarfile.open(archives[0]) as archive:
        content = {m.name: archive.extractfile(m).read() for m in archive}  # type: ignore[union-attr]
    for name, data in content.items():
        if name.startswith("blobs/"):
            assert name == f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"
    entry = json.loads(content["index.json"])["manifests"][0]
    assert entry["annotations"] == {"io.containerd.image.name": busybox.IMAGE}


def test_nothing_of_the_machine_is_built_into_an_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Index settings reach RUN steps as a mounted file, never as an environment of the image."""
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.example/simple")
    mounts = images.run_step_mounts(tmp_path)
    assert f"{tmp_path}/pip.conf:/etc/pip.conf:ro" in mounts
    assert "index-url = https://index.example/simple" in (tmp_path / "pip.conf").read_text()
    image = images.Image(Path("Dockerfile"), Path(), "finetune/trainer:x")
    assert "index.example" not in " ".join(images.build_command(image, mounts))


def test_an_unchanged_file_is_not_written_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    write(path, "a")
    before = path.stat()
    write(path, "a")
    assert path.stat().st_ino == before.st_ino
    write(path, "b")
    assert path.read_text() == "b"
    assert [each.name for each in path.parent.iterdir()] == ["file"]


def test_a_lock_is_free_again_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="x"), locked(tmp_path / "lock"):
        raise ValueError("x")
    with locked(tmp_path / "lock"):
        pass


def test_a_binary_is_stamped_with_its_pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    etcd = binaries.CATALOGUE["etcd"]
    (tmp_path / "etcd").mkdir()
    for name in ("go.mod", "go.sum"):
        (tmp_path / "etcd" / name).write_bytes((binaries.GO_MODULES / "etcd" / name).read_bytes())
    before = etcd.stamp()
    monkeypatch.setattr(binaries, "GO_MODULES", tmp_path)
    assert etcd.stamp() == before
    (tmp_path / "etcd" / "go.sum").write_text("other")
    assert etcd.stamp() != before


def test_an_unknown_binary_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ClusterError, match="no binary 'x'; there are etcd"):
        binaries.ensure(["x"])
