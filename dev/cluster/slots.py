"""Which cluster has which slot of this machine, and taking over the slots of dead ones.

One record per slot lies in a folder that every checkout on the machine shares. A session, a
terminal or the machine itself may die without ``down``; the next ``up``, from this checkout or from
another, finds the record, sees that no process of it lives, and removes what it left behind.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from dev.cluster import cgroups, host, network
from dev.cluster.errors import ClusterError
from dev.cluster.processes import Identity, Processes, identify, stop_identity
from dev.cluster.settings import (
    MACHINE_FOLDER,
    SLOTS,
    Settings,
    data_folder,
    default_network,
    derive,
    fallback_folder,
    slot_key,
)
from dev.cluster.shell import locked, write

_CNI_RESULTS = Path("/var/lib/cni/results")
_LOG_LINKS = Path("/var/log/containers")
_LOCK = MACHINE_FOLDER / ".lock"


@dataclass(frozen=True, slots=True)
class Record:
    """Who has a slot. ``owner`` is the process that claimed it, for the time before any program."""

    slot: int
    name: str
    data: str
    nodes: int
    port_base: int
    network: str
    owner: Identity

    @property
    def processes(self) -> Processes:
        """The programs of that cluster."""
        return Processes(Path(self.data))

    @property
    def alive(self) -> bool:
        """Whether any program of it runs, or its ``up`` is still at work."""
        processes = self.processes
        return self.owner.alive() or any(processes.alive(name) for name in processes.names())

    def settings(self) -> Settings:
        """The settings that this cluster was started with."""
        return derive(
            self.name,
            self.slot,
            nodes=self.nodes,
            port_base=self.port_base,
            network=self.network,
        )


def find(name: str) -> Record | None:
    """The record of this checkout's cluster of that name."""
    data = str(data_folder(name))
    return next((r for r in map(read, range(SLOTS)) if r is not None and r.data == data), None)


def read(slot: int) -> Record | None:
    """The record of a slot; None when it is free or unreadable."""
    try:
        content = json.loads(_path(slot).read_text())
        return Record(**{**content, "owner": Identity(**content["owner"])})
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None


def claim(name: str, *, nodes: int, port_base: int = 0, network_prefix: str = "") -> Settings:
    """Give this checkout's cluster of that name a slot: its living one, else a clean one.

    Raises ClusterError when every slot is taken by a living cluster or a foreign network.
    """
    with locked(_LOCK):
        own = find(name)
        if own is not None and _programs_alive(own):
            _write(own.settings())
            return own.settings()
        if own is not None:
            clean(own.slot, own)
        clean_dead()
        # Its old slot first: image references name the registry's address.
        for slot in sorted(range(SLOTS), key=lambda slot: own is None or slot != own.slot):
            if _usable(slot, network_prefix):
                wanted = derive(
                    name, slot, nodes=nodes, port_base=port_base, network=network_prefix
                )
                _write(wanted)
                return wanted
    raise ClusterError(f"all {SLOTS} slots of this machine are taken: down another cluster first")


def release(settings: Settings) -> None:
    """Remove everything a slot has on the machine, and its record."""
    with locked(_LOCK):
        clean(settings.slot, read(settings.slot))


def clean_dead() -> None:
    """Remove what dead clusters of any checkout left: their containers may still run, ownerless."""
    for slot in range(SLOTS):
        record = read(slot)
        if record.alive if record is not None else not _has_traces(slot):
            continue
        clean(slot, record)


def clean(slot: int, record: Record | None) -> None:
    """Remove what a cluster left behind: processes, mounts, network, cgroups, record."""
    key = slot_key(slot)
    folders = [MACHINE_FOLDER / str(slot), fallback_folder(slot)]
    if record is not None:
        folders.append(Path(record.data))
        _stop_programs(record)
    cgroups.kill(key)
    host.unmount_below(folders)
    network.remove(key)
    cgroups.remove(key)
    for folder in folders[:2]:
        shutil.rmtree(folder, ignore_errors=True)
    _remove_traces(key)
    _path(slot).unlink(missing_ok=True)


def _remove_traces(key: str) -> None:
    """Small files in fixed places: CNI's results, kubelet's links to logs that are gone."""
    for result in _CNI_RESULTS.glob(f"{key}-*-eth0"):
        container = result.name.split("-")[1]
        result.unlink(missing_ok=True)
        (_CNI_RESULTS / f"cni-loopback-{container}-lo").unlink(missing_ok=True)
    for link in _LOG_LINKS.glob("*.log"):
        if link.is_symlink() and not link.exists():
            link.unlink()


def _stop_programs(record: Record) -> None:
    """Ask every program to end, all at once; what does not is killed with the cgroup.

    Kubelets are killed first: they would start again what ends around them.
    """
    processes = record.processes
    for name in processes.names():
        if name.startswith("kubelet"):
            processes.stop(name, seconds=0)
    for name in processes.names():
        identity = processes.identity(name)
        if identity is not None:
            stop_identity(identity, seconds=0.3)
        processes.stop(name, seconds=0)


def _programs_alive(record: Record) -> bool:
    processes = record.processes
    return any(processes.alive(name) for name in processes.names())


def _has_traces(slot: int) -> bool:
    """Whether a slot without a record was used since the machine started."""
    key = slot_key(slot)
    return cgroups.exists(key) or network.exists(key)


def _usable(slot: int, network_prefix: str) -> bool:
    """Whether nobody has the slot and nobody else has its network."""
    if read(slot) is not None:
        return False
    if network_prefix:
        return True
    return not network.foreign_overlap(default_network(slot), slot_key(slot))


def _path(slot: int) -> Path:
    return MACHINE_FOLDER / f"{slot}.json"


def _write(settings: Settings) -> None:
    owner = identify(os.getpid())
    assert owner is not None
    record = Record(
        slot=settings.slot,
        name=settings.name,
        data=str(settings.data),
        nodes=settings.node_count,
        port_base=settings.port_base,
        network=str(settings.network),
        owner=owner,
    )
    write(_path(settings.slot), json.dumps(asdict(record)))
