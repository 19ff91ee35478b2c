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
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator, model_validator

from hyperloom.pipeline.commits import manifest as manifests
from hyperloom.pipeline.commits.manifest import load as manifest_of
from hyperloom.pipeline.config import Config, StepName, placement
from hyperloom.pipeline.errors import RecipeError, SourceError
from hyperloom.pipeline.root.storage import sha256
from hyperloom.stages import champion as champions
from hyperloom.stages import licence
from hyperloom.stages.lesson import Lesson, handed_on
from hyperloom.stages.network import parts
from hyperloom.stages.network.architecture import MODEL_JSON, MODEL_WEIGHTS
from hyperloom.stages.network.recipe import NetworkRecipe
from hyperloom.stages.results import Released, Trained, lessons_of

if TYPE_CHECKING:
    from hyperloom.pipeline.commits.manifest import Manifest
    from hyperloom.pipeline.root.digests import Digests
    from hyperloom.pipeline.root.storage import Storage
    from hyperloom.pipeline.stage import StepRun

ENDINGS = (".safetensors", ".pth", ".pt", ".bin")
"""Of files of weights, by which a name alone is known as one."""


@dataclass(frozen=True)
class Origin:
    """Weights in the root that a training starts from: `weights` is a path, `about` that of the `model.json` that says
    which inputs they are of, or empty. With `whole` every weight of the network must come from there; `select` and
    `names` are those of `Start`."""

    name: str
    weights: str
    about: str
    whole: bool
    select: bool = False
    names: tuple[tuple[str, str], ...] = ()


class Start(Config):
    """Weights to start from: of a `step` of the recipe, of the `champion` of a registered name, or of a `file`.

    A name alone, `models:/NAME@champion` or a path of weights (`.safetensors`, or torch's own `.pth`, `.pt`,
    `.bin`, which are read as data alone) are short for these. What bears meaning is
    the content: a step by its identity, the others by the digest of the weights. So a training that starts from the
    champion is stale once there is another champion, unless that one was made of this very training: then the step is
    what it was, and a run that was cut short goes on from the champion that it began with.
    """

    step: StepName | None = None
    champion: str | None = placement(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    file: str | None = placement(None)
    licence: str = placement("")
    """What the owners of a `file` of theirs call its terms, such as apache-2.0: it comes to the card of a release."""
    absent: Literal["refuse", "fresh"] = placement("refuse")
    """While there is no champion: refuse, or start from nothing."""
    whole: bool = False
    """Refuse weights that do not fill the whole network; otherwise what fits by name and shape is taken."""
    select: bool = False
    """Of a wider network take evenly spaced filters and channels (weight selection, Xu et al. 2024), so that a small
    student may start from its teacher."""
    names: dict[str, str] = {}
    """For weights of another program: beginning of a name in the file -> beginning of the name of a part here, as in
    `{backbone.stem: trunk.enter}`, or `{"": trunk}` for all of them; names that begin with none are left out."""

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if match := re.fullmatch(r"models:/([^@/]+)@champion", value):
            return {"champion": match[1]}
        if value.startswith("models:/"):
            raise ValueError(f"{value}: the root knows champions alone, as in models:/NAME@champion")
        return {"file": value} if value.endswith(ENDINGS) else {"step": value}

    @model_validator(mode="after")
    def _one(self) -> Start:
        if sum(v is not None for v in (self.step, self.champion, self.file)) != 1:
            raise ValueError("start: a step, the champion of a name, or a file")
        if self.licence and self.file is None:
            raise ValueError("start: a licence is for a file; steps and champions hand on what they began with")
        if self.names and self.file is None:
            raise ValueError("start: names are for the weights of a file; those of steps have names of their own")
        if self.absent == "fresh" and self.champion is None:
            raise ValueError("start: absent: fresh is for a champion; a step or a file is there, or it is a mistake")
        return self

    def facts(self, digests: Digests) -> dict[str, Any]:
        """Digests of weights from outside the recipe. Raises SourceError when they are not there."""
        if self.file is not None:
            beside = _beside(self.file)
            about = {"about": digests.file(beside).sha256} if beside else {}
            return {"weights": digests.file(self.file).sha256, **about}
        if self.champion is not None:
            champion = _released(digests.storage, self.champion)
            return self._digest(digests.storage, champion)
        return {}

    def facts_before(self, digests: Digests) -> tuple[dict[str, Any], Collection[str]] | None:
        """The facts as they were before the present champion, and the identities of the steps that made that one; None
        where this starts from no champion."""
        champion = _released(digests.storage, self.champion) if self.champion else None
        if champion is None:
            return None
        release = manifest_of(digests.storage, "release", champion.release)
        before = champions.Champion(**champion.before) if champion.before else None
        try:
            facts = self._digest(digests.storage, before)
        except SourceError:  # nobody before, or no weights of his any more
            return None
        return (facts, Released.from_manifest(release).made_of or ()) if release else None

    def _digest(self, storage: Storage, champion: champions.Champion | None) -> dict[str, Any]:
        """What identifies the weights of a champion; nothing of none."""
        if champion is None and self.absent == "fresh":
            return {}
        manifest, member = _model(storage, str(self.champion), champion)
        path = origin_of(str(self.champion), manifest, member, self.whole).weights
        return {"weights": next(f.sha256 for f in manifest.all_files() if f.path == path)}

    def origin(self, step: StepRun) -> Origin | None:
        """Where the weights lie in the root; None where there is no champion to start from. A file is copied there, so
        that every node can read it. Of a family the best member counts. Raises RecipeError when a step holds no model,
        SourceError where the champion that was planned with is no longer known."""
        if self.file is not None:
            return self._copied(step, self.file)
        if self.champion is not None:
            return self._planned(step)
        manifest = step.inputs[str(self.step)]
        if Trained.of(manifest) is None:
            raise RecipeError(f"step {step.name!r}: start: {self.step!r} is a {manifest.stage} step and holds no model")
        return self._taken(origin_of(str(self.step), manifest, "", self.whole))

    def _planned(self, step: StepRun) -> Origin | None:
        """The champion whose weights the identity of the step names: there may be another by now."""
        planned = self._champion(step)
        return planned and self._taken(origin_of(f"the champion of {self.champion}", *planned, self.whole))

    def _taken(self, origin: Origin) -> Origin:
        """With how it is taken."""
        return replace(origin, select=self.select, names=tuple(self.names.items()))

    def lessons(self, step: StepRun) -> list[Lesson]:
        """What the weights go back to, also those of a file that is one of this root's own models."""
        if self.file is not None:
            facts = step.meaning.get("facts", {}).get("start", {}) if step.meaning else {}
            terms = licence.lessons({self.owner: self.licence})
            return [Lesson(facts.get("weights", ""), "", "start", self.owner), *terms]
        if self.champion is not None:
            planned = self._champion(step)
            return handed_on(lessons_of(planned[0]), f"its start, a champion of {self.champion}") if planned else []
        return handed_on(lessons_of(step.inputs[str(self.step)]), f"its start {self.step}")

    @property
    def owner(self) -> str:
        """What a file is called among what a model goes back to."""
        return f"its start {os.path.basename(self.file or '')}"

    def notices(self) -> list[str]:
        """What a person should hear before weights of others are used: their terms, or that nobody says which. A file
        beside which a model.json lies is a model of Hyperloom."""
        if self.file is None or (not self.licence and _beside(self.file)):
            return []
        text = licence.remark(self.owner, self.licence)
        return [text + ("" if self.licence else " (licence: of start)")] if text else []

    def _champion(self, step: StepRun) -> tuple[Manifest, str] | None:
        """The training behind the champion that was planned with, and which member of a family it is; None without."""
        name, line = str(self.champion), champions.line(step.storage, str(self.champion))
        facts = step.meaning.get("facts", {}).get("start", {}) if step.meaning else None
        if facts == {} or (not line and self.absent == "fresh"):
            return None
        for champion in line:
            if facts in (None, self._digest(step.storage, champion)):
                return _model(step.storage, name, champion)
        raise SourceError(
            f"start: the champion of {name!r} with which this was planned is gone. Next: run the same command again"
        )

    def _copied(self, step: StepRun, file: str) -> Origin:
        import fsspec

        copy = f"start{os.path.splitext(file)[1]}"
        paths = {copy: file, MODEL_JSON: _beside(file)}
        facts = step.meaning.get("facts", {}).get("start", {})
        planned = {copy: facts.get("weights"), MODEL_JSON: facts.get("about")}
        for name, path in paths.items():
            if path:
                with fsspec.open(os.path.expanduser(path), "rb") as opened:
                    data = opened.read()
                if planned[name] not in (None, sha256(data)):
                    what = f"step {step.name!r}: {path} is another file than when the run began"
                    raise SourceError(f"{what}. Next: run the same command again")
                step.storage.write(f"{step.folder}/start/{name}", data)
        about = f"{step.folder}/start/{MODEL_JSON}" if paths[MODEL_JSON] else ""
        return self._taken(Origin(os.path.basename(file), f"{step.folder}/start/{copy}", about, self.whole))


class TaughtNetwork(NetworkRecipe):
    """A network, the weights it starts from, and how fast its parts move."""

    start: Start | None = None
    freeze: tuple[str, ...] = ()
    """Parts (see `stages.network.parts`) that do not move: no gradient, no decay, no noise of theirs."""
    latency_ms: float | None = Field(None, gt=0)
    """In place of `parameters`: the widest network that takes at most so long for one sample, exported to ONNX, on one
    core of the machine that trains it first (`stages.distill.width`)."""
    learn_rates: dict[str, float] = {}
    """Part -> factor of the rate; of several that match the last counts."""

    @model_validator(mode="after")
    def _one_size(self) -> TaughtNetwork:
        if self.latency_ms is None:
            if len(self.trunk.variants) > 1:
                raise ValueError(f"the trunk {self.trunk.type}: fused: auto is chosen by latency_ms, a number by you")
            return self
        given = ["parameters"] if "parameters" in self.model_fields_set else []
        given += ["the trunk's width"] if self.trunk.width is not None else []
        if given:
            raise ValueError(f"latency_ms chooses the width, and so does {given[0]}. Give one of them")
        return self

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


def origin_of(name: str, manifest: Manifest, member: str = "", whole: bool = False) -> Origin:
    """The files of the model in `manifest`, of the step `name`; of a family those of `member`, by default the best.
    Raises RecipeError when it holds none."""
    trained = Trained.of(manifest)
    folder = trained.folders(manifest, member or trained.best or "")[0] if trained and trained.members else ""
    held = [f.path for f in manifest.all_files() if f.path.startswith(folder)]
    paths = [next((p for p in held if p.endswith(f"/{n}")), "") for n in (MODEL_WEIGHTS, MODEL_JSON)]
    if not all(paths):
        raise RecipeError(f"{name} holds no model. Next: name another step")
    return Origin(name, paths[0], paths[1], whole)


def _released(storage: Storage, name: str) -> champions.Champion | None:
    """The champion of a name whose release has ended. One that was killed after it had moved the champion decides the
    same again, and until then nothing starts from what it released."""
    ended = (c for c in champions.line(storage, name) if manifest_of(storage, "release", c.release) is not None)
    return next(ended, None)


def _model(storage: Storage, name: str, champion: champions.Champion | None) -> tuple[Manifest, str]:
    """The manifest of the training whose student is champion, which its release reads as `model`, and which member of
    a family it is."""
    if champion is None:
        known = ", ".join(champions.names(storage)) or "none"
        raise SourceError(
            f"start: models:/{name}@champion: there is no such champion (known: {known}). Next: release one, start "
            f"from a step or a file, or begin without: start: {{champion: {name}, absent: fresh}}"
        )
    release = manifest_of(storage, "release", champion.release)
    manifest = release and manifests.anywhere(storage, release.payload["config"]["model"]["step"], "distill")
    if not manifest:
        raise SourceError(
            f"start: the weights of the champion of {name!r} are no longer under {storage}. Next: start from a file"
        )
    assert release is not None
    return manifest, release.body.get("member", "")


def _beside(file: str) -> str:
    """The `model.json` beside a file of weights; empty when there is none."""
    import fsspec

    path = os.path.join(os.path.dirname(os.path.expanduser(file)), MODEL_JSON)
    fs, inner = fsspec.core.url_to_fs(path)
    return path if fs.exists(inner) else ""
