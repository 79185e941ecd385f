"""Build images from Dockerfiles without Docker, and push them to the cluster's registry.

buildah runs as root in machines that are containers themselves. Where no public registry can be
reached, the base image of the Dockerfiles is made here with debootstrap under the very name that
they ask for, so the same Dockerfile builds elsewhere with ``docker build``.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dev.cluster import host
from dev.cluster.errors import ClusterError
from dev.cluster.settings import MACHINE_FOLDER
from dev.cluster.shell import locked, output, run

BASE_IMAGE = "docker.io/library/debian:bookworm-slim"
_BASE_SUITE = "bookworm"
_BASE_PACKAGES = "ca-certificates,python3"
_ENVIRONMENT = {"BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": "overlay"}
_CERTIFICATES = Path("/etc/ssl/certs")
# A flake of buildah's own start in a chroot; the same call passes the second time.
_FLAKE = "sealing memfd copy"


@dataclass(frozen=True, slots=True)
class Image:
    """A Dockerfile, the folder it copies from, and the name to give the result."""

    dockerfile: Path
    context: Path
    tag: str

    @property
    def local_name(self) -> str:
        """Its name in the machine's image store."""
        return f"localhost/{self.tag}"


def build_and_push(image: Image, registry: str) -> str:
    """Build with cached layers, push what the registry lacks; returns the reference by digest."""
    host.require_root()
    if not image.dockerfile.is_file():
        raise ClusterError(f"there is no Dockerfile {image.dockerfile}")
    host.require_disk(Path("/var/lib"))
    host.install(host.IMAGE_PROGRAMS)
    with locked(MACHINE_FOLDER / ".images.lock"):
        ensure_base()
    with tempfile.TemporaryDirectory() as folder:
        _buildah([*build_command(image, run_step_mounts(Path(folder))), str(image.context)])
        digest = Path(folder) / "digest"
        target = f"{registry}/{image.tag}"
        zstd = ["--compression-format", "zstd", "--compression-level", "1"]
        push = ["push", "--quiet", "--tls-verify=false", *zstd, "--digestfile", str(digest)]
        _buildah([*push, image.local_name, f"docker://{target}"])
        return f"{target.rpartition(':')[0]}@{digest.read_text().strip()}"


def build_command(image: Image, mounts: Sequence[str]) -> list[str]:
    """Buildah's arguments, all but the context; mounts exist during RUN and leave no trace."""
    volumes = [f"--volume={mount}" for mount in mounts]
    names = ["--tag", image.local_name, "--file", str(image.dockerfile)]
    return ["build", "--layers", "--pull-never", "--network=host", "--quiet", *names, *volumes]


def run_step_mounts(folder: Path) -> list[str]:
    """What RUN steps see of this machine: its certificates, its way to package indexes, its caches.

    Mounted and not copied: nothing of how this machine reaches its registries gets into an image.
    """
    mounts = []
    if _CERTIFICATES.is_dir():
        mounts.append(f"{_CERTIFICATES}:{_CERTIFICATES}:ro")
    settings = _pip_settings()
    if settings:
        (folder / "pip.conf").write_text(settings)
        mounts.append(f"{folder / 'pip.conf'}:/etc/pip.conf:ro")
    for cache in (".cache/pip", ".cache/uv"):
        path = Path.home() / cache
        if path.is_dir():
            mounts.append(f"{path}:/root/{cache}:rw")
    return mounts


def ensure_base() -> None:
    """Make the Dockerfiles' base image unless the machine's image store has it."""
    if _stored(BASE_IMAGE):
        return
    print(f"making {BASE_IMAGE} with debootstrap ...", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        root = Path(folder) / "root"
        include = ["--variant=minbase", f"--include={_BASE_PACKAGES}"]
        run(["debootstrap", *include, _BASE_SUITE, root, *_mirror()])
        for packages in (root / "var/cache/apt/archives").glob("*.deb"):
            packages.unlink()
        container = _buildah(["from", "scratch"])
        try:
            _buildah(["add", "--quiet", container, str(root), "/"])
            _buildah(["config", "--cmd", "/bin/bash", container])
            _buildah(["commit", "--quiet", container, BASE_IMAGE])
        finally:
            _buildah(["rm", container])


def _stored(name: str) -> bool:
    command = ["buildah", "images", "--quiet", name]
    return run(command, env=_ENVIRONMENT, check=False).returncode == 0


def _buildah(arguments: list[str]) -> str:
    """Run buildah, once more after its known flake; raises ClusterError with its last words."""
    said = ""
    for _ in range(2):
        result = subprocess.run(
            ["buildah", *arguments],
            env={**os.environ, **_ENVIRONMENT},
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode == 0:
            return result.stdout.strip()
        said = f"{result.stdout}\n{result.stderr}".strip()[-3000:]
        if _FLAKE not in said:
            break
    raise ClusterError(f"buildah {arguments[0]} failed: {said}")


def _pip_settings() -> str:
    """The machine's effective pip settings as a file; only what says where and how to fetch."""
    listed = run([sys.executable, "-m", "pip", "config", "list"], check=False).stdout
    values: dict[str, str] = {}
    if _CERTIFICATES.is_dir():
        values["cert"] = str(_CERTIFICATES / "ca-certificates.crt")
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        option = key.rpartition(".")[2]
        if option in ("index-url", "extra-index-url", "trusted-host", "proxy"):
            values[option] = value.strip("'\"").replace("\\n", "\n    ")
    lines = [f"{name} = {value}" for name, value in values.items()]
    return "\n".join(["[global]", *lines, ""]) if lines else ""


def _mirror() -> list[str]:
    """The Debian mirror this machine's apt uses; none leaves the choice to debootstrap."""
    if platform.freedesktop_os_release().get("ID") == "debian":
        for uri in output(["apt-get", "indextargets", "--format", "$(REPO_URI)"]).split():
            if "security" not in uri:
                return [uri.rstrip("/")]
    return []
