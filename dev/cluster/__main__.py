"""``python3 -m dev.cluster <command>``: a local Kubernetes from pinned Go modules.

With CLUSTER=existing in the environment, up and down do nothing, and status and env speak of the
cluster that the current kubeconfig names.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from dev.cluster import binaries, cluster, existing, images, storage
from dev.cluster.api import Api
from dev.cluster.errors import ClusterError
from dev.cluster.paths import BINARIES
from dev.cluster.settings import Settings, data_folder
from dev.cluster.slots import find


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    # "status | head" must end quietly.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    # Debian keeps ip, iptables and friends where a plain user's PATH does not look.
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m dev.cluster", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    build = commands.add_parser("binaries", help="build the programs; prints their folder")
    build.add_argument("--only", default=",".join(binaries.CATALOGUE), help="a,b,c")
    build.set_defaults(run=_binaries)

    up = _command(commands, "up", _up, "start the cluster, or whatever of it does not run")
    up.add_argument("--nodes", type=int, default=int(os.environ.get("NODES", "1")))
    up.add_argument("--port-base", type=int, default=int(os.environ.get("CLUSTER_PORT_BASE", "0")))
    up.add_argument("--network", default=os.environ.get("CLUSTER_NETWORK", ""), help="a /16")

    down = _command(commands, "down", _down, "stop the cluster; pushed and pulled images are kept")
    down.add_argument("--purge", action="store_true", help="remove the images too: everything")
    _command(commands, "status", _status, "what runs; exit code 0 only when healthy")
    _command(commands, "env", _env, "shell lines that point kubectl and helm to the cluster")
    _command(commands, "serve-volumes", _serve_volumes, "the volume provisioner (started by up)")

    image = _command(commands, "image", _image, "build and push; prints the reference by digest")
    image.add_argument("--dockerfile", type=Path, required=True)
    image.add_argument("--context", type=Path, required=True)
    image.add_argument("--tag", required=True, help="such as finetune/trainer:dev")
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: object,
    text: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=text, description=text)
    parser.add_argument("--name", default=os.environ.get("CLUSTER_NAME", "default"))
    parser.set_defaults(run=run)
    return parser


def _binaries(options: argparse.Namespace) -> int:
    print(binaries.ensure(options.only.split(",")))
    return 0


def _up(options: argparse.Namespace) -> int:
    if existing.wanted():
        return existing.status()
    wish = cluster.Wish(options.name, options.nodes, options.port_base, options.network)
    settings = cluster.up(wish, _say)
    _say(f"export KUBECONFIG={settings.kubeconfig}")
    return 0


def _down(options: argparse.Namespace) -> int:
    if not existing.wanted():
        cluster.down(options.name, purge=options.purge, say=_say)
    return 0


def _status(options: argparse.Namespace) -> int:
    if existing.wanted():
        return existing.status()
    status = cluster.status(options.name)
    if status is None:
        print(f"there is no cluster {options.name}")
        return 1
    settings = status.settings
    print(f"cluster {options.name}: Kubernetes {binaries.KUBERNETES_VERSION}, slot {settings.slot}")
    print(f"  API server {settings.control_plane.server}, registry {settings.registry}")
    for line in status.nodes:
        print(f"  node {line}")
    for component in status.components:
        state = f"pid {component.pid}" if component.alive else "NOT RUNNING"
        print(f"  {component.name:26} {state}")
    for problem in status.problems:
        print(f"problem: {problem}")
    return 1 if status.problems else 0


def _env(options: argparse.Namespace) -> int:
    if existing.wanted():
        return existing.env()
    settings = _running(options.name)
    print(f"export KUBECONFIG={settings.kubeconfig}")
    print(f'export PATH="{BINARIES}:$PATH"')
    print(f"export REGISTRY={settings.registry}")
    return 0


def _serve_volumes(options: argparse.Namespace) -> int:
    folder = data_folder(options.name)
    storage.serve(Api(folder / "admin.kubeconfig"), folder / "volumes")
    return 0


def _image(options: argparse.Namespace) -> int:
    settings = _running(options.name)
    image = images.Image(options.dockerfile, options.context, options.tag)
    print(images.build_and_push(image, settings.registry))
    return 0


def _running(name: str) -> Settings:
    record = find(name)
    if record is None:
        raise ClusterError(f"there is no cluster {name}: python3 -m dev.cluster up")
    return record.settings()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
