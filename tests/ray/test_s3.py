"""A root on an S3 server: the promises of the storage, and a run, with a real server on loopback.

The server is moto in an environment of its own (`make setup-test` makes .venv-s3), since moto and s3fs want different
versions of botocore.
"""

from __future__ import annotations

import io
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline import recipe, runner, verify
from pipeline.errors import LeaseError
from pipeline.lease import Lease
from pipeline.progress import Progress
from pipeline.storage import Storage

pytest.importorskip("s3fs")
SERVER = Path(os.environ.get("HYPERLOOM_S3_SERVER") or Path(__file__).parents[2] / ".venv-s3" / "bin" / "moto_server")
pytestmark = pytest.mark.skipif(not SERVER.is_file(), reason=f"no S3 server at {SERVER} (make setup-test installs it)")

RECIPE = """\
name: toy
root: {root}
modalities: {{}}
steps:
  a: {{stage: "tests.toy:Numbers"}}
  b: {{stage: "tests.toy:Squares", data: a}}
  c: {{stage: "tests.toy:Sum", data: [a, b]}}
"""


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The URL of an empty bucket; credentials and endpoint come through the environment, as a user's would."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    server = subprocess.Popen([SERVER, "-H", "127.0.0.1", "-p", str(port)], stderr=subprocess.PIPE)
    patch = pytest.MonkeyPatch()
    patch.setenv("AWS_ACCESS_KEY_ID", "tester")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    try:
        _wait_for(port, server)
        storage = Storage("s3://hyperloom")
        storage.fs.mkdir("hyperloom")
        yield str(storage)
    finally:
        patch.undo()
        server.kill()
        server.wait()


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert server.poll() is None, server.communicate()[1].decode()
        time.sleep(0.2)
    raise AssertionError("the S3 server did not start")


def test_the_promises_of_the_storage(bucket: str) -> None:
    storage = Storage(f"{bucket}/promises")
    storage.check_writable()
    assert storage.probe_exclusive(), "this server keeps conditional writes"
    storage.write("a/one", b"1")
    storage.write("a/one", b"11")
    storage.write("a/b/two", b"2")
    assert (storage.read("a/one"), storage.size("a/one")) == (b"11", 2)
    assert storage.names("a") == ["b", "one"] and list(storage.walk("a")) == ["a/b/two", "a/one"]
    with pytest.raises(FileNotFoundError):
        storage.read("a/none")
    assert storage.size("a/none") is None and storage.names("none") == []
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda i: storage.create("race", str(i).encode()), range(8)))
    assert sum(made) == 1
    assert storage.read("race") == str(made.index(True)).encode()
    storage.delete("a")
    assert storage.names("a") == []


def test_a_run_and_a_rerun(bucket: str, tmp_path: Path) -> None:
    """The same bytes as on a local disk; the rerun finds everything; a second driver waits outside."""
    out = io.StringIO()

    def run(root: str) -> runner.Outcome:
        loaded = recipe.parse(RECIPE.format(root=root))
        return runner.run(loaded, progress=Progress(out), track=False, wait=0)

    def data(storage: Storage) -> dict[str, bytes]:
        paths = (p for p in storage.walk("") if "/data/" in p or p.endswith("manifest.json"))
        return {p: storage.read(p) for p in paths}

    here, there = Storage(str(tmp_path / "root")), Storage(f"{bucket}/runs")
    with Lease(there, "another", 0, print), pytest.raises(LeaseError, match="another"):
        run(str(there))
    assert run(str(there)).ok and run(str(here)).ok
    assert data(there) == data(here) and len(data(there)) > 3
    assert set(run(str(there)).states.values()) == {"fresh"}
    assert verify.verify(there, list(verify.manifests(there))) == []
