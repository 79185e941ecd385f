"""Start and stop long-running programs by their own pids, never by name.

A pid alone is no identity: after a crash or a reboot the number may belong to somebody else. A pid
file therefore also records when that process started, as the kernel counts it, and which boot it
was; a process is only signalled when all three agree.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from dev.cluster.errors import ClusterError
from dev.cluster.shell import Argument, pause, write

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_LOG_TAIL = 1500


@dataclass(frozen=True, slots=True)
class Identity:
    """Which process: its number, its start in clock ticks since boot, and the boot itself."""

    pid: int
    started: int
    boot: str

    def alive(self) -> bool:
        """Whether exactly this process still runs; a zombie has ended."""
        return self.boot == boot_id() and start_ticks(self.pid) == self.started


def boot_id() -> str:
    """The kernel's name for the current boot."""
    return _BOOT_ID.read_text().strip()


def _state_and_start(pid: int) -> tuple[str, int] | None:
    """State letter of a process and clock ticks from boot to its start; None when it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The second field is the program's name in parentheses and may itself hold spaces.
    fields = stat.rpartition(")")[2].split()
    return fields[0], int(fields[19])


def start_ticks(pid: int) -> int | None:
    """Clock ticks from boot to the start of a process; None when it is gone or a zombie."""
    found = _state_and_start(pid)
    return None if found is None or found[0] in "ZX" else found[1]


def identify(pid: int) -> Identity | None:
    """The identity of a running process, or None when there is none of that number."""
    ticks = start_ticks(pid)
    return None if ticks is None else Identity(pid=pid, started=ticks, boot=boot_id())


def stop_identity(identity: Identity, *, seconds: float = 10.0) -> None:
    """End one process: SIGTERM, then SIGKILL after ``seconds``; a recycled pid is left alone."""
    try:
        handle = os.pidfd_open(identity.pid)
    except OSError:
        return
    try:
        # From here on the handle is that process or nothing: compare identities only now.
        if not identity.alive():
            return
        signal.pidfd_send_signal(handle, signal.SIGTERM)
        for _ in range(int(seconds / 0.05)):
            if not identity.alive():
                return
            pause(0.05)
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        while identity.alive():
            pause(0.02)
    except ProcessLookupError:
        return
    finally:
        os.close(handle)
        _reap(identity.pid)


def _reap(pid: int) -> None:
    """Collect the exit status when the process was started by this very interpreter."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


class Processes:
    """The programs of one cluster: a folder of pid files and a folder of logs."""

    def __init__(self, folder: Path, *, cgroup_procs: Sequence[Path] = ()) -> None:
        self._pids = folder / "pids"
        self._logs = folder / "logs"
        self._cgroup_procs = tuple(cgroup_procs)

    def log(self, name: str) -> Path:
        """Where the output of a program goes."""
        return self._logs / f"{name}.log"

    def names(self) -> list[str]:
        """Every program that was started and not stopped, alive or not."""
        return sorted(path.stem for path in self._pids.glob("*.json"))

    def identity(self, name: str) -> Identity | None:
        """What the pid file says, or None when there is none (or it was cut off by a crash)."""
        try:
            return Identity(**json.loads((self._pids / f"{name}.json").read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def alive(self, name: str) -> bool:
        """Whether the program started under this name still runs."""
        identity = self.identity(name)
        return identity is not None and identity.alive()

    def start(
        self,
        name: str,
        command: Sequence[Argument],
        *,
        netns: Path | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> bool:
        """Start a program unless it already runs; returns whether it was started now.

        It gets a session of its own, so that it outlives the command that started it, and joins the
        cluster's cgroup before anything else, so that whatever it leaves behind can be found there.
        """
        if self.alive(name):
            return False
        self._pids.mkdir(parents=True, exist_ok=True)
        self._logs.mkdir(parents=True, exist_ok=True)
        words = [str(part) for part in command]
        if netns is not None:
            # nsenter, not "ip netns exec": that would also give it other mounts.
            words = ["nsenter", f"--net={netns}", *words]
        if self._cgroup_procs:
            joins = "".join(f"echo $$ > '{path}' && " for path in self._cgroup_procs)
            words = ["/bin/sh", "-c", f'{joins}exec "$@"', "sh", *words]
        with self.log(name).open("ab") as log:
            child = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=cwd,
                env=None if env is None else {**os.environ, **env},
            )
        # Nobody has collected its exit status, so /proc knows it even when it has ended already.
        found = _state_and_start(child.pid)
        assert found is not None
        # It outlives this object on purpose; init, or stop(), collects its exit status.
        child.returncode = 0
        self._write(name, Identity(pid=child.pid, started=found[1], boot=boot_id()))
        return True

    def check(self, name: str) -> None:
        """Raise ClusterError with the end of the log when the program does not run."""
        if not self.alive(name):
            raise ClusterError(f"{name} ended; the end of {self.log(name)}: {self.tail(name)}")

    def tail(self, name: str) -> str:
        """The last lines of a program's log."""
        try:
            return self.log(name).read_text(errors="replace")[-_LOG_TAIL:].strip()
        except FileNotFoundError:
            return "(no log)"

    def stop(self, name: str, *, seconds: float = 10.0) -> None:
        """Stop the program of this name if it is still the one that was started."""
        identity = self.identity(name)
        if identity is not None:
            stop_identity(identity, seconds=seconds)
        (self._pids / f"{name}.json").unlink(missing_ok=True)

    def _write(self, name: str, identity: Identity) -> None:
        path = self._pids / f"{name}.json"
        write(path, json.dumps(asdict(identity)))
