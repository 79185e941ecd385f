"""``python -m dev.demo``, run by ``make demo``: the whole story, asserted, in minutes.

Cluster, images, chart, data on a claim, one FineTuneJob; a SIGKILL once status knows a verified
checkpoint; resume; success. Ends with exit code 0 only when every claim that it prints was checked.
KEEP=1 leaves the cluster up.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from typing import Final

import yaml

from dev.cluster.errors import ClusterError
from dev.demo import install, results
from dev.demo.chaos import kill_rank
from dev.demo.diagnostics import collect_logs
from dev.demo.kube import Cluster, Object, claim, copy_in, volume_pod
from dev.demo.live import Display, View, ask_rank_0, view_of
from dev.demo.paths import DATASET, EXAMPLE_JOB, MODEL, OUT, ROOT
from dev.demo.stages import Stages

NAMESPACE: Final = "demo"
INPUTS: Final = "finetune-inputs"
RUN_SECONDS: Final = 1200.0
STEPS_TO_LOSE: Final = 2
FINISHED: Final = ("Succeeded", "Failed")
OUTPUT: Final = OUT / "demo"


def load_inputs(cluster: Cluster, trainer: str) -> None:
    """Put model and dataset on a claim, as a platform team would."""
    cluster.apply(claim(INPUTS, size="2Gi"))
    with volume_pod(cluster, INPUTS, image=trainer) as pod:
        copy_in(cluster, pod, [MODEL, DATASET])


def run_job(cluster: Cluster) -> Object:
    """Apply the example, kill a rank after the first checkpoint, return the finished job.

    Raises ClusterError when the job has not finished in time.
    """
    name = str(yaml.safe_load(EXAMPLE_JOB.read_text())["metadata"]["name"])
    cluster.kubectl("delete", "finetunejob", name, "--ignore-not-found")
    cluster.kubectl("apply", "-f", EXAMPLE_JOB)
    job: Object = {}
    killed = False
    with Display() as display:

        def finished() -> bool:
            nonlocal job, killed
            job = cluster.get("finetunejob", name)
            running = job.get("status", {}).get("phase") == "Running"
            view = view_of(job, ask_rank_0(cluster, job) if running else None)
            display.show(view)
            if running and not killed and has_work_to_lose(view):
                pod = kill_rank(cluster, job, rank=1)
                display.say(f"SIGKILL to the training process in pod {pod}")
                killed = True
            return job.get("status", {}).get("phase") in FINISHED

        cluster.wait(finished, what=f"the end of {name}", seconds=RUN_SECONDS)
    return job


def has_work_to_lose(view: View) -> bool:
    """Whether status knows a verified checkpoint, and steps after it would have to be redone."""
    return bool(view.checkpoint) and view.step >= (view.checkpoint or 0) + STEPS_TO_LOSE


def tell(cluster: Cluster, name: str, stages: Stages) -> list[str]:
    """Run every stage; return the claims that do not hold."""
    with stages.stage("images", "Images of operator and trainer"):
        operator, trainer = (install.build_image(kind, name) for kind in ("operator", "trainer"))
    with stages.stage("install", "helm install finetune-operator"):
        install.install_chart(cluster, operator=operator, trainer=trainer)
    with stages.stage("inputs", "Model and dataset onto a claim"):
        load_inputs(cluster, trainer)
    with stages.stage("run", f"kubectl apply -f {EXAMPLE_JOB.relative_to(ROOT)}"):
        job = run_job(cluster)
    status = job["status"]
    if status["phase"] != "Succeeded":
        raise ClusterError(f"the job ended {status['phase']}: {json.dumps(status['conditions'])}")
    with (
        stages.stage("results", "What came of it"),
        volume_pod(cluster, results.workspace_claim(job), image=trainer, read_only=True) as reader,
    ):
        found = results.collect(cluster, job, reader=reader, out=OUTPUT)
        results.show(found)
    seconds = {**stages.seconds, "total": stages.total()}
    write_summary(found, seconds)
    return results.broken_claims(found)


def write_summary(found: results.Results, seconds: dict[str, float]) -> None:
    """Write summary.json and say where everything is."""
    summary = found.summary(seconds)
    path = OUTPUT / "summary.json"
    path.write_text(json.dumps(summary, indent=2) + "\n")
    shown = {key: summary[key] for key in summary if key not in ("attempts", "seconds")}
    print(f"\n{json.dumps(shown)}")
    for file in ("loss_curve.png", "trainer_log.jsonl", "summary.json"):
        print(f"  {(OUTPUT / file).relative_to(ROOT)}")


def main() -> int:
    """Entry point; returns the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    shutil.rmtree(OUTPUT, ignore_errors=True)  # what is found there afterwards is of this run
    OUTPUT.mkdir(parents=True)
    name = os.environ.get("CLUSTER_NAME", "default")
    stages = Stages()
    cluster: Cluster | None = None
    try:
        with stages.stage("cluster", "A local Kubernetes"):
            cluster = install.start_cluster(name, namespace=NAMESPACE)
        broken = tell(cluster, name, stages)
    except (ClusterError, subprocess.CalledProcessError) as error:
        broken = [str(error)]
    except KeyboardInterrupt:
        broken = ["interrupted"]
    try:
        if broken and cluster is not None:
            collect_logs(cluster, OUTPUT / "logs")
            print(f"logs: {OUTPUT / 'logs'}", file=sys.stderr)
    finally:
        if not os.environ.get("KEEP"):
            install.stop_cluster(name)
    for sentence in broken:
        print(f"demo: FAILED: {sentence}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
