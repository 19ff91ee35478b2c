"""Where Ray runs, as far as it can be decided without starting one."""

from __future__ import annotations

import functools
import json
import multiprocessing
import re
import socket
import stat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from hyperloom.clusters import connect, environment, machine, skew, submit
from hyperloom.clusters.spec import Cluster, ClusterError, ClusterRefusal
from hyperloom.pipeline import cli, secrets
from hyperloom.pipeline.config import Config
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.fingerprint import payload
from hyperloom.pipeline.output import replies
from hyperloom.pipeline.recipes import recipe


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No Ray around, and a token folder of our own."""
    ours = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_JOB_CONFIG_JSON_ENV_VAR")
    for name in (*ours, "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "")  # so that what a test sets itself is taken back as well
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "ray" / "token"))


def test_the_address_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Cluster().where == "local"
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.5:6379")
    assert Cluster().where == "10.0.0.5:6379"
    assert Cluster(address="local").where == "local"
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert Cluster(address="local").where == "10.0.0.5:6379", "a job works on the cluster it was given to"


def test_a_container_has_the_cpus_of_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.quota, "cpus", lambda: None)
    own = machine.usable_cpus()
    for share, cpus in ((1.0, 1), (0.5, 1), (1.5, min(2, own)), (999.0, own)):
        monkeypatch.setattr(machine.quota, "cpus", lambda share=share: share)
        assert machine.usable_cpus() == cpus, share


def test_a_cluster_elsewhere_is_refused_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError, match="hyperloom submit"):
        Cluster(address="ray://10.0.0.5:10001")
    with pytest.raises(ClusterRefusal, match=r"^'10.0.0.5': give .* or leave `cluster: address` out"):
        _ = Cluster(address="10.0.0.5").where
    for left_over in ("ray://127.0.0.1:10001", "http://127.0.0.1:8265", "head", "head:", "10.0.0.5:port"):
        monkeypatch.setenv("RAY_ADDRESS", left_over)
        with pytest.raises(ClusterRefusal, match=r"^RAY_ADDRESS in your environment: .*hyperloom submit.*unset RAY_A"):
            _ = Cluster().where
        assert Cluster(address="local").where == "local"
    monkeypatch.setenv("RAY_ADDRESS", " ")
    assert Cluster().where == "local"


def test_who_listens_is_no_ray_or_refuses_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Told apart within seconds, without starting Ray."""
    pytest.importorskip("ray")

    problems: list[OSError] = []

    def answer(_: str, __: float) -> None:
        raise problems[-1]

    with socket.create_server(("127.0.0.1", 0)) as server:
        where = f"127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr(connect.ray_internals, "bootstrap", lambda _: where)
        monkeypatch.setattr(connect.ray_internals, "greet", answer)
        monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
        monkeypatch.setenv("RAY_ADDRESS", where)
        for problem, says in (
            (PermissionError("it is missing or incorrect"), r"refused the token \(it is missing or incorrect\)"),
            (ConnectionError("what listens there is no Ray head"), "answers at .*: what listens there is no Ray head"),
        ):
            problems.append(problem)
            with pytest.raises(ClusterError, match=f"^RAY_ADDRESS in your environment: .*{says}. Next: .*unset"):
                connect.connect(Cluster())


def test_nothing_of_it_bears_meaning() -> None:
    class Holder(Config):
        cluster: Cluster

    full = Cluster(
        address="auto",
        cpus=3,
        gpus=1,
        env={"A": "b"},
        logs=True,
        dashboard="http://x:1",
        object_store_mb=99,
        deployment={"workers": 3},
    )
    assert set(full.model_fields_set) == set(Cluster.model_fields), "a new field is not covered here"
    assert payload(Holder(cluster=full)) == payload(Holder(cluster=Cluster()))


def test_workers_get_one_thread_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYPERLOOM_FAULT", "unit.written=kill")
    monkeypatch.setenv("SECRET", "x")
    env = environment.worker_environment(Cluster(env={"AWS_ENDPOINT_URL": "http://s3"}))
    assert env["OMP_NUM_THREADS"] == "1"
    assert env["HYPERLOOM_FAULT"] == "unit.written=kill" and env["AWS_ENDPOINT_URL"] == "http://s3"
    assert "SECRET" not in env
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert environment.worker_environment(Cluster())["OMP_NUM_THREADS"] == "4"
    assert environment.worker_environment(Cluster(env={"OMP_NUM_THREADS": "2"}))["OMP_NUM_THREADS"] == "2"


def test_inside_a_job_nothing_is_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray refuses a runtime environment with a key that the job has already."""
    assert "py_modules" in connect._runtime_env(Cluster())
    job = {"runtime_env": {"working_dir": "gcs://x.zip", "env_vars": {"OMP_NUM_THREADS": "1", "A": "b"}}}
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(job))
    env = connect._runtime_env(Cluster(env={"A": "c", "LANG": "e"}))
    assert set(env) == {"env_vars", "worker_process_setup_hook"}
    assert env["env_vars"]["LANG"] == "e" and not {"A", "OMP_NUM_THREADS"} & set(env["env_vars"])
    job["runtime_env"]["worker_process_setup_hook"] = "mine.hook"
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", json.dumps(job))
    assert set(connect._runtime_env(Cluster())) == {"env_vars"}


def test_a_job_gets_the_folder_without_the_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    env = submit.runtime_env(Cluster(), str(tmp_path / "runs" / "a"), {})
    assert env["working_dir"] == str(tmp_path) and env["excludes"] == ["/runs/a/"]
    package = Path(env["py_modules"][0])
    assert package.name == "hyperloom" and {p.name for p in package.iterdir()} >= {"pipeline", "stages", "clusters"}
    assert "excludes" not in submit.runtime_env(Cluster(), "s3://bucket/runs", {})


class Server:
    """A job server that keeps what it is given."""

    def __init__(self) -> None:
        self.jobs: list[dict[str, Any]] = []
        self.stopped: list[str] = []

    def list_jobs(self) -> list[Any]:
        running = SimpleNamespace(is_terminal=lambda: False)
        return [
            SimpleNamespace(submission_id=j["submission_id"], status=running, metadata=j["metadata"])
            for j in self.jobs if j["submission_id"] not in self.stopped
        ]  # fmt: skip

    def submit_job(self, **job: Any) -> None:
        self.jobs.append(job)

    def stop_job(self, job: str) -> None:
        self.stopped.append(job)


def test_a_job_is_its_recipe_its_options_and_its_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The same again follows it, anything else is another job; what is secret is nowhere in the open."""
    pytest.importorskip("ray")
    server = Server()
    monkeypatch.setattr(submit, "_client", lambda url: server)
    monkeypatch.setattr(secrets, "_known", {})
    monkeypatch.setattr(secrets, "_pattern", None)
    monkeypatch.setenv("SALT", "canary-salt")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "toy.yaml"
    path.write_text(
        "name: toy\nroot: sftp://me:canary-pw@host/a\ncluster: {env: {KEY: canary-key, LANG: C.UTF-8}}\n"
        "modalities: {}\nsteps: {a: {stage: 'tests.toy:Numbers', salt: '${SALT}'}}\n"
    )

    def send(*options: str) -> int:
        loaded = recipe.load(path)
        cluster = Cluster.model_validate(loaded.recipe.cluster)
        reply = submit.submit(cluster, loaded, loaded.recipe.root, follow=False, options=options)
        TypeAdapter(replies.SubmitReply).validate_python(reply, strict=True)
        assert (reply["job"], reply["exit_code"]) == (server.jobs[-1]["submission_id"], None)
        return len(server.jobs)

    assert (send("--step", "a"), send("--step", "a")) == (1, 1)
    (job,) = server.jobs
    env = job["runtime_env"]
    assert job["entrypoint"] == "python -P -m hyperloom.pipeline run toy.yaml --step a"
    assert "canary" not in repr(job) and env["env_vars"]["LANG"] == "C.UTF-8"
    text = (Path(env["py_modules"][1]) / "__init__.py").read_text()
    assert all(word in text for word in ("canary-salt", "canary-key", "sftp://me:canary-pw@host/a"))
    assert send() == 2, "other options"
    (tmp_path / "plugin.py").write_text("")
    assert send() == 3, "other code"
    monkeypatch.setenv("SALT", "canary-of-another-kind")
    assert send() == 4, "another value of the environment"
    loaded = recipe.load(path)
    assert submit.stop(Cluster(), loaded, loaded.recipe.root) == [j["submission_id"] for j in server.jobs]
    assert submit.stop(Cluster(), loaded, "elsewhere") == []


def test_what_travels_with_a_job_is_received(monkeypatch: pytest.MonkeyPatch) -> None:
    module = Path(environment.module({"HL_A": "1", "HL_B": "2"}))
    assert stat.S_IMODE((module / "__init__.py").stat().st_mode) == 0o600
    monkeypatch.syspath_prepend(str(module.parent))
    monkeypatch.setenv("HL_A", "mine")
    monkeypatch.setenv("HL_B", "")
    monkeypatch.delenv("HL_B")
    environment.receive()
    assert "HL_B" not in connect.os.environ, "outside of a job nothing is taken"
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    environment.receive()
    assert (connect.os.environ["HL_A"], connect.os.environ["HL_B"]) == ("mine", "2")


def test_nodes_that_differ_are_named_together() -> None:
    mine = {"python": "3.11.7", "ray": "2.60.0", "torch": "2.9.0", "pyarrow": ""}
    theirs = {
        "10.0.0.1": dict(mine),
        "10.0.0.3": {**mine, "torch": "2.8.0"},
        "10.0.0.2": {**mine, "torch": "2.8.0", "pyarrow": "16"},
        "10.0.0.4": {**mine, "torch": ""},
    }
    first, second = skew.lines(mine, theirs)
    assert first.startswith("warning: 10.0.0.2, 10.0.0.3 has torch 2.8.0 (here 2.9.0): ")
    assert second.startswith("warning: 10.0.0.4 has torch missing (here 2.9.0): ")
    assert skew.versions()["python"] and skew.lines(mine, {}) == []


def test_the_token_is_made_once_and_for_its_owner(tmp_path: Path) -> None:
    """Several first drivers at a time end with one token."""
    context = multiprocessing.get_context("fork")
    first = [context.Process(target=connect._ensure_token) for _ in range(4)]
    for process in first:
        process.start()
    for process in first:
        process.join(30)
    assert [p.exitcode for p in first] == [0] * 4
    (file,) = (tmp_path / "ray").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    token = file.read_text()
    assert len(token) == 64
    connect._ensure_token()
    assert file.read_text() == token


@pytest.mark.parametrize("file", ["", "/proc/none/token", "empty"])
def test_a_user_without_a_home_has_a_token_for_this_process(
    file: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "empty").write_text(" \n")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / file) if file == "empty" else file)
    monkeypatch.setattr(connect.os.path, "expanduser", lambda path: path)
    monkeypatch.chdir(tmp_path)
    connect._ensure_token()
    assert len(connect.os.environ["RAY_AUTH_TOKEN"]) == 64
    assert [p.name for p in tmp_path.iterdir()] == ["empty"]


def test_the_mode_follows_the_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delitem(connect.sys.modules, "ray", raising=False)  # Ray's own state must not change
    environ = connect.os.environ
    connect.authenticate(private=False)
    assert "RAY_AUTH_MODE" not in environ, "a cluster without tokens is joined without"
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    connect.authenticate(private=True)
    assert environ["RAY_AUTH_MODE"] == "disabled", "the user's word counts"
    monkeypatch.delenv("RAY_AUTH_MODE")
    connect.authenticate(private=True)
    assert environ["RAY_AUTH_MODE"] == "token" and (tmp_path / "ray" / "token").is_file()
    monkeypatch.delenv("RAY_AUTH_MODE")
    connect.authenticate(private=False)
    assert environ["RAY_AUTH_MODE"] == "token"


def test_a_base_that_other_machines_would_not_find_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray")
    server = Server()
    monkeypatch.setattr(submit, "_client", lambda url: server)
    project = tmp_path / "project"
    (project / "deeper").mkdir(parents=True)
    monkeypatch.chdir(project)
    text = "name: base\nroot: s3://bucket/a\nmodalities: {}\nsteps: {a: {stage: 'tests.toy:Numbers'}}\n"
    for path in (tmp_path, project):
        (path / "base.yaml").write_text(text)
    deployment = "cluster: {deployment: {image: 'a:1'}}"

    def both(base: str, says: str = "") -> None:
        (project / "mid.yaml").write_text(f"name: mid\nbase: {base}\n")
        own = project / "deeper" / "own.yaml"
        own.write_text(f"name: own\nbase: ../mid.yaml\n{deployment}\n")
        loaded = recipe.load(own)
        send = functools.partial(submit.submit, Cluster(), loaded, loaded.recipe.root, follow=False)
        if not says:
            send()
        else:
            with pytest.raises(RecipeError, match=says):
                send()
        assert cli.main(["cluster", "render", "rayjob", "deeper/own.yaml"]) == (2 if says else 0)
        assert re.search(says, capsys.readouterr().err)

    both("../base.yaml", "mid.yaml:2: base: .*base.yaml is not below .*project, .* Next: cd to")
    both(str(project / "base.yaml"), "mid.yaml:2: base: /.* is an absolute path, .* Next: base: base.yaml")
    assert not server.jobs
    both("base.yaml")
    assert len(server.jobs) == 1
