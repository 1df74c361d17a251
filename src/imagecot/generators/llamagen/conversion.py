"""A checkpoint folder from the files that LlamaGen releases or trains: their sizes are read off their tensors."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from imagecot.contracts.values import JSON
from imagecot.errors import UsageError
from imagecot.generators.llamagen.config import LlamaGenConfig, VQ16Config
from imagecot.generators.llamagen.model import LlamaGen
from imagecot.generators.llamagen.released import check_size, fitted, read
from imagecot.generators.llamagen.vq16 import VQ16
from imagecot.generators.settings import write_defaults
from imagecot.watch import SILENT, Watch

# Heads of the published sizes by their widths, which no tensor shows.
_HEADS = {768: 12, 1024: 16, 1280: 20, 1536: 24, 2048: 32, 2560: 40, 3200: 32, 4096: 32}
# How the released models are sampled.
_DECODING = {"guidance_scale": 7.5, "temperature": 1.0, "top_k": 1000, "top_p": 1.0}


def convert(
    weights: str | Path,
    image_tokenizer: str | Path,
    folder: str | Path,
    *,
    image_size: int | None = None,
    sizes: Mapping[str, JSON] | None = None,
    watch: Watch = SILENT,
) -> None:
    """Write a checkpoint folder, as `load_generator` reads it, from two files.

    weights          of the text-to-image transformer, such as `t2i_XL_stage1_256.pt`
    image_tokenizer  weights of VQ-16, such as `vq_ds16_t2i.pt`
    image_size       side of an image in pixels, where the weights do not show it: those of 256 and 512 px do not differ
    sizes            fields of `LlamaGenConfig` that are not as published, such as `n_head` or `text_encoder`
    watch            is told what the files hold beside the weights

    UsageError where the image size is not known; ImagecotError where a file cannot be read, or the two do not fit.
    """
    weights, image_tokenizer, folder = Path(weights), Path(image_tokenizer), Path(folder)
    found, pictures = read(weights), read(image_tokenizer)
    for sentence in (*found.told, *pictures.told):
        watch.tell(sentence)
    vq_config = VQ16Config.from_dict(_tokenizer_sizes(pictures.state, image_tokenizer))
    side = None if image_size is None else image_size // vq_config.downsample_factor
    block_size = side * side if side else found.block_size or _named_size(weights, vq_config)
    if block_size is None:
        raise UsageError(f"{weights} does not show how large its images are; give image_size (256 or 512).")
    values = {**_transformer_sizes(found.state, weights), "block_size": block_size, **(sizes or {})}
    config = LlamaGenConfig.from_dict(values)
    check_size(found, config.block_size, str(weights))
    if vq_config.codebook_size != config.vocab_size:
        raise UsageError(
            f"{image_tokenizer} has {vq_config.codebook_size} codes but {weights} draws with {config.vocab_size}; give "
            "the image tokenizer that it was trained with."
        )
    fitted(lambda: VQ16(vq_config), pictures, image_tokenizer).save_pretrained(folder / config.vq_model)
    fitted(lambda: LlamaGen(config), found, weights).save_pretrained(folder)
    write_defaults(folder, _DECODING)


def _named_size(weights: Path, config: VQ16Config) -> int | None:
    """How many codes an image has by the name that the file was released under."""
    size = next((size for size in (256, 384, 512) if weights.stem.endswith(f"_{size}")), None)
    return None if size is None else (size // config.downsample_factor) ** 2


def _shape(state: Mapping[str, Tensor], name: str, file: Path) -> tuple[int, ...]:
    if name not in state:
        raise UsageError(f"{file} has no tensor {name}; give the weights of a text-to-image LlamaGen and of its VQ-16.")
    return tuple(state[name].shape)


def _transformer_sizes(state: Mapping[str, Tensor], file: Path) -> dict[str, JSON]:
    """Fields of `LlamaGenConfig` by the shapes of tensors; `multiple_of` is as published."""
    rows, caption_dim = _shape(state, "cls_embedding.uncond_embedding", file)
    vocab_size, dim = _shape(state, "tok_embeddings.weight", file)
    found: dict[str, JSON] = {
        "dim": dim,
        "n_layer": _count(state, "layers."),
        "caption_dim": caption_dim,
        "vocab_size": vocab_size,
        "cls_token_num": rows,
    }
    return found | ({"n_head": _HEADS[dim]} if dim in _HEADS else {})


def _tokenizer_sizes(state: Mapping[str, Tensor], file: Path) -> dict[str, JSON]:
    """Fields of `VQ16Config` by the shapes of tensors."""
    ch = _shape(state, "encoder.conv_in.weight", file)[0]
    codes, width = _shape(state, "quantize.embedding.weight", file)
    levels = range(_count(state, "encoder.conv_blocks."))
    widths = {
        part: [_shape(state, f"{part}.conv_blocks.{level}.res.0.conv2.weight", file)[0] // ch for level in levels]
        for part in ("encoder", "decoder")
    }
    return {
        "codebook_size": codes,
        "codebook_embed_dim": width,
        "codebook_show_usage": "quantize.codebook_used" in state,
        "encoder_ch_mult": widths["encoder"],
        "decoder_ch_mult": widths["decoder"][::-1],
        "z_channels": _shape(state, "encoder.conv_out.weight", file)[0],
        "ch": ch,
        "num_res_blocks": _count(state, "encoder.conv_blocks.0.res."),
    }


def _count(state: Mapping[str, Tensor], before: str) -> int:
    """How many numbers follow on a beginning in the names of tensors."""
    return len({name.removeprefix(before).split(".")[0] for name in state if name.startswith(before)})
