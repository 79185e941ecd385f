"""Make the virtual environment from the hash-pinned lock files, or resolve those anew.

Runs with the system's Python before anything is installed, hence the standard library alone. uv
does the work: it installs the CUDA build of torch in seconds from its cache, where pip takes
minutes.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import venv
from pathlib import Path

UV_VERSION = "0.13.8"
ROOT = Path(__file__).resolve().parent.parent
EXTRAS = ("operator", "trainer")


def run(*command: str | Path) -> None:
    """Run a command from the repository's root; raises CalledProcessError."""
    subprocess.run([str(part) for part in command], cwd=ROOT, check=True)


def environment(folder: Path) -> Path:
    """Create the environment with uv inside, when missing; return its python."""
    python = folder / "bin" / "python"
    if not (folder / "bin" / "pip").exists():  # the last thing made: one cut short is made anew
        if importlib.util.find_spec("ensurepip") is None:  # Debian packs it separately
            run("apt-get", "update", "--quiet")
            run("apt-get", "install", "--quiet", "--yes", "python3-venv")
        venv.EnvBuilder(with_pip=True, clear=True).create(folder)
    uv = folder / "bin" / "uv"
    if not uv.exists():
        run(python, "-m", "pip", "install", "--quiet", f"uv=={UV_VERSION}")
    return python


def install(folder: Path) -> None:
    """Install exactly requirements/dev.txt and the project itself, editable."""
    python = environment(folder)
    uv = (folder / "bin" / "uv", "pip", "install", "--quiet", "--python", python)
    run(*uv, "--require-hashes", "--requirements", "requirements/dev.txt")
    run(*uv, "--no-deps", "--editable", ".")


def lock(folder: Path) -> None:
    """Resolve pyproject.toml: dev.txt holds everything, the images' files the same versions."""
    python = environment(folder)
    options = [
        *("--quiet", "--generate-hashes", "--no-annotate", "--no-header"),
        *("--no-emit-index-url", "--no-emit-find-links"),
        *("--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_28"),
    ]
    compile_ = (folder / "bin" / "uv", "pip", "compile", "--python", python, *options)
    run(*compile_, "pyproject.toml", "--all-extras", "--output-file", "requirements/dev.txt")
    for extra in EXTRAS:
        target = f"requirements/{extra}.txt"
        constraint = ("--constraint", "requirements/dev.txt")
        run(*compile_, "pyproject.toml", "--extra", extra, *constraint, "--output-file", target)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", default=".venv", type=Path)
    parser.add_argument("--lock", action="store_true", help="resolve requirements/*.txt again")
    arguments = parser.parse_args()
    folder = (ROOT / arguments.folder).absolute()
    os.environ.setdefault("UV_LINK_MODE", "hardlink")
    try:
        lock(folder) if arguments.lock else install(folder)
    except subprocess.CalledProcessError as failure:
        sys.exit(f"setup: {' '.join(failure.cmd)} ended with {failure.returncode}")


if __name__ == "__main__":
    main()
