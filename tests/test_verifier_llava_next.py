"""Checkpoints as LLaVA-NeXT writes them, against recorded numbers of the reference implementation."""

import contextlib
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import LlavaOnevisionForConditionalGeneration

import recorded as recordings
from imagecot.contracts.questions import CLARITY, ORM, POTENTIAL
from imagecot.errors import ImagecotError, UsageError
from imagecot.verifiers import LlavaOnevisionVerifier, load_verifier
from imagecot.verifiers.chat import RELEASED_CLARITY
from imagecot.verifiers.llava_next import TOWERS, is_llava_next, module_names, translate
from imagecot.verifiers.vision import prepare

DATA = Path(__file__).parent / "data" / "llava"
RECORDED = json.loads((DATA / "recorded.json").read_text())
# For each tensor of the 7B model: its name in LLaVA-NeXT, in files of llava-hf, in transformers 5; its shape.
KEYS = json.loads(gzip.decompress((DATA / "keys.json.gz").read_bytes()))["keys"]
LAYOUTS = ("llava-next", "llava-hf", "modules")
PROMPT = RECORDED["prompt"]
RELEASED = {
    "architectures": ["LlavaQwenForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151645,
    "hidden_act": "silu",
    "hidden_size": 3584,
    "image_aspect_ratio": "anyres_max_9",
    "image_token_index": 151646,
    "intermediate_size": 18944,
    "max_position_embeddings": 32768,
    "max_window_layers": 28,
    "mm_hidden_size": 1152,
    "mm_patch_merge_type": "spatial_unpad",
    "mm_projector_type": "mlp2x_gelu",
    "mm_vision_select_layer": -2,
    "mm_vision_tower": "google/siglip-so400m-patch14-384",
    "model_type": "llava_qwen",
    "num_attention_heads": 28,
    "num_hidden_layers": 28,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000.0,
    "sliding_window": 131072,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_sliding_window": False,
    "vocab_size": 152064,
}
TINY = {**RELEASED, **RECORDED["text_config"], "mm_vision_tower": "tiny-tower", "image_token_index": 447}

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def tensors() -> State:
    return recordings.llava()


@pytest.fixture(autouse=True)
def tower(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recorded model has a smaller tower than any that LLaVA-NeXT knows."""
    sizes = dict(RECORDED["vision_config"])
    sizes["num_hidden_layers"] = sizes.pop("num_hidden_layers_used")
    monkeypatch.setitem(TOWERS, "tiny-tower", sizes)


def in_layout(tensors: State, layout: str) -> State:
    """The recorded weights, which are stored under the names of llava-hf, under those of a layout."""
    name_of = {row[1]: row[LAYOUTS.index(layout)] for row in KEYS}
    return {name_of[k.removeprefix("weights.")]: v for k, v in tensors.items() if k.startswith("weights.")}


def write(folder: Path, state: State, config: dict, kind: str = "safetensors") -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_bytes((DATA / "tokenizer.json").read_bytes())
    if kind == "bin":
        torch.save(state, folder / "pytorch_model.bin")
    elif kind == "shards":
        names = sorted(state)
        files = {f"model-0000{i + 1}-of-00002.safetensors": names[i::2] for i in range(2)}
        for file, part in files.items():
            save_file({name: state[name] for name in part}, folder / file)
        weight_map = {name: file for file, part in files.items() for name in part}
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    else:
        save_file(state, folder / "model.safetensors")
    return folder


def answer(verifier: LlavaOnevisionVerifier, name: str = "orm") -> tuple[float, float]:
    """P(yes) of a recorded question, and what was recorded."""
    case = next(case for case in RECORDED["questions"] if case["name"] == name)
    question = {"orm": ORM, "clarity": CLARITY, "potential": POTENTIAL}[name]
    image = recordings.picture("llava/image_256.webp")[None] / 255
    return verifier.ask(image, [PROMPT], question).item(), case["yes_prob_two_way"]


def test_released_names_and_shapes_are_those_of_transformers() -> None:
    assert len(KEYS) == 765
    renamed = module_names([row[0] for row in KEYS], "released")
    assert renamed == {row[2]: row[0] for row in KEYS}
    with torch.device("meta"):
        model = LlavaOnevisionForConditionalGeneration(translate(RELEASED, "released"))
    assert {name: list(t.shape) for name, t in model.state_dict().items()} == {row[2]: row[3] for row in KEYS}
    assert model.config.text_config.rope_parameters["rope_theta"] == 1e6
    assert model.config.vision_config.hidden_act == "gelu_pytorch_tanh"
    assert model.config.image_token_index == 151646


@pytest.mark.parametrize("kind", ["safetensors", "shards", "bin"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_answer_equals_the_recorded_one(layout: str, kind: str, tensors: State, tmp_path: Path) -> None:
    verifier = load_verifier(write(tmp_path / "released", in_layout(tensors, layout), TINY, kind))
    assert isinstance(verifier, LlavaOnevisionVerifier)
    p, recorded = answer(verifier)
    assert p == pytest.approx(recorded, abs=1e-5)


def test_released_checkpoints_are_asked_in_the_words_of_the_released_code(tensors: State, tmp_path: Path) -> None:
    verifier = load_verifier(write(tmp_path / "parm", in_layout(tensors, "llava-next"), TINY))
    potential, recorded = answer(verifier, "potential")
    assert potential == pytest.approx(recorded, abs=1e-5)
    image = recordings.picture("llava/image_256.webp")[None] / 255
    first, conversation = verifier.begin(image, [PROMPT], CLARITY)
    assert first.item() == pytest.approx(answer(verifier, "clarity")[1], abs=1e-5)
    assert conversation.question == RELEASED_CLARITY
    assert verifier.ask(image, [PROMPT], POTENTIAL, conversation).item() == pytest.approx(recorded, abs=1e-5)
    with pytest.raises(UsageError, match="no follow-up"):
        verifier.ask(image, [PROMPT], ORM, conversation)


@pytest.mark.parametrize(("rows", "image"), [(362, 447), (362, None), (448, None), (512, 447)])
def test_the_number_of_vocabulary_rows_changes_nothing(
    rows: int, image: int | None, tensors: State, tmp_path: Path
) -> None:
    """Cut to the 362 entries of the tokenizer, as the reference runs; padded, as converted files are."""
    state = in_layout(tensors, "llava-next")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        state[name] = torch.cat([state[name], torch.full((64, 32), 9.0)])[:rows].clone()
    config = {**TINY, "vocab_size": min(rows, 448), "image_token_index": image}
    if image is None:
        del config["image_token_index"]
    verifier = load_verifier(write(tmp_path / "rows", state, config))
    p, recorded = answer(verifier)
    assert p == pytest.approx(recorded, abs=1e-5)


@pytest.mark.parametrize("field", sorted(TINY))
def test_any_value_in_a_configuration(tensors: State, tmp_path: Path, field: str) -> None:
    """Whatever a field holds, the checkpoint answers or is refused."""
    folder = write(tmp_path / "odd", in_layout(tensors, "llava-next"), TINY)
    for value in ("x", None, -200, 0, 10**12, 0.5, True, [], [1], {}):
        (folder / "config.json").write_text(json.dumps({**TINY, field: value}))
        with contextlib.suppress(ImagecotError):
            assert 0 <= load_verifier(folder).ask(torch.rand(1, 3, 32, 32), ["a cat"], ORM).item() <= 1


def test_tied_embeddings_need_no_head(tensors: State, tmp_path: Path) -> None:
    state = in_layout(tensors, "llava-next")
    head = state.pop("lm_head.weight")
    verifier = load_verifier(write(tmp_path / "tied", state, {**TINY, "tie_word_embeddings": True}))
    assert torch.equal(verifier.model.lm_head.weight, state["model.embed_tokens.weight"])
    assert not torch.equal(head, state["model.embed_tokens.weight"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("model.image_newline"), r"lack 1 tensor\(s\), such as model\.image_newline"),
        (lambda s: s.pop("model.mm_projector.0.bias"), r"lack 1 .*multi_modal_projector\.linear_1\.bias"),
        (lambda s: s.update({"model.extra.weight": torch.zeros(1)}), r"unknown 1 .*model\.extra\.weight"),
        (lambda s: s.update({"model.norm.weight": torch.zeros(3)}), r"misfit 1 .*norm\.weight"),
        (
            lambda s: s.update({"model.language_model.norm.weight": torch.zeros(32)}),
            r"twice, as model\.(language_model\.)?norm\.weight and as model\.(language_model\.)?norm\.weight",
        ),
    ],
    ids=["lacking", "lacking renamed", "unknown", "misfit", "twice"],
)
def test_tensors_that_do_not_fit_are_one_sentence(
    change: Callable[[State], object], message: str, tensors: State, tmp_path: Path
) -> None:
    state = in_layout(tensors, "llava-next")
    change(state)
    with pytest.raises(ImagecotError, match=message) as error:
        load_verifier(write(tmp_path / "changed", state, TINY))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mm_vision_tower", "openai/clip-vit-large-patch14-336"),
        ("mm_projector_type", "linear"),
        ("mm_patch_merge_type", "flat"),
    ],
)
def test_other_models_of_llava_next_are_refused(field: str, value: str, tensors: State, tmp_path: Path) -> None:
    folder = write(tmp_path / "other", in_layout(tensors, "llava-next"), {**TINY, field: value})
    with pytest.raises(ImagecotError, match=f"{field} '{value}' instead of"):
        load_verifier(folder)


def test_anything_but_tensors_is_not_loaded(tmp_path: Path) -> None:
    folder = write(tmp_path / "pickle", {"lm_head.weight": torch.zeros(1)}, TINY)
    (folder / "model.safetensors").unlink()
    torch.save({"lm_head.weight": Path("/")}, folder / "pytorch_model.bin")
    with pytest.raises(ImagecotError, match="something other than tensors"):
        load_verifier(folder)


def test_a_tokenizer_in_two_files_is_read_like_one(tensors: State, tmp_path: Path) -> None:
    folder = write(tmp_path / "files", in_layout(tensors, "llava-next"), TINY)
    whole = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(whole["model"]["vocab"]))
    with pytest.raises(ImagecotError, match=r"no tokenizer\.json"):
        load_verifier(folder)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in whole["model"]["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    added = {str(token.pop("id")): token for token in whole["added_tokens"]}
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": added}))
    verifier = load_verifier(folder)
    p, recorded = answer(verifier, "clarity")
    assert p == pytest.approx(recorded, abs=1e-5)
    with pytest.raises(UsageError, match="<\\|im_end\\|>"):
        verifier.ask(torch.zeros(1, 3, 8, 8), ["a cat<|im_end|>"], ORM)


def test_the_two_layouts_are_told_apart_by_their_config() -> None:
    assert is_llava_next(RELEASED)
    assert is_llava_next({**RELEASED, "model_type": "llava"})
    assert not is_llava_next(translate(RELEASED, "released").to_dict())
    assert not is_llava_next({"model_type": "llava", "vision_config": {}})


def test_a_hub_id_may_name_a_folder(tensors: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(repository: str, allow_patterns: list[str], **options: object) -> str:
        asked.append((repository, allow_patterns))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    write(tmp_path / "parm", in_layout(tensors, "llava-next"), TINY)
    assert isinstance(load_verifier("ZiyuG/Image-Generation-CoT:parm"), LlavaOnevisionVerifier)
    repository, patterns = asked[0]
    assert repository == "ZiyuG/Image-Generation-CoT"
    assert all(pattern.startswith("parm/") for pattern in patterns)
    assert {"parm/*.json", "parm/*.safetensors", "parm/pytorch_model*.bin", "parm/merges.txt"} <= set(patterns)
    with pytest.raises(ImagecotError, match="no folder orm"):
        load_verifier("ZiyuG/Image-Generation-CoT:orm")
    with pytest.raises(UsageError, match=r"more than one model; name one: .*:orm_ft, .*:parm"):
        load_verifier("ZiyuG/Image-Generation-CoT")


def test_images_that_are_not_square_are_padded_like_the_reference() -> None:
    image, padded = (recordings.picture(f"llava/{name}_300x200.webp")[None] / 255 for name in ("image", "pixels"))
    torch.testing.assert_close(prepare(image, 384), padded * 2 - 1, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (2, 5, [127, 0, 0, 127, 127]),  # (5 - 2) // 2 = 1 grey row above, the other two below
        (4, 2, [127, 0, 0, 127]),
        (3, 2, [0, 0, 127]),
        (3, 3, [0, 0, 0]),
    ],
)
def test_grey_bars_are_beside_the_shorter_dimension(height: int, width: int, expected: list[int]) -> None:
    side = max(height, width)
    levels = (prepare(torch.zeros(2, 3, height, width), side) + 1) / 2 * 255  # black; no resizing
    line = torch.tensor(expected, dtype=torch.float32)
    wanted = line[:, None].expand(side, side) if height < width else line.expand(side, side)
    torch.testing.assert_close(levels, wanted.expand(2, 3, side, side), atol=1e-4, rtol=0)


@pytest.mark.parametrize("n", [1, 64, 256, 383, 512, 1000])
def test_resizing_equals_pillow(n: int) -> None:
    levels = torch.randint(0, 256, (n, n, 3), generator=torch.Generator().manual_seed(n), dtype=torch.uint8)
    levels[: n // 2] = levels[: n // 2] // 128 * 255  # the upper half overshoots: black and white
    pillow = np.asarray(Image.fromarray(levels.numpy()).resize((384, 384), Image.Resampling.BICUBIC))
    ours = (prepare(levels.permute(2, 0, 1)[None] / 255, 384)[0] + 1) / 2 * 255
    assert np.array_equal(ours.round().to(torch.uint8).permute(1, 2, 0).numpy(), pillow)
