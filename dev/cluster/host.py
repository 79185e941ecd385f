"""What the machine must offer: root, disk, free ports, Debian's packages; and its mounts."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterable
from pathlib import Path

from dev.cluster.errors import ClusterError
from dev.cluster.shell import locked, output, run

_LEAST_DISK_GIB = 10
_LOCK = Path("/run/finetune-cluster/.apt.lock")

# Programs and the Debian package of each; what is there already is left alone.
CLUSTER_PROGRAMS = {
    "containerd": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "openssl": "openssl",
    "busybox": "busybox-static",
    "docker-registry": "docker-registry",
}
IMAGE_PROGRAMS = {"buildah": "buildah", "debootstrap": "debootstrap"}
_CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
_WATCH_LIMITS = {"max_user_instances": 1024, "max_user_watches": 524288}
_CNI_PACKAGE = "containernetworking-plugins"


def require_root() -> None:
    """Namespaces, mounts and cgroups need it; raises ClusterError."""
    if os.geteuid() != 0:
        raise ClusterError("a local cluster needs root: run it with sudo, or set CLUSTER=existing")


def require_disk(folder: Path) -> None:
    """Images take gigabytes, and a full disk fails late and obscurely; raises ClusterError."""
    free = shutil.disk_usage(folder).free / 2**30
    if free < _LEAST_DISK_GIB:
        raise ClusterError(
            f"{folder} has {free:.1f} GiB free, {_LEAST_DISK_GIB} are needed: make room, "
            "or python3 -m dev.cluster down --purge"
        )


def require_port_free(address: str, port: int) -> None:
    """Raises ClusterError naming the port and, when it can be seen, who has it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise ClusterError(
                f"port {port} on {address} is taken by {_port_owner(address, port)}: stop it, "
                "or choose other ports with --port-base"
            ) from error


def install(programs: dict[str, str]) -> None:
    """Install with apt what is missing, one caller at a time; raises ClusterError without apt."""
    with locked(_LOCK):
        packages = {package for program, package in programs.items() if not _which(program)}
        if programs is CLUSTER_PROGRAMS and not _cni_folder():
            packages.add(_CNI_PACKAGE)
        if not packages:
            return
        if shutil.which("apt-get") is None:
            raise ClusterError(
                f"there is no apt-get here: install {', '.join(sorted(packages))} another way"
            )
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *sorted(packages)]
        if run(install, env=quiet, check=False).returncode != 0:
            run(["apt-get", "update", "-q"], env=quiet)
            run(install, env=quiet)


def raise_limits() -> None:
    """Every kubelet, containerd and proxy watches files; desktops allow few watchers per user."""
    for name, least in _WATCH_LIMITS.items():
        limit = Path("/proc/sys/fs/inotify") / name
        if int(limit.read_text()) < least:
            limit.write_text(str(least))


def cni_folder() -> Path:
    """Where the CNI plugins lie; raises ClusterError when they are nowhere."""
    folder = _cni_folder()
    if folder is None:
        raise ClusterError(f"no CNI plugin ptp in {_CNI_FOLDERS[0]}: install {_CNI_PACKAGE}")
    return folder


def unmount_below(folders: Iterable[Path]) -> None:
    """Unmount everything below these folders, deepest first; busy ones are detached."""
    prefixes = tuple(f"{folder}/" for folder in folders)
    points = [path for path in mount_points() if f"{path}/".startswith(prefixes)]
    for point in sorted(points, key=len, reverse=True):
        if run(["umount", point], check=False).returncode != 0:
            run(["umount", "--lazy", point], check=False)


def mount_points() -> list[str]:
    """Every mount point of this mount namespace."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line.split()[4].encode().decode("unicode_escape") for line in lines]


def _which(program: str) -> str | None:
    folders = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    return shutil.which(program, path=folders)


def _cni_folder() -> Path | None:
    return next((folder for folder in _CNI_FOLDERS if (folder / "ptp").exists()), None)


def _port_owner(address: str, port: int) -> str:
    """The listening process as ``ss`` shows it: name and pid."""
    fields = [line.split() for line in output(["ss", "-Hltnp", f"sport = :{port}"]).splitlines()]
    places = (f"{address}:{port}", f"0.0.0.0:{port}", f"*:{port}")
    return next((words[-1] for words in fields if words[3] in places), "another program")
