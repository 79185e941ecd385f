"""A stage for one test: a namespace, an operator process behind a proxy, and a Job controller."""

from __future__ import annotations

import itertools
import json
import ssl
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from dev.cluster.control_plane import EnvTest
from finetune_operator.constants import LABEL_JOB
from finetune_trainer.contract import (
    CheckpointReference,
    DataSummary,
    OutputReference,
    Plan,
    Termination,
)
from tests.chart_rendering import NAMESPACE, RELEASE, render
from tests.integration.job_controller import Ending, JobController, Object, Script
from tests.integration.operators import ROOT, Operator, Zygote, environment, start_program
from tests.integration.proxy import LoopThread, Proxy
from tests.integration.waiting import eventually
from tests.manifests import finetunejob

LOGS: Final = ROOT / "out" / "integration"
ENDED: Final = ("Succeeded", "Failed")
_numbers = itertools.count(1)

PLAN: Final = Plan(
    micro_batch_size=2,
    gradient_accumulation_steps=8,
    effective_batch_size=16,
    activation_checkpointing="None",
    precision="BF16",
    steps_per_epoch=10,
    total_steps=30,
    learning_rate=2e-4,
    warmup_steps=1,
    rank=16,
    alpha=32,
    checkpoint_interval=5,
    data_fingerprint="f" * 64,
    model_commit="c" * 40,
)
PASSED: Final = Ending(
    record=Termination(
        code=0,
        reason="PreflightPassed",
        plan=PLAN,
        data=DataSummary(rows=200, rows_kept=160, tokens=9000, supervised_tokens=4000),
    )
)
DONE: Final = Ending(
    record=Termination(
        code=0,
        reason="Completed",
        step=30,
        total_steps=30,
        loss=1.5,
        eval_loss=1.7,
        output=OutputReference(adapter="output/a1.e1/adapter"),
    )
)


def checkpoint(step: int, attempt: int = 1) -> CheckpointReference:
    """A checkpoint as the trainer names it."""
    return CheckpointReference(
        step=step, path=f"step-{step:08}.a{attempt}.e1", digest=f"{step:064x}"
    )


def broken(step: int, *, saved: int | None = None, code: int = 20, **more: Any) -> Ending:
    """An attempt that ends with `code` at `step`, its newest checkpoint at `saved`."""
    record = Termination(
        code=code,
        reason="StorageError" if code == 20 else "Stopped",
        message="the volume is gone",
        step=step,
        last_checkpoint=checkpoint(saved) if saved else None,
    )
    return Ending(exit_code=code, record=record, **more)


def script(**endings: Ending | None) -> Script:
    """Endings by attempt (`a1=...`, `p2=...`): preflights pass and attempts are done by default."""

    def end(attempt: str) -> Ending | None:
        number = attempt.removeprefix("preflight-")
        if attempt.startswith("preflight-"):
            return endings.get(f"p{number}", PASSED)
        return endings.get(f"a{number}", DONE)

    return end


@dataclass
class Stage:
    """Everything of one test."""

    env: EnvTest
    namespace: str
    proxy: Proxy
    proxy_loop: LoopThread
    zygote: Zygote
    variables: Mapping[str, str]
    log: Path
    controllers: list[JobController] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)

    # --- the operator -----------------------------------------------------------------------------

    def start_operator(self, **overrides: str) -> Operator:
        """Start an operator process."""
        operator = self.zygote.start({**self.variables, **overrides}, log=self.log)
        self.operators.append(operator)
        return operator

    def start_program(self, **overrides: str) -> Operator:
        """Start an operator as the image does, imports and all."""
        operator = start_program({**self.variables, **overrides}, log=self.log)
        self.operators.append(operator)
        return operator

    def metrics(self) -> dict[str, float]:
        """The operator's samples by name and labels, as Prometheus writes them."""
        port = self.variables["FINETUNE_METRICS_PORT"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            lines = [ln for ln in answer.read().decode().splitlines() if not ln.startswith("#")]
        return {name: float(value) for name, _, value in (ln.rpartition(" ") for ln in lines)}

    def probe(self, path: str = "/healthz") -> int:
        """Status code of the operator's probe, 0 while nothing answers."""
        port = self.variables["FINETUNE_HEALTH_PORT"]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                return int(answer.status)
        except OSError:
            return 0

    # --- the world --------------------------------------------------------------------------------

    def play(self, how: Script, *, pod_address: str = "127.0.0.1") -> JobController:
        """Play the Job controller from now on."""
        controller = JobController(self.env.api, self.namespace, how, pod_address=pod_address)
        controller.start()
        self.controllers.append(controller)
        return controller

    def apply(self, name: str, changes: Mapping[str, Any] | None = None) -> Object:
        """Create a FineTuneJob; failed attempts are retried at once unless `changes` say else.

        `changes`: dotted path below spec -> value.
        """
        wanted = {"recovery.backoffSeconds": 0, **(changes or {})}
        below_spec = {f"spec.{path}": value for path, value in wanted.items()}
        body = finetunejob(name, below_spec, namespace=self.namespace)
        return dict(self.env.api.request("POST", self._path("finetunejobs"), body))

    def read(self, name: str) -> Object:
        """The FineTuneJob."""
        return dict(self.env.api.get(self._path("finetunejobs", name)))

    def status(self, name: str) -> Object:
        """Its status, empty at first."""
        return dict(self.read(name).get("status") or {})

    def condition(self, name: str, kind: str) -> Object:
        """A condition, empty when it is not there."""
        conditions = self.status(name).get("conditions") or ()
        return next((c for c in conditions if c["type"] == kind), {})

    def until(
        self, name: str, good: Callable[[Object], object], *, what: str, seconds: float = 60
    ) -> Object:
        """Wait until the status is good; returns it."""

        def look() -> Object | None:
            status = self.status(name)
            return status if good(status) else None

        return eventually(look, what=what, seconds=seconds, state=lambda: self._state(name))

    def until_phase(self, name: str, *phases: str, seconds: float = 60) -> Object:
        """Wait for one of the phases; returns the status."""
        return self.until(
            name, lambda s: s.get("phase") in phases, what=f"phase {phases}", seconds=seconds
        )

    def jobs(self) -> dict[str, Object]:
        """Live Jobs by name."""
        return self._by_name(f"/apis/batch/v1/namespaces/{self.namespace}/jobs")

    def events(self, name: str) -> list[Object]:
        """Events about the FineTuneJob."""
        path = f"/apis/events.k8s.io/v1/namespaces/{self.namespace}/events"
        return list(self.env.api.items(f"{path}?fieldSelector=regarding.name={name}"))

    def clear(self, name: str) -> None:
        """Remove the FineTuneJob with its Jobs and pods, so that later lists are short."""
        self.env.api.request("DELETE", self._path("finetunejobs", name))
        for collection in ("/apis/batch/v1", "/api/v1"):
            plural = "jobs" if collection.endswith("batch/v1") else "pods"
            path = f"{collection}/namespaces/{self.namespace}/{plural}"
            selector = f"?labelSelector={LABEL_JOB}={name}&gracePeriodSeconds=0"
            self.env.api.request("DELETE", path + selector, {"propagationPolicy": "Background"})

    def _by_name(self, path: str) -> dict[str, Object]:
        return {item["metadata"]["name"]: item for item in self.env.api.items(path)}

    def _path(self, plural: str, *name: str) -> str:
        parts = ("/apis/finetune.dev/v1alpha1/namespaces", self.namespace, plural, *name)
        return "/".join(parts)

    def _state(self, name: str) -> str:
        status = json.dumps(self.status(name), indent=1)
        return f"status: {status}\njobs: {sorted(self.jobs())}\noperator's log: {self.log}"

    def close(self) -> None:
        """Stop every process and thread; a defect of the played controller is raised."""
        for operator in self.operators:
            operator.kill()
            operator.wait()
        for controller in self.controllers:
            controller.stop()
        self.proxy_loop.run(self.proxy.stop())
        for controller in self.controllers:
            if controller.errors:
                raise controller.errors[0]


def open_stage(env: EnvTest, loop: LoopThread, *, zygote: Zygote, name: str) -> Stage:
    """Make the namespace, the claims that jobs name, the proxy and the operator's kubeconfig."""
    namespace = f"stage-{next(_numbers)}"
    api = env.api
    api.request("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
    for claim in ("models", "data"):
        path = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims"
        api.request("POST", path, _claim(claim))
    grant_lease(env, namespace)
    proxy = Proxy(env.server, trusting(env))
    loop.run(proxy.start())
    token = env.service_account_token(NAMESPACE, RELEASE)
    kubeconfig = env.kubeconfig.parent / f"{namespace}.kubeconfig"
    kubeconfig.write_text(json.dumps(_kubeconfig(proxy.url, token)))
    log = LOGS / f"{name}-{namespace}.log"
    log.unlink(missing_ok=True)
    variables = environment(kubeconfig=kubeconfig, namespace=namespace)
    return Stage(env, namespace, proxy, loop, zygote, variables, log)


def grant_rights(env: EnvTest) -> None:
    """Bind the chart's cluster-wide rights to the operator's service account."""
    env.service_account_token(NAMESPACE, RELEASE)
    for item in render("userRoles.aggregate=false"):
        if item["kind"] in ("ClusterRole", "ClusterRoleBinding"):
            env.kubectl("apply", "-f", "-", stdin=yaml.safe_dump(item))


def grant_lease(env: EnvTest, namespace: str) -> None:
    """The chart's rights on the lease, for an operator that believes to live in `namespace`."""
    group = "/apis/rbac.authorization.k8s.io/v1/namespaces"
    for item in render():
        if item["kind"] in ("Role", "RoleBinding"):
            item["metadata"]["namespace"] = namespace
            plural = item["kind"].lower() + "s"
            env.api.request("POST", f"{group}/{namespace}/{plural}", item)


def trusting(env: EnvTest) -> ssl.SSLContext:
    """TLS that trusts the API server."""
    return ssl.create_default_context(cafile=str(env.layout.authority.certificate))


def _kubeconfig(server: str, token: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {"server": server}}],
        "users": [{"name": "operator", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "operator"}}],
        "current-context": "test",
    }


def _claim(name: str) -> Object:
    return {
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
