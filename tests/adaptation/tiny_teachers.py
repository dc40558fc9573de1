"""Tiny teachers of each family, with random weights, saved as their real sisters are."""

import json
from pathlib import Path

import torch

from tcseg.labels import CITYSCAPES

NAMES = dict(enumerate(CITYSCAPES.classes))
CARD = "---\nlicense: other\nlicense_name: tiny-licence\nlicense_link: LICENSE\n---\n# A tiny network\n"
PREPROCESSOR = {
    "do_resize": True,
    "size": {"height": 32, "width": 32},  # squashes: nobody may use it
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}


def named(classes=None):
    names = dict(enumerate(classes)) if classes else NAMES
    return {"id2label": names, "label2id": {name: index for index, name in names.items()}}


def config_of(family, **more):
    """A configuration with some thousand parameters."""
    import transformers as t

    labels = named(more.pop("classes", None))
    swin = {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1], "window_size": 4, "drop_path_rate": 0.0}
    swin |= {"out_features": ["stage1", "stage2", "stage3", "stage4"]}
    if family == "segformer":
        small = {"hidden_sizes": [8, 8, 16, 16], "depths": [1] * 4, "num_attention_heads": [1, 1, 2, 2]}
        return t.SegformerConfig(decoder_hidden_size=16, mlp_ratios=[2] * 4, **small, **labels, **more)
    if family == "upernet":
        back = t.SwinConfig(**swin)
        return t.UperNetConfig(backbone_config=back, hidden_size=16, use_auxiliary_head=False, **labels, **more)
    if family == "dpt":
        small = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 16}
        small |= {"backbone_out_indices": [0, 1, 2, 3], "neck_hidden_sizes": [8] * 4, "fusion_hidden_size": 8}
        return t.DPTConfig(image_size=64, patch_size=16, use_auxiliary_head=False, **small, **labels, **more)
    if family == "beit":
        small = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 16}
        small |= {"out_indices": [1, 2, 3, 4], "use_relative_position_bias": True, "add_fpn": True}
        return t.BeitConfig(image_size=64, patch_size=16, use_auxiliary_head=False, **small, **labels, **more)
    if family == "mobilevit":
        return t.MobileViTConfig(
            hidden_sizes=[8, 8, 8], neck_hidden_sizes=[4, 4, 4, 8, 8, 8, 16], aspp_out_channels=8, num_attention_heads=1,
            **labels, **more,
        )  # fmt: skip
    if family == "mask2former":
        return t.Mask2FormerConfig(
            backbone_config=t.SwinConfig(**swin), feature_size=32, mask_feature_size=32, hidden_dim=32, num_queries=7,
            encoder_feedforward_dim=16, dim_feedforward=16, encoder_layers=1, decoder_layers=2, num_attention_heads=2,
            **labels, **more,
        )  # fmt: skip
    if family == "maskformer":
        detr = t.DetrConfig(
            d_model=32, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=16, decoder_ffn_dim=16, num_queries=7,
            encoder_attention_heads=2, decoder_attention_heads=2, backbone_config=t.ResNetConfig(), use_timm_backbone=False,
        )  # fmt: skip
        return t.MaskFormerConfig(
            backbone_config=t.SwinConfig(**swin), decoder_config=detr, fpn_feature_size=32, mask_feature_size=32,
            **labels, **more,
        )  # fmt: skip
    if family == "oneformer":
        return t.OneFormerConfig(
            backbone_config=t.SwinConfig(**swin), conv_dim=32, mask_dim=32, hidden_dim=32, num_queries=7, encoder_layers=1,
            encoder_feedforward_dim=16, dim_feedforward=16, decoder_layers=2, query_dec_layers=1, num_attention_heads=2,
            task_seq_len=12, text_encoder_width=32, text_encoder_num_layers=1, text_encoder_vocab_size=600, is_training=False,
            **labels, **more,
        )  # fmt: skip
    if family == "eomt":
        small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_blocks": 1, "num_queries": 7}
        return t.EomtConfig(image_size=64, patch_size=16, **small, **labels, **more)
    raise KeyError(family)


NOISE = {"mobilevit": 0.6, "maskformer": 0.08}
CLASSES = {
    "segformer": "SegformerForSemanticSegmentation",
    "upernet": "UperNetForSemanticSegmentation",
    "dpt": "DPTForSemanticSegmentation",
    "beit": "BeitForSemanticSegmentation",
    "mobilevit": "MobileViTForSemanticSegmentation",
    "mask2former": "Mask2FormerForUniversalSegmentation",
    "maskformer": "MaskFormerForInstanceSegmentation",
    "oneformer": "OneFormerForUniversalSegmentation",
    "eomt": "EomtForUniversalSegmentation",
}


def save(family, folder: Path, card=CARD, preprocessor=PREPROCESSOR, **more) -> Path:
    """Save a tiny network with its card, preprocessor and, of a oneformer, its tokenizer."""
    import transformers

    torch.manual_seed(0)
    network = getattr(transformers, CLASSES[family])(config_of(family, **more))
    with torch.no_grad():
        for parameter in network.parameters():  # as they begin, networks say nearly the same everywhere
            parameter.add_(torch.randn_like(parameter), alpha=NOISE.get(family, 0.15))
    network.eval().save_pretrained(folder)
    if preprocessor is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    if card is not None:
        (folder / "README.md").write_text(card)
    if family == "oneformer":
        save_tokenizer(folder)
    return folder


def save_tokenizer(folder: Path) -> None:
    """CLIP's kind of tokenizer, with letters alone."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [*letters, *(f"{one}</w>" for one in letters), "th", "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\nt h\n")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    told = {"tokenizer_class": "CLIPTokenizer", "pad_token": "<|endoftext|>", "model_max_length": 77} | special
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
