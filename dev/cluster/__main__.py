"""``python3 -m dev.cluster <command>``: the command line of the local cluster."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from dev.cluster import binaries
from dev.cluster.errors import ClusterError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
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
    return parser


def _binaries(options: argparse.Namespace) -> int:
    print(binaries.ensure(options.only.split(",")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
