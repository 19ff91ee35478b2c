"""Weights by URL and digest: fetched once, gone on with where they broke off, refused where they are another file."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hyperloom.pipeline import plugins
from hyperloom.pipeline.errors import SourceError
from hyperloom.pipeline.root.digests import Digests
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.label.hub import download

WEIGHTS = bytes(range(256)) * 40
DIGEST = hashlib.sha256(WEIGHTS).hexdigest()
NOWHERE = "http://127.0.0.1:9"


@dataclass
class FileServer:
    """Files by name; what was asked for, with the byte it starts at; how many bytes come before an answer breaks off
    (each once); answers other than 200; does it know ranges?"""

    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, int]] = field(default_factory=list)
    torn: list[int] = field(default_factory=list)
    status: dict[str, int] = field(default_factory=dict)
    ranges: bool = True
    tokens: list[str] = field(default_factory=list)
    url: str = ""


@pytest.fixture(scope="module")
def running() -> Iterator[FileServer]:
    state = FileServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.strip("/").partition("?")[0]
            state.tokens.append(self.headers.get("Authorization", ""))
            if name.startswith("moved/"):
                self.send_response(302)
                self.send_header("Location", f"/{name.removeprefix('moved/')}")
                self.end_headers()
                return
            body, start = state.files.get(name, b""), 0
            if state.ranges and (wanted := self.headers.get("Range")):
                start = int(wanted.removeprefix("bytes=").rstrip("-"))
            state.asked.append((name, start))
            status = state.status.get(name, 200 if name in state.files else 404)
            status = status if status != 200 or not start else 206 if start < len(body) else 416
            self.send_response(status)
            body = body[start:] if status < 300 else b""
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: state.torn.pop(0)] if state.torn else body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    yield state
    server.shutdown()
    server.server_close()


@pytest.fixture
def server(running: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileServer:
    running.__dict__.update(FileServer({"net.onnx": WEIGHTS}, url=running.url).__dict__)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return running


def test_a_file_is_fetched_once_and_needs_no_network_afterwards(server: FileServer) -> None:
    path = download.downloaded(f"{server.url}/moved/net.onnx?download=true", DIGEST)
    assert path.read_bytes() == WEIGHTS and path.name == "net.onnx"
    assert download.downloaded(f"{NOWHERE}/net.onnx", DIGEST) == path
    assert server.asked == [("net.onnx", 0)]


def test_a_cached_file_that_somebody_changed_is_fetched_anew(server: FileServer) -> None:
    path = download.downloaded(f"{server.url}/net.onnx", DIGEST)
    path.write_bytes(WEIGHTS[::-1])
    assert download.downloaded(f"{server.url}/net.onnx", DIGEST).read_bytes() == WEIGHTS


def test_what_breaks_off_goes_on_where_it_was(server: FileServer) -> None:
    server.torn = [4000, 3000]
    assert download.downloaded(f"{server.url}/net.onnx", DIGEST).read_bytes() == WEIGHTS
    assert server.asked == [("net.onnx", 0), ("net.onnx", 4000), ("net.onnx", 7000)]


def test_what_broke_off_for_good_is_kept_for_the_next_command(server: FileServer) -> None:
    server.torn = [4000, 0]
    with pytest.raises(ConnectionError, match=r"was not fetched: .* MB came and are kept. Next: the same command"):
        download.downloaded(f"{server.url}/net.onnx", DIGEST)
    assert download.downloaded(f"{server.url}/net.onnx", DIGEST).read_bytes() == WEIGHTS
    assert server.asked[-1] == ("net.onnx", 4000)


def test_a_server_without_ranges_sends_all_of_it_again(server: FileServer) -> None:
    server.torn, server.ranges = [4000], False
    assert download.downloaded(f"{server.url}/net.onnx", DIGEST).read_bytes() == WEIGHTS


def test_a_file_that_changed_between_two_tries_is_fetched_from_its_start(server: FileServer) -> None:
    server.files["net.onnx"] = b"older" * 3000
    server.torn = [4000, 0]
    with pytest.raises(ConnectionError):
        download.downloaded(f"{server.url}/net.onnx", DIGEST)
    server.files["net.onnx"] = WEIGHTS
    assert download.downloaded(f"{server.url}/net.onnx", DIGEST).read_bytes() == WEIGHTS


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b"other weights", "correct `sha256:`"),
        (b"\n<!DOCTYPE html><title>net.onnx</title>", "give the link of the file itself"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a pointer of Git LFS"),
        (b"", "correct `sha256:`"),
    ],
)
def test_another_file_is_refused_and_removed(server: FileServer, content: bytes, hint: str, tmp_path: Path) -> None:
    server.files["net.onnx"] = content
    with pytest.raises(SourceError, match=f"is not what the recipe says it is.*{hint}"):
        download.downloaded(f"{server.url}/net.onnx", DIGEST)
    left = {file.suffix for file in (tmp_path / "home").rglob("net.onnx*")}
    assert left <= {".lock"}, "a file of another digest was kept"


@pytest.mark.parametrize(("status", "kind"), [(404, SourceError), (403, SourceError), (503, ConnectionError)])
def test_what_a_server_refuses_is_one_sentence(server: FileServer, status: int, kind: type[Exception]) -> None:
    server.status["net.onnx"] = status
    with pytest.raises(kind, match=f"net.onnx.*the server answers {status}.*Next: "):
        download.downloaded(f"{server.url}/net.onnx", DIGEST)


def test_without_network_it_is_one_sentence() -> None:
    with pytest.raises(ConnectionError, match="was not fetched: .*refused.*give its local path"):
        download.downloaded(f"{NOWHERE}/lone.onnx", DIGEST)


def test_a_token_goes_to_the_hub_alone_and_never_along_a_redirect(
    server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    download.downloaded(f"{server.url}/net.onnx", DIGEST)
    assert server.tokens == [""]
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    server.files["other.onnx"] = b"other"
    download.downloaded(f"{server.url}/moved/other.onnx", hashlib.sha256(b"other").hexdigest())
    assert server.tokens[1:] == ["Bearer hf_x", ""]


@pytest.mark.parametrize("kind", ["onnx", "litert", "torch"])
def test_where_weights_lie_is_not_who_they_are(server: FileServer, kind: str, tmp_path: Path) -> None:
    (tmp_path / "local.onnx").write_bytes(WEIGHTS)
    digests = Digests(Storage(str(tmp_path / "root")))
    common = {"type": kind, "in": "rgb@camera", "out": "depth@net", "decode": "dense"}
    local = plugins.parse("expert", {**common, "path": str(tmp_path / "local.onnx")})
    far = plugins.parse("expert", {**common, "path": f"{NOWHERE}/net.onnx", "sha256": DIGEST})
    assert local.content(digests) == far.content(digests) == [DIGEST]
    wrong = local.model_copy(update={"sha256": DIGEST[::-1]})
    with pytest.raises(SourceError, match="local.onnx is not what the recipe says it is"):
        wrong.content(digests)


def test_an_archive_stands_for_a_model_directory(server: FileServer) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name in ("net/config.json", "net/model.safetensors"):
            archive.addfile(entry := tarfile.TarInfo(name), io.BytesIO(b"{}"[: entry.size]))
    server.files["net.tar.gz"] = packed.getvalue()
    digest = hashlib.sha256(packed.getvalue()).hexdigest()
    folder = download.unpacked(f"{server.url}/net.tar.gz", digest)
    assert {file.name for file in folder.iterdir()} == {"config.json", "model.safetensors"}
    assert download.unpacked(f"{NOWHERE}/net.tar.gz", digest) == folder


def test_a_cache_that_is_for_reading_only_serves(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a shared disk that others filled: a file without its note, an archive that is unpacked already."""

    def refused(*given: Any, **named: Any) -> None:
        raise PermissionError("read-only file system")

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("net/config.json", "{}")
    server.files["net.zip"] = packed.getvalue()
    url, digest = f"{server.url}/net.zip", hashlib.sha256(packed.getvalue()).hexdigest()
    folder = download.unpacked(url, digest)
    path = download.place(url, digest)
    path.with_name(f"{path.name}.checked").unlink()
    monkeypatch.setattr(Path, "write_text", refused)
    monkeypatch.setattr(download, "_alone", refused)
    assert download.unpacked(url, digest) == folder


def test_an_archive_that_is_damaged_is_one_sentence(server: FileServer) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", "{}" * 5000)
    damaged = bytearray(packed.getvalue())
    damaged[41:45] = b"\xff" * 4  # the first bytes of what is compressed
    server.files["net.zip"] = bytes(damaged)
    with pytest.raises(SourceError, match="is no archive that can be unpacked"):
        download.unpacked(f"{server.url}/net.zip", hashlib.sha256(damaged).hexdigest())


def test_nothing_of_an_archive_leaves_its_folder(server: FileServer, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("../../../outside.json"))
    server.files["net.tar.gz"] = packed.getvalue()
    with pytest.raises(SourceError, match="is no archive that can be unpacked"):
        download.unpacked(f"{server.url}/net.tar.gz", hashlib.sha256(packed.getvalue()).hexdigest())
    assert not list(tmp_path.rglob("outside.json"))
