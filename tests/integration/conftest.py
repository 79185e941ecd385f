"""A real etcd and kube-apiserver for the whole session, with the CRDs installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from dev.cluster.control_plane import EnvTest, start_envtest
from dev.cluster.shell import wait_until

ROOT = Path(__file__).parents[2]
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnvTest]:
    """The API server; nothing runs pods, makes pods of Jobs or collects garbage."""
    with start_envtest(tmp_path_factory.mktemp("api-server")) as env:
        for path in sorted((ROOT / "crds").glob("*.yaml")):
            crd = yaml.safe_load(path.read_text())
            env.api.create(CRDS, crd)
            served = f"/apis/{crd['spec']['group']}/v1alpha1/{crd['spec']['names']['plural']}"
            wait_until(lambda url=served: env.api.exists(url), what=served, seconds=30)
        yield env
