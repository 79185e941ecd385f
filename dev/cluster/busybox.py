"""A two-megabyte image made from the machine's static busybox, loaded into every node.

It is the pods' sandbox ("pause") and what tests run when they only need a shell: no registry and no
build have to work before the first pod does.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from pathlib import Path

from dev.cluster.errors import ClusterError
from dev.cluster.shell import output

IMAGE = "localhost/finetune/busybox:1"
_OCI = "application/vnd.oci.image"


def write_archive(path: Path) -> None:
    """Write an OCI image archive for ``ctr images import``; the same busybox, the same bytes."""
    program = shutil.which("busybox")
    if program is None:
        raise ClusterError("no busybox: apt-get install busybox-static")
    layer = _layer(Path(program).read_bytes(), output([program, "--list"]).split())
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(_machine(), _machine()),
        "os": "linux",
        "config": {"Cmd": ["/bin/sleep", "infinity"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
    }
    blobs = [layer, json.dumps(config).encode()]
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{_OCI}.manifest.v1+json",
        "config": _descriptor(f"{_OCI}.config.v1+json", blobs[1]),
        "layers": [_descriptor(f"{_OCI}.layer.v1.tar", layer)],
    }
    blobs.append(json.dumps(manifest).encode())
    entry = _descriptor(f"{_OCI}.manifest.v1+json", blobs[2])
    entry["annotations"] = {"io.containerd.image.name": IMAGE}
    files = {f"blobs/sha256/{_digest(blob)[7:]}": blob for blob in blobs}
    files["oci-layout"] = b'{"imageLayoutVersion":"1.0.0"}'
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            _add_file(archive, name, data)


def _layer(program: bytes, applets: list[str]) -> bytes:
    """A root file system: busybox, a link for each of its commands, a /tmp for everyone."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, mode in (("bin", 0o755), ("etc", 0o755), ("tmp", 0o1777)):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, mode
            archive.addfile(folder)
        _add_file(archive, "bin/busybox", program, mode=0o755)
        _add_file(
            archive, "etc/passwd", b"root:x:0:0::/:/bin/sh\nuser:x:65532:65532::/tmp:/bin/sh\n"
        )
        for applet in sorted(set(applets) - {"busybox"}):
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
    return buffer.getvalue()


def _add_file(archive: tarfile.TarFile, name: str, data: bytes, *, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    archive.addfile(entry, io.BytesIO(data))


def _descriptor(media_type: str, blob: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": _digest(blob), "size": len(blob)}


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _machine() -> str:
    return output(["uname", "-m"])
