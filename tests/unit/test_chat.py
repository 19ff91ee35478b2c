"""What a chat is asked: all that the columns say, in words or as JSON, never what is cut for people's eyes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from hyperloom.pipeline import plugins
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.label.services.apis import Chat
from hyperloom.stages.label.stage import Label
from tests.unit import inline

KNOWN: dict[str, Any] = inline.modalities(
    pose={"type": "vector", "length": 6},
    time={"type": "scalar"},
    objects={"type": "boxes", "classes": ["car", "dog"], "most": 3},
    kind={"type": "category", "classes": ["sun", "rain"]},
    marks={"type": "multilabel", "classes": ["wet", "dark"]},
    text={"type": "text", "length": 20},
    depth={"type": "dense", "size": [2, 2]},
    road={"type": "segmentation", "size": [2, 2], "classes": ["road", "sky"]},
    things={"type": "instances", "size": [2, 2], "classes": ["car"], "most": 2},
    noise={"type": "audio", "rate": 100, "seconds": 0.1},
    film={"type": "clip", "size": [2, 2], "frames": 2},
    joints={"type": "keypoints", "points": ["head", "foot"]},
    track={"type": "series", "steps": 3},
    edges={"type": "graph", "nodes": 3, "edges": 3},
    pos={"type": "tags", "tags": ["N", "V"], "length": 5},
    title={"type": "text", "length": 20},
)


def chat(*columns: str) -> Any:
    value = {"type": "http", "api": "chat", "url": "http://127.0.0.1", "model": "m", "out": "text@m"}
    return plugins.parse("expert", {**value, "in": list(columns), "prompt": "\n".join(f"{{{c}}}" for c in columns)})


def asked(**values: Any) -> list[str]:
    """The lines of the prompt, one a column."""
    expert = chat(*(f"{name}@a" for name in values))
    question: Any = Chat(expert, KNOWN).question({f"{n}@a": KNOWN[n].fit(v) for n, v in values.items()})
    lines: list[str] = question["messages"][0]["content"].splitlines()
    return lines


def test_numbers_and_boxes_are_said_with_all_that_they_say() -> None:
    """It was told `1.7e+09` of a time, `0 0.1 0.2 0.3 ... (6)` of a pose, and `2 dog` of two boxes."""
    boxes = [{"x0": 0.1, "y0": 0.25, "x1": 0.5, "y1": 0.75, "class": "dog", "score": 0.5}]
    time, pose, objects = asked(time=[1700001.5], pose=[0, 0.1, 0.2, 0.3, 0.4, -1e-7], objects=boxes)
    assert float(time) == 1700001.5 and time == "1700001.5"
    assert json.loads(pose) == [0, 0.1, 0.2, 0.3, 0.4, -1e-7]
    assert json.loads(objects) == boxes


def test_texts_and_classes_are_said_as_they_are_called() -> None:
    assert asked(text="a day", kind="rain", marks=["wet", "dark"]) == ["a day", "rain", "wet, dark"]


@pytest.mark.parametrize("name", ["depth", "road", "things", "noise", "film"])
def test_a_chat_has_no_words_for_maps_masks_sounds_and_films(name: str) -> None:
    """Of masks it was sent the bytes in which they are packed."""
    with pytest.raises(RecipeError, match=f"{name}@a: a chat has no words for {KNOWN[name].type}. Next: in: with"):
        Chat(chat(f"{name}@a"), KNOWN)


def test_points_series_and_graphs_are_said_in_numbers() -> None:
    joints, track, edges = asked(joints=[[0.5, 0.25, 1], [0, 0, 0]], track=[[1.5], [2]], edges=[[0, 2], [1, 2]])
    assert json.loads(joints) == [[0.5, 0.25, 1], [0, 0, 0]]
    assert json.loads(track) == [[1.5], [2], [None]] and json.loads(edges) == [[0, 2], [1, 2], [-1, -1]]


def test_only_labels_of_numbers_and_boxes_are_made_anew() -> None:
    assert (
        chat("time@a").revised_for(KNOWN) == chat("objects@a", "text@a").revised_for(KNOWN) == {"numbers in words": 2}
    )
    assert chat("kind@a", "text@a").revised_for(KNOWN) == {}
    assert chat("marks@a", "text@a").revised_for(KNOWN) == {"unknown labels": 2}


class Tagger(BaseHTTPRequestHandler):
    """A chat that says for each question the tags that its first word lists, N for other letters."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        said = " ".join(c if c in "NV" else "N" for c in asked["messages"][0]["content"].split()[0])
        data = json.dumps({"choices": [{"message": {"content": said}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def tagger() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Tagger) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_tags_are_one_for_each_word_of_the_text_beside_them(tmp_path: Path, tagger: str) -> None:
    """One left out gave each later word that of the next."""
    storage = Storage(str(tmp_path))
    texts = {
        "NVN dogs run": 3, "NV two words more": None, "NNN\u00a0x of": None, "NN\u00a0x of": 2, "abc": None,
        "我去北京": 4, "ไปไหน": 5, "我去 北京": 2, "我去北 京": None,
    }  # fmt: skip
    samples = [{"text@a": KNOWN["text"].fit(text)} for text in texts]
    expert = {"type": "http", "api": "chat", "url": tagger, "model": "m", "prompt": "{text@a}"}
    stage = Label(stage="label", data="frames", experts=[{**expert, "in": "text@a", "out": "pos@m"}])
    made = inline.finish(inline.step(stage, storage, KNOWN, frames=inline.ingested(storage, KNOWN, {"g": samples})))
    values = inline.column(storage, KNOWN, made, "pos@m").values()
    assert [None if v is None else int((v >= 0).sum()) for v in values] == list(texts.values())
    left_out = [r for r in made.records if r.quarantined]
    listed = [one for r in left_out for one in storage.read_json(f"{r.space}/quarantine/{r.id}.json")]
    errors = [one["error"].rpartition("ValueError: ")[2] for one in listed]
    assert errors == [
        "2 tags for 4 words", "3 tags for 2 words", "3 tags for 1 word", "3 tags for 2 words (4 characters)",
    ]  # fmt: skip


def test_only_tags_of_one_text_are_made_anew() -> None:
    of_one = plugins.parse("expert", {**chat("text@a").model_dump(by_alias=True), "out": ["pos@m"]})
    of_two = plugins.parse("expert", {**chat("text@a", "title@a").model_dump(by_alias=True), "out": ["pos@m"]})
    assert of_one.revised_for(KNOWN) == {"one tag a word": 2} and of_two.revised_for(KNOWN) == {}
