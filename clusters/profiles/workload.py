"""A workload: a recipe, its root and the machines it is given. What all profiles say of it in the same way."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from hyperloom.clusters.deployment import Deployment, DeploymentError
from hyperloom.pipeline.secrets import blot

if TYPE_CHECKING:
    from hyperloom.pipeline.recipes.schedule import CronSchedule

VENV = ".venv/bin/activate"


@dataclass(frozen=True)
class Workload:
    """`recipe` is the recipe's path within the project, `root` a URL or an absolute folder, `schedule` the
    recipe's."""

    recipe: str
    root: str
    deployment: Deployment
    name: str
    schedule: CronSchedule | None = None

    @staticmethod
    def of(recipe: str, title: str, root: str, deployment: Deployment, schedule: CronSchedule | None) -> Workload:
        """`title` is the recipe's name, `schedule` its schedule. Raises DeploymentError for a root that machines do not
        share."""
        if blot(root) != root:
            raise DeploymentError("the root's URL holds a name or password. Next: leave them out, and name the secret")
        if "://" not in root and not root.startswith("/"):
            raise DeploymentError(
                f"the root {root!r} is a folder of this machine. Next: --root with a URL, or with the absolute path "
                "of a folder that all machines see"
            )
        name = deployment.name or re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:40].strip("-") or "hyperloom"
        return Workload(recipe, root, deployment, name, schedule)

    def command(self, name: str, *more: str) -> list[str]:
        """`hyperloom NAME RECIPE --root ROOT ...`."""
        return ["hyperloom", name, self.recipe, "--root", self.root, *more]

    def shown(self, name: str, *more: str) -> str:
        """The same as a shell reads it."""
        return shlex.join(self.command(name, *more))

    @property
    def image(self) -> str:
        """Raises DeploymentError where there is none."""
        if self.deployment.image is None:
            raise DeploymentError(
                "no image to run. Next: `hyperloom cluster render container` makes the file of one; build and push it, "
                "and name it in the deployment: image: registry/name:tag"
            )
        return self.deployment.image


def ray_version() -> str:
    """The version of Ray here, which the machines must have as well. Raises DeploymentError where there is none."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("ray")
    except PackageNotFoundError as error:
        raise DeploymentError("Ray is not installed here. Next: pip install 'hyperloom[ray]'") from error


def document(comment: str, *content: dict[str, Any]) -> str:
    """YAML of one or more documents under a comment."""
    lines = "".join(f"# {line}".rstrip() + "\n" for line in comment.strip().splitlines())
    return lines + "---\n".join(yaml.dump(c, Dumper=_Plain, sort_keys=False, width=120) for c in content)


class _Plain(yaml.SafeDumper):
    """No anchors: each part can be read, and changed, where it stands."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
