"""Tokenizers from files: read when the recipe is, known by their content, refused with a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.fingerprint import fingerprint, payload
from hyperloom.pipeline.planning.plan import check
from hyperloom.pipeline.recipes import recipe
from hyperloom.stages.modality.token_files import FileTokenizer
from tests.unit import inline

TEXTS = ("bring tea", "bring milk now", "take tea away", "take the milk away")
SMALL = """\
name: small
modalities:
  title: {type: text, length: 40, tokenizer: {type: file, most: 8, path: "%s"}}
  kind: {type: category, classes: [tea, milk]}
steps:
  frames: {stage: ingest, source: {type: table, path: "%s", columns: {title@web: title, kind@truth: kind}}}
  shards: {stage: shard, data: frames}
  model: {stage: train, data: shards, in: title@web, targets: {kind: kind@truth}, updates: 2}
  student: {stage: distill, data: shards, in: title@web, targets: {kind: kind@truth}, updates: 2}
"""


def saved(path: Path, size: int = 300) -> Path:
    """A tokenizer of bytes that were paired over a few sentences."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    path.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(path))
    return path


def title(path: Path | str, **fields: Any) -> Any:
    tokenizer = {"type": "file", "path": str(path), "most": 8, **fields}
    return inline.modalities(title={"type": "text", "length": 40, "tokenizer": tokenizer})["title"]


def test_texts_stay_texts_on_disk_and_become_ids_and_texts_again(tmp_path: Path) -> None:
    text = title(saved(tmp_path / "tokenizer.json"))
    column = text.encode([text.fit("bring  café"), None])
    assert column.to_pylist() == ["bring  café", None]
    ids = text.tokenizer.encoded([t.encode() for t in ("bring tea", "", "take the milk away" * 2)])
    assert ids.shape == (3, 8) and ids.dtype == np.int64
    assert 0 < (ids[0] > 0).sum() < len("bring tea") and not ids[1].any() and ids[2].all()
    assert text.tokenizer.texts(ids)[:2] == [b"bring tea", b""] and ids.max() < text.channels == 1 + text.tokenizer.size
    assert text.tokenizer.longer([t.encode() for t in ("bring tea", "", "take the milk away" * 3)]) == 1
    answer = text.answer(np.eye(text.channels)[ids[:1]])
    assert text.words(answer[0]) == "bring tea"


def test_a_tokenizer_is_its_content_wherever_it_lies(tmp_path: Path) -> None:
    first, same = (saved(tmp_path / name / "tokenizer.json") for name in ("a", "b"))
    known = [fingerprint(payload(title(path))) for path in (first, same, saved(tmp_path / "c.json", 265))]
    assert known[0] == known[1] != known[2]
    assert title(first).field("title@web").metadata == title(same).field("title@web").metadata
    assert "path" not in title(first).to_recipe()["tokenizer"]
    pinned = title(first).tokenizer.sha256
    assert payload(title(same, sha256=pinned)) == payload(title(first))
    with pytest.raises(ValueError, match=r"has the sha256 .* take the file that is meant"):
        title(tmp_path / "c.json", sha256=pinned)


def test_a_learned_tokenizer_needs_no_file_and_a_changed_file_is_refused(tmp_path: Path) -> None:
    text = title(path := saved(tmp_path / "tokenizer.json"))
    learned = text.learned({})
    saved(path, 265)
    with pytest.raises(ValueError, match="was changed since"):
        text.learned({})
    path.unlink()
    again = inline.modalities(title=json.loads(json.dumps(learned.to_recipe())))["title"]
    assert again.tokenizer.texts(again.tokenizer.encoded([b"take tea"])) == [b"take tea"]
    assert payload(again) == payload(text)
    with pytest.raises(ValueError, match="has no file here"):
        FileTokenizer.model_validate({"most": 8, "sha256": "ab"}).encoded([b"tea"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        ('{"model": {"type": "BPE", "vo', "no JSON file of a tokenizer"),
        ('{"architectures": ["Bert"]}', "no JSON file of a tokenizer"),
        (b"\xff\xfe", "no UTF-8"),
    ],
)
def test_what_is_no_tokenizer_is_said_before_anything_runs(tmp_path: Path, content: Any, said: str) -> None:
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RecipeError, match=rf"(?s)recipe.yaml:3.*tokenizer.json.*{said}"):
        loaded(tmp_path, path)


def test_a_student_cannot_read_by_a_file_and_the_plan_says_so(tmp_path: Path) -> None:
    found = loaded(tmp_path, saved(tmp_path / "tokenizer.json"))
    with pytest.raises(RecipeError, match=r"(?s)recipe.yaml:9.*student.onnx cannot take title@web.*`words`"):
        check(found)


def loaded(folder: Path, path: Path) -> Any:
    table = folder / "table.csv"
    table.write_text("title,kind\nbring tea,tea\n", encoding="utf-8")
    file = folder / "recipe.yaml"
    file.write_text(SMALL % (path, table), encoding="utf-8")
    return recipe.load(str(file))
