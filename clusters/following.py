"""Following a job: its log as it comes, and its exit code at the end.

A connection that breaks is taken up again where it broke. One whose other end is gone without a word (the head lost its
power, or its network) would be silent for ever, so silence is a reason to ask whether the job is still there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlparse

from hyperloom.clusters.connect import probe
from hyperloom.clusters.spec import ClusterError
from hyperloom.pipeline.exits import Exit

RECONNECTIONS = 20
SILENCE_SECONDS = 20.0


def follow(client: Any, url: str, job: str) -> int:
    """Print the job's log to its end; its exit code. Raises ClusterError when the job or its server is gone."""
    asyncio.run(_follow(client, url, job))
    return _outcome(client, job)


async def _follow(client: Any, url: str, job: str) -> None:
    from aiohttp import ClientError

    printed = 0
    for attempt in range(RECONNECTIONS):
        position = 0
        try:
            _knock(url)
            if attempt:
                client.get_job_status(job)
            async for text in _log(client, url, job):
                fresh = text[max(0, printed - position) :]
                position += len(text)
                printed = max(printed, position)
                print(fresh, end="", flush=True)
            if client.get_job_status(job).is_terminal():
                return
        except (RuntimeError, OSError, ClientError) as error:
            if "does not exist" in str(error):
                raise ClusterError(
                    f"the cluster at {url} does not know {job} any more: it was started anew. Next: submit again"
                ) from error
            if attempt == RECONNECTIONS - 1:
                raise ClusterError(f"lost the job server while following {job}: {error}; the job may go on") from error
        await asyncio.sleep(1.0)


async def _log(client: Any, url: str, job: str) -> AsyncIterator[str]:
    """Pieces of the log from its beginning to the job's end. Raises where the connection breaks or nobody is there."""
    pieces = aiter(client.tail_job_logs(job))
    while True:
        piece = asyncio.ensure_future(anext(pieces))
        try:
            while not (await asyncio.wait({piece}, timeout=SILENCE_SECONDS))[0]:
                _knock(url)
                if client.get_job_status(job).is_terminal():
                    return
            yield piece.result()
        except StopAsyncIteration:
            return
        finally:
            piece.cancel()


def _knock(url: str) -> None:
    """Raise OSError where nobody answers: Ray's client would wait for many minutes."""
    parsed = urlparse(url)
    probe(parsed.hostname or "", parsed.port or (443 if parsed.scheme == "https" else 80))


def _outcome(client: Any, job: str) -> int:
    from ray.job_submission import JobStatus

    info = client.get_job_info(job)
    deadline = time.monotonic() + 30
    while not info.status.is_terminal() and time.monotonic() < deadline:
        time.sleep(0.5)
        info = client.get_job_info(job)
    print(f"job {job}: {info.status.value.lower()}", flush=True)
    if info.status == JobStatus.SUCCEEDED:
        return Exit.DONE
    print(f"why: {info.message}", flush=True)
    if code := info.driver_exit_code:
        return code if code > 0 else 128 - code  # a signal, as shells say it
    if info.status == JobStatus.STOPPED:
        return Exit.CANCELLED
    return Exit.FAILED if "runtime_env" in (info.message or "") else Exit.CLUSTER
