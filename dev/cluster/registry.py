"""The cluster's image registry, on the bridge's address so that every node can pull from it."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

from dev.cluster.processes import Processes
from dev.cluster.settings import Settings
from dev.cluster.shell import wait_until, write


def start(settings: Settings, processes: Processes) -> None:
    """Start the registry unless it runs and wait for its first answer."""
    config = settings.data / "registry.json"
    write(config, json.dumps(config_content(settings)))
    processes.start("registry", ["docker-registry", "serve", config])

    def ready() -> bool:
        processes.check("registry")
        return answers(settings)

    wait_until(ready, what="an answer of the registry", seconds=30)


def blobs(settings: Settings) -> Path:
    """What was pushed; ``down`` keeps it unless asked to purge."""
    return settings.data / "registry"


def answers(settings: Settings) -> bool:
    """Whether the registry speaks its protocol; raises OSError when nobody listens."""
    # No proxy of the environment stands between this machine and itself.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{settings.registry}/v2/", timeout=2) as response:
        return bool(response.status == 200)


def config_content(settings: Settings) -> dict[str, object]:
    """The registry's configuration: files in a folder, quiet."""
    return {
        "version": 0.1,
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(blobs(settings))},
            "delete": {"enabled": True},
        },
        "http": {"addr": settings.registry},
    }
