"""The published GenEval detector: mmdet's Mask2Former Swin-S weights in the architecture of transformers.

The names are those of mmdet 2.x (`mask2former_swin-s-p4-w7-224_lsj_8x2_50e_coco`, 625 tensors) and of transformers 5.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from imagecot.checkpoint import few
from imagecot.errors import ImagecotError
from imagecot.foreign import foreign
from imagecot.weights import load_into, load_state_dict

if TYPE_CHECKING:
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation

# mmdet ends a file's name with the first digits of its SHA-256: this is …_20220504_001756-743b7d99.pth.
PUBLISHED_SHA256 = "743b7d99"

_SWIN, _PIXEL = "model.pixel_level_module.encoder.swin", "model.pixel_level_module.decoder"
_QUERY = "model.transformer_module"
_BLOCK, _THEIR_BLOCK = f"{_SWIN}.encoder.layers.#.blocks.#", "backbone.stages.#.blocks.#"
_LAYER, _THEIR_LAYER = f"{_QUERY}.decoder.layers.#", "panoptic_head.transformer_decoder.layers.#"
_DEFORMABLE, _THEIR_PIXEL = f"{_PIXEL}.encoder.layers.#", "panoptic_head.pixel_decoder"
_THEIR_DEFORMABLE = f"{_THEIR_PIXEL}.encoder.layers.#"

# transformers -> mmdet, where # is a number and * is "weight" or "bias".
_NAMES = {
    f"{_SWIN}.embeddings.patch_embeddings.projection.*": "backbone.patch_embed.projection.*",
    f"{_SWIN}.embeddings.norm.*": "backbone.patch_embed.norm.*",
    f"{_BLOCK}.layernorm_before.*": f"{_THEIR_BLOCK}.norm1.*",
    f"{_BLOCK}.layernorm_after.*": f"{_THEIR_BLOCK}.norm2.*",
    f"{_BLOCK}.attention.o_proj.*": f"{_THEIR_BLOCK}.attn.w_msa.proj.*",
    f"{_BLOCK}.attention.relative_position_bias.relative_position_bias_table": (
        f"{_THEIR_BLOCK}.attn.w_msa.relative_position_bias_table"
    ),
    f"{_BLOCK}.attention.relative_position_bias.relative_position_index": (
        f"{_THEIR_BLOCK}.attn.w_msa.relative_position_index"
    ),
    f"{_BLOCK}.mlp.fc1.*": f"{_THEIR_BLOCK}.ffn.layers.0.0.*",
    f"{_BLOCK}.mlp.fc2.*": f"{_THEIR_BLOCK}.ffn.layers.1.*",
    f"{_SWIN}.encoder.layers.#.downsample.reduction.*": "backbone.stages.#.downsample.reduction.*",
    f"{_SWIN}.encoder.layers.#.downsample.norm.*": "backbone.stages.#.downsample.norm.*",
    **{f"model.pixel_level_module.encoder.hidden_states_norms.stage{i + 1}.*": f"backbone.norm{i}.*" for i in range(4)},
    f"{_PIXEL}.input_projections.#.0.*": f"{_THEIR_PIXEL}.input_convs.#.conv.*",
    f"{_PIXEL}.input_projections.#.1.*": f"{_THEIR_PIXEL}.input_convs.#.gn.*",
    f"{_PIXEL}.level_embed": f"{_THEIR_PIXEL}.level_encoding.weight",
    **{
        f"{_DEFORMABLE}.self_attn.{part}.*": f"{_THEIR_DEFORMABLE}.attentions.0.{part}.*"
        for part in ("sampling_offsets", "attention_weights", "value_proj", "output_proj")
    },
    f"{_DEFORMABLE}.self_attn_layer_norm.*": f"{_THEIR_DEFORMABLE}.norms.0.*",
    f"{_DEFORMABLE}.final_layer_norm.*": f"{_THEIR_DEFORMABLE}.norms.1.*",
    f"{_DEFORMABLE}.fc1.*": f"{_THEIR_DEFORMABLE}.ffns.0.layers.0.0.*",
    f"{_DEFORMABLE}.fc2.*": f"{_THEIR_DEFORMABLE}.ffns.0.layers.1.*",
    f"{_PIXEL}.adapter_1.0.*": f"{_THEIR_PIXEL}.lateral_convs.0.conv.*",
    f"{_PIXEL}.adapter_1.1.*": f"{_THEIR_PIXEL}.lateral_convs.0.gn.*",
    f"{_PIXEL}.layer_1.0.*": f"{_THEIR_PIXEL}.output_convs.0.conv.*",
    f"{_PIXEL}.layer_1.1.*": f"{_THEIR_PIXEL}.output_convs.0.gn.*",
    f"{_PIXEL}.mask_projection.*": f"{_THEIR_PIXEL}.mask_feature.*",
    f"{_LAYER}.cross_attn.in_proj_*": f"{_THEIR_LAYER}.attentions.0.attn.in_proj_*",
    f"{_LAYER}.cross_attn.out_proj.*": f"{_THEIR_LAYER}.attentions.0.attn.out_proj.*",
    f"{_LAYER}.self_attn.out_proj.*": f"{_THEIR_LAYER}.attentions.1.attn.out_proj.*",
    f"{_LAYER}.cross_attn_layer_norm.*": f"{_THEIR_LAYER}.norms.0.*",
    f"{_LAYER}.self_attn_layer_norm.*": f"{_THEIR_LAYER}.norms.1.*",
    f"{_LAYER}.final_layer_norm.*": f"{_THEIR_LAYER}.norms.2.*",
    f"{_LAYER}.fc1.*": f"{_THEIR_LAYER}.ffns.0.layers.0.0.*",
    f"{_LAYER}.fc2.*": f"{_THEIR_LAYER}.ffns.0.layers.1.*",
    f"{_QUERY}.decoder.layernorm.*": "panoptic_head.transformer_decoder.post_norm.*",
    f"{_QUERY}.queries_embedder.*": "panoptic_head.query_embed.*",
    f"{_QUERY}.queries_features.*": "panoptic_head.query_feat.*",
    f"{_QUERY}.level_embed.*": "panoptic_head.level_embed.*",
    **{
        f"{_QUERY}.decoder.mask_predictor.mask_embedder.{i}.0.*": f"panoptic_head.mask_embed.{2 * i}.*"
        for i in range(3)
    },
    "class_predictor.*": "panoptic_head.cls_embed.*",
}
# Query, key and value are the thirds of one tensor.
_THIRDS = [
    {
        f"{_BLOCK}.attention.{part}_proj.*": f"{_THEIR_BLOCK}.attn.w_msa.qkv.*",
        f"{_LAYER}.self_attn.{part}_proj.*": f"{_THEIR_LAYER}.attentions.1.attn.in_proj_*",
    }
    for part in "qkv"
]
# The norm behind the last stage and the weights of the loss take no part in looking at an image.
_NOT_THEIRS = (f"{_SWIN}.layernorm.weight", f"{_SWIN}.layernorm.bias", "criterion.empty_weight")
_POSITIONS = ".relative_position_index"


def mmdet_config() -> "Mask2FormerConfig":
    """The configuration of transformers that fits mmdet's Swin-S instance model."""
    from transformers import Mask2FormerConfig, SwinConfig

    stages = ["stage1", "stage2", "stage3", "stage4"]
    swin = {"embed_dim": 96, "depths": [2, 2, 18, 2], "num_heads": [3, 6, 12, 24], "window_size": 7}
    found: Mask2FormerConfig = Mask2FormerConfig.from_dict(
        {"backbone_config": SwinConfig.from_dict({**swin, "out_features": stages}), "num_labels": 80}
    )
    return found


def load_mmdet(file: str | Path) -> "Mask2FormerForUniversalSegmentation":
    """Load mmdet's `.pth` as transformers' `Mask2FormerForUniversalSegmentation`, float32 on the CPU.

    Nothing in the file is executed. ImagecotError where it cannot be read or is not of this model.
    """
    from transformers import Mask2FormerForUniversalSegmentation

    state = load_state_dict(file, None, torch.float32)
    model = Mask2FormerForUniversalSegmentation(mmdet_config())
    fill_from_mmdet(model, state, file)
    return model


def fill_from_mmdet(model: nn.Module, state: dict[str, Tensor], source: str | Path) -> None:
    """Fill a model of transformers from mmdet's `state`, using every tensor of it once.

    ImagecotError, naming `source` and the tensors, where some are missing, left over or of another shape.
    """
    ours = model.state_dict()
    wanted = mmdet_sources(name for name in ours if name not in _NOT_THEIRS)
    # Swin's table of positions in a window is no weight, but mmdet stores it, and it must be the same.
    tables = {name: table for name, table in model.named_buffers() if name.endswith(_POSITIONS)}
    positions = {theirs: tables[name] for name, (theirs, _) in mmdet_sources(tables).items()}
    named = {name for name, _ in wanted.values()}
    missing = sorted(named - state.keys())
    unused = sorted(state.keys() - named - positions.keys())
    unlike = [
        n for n, table in positions.items() if n in state and not torch.equal(state[n].flatten(), table.flatten())
    ]
    kinds = (("lacks", missing), ("has the unknown", unused), ("differs from transformers in", unlike))
    problems = [f"{what} {len(names)} tensor(s): {few(names)}" for what, names in kinds if names]
    if problems:
        raise ImagecotError(f"{source} is not mmdet's Mask2Former Swin-S: it {'; it '.join(problems)}.")
    filled = {name: ours[name] for name in ours if name in _NOT_THEIRS}
    with foreign(f"{source} is not mmdet's Mask2Former Swin-S"):  # tensors of other shapes cannot be taken apart
        for name, (theirs, third) in wanted.items():
            tensor = state[theirs] if third is None else state[theirs].chunk(3)[third].clone()
            filled[name] = _reorder_merged(tensor) if ".downsample." in name else tensor
    load_into(model, filled, source)


def mmdet_sources(names: Iterable[str]) -> dict[str, tuple[str, int | None]]:
    """For names of transformers' tensors the name of mmdet's, and which third of it (None: the whole)."""
    tables: list[tuple[dict[str, str], int | None]] = [(_NAMES, None), *((part, i) for i, part in enumerate(_THIRDS))]
    rules = [
        (re.compile(re.escape(ours).replace(r"\#", r"(\d+)").replace(r"\*", "(weight|bias)")), theirs, third)
        for table, third in tables
        for ours, theirs in table.items()
    ]
    sources = {}
    for name in names:
        fits = [(match, theirs, third) for rule, theirs, third in rules if (match := rule.fullmatch(name))]
        if len(fits) != 1:
            raise ImagecotError(f"mmdet's Mask2Former has no tensor for {name}; use a version of transformers 5.")
        match, theirs, third = fits[0]
        sources[name] = (re.sub(r"[#*]", "{}", theirs).format(*match.groups()), third)
    return sources


def _reorder_merged(tensor: Tensor) -> Tensor:
    """Reorder the last axis (4 C) of a patch merging from mmdet's order to that of transformers.

    mmdet merges 2 x 2 patches by `unfold` (channel first, then row, then column), transformers by joining the
    four patches column by column (patch first, then channel).
    """
    patches = tensor.unflatten(-1, (-1, 4)).transpose(-1, -2)
    return patches[..., [0, 2, 1, 3], :].flatten(-2).contiguous()
