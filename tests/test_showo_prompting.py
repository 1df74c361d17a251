import json

import pytest
import torch

from imagecot.errors import ImagecotError
from imagecot.generators.showo import Prompting, ShowoConfig
from plain_decoder import CONFIG, DATA, tiny_prompting

RECORDED = json.loads((DATA / "showo" / "prompting.json").read_text())
CASES = RECORDED["cases"]


@pytest.fixture(scope="module")
def prompting():
    return tiny_prompting()


def masked(prompting, count):
    return torch.full((count, 16), prompting.mask_id)


def test_special_ids(prompting):
    ids = RECORDED["layout"]["special_token_ids"]
    names = {
        "soi": prompting.soi_id,
        "eoi": prompting.eoi_id,
        "t2i": prompting.t2i_id,
        "mmu": prompting.mmu_id,
    }
    assert all(ids[f"<|{name}|>"] == value for name, value in names.items())
    assert prompting.pad_id == ids["<|pad|>"]
    assert (prompting.bos_id, prompting.eos_id, prompting.mask_id) == (291, 291, 374)
    codes = torch.tensor([[0, 63, -1]])
    assert prompting.image_ids(codes).tolist() == [[310, 373, 374]]


def test_special_ids_of_the_published_model():
    prompting = Prompting(tiny_prompting().tokenizer, ShowoConfig(), 50256, 50256)
    ids = (
        prompting.pad_id,
        prompting.soi_id,
        prompting.eoi_id,
        prompting.t2i_id,
        prompting.mmu_id,
        prompting.mask_id,
    )
    assert ids == (50295, 50296, 50297, 50300, 50301, 58497)


def test_drawing(prompting):
    case = CASES[0]
    assert case["task"] == "t2i_gen"
    rows = prompting.to_image(case["prompts"], masked(prompting, 7))
    assert rows.tolist() == case["sequence_ids"]
    for prompt, row in zip(case["prompts"], case["sequence_ids"], strict=True):
        assert prompting.text_prefix(prompt) == [i for i in row[:13] if i != prompting.pad_id]


def test_the_length_limit(prompting):
    for row in CASES[1]["rows"]:
        ids = prompting.close([prompting.t2i_id, prompting.bos_id, *row["text_ids"]], 13)
        expected = [i for i in row["sequence_ids"][:13] if i != prompting.pad_id]
        assert ids == expected
        assert (row["n_text_ids"] > prompting.max_text_ids) == (row["text_ids"][-1] not in ids)
    lengths = {case["text"]: len(case["ids"]) for case in RECORDED["text_ids"]}
    lengths["<|endoftext|>a photo of a dog"] -= 1  # its bos is no text
    assert {text: prompting.text_length(text) for text in lengths} == lengths
    assert prompting.is_truncated("a photo of two dogs")  # 12 ids, of which 10 fit
    assert not prompting.is_truncated("a photo of a red apple")  # exactly 10


@pytest.mark.parametrize(
    "case", [c for c in CASES if c["task"] == "t2i"], ids=lambda c: f"drop {c['cond_dropout_prob']}"
)
def test_drawing_for_training(prompting, case):
    dropped = torch.tensor(case["uniform_draws"]) < case["cond_dropout_prob"]
    inputs, labels = prompting.to_image_training(
        case["prompts"], torch.tensor(case["image_ids"]), torch.tensor(case["image_labels"]), dropped
    )
    assert inputs.tolist() == case["sequence_ids"]
    assert labels.tolist() == case["label_ids"]


def test_describing(prompting):
    case = next(c for c in CASES if c["task"] == "mmu")
    inputs, labels = prompting.to_text_training(case["prompts"], torch.tensor(case["image_ids"]))
    assert inputs.tolist() == case["sequence_ids"]
    assert labels.tolist() == case["label_ids"]
    case = next(c for c in CASES if c["task"].startswith("mmu inference"))
    codes = torch.tensor(case["sequence_ids"])[:, 2:18]
    assert prompting.to_text(case["text"], codes).tolist() == case["sequence_ids"]


def test_plain_text(prompting):
    case = next(c for c in CASES if c["task"] == "lm")
    inputs, labels = prompting.plain_training(case["prompts"], case["max_seq_len"])
    assert inputs.tolist() == case["sequence_ids"]
    assert labels.tolist() == case["label_ids"]


def test_special_tokens_spelled_in_a_prompt_stay_text(prompting):
    assert max(prompting.text_ids("<|soi|> [PAD] <|eoi|>")) < CONFIG.llm_vocab_size


def test_a_tokenizer_returns(prompting, tmp_path):
    prompting.save_pretrained(tmp_path)
    again = Prompting.from_pretrained(tmp_path, CONFIG)
    assert again.text_prefix("a photo of a cat") == prompting.text_prefix("a photo of a cat")


def test_bad_tokenizers(prompting, tmp_path):
    with pytest.raises(ImagecotError, match=r"has no tokenizer\.json"):
        Prompting.from_pretrained(tmp_path, CONFIG)
    prompting.save_pretrained(tmp_path)
    with pytest.raises(ImagecotError, match="300 entries but the model knows 200"):
        Prompting.from_pretrained(tmp_path, ShowoConfig(llm_vocab_size=200))
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ImagecotError, match="cannot be read"):
        Prompting.from_pretrained(tmp_path, CONFIG)
