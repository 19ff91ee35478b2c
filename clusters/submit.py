"""Handing a recipe to a Ray cluster as a job, and following it.

The job gets the current folder (without what git ignores), Hyperloom's own packages, and an absolute root. Its id is
`hyperloom-{recipe}-{digest}-{number}`, where the digest is of recipe, root, options and all code that travels: while
such a job runs, submitting again follows it instead of starting a second one, and two submitters that race get the same
job, since Ray refuses an id twice. Changed code is another job.

What the driver needs of the environment (variables of the recipe and of its `cluster: {env: ...}`, a root with a
password in it) travels with the code: Ray's dashboard shows entrypoints and runtime environments.

The cluster needs the libraries of the recipe's stages on its `python`; nothing is installed for a job.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlparse

from hyperloom.clusters import following
from hyperloom.clusters.connect import authenticate, package, probe
from hyperloom.clusters.environment import ROOT, early, late, module, worker_environment
from hyperloom.clusters.spec import Cluster, ClusterError, ClusterRefusal
from hyperloom.clusters.travel import refuse_bases_elsewhere
from hyperloom.pipeline.exits import Exit
from hyperloom.pipeline.fingerprint import fingerprint, payload
from hyperloom.pipeline.planning.plan import check
from hyperloom.pipeline.secrets import blot
from hyperloom.pipeline.workers import ray_internals
from hyperloom.pipeline.workers.ray_internals import CHATTY

if TYPE_CHECKING:
    from hyperloom.pipeline.output.replies import SubmitReply
    from hyperloom.pipeline.recipes.recipe import RecipeFile

LOOPBACK = ("127.0.0.1", "localhost", "::1")
READY_SECONDS = 90.0
"""A cluster that has just started answers before it can take jobs."""


def submit(
    cluster: Cluster,
    loaded: RecipeFile,
    root: str,
    address: str | None = None,
    follow: bool = True,
    options: Sequence[str] = (),
) -> SubmitReply:
    """Submit the recipe and follow its job to its exit code, which without `follow` is None.

    `root` is absolute or a URL, `address` the URL of the job server, `options` those of `hyperloom run`. Raises
    ClusterError when the server does not answer, refuses the token, or cannot take the job, and RecipeError for what
    the steps say to be wrong.
    """
    check(loaded)
    url = address or cluster.job_server
    client = _client(url)
    if "://" not in root and urlparse(url).hostname not in LOOPBACK:
        print(f"note: the root {root} must be a folder that all nodes of the cluster share", flush=True)
    if names := _pythons(Path.cwd()):
        print(
            f"note: Ray puts a job's folder before Python's own modules: rename {', '.join(names)} if it ends at once"
        )
    stem = f"hyperloom-{loaded.recipe.name}-{_identity(loaded, root, options)[:8]}"
    running, free = _of_stem(client, stem)
    job = running or _start(client, cluster, loaded, root, f"{stem}-{free}", "run", *options)
    print(f"{'following the running' if running else 'submitted'} job {job} at {url}", flush=True)
    reply: SubmitReply = {"job": job, "address": url, "already_running": running is not None, "exit_code": None}
    if not follow:
        print(f"Follow it with: ray job logs --follow --address {url} {job}")
        return reply
    try:
        return {**reply, "exit_code": int(following.follow(client, url, job))}
    except KeyboardInterrupt:
        print(f"\nthe job goes on. End it with: hyperloom cancel {loaded.path} --address {url}")
        return {**reply, "exit_code": int(Exit.INTERRUPTED)}


def submit_slot(
    cluster: Cluster, loaded: RecipeFile, root: str, address: str | None, stem: str, slot: str, most: int, *options: str
) -> str:
    """Hand a slot of a schedule to a cluster, unless a job of it is there and has not ended: the job. Of submitters
    that race all get the same. Empty where `most` jobs have ended, and the slot had not.
    """
    check(loaded)
    client = _client(address or cluster.job_server)
    running, free = _of_stem(client, stem)
    if running or free > most:
        return running or ""
    return _start(client, cluster, loaded, root, f"{stem}-{free}", "tick", "--slot", slot, *options)


def stop(cluster: Cluster, loaded: RecipeFile, root: str, address: str | None = None) -> list[str]:
    """Stop the jobs of this recipe and root that have not ended; their ids. Ray gives a driver three seconds, so ask
    it by `pipeline.running.cancelling` first."""
    client = _client(address or cluster.job_server)
    about = _about(loaded, root)
    jobs = [j.submission_id for j in client.list_jobs() if j.metadata == about and not j.status.is_terminal()]
    for job in jobs:
        client.stop_job(job)
    return jobs


def _about(loaded: RecipeFile, root: str) -> dict[str, str]:
    """What a job says of itself, whatever its code."""
    return {"hyperloom_recipe": loaded.recipe.name, "hyperloom_root": hashlib.sha256(root.encode()).hexdigest()[:16]}


def runtime_env(cluster: Cluster, root: str, variables: Mapping[str, str]) -> dict[str, Any]:
    """What travels with a job: the current folder without the root, Hyperloom itself, and the environment, in the open
    only where it must be; `variables` are more of it."""
    env = {**variables, **worker_environment(cluster)}
    modules = [package(), module(late(env))] if late(env) else [package()]
    return {"working_dir": str(Path.cwd()), **_excludes(root), "env_vars": early(env), "py_modules": modules}


def _excludes(root: str) -> dict[str, list[str]]:
    here = Path.cwd()
    inside = "://" not in root and Path(root).is_relative_to(here) and Path(root) != here
    return {"excludes": [f"/{Path(root).relative_to(here)}/"]} if inside else {}


def _identity(loaded: RecipeFile, root: str, options: Sequence[str]) -> str:
    """64 hex digits over all that a job does: its recipe, also where the environment gives values, and its code."""
    means = [payload(step, str) for step in loaded.recipe.steps.values()]
    folder = ray_internals.digest_of_folder(str(Path.cwd()), _excludes(root).get("excludes", []))
    return fingerprint([root, loaded.text, means, list(options), folder, ray_internals.digest_of_folder(package(), [])])


def _pythons(folder: Path) -> list[str]:
    """Files and packages of a folder that have the name of one of Python's own modules."""
    own = (p for p in folder.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists())
    return sorted(p.name for p in own if p.stem in sys.stdlib_module_names)


def _client(url: str) -> Any:
    """A client whose server answers and takes our token."""
    parsed = urlparse(url)
    if parsed.scheme not in ("http", "https") or not parsed.hostname:
        raise ClusterError(f"{url!r} is no URL of a job server. Next: --address http://host:8265")
    default = 443 if parsed.scheme == "https" else 80
    authenticate(private=False)
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        probe(parsed.hostname, parsed.port or default)
        with _no_other_address():
            return JobSubmissionClient(url)
    except OSError as error:
        raise ClusterError(
            f"no Ray job server answers at {url}: {error}. Next: start a cluster (ray start --head), or give its "
            "dashboard's URL with --address"
        ) from error
    except AuthenticationError as error:
        raise ClusterRefusal(
            f"the Ray cluster at {url} refused us: {str(error).splitlines()[0]} Next: put the cluster's token "
            "(`ray get-auth-token` on its head) into ~/.ray/auth_token or RAY_AUTH_TOKEN here, and RAY_AUTH_MODE=token"
        ) from error
    except RuntimeError as error:
        raise ClusterError(f"what answers at {url} is no Ray job server: {error}") from error


def _of_stem(client: Any, stem: str) -> tuple[str | None, int]:
    """The unfinished job of this recipe and root, if there is one, and the first number that is free."""
    last = 0
    for job in client.list_jobs():
        name, _, number = (job.submission_id or "").rpartition("-")
        if name != stem or not number.isdigit():
            continue
        if not job.status.is_terminal():
            return job.submission_id, 0
        last = max(last, int(number))
    return None, last + 1


def _start(
    client: Any, cluster: Cluster, loaded: RecipeFile, root: str, job: str, command: str = "run", *options: str
) -> str:
    here = Path.cwd()
    path = Path(loaded.path).resolve()
    if not path.is_relative_to(here):
        raise ClusterError(f"the recipe {path} is not below {here}, the folder that is sent. Next: cd to its project")
    refuse_bases_elsewhere(loaded)
    words = ["python", "-P", "-m", "hyperloom.pipeline", command, str(path.relative_to(here))]
    hidden = blot(root) != root
    variables = {**loaded.written.variables, **({ROOT: root} if hidden else {})}
    words += [] if hidden else ["--root", root]
    how = {
        "entrypoint": shlex.join([*words, *options]),
        "submission_id": job,
        "runtime_env": runtime_env(cluster, root, variables),
        "metadata": _about(loaded, root),
    }
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            client.submit_job(**how)
            return job
        except (RuntimeError, ValueError, OSError) as error:
            if "already exists" in str(error):
                return job  # another submitter was a moment faster; its job is ours
            if "No available agent" not in str(error) or time.monotonic() > deadline:
                raise ClusterError(
                    f"the cluster did not take the job: {error}. Next: if the folder {here} is too large, list what "
                    "need not be sent in .rayignore, with the syntax of .gitignore"
                ) from error
        time.sleep(2.0)


@contextmanager
def _no_other_address() -> Iterator[None]:
    """Ray lets RAY_ADDRESS and RAY_API_SERVER_ADDRESS overrule the address it is given; the one we chose counts."""
    hidden = {k: os.environ.pop(k) for k in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS") if k in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)
