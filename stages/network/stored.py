"""The files of a model in a step's folder: which of those that lie there is the step's.

Several may: each model lies in `model/{digest}/`, and a training that ended twice (a process slept, another took over)
has left two. What was committed decides: the record of the training's unit, then the step's manifest; before either is
there, `trained.json`. A store without exclusive creation lets a sleeper replace the latter, with whole files of its
own, which changes nothing of a step that is committed. Where nothing names a model any more it is the only one there.
"""

from __future__ import annotations

from collections.abc import Iterator

from hyperloom.pipeline.commits import manifest
from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.commits.units import File, load_record, read_file
from hyperloom.pipeline.errors import Torn
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.network.architecture import MODEL_JSON, MODEL_WEIGHTS, model_place
from hyperloom.stages.results import Trained


def read_stored(storage: Storage, folder: str, name: str) -> bytes:
    """The file `name` of the model in `folder`, which may also lie in the folder itself. Raises FileNotFoundError, and
    Torn for other bytes than were committed."""
    if (file := _named(storage, folder, name)) is not None:
        return read_file(storage, file)
    places = storage.names(f"{folder}/model")
    if len(places) == 1:
        return _alone(storage, f"{folder}/model/{places[0]}", name)
    return storage.read(f"{folder}/{name}")


def weight_bytes(step: Manifest, member: str = "") -> int:
    """Bytes of the weights of the step's models, of the one `member` or of all, as its manifest says; 0 where it names
    none, as that of a step to come."""
    folders = tuple(f"{folder}/" for folder in Trained.from_manifest(step).folders(step, member))
    files = (f for f in step.all_files() if f.path.startswith(folders))
    return sum(f.bytes for f in files if f.path.endswith(f"/{MODEL_WEIGHTS}"))


def _named(storage: Storage, folder: str, name: str) -> File | None:
    """The file that a commit names, else `trained.json`."""
    for file in _committed(storage, folder):
        of_model = file.path.startswith(f"{folder}/model/") and file.path.endswith(f"/{name}")
        if of_model and storage.size(file.path) == file.bytes:  # else it is made again just now
            return file
    try:
        about = storage.read_json(f"{folder}/trained.json")["files"].get(name)
    except (FileNotFoundError, Torn):
        return None
    return File(f"{folder}/{about['path']}", about["bytes"], about["sha256"]) if about else None


def _committed(storage: Storage, folder: str) -> Iterator[File]:
    """The files that commits in `folder` name."""
    for unit in storage.names(f"{folder}/units"):
        if (record := load_record(storage, folder, unit.removesuffix(".json"))) is not None:
            yield from record.files
    try:
        yield from manifest.read(storage, f"{folder}/manifest.json").all_files()
    except (FileNotFoundError, Torn):
        return


def _alone(storage: Storage, folder: str, name: str) -> bytes:
    """A file of the model in `folder`, whose name is a digest of what it holds. Raises Torn where that is another."""
    files = {name: storage.read(f"{folder}/{name}") for name in (MODEL_JSON, MODEL_WEIGHTS)}
    if not folder.endswith(model_place(files)):
        raise Torn(f"{storage.full(folder)} holds another model than its name says. Next: hyperloom verify --repair")
    return files[name]
