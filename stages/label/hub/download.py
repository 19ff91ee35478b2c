"""Fetching a file by its URL and digest: once a node, resumed after an interruption, and checked before it is used.

What a file is, its digest says; the URL only says where it may be had. Files lie in `hyperloom/DIGEST/` of `HF_HOME`
(without that, of `~/.cache/huggingface`), beside the models of the hub, and what is there needs no network. What came
of a file that broke off is kept (`.part`) and gone on with; processes of one node wait for each other. A file of
another digest is removed and refused. An archive (`.zip`, `.tar.gz`) that stands for a model directory is unpacked
there; nothing of it leaves its folder, nothing of it is run.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hyperloom.pipeline.errors import SourceError

PART = 1 << 20
TIMEOUT = 30.0
"""Seconds in which a server must give something."""
TRIES = 3
"""How often a file that breaks off is gone on with at once."""
DIGEST = r"^([0-9a-f]{64})?$"
ARCHIVES = (".zip", ".tar.gz", ".tgz", ".tar")
HUB = "https://huggingface.co"
NO_FILE = {
    rb"\s*<(!doctype|html)": "what came is a web page: give the link of the file itself",
    rb"version https://git-lfs": "what came is a pointer of Git LFS: give the link that its page calls download",
}
"""How something else than a file begins -> what to say of it."""


def remote(path: str) -> bool:
    """Is it a URL?"""
    return "://" in path


def place(url: str, sha256: str) -> Path:
    """Where the file lies on this node, or will."""
    from urllib.parse import unquote, urlparse

    home = os.environ.get("HF_HOME") or os.path.join(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    name = re.sub(r"[^\w.-]", "_", unquote(urlparse(url).path.rpartition("/")[2]))
    return Path(os.path.expanduser(home), "hyperloom", sha256, name.strip(".") or "file")


def cached(url: str, sha256: str) -> Path | None:
    """The file where it is here already, and still is what it was; nobody is asked."""
    path = place(url, sha256)
    if not path.is_file():
        return None
    mark, note = _mark(path), _beside(path, ".checked")
    if note.exists() and note.read_text(encoding="utf-8") == mark:
        return path
    if _digest(path) != sha256:
        return None
    with suppress(OSError):  # a cache that others filled may be for reading only
        note.write_text(mark, encoding="utf-8")
    return path


def downloaded(url: str, sha256: str) -> Path:
    """The local file of that digest. Raises SourceError for one that is not there or is another, ConnectionError for
    what may pass."""
    if (path := cached(url, sha256)) is not None:
        return path
    path = place(url, sha256)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path):
            if cached(url, sha256) is None:
                _complete(url, sha256, path)
    except PermissionError as error:
        raise SourceError(
            f"{url} cannot be kept in {path.parent}: {error}. Next: set HF_HOME to a folder that can be written"
        ) from error
    return path


def unpacked(url: str, sha256: str) -> Path:
    """The folder that an archive holds, unpacked once. Raises SourceError for one that cannot be read."""
    path = downloaded(url, sha256)
    folder = path.parent / "unpacked"
    if not folder.is_dir():
        with _alone(path):
            if not folder.is_dir():
                _unpack_whole(url, path, folder)
    inner = [entry for entry in folder.iterdir() if entry.is_dir()]
    return folder if (folder / "config.json").exists() or len(inner) != 1 else inner[0]


def _unpack_whole(url: str, path: Path, folder: Path) -> None:
    """Put all that an archive holds into `folder`, or nothing."""
    import shutil
    import tarfile
    import zipfile
    import zlib

    part = folder.with_name("unpacked.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        _unpack(path, part)
    except (OSError, EOFError, RuntimeError, tarfile.TarError, zipfile.BadZipFile, zlib.error) as error:
        raise SourceError(f"{url} is no archive that can be unpacked ({', '.join(ARCHIVES)}): {error}") from error
    part.rename(folder)


def _complete(url: str, sha256: str, path: Path) -> None:
    """Put the whole file where it belongs."""
    part = _beside(path, ".part")
    resumed = part.exists()
    _fetch(url, part)
    if resumed and _digest(part) != sha256:  # it began as another file, so it is fetched once more from its start
        part.unlink()
        _fetch(url, part)
    if (got := _digest(part)) != sha256:
        with open(part, "rb") as file:
            head = file.read(200).lower()
        part.unlink()
        hint = next((text for start, text in NO_FILE.items() if re.match(start, head)), "")
        next_ = hint or "correct `sha256:`, or `path:` if its owner has put another file there"
        raise SourceError(
            f"{url} is not what the recipe says it is: its sha256 is {got}, wanted {sha256}. It was removed. "
            f"Next: {next_}"
        )
    part.replace(path)
    _beside(path, ".checked").write_text(_mark(path), encoding="utf-8")


def _fetch(url: str, part: Path) -> None:
    """All of a file, going on where it broke off as long as something comes."""
    from urllib.error import HTTPError

    for left in reversed(range(TRIES)):
        before = part.stat().st_size if part.exists() else 0
        try:
            return _read(url, part, before)
        except HTTPError as error:
            what = f"the server answers {error.code} {error.reason}"
            if error.code == 416 and before:  # there is no more than what is here
                return
            if error.code in (408, 429) or error.code >= 500:
                raise ConnectionError(_sentence(url, what, part)) from error
            raise SourceError(
                f"{url}: {what}. Next: correct `path:`, or fetch the file by another way and give its local path"
            ) from error
        except (OSError, EOFError, ValueError, ImportError) as error:
            came = part.stat().st_size - before if part.exists() else 0
            if not (left and came):
                raise ConnectionError(_sentence(url, getattr(error, "reason", None) or error, part)) from error


def _sentence(url: str, why: Any, part: Path) -> str:
    size = part.stat().st_size if part.exists() else 0
    came = f" {size / 1e6:.1f} MB came and are kept." if size else ""
    return (
        f"{url} was not fetched: {why}.{came} Next: the same command goes on; without network, bring the file by "
        "another way and give its local path"
    )


def _read(url: str, part: Path, start: int) -> None:
    """Append what is lacking of the file. Raises OSError or EOFError where it breaks off."""
    from urllib.request import Request, urlopen

    if not url.lower().startswith(("http://", "https://")):
        import shutil

        import fsspec

        with fsspec.open(url, "rb") as source, open(part, "ab") as file:
            source.seek(start)
            return shutil.copyfileobj(source, file, PART)
    request = Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    if (token := os.environ.get("HF_TOKEN")) and url.startswith((os.environ.get("HF_ENDPOINT") or HUB) + "/"):
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    came = 0
    with urlopen(request, timeout=TIMEOUT) as answer:
        expected = int(answer.headers.get("Content-Length") or 0)
        with open(part, "ab" if answer.status == 206 else "wb") as file:
            while block := answer.read(PART):
                came += file.write(block)
    if came < expected:
        raise EOFError(f"it broke off after {came:,} of {expected:,} bytes")


def _unpack(path: Path, folder: Path) -> None:
    import tarfile
    import zipfile

    folder.mkdir(parents=True)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            archive.extractall(folder)
    else:
        with tarfile.open(path) as archive:
            archive.extractall(folder, filter="data")


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _mark(path: Path) -> str:
    """What a file is known by while nobody touches it."""
    stat = path.stat()
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns}"


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process of the node at a time."""
    import fcntl

    with open(_beside(path, ".lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
