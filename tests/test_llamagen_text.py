import pytest
import torch

from imagecot import registry
from imagecot.generators.llamagen.captions import clean
from imagecot.generators.llamagen.text import left_padded
from llamagen_recorded import facts, recorded
from small_models import write_llamagen

torch.set_num_threads(1)


@pytest.mark.parametrize("case", facts()["text_cleaning"], ids=lambda case: case["in"] or "nothing")
def test_recorded_captions(case):
    assert clean(case["in"]) == case["used"]


# What the reference's own code made of these, with ftfy 6.3 and beautifulsoup4 4.15.
@pytest.mark.parametrize(
    ("caption", "cleaned"),
    [
        ("a <b>bold</b> cat<br>on a mat", "a bold caton a mat"),
        ("<script>x</script>a cat<!-- no --> <ruby>k<rt>hidden</rt></ruby>", "a cat k"),
        ("&lt;b&gt; &eacute;&foo; &#233;&#x41; &it's", "é foo éa \u2062's"),
        ("ﬁne ﬀ ｆｕｌｌ　width", "fine ff full width"),
        ("100%25 a%41 b+c", "100% aa b c"),
        ("Free shipping on page 12 images png", "on images"),
        ("12:30 1.2.3.4 a 3.5×2 b", "12:30 a b"),
    ],
)
def test_other_captions(caption, cleaned):
    assert clean(caption) == cleaned


def test_text_is_padded_on_the_left():
    want = recorded()
    rows = [row[mask.bool()] for row, mask in zip(want["text.features"], want["text.mask"], strict=True)]
    features, mask = left_padded(rows)
    assert torch.equal(features, want["text.features"])
    assert torch.equal(mask, want["text.mask"].bool())
    counts = mask.sum(1).tolist()
    assert counts == facts()["valid_text_tokens"]
    for row, count in enumerate(counts):  # features keep their order
        assert torch.equal(features[row, 6 - count :], want["text.features_right_padded"][row, :count])


def test_features_are_those_of_a_padded_batch_and_computed_once(tmp_path):
    encoder = registry.load("generator", write_llamagen(tmp_path)).text_encoder
    captions = ["a red apple", "An  apple"]
    ids = encoder.tokenizer(
        [clean(c) for c in captions], padding="max_length", max_length=96, truncation=True, return_tensors="pt"
    )
    with torch.no_grad():
        expected = encoder.model(**ids).last_hidden_state
    for k, caption in enumerate(captions):
        found = encoder(caption)
        torch.testing.assert_close(found, expected[k][ids["attention_mask"][k].bool()], rtol=0, atol=1e-5)
        assert encoder(f" {caption.upper()}") is found
