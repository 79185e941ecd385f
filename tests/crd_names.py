"""Names of other things in a FineTuneJob: what could never exist is refused at once.

Without this the API server would refuse the Job that the operator makes, long after the user left.
"""

from __future__ import annotations

from typing import Any, Final

Manifest = dict[str, Any]

_LONG: Final = ".".join(["a" * 63] * 4)  # 255 characters, each part of a legal length
_LONGEST: Final = _LONG[:253]
_BROKEN: Final = ("a..b", "a.-b", "a-", "A", "a_b")
_CLAIM: Final = "spec.workspace.claimName in body should"
_MODEL: Final = "spec.model.source must"
_CONFIG_MAP: Final = "spec.dataset.source must"
_SELECTOR: Final = "spec.compute.nodeSelector must have label keys"
_TAINT: Final = "spec.compute.tolerations[0].key in body should"
_PREFIX: Final = "spec.compute.tolerations[].key must have at most 253 characters before the '/'"
_DEVICE: Final = "spec.compute.gpuResourceName"


def _selector(key: str) -> Manifest:
    return {"spec.compute.nodeSelector": {key: "x"}}


def _toleration(key: str) -> Manifest:
    return {"spec.compute.tolerations": [{"key": key, "operator": "Exists"}]}


_LABEL_KEYS: Final = {
    "without a name": "example.com/",
    "without a domain": "/pool",
    "of three parts": "a/b/c",
    "with a space": "node pool",
    "with a domain in capitals": "Example.com/pool",
    "that ends with a dash": "pool-",
    "with a name of 64 characters": "a" * 64,
}

WRONG_NAMES: Final[dict[str, tuple[Manifest, str]]] = {
    **{f"claim {name}": ({"spec.workspace.claimName": name}, _CLAIM) for name in _BROKEN},
    **{f"pvc://{name}": ({"spec.model.source": f"pvc://{name}/m"}, _MODEL) for name in _BROKEN},
    **{
        f"configmap://{name}": ({"spec.dataset.source": f"configmap://{name}/k"}, _CONFIG_MAP)
        for name in _BROKEN
    },
    "a claim's name of 255 characters": (
        {"spec.workspace.claimName": _LONG},
        "spec.workspace.claimName: Too long",
    ),
    "a model's claim of 255 characters": (
        {"spec.model.source": f"pvc://{_LONG}/m"},
        "spec.model.source must name an object by at most 253 characters",
    ),
    "a config map's name of 255 characters": (
        {"spec.dataset.source": f"configmap://{_LONG}/k"},
        "spec.dataset.source must name an object by at most 253 characters",
    ),
    **{f"a node label {how}": (_selector(key), _SELECTOR) for how, key in _LABEL_KEYS.items()},
    "a node label of too long a domain": (_selector(f"{_LONG}/a"), _SELECTOR),
    **{f"a taint {how}": (_toleration(key), _TAINT) for how, key in _LABEL_KEYS.items()},
    "a taint without a key": (
        {"spec.compute.tolerations": [{"key": "", "value": "x"}]},
        _TAINT,
    ),
    "a taint of too long a domain": (_toleration(f"{_LONG}/a"), _PREFIX),
    **{
        f"{resource} as GPU": ({"spec.compute.gpuResourceName": resource}, _DEVICE)
        for resource in (
            "gpu",
            "nvidia.com/",
            "nvidia.com/gpu-",
            "nvidia..com/gpu",
            "kubernetes.io/gpu",
            "node.kubernetes.io/gpu",
            "requests.nvidia.com/gpu",
            f"nvidia.com/{'g' * 64}",
            f"{_LONGEST}/gpu",
        )
    },
}

GOOD_NAMES: Final[dict[str, Manifest]] = {
    "names as long as they may be": {
        "spec.workspace": {"claimName": _LONGEST},
        "spec.model.source": f"pvc://{_LONGEST}/base",
        "spec.dataset.source": f"configmap://{_LONGEST}/train.jsonl",
        "spec.compute": {
            "gpuResourceName": f"{_LONGEST[:244]}/{'g' * 63}",
            "nodeSelector": {f"{_LONGEST}/{'p' * 63}": "x"},
            "tolerations": [{"key": f"{_LONGEST}/{'p' * 63}", "operator": "Exists"}],
        },
    },
    "label keys with and without a domain": {
        "spec.compute.nodeSelector": {"node.kubernetes.io/instance-type": "x", "GPU_pool.1": ""},
        "spec.compute.tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}, {"key": "p"}],
    },
    "a device's slice": {"spec.compute.gpuResourceName": "nvidia.com/mig-1g.10gb"},
}
