"""`ray up` on AWS, on Google Cloud, and on machines that are reached by ssh.

The head is never a spot machine and holds no CPUs for units: it runs the driver, whose loss costs most. Workers may be
spot machines; the autoscaler replaces one that was taken away. Files of secrets are copied from the machine that calls
`ray up`, where they lie, to each node's home; no value is in the profile.
"""

from __future__ import annotations

import shlex
from typing import Any

from hyperloom.clusters.deployment import Deployment, DeploymentError, Machine
from hyperloom.clusters.profiles.workload import VENV, Workload, document

TOKEN = "~/.ray/auth_token"
HEAD, WORKER = "head", "worker"


def aws(load: Workload) -> str:
    """A cluster of EC2 instances."""
    deployment, cloud = load.deployment, load.deployment.aws
    if cloud is None:
        raise _lacks("aws: {region: eu-central-1}")

    def node(machine: Machine) -> dict[str, Any]:
        disk = {"VolumeSize": cloud.disk_gb, "VolumeType": "gp3"}
        config: dict[str, Any] = {"InstanceType": _instance(machine)}
        config |= {"BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": disk}]}
        config |= {"ImageId": cloud.ami} if cloud.ami else {}
        config |= {"IamInstanceProfile": {"Arn": cloud.profile}} if cloud.profile else {}
        config |= {"SubnetIds": list(cloud.subnets)} if cloud.subnets else {}
        return config | ({"InstanceMarketOptions": {"MarketType": "spot"}} if machine.spot else {})

    provider = {"type": "aws", "region": cloud.region, "cache_stopped_nodes": False}
    return _cloud(load, provider, {HEAD: node(_steady(deployment)), WORKER: node(deployment.worker)})


def gcp(load: Workload) -> str:
    """A cluster of Compute Engine instances."""
    deployment, cloud = load.deployment, load.deployment.gcp
    if cloud is None:
        raise _lacks("gcp: {project: my-project, region: europe-west4, zone: europe-west4-a}")

    def node(machine: Machine) -> dict[str, Any]:
        parameters = {"diskSizeGb": cloud.disk_gb, "sourceImage": cloud.disk_image}
        disk = {"boot": True, "autoDelete": True, "type": "PERSISTENT", "initializeParams": parameters}
        config: dict[str, Any] = {"machineType": _instance(machine), "disks": [disk]}
        scheduling: dict[str, Any] = {}
        if machine.accelerator:
            kind = f"projects/{cloud.project}/zones/{cloud.zone}/acceleratorTypes/{machine.accelerator}"
            config["guestAccelerators"] = [{"acceleratorType": kind, "acceleratorCount": machine.gpus}]
            config["metadata"] = {"items": [{"key": "install-nvidia-driver", "value": "True"}]}
            scheduling["onHostMaintenance"] = "TERMINATE"
        if machine.spot:
            scheduling |= {"provisioningModel": "SPOT", "instanceTerminationAction": "DELETE"}
        if cloud.service_account:
            scopes = ["https://www.googleapis.com/auth/cloud-platform"]
            config["serviceAccounts"] = [{"email": cloud.service_account, "scopes": scopes}]
        return config | ({"scheduling": scheduling} if scheduling else {})

    provider = {"type": "gcp", "project_id": cloud.project, "region": cloud.region, "availability_zone": cloud.zone}
    return _cloud(load, provider, {HEAD: node(_steady(deployment)), WORKER: node(deployment.worker)})


def on_premise(load: Workload) -> str:
    """Machines that are there, with the project and its environment in the same folder."""
    deployment, place = load.deployment, load.deployment.on_premise
    if place is None:
        raise _lacks("on_premise: {head: 10.0.0.10, workers: [10.0.0.11, 10.0.0.12]}")
    provider = {"type": "local", "head_ip": place.head, "worker_ips": list(place.workers)}
    content = {"cluster_name": load.name, "provider": provider, "auth": {"ssh_user": place.user}}
    venv = f". {deployment.folder}/{VENV}"
    return document(
        f"{_start(load, 'on-premise')}\n\nEvery machine has the project with its {VENV.split('/')[0]} in "
        f"{deployment.folder}, and reaches {load.root}.",
        {**content, **_files(deployment), **_commands(deployment, venv)},
    )


def _cloud(load: Workload, provider: dict[str, Any], nodes: dict[str, dict[str, Any]]) -> str:
    deployment = load.deployment
    types = {
        HEAD: {"resources": {"CPU": 0}, "node_config": nodes[HEAD]},
        WORKER: {
            "min_workers": deployment.least,
            "max_workers": deployment.most,
            "resources": _resources(deployment.worker),
            "node_config": nodes[WORKER],
        },
    }
    content = {
        "cluster_name": load.name,
        "provider": provider,
        "max_workers": deployment.most,
        "idle_timeout_minutes": deployment.idle_minutes,
        "auth": {"ssh_user": "ubuntu"},
        "docker": {"image": load.image, "container_name": "hyperloom", "pull_before_run": True},
        "head_node_type": HEAD,
        "available_node_types": types,
    }
    return document(
        _start(load, provider["type"]),
        {**content, **_files(deployment), **_commands(deployment, cloud=provider["type"])},
    )


def _start(load: Workload, target: str) -> str:
    """How a user goes on from here."""
    secrets = "".join(f"\n  {s.file}   (mode 0600, lines of VARIABLE=value)" for s in load.deployment.secrets)
    return (
        f"hyperloom cluster render {target} {load.recipe}\n"
        f"  ray get-auth-token --generate     once: {TOKEN}, the same on all machines\n"
        f"  ray up FILE                       starts the cluster, or brings it up to date with this file\n"
        f"  ray dashboard FILE                a tunnel to the job server, http://127.0.0.1:8265\n"
        f"  {load.shown('submit')}" + (f"\nSecrets are read from this machine's files:{secrets}" if secrets else "")
    )


def _files(deployment: Deployment) -> dict[str, Any]:
    return {"file_mounts": {TOKEN: TOKEN} | {s.file: s.file for s in deployment.secrets}}


def _commands(deployment: Deployment, first: str = "", cloud: str = "") -> dict[str, Any]:
    """Ray's start on head and workers. The head's job server listens on loopback; what a node needs in its environment
    comes from its files. A node gives its jobs the grace that the deployment says."""
    before = [first] if first else []
    before += [f"set -a; . {secret.file}; set +a" for secret in deployment.secrets]
    plain = deployment.env | {"RAY_AUTH_MODE": "token", "RAY_JOB_STOP_WAIT_TIME_S": str(deployment.grace)}
    before += [f"export {name}={shlex.quote(text)}" for name, text in plain.items()]
    head = "ray start --head --port=6379 --num-cpus=0 --dashboard-host=127.0.0.1"
    head += " --autoscaling-config=~/ray_bootstrap_config.yaml"
    worker = "ray start --address=$RAY_HEAD_IP:6379"
    if cloud and deployment.worker.spot:  # it drains itself when the cloud says that it takes the machine away
        worker += f"; nohup hyperloom cluster leave --spot {cloud} >/tmp/hyperloom-spot.log 2>&1 &"
    stop = "; ".join([*before[: bool(first)], "ray stop"])
    return {
        "head_start_ray_commands": [stop, "; ".join([*before, "ulimit -n 65536", head])],
        "worker_start_ray_commands": [stop, "; ".join([*before, "ulimit -n 65536", worker])],
    }


def _resources(machine: Machine) -> dict[str, int]:
    return {"CPU": machine.cpus} | ({"GPU": machine.gpus} if machine.gpus else {})


def _steady(deployment: Deployment) -> Machine:
    if deployment.head.spot:
        raise DeploymentError("the head on a spot machine would end every run with it. Next: head: {spot: false}")
    return deployment.head


def _instance(machine: Machine) -> str:
    if machine.instance is None:
        raise DeploymentError(
            "a cloud wants a type of machine. Next: instance: ... for the deployment's head and worker"
        )
    return machine.instance


def _lacks(example: str) -> DeploymentError:
    return DeploymentError(f"the deployment does not say where. Next: add  {example}")
