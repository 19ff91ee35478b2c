"""A hub of models on this machine, that speaks as much of the Hugging Face hub's protocol as its library asks for."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pytest

from hyperloom.stages.label.hub import fetch, loading

COMMIT = hashlib.sha1(b"commit").hexdigest()


@dataclass
class Hub:
    """Models by name, each a folder; what was asked for; and what goes wrong: bytes after which a file breaks off
    (once), files whose content is another than was promised, models that want a token."""

    models: dict[str, Path]
    licence: str = "apache-2.0"
    asked: list[str] = field(default_factory=list)
    torn: dict[str, int] = field(default_factory=dict)
    other: dict[str, bytes] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    any_revision: bool = False
    """Are models the same at every commit that is asked for?"""
    url: str = ""

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of a request."""
        parts = unquote(urlparse(path).path).strip("/").split("/")
        name = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
        if name not in self.models:
            return 404, {"X-Error-Code": "RepoNotFound"}, b""
        if name in self.closed:
            return 401, {"X-Error-Code": "GatedRepo"}, b""
        if parts[0] == "api":
            revision = "/".join(parts[5:]) or "main"
            if revision not in ("main", COMMIT) and not self.any_revision:
                return 404, {"X-Error-Code": "RevisionNotFound"}, b""
            sha = revision if self.any_revision and len(revision) == 40 else COMMIT
            body = self._tree(name) if parts[4] == "tree" else self._about(name) | {"sha": sha}
            return 200, {"Content-Type": "application/json"}, json.dumps(body).encode()
        return self._file(name, "/".join(parts[4:]), parts[3] if len(parts[3]) == 40 else COMMIT)

    def _entries(self, name: str) -> Iterator[tuple[str, bytes, str, bool]]:
        for file in sorted(self.models[name].iterdir()):
            data = file.read_bytes()
            large = file.suffix == ".safetensors"
            digest = hashlib.sha256(data) if large else hashlib.sha1(b"blob %d\0" % len(data) + data)
            yield file.name, data, digest.hexdigest(), large

    def _about(self, name: str) -> dict[str, Any]:
        siblings = [
            {"rfilename": file, "size": len(data), "blobId": digest[:40]}
            | ({"lfs": {"sha256": digest, "size": len(data), "pointerSize": 130}} if large else {})
            for file, data, digest, large in self._entries(name)
        ]
        card = {"license": self.licence} if self.licence else {}
        return {"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings, "cardData": card, "tags": []}

    def _tree(self, name: str) -> list[dict[str, Any]]:
        return [
            {"type": "file", "path": file, "size": len(data), "oid": digest[:40]}
            | ({"lfs": {"oid": digest, "size": len(data), "pointerSize": 130}} if large else {})
            for file, data, digest, large in self._entries(name)
        ]

    def _file(self, name: str, wanted: str, commit: str) -> tuple[int, dict[str, str], bytes]:
        for file, data, digest, large in self._entries(name):
            if file == wanted:
                linked = {"X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(data))} if large else {}
                headers = {"ETag": f'"{digest}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes", **linked}
                return 200, headers, self.other.get(file, data)
        return 404, {"X-Error-Code": "EntryNotFound"}, b""


def alone(patch: pytest.MonkeyPatch, hub: Hub, home: Path) -> None:
    """This hub, and a cache of one's own. The library's own settings are read at its import."""
    from huggingface_hub import constants

    patch.setenv("HF_ENDPOINT", hub.url)
    patch.setenv("HF_HOME", str(home))
    patch.setenv("HF_HUB_DISABLE_XET", "1")
    patch.delenv("HF_HUB_OFFLINE", raising=False)
    patch.setattr(loading, "OFFLINE", None)
    patch.setattr(fetch, "OFFLINE", None)
    patch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    patch.setattr(constants, "HF_HUB_OFFLINE", False)


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The hub at `hub.url` inside the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            hub.asked.append(f"{self.command} {self.path}")
            status, headers, body = hub.answer(self.path)
            total = len(body)
            if (start := self.headers.get("Range")) and status == 200:
                first = int(start.removeprefix("bytes=").partition("-")[0])
                status, body = 206, body[first:]
                headers["Content-Range"] = f"bytes {first}-{total - 1}/{total}"
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                name = self.path.rpartition("/")[2]
                part = hub.torn.pop(name, None)
                self.wfile.write(body[:part])
                if part is not None:
                    self.close_connection = True

        do_HEAD = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
