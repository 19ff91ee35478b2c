"""What a training's recipe says of its network: what it is, where its weights start, and which of them move how fast.

    model:
      trunk: vit
      start: teacher                             # or models:/aerial@champion, or weights/old.safetensors
      freeze: [trunk, "encoders.*@camera"]
      learn_rates: {heads.depth: 2, fusion: 0.1}

Imports no torch.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import field_validator, model_validator

from hyperloom.pipeline.config import Config, StepName, placement
from hyperloom.pipeline.errors import RecipeError, SourceError
from hyperloom.pipeline.manifest import load as manifest_of
from hyperloom.stages import champion as champions
from hyperloom.stages.network import parts
from hyperloom.stages.network.architecture import MODEL_JSON, MODEL_WEIGHTS
from hyperloom.stages.network.recipe import NetworkRecipe
from hyperloom.stages.results import Trained

if TYPE_CHECKING:
    from hyperloom.pipeline.digests import Digests
    from hyperloom.pipeline.manifest import Manifest
    from hyperloom.pipeline.stage import StepRun
    from hyperloom.pipeline.storage import Storage

COPY = "start.safetensors"


@dataclass(frozen=True)
class Origin:
    """Weights in the root that a training starts from: `weights` is a path, `about` that of the `model.json` that says
    which inputs they are of, or empty. With `whole` every weight of the network must come from there."""

    name: str
    weights: str
    about: str
    whole: bool


class Start(Config):
    """Weights to start from: of a `step` of the recipe, of the `champion` of a registered name, or of a `file`.

    A name alone, `models:/NAME@champion` or a path ending in `.safetensors` are short for these. What bears meaning is
    the content: a step by its identity, the others by the digest of the weights. So a training that starts from the
    champion is stale once there is another champion.
    """

    step: StepName | None = None
    champion: str | None = placement(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    file: str | None = placement(None)
    whole: bool = False
    """Refuse weights that do not fill the whole network; otherwise what fits by name and shape is taken."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if match := re.fullmatch(r"models:/([^@/]+)@champion", value):
            return {"champion": match[1]}
        if value.startswith("models:/"):
            raise ValueError(f"{value}: the root knows champions alone, as in models:/NAME@champion")
        return {"file": value} if value.endswith(".safetensors") else {"step": value}

    @model_validator(mode="after")
    def _one(self) -> Start:
        if sum(v is not None for v in (self.step, self.champion, self.file)) != 1:
            raise ValueError("start: a step, the champion of a name, or a file")
        return self

    def facts(self, digests: Digests) -> dict[str, Any]:
        """Digests of weights from outside the recipe. Raises SourceError when they are not there."""
        if self.file is not None:
            beside = _beside(self.file)
            about = {"about": digests.file(beside).sha256} if beside else {}
            return {"weights": digests.file(self.file).sha256, **about}
        if self.champion is not None:
            path = _origin(self.champion, *_champion(digests.storage, self.champion), self.whole).weights
            manifest, _ = _champion(digests.storage, self.champion)
            return {"weights": next(f.sha256 for f in manifest.all_files() if f.path == path)}
        return {}

    def origin(self, step: StepRun) -> Origin:
        """Where the weights lie in the root; a file is copied there, so that every node can read it. Of a family the
        best member counts. Raises RecipeError when a step holds no model."""
        if self.file is not None:
            return self._copied(step, self.file)
        if self.champion is not None:
            return _origin(f"the champion of {self.champion}", *_champion(step.storage, self.champion), self.whole)
        manifest = step.inputs[str(self.step)]
        if Trained.of(manifest) is None:
            raise RecipeError(f"step {step.name!r}: start: {self.step!r} is a {manifest.stage} step and holds no model")
        return _origin(str(self.step), manifest, "", self.whole)

    def _copied(self, step: StepRun, file: str) -> Origin:
        import fsspec

        paths = {COPY: file, MODEL_JSON: _beside(file)}
        for name, path in paths.items():
            if path:
                with fsspec.open(os.path.expanduser(path), "rb") as opened:
                    step.storage.write(f"{step.folder}/start/{name}", opened.read())
        about = f"{step.folder}/start/{MODEL_JSON}" if paths[MODEL_JSON] else ""
        return Origin(os.path.basename(file), f"{step.folder}/start/{COPY}", about, self.whole)


class TaughtNetwork(NetworkRecipe):
    """A network, the weights it starts from, and how fast its parts move."""

    start: Start | None = None
    freeze: tuple[str, ...] = ()
    """Parts (see `stages.network.parts`) that do not move: no gradient, no decay, no noise of theirs."""
    learn_rates: dict[str, float] = {}
    """Part -> factor of the rate; of several that match the last counts."""

    @field_validator("freeze", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("learn_rates")
    @classmethod
    def _positive(cls, value: dict[str, float]) -> dict[str, float]:
        if wrong := [p for p, factor in value.items() if not factor > 0]:
            raise ValueError(f"the factor of {wrong[0]} must be above 0; to keep a part as it is, freeze it")
        return value

    def check_parts(self, columns: Sequence[str], tasks: Iterable[str], further: Iterable[str] = ()) -> None:
        """Raises ValueError when a pattern, here or among `further`, means nothing."""
        parts.check([*self.freeze, *self.learn_rates, *further], columns, tasks)


def _origin(name: str, manifest: Manifest, member: str, whole: bool) -> Origin:
    """The files of the model in `manifest`; of a family those of `member`, by default the best."""
    trained = Trained.of(manifest)
    folder = trained.folders(manifest, member or trained.best or "")[0] if trained and trained.members else ""
    held = [f.path for f in manifest.all_files() if f.path.startswith(folder)]
    paths = [next((p for p in held if p.endswith(f"/{n}")), "") for n in (MODEL_WEIGHTS, MODEL_JSON)]
    if not all(paths):
        raise RecipeError(f"start: {name} holds no model. Next: name another step")
    return Origin(name, paths[0], paths[1], whole)


def _champion(storage: Storage, name: str) -> tuple[Manifest, str]:
    """The manifest of the training whose student is champion, which its release reads as `model`, and which member of
    a family it is."""
    champion = champions.current(storage, name)
    if champion is None:
        known = ", ".join(champions.names(storage)) or "none"
        raise SourceError(
            f"start: models:/{name}@champion: there is no such champion (known: {known}). Next: release one, or start "
            "from a step or a file"
        )
    release = manifest_of(storage, "release", champion.release)
    trained = release and release.payload["config"]["model"]["step"]
    manifest = trained and manifest_of(storage, "distill", trained)
    if not manifest:
        raise SourceError(
            f"start: the weights of the champion of {name!r} are no longer under {storage.full('distill')}. Next: "
            "start from a file"
        )
    assert release is not None
    return manifest, release.body.get("member", "")


def _beside(file: str) -> str:
    """The `model.json` beside a file of weights; empty when there is none."""
    import fsspec

    path = os.path.join(os.path.dirname(os.path.expanduser(file)), MODEL_JSON)
    fs, inner = fsspec.core.url_to_fs(path)
    return path if fs.exists(inner) else ""
