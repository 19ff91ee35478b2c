"""A container file: Ray's image with the project in it, for pods and for `ray up`.

It is built in the project's folder, which holds the recipes and the plug-ins beside them, and either is Hyperloom's own
checkout or names Hyperloom in the deployment's `requirements`. No secret is in it.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from hyperloom.clusters.profiles.workload import Workload, ray_version

EXTRAS = {"s3": "s3", "sftp": "sftp"}
"""The extra of Hyperloom that a root needs, by its scheme."""
FOLDER = "/home/ray/project"


def container(load: Workload) -> str:
    """A Dockerfile, for docker, podman and buildah."""
    deployment = load.deployment
    extra = EXTRAS.get(load.root.partition("://")[0])
    own = ".[demo" + (f",{extra}" if extra else "") + "]"
    requirements = shlex.join(deployment.requirements or (own,))
    pinned = "-c constraints.txt " if Path("constraints.txt").is_file() else ""
    kind = "-gpu" if deployment.worker.gpus else ""
    base = f"rayproject/ray:{ray_version()}-py{sys.version_info.major}{sys.version_info.minor}{kind}"
    tag = deployment.image or "REGISTRY/NAME:TAG"
    return f"""\
# hyperloom cluster render container {load.recipe}
#   docker build -t {tag} -f FILE .     in the project's folder
#   docker push {tag}
FROM {base}
COPY --chown=ray:users . {FOLDER}
WORKDIR {FOLDER}
# hadolint ignore=DL3013
RUN pip install --no-cache-dir {pinned}{requirements}
# As the container's first process the driver gets this signal itself, and ends with what is in flight stored.
STOPSIGNAL SIGTERM
CMD {_json(load.command("run"))}
"""


def _json(command: list[str]) -> str:
    import json

    return json.dumps(command)
