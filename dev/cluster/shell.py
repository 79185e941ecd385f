"""Run other programs, wait for states, take locks: the little that every module needs."""

from __future__ import annotations

import fcntl
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from dev.cluster.errors import ClusterError, NotReady

Argument = str | Path
_TAIL = 2000


def run(
    command: Sequence[Argument],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and keep its output; raises ClusterError with the tail of stderr."""
    words = [str(part) for part in command]
    result = subprocess.run(
        words,
        cwd=cwd,
        env=None if env is None else {**os.environ, **env},
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    if check and result.returncode != 0:
        detail = (result.stderr.strip() or result.stdout.strip())[-_TAIL:]
        raise ClusterError(f"{' '.join(words[:6])} exited {result.returncode}: {detail}")
    return result


def output(
    command: Sequence[Argument],
    *,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
) -> str:
    """Standard output of a program, without the final newline; raises ClusterError."""
    return run(command, env=env, stdin=stdin).stdout.strip()


def pause(seconds: float) -> None:
    """Let the machine work for a moment between two looks at a state."""
    threading.Event().wait(seconds)


def wait_until(
    look: Callable[[], object], *, what: str, seconds: float, interval: float = 0.2
) -> None:
    """Look until the answer is true; raises ClusterError naming what never happened.

    ``look`` may raise OSError or NotReady while the thing it looks at is still starting; anything
    else it raises ends the wait.
    """
    deadline = time.monotonic() + seconds
    reason: object = ""
    while True:
        try:
            if look():
                return
        except (OSError, NotReady) as error:
            reason = f": {error}"
        if time.monotonic() > deadline:
            raise ClusterError(f"{what} did not happen within {seconds:.0f} s{reason}")
        pause(interval)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file, so that two callers never do the same work at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def write(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Make the file hold this text, in one step and only when it does not already.

    A second ``up`` then touches nothing: kube-proxy ends when its configuration is written again,
    and a kubeconfig is being read by somebody at any time.
    """
    if path.exists() and path.read_text() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.touch(mode=mode)
    temporary.write_text(text)
    temporary.replace(path)
