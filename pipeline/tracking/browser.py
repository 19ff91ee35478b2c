"""Opening a page of MLflow in a person's browser: at once, or by a small process of its own when the server answers."""

from __future__ import annotations

import subprocess
import sys

_LATER = """
import socket, sys, time, webbrowser
url, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
for _ in range(240):
    try:
        socket.create_connection((host, port), 1).close()
        webbrowser.open(url)
        break
    except OSError:
        time.sleep(0.5)
"""


def browse(url: str) -> None:
    """Open `url` now; where there is no browser nothing happens, since the URL was printed."""
    import webbrowser

    webbrowser.open(url)


def browse_later(url: str, host: str, port: int) -> None:
    """Open `url` once something listens there, within two minutes."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.Popen([sys.executable, "-P", "-c", _LATER, url, host, str(port)], start_new_session=True, **quiet)  # type: ignore[call-overload]
