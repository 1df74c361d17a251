"""Log-probabilities of images: by hand, against the whole vocabulary, under guidance, and in raster order."""

import itertools
import math

import pytest
import torch
from torch import nn

from imagecot.alignment.likelihood import independent_masks, log_likelihood, mask_draws, variance
from imagecot.contracts.correction import Correction
from imagecot.contracts.paths import UNDECIDED
from imagecot.generators.showo.model import omni_attention_mask
from imagecot.generators.showo.scoring import ShowoScores
from plain_decoder import tiny_generator

PROMPTS = ["a photo of a red apple", "a bench"]


def table_scores(table):
    """Scores of a model whose codes do not depend on one another: log p of each position, whatever is seen."""
    return lambda prompts, codes, masked: table.expand(len(codes), -1) * masked


def test_one_step_is_the_sum_over_all_codes():
    table = torch.tensor([0.5, 0.25, 0.125, 0.125]).log()
    everything = torch.ones(1, 1, 4, dtype=torch.bool)
    value = log_likelihood(table_scores(table), ["x"], torch.zeros(1, 4, dtype=torch.int64), everything)
    assert float(value) == pytest.approx(math.log(1 / 512))


def test_draws_by_hand():
    table = torch.tensor([-1.0, -2.0, -3.0, -6.0])
    masks = torch.tensor([[[True, True, False, False], [False, False, False, True]]])
    # 4 * ((1 + 2) / 2 + 6 / 1) / 2
    value = log_likelihood(table_scores(table), ["x"], torch.zeros(1, 4, dtype=torch.int64), masks)
    assert float(value) == pytest.approx(-15.0)


@pytest.mark.parametrize("draws", [1, 2, 5, 8])
def test_ratios_are_stratified_and_antithetic(draws):
    masks = mask_draws(torch.arange(50), draws, 4000)
    u = torch.acos(masks.sum(2) / 4000) * 2 / torch.pi
    stratum = (u * draws - 1e-2).floor()  # counts are rounded
    near = (u * draws - (u * draws).round()).abs() < 2e-2
    assert ((stratum == torch.arange(draws)) | near).all()
    torch.testing.assert_close(
        u[:, : draws // 2] + u.flip(1)[:, : draws // 2], torch.ones(50, draws // 2), atol=2e-3, rtol=0
    )
    if draws > 1:
        # The two of a pair share as few positions as their numbers allow.
        common = (masks[:, 0] & masks[:, -1]).sum(1)
        assert torch.equal(common, (masks[:, 0].sum(1) + masks[:, -1].sum(1) - 4000).clamp(min=0))
    assert torch.equal(masks[7:8], mask_draws(torch.tensor([7]), draws, 4000))


def test_shared_masks_are_less_noisy_than_independent_ones():
    torch.manual_seed(0)
    shift = torch.tensor([0.1, -0.1])
    difficulty = -torch.rand(16)  # of a position, on both sides
    codes = torch.zeros(20, 16, dtype=torch.int64)

    def side(number):
        # The more is hidden, the less sure a code.
        return lambda p, c, m: (difficulty + shift[number] - 3 * m.float().mean(1, keepdim=True)) * m

    def margin(yes, no):
        return log_likelihood(side(0), [""] * 20, codes, yes) - log_likelihood(side(1), [""] * 20, codes, no)

    found = variance(margin, pairs=20, positions=16, draws=4, repeats=10)
    assert found["shared"] < 1e-6  # what both sides have in common is gone
    assert found["independent"] > 1
    own = variance(lambda yes, no: log_likelihood(side(0), [""] * 20, codes, yes), 20, 16, 4, 10)
    # Of one side alone, stratified and antithetic draws spare most of the noise of the ratio.
    assert own["shared"] < 0.2 * own["independent"]
    assert independent_masks(torch.arange(3), 4, 16).shape == (3, 4, 16)


def test_showo_scores_are_those_of_the_whole_padded_sequence():
    generator = tiny_generator()
    model, prompting, config = generator.model, generator.prompting, generator.model.config
    codes = torch.randint(64, (2, 16), generator=torch.Generator().manual_seed(0))
    masked = mask_draws(torch.tensor([3, 4]), 1, 16)[:, 0]
    ids = prompting.to_image(PROMPTS, prompting.image_ids(codes.masked_fill(masked, UNDECIDED)))
    logits = model(ids, omni_attention_mask(ids, prompting.pad_id, prompting.soi_id, prompting.eoi_id))
    ours = logits[:, -17:-1, config.code_offset : config.code_offset + 64].log_softmax(-1)
    expected = ours.gather(2, codes[..., None])[..., 0] * masked
    torch.testing.assert_close(ShowoScores(model, prompting)(PROMPTS, codes, masked), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("again", [False, True])
def test_guided_scores_are_those_that_decoding_draws_from(again):
    generator = tiny_generator(guidance_scale=1.75)
    history = [Correction(torch.arange(16), "there is no cat."), Correction(None, "one cup too many.")]
    start = generator.start(PROMPTS, torch.tensor([1, 2]), history=history if again else None)
    paths = generator.advance(start)
    unknown = paths.codes == UNDECIDED
    logits = generator.guided_logits(paths.codes, paths.prompt_index, paths.context)
    expected = logits.log_softmax(1).gather(1, paths.proposed[unknown][:, None])[:, 0]
    scores = ShowoScores(generator.model, generator.prompting)
    asked = list(zip(PROMPTS, history, strict=True)) if again else PROMPTS
    found = scores(asked, paths.proposed, unknown, guidance=1.75)
    torch.testing.assert_close(found[unknown], expected, atol=1e-3, rtol=1e-4)
    some = unknown & (torch.arange(16) % 3 == 0)
    few = scores(asked, paths.proposed, unknown, some, guidance=1.75)
    torch.testing.assert_close(few, found * some, atol=1e-4, rtol=1e-4)


def test_scores_have_a_gradient():
    generator = tiny_generator()
    scores = ShowoScores(generator.model, generator.prompting)
    log_likelihood(
        scores, PROMPTS, torch.zeros(2, 16, dtype=torch.int64), mask_draws(torch.arange(2), 2, 16)
    ).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in generator.model.parameters())


class SmallRaster(nn.Module):
    """A random recurrent model of codes in raster order."""

    def __init__(self, codes: int) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(codes + 1, 8), nn.Linear(8, codes)
        self.cell = nn.GRU(8, 8, batch_first=True)

    def forward(self, prompts, codes):
        before = torch.cat([torch.full_like(codes[:, :1], self.head.out_features), codes[:, :-1]], 1)
        states = self.cell(self.embedding(before))[0]
        return self.head(states).log_softmax(-1).gather(2, codes[..., None])[..., 0]


def test_raster_probabilities_of_all_images_add_up_to_one():
    torch.manual_seed(0)
    images = torch.tensor(list(itertools.product(range(4), repeat=3)))
    values = log_likelihood(SmallRaster(4), ["x"] * 64, images)
    assert values.shape == (64,)
    assert float(values.detach().exp().sum()) == pytest.approx(1.0, abs=1e-5)
    assert values.requires_grad
