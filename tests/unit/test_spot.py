"""What a spot machine hears from its cloud, over a metadata server like the cloud's."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from hyperloom.clusters import spot


class Metadata(http.server.BaseHTTPRequestHandler):
    """AWS's paths want a token first, Google's a header."""

    taken = False

    def do_PUT(self) -> None:
        self._answer("secret" if self.headers.get("X-aws-ec2-metadata-token-ttl-seconds") else None)

    def do_GET(self) -> None:
        if self.path == "/computeMetadata/v1/instance/preempted" and self.headers.get("Metadata-Flavor") == "Google":
            self._answer("TRUE" if Metadata.taken else "FALSE")
        elif self.path.endswith("/spot/instance-action") and self.headers.get("X-aws-ec2-metadata-token") == "secret":
            self._answer('{"action": "terminate"}' if Metadata.taken else None)
        else:
            self._answer(None)

    def _answer(self, text: str | None) -> None:
        self.send_response(404 if text is None else 200)
        self.end_headers()
        self.wfile.write((text or "").encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def metadata() -> Iterator[str]:
    Metadata.taken = False
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metadata) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("cloud", ["aws", "gcp"])
def test_a_machine_hears_that_it_is_taken_away(metadata: str, cloud: str) -> None:
    assert not spot.announced(cloud, metadata)
    threading.Timer(0.1, lambda: setattr(Metadata, "taken", True)).start()
    spot.wait(cloud, metadata, pause=0.02)
    assert spot.announced(cloud, metadata)


def test_a_server_that_is_away_has_said_nothing() -> None:
    assert not spot.announced("aws", "http://127.0.0.1:9") and not spot.announced("gcp", "http://127.0.0.1:9")
