"""A server that speaks what the `http` experts speak, as a process of its own: `python -m tests.experts.server FOLDER`.

It writes its port to FOLDER/port and a line of JSON to FOLDER/log for each request: path, digest of the question,
status, when it came and when it went, and how many were under way. It answers what it is told by the question itself.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np

KEY = "sk-this-must-never-be-seen"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder: Path
    lock = threading.Lock()
    asked: Counter[str] = Counter()
    now = 0

    def do_POST(self) -> None:
        came = time.monotonic()
        data = self.rfile.read(int(self.headers["Content-Length"]))
        digest = hashlib.sha256(data).hexdigest()
        with Handler.lock:
            Handler.now += 1
            here, times = Handler.now, Handler.asked[digest]
            Handler.asked[digest] += 1
        try:
            status, answer, headers = self._answer(json.loads(data), times)
        except Exception as error:
            status, answer, headers = 400, {"error": repr(error)}, {}
        with Handler.lock:
            Handler.now -= 1
            line = {"path": self.path, "question": digest, "status": status, "came": came, "went": time.monotonic()}
            with open(self.folder / "log", "a") as log:
                log.write(json.dumps({**line, "here": here}) + "\n")
        body = json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _answer(self, asked: Any, times: int) -> tuple[int, Any, dict[str, str]]:
        time.sleep(float(asked.get("pause", 0)))
        if self.path.startswith("/v1/") and self.headers["Authorization"] != f"Bearer {KEY}":
            return 401, {"error": f"wrong key {self.headers['Authorization']}"}, {}
        busy = asked.get("busy")
        if busy == "always":
            return 429, {"error": "go away"}, {"Retry-After": "3600"}
        if busy == "first" and times == 0:
            return 429, {"error": "slow down"}, {"Retry-After": "1"}
        if busy == "broken" and times < 2:
            return 503, {"error": "restarting"}, {}
        if self.path == "/v1/chat/completions":
            return 200, {"choices": [{"message": {"content": self._say(asked)}}]}, {}
        if self.path == "/v1/embeddings":
            if any("bad" in text for text in asked["input"]):
                return 400, {"error": "one of these is bad"}, {}
            entries = [{"index": i, "embedding": [len(t), t.count("o")]} for i, t in enumerate(asked["input"])]
            return 200, {"data": entries[::-1]}, {}
        if self.path == "/v2/models/double/infer":
            (tensor,) = asked["inputs"]
            assert tensor["datatype"] == "UINT8" and len(tensor["data"]) == np.prod(tensor["shape"])
            (count, channels, *size), data = tensor["shape"], np.array(tensor["data"]).reshape(tensor["shape"])
            assert channels == 3
            red = data[:, 0].astype(float) * 2
            output = {"name": "doubled", "datatype": "FP32", "shape": [count, *size, 1], "data": red.ravel().tolist()}
            return 200, {"outputs": [output]}, {}
        if self.path == "/measure":
            return 200, {"found": {"red": [float(picture(asked["rgb"])[..., 0].mean()), 1.5]}}, {}
        return 404, {"error": "no such route"}, {}

    def _say(self, asked: Any) -> str:
        content = asked["messages"][-1]["content"]
        if isinstance(content, str):
            return json.dumps({"mood": "good" if "love" in content else "bad", "length": len(content)})
        (text,) = [p["text"] for p in content if p["type"] == "text"]
        (url,) = [p["image_url"]["url"] for p in content if p["type"] == "image_url"]
        assert asked["model"] == "eye" and text == "Is it dark?"
        red = picture(url.partition("base64,")[2])[..., 0].mean()
        return "I cannot say" if red == 5 else "Dark." if red < 100 else "**bright**"

    def log_message(self, *_: Any) -> None:
        pass


def picture(text: str) -> np.ndarray:
    return cv2.cvtColor(
        cv2.imdecode(np.frombuffer(base64.b64decode(text), np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB
    )


def main() -> None:
    Handler.folder = Path(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    temporary = Handler.folder / "port.tmp"
    temporary.write_text(str(server.server_port))
    temporary.rename(Handler.folder / "port")
    server.serve_forever()


if __name__ == "__main__":
    main()
