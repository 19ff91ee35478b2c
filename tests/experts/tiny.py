"""Tiny models with random weights, one for each architecture of the catalogue, saved as their library saves them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as tf

LABELS = ["person", "car", "road", "tree"]
NAMES = {"id2label": dict(enumerate(LABELS)), "label2id": {name: i for i, name in enumerate(LABELS)}}
LETTERS = [*"abcdefghijklmnopqrstuvwxyz", *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz")]
VIT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
SIDE = {"height": 32, "width": 32}


def save(folder: Path, *parts: Any) -> None:
    for part in parts:
        part.save_pretrained(folder)


def words(folder: Path) -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *LETTERS]))
    return tf.BertTokenizer(str(folder / "vocab.txt"))


def byte_pairs(folder: Path, start: str = "<|startoftext|>", end: str = "<|endoftext|>") -> Any:
    """A tokenizer of single letters in CLIP's manner."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    letters = list("abcdefghijklmnopqrstuvwxyz")
    listed = [start, end, *letters, *(f"{c}</w>" for c in letters)]
    inner = Tokenizer(models.BPE({w: i for i, w in enumerate(listed)}, [], end_of_word_suffix="</w>", unk_token=end))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    folder.mkdir(parents=True, exist_ok=True)
    return tf.PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token=start, eos_token=end, unk_token=end, pad_token=end, model_max_length=77
    )


def swin(**more: Any) -> Any:
    return tf.SwinConfig(
        image_size=32, patch_size=2, embed_dim=8, depths=[1] * 4, num_heads=[1] * 4, window_size=2, **more
    )


def resnet(**more: Any) -> Any:
    return tf.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1] * 4, layer_type="basic",
        out_features=["stage2", "stage3", "stage4"], **more,
    )  # fmt: skip


def depth_anything(folder: Path) -> None:
    backbone = tf.Dinov2Config(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, image_size=32, patch_size=4,
        reshape_hidden_states=False, out_features=["stage1", "stage2", "stage3", "stage4"], apply_layernorm=True,
    )  # fmt: skip
    config = tf.DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=16, patch_size=4, neck_hidden_sizes=[8] * 4,
        fusion_hidden_size=8, head_hidden_size=8,
    )  # fmt: skip
    save(folder, tf.DepthAnythingForDepthEstimation(config), tf.DPTImageProcessor(size=SIDE))


def dpt(folder: Path) -> None:
    config = tf.DPTConfig(
        **{**VIT, "num_hidden_layers": 4}, image_size=32, patch_size=8, neck_hidden_sizes=[8] * 4, fusion_hidden_size=8,
        backbone_out_indices=[0, 1, 2, 3], is_hybrid=False,
    )  # fmt: skip
    save(folder, tf.DPTForDepthEstimation(config), tf.DPTImageProcessor(size=SIDE))


def glpn(folder: Path) -> None:
    config = tf.GLPNConfig(
        hidden_sizes=[4, 8, 8, 8], depths=[1] * 4, num_attention_heads=[1] * 4, decoder_hidden_size=8
    )
    save(folder, tf.GLPNForDepthEstimation(config), tf.GLPNImageProcessor())


def zoedepth(folder: Path) -> None:
    backbone = tf.BeitConfig(
        **{**VIT, "num_hidden_layers": 4}, image_size=32, patch_size=8, use_relative_position_bias=True,
        reshape_hidden_states=False, out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = tf.ZoeDepthConfig(
        backbone_config=backbone, neck_hidden_sizes=[8] * 4, fusion_hidden_size=8, bottleneck_features=8,
        num_relative_features=8, bin_embedding_dim=8, num_attractors=[4, 2, 2, 1],
        bin_configurations=[{"n_bins": 8, "min_depth": 0.001, "max_depth": 10.0, "name": "nyu"}],
        patch_transformer_hidden_size=16, patch_transformer_intermediate_size=16,
        patch_transformer_num_attention_heads=2,
    )  # fmt: skip
    save(folder, tf.ZoeDepthForDepthEstimation(config), tf.ZoeDepthImageProcessor(size=SIDE, do_pad=False))


def segformer(folder: Path) -> None:
    config = tf.SegformerConfig(
        hidden_sizes=[4, 8, 8, 8], depths=[1] * 4, num_attention_heads=[1] * 4, decoder_hidden_size=8, **NAMES
    )
    save(folder, tf.SegformerForSemanticSegmentation(config), tf.SegformerImageProcessor(size=SIDE))


def mask2former(folder: Path) -> None:
    config = tf.Mask2FormerConfig(
        backbone_config=swin(out_features=["stage1", "stage2", "stage3", "stage4"]), feature_size=32,
        mask_feature_size=32, hidden_dim=32, encoder_feedforward_dim=16, dim_feedforward=16, encoder_layers=1,
        decoder_layers=2, num_attention_heads=2, num_queries=6, **NAMES,
    )  # fmt: skip
    processor = tf.Mask2FormerImageProcessor(size=SIDE, num_labels=len(LABELS))
    save(folder, tf.Mask2FormerForUniversalSegmentation(config), processor)


def detr(folder: Path) -> None:
    config = tf.DetrConfig(
        use_timm_backbone=False, use_pretrained_backbone=False, backbone=None,
        backbone_config=resnet(), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, num_queries=5, **NAMES,
    )  # fmt: skip
    size = {"shortest_edge": 32, "longest_edge": 64}
    save(folder, tf.DetrForObjectDetection(config), tf.DetrImageProcessor(size=size))


def yolos(folder: Path) -> None:
    config = tf.YolosConfig(**VIT, image_size=[32, 32], patch_size=8, num_detection_tokens=5, **NAMES)
    save(folder, tf.YolosForObjectDetection(config), tf.YolosImageProcessor(size=SIDE))


def rt_detr(folder: Path) -> None:
    backbone = tf.RTDetrResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1] * 4, layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = tf.RTDetrConfig(
        backbone_config=backbone, encoder_hidden_dim=16, encoder_in_channels=[8, 8, 8], feat_strides=[8, 16, 32],
        encoder_ffn_dim=16, encoder_attention_heads=2, d_model=16, num_queries=5, decoder_in_channels=[16, 16, 16],
        decoder_ffn_dim=16, decoder_layers=1, decoder_attention_heads=2, num_denoising=0, **NAMES,
    )  # fmt: skip
    save(folder, tf.RTDetrForObjectDetection(config), tf.RTDetrImageProcessor(size={"height": 64, "width": 64}))


def _clip_parts(side: int = 32) -> dict[str, Any]:
    text = {
        "vocab_size": 54,
        "max_position_embeddings": 77,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
        **VIT,
    }
    return {"text_config": text, "vision_config": {**VIT, "image_size": side, "patch_size": 8}, "projection_dim": 16}


def owlv2(folder: Path) -> None:
    model = tf.Owlv2ForObjectDetection(tf.Owlv2Config(**_clip_parts()))
    save(folder, model, tf.Owlv2Processor(tf.Owlv2ImageProcessor(size=SIDE), byte_pairs(folder)))


def owlvit(folder: Path) -> None:
    model = tf.OwlViTForObjectDetection(tf.OwlViTConfig(**_clip_parts()))
    save(folder, model, tf.OwlViTProcessor(tf.OwlViTImageProcessor(size=SIDE), byte_pairs(folder)))


def grounding_dino(folder: Path) -> None:
    tokenizer = words(folder)
    config = tf.GroundingDinoConfig(
        backbone_config=swin(out_indices=[2, 3, 4]),
        text_config=tf.BertConfig(vocab_size=len(tokenizer), max_position_embeddings=256, **VIT),
        d_model=32, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=16, decoder_ffn_dim=16, num_queries=5, max_text_len=256,
    )  # fmt: skip
    processor = tf.GroundingDinoProcessor(tf.GroundingDinoImageProcessor(size={"height": 64, "width": 64}), tokenizer)
    save(folder, tf.GroundingDinoForObjectDetection(config), processor)


def clipseg(folder: Path) -> None:
    config = tf.CLIPSegConfig(**_clip_parts(), extract_layers=[0, 1], reduce_dim=8, decoder_num_attention_heads=2,
                              decoder_intermediate_size=16)  # fmt: skip
    processor = tf.CLIPSegProcessor(tf.ViTImageProcessor(size=SIDE), byte_pairs(folder))
    save(folder, tf.CLIPSegForImageSegmentation(config), processor)


def sam(folder: Path) -> None:
    config = tf.SamConfig(
        vision_config={**VIT, "image_size": 64, "patch_size": 8, "output_channels": 16,
                       "num_pos_feats": 8, "window_size": 4,
                       "global_attn_indexes": [1], "mlp_dim": 16},
        prompt_encoder_config={"hidden_size": 16, "image_size": 64, "patch_size": 8, "mask_input_channels": 4},
        mask_decoder_config={"hidden_size": 16, "mlp_dim": 16, "num_attention_heads": 2, "num_hidden_layers": 2,
                             "iou_head_hidden_dim": 16},
    )  # fmt: skip
    processor = tf.SamProcessor(tf.SamImageProcessor(size={"longest_edge": 64}, pad_size={"height": 64, "width": 64}))
    save(folder, tf.SamModel(config), processor)


def vit(folder: Path) -> None:
    config = tf.ViTConfig(**VIT, image_size=32, patch_size=8, **NAMES)
    save(folder, tf.ViTForImageClassification(config), tf.ViTImageProcessor(size=SIDE))


def clip(folder: Path) -> None:
    processor = tf.CLIPProcessor(tf.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=SIDE), byte_pairs(folder))
    save(folder, tf.CLIPModel(tf.CLIPConfig(**_clip_parts())), processor)


def siglip(folder: Path) -> None:
    parts = {k: v for k, v in _clip_parts().items() if k != "projection_dim"}
    processor = tf.SiglipProcessor(tf.SiglipImageProcessor(size=SIDE), byte_pairs(folder))
    save(folder, tf.SiglipModel(tf.SiglipConfig(**parts)), processor)


def dinov2(folder: Path) -> None:
    config = tf.Dinov2Config(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8)
    processor = tf.BitImageProcessor(size={"shortest_edge": 32}, crop_size=SIDE)
    save(folder, tf.Dinov2Model(config), processor)


def bert(folder: Path) -> None:
    tokenizer = words(folder)
    save(folder, tf.BertModel(tf.BertConfig(vocab_size=len(tokenizer), max_position_embeddings=64, **VIT)), tokenizer)


def blip(folder: Path) -> None:
    tokenizer = words(folder)
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": 64, "encoder_hidden_size": 16,
            "projection_dim": 16,
            "bos_token_id": 2, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0, **VIT}  # fmt: skip
    config = tf.BlipConfig(
        text_config=text, vision_config={**VIT, "image_size": 32, "patch_size": 8}, projection_dim=16
    )
    processor = tf.BlipProcessor(tf.BlipImageProcessor(size=SIDE), tokenizer)
    save(folder, tf.BlipForConditionalGeneration(config), processor)


def git(folder: Path) -> None:
    tokenizer = words(folder)
    config = tf.GitConfig(
        vision_config={**VIT, "image_size": 32, "patch_size": 8}, vocab_size=len(tokenizer), bos_token_id=2,
        eos_token_id=3, pad_token_id=0, max_position_embeddings=64, **VIT,
    )  # fmt: skip
    processor = tf.GitProcessor(tf.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=SIDE), tokenizer)
    save(folder, tf.GitForCausalLM(config), processor)


def wav2vec2(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    import json

    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ABCDEFGH"]
    (folder / "vocab.json").write_text(json.dumps({c: i for i, c in enumerate(letters)}))
    config = tf.Wav2Vec2Config(
        vocab_size=len(letters), **VIT, conv_dim=(8, 8), conv_kernel=(10, 3), conv_stride=(80, 4),
        num_feat_extract_layers=2, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
        do_stable_layer_norm=False,
    )  # fmt: skip
    save(
        folder,
        tf.Wav2Vec2ForCTC(config),
        tf.Wav2Vec2FeatureExtractor(),
        tf.Wav2Vec2CTCTokenizer(str(folder / "vocab.json")),
    )


def whisper(folder: Path) -> None:
    """A second of sound at most; its letters are bytes, as GPT-2 writes them."""
    import json

    folder.mkdir(parents=True, exist_ok=True)
    marks = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>"]
    vocabulary = {c: i for i, c in enumerate([*"abcdefghijklmnopqrstuvwxyz", "\u0120", *marks])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    end = vocabulary[marks[0]]
    size = {f"{part}_{what}": 16 if what == "ffn_dim" else 1 if what == "layers" else 2
            for part in ("encoder", "decoder") for what in ("layers", "attention_heads", "ffn_dim")}  # fmt: skip
    config = tf.WhisperConfig(
        vocab_size=len(vocabulary), num_mel_bins=8, d_model=16, max_source_positions=50, max_target_positions=24,
        bos_token_id=end, eos_token_id=end, pad_token_id=end, decoder_start_token_id=vocabulary[marks[1]],
        begin_suppress_tokens=None, **size,
    )  # fmt: skip
    model = tf.WhisperForConditionalGeneration(config)
    model.generation_config.update(
        is_multilingual=True, lang_to_id={"<|en|>": vocabulary["<|en|>"]}, max_length=20, suppress_tokens=[],
        task_to_id={"transcribe": vocabulary["<|transcribe|>"]}, no_timestamps_token_id=vocabulary["<|notimestamps|>"],
    )  # fmt: skip
    tokenizer = tf.WhisperTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
    save(folder, model, tf.WhisperFeatureExtractor(feature_size=8, chunk_length=1), tokenizer)


def ast(folder: Path) -> None:
    labels = {"id2label": {0: "Speech", 1: "Music"}, "label2id": {"Speech": 0, "Music": 1}}
    config = tf.ASTConfig(**VIT, max_length=64, num_mel_bins=32, **labels)
    save(folder, tf.ASTForAudioClassification(config), tf.ASTFeatureExtractor(max_length=64, num_mel_bins=32))


ARCHITECTURES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "depth-anything-v2-small": ("depth", depth_anything), "dpt-large": ("depth", dpt), "glpn-kitti": ("depth", glpn),
    "zoedepth-nyu-kitti": ("depth", zoedepth), "mask2former-tiny-coco-instance": ("things", mask2former),
    "segformer-b0-ade": ("semantic", segformer), "mask2former-tiny-cityscapes": ("semantic", mask2former),
    "detr-resnet-50": ("boxes", detr), "yolos-tiny": ("boxes", yolos), "rt-detr-r18": ("boxes", rt_detr),
    "owlv2-base": ("boxes", owlv2), "owlvit-base": ("boxes", owlvit), "grounding-dino-tiny": ("boxes", grounding_dino),
    "clipseg": ("semantic", clipseg), "sam-base": ("semantic", sam), "vit-base-imagenet": ("kind", vit),
    "clip-vit-b32": ("kind", clip), "clip-vit-b32-pictures": ("embedding", clip),
    "clip-vit-b32-texts": ("embedding", clip),
    "siglip-base": ("kind", siglip), "siglip-base-texts": ("embedding", siglip), "dinov2-small": ("embedding", dinov2),
    "all-minilm-l6-v2": ("embedding", bert), "blip-base": ("text", blip), "git-base-coco": ("text", git),
    "wav2vec2-base-960h": ("text", wav2vec2), "whisper-tiny": ("text", whisper), "ast-audioset": ("heard", ast),
}  # fmt: skip
"""Entry -> what it makes, and its model."""


def make(name: str, folder: Path) -> str:
    """The model of an entry, in `folder`; what it makes."""
    torch.manual_seed(0)
    tf.utils.logging.set_verbosity_error()
    tf.utils.logging.disable_progress_bar()
    what, build = ARCHITECTURES[name]
    build(folder)
    return what
