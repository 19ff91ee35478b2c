"""The machines that a recipe is given, in one typed spec: the source of all that `hyperloom cluster render` makes.

It stands in the recipe (`cluster: {deployment: ...}`) or in a YAML file of its own. All of it is placement. Secrets are
references: the name of a Kubernetes Secret, which elsewhere is the name of a file of variables. No value of a secret
has a field here, and a plain variable whose name or value speaks of one is refused.

    cluster:
      deployment:
        image: registry.example/hyperloom:1
        workers: [0, 8]                                     # fewest and most: the cluster grows and shrinks between
        worker: {cpus: 8, memory_gb: 32, gpus: 1, accelerator: nvidia-l4, spot: true}
        secrets: [storage]                                  # Secret `storage`, or ~/.config/hyperloom/storage.env
        env: {MLFLOW_TRACKING_URI: "http://mlflow:5000"}
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, StringConstraints, ValidationError, field_validator, model_validator

from hyperloom.pipeline.config import Config, placement
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.host.ending import GRACE_SECONDS
from hyperloom.pipeline.recipes.written import Written
from hyperloom.pipeline.secrets import blot

NAME = r"^[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?$"
VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"
MARGIN_SECONDS = 30
"""Between the end of a driver's own grace and the moment at which its machine may be taken away."""
LEAST_GRACE = int(GRACE_SECONDS) + MARGIN_SECONDS

DnsLabel = Annotated[str, StringConstraints(pattern=NAME)]
Variable = Annotated[str, StringConstraints(pattern=VARIABLE)]
Word = Annotated[str, StringConstraints(pattern=r"^[^\s'\"\\$`;&|<>]+$")]
"""A word that means itself in a shell, in YAML and in a container file."""


class DeploymentError(RecipeError):
    """What a deployment says cannot be, or it lacks what a profile needs."""


class Machine(Config):
    """One machine, pod or node."""

    cpus: int = placement(4, ge=1)
    memory_gb: int = placement(16, ge=1)
    gpus: int = placement(0, ge=0)
    accelerator: Word | None = placement(None)
    """The GPU's type as the platform names it: `nvidia-l4` (Google Cloud), `NVIDIA-L4` (the label of NVIDIA's operator
    on Kubernetes), `l4` (Slurm's gres). On AWS the instance has it."""
    instance: Word | None = placement(None)
    """The machine type of a cloud: `g6.2xlarge`, `n2-standard-8`."""
    spot: bool = placement(False)
    """Cheaper machines that may be taken away at a short notice."""
    labels: dict[str, str] = placement(default_factory=dict)
    """Labels of the Kubernetes nodes that this may run on."""

    @model_validator(mode="after")
    def _consistent(self) -> Machine:
        if self.accelerator and not self.gpus:
            raise ValueError(f"accelerator {self.accelerator!r} without gpus: say how many")
        return self


class Secret(Config):
    """A reference to variables that a secret store holds."""

    name: DnsLabel
    """The Kubernetes Secret of the deployment's namespace; on machines the file `~/.config/hyperloom/{name}.env`, mode
    0600, with a line VARIABLE=value for each."""
    variables: tuple[Variable, ...] = placement(())
    """On Kubernetes these alone; by default all that the Secret has."""

    @property
    def file(self) -> str:
        return f"~/.config/hyperloom/{self.name}.env"


class Volume(Config):
    """A folder that all machines see."""

    path: Word
    claim: DnsLabel | None = placement(None)
    """The PersistentVolumeClaim (Kubernetes). Machines have the folder mounted."""
    read_only: bool = placement(False)


class Aws(Config):
    """Where `ray up` makes machines on AWS."""

    region: Word
    profile: Word | None = placement(None)
    """ARN of the instance profile: the role that reads the bucket, so that no key is needed."""
    ami: Word | None = placement(None)
    subnets: tuple[Word, ...] = placement(())
    disk_gb: int = placement(200, ge=50)


class Gcp(Config):
    """Where `ray up` makes machines on Google Cloud."""

    project: Word
    region: Word
    zone: Word
    service_account: Word | None = placement(None)
    """E-mail of the account whose rights the machines have."""
    disk_image: Word = placement("projects/deeplearning-platform-release/global/images/family/common-cpu")
    disk_gb: int = placement(200, ge=50)


class OnPremise(Config):
    """Machines that are reached by ssh."""

    head: Word
    workers: tuple[Word, ...]
    user: Word = placement("ray")


class Kubernetes(Config):
    """Where KubeRay makes pods."""

    namespace: DnsLabel = placement("default")
    service_account: DnsLabel | None = placement(None)
    nodes: Literal["gke", "eks", "karpenter", "aks"] | None = placement(None)
    """Who makes the nodes: decides the labels by which spot nodes are known."""
    jobs: Word | None = placement(None)
    """URL of the job server of a cluster that stands (`render raycluster` makes one). With it the CronJob's small pod
    submits there; without, it does the work itself, with a worker's resources."""


class Slurm(Config):
    """What sbatch is asked for beside machines."""

    partition: Word | None = placement(None)
    account: Word | None = placement(None)
    qos: Word | None = placement(None)


class Deployment(Config):
    """Machines, what runs on them, and for how long."""

    name: DnsLabel | None = placement(None)
    """Of the cluster; by default made from the recipe's."""
    image: Word | None = placement(None)
    """The container image (`render container` makes its file), with its tag."""
    folder: Word = placement("~/hyperloom")
    """Where machines without images have the project: recipes, and `.venv` with Hyperloom."""
    requirements: tuple[str, ...] = placement(())
    """What the image installs; by default the project in the current folder, with what its root needs."""
    head: Machine = placement(default_factory=lambda: Machine(cpus=2, memory_gb=8))
    """Runs the driver and no units."""
    worker: Machine = placement(default_factory=Machine)
    workers: Annotated[int, Field(ge=0)] | tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=1)]] = placement(
        2
    )
    """How many, or fewest and most."""
    env: dict[Variable, str] = placement(default_factory=dict)
    secrets: tuple[Secret, ...] = placement(())
    volumes: tuple[Volume, ...] = placement(())
    grace: int = placement(LEAST_GRACE + 30, ge=LEAST_GRACE)
    """Seconds between a machine's notice and its end: what is in flight is finished or stored."""
    retries: int = placement(3, ge=0, le=100)
    """How often a run is started again that ended for a reason which may pass."""
    hours: float | None = placement(None, gt=0)
    """The longest that one start may take; the next one goes on."""
    idle_minutes: int = placement(5, ge=1)
    """An autoscaling cluster gives a machine back that had nothing to do for so long."""
    cron: str | None = placement(None)
    """When the CronJob looks whether the recipe is due: by default at the times of the recipe's own schedule."""
    timezone: str | None = placement(None)
    aws: Aws | None = placement(None)
    gcp: Gcp | None = placement(None)
    on_premise: OnPremise | None = placement(None)
    kubernetes: Kubernetes = placement(default_factory=Kubernetes)
    slurm: Slurm = placement(default_factory=Slurm)

    @field_validator("secrets", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return [{"name": v} if isinstance(v, str) else v for v in value] if isinstance(value, list | tuple) else value

    @field_validator("env")
    @classmethod
    def _plain(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if blot(f"{name}={text or '-'}") != f"{name}={text or '-'}":
                raise ValueError(
                    f"{name} looks like a secret, and what is rendered is no place for one. Next: put it into a secret "
                    f"store and its name here: secrets: [{{name: ..., variables: [{name}]}}]"
                )
        return value

    @model_validator(mode="after")
    def _ordered(self) -> Deployment:
        if self.least > self.most:
            raise ValueError(f"workers: [{self.least}, {self.most}] are the fewest and the most, in this order")
        if self.most == 0:
            raise ValueError("workers: 0 leaves nobody to work; give a number, or [0, most] for a cluster that grows")
        return self

    @property
    def least(self) -> int:
        return self.workers if isinstance(self.workers, int) else self.workers[0]

    @property
    def most(self) -> int:
        return self.workers if isinstance(self.workers, int) else self.workers[1]

    @property
    def elastic(self) -> bool:
        return self.least < self.most


def read(written: Written, section: Deployment | None, file: str | None) -> Deployment:
    """The deployment of a YAML file, else of the recipe: its `section`, and what is `written` in the recipe.

    Raises DeploymentError where it cannot be read, or takes values from this machine's environment: what is rendered
    goes elsewhere.
    """
    if file is None:
        content = None
        outside = any(where[:2] == ("cluster", "deployment") for where in written.given)
    else:
        try:
            content = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise DeploymentError(f"cannot read the deployment {file}: {error}. Next: give a YAML file") from error
        outside = "${" in str(content)
    if outside:
        what = "a value from this machine's environment (${...}) would be written into what is rendered"
        raise DeploymentError(
            f"{file or 'cluster: deployment'}: {what}. Next: write plain values, and name what is secret under secrets:"
        )
    if file is None:
        return section or Deployment()
    try:
        return Deployment.model_validate(content or {})
    except ValidationError as error:
        lines = [
            f"{file}: {'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ')}" for e in error.errors()
        ]
        raise DeploymentError("\n".join(lines)) from error
