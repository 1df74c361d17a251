"""mmdet's weights in transformers' Mask2Former: names, thirds and merged patches, on a small random network."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

import recorded as recordings
from imagecot.errors import ImagecotError
from imagecot.geneval import mmdet_weights
from imagecot.geneval.mask2former import instances, prepare
from imagecot.geneval.mmdet_weights import fill_from_mmdet, load_mmdet, mmdet_config, mmdet_sources

LEFT_OUT = ("swin.layernorm.", "criterion.")


def small_config(**more: object) -> Mask2FormerConfig:
    swin = SwinConfig(
        embed_dim=16,
        depths=[1, 2, 1, 1],
        num_heads=[1, 2, 2, 4],
        window_size=7,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    sizes = dict.fromkeys(
        ("feature_size", "mask_feature_size", "hidden_dim", "encoder_feedforward_dim", "dim_feedforward"), 32
    )
    layers = {"encoder_layers": 2, "decoder_layers": 4, "num_attention_heads": 4}
    return Mask2FormerConfig(backbone_config=swin, **{"num_labels": 80, **sizes, **layers, **more})


def small_mask2former(seed: int = 0, **more: object) -> Mask2FormerForUniversalSegmentation:
    """A random network in which no two tensors are alike: norms and biases are random too."""
    torch.manual_seed(seed)
    model = Mask2FormerForUniversalSegmentation(small_config(**more)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def mmdet_state(model: Mask2FormerForUniversalSegmentation) -> dict[str, Tensor]:
    """What mmdet 2.x would save of this network, renamed step by step and without the tables of the package."""
    ours = {k: v.clone() for k, v in model.state_dict().items() if not any(part in k for part in LEFT_OUT)}
    state: dict[str, Tensor] = {}
    for name, tensor in ours.items():
        name = name.replace(
            "model.pixel_level_module.encoder.swin.embeddings.patch_embeddings.", "backbone.patch_embed."
        )
        name = name.replace("model.pixel_level_module.encoder.swin.embeddings.", "backbone.patch_embed.")
        name = name.replace("model.pixel_level_module.encoder.swin.encoder.layers.", "backbone.stages.")
        name = name.replace("model.pixel_level_module.decoder.", "panoptic_head.pixel_decoder.")
        name = name.replace("model.transformer_module.decoder.", "panoptic_head.transformer_decoder.")
        name = name.replace("model.transformer_module.", "panoptic_head.")
        for stage in range(4):
            name = name.replace(
                f"model.pixel_level_module.encoder.hidden_states_norms.stage{stage + 1}.", f"backbone.norm{stage}."
            )
        if name.startswith("backbone."):
            name = name.replace("layernorm_before", "norm1").replace("layernorm_after", "norm2")
            name = name.replace("attention.relative_position_bias.relative", "attn.w_msa.relative")
            name = name.replace("attention.o_proj", "attn.w_msa.proj").replace("attention.", "attn.w_msa.")
            name = name.replace("mlp.fc1", "ffn.layers.0.0").replace("mlp.fc2", "ffn.layers.1")
            if ".downsample." in name:
                # back to `unfold`: channel, row, column; transformers has column, row, channel
                columns = tensor.unflatten(-1, (2, 2, -1))
                tensor = columns.permute(*range(tensor.ndim - 1), -1, -2, -3).flatten(-3)
        elif name.startswith("panoptic_head.pixel_decoder."):
            name = name.replace("input_projections", "input_convs").replace("level_embed", "level_encoding.weight")
            name = name.replace("self_attn_layer_norm", "norms.0").replace("final_layer_norm", "norms.1")
            name = (
                name.replace("self_attn", "attentions.0")
                .replace("fc1", "ffns.0.layers.0.0")
                .replace("fc2", "ffns.0.layers.1")
            )
            name = name.replace("adapter_1", "lateral_convs.0").replace("layer_1", "output_convs.0")
            name = name.replace("mask_projection", "mask_feature")
            if "_convs." in name:
                name = name.replace(".0.weight", ".conv.weight").replace(".0.bias", ".conv.bias")
                name = name.replace(".1.weight", ".gn.weight").replace(".1.bias", ".gn.bias")
        else:
            name = name.replace("cross_attn_layer_norm", "norms.0").replace("self_attn_layer_norm", "norms.1")
            name = name.replace("final_layer_norm", "norms.2").replace("layernorm", "post_norm")
            name = name.replace("cross_attn", "attentions.0.attn").replace("self_attn", "attentions.1.attn")
            name = name.replace("fc1", "ffns.0.layers.0.0").replace("fc2", "ffns.0.layers.1")
            name = name.replace("queries_embedder", "query_embed").replace("queries_features", "query_feat")
            name = name.replace("class_predictor", "panoptic_head.cls_embed")
            for i in range(3):
                name = name.replace(f"transformer_decoder.mask_predictor.mask_embedder.{i}.0.", f"mask_embed.{2 * i}.")
        state[name] = tensor
    for query in [name for name in state if ".q_proj." in name]:
        whole = torch.cat([state.pop(query.replace("q_proj", f"{part}_proj")) for part in "qkv"])
        backbone = query.startswith("backbone.")
        state[query.replace("q_proj", "qkv") if backbone else query.replace("q_proj.", "in_proj_")] = whole
    rows = (torch.arange(7)[:, None] * 13 + torch.arange(7)).flatten()  # mmdet's table for a window of 7 x 7
    for name in [name for name in state if name.endswith("relative_position_bias_table")]:
        state[name.replace("bias_table", "index")] = (rows[:, None] + rows).flip(1).contiguous()
    return state


def test_round_trip_is_exact() -> None:
    model, other = small_mask2former(1), small_mask2former(2)
    fill_from_mmdet(other, mmdet_state(model), "x.pth")
    for name, tensor in model.state_dict().items():
        if not any(part in name for part in LEFT_OUT):
            assert torch.equal(tensor, other.state_dict()[name]), name
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        one, two = model(image), other(image)
    assert torch.equal(one.class_queries_logits, two.class_queries_logits)
    assert torch.equal(one.masks_queries_logits, two.masks_queries_logits)


def test_the_published_network_has_625_tensors_and_each_is_used_once() -> None:
    with torch.device("meta"):
        model = Mask2FormerForUniversalSegmentation(mmdet_config())
    sources = mmdet_sources(k for k in model.state_dict() if not any(part in k for part in LEFT_OUT))
    # patches 4, blocks 24 x 13, merging 3 x 3, norms 8; pixel decoder 12 + 6 x 16 + 1 + 3 + 3 + 2;
    # decoder 9 x 18 + 2, queries and levels 3, classes 2, masks 6
    assert len({name for name, _ in sources.values()}) == 4 + 312 + 9 + 8 + 117 + 164 + 3 + 2 + 6 == 625
    assert len(set(sources.values())) == len(sources)
    for name, third in sources.values():
        wanted = [None] if third is None else [0, 1, 2]
        assert sorted((t for n, t in sources.values() if n == name), key=str) == wanted


def test_merged_patches_come_out_as_by_unfold() -> None:
    model, other = small_mask2former(1), small_mask2former(2)
    state = mmdet_state(model)
    fill_from_mmdet(other, state, "x.pth")
    merge = other.model.pixel_level_module.encoder.swin.encoder.layers[0].downsample
    key = "backbone.stages.0.downsample."
    x = torch.randn(2, 16, 6, 10)
    theirs = F.unfold(x, 2, stride=2).transpose(1, 2)
    theirs = F.layer_norm(theirs, (64,), state[key + "norm.weight"], state[key + "norm.bias"])
    theirs = F.linear(theirs, state[key + "reduction.weight"])
    ours = merge(x.flatten(2).transpose(1, 2), (6, 10))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    assert not torch.equal(merge.reduction.weight, state[key + "reduction.weight"])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda s: s.pop("panoptic_head.query_feat.weight"), "lacks 1 tensor.*panoptic_head.query_feat.weight"),
        (lambda s: s.pop("backbone.stages.1.blocks.1.attn.w_msa.qkv.bias"), "lacks 1 .*blocks.1.attn.w_msa.qkv.bias"),
        (lambda s: s.update(extra=torch.zeros(1)), "unknown 1 tensor.*extra"),
        (
            lambda s: s["backbone.stages.0.blocks.0.attn.w_msa.relative_position_index"].add_(1),
            "differs .*position_index",
        ),
        (lambda s: s.update({"panoptic_head.cls_embed.bias": torch.zeros(134)}), "class_predictor.bias"),
    ],
)
def test_what_does_not_fit_is_named(change, named) -> None:
    state = mmdet_state(small_mask2former(1))
    change(state)
    with pytest.raises(ImagecotError, match=f"x.pth .*{named}"):
        fill_from_mmdet(small_mask2former(2), state, "x.pth")


def test_load_reads_mmdets_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_mask2former(1)
    content = {"meta": {"mmdet_version": "2.28.2", "CLASSES": ("person",)}, "state_dict": mmdet_state(model)}
    torch.save(content, tmp_path / "x.pth", _use_new_zipfile_serialization=False)  # as mmdet publishes
    monkeypatch.setattr(mmdet_weights, "mmdet_config", small_config)
    loaded = load_mmdet(tmp_path / "x.pth")
    assert torch.equal(loaded.class_predictor.weight, model.class_predictor.weight)
    with pytest.raises(ImagecotError, match="does not exist"):
        load_mmdet(tmp_path / "none.pth")


def test_mmdets_own_answers_are_matched():
    """A small network of mmdet 2.28.2: its weights, its input, its logits, its boxes, scores and masks, recorded."""
    kept, expected = recordings.read("mmdet/state"), recordings.read("mmdet/expected")
    # Kept in half precision, which is far below what resizing makes of it.
    state = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in kept.items()}
    model = small_mask2former(9)
    fill_from_mmdet(model, state, "recorded")
    with torch.no_grad():
        out = model(prepare(expected["image"].permute(2, 0, 1).float())[None])
    logits, wanted = out.class_queries_logits[0], expected["class_logits"]
    # Resizing may be off by one grey level of 256, which is all that separates the two.
    assert (logits - wanted).abs().max() < 0.02 * wanted.std()
    height, width = expected["image"].shape[:2]
    labels, rows, masks = instances(logits, out.masks_queries_logits[0], height, width, least=-1)
    ours = torch.tensor(sorted((float(k), row[4], *row[:4]) for k, row in zip(labels, rows.tolist(), strict=True)))
    theirs = torch.tensor(sorted((row[0], row[5], *row[1:5]) for row in expected["rows"].tolist()))
    assert torch.equal(ours[:, 0], theirs[:, 0])
    torch.testing.assert_close(ours[:, 1], theirs[:, 1], atol=0.03, rtol=0)
    assert (ours[:, 2:] - theirs[:, 2:]).abs().mean() < 0.05
    assert abs(float(masks.float().mean() - expected["masks"].float().mean())) < 0.005
