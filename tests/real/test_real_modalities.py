"""Real sound and real sentences, from their files to shards and batches: nothing here is a picture."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.plugins import load
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.shard.loader import Loader
from hyperloom.stages.shard.stage import Shard
from tests.unit import inline

SHARED = Path(os.environ.get("HYPERLOOM_SHARED", Path(__file__).parents[3] / "shared")) / "data"
TAGS = [
    "ADJ",
    "ADP",
    "ADV",
    "AUX",
    "CCONJ",
    "DET",
    "INTJ",
    "NOUN",
    "NUM",
    "PART",
    "PRON",
    "PROPN",
    "PUNCT",
    "SCONJ",
    "SYM",
    "VERB",
    "X",
]


def sharded(storage: Storage, known: dict[str, Any], source: dict[str, Any], **split: Any) -> Manifest:
    ingest = load("stage", "ingest").model_validate({"stage": "ingest", "source": source, "rows": 100})
    frames = inline.finish(inline.step(ingest, storage, known))
    stage = Shard.model_validate({"stage": "shard", "data": "frames", "split": split})
    return inline.finish(inline.step(stage, storage, known, frames=frames))


@pytest.mark.skipif(not (SHARED / "audio/fsdd").is_dir(), reason="the shared data (audio/fsdd) are not here")
@pytest.mark.parametrize("codec", ["raw", "file"])
def test_spoken_digits(tmp_path: Path, codec: str) -> None:
    known = inline.modalities(
        sound={"type": "audio", "rate": 8000, "seconds": 2.5, "codec": codec, "cut": True},
        digit={"type": "category", "classes": 10},
        speaker={"type": "category", "classes": ["george", "jackson", "lucas", "nicolas", "theo", "yweweler"]},
    )
    clips = sorted((SHARED / "audio/fsdd").glob("*.wav"))
    with open(tmp_path / "clips.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["clip", "digit", "speaker"])
        rows.writerows([clip.name, *clip.stem.split("_")[:2]] for clip in clips)
    columns = {
        "sound@mic": {"file": "clip", "folder": str(SHARED / "audio/fsdd")},
        "digit@truth": "digit",
        "speaker@truth": "speaker",
    }
    source = {"type": "table", "path": str(tmp_path / "clips.csv"), "group": "speaker", "columns": columns}
    storage = Storage(str(tmp_path / "root"))
    made = sharded(storage, known, source, pin={"test": ["theo"]})
    assert made.rows == len(clips) == 600 and made.body["splits"]["test"]["rows"] == 100
    assert made.body["statistics"]["digit@truth"]["classes"] == {str(d): 50 for d in range(10)}
    assert abs(made.body["statistics"]["sound@mic"]["mean"][0]) < 0.01 < made.body["statistics"]["sound@mic"]["std"][0]

    loader = Loader(storage, made, known, ["sound@mic", "digit@truth"], "test", batch=50, shuffle=False)
    batch = next(iter(loader))
    assert batch["sound@mic"].shape == (50, 20000) and batch["sound@mic?"].all()
    first = next(clip for clip in clips if clip.stem.split("_")[1] == "theo")
    expected = known["sound"].fit(_pcm(first))
    assert np.allclose(batch["sound@mic"][0].numpy(), expected, atol=1e-6) and batch["digit@truth"][0] == 0


@pytest.mark.skipif(not (SHARED / "text/en_ewt-dev.conllu").is_file(), reason="the shared data (EWT) are not here")
def test_sentences_of_the_english_web_treebank(tmp_path: Path) -> None:
    known = inline.modalities(
        text={"type": "text", "length": 512},
        pos={"type": "tags", "tags": TAGS, "length": 90},
        links={"type": "graph", "nodes": 91, "edges": 90},
        genre={"type": "category", "classes": ["answers", "email", "newsgroup", "reviews", "weblog"]},
    )
    columns = {"text@raw": "tokens", "pos@truth": "upos", "links@truth": "heads", "genre@truth": "genre"}
    path = str(SHARED / "text/en_ewt-dev.conllu")
    source = {"type": "table", "path": path, "columns": columns, "key": "id", "group": "document"}
    storage = Storage(str(tmp_path))
    made = sharded(storage, known, source, test=0.3, stratify="genre@truth")
    assert made.rows == 2001 and made.body["statistics"]["pos@truth"]["classes"]["NOUN"] > 2000
    loader = Loader(storage, made, known, ["text@raw", "pos@truth"], "train", batch=32)
    for batch in loader:
        for text, tags in zip(batch["text@raw"].numpy(), batch["pos@truth"].numpy(), strict=True):
            assert len(known["text"].words(text).split(" ")) == (tags >= 0).sum(), "a tag for each token"
    genres = {name: _genres(storage, made, known, name) for name in ("train", "test")}
    for genre in known["genre"].classes:  # documents were dealt by genre, so both splits have all of them
        assert genres["train"].count(genre) and genres["test"].count(genre)


def _genres(storage: Storage, made: Manifest, known: dict[str, Any], split: str) -> list[str]:
    found = []
    for batch in Loader(storage, made, known, ["genre@truth"], split, batch=100):
        found += [known["genre"].words(g) for g in batch["genre@truth"].numpy()]
    return found


def _pcm(path: Path) -> np.ndarray:
    import wave

    with wave.open(str(path)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")
