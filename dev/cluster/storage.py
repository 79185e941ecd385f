"""The default StorageClass: a folder of the machine for each claim, seen by every node.

All nodes share the machine's file system, so a ReadWriteMany claim is honest here: pods on
different nodes see the same files. The folder belongs to group 65532 with the setgid bit, because
Kubernetes applies no fsGroup to hostPath volumes and the trainer runs under that id.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from dev.cluster.api import Api, ApiError, Object
from dev.cluster.paths import REPOSITORY
from dev.cluster.processes import Processes
from dev.cluster.settings import Settings
from dev.cluster.shell import pause

CLASS = "standard-rwx"
PROVISIONER = "finetune.dev/local-volumes"
_GROUP = 65532
_MODE = 0o2770
_CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
_VOLUMES = "/api/v1/persistentvolumes"
_CLAIMS = "/api/v1/persistentvolumeclaims"
_SELECTED_NODE = "volume.kubernetes.io/selected-node"
_LOOK_SECONDS = 1.0


def start(settings: Settings, processes: Processes, api: Api) -> None:
    """Create the StorageClass and start the provisioner unless it runs."""
    api.apply(f"{_CLASSES}/{CLASS}", storage_class())
    command = [sys.executable, "-m", "dev.cluster", "serve-volumes", "--name", settings.name]
    processes.start("volumes", command, cwd=REPOSITORY)


def storage_class() -> Object:
    """The cluster's default class."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "Immediate",
    }


def serve(api: Api, folder: Path) -> None:
    """Provision and reclaim for ever, by looking at the whole state once a second."""
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        try:
            reconcile(api, folder)
        except (OSError, ApiError) as error:
            print(f"volumes: {error}", flush=True)
        pause(_LOOK_SECONDS)


def reconcile(api: Api, folder: Path) -> None:
    """One pass: a volume for each claim that waits, an end for each volume that was released."""
    classes = {c["metadata"]["name"]: c for c in api.items(_CLASSES)}
    for claim in api.items(_CLAIMS):
        if wants_volume(claim, classes):
            _provision(api, folder, claim, classes[claim["spec"]["storageClassName"]])
    for volume in api.items(_VOLUMES):
        if is_released(volume):
            _reclaim(api, folder, volume)


def wants_volume(claim: Object, classes: dict[str, Object]) -> bool:
    """Whether a claim is ours, unbound, and (with WaitForFirstConsumer) has a pod on a node."""
    spec, metadata = claim["spec"], claim["metadata"]
    storage = classes.get(spec.get("storageClassName") or "")
    if storage is None or storage["provisioner"] != PROVISIONER:
        return False
    if spec.get("volumeName") or spec.get("selector") or "deletionTimestamp" in metadata:
        return False
    waits = storage.get("volumeBindingMode") == "WaitForFirstConsumer"
    return not waits or bool(_SELECTED_NODE in metadata.get("annotations", {}))


def is_released(volume: Object) -> bool:
    """Whether a volume of ours lost its claim and its class says to delete it."""
    annotations = volume["metadata"].get("annotations", {})
    return bool(
        annotations.get("pv.kubernetes.io/provisioned-by") == PROVISIONER
        and volume["status"].get("phase") == "Released"
        and volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete"
    )


def volume_for(claim: Object, storage: Object, path: Path) -> Object:
    """The PersistentVolume for a claim, bound to it by uid before anybody else can take it."""
    metadata, spec = claim["metadata"], claim["spec"]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": f"pvc-{metadata['uid']}",
            "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER},
        },
        "spec": {
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": spec["accessModes"],
            "persistentVolumeReclaimPolicy": storage.get("reclaimPolicy", "Delete"),
            "storageClassName": spec["storageClassName"],
            "hostPath": {"path": str(path), "type": "Directory"},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
        },
    }


def _provision(api: Api, folder: Path, claim: Object, storage: Object) -> None:
    metadata = claim["metadata"]
    path = folder / f"{metadata['namespace']}-{metadata['name']}-{metadata['uid']}"
    path.mkdir(exist_ok=True)
    os.chown(path, -1, _GROUP)
    path.chmod(_MODE)
    if api.create(_VOLUMES, volume_for(claim, storage, path)):
        print(f"volumes: made {path.name}", flush=True)


def _reclaim(api: Api, folder: Path, volume: Object) -> None:
    """Remove the folder, then the volume: in this order a crash in between leaves no orphan."""
    path = Path(volume["spec"]["hostPath"]["path"])
    if path.parent == folder:
        shutil.rmtree(path, ignore_errors=True)
    api.request("DELETE", f"{_VOLUMES}/{volume['metadata']['name']}")
    print(f"volumes: removed {path.name}", flush=True)
