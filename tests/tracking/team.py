"""A team's MLflow server as `mlflow/serve.sh` starts it: on a real PostgreSQL, with artifacts on a real S3 server."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.stores import servers

HERE = Path(__file__).parents[2]
BUCKET = "team"
USERS = {"ann": "ann's password 1", "bob": "bob's password 2"}
SECRETS = {"database": "secret of the database", "admin": "secret of the administrator", "key": "secret of the server"}
START_SECONDS = 120


def _programs() -> Path:
    """Where PostgreSQL's own programs lie; the test is skipped where it is not installed."""
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").is_file():
            return folder
    pytest.skip("no PostgreSQL in /usr/lib/postgresql (Debian: apt-get install postgresql)")


class Database:
    """A private PostgreSQL on loopback, run by a user without rights, as it insists on; a password is needed."""

    def __init__(self) -> None:
        programs, root = _programs(), os.geteuid() == 0
        self.folder = Path(tempfile.mkdtemp(prefix="hyperloom-postgresql-"))
        user = "postgres" if root and "postgres" in {u.pw_name for u in pwd.getpwall()} else "nobody"
        self.port, self._as = servers.free_port(), {"user": user} if root else {}
        (self.folder / "password").write_text(SECRETS["database"])
        if root:
            for path in (self.folder, self.folder / "password"):
                shutil.chown(path, user)
        initdb = [str(programs / "initdb"), "-D", str(self.folder / "data"), "-U", "mlflow", "-A", "scram-sha-256"]
        initdb += [f"--pwfile={self.folder / 'password'}", "--no-sync", "-E", "UTF8", "--locale=C"]
        subprocess.run(initdb, check=True, capture_output=True, cwd=self.folder, **self._as)
        self._command = [str(programs / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port), "-F"]
        self._command += ["-h", "127.0.0.1", "-k", str(self.folder)]
        self._log = open(self.folder / "log", "wb")  # noqa: SIM115
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            self._command, cwd=self.folder, stdout=self._log, stderr=self._log, start_new_session=True, **self._as
        )
        deadline = time.monotonic() + START_SECONDS
        ready = [str(_programs() / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        while time.monotonic() < deadline:
            if subprocess.run(ready).returncode == 0:
                return
            assert self.process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.1)
        raise AssertionError((self.folder / "log").read_text())

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        self.stop()
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass
class Team:
    """`mlflow/serve.sh`, with a database and a bucket of its own."""

    folder: Path
    database: Database
    s3: servers.Server
    port: int = field(default_factory=servers.free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """What serve.sh is given: secrets by files, one by the environment."""
        for name, secret in SECRETS.items():
            (self.folder / name).write_text(secret + "\n")
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "PYTHON": str(Path(sys.executable)),
            "MLFLOW_DATABASE": f"postgresql://mlflow@127.0.0.1:{self.database.port}/postgres",
            "MLFLOW_DATABASE_PASSWORD_FILE": str(self.folder / "database"),
            "MLFLOW_AUTH_ADMIN_PASSWORD_FILE": str(self.folder / "admin"),
            "MLFLOW_FLASK_SERVER_SECRET_KEY": SECRETS["key"],
            "MLFLOW_ARTIFACTS": f"s3://{BUCKET}/artifacts",
            "MLFLOW_S3_ENDPOINT_URL": f"http://127.0.0.1:{self.s3.port}",
            "AWS_ACCESS_KEY_ID": "tester",
            "AWS_SECRET_ACCESS_KEY": "secret of the store",
            "MLFLOW_HOST": "127.0.0.1",
            "MLFLOW_PORT": str(self.port),
            "MLFLOW_WORKERS": "1",
        }

    def start(self) -> None:
        with open(self.folder / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                [str(HERE / "mlflow" / "serve.sh")], stdout=log, stderr=log, start_new_session=True,
                env=self.environment(), cwd=self.folder,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(f"{self.url}/health", timeout=2).read()
                return
            except OSError:
                assert self.process.poll() is None, (self.folder / "server.log").read_text()[-3000:]
                time.sleep(0.2)
        raise AssertionError((self.folder / "server.log").read_text()[-3000:])

    def stop(self) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def add_users(self) -> None:
        """Let the administrator make the users."""
        import requests

        for user, password in USERS.items():
            about = {"username": user, "password": password}
            by = ("admin", SECRETS["admin"])
            answer = requests.post(f"{self.url}/api/2.0/mlflow/users/create", json=about, auth=by, timeout=30)
            answer.raise_for_status()

    def bucket(self) -> Any:
        """An fsspec file system on the S3 server."""
        import fsspec

        endpoint = {"endpoint_url": f"http://127.0.0.1:{self.s3.port}"}
        return fsspec.filesystem("s3", key="tester", secret="secret of the store", client_kwargs=endpoint)


def login(user: str) -> dict[str, str]:
    """The environment of a user of the server."""
    password = SECRETS["admin"] if user == "admin" else USERS[user]
    return {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": password}
