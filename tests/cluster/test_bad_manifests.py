"""A wrong job never gets in: the API server refuses it and names the field."""

from __future__ import annotations

import json

import pytest

from tests.cluster.conftest import Product
from tests.manifests import REMOVED, finetunejob

REFUSED = {
    "an unknown field": ({"spec.training.learningrate": "1e-4"}, "learningrate"),
    "a learning rate in words": ({"spec.training.learningRate": "fast"}, "learningRate"),
    "an adapter of rank 0": ({"spec.adapter.rank": 0}, "rank"),
    "a run on 0 nodes": ({"spec.compute.nodes": 0}, "nodes"),
    "examples of no length": ({"spec.dataset.maxLength": 0}, "maxLength"),
    "no dataset": ({"spec.dataset": REMOVED}, "dataset"),
    "a name too long": ({"metadata.name": "n" * 41}, "name"),
    "a dotted name": ({"metadata.name": "my.job"}, "name"),
    "epochs and maxSteps": (
        {"spec.training.epochs": "1", "spec.training.maxSteps": 9},
        "maxSteps",
    ),
}


@pytest.mark.cluster
@pytest.mark.parametrize("sentence", REFUSED)
def test_refused(product: Product, sentence: str) -> None:
    changes, field = REFUSED[sentence]
    manifest = json.dumps(finetunejob("job", changes, namespace=product.cluster.namespace))
    answer = product.cluster.try_kubectl("apply", "-f", "-", stdin=manifest)
    assert answer.returncode != 0
    assert field in answer.stderr
