"""Kubernetes: a KubeRay cluster that lives for one run (RayJob), one that stands (RayCluster), and the clock (CronJob).

Grace: a pod that is to go is told by its hook (`hyperloom cluster leave`), which gives what is in flight the
deployment's grace; only then comes SIGTERM, and Kubernetes' own patience is longer than both. The CronJob's container
is the driver itself and gets SIGTERM as such.

Exit codes decide what is tried again (pipeline/exits.py): a Job fails at once on a code that means "wrong for ever",
does not count one that means "busy" or "the store is away", and tries others a few times. RayJob has no such rule: its
`backoffLimit` counts all, each on a new cluster.
"""

from __future__ import annotations

from typing import Any

from hyperloom.clusters.deployment import MARGIN_SECONDS, Deployment, DeploymentError, Machine
from hyperloom.clusters.profiles.workload import Workload, document, ray_version
from hyperloom.pipeline import exits

SPOT = {
    "gke": ("cloud.google.com/gke-spot", "true"),
    "eks": ("eks.amazonaws.com/capacityType", "SPOT"),
    "karpenter": ("karpenter.sh/capacity-type", "spot"),
    "aks": ("kubernetes.azure.com/scalesetpriority", "spot"),
}
"""The label of a spot node, by who makes the nodes."""
GPU = "nvidia.com/gpu"
ACCELERATOR = {"gke": "cloud.google.com/gke-accelerator"}
PRODUCT = "nvidia.com/gpu.product"
"""The label that NVIDIA's operator gives a node, where the maker of nodes has none of its own."""
OFTEN = "*/15 * * * *"


def ray_job(load: Workload) -> str:
    """One run on a cluster of its own, which ends with it."""
    deployment = load.deployment
    spec: dict[str, Any] = {
        "entrypoint": load.shown("run"),
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": 600,
        "backoffLimit": deployment.retries,
    }
    spec |= {"activeDeadlineSeconds": int(deployment.hours * 3600)} if deployment.hours else {}
    content = {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {"generateName": f"{load.name}-", "namespace": deployment.kubernetes.namespace},
        "spec": spec | {"rayClusterSpec": _cluster(load)},
    }
    about = "A new cluster goes on where the last one stopped."
    return document(f"hyperloom cluster render rayjob {load.recipe}\n{_start(load, 'create')}\n{about}", content)


def ray_cluster(load: Workload) -> str:
    """A cluster that stands, for `hyperloom submit` and the CronJob; with `workers: [0, N]` it is a head alone between
    runs."""
    content = {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {"name": load.name, "namespace": load.deployment.kubernetes.namespace},
        "spec": _cluster(load),
    }
    server = f"http://{load.name}-head-svc.{load.deployment.kubernetes.namespace}.svc:8265"
    about = f"Its job server, for the deployment of the CronJob:  kubernetes: {{jobs: '{server}'}}"
    return document(f"hyperloom cluster render raycluster {load.recipe}\n{_start(load, 'apply')}\n{about}", content)


def cron_job(load: Workload) -> str:
    """The clock. Where the recipe has a schedule, `hyperloom tick` decides whether it is due, and a tick too many does
    nothing; where it has none, each time is a run."""
    deployment, server = load.deployment, load.deployment.kubernetes.jobs
    command, (cron, zone) = _command(load, server), _times(load)
    machine = Machine(cpus=1, memory_gb=2) if server else deployment.worker
    container = _container(load, machine) | {"command": command[:1], "args": command[1:]}
    pod = _pod(load, machine, container) | {"restartPolicy": "Never"}
    job: dict[str, Any] = {
        "backoffLimit": deployment.retries,
        "podFailurePolicy": {"rules": _rules(container["name"])},
        "podReplacementPolicy": "Failed",
        "ttlSecondsAfterFinished": 86_400,
        "activeDeadlineSeconds": int((deployment.hours or 24) * 3600),
        "template": {"metadata": {"labels": {"app.kubernetes.io/name": load.name}}, "spec": pod},
    }
    spec = {
        "schedule": cron,
        "timeZone": zone,
        "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": 3600,
        "successfulJobsHistoryLimit": 3,
        "failedJobsHistoryLimit": 5,
        "jobTemplate": {"spec": job},
    }
    content = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": load.name, "namespace": deployment.kubernetes.namespace},
        "spec": spec,
    }
    return document(f"hyperloom cluster render cronjob {load.recipe}\n{_start(load, 'apply')}", content)


def _command(load: Workload, server: str | None) -> list[str]:
    where = ["--address", server] if server else []
    if load.schedule is None:
        return load.command("submit" if server else "run", *where)
    return load.command("tick", "--add", *(["--submit", *where] if server else []))


def _times(load: Workload) -> tuple[str, str]:
    """When the CronJob looks, and in which time zone. A schedule of several expressions, or that waits a while after
    its times, is looked at often."""
    deployment, schedule = load.deployment, load.schedule
    zone = deployment.timezone or (schedule.timezone if schedule else "Etc/UTC")
    if deployment.cron:
        return deployment.cron, zone
    if schedule is None:
        raise DeploymentError("when? Next: a `schedule` in the recipe, or `cron` in its deployment")
    return (schedule.cron[0] if len(schedule.cron) == 1 and not schedule.jitter else OFTEN), zone


def _rules(container: str) -> list[dict[str, Any]]:
    def on(action: str, codes: frozenset[exits.Exit]) -> dict[str, Any]:
        # SIGKILL is counted: memory that ran out runs out again; a lost node is a disruption, below
        values = sorted(int(code) for code in codes - {exits.Exit.KILLED})
        return {"action": action, "onExitCodes": {"containerName": container, "operator": "In", "values": values}}

    disrupted = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    return [on("FailJob", exits.NEVER), disrupted, on("Ignore", exits.AGAIN)]


def _cluster(load: Workload) -> dict[str, Any]:
    """The cluster's spec: a head without CPUs for units, and one group of workers."""
    deployment = load.deployment
    if deployment.head.spot:
        raise DeploymentError("the head on a spot node would end every run with it. Next: head: {spot: false}")
    elastic = {"version": "v2", "idleTimeoutSeconds": 60 * deployment.idle_minutes, "upscalingMode": "Default"}
    group = {
        "groupName": "workers",
        "replicas": deployment.least,
        "minReplicas": deployment.least,
        "maxReplicas": deployment.most,
        "rayStartParams": {},
        "template": _template(load, deployment.worker),
    }
    return {
        "rayVersion": ray_version(),
        "authOptions": {"mode": "token"},
        **({"enableInTreeAutoscaling": True, "autoscalerOptions": elastic} if deployment.elastic else {}),
        "headGroupSpec": {"rayStartParams": {"num-cpus": "0"}, "template": _template(load, deployment.head)},
        "workerGroupSpecs": [group],
    }


def _template(load: Workload, machine: Machine) -> dict[str, Any]:
    grace = load.deployment.grace
    leave = ["hyperloom", "cluster", "leave", "--seconds", str(grace)]
    container = _container(load, machine) | {"lifecycle": {"preStop": {"exec": {"command": leave}}}}
    pod = _pod(load, machine, container)
    return {"spec": pod | ({"restartPolicy": "Never"} if load.deployment.elastic else {})}


def _pod(load: Workload, machine: Machine, container: dict[str, Any]) -> dict[str, Any]:
    deployment, place = load.deployment, load.deployment.kubernetes
    labels, tolerations = dict(machine.labels), []
    if machine.spot:
        if place.nodes is None:
            raise DeploymentError(f"spot nodes are known by labels. Next: kubernetes: {{nodes: {' | '.join(SPOT)}}}")
        key, value = SPOT[place.nodes]
        labels |= {key: value}
        tolerations.append({"key": key, "operator": "Exists", "effect": "NoSchedule"})
    if machine.gpus:
        tolerations.append({"key": GPU, "operator": "Exists", "effect": "NoSchedule"})
        labels |= {ACCELERATOR.get(place.nodes or "", PRODUCT): machine.accelerator} if machine.accelerator else {}
    claims = [
        {
            "name": f"volume-{i}",
            "persistentVolumeClaim": {"claimName": _claim(v.claim, v.path), "readOnly": v.read_only},
        }
        for i, v in enumerate(deployment.volumes)
    ]
    return {
        "terminationGracePeriodSeconds": deployment.grace + MARGIN_SECONDS,
        **({"serviceAccountName": place.service_account} if place.service_account else {}),
        **({"nodeSelector": labels} if labels else {}),
        **({"tolerations": tolerations} if tolerations else {}),
        "containers": [container],
        **({"volumes": claims} if claims else {}),
    }


def _container(load: Workload, machine: Machine) -> dict[str, Any]:
    deployment = load.deployment
    size = {"cpu": str(machine.cpus), "memory": f"{machine.memory_gb}Gi"}
    size |= {GPU: str(machine.gpus)} if machine.gpus else {}
    all_of = [{"secretRef": {"name": s.name}} for s in deployment.secrets if not s.variables]
    plain = deployment.env | {"RAY_JOB_STOP_WAIT_TIME_S": str(deployment.grace)}
    mounts = [
        {"name": f"volume-{i}", "mountPath": v.path, **({"readOnly": True} if v.read_only else {})}
        for i, v in enumerate(deployment.volumes)
    ]
    return {
        "name": "hyperloom",
        "image": load.image,
        "resources": {"requests": size, "limits": size},
        "env": [*({"name": k, "value": v} for k, v in plain.items()), *_chosen(deployment)],
        **({"envFrom": all_of} if all_of else {}),
        **({"volumeMounts": mounts} if mounts else {}),
    }


def _chosen(deployment: Deployment) -> list[dict[str, Any]]:
    return [
        {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret.name, "key": variable}}}
        for secret in deployment.secrets
        for variable in secret.variables
    ]


def _claim(claim: str | None, path: str) -> str:
    if claim is None:
        raise DeploymentError(f"the volume {path} needs the name of its claim on Kubernetes. Next: claim: ...")
    return claim


def _start(load: Workload, verb: str) -> str:
    """How a user goes on from here."""
    space = load.deployment.kubernetes.namespace
    lines = [f"  kubectl {verb} -f FILE"]
    for secret in load.deployment.secrets:
        lines.append(f"  kubectl -n {space} create secret generic {secret.name} --from-env-file={secret.file}   (once)")
    return "\n".join(lines)
