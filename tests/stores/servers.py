"""Real store servers on loopback for the tests: moto and rclone for S3, OpenSSH for SFTP, and a line that can break.

Each function gives a server that answers on its port; `start` after `kill` brings it up again with the same data.
"""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

HERE = Path(__file__).parents[2]
S3_PROGRAMS = Path(os.environ.get("HYPERLOOM_S3_SERVER") or HERE / ".venv-s3" / "bin")


class Server:
    """A program that listens on a port of loopback."""

    def __init__(self, command: Sequence[str], port: int, env: dict[str, str] | None = None):
        self.command, self.port, self.env = command, port, env
        self.start()

    def start(self) -> None:
        # a file, not a pipe: a server that writes a line a request would stand still once nobody empties it
        self.words = tempfile.TemporaryFile()  # noqa: SIM115 (closed by kill)
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=self.words, env=self.env)
        for _ in range(300):
            if answers(self.port):
                return
            if self.process.poll() is not None:
                self.words.seek(0)
                raise AssertionError(f"{self.command[0]} ended: {self.words.read().decode()[-2000:]}")
            time.sleep(0.1)
        self.kill()
        raise AssertionError(f"{self.command[0]} did not answer on port {self.port}")

    def kill(self) -> None:
        """At once, with everything it started (an sshd has processes for each connection)."""
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    child.kill()
        self.process.kill()
        self.process.wait()
        self.words.close()


class Line:
    """A way to a server that breaks after `limit` more bytes from the client, for as long as `limit` is not None."""

    def __init__(self, port: int):
        self.limit: int | None = None
        self._to = port
        self._lock = threading.Lock()
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = self._door.getsockname()[1]
        self.broken = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._door.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._door.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                client.close()
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for source, to, counted in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._carry, args=(source, to, counted), daemon=True).start()

    def _carry(self, source: socket.socket, to: socket.socket, counted: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if counted and not self._passes(len(data)):
                    for end in (source, to):
                        end.shutdown(socket.SHUT_RDWR)
                    return
                to.sendall(data)
        with suppress(OSError):
            to.shutdown(socket.SHUT_WR)

    def _passes(self, size: int) -> bool:
        with self._lock:
            if self.limit is None:
                return True
            self.limit -= size
            self.broken += self.limit < 0
            return self.limit >= 0


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def program(name: str, *places: Path) -> str:
    """The path of a program; the test is skipped where it is not installed."""
    for place in places:
        if (place / name).is_file():
            return str(place / name)
    pytest.skip(f"no {name} in {', '.join(map(str, places))} (make setup-test, or .ci/run, installs it)")


def moto() -> Server:
    """S3 with conditional writes. Holds what it is given in memory."""
    port = free_port()
    return Server([program("moto_server", S3_PROGRAMS), "-H", "127.0.0.1", "-p", str(port)], port)


def rclone(folder: Path) -> Server:
    """S3 without conditional writes: the folders in `folder` are its buckets."""
    port = free_port()
    command = [program("rclone", S3_PROGRAMS), "serve", "s3", str(folder), "--addr", f"127.0.0.1:{port}"]
    command += ["--auth-key", "tester,secret-of-the-test", "--config", "/dev/null"]
    return Server(command, port)


def sshd(home: Path) -> Server:
    """OpenSSH for this user, with keys made in `home`, which becomes the home of the client too."""
    place = program("sshd", Path("/usr/sbin"), Path("/usr/local/sbin"))
    keygen = program("ssh-keygen", Path("/usr/bin"), Path("/usr/local/bin"))
    port, ssh = free_port(), home / ".ssh"
    ssh.mkdir(mode=0o700, parents=True, exist_ok=True)
    for key in (ssh / "id_ed25519", ssh / "host_key"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    config = {
        "ListenAddress": "127.0.0.1", "Port": port, "HostKey": ssh / "host_key", "PidFile": "none", "UsePAM": "no",
        "AuthorizedKeysFile": ssh / "id_ed25519.pub", "StrictModes": "no", "PasswordAuthentication": "no",
        "PermitRootLogin": "prohibit-password", "Subsystem": "sftp internal-sftp", "MaxStartups": "100",
    }  # fmt: skip
    (ssh / "sshd_config").write_text("".join(f"{name} {value}\n" for name, value in config.items()))
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where root's sshd locks its children in
    return Server([place, "-D", "-e", "-f", str(ssh / "sshd_config")], port)


def trust(home: Path, port: int, key: str = "host_key.pub") -> None:
    """Write the public key `key` into the known hosts of `home`, for whoever listens on `port`."""
    ssh = home / ".ssh"
    (ssh / "known_hosts").write_text(f"[127.0.0.1]:{port} {(ssh / key).read_text()}")
