"""The claims and config maps that a job's sources name.

Grammar (enforced by the CRD): `pvc://<claim>/<path>`, `configmap://<name>/<key>`, `file:///<path>`.
"""

from __future__ import annotations

from collections.abc import Iterable

CLAIM_SCHEME = "pvc://"
CONFIG_MAP_SCHEME = "configmap://"


def source_claims(sources: Iterable[str]) -> tuple[str, ...]:
    """Names of the claims among `sources`, each once, in order."""
    return _hosts(sources, CLAIM_SCHEME)


def source_config_maps(sources: Iterable[str]) -> tuple[str, ...]:
    """Names of the config maps among `sources`, each once, in order."""
    return _hosts(sources, CONFIG_MAP_SCHEME)


def _hosts(sources: Iterable[str], scheme: str) -> tuple[str, ...]:
    hosts = (
        source.removeprefix(scheme).partition("/")[0]
        for source in sources
        if source.startswith(scheme)
    )
    return tuple(dict.fromkeys(hosts))
