"""A model directory as `save_pretrained` writes it, and nothing else: no download, no code, no pickle.

Weights are safetensors files; a directory whose model is a class of its own (`auto_map`) is refused.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from hyperloom.pipeline.errors import PluginError, SourceError
from hyperloom.stages.label.runtimes.network import library

READ = (".json", ".txt", ".model", ".safetensors", ".jinja", ".vocab", ".merges")
"""Files that decide what a model answers."""
OFFLINE = os.environ.get("HF_HUB_OFFLINE")
"""What a person said; `Directory` sets it for the library alone."""
Precision = Literal["float32", "float16", "bfloat16"]


class Directory:
    """The model in a local directory. Raises SourceError for whatever keeps it from loading."""

    def __init__(self, path: str, precision: Precision, gpu: bool, compile: bool | Literal["graphs"] = False):
        self.path, self._compile = str(directory(path)), compile
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when the library is imported
        self.transformers, self.torch = library("transformers", "huggingface"), library("torch", "huggingface")
        self.transformers.utils.logging.set_verbosity_error()
        self.transformers.utils.logging.disable_progress_bar()
        if gpu and not self.torch.cuda.is_available():
            raise PluginError("this expert asks for a GPU, but torch sees none. Next: gpus: 0, or a node that has one")
        self.device = "cuda" if gpu else "cpu"
        self.dtype = getattr(self.torch, precision)
        self.config = self.part("AutoConfig")

    def part(self, name: str) -> Any:
        """A tokenizer, processor or config by the library's automatic class."""
        return self._loaded(lambda **safe: getattr(self.transformers, name).from_pretrained(self.path, **safe))

    def model(self, name: str) -> Any:
        """The network by the library's automatic class, on its device, in evaluation mode."""
        auto = getattr(self.transformers, name)
        model = self._loaded(
            lambda **safe: auto.from_pretrained(self.path, use_safetensors=True, dtype=self.dtype, **safe)
        )
        return self._compiled(model.eval().to(self.device))

    def fits(self, name: str) -> bool:
        """Does the automatic class know this directory's kind of model?"""
        return type(self.config) in getattr(self.transformers, name)._model_mapping

    def pipeline(self, task: str) -> Any:
        """The library's pipeline for a task, loaded from the directory."""
        how = {"device": self.device, "dtype": self.dtype, "model_kwargs": {"use_safetensors": True}}
        run = self._loaded(
            lambda **_: self.transformers.pipeline(task, model=self.path, trust_remote_code=False, **how)
        )
        self._compiled(run.model)
        return run

    def _compiled(self, model: Any) -> Any:
        """The network without subnormal weights, compiled in its place where that is asked for and can be."""
        from hyperloom.stages.network import compiling, subnormal

        subnormal.flush(model)
        if (how := compiling.how(self._compile, self.torch.device(self.device), say=True)) is not None:
            model.compile(**how)
        return model

    def tensors(self, prepared: Any) -> dict[str, Any]:
        """A processor's output on the device; floating-point numbers in the model's precision."""
        return {
            name: value.to(self.device, self.dtype) if value.is_floating_point() else value.to(self.device)
            for name, value in prepared.items()
        }

    def _loaded(self, load: Callable[..., Any]) -> Any:
        try:
            return load(local_files_only=True, trust_remote_code=False)
        except ImportError as error:
            raise PluginError(f"{self.path} needs a library that is not here: {error}") from error
        except Exception as error:  # the library raises whatever fits
            raise SourceError(
                f"{self.path} does not load without network and without code of its own: {error}"
            ) from error


def directory(path: str) -> Path:
    """The local model directory at `path`. Raises SourceError."""
    folder = Path(os.path.expanduser(path))
    if not (folder / "config.json").is_file():
        raise SourceError(
            f"{path} is no model directory (there is no config.json in it). Next: hf download ORGANISATION/MODEL "
            f"--local-dir {path}, and give that directory; every node must be able to read it"
        )
    return folder


def files(path: str) -> tuple[str, ...]:
    """The files of the directory that decide what its model answers, in the order of their names."""
    folder = directory(path)
    return tuple(str(f) for f in sorted(folder.rglob("*")) if f.suffix in READ and f.is_file())
