"""The headless Service that names ranks, and the NetworkPolicy around a job's pods."""

from __future__ import annotations

from typing import Any, Final

from finetune_operator.constants import LABEL_ROLE, LABEL_UID
from finetune_operator.domain.names import TRAIN_ROLE, child_name
from finetune_operator.domain.observed import Site
from finetune_operator.domain.resources.common import metadata
from finetune_trainer.contract import RENDEZVOUS_PORT, STATUS_PORT, JobIdentity

OPERATOR_LABELS: Final = {"app.kubernetes.io/name": "finetune-operator"}
PROMETHEUS_LABELS: Final = {"app.kubernetes.io/name": "prometheus"}
NAMESPACE_NAME: Final = "kubernetes.io/metadata.name"
# The metadata service of every large cloud, IPv4 and IPv6 (AWS), hands out credentials.
ALL_BUT_METADATA: Final = (
    {"cidr": "0.0.0.0/0", "except": ["169.254.169.254/32"]},
    {"cidr": "::/0", "except": ["fd00:ec2::254/128"]},
)


def build_service(identity: JobIdentity) -> dict[str, Any]:
    """Gives each rank a DNS name, before it is ready: launchers wait for each other by name."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(identity, child_name(identity)),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {LABEL_UID: identity.uid, LABEL_ROLE: TRAIN_ROLE},
            "ports": [
                {"name": "rendezvous", "port": RENDEZVOUS_PORT, "protocol": "TCP"},
                {"name": "metrics", "port": STATUS_PORT, "protocol": "TCP"},
            ],
        },
    }


def build_network_policy(identity: JobIdentity, site: Site) -> dict[str, Any]:
    """Ranks reach each other and DNS; operator and Prometheus reach 9400; nothing else passes."""
    pods = {"matchLabels": {LABEL_UID: identity.uid}}
    ranks = {"podSelector": pods}
    operator = {
        "namespaceSelector": {"matchLabels": {NAMESPACE_NAME: site.operator_namespace}},
        "podSelector": {"matchLabels": OPERATOR_LABELS},
    }
    prometheus = {"namespaceSelector": {}, "podSelector": {"matchLabels": PROMETHEUS_LABELS}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(identity, child_name(identity)),
        "spec": {
            "podSelector": pods,
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                {"from": [ranks]},
                {
                    "from": [operator, prometheus],
                    "ports": [{"protocol": "TCP", "port": STATUS_PORT}],
                },
            ],
            "egress": [
                {"to": [ranks]},
                {
                    "to": [{"ipBlock": block} for block in ALL_BUT_METADATA],
                    "ports": [{"protocol": p, "port": 53} for p in ("UDP", "TCP")],
                },
            ],
        },
    }
