"""The expert `huggingface` on tiny model directories with random weights, saved by transformers itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from hyperloom.pipeline import plugins
from hyperloom.pipeline.errors import PluginError, RecipeError, SourceError
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.label.stage import Label
from tests.unit.inline import column, finish, ingested, modalities, step

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

KNOWN = modalities(
    rgb={"type": "image", "size": [24, 32]},
    semantic={"type": "segmentation", "classes": ["road", "tree", "sky"]},
    soft={"type": "soft", "of": "semantic"},
    depth={"type": "dense", "storage": "float32"},
    text={"type": "text", "length": 60},
    mood={"type": "category", "classes": ["good", "bad", "dull"]},
    scores={"type": "vector", "length": 3},
    embedding={"type": "embedding", "length": 16},
    tags={"type": "tags", "tags": ["noun", "verb"], "length": 8},
    boxes={"type": "boxes", "classes": ["car", "dog"], "most": 5},
    sound={"type": "audio", "rate": 16000, "seconds": 0.2},
)
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    *"abcdefghijklmnopqrstuvwxyz",
    *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz"),
]
SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
NAMES = {"id2label": {0: "Sky", 1: "vegetation", 2: "road", 3: "car"}, "label2id": {}}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    return tmp_path_factory.mktemp("models")


def save(folder: Path, model: Any, *parts: Any) -> str:
    for parameter in model.parameters():
        if parameter.ndim > 1:  # larger than usual, so that answers differ from place to place
            torch.nn.init.normal_(parameter, std=0.5)
    for part in (model, *parts):
        part.save_pretrained(folder)
    return str(folder)


def tokenizer(folder: Path) -> Any:
    folder.mkdir(exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    return transformers.BertTokenizer(str(folder / "vocab.txt"))


def segformer(folder: Path, **names: Any) -> str:
    config = transformers.SegformerConfig(
        hidden_sizes=[4, 8, 8, 8],
        depths=[1] * 4,
        num_attention_heads=[1] * 4,
        decoder_hidden_size=8,
        **(names or NAMES),
    )
    processor = transformers.SegformerImageProcessor(size={"height": 32, "width": 32})
    return save(folder, transformers.SegformerForSemanticSegmentation(config), processor)


def photos(count: int = 5) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 255, (count, 3, 4, 3)).astype(np.uint8)
    return coarse.repeat(8, 1).repeat(8, 2)


def asked(path: str, task: str, rows: np.ndarray, source: str = "rgb@camera", **fields: Any) -> dict[str, Any]:
    expert = plugins.parse("expert", {"type": "huggingface", "path": path, "task": task, "in": source, **fields})
    return expert.build(KNOWN, Storage("memory://huggingface"))({source: rows})


def texts(*lines: str) -> np.ndarray:
    return np.stack([KNOWN["text"].fit(line) for line in lines])


def test_segmentation_is_what_the_library_says_itself(home: Path, tmp_path: Path) -> None:
    path = segformer(home / "segformer")
    frames = photos()
    fields = {
        "type": "huggingface", "path": path, "task": "image-segmentation", "in": "rgb@camera",
        "out": ["semantic@hf", "soft@hf"], "labels": {"vegetation": "tree", "car": None},
    }  # fmt: skip
    storage = Storage(str(tmp_path))
    data = ingested(storage, KNOWN, {"g": [{"rgb@camera": f} for f in frames]})
    made = finish(step(Label(stage="label", data="frames", experts=[fields]), storage, KNOWN, frames=data))
    found = np.stack([v for v in column(storage, KNOWN, made, "semantic@hf").values() if v is not None])
    soft = np.stack([v for v in column(storage, KNOWN, made, "soft@hf").values() if v is not None])
    processor = transformers.AutoImageProcessor.from_pretrained(path)
    model = transformers.AutoModelForSemanticSegmentation.from_pretrained(path).eval()
    with torch.inference_mode():
        told = model(**processor(images=list(frames), return_tensors="pt"))
    said = processor.post_process_semantic_segmentation(told, [(24, 32)] * len(frames))
    expected = np.array([2, 1, 0, 255], np.uint8)[np.stack([s.numpy() for s in said])]
    assert len(np.unique(expected)) > 2 and (found == expected).mean() > 0.98
    known = expected != 255
    assert np.allclose(soft.sum(-1), 1, atol=0.01) and (soft.argmax(-1)[known] == expected[known]).mean() > 0.9
    about = made.body["columns"]["semantic@hf"]["about"]
    assert len(about["weights"]) == 3 and about["expert"]["task"] == "image-segmentation"


def test_a_compiled_network_answers_alike(home: Path) -> None:
    """By the `eager` of torch.compile, which compiles nothing: that the network goes through it."""
    path, seen = segformer(home / "compiled"), []

    def traced(graph: Any, _: Any) -> Any:
        seen.append(graph)
        return graph.forward

    from hyperloom.stages.network import compiling

    fields = {"path": path, "task": "image-segmentation", "rows": photos(2), "out": ["semantic@hf"]}
    labels = {"vegetation": "tree", "car": None}
    plain = asked(**fields, labels=labels)["semantic@hf"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiling, "why_not_compile", lambda device: None)
        patch.setattr(compiling, "how", lambda compile, device, say: {"backend": traced} if compile else None)
        compiled = asked(**fields, labels=labels, compile=True)["semantic@hf"]
    torch.compiler.reset()
    assert seen and (compiled == plain).mean() > 0.99
    with pytest.raises(ValidationError, match="compile: text-generation writes word by word"):
        asked(path, "text-generation", photos(1), out="text@hf", compile=True)


def test_networks_of_masks_give_class_maps(home: Path) -> None:
    backbone = transformers.SwinConfig(
        image_size=32, patch_size=2, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], window_size=2,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = transformers.Mask2FormerConfig(
        backbone_config=backbone, feature_size=32, mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=16,
        dim_feedforward=16, encoder_layers=1, decoder_layers=2, num_attention_heads=2, num_queries=6, **NAMES,
    )  # fmt: skip
    processor = transformers.Mask2FormerImageProcessor(size={"height": 32, "width": 32}, num_labels=4)
    path = save(home / "mask2former", transformers.Mask2FormerForUniversalSegmentation(config), processor)
    frames = photos(2)
    found = asked(path, "image-segmentation", frames, out=["semantic@hf", "soft@hf"], labels={"vegetation": "tree"})
    processor = transformers.AutoImageProcessor.from_pretrained(path)
    model = transformers.Mask2FormerForUniversalSegmentation.from_pretrained(path).eval()
    with torch.inference_mode():
        told = model(**processor(images=list(frames), return_tensors="pt"))
    said = processor.post_process_semantic_segmentation(told, [(24, 32)] * 2)
    expected = np.array([2, 1, 0, 255], np.uint8)[np.stack([s.numpy() for s in said])]
    assert (found["semantic@hf"] == expected).mean() > 0.9
    assert np.allclose(found["soft@hf"].sum(-1), 1, atol=1e-3)


def test_depth(home: Path) -> None:
    config = transformers.DPTConfig(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8,
        neck_hidden_sizes=[8] * 4, fusion_hidden_size=8, backbone_out_indices=[0, 1, 2, 3], is_hybrid=False,
    )  # fmt: skip
    processor = transformers.DPTImageProcessor(size={"height": 32, "width": 32}, keep_aspect_ratio=False)
    path = save(home / "dpt", transformers.DPTForDepthEstimation(config), processor)
    found = asked(path, "depth-estimation", photos(2), out="depth@hf", decode={"type": "dense", "normalise": "range"})
    depth = found["depth@hf"]
    assert depth.shape == (2, 24, 32, 1) and depth.min() == 0 and depth.max() == 1 and depth.std() > 0.05


def bert(folder: Path, kind: str, **names: Any) -> str:
    config = transformers.BertConfig(vocab_size=len(WORDS), max_position_embeddings=64, **SIZES, **names)
    return save(folder, getattr(transformers, kind)(config), tokenizer(folder))


def test_embeddings_of_texts_do_not_depend_on_their_company(home: Path) -> None:
    path = bert(home / "encoder", "BertModel")
    lines = texts("a", "abc defg hijk lmno", "xyz")
    fields = {"source": "text@x", "out": "embedding@hf"}
    together = asked(path, "feature-extraction", lines, **fields)["embedding@hf"]
    alone = [asked(path, "feature-extraction", lines[i : i + 1], **fields)["embedding@hf"][0] for i in range(3)]
    assert np.allclose(together, alone, atol=1e-5) and together.std(0).max() > 0.05
    words = transformers.AutoTokenizer.from_pretrained(path)
    model = transformers.AutoModel.from_pretrained(path).eval()
    with torch.inference_mode():
        last = model(**words(["xyz"], return_tensors="pt")).last_hidden_state[0]
    assert np.allclose(together[2], last.mean(0).numpy(), atol=1e-5)
    unit = asked(path, "feature-extraction", lines, **fields, pool="cls", unit=True)["embedding@hf"]
    assert np.allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-5)
    assert np.allclose(unit[2], (last[0] / last[0].norm()).numpy(), atol=1e-5)


def test_classes_and_scores_of_texts_and_pictures(home: Path) -> None:
    labels = {
        "id2label": {0: "POSITIVE", 1: "NEGATIVE", 2: "dull"},
        "label2id": {"POSITIVE": 0, "NEGATIVE": 1, "dull": 2},
    }
    path = bert(home / "classifier", "BertForSequenceClassification", **labels)
    lines = texts("a good one", "zzz", "quite bad", "hm")
    made = asked(
        path, "text-classification", lines, "text@x", out=["mood@hf", "scores@hf"],
        labels={"POSITIVE": "good", "NEGATIVE": "bad"},
    )  # fmt: skip
    scores = np.stack(made["scores@hf"])
    assert np.allclose(scores.sum(1), 1, atol=1e-4) and (scores.argmax(1) == np.stack(made["mood@hf"])).all()
    model = transformers.AutoModelForSequenceClassification.from_pretrained(path).eval()
    words = transformers.AutoTokenizer.from_pretrained(path)
    with torch.inference_mode():
        expected = model(**words(["zzz"], return_tensors="pt")).logits.softmax(-1)[0].numpy()
    assert np.allclose(scores[1], expected, atol=1e-5)
    config = transformers.ViTConfig(image_size=24, patch_size=8, **SIZES, **labels)
    vit = save(
        home / "vit", transformers.ViTForImageClassification(config),
        transformers.ViTImageProcessor(size={"height": 24, "width": 24}),
    )  # fmt: skip
    told = asked(vit, "image-classification", photos(), out="scores@hf")["scores@hf"]
    assert np.allclose(np.stack(told).sum(1), 1, atol=1e-4)
    told = asked(vit, "image-classification", photos(), out="mood@hf")["mood@hf"]
    assert all(value is None or int(value) == 2 for value in told)  # the other labels are no classes
    assert asked(vit, "image-feature-extraction", photos(), out="embedding@hf", pool="cls")["embedding@hf"].shape == (
        5,
        16,
    )


def test_tags_of_words(home: Path) -> None:
    labels = {"id2label": {0: "N", 1: "V"}, "label2id": {"N": 0, "V": 1}}
    path = bert(home / "tagger", "BertForTokenClassification", **labels)
    (tags,) = asked(
        path, "token-classification", texts("ab cde  f"), "text@x", out="tags@hf", labels={"N": "noun", "V": "verb"}
    )["tags@hf"]
    assert (tags[:3] >= 0).all() and (tags[3:] == -1).all()
    model = transformers.AutoModelForTokenClassification.from_pretrained(path).eval()
    words = transformers.AutoTokenizer.from_pretrained(path)
    with torch.inference_mode():
        said = model(**words(["ab cde  f"], return_tensors="pt")).logits[0].argmax(-1).tolist()
    assert tags[:3].tolist() == [said[1], said[3], said[6]]  # [CLS] a ##b c ##d ##e f [SEP]


def test_boxes_and_sounds_and_texts(home: Path) -> None:
    config = transformers.YolosConfig(
        image_size=[32, 32], patch_size=8, num_detection_tokens=7, id2label={0: "car", 1: "hound"},
        label2id={"car": 0, "hound": 1}, **SIZES,
    )  # fmt: skip
    processor = transformers.YolosImageProcessor(size={"height": 32, "width": 32})
    path = save(home / "yolos", transformers.YolosForObjectDetection(config), processor)
    (found,) = asked(path, "object-detection", photos(1), out="boxes@hf", labels={"hound": "dog"})["boxes@hf"]
    KNOWN["boxes"].check(found)
    there = found[~np.isnan(found[:, 0])]
    assert len(there) and (np.diff(there[:, 5]) <= 0).all() and set(there[:, 4]) <= {0, 1}
    config = transformers.Wav2Vec2Config(
        vocab_size=8, conv_dim=[8, 8], conv_stride=[5, 4], conv_kernel=[10, 4], num_feat_extract_layers=2,
        num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, classifier_proj_size=8,
        id2label={0: "good", 1: "bad", 2: "dull"}, label2id={"good": 0, "bad": 1, "dull": 2}, **SIZES,
    )  # fmt: skip
    ears = transformers.Wav2Vec2FeatureExtractor()
    path = save(home / "wav2vec", transformers.Wav2Vec2ForSequenceClassification(config), ears)
    sound = np.sin(np.arange(3200) / 9).astype(np.float32)[None]
    made = asked(path, "audio-classification", sound, "sound@mic", out=["mood@hf", "scores@hf"])
    assert int(made["mood@hf"][0]) == int(np.argmax(made["scores@hf"][0]))
    for samples, asked_for in ((2222, 2222), (3200, 3200), (400, 1600), (0, 3200)):
        short = np.where(np.arange(3200) < samples, sound, 0).astype(np.float32)
        own = ears(short[0, :asked_for], sampling_rate=16000, return_tensors="pt")
        with torch.inference_mode():
            net = transformers.AutoModelForAudioClassification.from_pretrained(path).eval()
            expected = net(**own).logits[0].softmax(-1).numpy()
        made = asked(path, "audio-classification", short, "sound@mic", out="scores@hf")["scores@hf"][0]
        assert np.allclose(made, expected, atol=1e-5), "what fills up a recording is not heard"
    folder = home / "writer"
    config = transformers.GPT2Config(
        vocab_size=len(WORDS),
        n_embd=16,
        n_layer=1,
        n_head=2,
        n_positions=64,
        bos_token_id=2,
        eos_token_id=3,
        pad_token_id=0,
    )
    path = save(folder, transformers.GPT2LMHeadModel(config), tokenizer(folder))
    fields = {"source": "text@x", "out": "text@hf", "options": {"max_new_tokens": 4}}
    first, again = (asked(path, "text-generation", texts("ab c"), **fields)["text@hf"][0] for _ in range(2))
    KNOWN["text"].check(first)
    assert np.array_equal(first, again), "nothing is drawn by chance"


def test_nothing_but_data_is_loaded(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(segformer(tmp_path / "net"))
    fields = {"out": "semantic@hf", "labels": {"vegetation": "tree"}}
    assert asked(str(path), "image-segmentation", photos(1), **fields)
    with pytest.raises(SourceError, match="hf download"):
        asked("somebody/segformer", "image-segmentation", photos(1), **fields)
    weights = path / "model.safetensors"
    torch.save({}, path / "pytorch_model.bin")
    weights.rename(tmp_path / "aside")
    with pytest.raises(SourceError, match="does not load"):
        asked(str(path), "image-segmentation", photos(1), **fields)
    (tmp_path / "aside").rename(weights)
    config = json.loads((path / "config.json").read_text())
    mark = tmp_path / "ran"
    (path / "evil.py").write_text(f"open({str(mark)!r}, 'w')\nclass Config: pass\n")
    config |= {"auto_map": {"AutoConfig": "evil.Config"}, "model_type": "evil"}
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(SourceError, match="without code of its own"):
        asked(str(path), "image-segmentation", photos(1), **fields)
    assert not mark.exists()
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(PluginError, match=r"pip install 'hyperloom\[huggingface\]'"):
        asked(str(path), "image-segmentation", photos(1), **fields)


def test_mistakes_are_said(home: Path) -> None:
    path = segformer(home / "mistakes")
    with pytest.raises(RecipeError, match="no hedge; it has Sky, vegetation"):
        asked(path, "image-segmentation", photos(1), out="semantic@hf", labels={"hedge": "tree"})
    with pytest.raises(RecipeError, match="is no model for depth-estimation"):
        asked(path, "depth-estimation", photos(1), out="depth@hf")
    with pytest.raises(RecipeError, match="not category"):
        asked(path, "image-segmentation", photos(1), out="mood@hf")
    with pytest.raises(ValidationError, match="takes none"):
        asked(path, "image-segmentation", photos(1), out="semantic@hf", prompt="hello")
    plain = segformer(home / "plain", num_labels=3)
    found = asked(plain, "image-segmentation", photos(1), out="semantic@hf")["semantic@hf"]
    assert found.max() < 3, "a model without names and with as many classes: ids as they are"
