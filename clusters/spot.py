"""The notice that a cloud gives a spot machine: two minutes before it goes on AWS, half a minute on Google Cloud.

It is asked for at the machine's own metadata server. A server that does not answer has said nothing.
"""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from dataclasses import dataclass

PAUSE = 5.0
TIMEOUT = 3.0


@dataclass(frozen=True)
class Metadata:
    """A cloud's metadata server and how long before the end it speaks."""

    url: str
    seconds: float


CLOUDS = {
    "aws": Metadata("http://169.254.169.254", 110.0),
    "gcp": Metadata("http://metadata.google.internal", 25.0),
}


def announced(cloud: str, url: str = "") -> bool:
    """Has the cloud said that this machine goes? `url` stands in for its metadata server."""
    url = url or CLOUDS[cloud].url
    if cloud == "gcp":
        return _get(f"{url}/computeMetadata/v1/instance/preempted", {"Metadata-Flavor": "Google"}) == "TRUE"
    lifetime = {"X-aws-ec2-metadata-token-ttl-seconds": "60"}
    token = _get(f"{url}/latest/api/token", lifetime, "PUT")
    return token is not None and _get(f"{url}/latest/meta-data/spot/instance-action", {_TOKEN: token}) is not None


def wait(cloud: str, url: str = "", pause: float = PAUSE) -> None:
    """Return when the cloud has said it."""
    while not announced(cloud, url):
        time.sleep(pause)


_TOKEN = "X-aws-ec2-metadata-token"


def _get(url: str, headers: dict[str, str], method: str = "GET") -> str | None:
    request = urllib.request.Request(url, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            return answer.read().decode().strip()
    except (OSError, urllib.error.URLError, ValueError):
        return None
