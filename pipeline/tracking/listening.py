"""The port that a server of ours listens on: one that was seen to be free before the server is started. MLflow's own
ends with a success where it is not, and the URL would show somebody else's pages."""

from __future__ import annotations

import errno
import socket

from hyperloom.pipeline.errors import HyperloomError

FIRST, TRIED = 5000, 100
"""The port where nobody asked for one, and how many after it are looked at."""


def free_port(host: str, request: int | None) -> int:
    """`request`, or the first that is free from 5000 on. Raises HyperloomError where it is taken, or cannot be used."""
    first = FIRST if request is None else request
    if not 0 < first < 65536:
        raise HyperloomError(f"{first} is no port. Next: --port with one from 1024 to 65535")
    for port in range(first, min(first + TRIED, 65536)):
        problem = _problem(host, port)
        if problem is None and request in (None, port):
            return port
        if problem is None:
            raise HyperloomError(f"port {request} of {host} is taken. Next: --port {port}")
        if problem.errno != errno.EADDRINUSE:
            why = str(problem.strerror or problem).partition(" (while")[0]
            raise HyperloomError(f"cannot listen on {host}, port {port}: {why}. Next: {_next(problem)}")
    raise HyperloomError(
        f"no port from {first} on is free on {host}. Next: --port with another one, from 1024 to 65535"
    )


def url(host: str, port: int) -> str:
    """Of a server that listens on `host`."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _problem(host: str, port: int) -> OSError | None:
    """Why nobody can listen there now; None where it is free."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        return error
    return None


def _next(problem: OSError) -> str:
    return "--port with one from 1024 on" if problem.errno == errno.EACCES else "--host with an address of this machine"
