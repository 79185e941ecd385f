"""FineTuneJobs as tables: what the API server refuses and with which words, and what it accepts."""

from __future__ import annotations

from typing import Any, Final

from tests.crd_names import GOOD_NAMES, WRONG_NAMES
from tests.manifests import REMOVED

Manifest = dict[str, Any]

DEFAULTS: Final[Manifest] = {
    "model": {"source": "pvc://models/base"},
    "dataset": {
        "source": "pvc://data/train.jsonl",
        "evalFraction": "0.05",
        "format": "Auto",
        "maxLength": 2048,
        "overlength": "Drop",
        "trainOn": "Completions",
    },
    "adapter": {
        "quantization": "NF4",
        "doubleQuantization": True,
        "rank": "Auto",
        "alpha": "Auto",
        "dropout": "0",
        "targetModules": ["all-linear"],
    },
    "training": {
        "stage": "SFT",
        "microBatchSize": "Auto",
        "learningRate": "Auto",
        "scheduler": "Cosine",
        "warmupRatio": "Auto",
        "optimizer": "AdamW",
        "weightDecay": "0",
        "maxGradNorm": "0.3",
        "seed": 42,
        "precision": "Auto",
        "activationCheckpointing": "Auto",
        "deterministic": False,
        "samples": {"prompts": [], "maxNewTokens": 64},
    },
    "checkpoint": {"interval": "Auto", "keep": 3},
    "compute": {"nodes": 1, "gpusPerNode": 1, "gpuResourceName": "nvidia.com/gpu"},
    "output": {},
    "recovery": {"maxFailures": 3, "maxDisruptions": 100, "backoffSeconds": 10},
    "startDeadlineSeconds": 1800,
}

# what is wrong -> (changes to a good job, what the message must say)
REFUSED: Final[dict[str, tuple[Manifest, str]]] = {
    "no dataset": ({"spec.dataset": REMOVED}, "spec.dataset: Required value"),
    "no model": ({"spec.model": REMOVED}, "spec.model: Required value"),
    "no spec": ({"spec": REMOVED}, "spec: Required value"),
    "a size of nothing": ({"spec.workspace": {"size": "0Gi"}}, "spec.workspace.size"),
    "no memory": ({"spec.compute.memory": 0}, "spec.compute.memory"),
    "a negative number of cores": ({"spec.compute.cpu": -1}, "spec.compute.cpu"),
    "more weight decay than a number holds": (
        {"spec.training.weightDecay": "1e999"},
        "spec.training.weightDecay",
    ),
    "a source of a later release": (
        {"spec.model.source": "hf://org/name@main"},
        "spec.model.source must be pvc://<claim>/<path> or file:///<path>",
    ),
    "a dataset from the web": (
        {"spec.dataset.source": "https://example.com/a.jsonl"},
        "spec.dataset.source must be pvc://<claim>/<path>, configmap://<name>/<key>",
    ),
    "an evaluation set from the hub": (
        {"spec.dataset.evalSource": "hf://org/name"},
        "spec.dataset.evalSource must be",
    ),
    "a claim without a path": ({"spec.model.source": "pvc://models"}, "spec.model.source must be"),
    "a path out of the claim": (
        {"spec.model.source": "pvc://models/../other"},
        "spec.model.source must not contain '..'",
    ),
    "learningRate fast": (
        {"spec.training.learningRate": "fast"},
        "spec.training.learningRate must be Auto or a number above 0",
    ),
    "learningRate 0": (
        {"spec.training.learningRate": "0"},
        "spec.training.learningRate must be Auto or a number above 0",
    ),
    "learningRate as a float": (
        {"spec.training.learningRate": 2e-4},
        "spec.training.learningRate in body must be of type string",
    ),
    "dropout 1": ({"spec.adapter.dropout": "1"}, "spec.adapter.dropout must be a number from 0"),
    "all rows held out": ({"spec.dataset.evalFraction": "1.0"}, "spec.dataset.evalFraction must"),
    "warmup longer than the run": (
        {"spec.training.warmupRatio": "1.5"},
        "spec.training.warmupRatio must be Auto or a number from 0",
    ),
    "rank 0": ({"spec.adapter.rank": 0}, "spec.adapter.rank in body should be greater than"),
    "rank as a word": ({"spec.adapter.rank": "high"}, "spec.adapter.rank in body should match"),
    "no target modules": ({"spec.adapter.targetModules": []}, "spec.adapter.targetModules in body"),
    "nodes 0": ({"spec.compute.nodes": 0}, "spec.compute.nodes in body should be greater than"),
    "maxLength 0": ({"spec.dataset.maxLength": 0}, "spec.dataset.maxLength in body should be"),
    "epochs 0": ({"spec.training.epochs": "0"}, "spec.training.epochs must be"),
    "epochs without end": ({"spec.training.epochs": "1e30"}, "spec.training.epochs must be"),
    "maxSteps 0": ({"spec.training.maxSteps": 0}, "spec.training.maxSteps in body"),
    "epochs and maxSteps": (
        {"spec.training": {"epochs": "3", "maxSteps": 100}},
        "spec.training.epochs and spec.training.maxSteps exclude each other",
    ),
    "an existing claim with a size": (
        {"spec.workspace": {"claimName": "mine", "size": "5Gi"}},
        "spec.workspace.claimName names an existing claim and excludes spec.workspace.size",
    ),
    "a folder on a claim to be created": (
        {"spec.workspace": {"subPath": "runs"}},
        "spec.workspace.subPath needs spec.workspace.claimName",
    ),
    "a folder outside the claim": (
        {"spec.workspace": {"claimName": "mine", "subPath": "a/../../b"}},
        "spec.workspace.subPath must not contain '..'",
    ),
    "a size that is no quantity": ({"spec.workspace.size": "big"}, "spec.workspace.size in body"),
    "processes beside GPUs": (
        {"spec.compute.processesPerNode": 2},
        "spec.compute.processesPerNode is for runs without GPUs",
    ),
    "somebody else's pull secret": (
        {"spec.compute.imagePullSecrets": [{"name": "registry"}]},
        "imagePullSecrets[].name must name a secret whose name starts with finetune-",
    ),
    "a toleration that no pod may have": (
        {"spec.compute.tolerations": [{"operator": "Exists", "key": "a", "value": "b"}]},
        "spec.compute.tolerations[]: operator Exists excludes a value",
    ),
    "a toleration of nothing": (
        {"spec.compute.tolerations": [{"value": "b"}]},
        "spec.compute.tolerations[]: operator Exists excludes a value, operator Equal needs a key",
    ),
    "a toleration time without NoExecute": (
        {"spec.compute.tolerations": [{"operator": "Exists", "tolerationSeconds": 5}]},
        "spec.compute.tolerations[].tolerationSeconds needs effect NoExecute",
    ),
    "a budget below 0": ({"spec.recovery.maxFailures": -1}, "spec.recovery.maxFailures in body"),
    **{
        f"{field} {value}": (
            {f"spec.{field}": value},
            f'spec.{field}: Unsupported value: "{value}"',
        )
        for field, value in {
            "dataset.format": "ShareGPT",
            "dataset.overlength": "Split",
            "dataset.trainOn": "All",
            "adapter.quantization": "Int8",
            "training.stage": "Pretrain",
            "training.scheduler": "Polynomial",
            "training.optimizer": "Lion",
            "training.precision": "FP16",
            "training.activationCheckpointing": "Every2",
        }.items()
    },
    "a name of 41 characters": (
        {"metadata.name": "a" * 41},
        "metadata.name must be at most 40 characters",
    ),
    **WRONG_NAMES,
    "a dotted name": ({"metadata.name": "a.b"}, "metadata.name must start with a letter"),
    "a name that starts with a digit": (
        {"metadata.name": "7b"},
        "metadata.name must start with a letter",
    ),
}

# a value of the right type for each field whose behaviour a later release brings
LATER: Final[dict[str, Any]] = {
    "spec.profile": "large",
    "spec.suspend": True,
    "spec.model.credentialsSecret": "finetune-hub",
    "spec.model.chatTemplate": "{{ messages }}",
    "spec.model.trustRemoteCode": True,
    "spec.dataset.split": "train",
    "spec.dataset.mixture": [{"source": "pvc://data/b.jsonl", "weight": "0.5"}],
    "spec.dataset.columns": {"prompt": "question"},
    "spec.dataset.roles": {"user": "human"},
    "spec.dataset.credentialsSecret": "finetune-hub",
    "spec.dataset.packing": True,
    "spec.training.initialAdapter": "pvc://models/adapter",
    "spec.training.globalBatchTokens": 32768,
    "spec.training.minLearningRateRatio": "0.1",
    "spec.training.runName": "first",
    "spec.training.neftuneNoiseAlpha": "5",
    "spec.training.onSpike": "Skip",
    "spec.training.loggingSteps": 5,
    "spec.training.evalSteps": "PerEpoch",
    "spec.training.earlyStopping": {"patience": 3},
    "spec.training.loadBest": True,
    "spec.training.samples.everySteps": 10,
    "spec.training.samples.temperature": "0.7",
    "spec.training.reportTo": ["TensorBoard"],
    "spec.training.reporting": {"project": "p"},
    "spec.compute.gpuType": "L4",
    "spec.compute.gpuMemory": "24Gi",
    "spec.compute.queueName": "team",
    "spec.compute.queuePriorityClass": "high",
    "spec.compute.image": "example.com/other",
    "spec.compute.serviceAccountName": "identity",
    "spec.compute.preflight.queueName": "team",
    "spec.workspace.resumeFrom": "default-job-12345678",
    "spec.recovery.maxReplans": 4,
    "spec.recovery.maxRollbacks": 2,
    "spec.recovery.learningRateFactor": "0.5",
    "spec.recovery.hangTimeoutSeconds": 600,
    "spec.recovery.lostNodeSeconds": 120,
    "spec.output.mergeWeights": True,
    "spec.output.publish": ["s3://bucket/adapter"],
    "spec.activeDeadlineSeconds": 3600,
    "spec.ttlSecondsAfterFinished": 3600,
}

# what a user may write -> the changes that do it
ACCEPTED: Final[dict[str, Manifest]] = {
    "nothing but the sources": {},
    "a name of 40 characters": {"metadata.name": "a" * 40},
    "false where only true is not supported yet": {
        "spec.suspend": False,
        "spec.model.trustRemoteCode": False,
        "spec.dataset.packing": False,
        "spec.output": {"mergeWeights": False, "publish": []},
    },
    "as many epochs as there may be": {"spec.training.epochs": "1000"},
    "Auto said aloud": {"spec.training.epochs": "Auto", "spec.training.learningRate": "Auto"},
    "every field that this release has": {
        "spec.model.source": "file:///models/base",
        "spec.dataset": {
            "source": "configmap://pairs/train.jsonl",
            "evalSource": "pvc://data/eval.jsonl",
            "evalFraction": "0",
            "format": "Messages",
            "maxLength": 512,
            "overlength": "Truncate",
            "trainOn": "Completions",
        },
        "spec.adapter": {
            "quantization": "None",
            "doubleQuantization": False,
            "rank": 8,
            "alpha": 16,
            "dropout": "0.1",
            "targetModules": ["q_proj", "v_proj"],
        },
        "spec.training": {
            "maxSteps": 40,
            "globalBatchSize": 8,
            "microBatchSize": 2,
            "learningRate": "2e-4",
            "scheduler": "ConstantWithWarmup",
            "warmupRatio": "0.1",
            "weightDecay": "0.01",
            "maxGradNorm": "1",
            "seed": 7,
            "precision": "BF16",
            "activationCheckpointing": "Full",
            "deterministic": True,
            "samples": {"prompts": ["What is a list?"], "maxNewTokens": 32},
        },
        "spec.checkpoint": {"interval": 10, "keep": 2},
        "spec.compute": {
            "nodes": 2,
            "gpusPerNode": 0,
            "processesPerNode": 1,
            "cpu": 2,
            "memory": "4Gi",
            "sharedMemory": "512Mi",
            "nodeSelector": {"pool": "cpu"},
            "tolerations": [{"key": "pool", "operator": "Exists", "effect": "NoSchedule"}],
            "priorityClassName": "batch",
            "imagePullSecrets": [{"name": "finetune-registry"}],
            "preflight": {"cpu": "500m", "memory": "1Gi"},
        },
        "spec.workspace": {"size": "5Gi", "storageClassName": "fast", "retain": False},
        "spec.recovery": {"maxFailures": 1, "maxDisruptions": 5, "backoffSeconds": 0},
        "spec.startDeadlineSeconds": 60,
    },
    **GOOD_NAMES,
    "an existing claim": {"spec.workspace": {"claimName": "mine", "subPath": "team/runs"}},
}


# fixed field -> changes that a user might try
EDITS: Final[dict[str, Manifest]] = {
    "spec.model": {"spec.model.source": "pvc://models/other"},
    "spec.dataset": {"spec.dataset.maxLength": 1024},
    "spec.adapter": {"spec.adapter.rank": 8},
    "spec.training": {"spec.training.epochs": REMOVED},
    "spec.checkpoint": {"spec.checkpoint.keep": 5},
    "spec.compute": {"spec.compute.cpu": "2"},
    "spec.workspace": {"spec.workspace": REMOVED},
    "spec.output": {"spec.output.mergeWeights": False},
    "spec.profile": {"spec.profile": "large"},
}
