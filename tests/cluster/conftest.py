"""The product, installed once for all cluster tests, with a tiny model on a claim.

The cluster is the demo's, so that images are built, pushed and pulled once; it is left up with
KEEP=1 and when it ran before. When a test fails, objects, events and logs are saved below
out/cluster-tests/.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dev.demo import install
from dev.demo.diagnostics import collect_logs
from dev.demo.kube import Cluster, Object, claim, copy_in, volume_pod
from dev.demo.paths import OUT
from tests.manifests import finetunejob
from tests.trainer_builders import tiny_model

NAMESPACE = "cluster-tests"
INPUTS = "inputs"
JOB_SECONDS = 480.0
FINISHED = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class Product:
    """A cluster with the chart installed, and the trainer image for helper pods."""

    cluster: Cluster
    trainer: str

    def create(self, name: str, changes: dict[str, object]) -> None:
        """Make a job that trains the tiny model on CPU, with `changes` by dotted path.

        A job of that name that an earlier session left is deleted: a job's spec is fixed.
        """
        small = {
            "spec.model.source": f"pvc://{INPUTS}/tiny",
            "spec.compute.gpusPerNode": 0,
            "spec.workspace.size": "1Gi",
            "spec.recovery.backoffSeconds": 1,
        }
        manifest = finetunejob(name, {**small, **changes}, namespace=NAMESPACE)
        self.cluster.kubectl("delete", "finetunejob", name, "--ignore-not-found")
        self.cluster.apply(manifest)

    def wait_for_end(self, name: str) -> Object:
        """The job once it is Succeeded or Failed."""
        self.cluster.wait(
            lambda: self.job(name).get("status", {}).get("phase") in FINISHED,
            what=f"the end of {name}",
            seconds=JOB_SECONDS,
        )
        return self.job(name)

    def job(self, name: str) -> Object:
        """The job as it is now."""
        return self.cluster.get("finetunejob", name)


@pytest.fixture(scope="session")
def product(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Product]:
    name = os.environ.get("CLUSTER_NAME", "default")
    keep = bool(os.environ.get("KEEP")) or install.is_running(name)
    try:
        cluster = install.start_cluster(name, namespace=NAMESPACE)
        operator, trainer = (install.build_image(kind, name) for kind in ("operator", "trainer"))
        install.install_chart(cluster, operator=operator, trainer=trainer)
        cluster.apply(claim(INPUTS, size="1Gi"))
        model = tiny_model(tmp_path_factory.mktemp("models") / "tiny")
        with volume_pod(cluster, INPUTS, image=trainer) as pod:
            copy_in(cluster, pod, [model])
        yield Product(cluster, trainer)
        if request.session.testsfailed:
            collect_logs(cluster, OUT / "cluster-tests")
    finally:
        if not keep:
            install.stop_cluster(name)


def wait_for_checkpoint(product: Product, name: str) -> None:
    """Return once status knows a verified checkpoint with work in it."""
    product.cluster.wait(
        lambda: product.job(name).get("status", {}).get("lastCheckpoint", {}).get("step"),
        what=f"a checkpoint of {name}",
        seconds=JOB_SECONDS,
    )


def config_map(name: str, files: dict[str, Path]) -> Object:
    """A config map whose keys hold the files' contents."""
    data = {key: path.read_text() for key, path in files.items()}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}
