"""A real etcd and kube-apiserver for the whole session, with the CRDs installed."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
import yaml

from dev.cluster import binaries
from dev.cluster.control_plane import EnvTest, start_envtest
from dev.cluster.shell import wait_until
from tests.integration.operators import Zygote
from tests.integration.proxy import LoopThread
from tests.integration.stage import Stage, grant_rights, open_stage

ROOT = Path(__file__).parents[2]
FAILED = pytest.StashKey[bool]()
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


@pytest.fixture(scope="session")
def operator_rights(api_server: EnvTest) -> EnvTest:
    """The API server with the chart's rights bound to the operator's service account."""
    binaries.ensure(["helm"])
    grant_rights(api_server)
    return api_server


@pytest.fixture(scope="session")
def proxy_loop() -> Iterator[LoopThread]:
    thread = LoopThread()
    yield thread
    thread.close()


@pytest.fixture(scope="session")
def zygote() -> Iterator[Zygote]:
    forker = Zygote()
    yield forker
    forker.close()


@pytest.fixture
def new_stage(
    operator_rights: EnvTest,
    proxy_loop: LoopThread,
    zygote: Zygote,
    request: pytest.FixtureRequest,
) -> Iterator[Callable[[], Stage]]:
    """Opens namespaces with an operator each; logs stay under out/ when the test fails."""
    opened: list[Stage] = []

    def build() -> Stage:
        name = request.node.originalname
        opened.append(open_stage(operator_rights, proxy_loop, zygote=zygote, name=name))
        return opened[-1]

    yield build
    for one in opened:
        one.close()
        if not request.node.stash.get(FAILED, False):
            one.log.unlink(missing_ok=True)


@pytest.fixture
def stage(new_stage: Callable[[], Stage]) -> Stage:
    """The only stage of a test."""
    return new_stage()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let fixtures know that their test failed."""
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report
