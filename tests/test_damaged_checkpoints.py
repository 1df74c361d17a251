"""Checkpoints that are damaged, hostile or belong to something else: refused in one sentence, and never a traceback."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from changing import change
from imagecot import load_generator, load_verifier
from imagecot.contracts.paths import finish
from imagecot.contracts.questions import ORM
from imagecot.contracts.randomness import path_seeds
from imagecot.errors import ImagecotError, UsageError
from imagecot.weights import load_state_dict
from imagecot.worlds.drawn.detector import PictogramDetector
from plain_decoder import tiny_generator

torch.set_num_threads(1)
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(["", "x", "256", "\u2028\x1b[31m", "x" * 5000, 0, -1, 1, 63, 10**9, 10**40, 0.5, -0.0]),
    st.sampled_from([math.nan, math.inf, [], [1], [256, "x"], {}, {"a": [None]}]),
    st.integers(-3, 200),
)


def draw(folder: Path) -> None:
    generator = load_generator(folder, device="cpu")
    finish(generator, generator.start(["a cat"], path_seeds(0, 1)))


def judge(folder: Path) -> None:
    assert 0 <= float(load_verifier(folder, device="cpu").ask(torch.rand(1, 3, 28, 28), ["a cat"], ORM)) <= 1


def works_or_says_why(use: Callable[[Path], None], folder: Path) -> None:
    try:
        use(folder)
    except ImagecotError as error:
        told = str(error)
        assert told.endswith(".") and "\n" not in told and told.isprintable()
        assert len(told) < 1000


FIELDS = [
    *("codebook_size", "num_vq_tokens", "llm_vocab_size", "max_text_len", "hidden_size", "num_hidden_layers"),
    *("num_attention_heads", "intermediate_size", "max_position_embeddings", "partial_rotary_factor", "rope_theta"),
    *("layer_norm_eps", "w_clip_vit", "vq_model", "llm_model_path", "vocab_size", "mask_token_id", "known_words"),
]
VQ_FIELDS = [
    *("channels", "encoder_mult", "decoder_mult", "encoder_blocks", "decoder_blocks", "code_bits", "in_channels"),
    *("out_channels", "image_size", "patch_size"),
]


@given(st.sampled_from(FIELDS), ODD)
def test_any_value_in_a_generators_config(small, field, value):
    file = small / "generator/config.json"
    before = file.read_text()
    try:
        change(file, **{field: value})
        works_or_says_why(draw, small / "generator")
    finally:
        file.write_text(before)


@settings(max_examples=40)
@given(st.sampled_from(VQ_FIELDS), ODD)
def test_any_value_in_an_image_tokenizers_config(small, field, value):
    file = small / "generator/vq/config.json"
    before = file.read_text()
    try:
        change(file, **{field: value})
        works_or_says_why(draw, small / "generator")
    finally:
        file.write_text(before)


@settings(max_examples=20)
@given(st.sampled_from(["steps", "guidance_scale", "temperature", "other"]), ODD)
def test_any_value_in_a_generation_config(small, field, value):
    file = small / "generator/generation_config.json"
    before = file.read_text()
    try:
        change(file, **{field: value})
        works_or_says_why(lambda folder: load_generator(folder, device="cpu") and None, small / "generator")
    finally:
        file.write_text(before)


@settings(max_examples=15)
@given(
    st.sampled_from(["text_config", "vision_config", ""]),
    st.sampled_from(
        [
            "num_hidden_layers",
            "hidden_size",
            "vocab_size",
            "patch_size",
            "layer_types",
            "image_token_index",
            "model_type",
        ]
    ),
    ODD,
)
def test_any_value_in_a_verifiers_config(small, part, field, value):
    file = small / "verifier/config.json"
    before = file.read_text()
    try:
        held = json.loads(before)
        (held[part] if part else held)[field] = value
        file.write_text(json.dumps(held))
        works_or_says_why(judge, small / "verifier")
    finally:
        file.write_text(before)


@settings(max_examples=40)
@given(
    st.sampled_from(
        ["config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json", "vq/config.json"]
    ),
    st.sampled_from(
        [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"a": NaN}', b"[" * 100_000, b"9" * 5000, "\ufeff{}".encode()]
    ),
)
def test_any_file_of_a_generator_replaced(small, name, content):
    file = small / "generator" / name
    before = file.read_bytes()
    try:
        file.write_bytes(content)
        works_or_says_why(draw, small / "generator")
    finally:
        file.write_bytes(before)


@pytest.mark.parametrize(
    ("file", "values", "message"),
    [
        ("config.json", {"hidden_size": "64"}, r"config\.json describes no model: hidden_size: .* integer, not '64'"),
        ("config.json", {"num_vq_tokens": 15}, "num_vq_tokens must be a square"),
        ("config.json", {"num_vq_tokens": 4}, r"make 8; set vq_model"),
        ("config.json", {"num_hidden_layers": 100_000}, "num_hidden_layers: input .* equal to 1000, not 100000"),
        ("config.json", {"max_text_len": 1000}, "max_position_embeddings is below"),
        ("config.json", {"partial_rotary_factor": 0}, "partial_rotary_factor must"),
        ("config.json", {"vocab_size": 9}, "vocab_size is 9, but the sizes make it 375"),
        ("vq/config.json", {"code_bits": 64}, "code_bits: input should be less than or equal to 24, not 64"),
        ("vq/config.json", {"encoder_mult": []}, r"encoder_mult: .* at least 1 item .* not \[\]"),
        ("vq/config.json", {"decoder_blocks": [1]}, "must be of one length"),
        ("vq/config.json", {"image_size": 32}, "is of images of 32 pixels, but the 16 codes"),
        ("generation_config.json", {"steps": "18"}, r"generation_config\.json: steps: .*not '18'"),
        ("generation_config.json", {"steps": True}, "steps"),
        ("generation_config.json", {"steps": 10**12}, "steps"),
        ("generation_config.json", {"temperature": None}, "temperature"),
    ],
)
def test_what_is_wrong_with_a_generator_is_named(small, copied, file, values, message):
    folder = copied(small / "generator")
    change(folder / file, **values)
    with pytest.raises(ImagecotError, match=message):
        load_generator(folder, device="cpu")


@pytest.mark.parametrize("settings", [{"steps": 0}, {"steps": 2.0}, {"steps": 10**6}, {"guidance_scale": math.inf},
                                      {"temperature": math.nan}, {"temperature": -1}, {"temperature": "1"},
                                      {"memory_budget": 0}, {"schedule": "pownan"}, {"schedule": None}])  # fmt: skip
def test_settings_given_from_python_are_checked(settings):
    with pytest.raises(UsageError):
        tiny_generator(**settings)
    generator = tiny_generator()
    for name, value in settings.items():
        setattr(generator, name, value)
    with pytest.raises(UsageError):
        generator.start(["a cat"], path_seeds(0, 1))


@pytest.mark.parametrize("load", [load_generator, load_verifier])
@pytest.mark.parametrize(
    "asked", [{"device": "nowhere"}, {"device": "meta"}, {"device": 3.5}, {"dtype": torch.int8}, {"dtype": 5}]
)
def test_devices_and_types_that_are_not_there(load, asked):
    with pytest.raises(UsageError):
        load("tiny" if load is load_generator else "tiny-zero-shot", **asked)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu():
    with pytest.raises(UsageError, match="there is no device 'cuda'"):
        load_generator("tiny", device="cuda")


@pytest.mark.parametrize("load", [load_generator, load_verifier])
@pytest.mark.parametrize("name", ["", " ", "a\0b", "x" * 5000, "a\nb", None, "../", "a/b/c", "..", "acme/gen:../../x"])
def test_names_that_name_nothing(load, name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ImagecotError):
        load(name)


def not_a_number(file: Path) -> None:
    state = load_file(file)
    name = next(name for name in sorted(state) if state[name].is_floating_point())
    state[name].view(-1)[0] = math.nan
    save_file(state, file, {"format": "pt"})


def test_weights_that_are_no_numbers(small, copied, tmp_path):
    for name in ("model.safetensors", "vq/model.safetensors"):
        folder = copied(small / "generator")
        not_a_number(folder / name)
        with pytest.raises(ImagecotError, match=r"are damaged: 1 tensor\(s\) hold numbers that are not finite"):
            load_generator(folder)
    folder = copied(small / "verifier")
    not_a_number(folder / "model.safetensors")
    with pytest.raises(ImagecotError, match="not finite"):
        load_verifier(folder)
    PictogramDetector(8).save_pretrained(tmp_path)
    not_a_number(tmp_path / "model.safetensors")
    with pytest.raises(ImagecotError, match="not finite"):
        PictogramDetector.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "values", [{"width": "8"}, {"width": 0}, {"width": 10**9}, {"trunk": "x"}, {"trunk": None}, {"model_type": "x"}]
)
def test_sizes_of_a_detector(tmp_path, values):
    PictogramDetector(8).save_pretrained(tmp_path)
    change(tmp_path / "config.json", **values)
    with pytest.raises(ImagecotError, match=next(iter(values))):
        PictogramDetector.from_pretrained(tmp_path)


@pytest.mark.parametrize("damage", [b"", b"x" * 99, b"\x80\x02cos\nsystem\n.", b"\x80\x04]\x94.", b"PK\x03\x04broken"])
@pytest.mark.parametrize("kind", ["generator", "verifier"])
def test_a_damaged_bin(small, copied, damage, kind):
    folder = copied(small / kind)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(damage)
    with pytest.raises(ImagecotError):
        {"generator": load_generator, "verifier": load_verifier}[kind](folder)


@pytest.mark.parametrize(
    "state",
    [
        {"weight": torch.zeros(2, dtype=torch.complex64)},
        {"weight": torch.zeros(2, 2).to_sparse()},
        {3: torch.zeros(2)},
        [torch.zeros(2)],
    ],
)
def test_what_is_no_plain_tensor(tmp_path, state):
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(ImagecotError, match="not a state dict"):
        load_state_dict(tmp_path)


@pytest.mark.parametrize("name", ["../other.safetensors", "/etc/passwd", "a/../../x.safetensors", "", "a\0b", "C:\\x"])
@pytest.mark.parametrize("kind", ["generator", "verifier"])
def test_an_index_names_files_of_its_folder_only(small, copied, name, kind):
    folder = copied(small / kind)
    shutil.copy(folder / "model.safetensors", folder.parent / "other.safetensors")
    state = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": dict.fromkeys(state, name)}))
    with pytest.raises(ImagecotError, match="not in its folder"):
        {"generator": load_generator, "verifier": load_verifier}[kind](folder)
    for weight_map in ({}, None, [], {"a": 1}, {"a": None}):
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
        with pytest.raises(ImagecotError, match="weight_map"):
            {"generator": load_generator, "verifier": load_verifier}[kind](folder)


def test_names_of_tensors_steer_no_terminal(small, copied):
    folder = copied(small / "generator")
    state = load_file(folder / "model.safetensors")
    save_file({**state, "\x1b[2J\x1b[31mhello\n" + "x" * 9999: torch.zeros(1)}, folder / "model.safetensors")
    with pytest.raises(ImagecotError, match=r"the unknown 1 tensor\(s\): \\x1b\[2J") as caught:
        load_generator(folder)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 500


AUTO = {
    name: ["evil.Evil", "evil.Evil"] if name in ("AutoTokenizer", "AutoImageProcessor") else "evil.Evil"
    for name in ("AutoConfig", "AutoModelForImageTextToText", "AutoTokenizer", "AutoProcessor", "AutoImageProcessor")
}


@pytest.mark.parametrize("only_way", [False, True])
@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json", "processor_config.json"])
def test_code_of_a_checkpoint_is_neither_run_nor_asked_about(small, copied, monkeypatch, tmp_path, file, only_way):
    def asked(*question: object) -> str:
        raise AssertionError("asked whether to run code")

    monkeypatch.setattr("builtins.input", asked)
    folder = copied(small / "verifier")
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    change(folder / file, auto_map=AUTO)
    if only_way:
        change(folder / file, model_type="evil", tokenizer_class="EvilTokenizer", processor_class="EvilProcessor")
    if only_way and file != "processor_config.json":  # which this family has not
        with pytest.raises(ImagecotError, match=r"code of its own|not a vision-language"):
            load_verifier(folder)
    else:
        judge(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("values", [{"transformers_weights": "../x"}, {"attn_implementation": "someone/kernels"},
                                    {"text_config": {"num_hidden_layers": 10**6}}])  # fmt: skip
def test_what_a_config_may_not_ask_for(small, copied, values):
    folder = copied(small / "verifier")
    change(folder / "config.json", **values)
    with pytest.raises(ImagecotError, match=r"config\.json: "):
        load_verifier(folder)
