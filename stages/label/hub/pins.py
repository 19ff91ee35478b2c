"""Models of the Hugging Face hub: what `model: ORGANISATION/NAME` and a `revision` mean in this root, for good.

A branch moves, so it is asked about once: the commit that it is then, and the digests of the files that decide what the
model answers, are pinned under `hub/` of the root, and every later plan, run and node goes by that. To follow a branch
that has moved, remove the pin or name the commit. What a hub of another address (`HF_ENDPOINT`) holds under the same
commit is the same model. A model counts only with safetensors: weights that are a program are not fetched.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from hyperloom.pipeline.errors import PluginError, SourceError
from hyperloom.pipeline.root import sealed
from hyperloom.stages.label.hub.loading import READ

if TYPE_CHECKING:
    from hyperloom.pipeline.root.storage import Storage

NAME = r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?"
COMMIT = re.compile(r"[0-9a-f]{40}")
TIMEOUT = 30.0
"""Seconds that the hub has for an answer."""


@dataclass(frozen=True)
class Pin:
    """`files`: name -> [bytes, digest], of git (`git:` and 40 digits) for small files, else of the content (`sha256:`).
    `licence` as the model's card names it; empty where it names none."""

    model: str
    revision: str
    commit: str
    licence: str
    files: Mapping[str, tuple[int, str]]

    @property
    def digests(self) -> list[str]:
        """What the model is, in the order of its files' names."""
        return [f"{name} {self.files[name][1]}" for name in sorted(self.files)]


def pinned(storage: Storage, model: str, revision: str) -> Pin:
    """The pin of a model; the hub is asked where the root has none. Raises SourceError where there is no such model, or
    nobody to ask."""
    path = f"hub/{model.replace('/', '--')}/{revision.replace('/', '--')}.json"
    try:
        return _read(storage, path)
    except FileNotFoundError:
        pin = _resolved(model, revision)
    if storage.create(path, [sealed.dump(path, asdict(pin))]):
        return pin
    return _read(storage, path)  # another was first


def _read(storage: Storage, path: str) -> Pin:
    value = storage.read_json(path)
    return Pin(**{**value, "files": {name: (int(size), digest) for name, (size, digest) in value["files"].items()}})


def _resolved(model: str, revision: str) -> Pin:
    info = _asked(model, revision)
    if COMMIT.fullmatch(revision) and info.sha != revision:
        raise SourceError(f"the model {model}: the hub was asked for the commit {revision} and answers with {info.sha}")
    files = _wanted({sibling.rfilename: sibling for sibling in info.siblings or ()})
    if not any(name.endswith(".safetensors") for name in files):
        raise SourceError(
            f"the model {model} has no safetensors weights, and others may be programs. Next: another revision (many "
            "models have them on refs/pr/N), or save it anew with save_pretrained and give `path:`"
        )
    licence = getattr(info.card_data, "license", None) or ""
    licence = licence if isinstance(licence, str) else ", ".join(licence)
    return Pin(model, revision, info.sha, licence, {name: _digest(model, one) for name, one in files.items()})


def _asked(model: str, revision: str) -> Any:
    try:
        from huggingface_hub import HfApi, errors
    except ImportError as error:
        raise PluginError(
            f"the model {model} is of the hub, which needs huggingface_hub. Next: pip install 'hyperloom[huggingface]'"
        ) from error
    where = f"the model {model} at {revision}"
    try:
        api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
        return api.model_info(model, revision=revision, files_metadata=True, timeout=TIMEOUT)
    except errors.RevisionNotFoundError as error:
        raise SourceError(f"{where}: there is the model, but no such revision. Next: correct `revision:`") from error
    except errors.GatedRepoError as error:
        text = "its owners want to be asked first. Next: accept their terms on its page, and set HF_TOKEN"
        raise SourceError(f"{where}: {text}") from error
    except errors.RepositoryNotFoundError as error:
        raise SourceError(
            f"{where}: the hub has none of this name, or not for everybody. Next: correct `model:`, or set HF_TOKEN"
        ) from error
    except Exception as error:  # offline, or whatever its HTTP client raises
        raise SourceError(
            f"{where} is not pinned in this root yet, and the hub does not answer: {error or repr(error)}. "
            "Next: plan once with network, or give `path:` of a local copy"
        ) from error


def _wanted(files: Mapping[str, Any]) -> dict[str, Any]:
    """Those that decide what the model answers: at the top, and of weights the whole ones of usual precision."""
    top = {name: one for name, one in files.items() if "/" not in name and name.endswith(READ)}
    weights = [name for name in top if name.endswith(".safetensors")]
    usual = [n for n in weights if re.fullmatch(r"model(-\d+-of-\d+)?\.safetensors", n)] or weights
    return {name: one for name, one in sorted(top.items()) if name not in weights or name in usual}


def _digest(model: str, sibling: Any) -> tuple[int, str]:
    digest = f"sha256:{sibling.lfs.sha256}" if sibling.lfs else f"git:{sibling.blob_id}"
    if sibling.size is None or digest.endswith(":None"):
        raise SourceError(f"the hub does not say what {sibling.rfilename} of {model} holds. Next: give `path:`")
    return int(sibling.size), digest
