"""Roots on stores of every kind: a server, the line to it, and what its user would have in the environment."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from hyperloom.pipeline.root.storage import S3_CONFIG, Storage
from tests.stores import servers


@dataclass
class Store:
    """`url` leads through `line` to `server`, which keeps its files in `folder` (moto: nowhere)."""

    kind: str
    url: str
    server: servers.Server
    line: servers.Line
    folder: Path

    @property
    def lasting(self) -> bool:
        """Does it keep its data when it is killed?"""
        return self.kind != "moto"


@contextmanager
def opened(kind: str, folder: Path) -> Iterator[Store]:
    """A store of this kind: moto (S3 with conditional writes), rclone (S3 without), sshd (SFTP)."""
    import s3fs

    (folder / "files").mkdir()
    starts = {"moto": servers.moto, "rclone": lambda: servers.rclone(folder / "files")}
    server = starts.get(kind, lambda: servers.sshd(folder))()
    line = servers.Line(server.port)
    patch = pytest.MonkeyPatch()
    patch.setenv("AWS_ACCESS_KEY_ID", "tester")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-test")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{line.port}")
    patch.setenv("HOME", str(folder))
    patch.setitem(S3_CONFIG, "read_timeout", 10)  # rclone's server leaves a request unanswered now and then
    url = "s3://hyperloom"
    if kind == "sshd":
        servers.trust(folder, line.port)
        url = f"sftp://{getpass.getuser()}@127.0.0.1:{line.port}{folder}/files"
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        if kind != "sshd":
            Storage(url).fs.mkdir("hyperloom")
        yield Store(kind, url, server, line, folder / "files")
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
        patch.undo()
        line.close()
        server.kill()
