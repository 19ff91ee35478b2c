"""The files of `hyperloom cluster render`, against the schemas and checkers of the systems that read them."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from hyperloom.pipeline import cli, exits
from hyperloom.pipeline.commands.cluster import PROFILES
from hyperloom.pipeline.host.ending import GRACE_SECONDS

SCHEMAS = Path(__file__).parents[1] / "schemas"
DEPLOYMENT = """\
image: registry.example/hyperloom:1
workers: [0, 8]
head: {cpus: 2, memory_gb: 8, instance: small-2}
worker: {cpus: 8, memory_gb: 32, gpus: 1, accelerator: nvidia-l4, spot: true, instance: large-8}
secrets: [storage, {name: mlflow, variables: [MLFLOW_TRACKING_PASSWORD]}]
env: {MLFLOW_TRACKING_URI: "http://mlflow:5000", GREETING: "it's $HOME"}
volumes: [{path: /data, claim: datasets, read_only: true}]
hours: 6
grace: 200
aws: {region: eu-central-1, profile: "arn:aws:iam::1:instance-profile/reader"}
gcp: {project: p, region: europe-west4, zone: europe-west4-a, service_account: a@b.example}
on_premise: {head: 10.0.0.10, workers: [10.0.0.11, 10.0.0.12]}
kubernetes: {namespace: vision, nodes: gke, service_account: hyperloom}
slurm: {partition: gpu}
"""
RECIPE = """\
name: toy
root: s3://bucket/runs
modalities: {rgb: {type: image, size: [8, 8]}}
steps:
  frames: {stage: ingest, source: {type: files, path: images}, rows: 2}
"""


@pytest.fixture
def render(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Renders a profile of the toy recipe with a deployment, by default the full one; an error is the text after its
    exit code."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.yaml").write_text(RECIPE)

    def do(profile: str, deployment: str = DEPLOYMENT, *more: str, code: int = 0) -> str:
        (tmp_path / "machines.yaml").write_text(deployment)
        given = ["cluster", "render", profile, "toy.yaml", "--deployment", "machines.yaml", *more]
        assert cli.main(given) == code
        out = capsys.readouterr()
        return out.err if code else out.out

    return do


def test_the_command_knows_all_profiles() -> None:
    from hyperloom.clusters import profiles

    assert tuple(profiles.PROFILES) == PROFILES


@pytest.mark.parametrize("profile", ["aws", "gcp", "on-premise"])
def test_ray_up_takes_it(render: Any, profile: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    ray = importlib.util.find_spec("ray")
    if ray is None or not ray.submodule_search_locations:
        pytest.skip("ray is not installed")
    schema = json.loads((Path(ray.submodule_search_locations[0]) / "autoscaler" / "ray-schema.json").read_text())
    content = yaml.safe_load(render(profile))
    jsonschema.validate(content, schema)
    head, worker = content["head_start_ray_commands"][-1], content["worker_start_ray_commands"][-1]
    assert "--num-cpus=0" in head and "RAY_AUTH_MODE=token" in head and "RAY_AUTH_MODE=token" in worker
    assert {"~/.ray/auth_token", "~/.config/hyperloom/storage.env"} < set(content["file_mounts"])
    shell = ["bash", "-c", worker.partition("ulimit")[0].replace("~/", "./no/") + 'printf %s "$GREETING"']
    assert subprocess.run(shell, capture_output=True, text=True).stdout == "it's $HOME"
    if profile != "on-premise":
        types = content["available_node_types"]
        assert types["head"]["resources"] == {"CPU": 0} and types["worker"]["resources"] == {"CPU": 8, "GPU": 1}
        assert (types["worker"]["min_workers"], types["worker"]["max_workers"], content["max_workers"]) == (0, 8, 8)
        spot = {n: "spot" in json.dumps(t["node_config"]).lower() for n, t in types.items()}
        assert spot == {"head": False, "worker": True}
        assert f"hyperloom cluster leave --spot {profile}" in worker and "--spot" not in head


def custom(content: dict[str, Any]) -> None:
    """Check a resource of KubeRay's: the custom part by its CRD, pods by Kubernetes' own schema."""
    jsonschema, validate = pytest.importorskip("jsonschema"), pytest.importorskip("kubernetes_validate")
    kinds = yaml.safe_load((SCHEMAS / "kuberay.yaml").read_text())
    spec = kinds["RayCluster"]["properties"]["spec"]

    def resolved(part: Any) -> Any:
        if isinstance(part, list):
            return [resolved(p) for p in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            return {"type": "object"} if part["$ref"] == "pod" else resolved(spec)
        return {k: resolved(v) for k, v in part.items()}

    jsonschema.validate(content, resolved(kinds[content["kind"]]))
    cluster = content["spec"].get("rayClusterSpec", content["spec"])
    for template in (cluster["headGroupSpec"]["template"], cluster["workerGroupSpecs"][0]["template"]):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, **template}
        validate.validate(pod, "1.34", strict=True)


@pytest.mark.parametrize("profile", ["rayjob", "raycluster"])
def test_kuberay_takes_it(render: Any, profile: str) -> None:
    content = yaml.safe_load(render(profile))
    custom(content)
    cluster = content["spec"].get("rayClusterSpec", content["spec"])
    assert cluster["authOptions"] == {"mode": "token"} and cluster["enableInTreeAutoscaling"] is True
    (group,) = cluster["workerGroupSpecs"]
    assert (group["minReplicas"], group["maxReplicas"]) == (0, 8)
    head, worker = cluster["headGroupSpec"]["template"]["spec"], group["template"]["spec"]
    assert worker["nodeSelector"]["cloud.google.com/gke-spot"] == "true" and "nodeSelector" not in head
    (container,) = worker["containers"]
    assert container["resources"]["limits"] == {"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": "1"}
    assert container["envFrom"] == [{"secretRef": {"name": "storage"}}]
    chosen = {e["name"]: e["valueFrom"]["secretKeyRef"] for e in container["env"] if "valueFrom" in e}
    assert chosen == {"MLFLOW_TRACKING_PASSWORD": {"name": "mlflow", "key": "MLFLOW_TRACKING_PASSWORD"}}
    for pod in (head, worker):
        hook = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
        patience = int(hook[-1])
        assert hook[:3] == ["hyperloom", "cluster", "leave"]
        assert GRACE_SECONDS < patience == 200 < pod["terminationGracePeriodSeconds"]


def test_a_cluster_of_one_size_does_not_scale(render: Any) -> None:
    content = yaml.safe_load(render("rayjob", "image: a:1\nworkers: 4"))
    custom(content)
    cluster = content["spec"]["rayClusterSpec"]
    assert "enableInTreeAutoscaling" not in cluster
    assert cluster["workerGroupSpecs"][0]["minReplicas"] == cluster["workerGroupSpecs"][0]["maxReplicas"] == 4


def test_the_cron_job_is_kubernetes_own(render: Any, tmp_path: Path) -> None:
    validate = pytest.importorskip("kubernetes_validate")
    (tmp_path / "toy.yaml").write_text(RECIPE + 'schedule: {cron: "0 3 * * *", timezone: Europe/Berlin}\n')
    content = yaml.safe_load(render("cronjob"))
    validate.validate(content, "1.34", strict=True)
    spec = content["spec"]
    assert (spec["schedule"], spec["timeZone"], spec["concurrencyPolicy"]) == ("0 3 * * *", "Europe/Berlin", "Forbid")
    job = spec["jobTemplate"]["spec"]
    pod, (container,) = job["template"]["spec"], job["template"]["spec"]["containers"]
    assert container["command"] + container["args"] == [
        "hyperloom",
        "tick",
        "toy.yaml",
        "--root",
        "s3://bucket/runs",
        "--add",
    ]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1", "the pod does the work itself"
    assert pod["terminationGracePeriodSeconds"] > GRACE_SECONDS and job["activeDeadlineSeconds"] == 6 * 3600
    rules = {r["action"]: r["onExitCodes"]["values"] for r in job["podFailurePolicy"]["rules"] if "onExitCodes" in r}
    assert set(rules["FailJob"]) == set(exits.NEVER) and exits.Exit.BUSY in rules["Ignore"]
    assert not set(rules["Ignore"]) & {exits.Exit.DONE, exits.Exit.FAILED, exits.Exit.STEP}, "these are counted"


def test_the_cron_job_looks_often_where_the_time_does_not_say_it_all(render: Any, tmp_path: Path) -> None:
    (tmp_path / "toy.yaml").write_text(RECIPE + 'schedule: {cron: "0 3 * * *", jitter: 10m}\n')
    assert yaml.safe_load(render("cronjob"))["spec"]["schedule"] == "*/15 * * * *"
    (tmp_path / "toy.yaml").write_text(RECIPE)
    assert "when?" in render("cronjob", code=2)
    spec = yaml.safe_load(render("cronjob", DEPLOYMENT + 'cron: "0 4 * * *"\ntimezone: Asia/Tokyo\n'))["spec"]
    (container,) = spec["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert (spec["schedule"], spec["timeZone"], container["args"][0]) == ("0 4 * * *", "Asia/Tokyo", "run")


def test_the_cron_job_submits_where_a_cluster_stands(render: Any, tmp_path: Path) -> None:
    (tmp_path / "toy.yaml").write_text(RECIPE + 'schedule: {cron: "0 3 * * *"}\n')
    server = "http://toy-head-svc.vision.svc:8265"
    assert server in render("raycluster"), "the cluster's file says what to write"
    deployment = DEPLOYMENT.replace("nodes: gke", f"nodes: gke, jobs: '{server}'")
    (container,) = yaml.safe_load(render("cronjob", deployment))["spec"]["jobTemplate"]["spec"]["template"]["spec"][
        "containers"
    ]
    assert container["args"][-4:] == ["--add", "--submit", "--address", server]
    assert "nvidia.com/gpu" not in container["resources"]["limits"]


def test_the_slurm_script_is_clean_shell(render: Any, tmp_path: Path) -> None:
    script = render("slurm", DEPLOYMENT, "--root", "/shared/it's here")
    assert {"#SBATCH --gres=gpu:nvidia-l4:1", "#SBATCH --time=360", "#SBATCH --signal=B:USR1@200"} < set(
        script.splitlines()
    )
    checker = Path(sys.executable).parent / "shellcheck"
    if not checker.exists():
        pytest.skip("needs shellcheck")
    (tmp_path / "job.sh").write_text(script)
    done = subprocess.run([checker, "-S", "warning", "job.sh"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "pkill" not in script


@pytest.mark.parametrize("pinned", [False, True])
def test_the_container_file_is_clean(render: Any, tmp_path: Path, pinned: bool) -> None:
    if pinned:
        (tmp_path / "constraints.txt").touch()
    text = render("container")
    assert ".[demo,s3]" in text and "-gpu\n" in text and ("-c constraints.txt" in text) is pinned
    checker = Path(sys.executable).parent / "hadolint"
    if not checker.exists():
        pytest.skip("needs hadolint")
    done = subprocess.run([checker, "-"], input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_image_has_the_ray_of_the_constraints(render: Any) -> None:
    lines = (Path(__file__).parents[2] / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    assert f"FROM rayproject/ray:{pins['ray']}-py" in render("container", "image: a:1")
    assert yaml.safe_load(render("rayjob"))["spec"]["rayClusterSpec"]["rayVersion"] == pins["ray"]


@pytest.mark.parametrize(
    ("profile", "deployment", "words"),
    [
        ("rayjob", "env: {MLFLOW_TRACKING_PASSWORD: hunter2}", "looks like a secret"),
        ("rayjob", "env: {STORE: 's3://me:hunter2@host/a'}", "looks like a secret"),
        ("rayjob", "env: {STORE: '${HOME}'}", "this machine's environment"),
        ("rayjob", "{}", "no image to run"),
        ("rayjob", "image: a:1\nworkers: [8, 2]", "fewest and the most"),
        ("rayjob", "image: a:1\nworker: {spot: true}", "kubernetes: {nodes:"),
        ("raycluster", "image: a:1\nhead: {spot: true}", "head: {spot: false}"),
        ("rayjob", "image: a:1\nvolumes: [{path: /data}]", "claim"),
        ("rayjob", "image: a:1\ngrace: 10", "greater than or equal to"),
        ("rayjob", "worker: {accelerator: l4}", "without gpus"),
        ("rayjob", "image: 'a:1; rm -rf /'", "image"),
        ("aws", "image: a:1", "aws: {region"),
        ("aws", "image: a:1\naws: {region: x}", "instance:"),
    ],
)
def test_what_cannot_be_rendered_is_said_in_one_line(render: Any, profile: str, deployment: str, words: str) -> None:
    error = render(profile, deployment, code=2)
    assert words in error and "hunter2" not in error.partition("Next:")[2] and "Traceback" not in error


def test_a_root_of_this_machine_or_with_a_password_is_refused(render: Any) -> None:
    assert "all machines see" in render("rayjob", DEPLOYMENT, "--root", "runs", code=2)
    error = render("rayjob", DEPLOYMENT, "--root", "sftp://me:hunter2@host/runs", code=2)
    assert "password" in error and "hunter2" not in error


def test_the_deployment_of_the_recipe_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMAGE", "a:1")
    indented = "".join(f"    {line}\n" for line in DEPLOYMENT.splitlines())
    (tmp_path / "toy.yaml").write_text(f"{RECIPE}cluster:\n  deployment:\n{indented}")
    assert cli.main(["cluster", "render", "rayjob", "toy.yaml"]) == 0
    custom(yaml.safe_load(capsys.readouterr().out))
    (tmp_path / "toy.yaml").write_text(f"{RECIPE}cluster: {{deployment: {{image: '${{IMAGE}}'}}}}\n")
    assert cli.main(["cluster", "render", "rayjob", "toy.yaml"]) == 2
    assert "this machine's environment" in capsys.readouterr().err
    (tmp_path / "own.yaml").write_text("name: own\nbase: toy.yaml\n")
    assert cli.main(["cluster", "render", "rayjob", "own.yaml"]) == 2, "from a base as well"
    out = capsys.readouterr()
    assert "this machine's environment" in out.err and "a:1" not in out.out
    (tmp_path / "own.yaml").write_text("name: own\nbase: toy.yaml\ncluster: {deployment: {image: 'b:1'}}\n")
    assert cli.main(["cluster", "render", "rayjob", "own.yaml"]) == 0 and "b:1" in capsys.readouterr().out
