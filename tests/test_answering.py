"""Probabilities of answers in a word: which tokens count, and that they are those of the whole softmax."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from imagecot import registry
from imagecot.contracts.verifier import Answering, Usage, Verifier
from imagecot.errors import ImagecotError, UsageError
from imagecot.geneval2.answers import spelled
from imagecot.hub import CHECKPOINTS
from imagecot.verifiers.answers import OPEN, first_ids, probability_of
from imagecot.verifiers.any_vlm import AnyVlm
from small_models import janus_tokenizer, write_janus, write_verifier
from test_verifier_any_vlm import write

torch.set_num_threads(1)
IMAGES = torch.randint(0, 256, (3, 3, 28, 28), generator=torch.Generator().manual_seed(1)) / 255
QUESTIONS = ["Is it red?", "Are there any cats in the image? Answer in one word.", "Is the dog left of the cup?"]
YES, NO = spelled("yes"), spelled("no")


@pytest.fixture(scope="module")
def tiny() -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast.from_pretrained(CHECKPOINTS / "tiny-zero-shot")


def texts(tokenizer: PreTrainedTokenizerFast, answer: str) -> list[str]:
    return sorted(tokenizer.convert_ids_to_tokens(first_ids(tokenizer, spelled(answer))))


@pytest.mark.parametrize(
    ("answer", "tokens"),
    [
        ("yes", ["Yes", "yes", "Ġyes"]),  # of " Yes" the first is a blank, which begins everything
        ("two", ["2", "two", "Ġtwo"]),  # "Two" begins by T as "Three" does
        ("five", ["5", "Ġfive"]),
        ("ten", ["te", "Ġten"]),  # "10" begins by 1, which is another number
        ("zero", ["0", "zer", "Ġzero"]),
    ],
)
def test_tokens_that_tell_an_answer_from_others(tiny, answer, tokens):
    assert texts(tiny, answer) == tokens


def test_what_begins_two_spellings_counts_once(tiny):
    assert first_ids(tiny, ["yes", "yes", "Yes", "yes"]) == first_ids(tiny, ["yes", "Yes"])
    words = {"[UNK]": 0, "Yes": 1, "yes": 2, "no": 3}
    blind = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    blind.pre_tokenizer = pre_tokenizers.Whitespace()  # for which a blank is nothing
    assert sorted(first_ids(PreTrainedTokenizerFast(tokenizer_object=blind), YES)) == [1, 2]


def test_an_answer_that_cannot_be_told_is_refused(tiny):
    for answer in (["zx"], [" "], [""], []):
        with pytest.raises(ImagecotError, match="no token that tells"):
            first_ids(tiny, answer)
    assert [*map(len, (first_ids(janus_tokenizer(), spelled(word)) for word in ("yes", "four")))] == [3, 1]


def test_a_probability_by_hand():
    logits = torch.tensor([[0.0, 1.0, 2.0, 3.0], [1.0, 1.0, 1.0, 1.0]]).log().nan_to_num(neginf=-torch.inf)
    torch.testing.assert_close(probability_of(logits, [[1, 3], [0]]), torch.tensor([4 / 6, 1 / 4]))
    assert 0.999 < probability_of(logits.half(), [[1, 2, 3], [0]])[0] <= 1


@pytest.fixture(scope="module", params=["llava-onevision", "janus", "llava", "idefics3"])
def verifier(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Verifier:
    folder = tmp_path_factory.mktemp("model")
    own = {"llava-onevision": write_verifier, "janus": lambda folder: write_janus(folder, max_position_embeddings=2048)}
    return registry.load(
        "verifier", own[request.param](folder) if request.param in own else write(request.param, folder)
    )


def test_it_is_the_softmax_of_a_whole_pass(verifier):
    """Read from scratch, one question at a time; prefixes that are read once change nothing."""
    assert isinstance(verifier, Answering)
    found = verifier.answer_probability(IMAGES[:1], QUESTIONS, [YES, NO, YES])
    for question, answer, p in zip(QUESTIONS, (YES, NO, YES), found, strict=True):
        torch.testing.assert_close(by_hand(verifier, IMAGES[:1], question, answer), p, atol=1e-5, rtol=1e-3)
    assert found.dtype == torch.float32 and len({*found.tolist()}) == 3


@torch.no_grad()
def by_hand(verifier, image: torch.Tensor, question: str, answer: list[str]) -> torch.Tensor:
    if isinstance(verifier, AnyVlm):
        inputs = verifier._inputs(image, [question], OPEN)
        logits, tokenizer = verifier.model(**inputs, use_cache=False).logits[:, -1], verifier.processor.tokenizer
    else:
        ids, mask = verifier.layout([verifier.text(OPEN, question)])
        logits = verifier.state(verifier.embed(image, ids), mask) @ verifier.model.lm_head.weight.T
        tokenizer = verifier.tokenizer
    return logits[0].softmax(0)[first_ids(tokenizer, answer)].sum()


def test_batches_change_nothing(verifier):
    each = verifier.answer_probability(IMAGES, QUESTIONS, [YES, NO, YES])
    for row in range(3):
        alone = verifier.answer_probability(IMAGES[row : row + 1], [QUESTIONS[row]], [[YES, NO, YES][row]])
        torch.testing.assert_close(alone[0], each[row], atol=1e-5, rtol=1e-3)
    before = verifier.usage
    one = verifier.answer_probability(IMAGES[:1], QUESTIONS * 4, [YES] * 12)
    assert (verifier.usage - before).judge_calls == 12 and (verifier.usage - before).tokens_judged > 0
    torch.testing.assert_close(one[:3], one[9:], atol=1e-5, rtol=1e-3)
    assert verifier.answer_probability(IMAGES[:1], [], []).shape == (0,)
    assert verifier.usage - before == Usage(12, (verifier.usage - before).tokens_judged)


def test_requests_that_do_not_fit_are_refused(verifier):
    for images, questions, answers in (
        (IMAGES[:2], QUESTIONS, [YES] * 3), (IMAGES[0], QUESTIONS, [YES] * 3), (IMAGES, QUESTIONS, [YES]),
    ):  # fmt: skip
        with pytest.raises(UsageError, match="B questions and B answers"):
            verifier.answer_probability(images, questions, answers)
    with pytest.raises(UsageError, match="is empty"):
        verifier.answer_probability(IMAGES[:1], [" "], [YES])


def test_memory_that_runs_out_halves_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    verifier = registry.load("verifier", write_verifier(tmp_path))
    whole = verifier.answer_probability(IMAGES, QUESTIONS, [YES] * 3)
    monkeypatch.setattr(verifier, "_micro_batch", lambda width: 2)
    torch.testing.assert_close(verifier.answer_probability(IMAGES, QUESTIONS, [YES] * 3), whole, atol=1e-5, rtol=1e-3)
