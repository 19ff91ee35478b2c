"""SFTP: what `pipeline.root.storage` promises, kept over a connection that has no such promises.

A file is written under a temporary name and renamed when all of it has arrived: over an old file with OpenSSH's
`posix-rename`, exclusively with the plain rename of the protocol, which OpenSSH refuses where something is there
(other servers may not; storage asks them with its probe). Every thread has a connection of its own, since one cannot
be shared, and a connection that dropped is made again by the next call. No wait is unbounded. A host key that differs
from the one in ~/.ssh/known_hosts is refused, an unknown host trusted (FSSPEC_SFTP_HOST_KEY_POLICY=reject refuses it
too). Keys come from ~/.ssh and the agent, further options of paramiko's `connect` from FSSPEC_SFTP_*.
"""

from __future__ import annotations

import logging
import random
import threading
import time
import uuid
from typing import Any

from hyperloom.pipeline.errors import PluginError

PATIENCE = {"timeout": 15.0, "banner_timeout": 15.0, "auth_timeout": 15.0}
"""Seconds to connect, for the server's first word, and to be let in."""
PAUSES = (0.2, 0.5, 1.0, 2.0)
"""Seconds between attempts to get a word from a server that hangs up at once."""
AT_ONCE = 3.0
"""A server that took longer to say nothing is not asked again."""
SILENCE = 60.0
"""Seconds without an answer after which a connection counts as dropped."""


class Sftp:
    """The connections to one server, one a thread."""

    def __init__(self, url: str):
        self.url = url
        self._own = threading.local()
        try:
            import paramiko  # noqa: F401
        except ImportError as error:
            raise PluginError(f"{url} needs paramiko. Next: pip install 'hyperloom[sftp]'") from error
        logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # else it prints tracebacks of what it also raises

    @property
    def fs(self) -> Any:
        """This thread's fsspec file system, connected. Raises OSError or paramiko's SSHException."""
        fs = getattr(self._own, "fs", None)
        if fs is None or not fs.client.get_transport().is_active():
            fs = self._own.fs = _patiently(self.url)
        return fs

    def drop(self) -> None:
        """Have this thread's next call connect anew: after an error the old connection may be dead and not know it."""
        self._own.fs = None

    def write(self, path: str, data: bytes, exclusive: bool) -> bool:
        """Put `data` at `path` in one step; False when `exclusive` and something is there. Raises as paramiko does."""
        fs, folder = self.fs, path.rpartition("/")[0]
        temporary = f"{folder}/.tmp-{uuid.uuid4().hex}"
        try:
            try:
                self._send(temporary, data)
            except FileNotFoundError:
                _make_folder(fs, folder)
                self._send(temporary, data)
            if not exclusive:
                fs.ftp.posix_rename(temporary, path)
                return True
            try:
                fs.ftp.rename(temporary, path)
            except OSError:
                if not fs.exists(path):
                    raise
                fs.ftp.remove(temporary)
                return False
            return True
        except Exception:
            _forget(fs, temporary)
            raise

    def _send(self, path: str, data: bytes) -> None:
        ftp = self.fs.ftp
        with ftp.open(path, "wb") as file:
            file.set_pipelined(True)  # an answer for every 32 kB would cost a round trip each
            file.write(data)
        arrived = ftp.stat(path).st_size
        if arrived != len(data):
            raise OSError(f"only {arrived} of {len(data)} bytes arrived; is the server's disk full?")


def _make_folder(fs: Any, folder: str) -> None:
    """A folder and those above it, also while others make the same ones."""
    for _ in range(folder.count("/")):
        try:
            fs.makedirs(folder, exist_ok=True)
            return
        except OSError:  # somebody was quicker at one of them: the next attempt finds it there
            if fs.exists(folder):
                return
    fs.makedirs(folder, exist_ok=True)


def _patiently(url: str) -> Any:
    """A connection; asked for again after a moment where the server hung up before its first word, as sshd does at
    random while many are at its door (MaxStartups)."""
    import paramiko

    for pause in PAUSES:
        began = time.monotonic()
        try:
            return _connected(url)
        except (paramiko.SSHException, EOFError, ConnectionResetError) as error:
            hung_up = "banner" in str(error) or isinstance(error, EOFError | ConnectionResetError)
            if not hung_up or time.monotonic() - began > AT_ONCE:
                raise
            time.sleep(pause * (0.5 + random.random()))
    return _connected(url)


def _connected(url: str) -> Any:
    import paramiko
    from fsspec.implementations.sftp import SFTPFileSystem

    class FileSystem(SFTPFileSystem):
        """With known hosts, and no unbounded wait."""

        def _connect(self) -> None:
            self.client = paramiko.SSHClient()
            self.client.load_system_host_keys()
            self.client.set_missing_host_key_policy(self.host_key_policy)
            self.client.connect(self.host, **{**PATIENCE, **self.ssh_kwargs})
            self.client.get_transport().set_keepalive(15)
            self.ftp = self.client.open_sftp()
            self.ftp.get_channel().settimeout(SILENCE)

    return FileSystem(skip_instance_cache=True, **FileSystem._get_kwargs_from_urls(url))


def _forget(fs: Any, path: str) -> None:
    try:
        fs.ftp.remove(path)
    except Exception:  # the connection is gone; readers pass over temporary names
        pass
