"""The local disk: what `pipeline.root.storage` promises, kept with temporary files, fsync, link and rename.

Everything here raises OSError; storage puts it into words.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Iterator


def write(target: str, parts: Iterable[bytes], exclusive: bool, durable: bool) -> bool:
    """Put the bytes of `parts` at `target` in one step; False when `exclusive` and something is there."""
    folder = os.path.dirname(target)
    temporary = f"{folder}/.tmp-{uuid.uuid4().hex}"
    try:
        try:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileNotFoundError:
            os.makedirs(folder, exist_ok=True)
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            for part in parts:
                view = memoryview(part)
                while view:
                    view = view[os.write(handle, view) :]
            if durable:
                os.fsync(handle)
        finally:
            os.close(handle)
        if exclusive:
            os.link(temporary, target)
            os.unlink(temporary)
        else:
            _replace(temporary, target)
    except FileExistsError:
        _forget(temporary)
        return False
    except OSError:
        _forget(temporary)
        raise
    return True


def overwrite(target: str, data: bytes) -> None:
    """Put `data` into a file that is there, in its own place: on most file systems a small one needs no room for that,
    but who reads or dies meanwhile may see or leave half of it."""
    with open(target, "r+b", buffering=0) as file:
        file.write(data)
        file.truncate()
        os.fsync(file.fileno())


def sync(path: str) -> None:
    """Wait until a file would outlive a power failure."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def files(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """Names of the files directly in a folder, and what the file system says of each. One that goes meanwhile is left
    out; the others stay."""
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                if entry.is_file():
                    yield entry.name, entry.stat()
            except FileNotFoundError:
                continue


def below(base: str, prefix: str, folders: bool) -> Iterator[str]:
    """All files below `base`, sorted, each behind `prefix`; `folders` too, which end in a slash. Nothing where there is
    no such folder."""
    try:
        with os.scandir(base) as entries:
            listed = sorted((e.name, e.is_dir(follow_symlinks=False)) for e in entries)
    except FileNotFoundError:
        return
    for name, is_folder in listed:
        if not is_folder:
            yield prefix + name
            continue
        if folders:
            yield f"{prefix}{name}/"
        yield from below(f"{base}/{name}", f"{prefix}{name}/", folders)


def _replace(temporary: str, target: str) -> None:
    try:
        os.replace(temporary, target)
    except IsADirectoryError:  # nothing of ours is in a folder of this name: out of the way with it
        os.rename(target, f"{temporary}-folder")
        os.replace(temporary, target)


def _forget(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
