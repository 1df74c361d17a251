"""Log-probabilities of images: by hand, against the whole vocabulary, under guidance, and in raster order."""

import itertools
import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn

from imagecot.contracts.correction import Correction
from imagecot.contracts.paths import UNDECIDED, states
from imagecot.contracts.scorer import Draws, Scorer
from imagecot.generators.masked.likelihood import log_likelihood, mean_estimate, step_rows, step_terms, variance
from imagecot.generators.masked.masks import independent_masks, mask_draws
from imagecot.generators.raster import likelihood as raster
from imagecot.generators.showo.model import omni_attention_mask
from imagecot.generators.showo.scoring import log_probs
from imagecot.generators.steps import stratified_steps
from masked import logits_of
from plain_decoder import tiny_generator

PROMPTS = ["a photo of a red apple", "a bench"]


def of_everything_by_table(table):
    """Scores of a model whose codes do not depend on one another: log p of each position, whatever is seen."""
    return lambda asked, codes, hidden, wanted: table.expand(len(codes), -1) * wanted


def test_one_step_is_the_sum_over_all_codes():
    table = torch.tensor([0.5, 0.25, 0.125, 0.125]).log()
    everything = torch.ones(1, 1, 4, dtype=torch.bool)
    assert float(mean_estimate(table[None, None], everything)) == pytest.approx(math.log(1 / 512))


def test_draws_by_hand():
    table = torch.tensor([-1.0, -2.0, -3.0, -6.0])
    masks = torch.tensor([[[True, True, False, False], [False, False, False, True]]])
    # 4 * ((1 + 2) / 2 + 6 / 1) / 2
    assert float(mean_estimate(table * masks, masks)) == pytest.approx(-15.0)


def test_an_estimate_is_that_by_the_masks_of_its_seeds():
    table = -torch.rand(16, generator=torch.Generator().manual_seed(0))
    seeds, codes = torch.tensor([5, 6]), torch.zeros(2, 16, dtype=torch.int64)
    found = log_likelihood(of_everything_by_table(table), ["x", "y"], codes, Draws(seeds, 3))
    masks = mask_draws(seeds, 3, 16)
    torch.testing.assert_close(found, mean_estimate(table * masks, masks))
    again = log_likelihood(of_everything_by_table(table), ["y"], codes[:1], Draws(seeds[1:], 3))
    torch.testing.assert_close(again, found[1:])


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

    def side(number, masks):
        # The more is hidden, the less sure a code.
        each = (difficulty + shift[number] - 3 * masks.float().mean(2, keepdim=True)) * masks
        return mean_estimate(each, masks)

    found = variance(lambda yes, no: side(0, yes) - side(1, no), pairs=20, positions=16, draws=4, repeats=10)
    assert found["shared"] < 1e-6  # what both sides have in common is gone
    assert found["independent"] > 1
    own = variance(lambda yes, no: side(0, yes), 20, 16, 4, 10)
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
    found = log_probs(model, prompting, PROMPTS, codes, masked, masked)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(generator.masked_log_probs(PROMPTS, codes, masked), found)


@pytest.mark.parametrize("again", [False, True])
def test_guided_scores_are_those_that_decoding_draws_from(again):
    generator = tiny_generator(guidance_scale=1.75)
    told = [Correction(torch.arange(16), "there is no cat."), Correction(None, "one cup too many.")]
    seeds = torch.tensor([1, 2])
    start = generator.correct(PROMPTS, seeds, told) if again else generator.start(PROMPTS, seeds)
    paths = generator.advance(start)
    unknown, predicted = paths.codes == UNDECIDED, generator.predicted(paths)
    logits = logits_of(generator, paths.codes, paths.prompt_index, paths.shared)
    expected = logits.log_softmax(1).gather(1, predicted[unknown][:, None])[:, 0]
    asked = list(zip(PROMPTS, told, strict=True)) if again else PROMPTS
    scores = partial(log_probs, generator.model, generator.prompting, asked, predicted, guidance_scale=1.75)
    found = scores(unknown, unknown)
    torch.testing.assert_close(found[unknown], expected, atol=1e-3, rtol=1e-4)
    some = unknown & (torch.arange(16) % 3 == 0)
    torch.testing.assert_close(scores(unknown, some), found * some, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("again", [False, True])
def test_terms_of_all_steps_are_what_the_paths_were_drawn_with(again):
    """Under the guidance of the paths, whatever that of the generator that scores them."""
    drawer, scorer = tiny_generator(steps=4, guidance_scale=1.75), tiny_generator(steps=4, guidance_scale=0.0)
    told, seeds = [Correction(torch.arange(16), "there is no cat.")], torch.tensor([1, 2, 3])
    start = drawer.correct(PROMPTS[:1], seeds, told) if again else drawer.start(PROMPTS[:1], seeds)
    drawn = [start, *states(drawer, start)]
    expected = torch.zeros(3)
    for before, after in itertools.pairwise(drawn):
        unknown, decided = before.codes == UNDECIDED, after.codes != UNDECIDED
        logits = logits_of(drawer, before.codes, before.prompt_index, before.shared)
        each = logits.log_softmax(1).gather(1, drawn[-1].codes[unknown][:, None])[:, 0]
        expected += (torch.zeros(3, 16).masked_scatter(unknown, each) * decided).sum(1)
    for generator in (drawer, scorer):
        terms = generator.step_terms([replace(state, own=None) for state in drawn], 99)
        assert terms.log_probs.shape == (3, 4 * 16)
        torch.testing.assert_close(terms.total() * 16, expected, atol=1e-3, rtol=1e-4)


def test_scored_steps_are_the_whole_path_where_all_are_scored():
    generator = tiny_generator(steps=4, guidance_scale=0.0)
    start = generator.start(PROMPTS[:1], torch.arange(400))
    drawn = [start, *states(generator, start)]
    hidden, wanted = step_rows(drawn, 99)
    assert hidden.shape == wanted.shape == (400, 4, 16)
    # Every code is decided exactly once, and a row of the first step sees nothing.
    assert torch.equal(wanted.sum(1), torch.ones(400, 16, dtype=torch.int64))
    assert hidden[:, 0].all()
    assert not (wanted & ~hidden).any()
    # Two of four steps, each with twice the weight, are right on average.
    _, some = step_rows(drawn, 2)
    assert float((some.sum(1) * 2).float().mean()) == pytest.approx(1, abs=0.1)
    table = torch.full((16,), -2.0)
    terms = step_terms(of_everything_by_table(table), PROMPTS[:1] * 400, drawn, 2)
    torch.testing.assert_close(terms.weights, torch.full((400,), 2 / 16))
    assert float(terms.total().mean()) == pytest.approx(-2.0, abs=0.2)


def test_steps_are_chosen_one_in_each_stratum():
    chosen = stratified_steps(torch.arange(3000), 9, 3)
    assert torch.equal(chosen // 3, torch.arange(3).expand(3000, 3))
    counts = torch.bincount(chosen.flatten(), minlength=9) / 3000
    torch.testing.assert_close(counts, torch.full((9,), 1 / 3), atol=0.05, rtol=0)
    assert torch.equal(stratified_steps(torch.tensor([7]), 9, 3), chosen[7:8])
    assert stratified_steps(torch.tensor([7]), 4, 9).tolist() == [[0, 1, 2, 3]]


def test_scores_have_a_gradient():
    generator = tiny_generator()
    assert isinstance(generator, Scorer)
    model = generator.trainable()
    codes = torch.zeros(2, 16, dtype=torch.int64)
    generator.log_likelihood(PROMPTS, codes, Draws(torch.arange(2), 2)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_a_raster_image_by_hand():
    each = torch.tensor([[0.5, 0.25, 0.5, 0.125, 0.5, 0.5], [1.0, 0.5, 0.5, 0.5, 0.25, 1.0]]).log()
    torch.testing.assert_close(raster.log_likelihood(each), torch.tensor([1 / 512, 1 / 32]).log())
    # Two rows of three codes: all rows are the whole image, in nats a code.
    terms = raster.step_terms(each, torch.tensor([1, 2]), (2, 3), 5)
    assert torch.equal(terms.log_probs, each)
    torch.testing.assert_close(terms.total() * 6, raster.log_likelihood(each))
    # One of two rows with twice the weight.
    one = raster.step_terms(each, torch.tensor([1, 2]), (2, 3), 1)
    rows = stratified_steps(torch.tensor([1, 2]), 2, 1)[:, 0]
    assert torch.equal(one.log_probs, each.view(2, 2, 3)[torch.arange(2), rows])
    torch.testing.assert_close(one.weights, torch.full((2,), 2 / 6))
    many = raster.step_terms(each[:1].expand(4000, 6), torch.arange(4000), (2, 3), 1)
    assert float(many.total().mean() * 6) == pytest.approx(math.log(1 / 512), rel=0.02)


class SmallRaster(nn.Module):
    """A random recurrent model of codes in raster order."""

    def __init__(self, codes: int) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(codes + 1, 8), nn.Linear(8, codes)
        self.cell = nn.GRU(8, 8, batch_first=True)

    def forward(self, codes):
        before = torch.cat([torch.full_like(codes[:, :1], self.head.out_features), codes[:, :-1]], 1)
        states = self.cell(self.embedding(before))[0]
        return self.head(states).log_softmax(-1).gather(2, codes[..., None])[..., 0]


def test_raster_probabilities_of_all_images_add_up_to_one():
    torch.manual_seed(0)
    images = torch.tensor(list(itertools.product(range(4), repeat=3)))
    values = raster.log_likelihood(SmallRaster(4)(images))
    assert values.shape == (64,)
    assert float(values.detach().exp().sum()) == pytest.approx(1.0, abs=1e-5)
    assert values.requires_grad
