"""Drawing again: the cached prefix of text, reasons and rejected image against one full forward pass."""

import pytest
import torch

from imagecot.contracts.correction import Correction
from imagecot.contracts.paths import UNDECIDED
from imagecot.contracts.randomness import path_seeds
from imagecot.errors import UsageError
from masked import logits_of
from plain_decoder import tiny_generator

torch.set_num_threads(1)
PROMPT, REASONS = "a photo of a dog", "no cat"
N = 16


def full_logits(generator, text: list[int], rejected: list[int], codes: list[int]) -> torch.Tensor:
    """Logits (N, codes) at the drawn image of one sequence, under a mask that is written out rule by rule."""
    prompting, config = generator.prompting, generator.model.config
    before = [prompting.soi_id, *(c + config.code_offset for c in rejected), prompting.eoi_id] if rejected else []
    drawn = [config.mask_token_id if c < 0 else c + config.code_offset for c in codes]
    ids = [*text, *before, prompting.soi_id, *drawn, prompting.eoi_id]
    image = [0] * len(text) + [1] * len(before) + [2] * (N + 2)
    rows = range(len(ids))
    allowed = [[k <= q or (image[q] > 0 and image[q] == image[k]) for k in rows] for q in rows]
    logits = generator.model(torch.tensor([ids]), torch.tensor(allowed)[None, None])
    first = config.code_offset
    return logits[0, -N - 1 : -1, first : first + config.codebook_size]


def guided(generator, text, rejected, codes):
    g = generator.guidance_scale
    against = full_logits(generator, generator.prompting.text_prefix(""), rejected, codes)
    return (1 + g) * full_logits(generator, text, rejected, codes) - g * against


@pytest.mark.parametrize("guidance", [0.0, 1.75])
@torch.no_grad()
def test_the_cached_prefix_is_one_full_forward_pass(guidance):
    generator = tiny_generator(steps=4, guidance_scale=guidance)
    rejected = torch.arange(N) * 3
    history = [Correction(rejected, REASONS), Correction(None, REASONS), Correction(rejected.flip(0))]
    paths = generator.advance(generator.correct([PROMPT], path_seeds(0, 3), history))
    logits = logits_of(generator, paths.codes, paths.prompt_index, paths.shared)
    with_reasons = generator.prompting.text_prefix(f"{PROMPT} {REASONS}")
    plain = generator.prompting.text_prefix(PROMPT)
    rows = zip(
        [(with_reasons, rejected.tolist()), (with_reasons, []), (plain, rejected.flip(0).tolist())],
        paths.codes,
        strict=True,
    )
    expected = []
    for (text, image), codes in rows:
        whole = guided(generator, text, image, codes.tolist())
        expected.append(whole[codes == UNDECIDED])
    torch.testing.assert_close(logits, torch.cat(expected), atol=2e-4, rtol=1e-4)


def finish(generator, paths):
    while not paths.finished:
        paths = generator.advance(paths)
    return paths.codes


def test_a_path_that_draws_again_is_the_same_alone_and_in_a_batch():
    generator = tiny_generator(steps=4)
    one, other = Correction(torch.arange(N), REASONS), Correction(torch.arange(N) + 40, "")
    seeds = path_seeds(5, 3)
    batch = finish(generator, generator.correct([PROMPT, PROMPT, "two dogs"], seeds, [one, other, one]))
    for k, (prompt, correction) in enumerate([(PROMPT, one), (PROMPT, other), ("two dogs", one)]):
        alone = finish(generator, generator.correct([prompt], seeds[k : k + 1], [correction]))
        assert torch.equal(batch[k], alone[0])
    shared = finish(generator, generator.correct([PROMPT], seeds[:2], [one]))
    assert torch.equal(shared[0], batch[0])


def test_every_part_of_a_correction_matters_and_none_is_plain_drawing():
    generator = tiny_generator(steps=4)
    codes, seeds = torch.arange(N), path_seeds(1, 1)
    ways = [Correction(codes, REASONS), Correction(codes), Correction(None, REASONS), Correction(None)]
    drawn = [finish(generator, generator.correct([PROMPT], seeds, [way])) for way in ways]
    plain = finish(generator, generator.start([PROMPT], seeds))
    assert torch.equal(drawn[3], plain)
    assert len({tuple(codes[0].tolist()) for codes in drawn}) == 4


def test_endless_reasons_are_cut_and_leave_the_prompt():
    generator = tiny_generator(steps=2)
    endless = Correction(torch.arange(N), "no cat and " * 500)
    assert finish(generator, generator.correct([PROMPT], path_seeds(0, 1), [endless])).min() >= 0
    prefix = generator.prompting.text_prefix(f"{PROMPT} {endless.reasons}")
    words = generator.prompting.text_prefix(PROMPT)[:-1]
    assert prefix[: len(words)] == words
    assert len(prefix) == generator.prompting.config.max_text_len + 1


def test_corrections_that_do_not_go_with_the_paths_are_refused():
    generator = tiny_generator()
    with pytest.raises(UsageError, match="2 corrections do not go with 3 seeds"):
        generator.correct([PROMPT], path_seeds(0, 3), [Correction(None)] * 2)
