"""What all generators in raster order share: sampling, buffers of keys and values, rows, previews and scores."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from imagecot.contracts.paths import UNDECIDED, finish, states
from imagecot.errors import UsageError
from imagecot.generators import load_generator
from imagecot.generators.raster.cache import Buffer
from imagecot.generators.raster.sampling import Sampling, draw, filtered
from imagecot.generators.raster.transformer import Prefix
from plain_raster import draw_plainly, guided_logits
from small_models import write_janus

torch.set_num_threads(1)
PROMPTS = ["a photo of a red apple", "a cat"]
SEEDS = torch.tensor([5, 6, 7])


@pytest.fixture(scope="module")
def janus(tmp_path_factory):
    return load_generator(write_janus(tmp_path_factory.mktemp("janus"), side=3, num_hidden_layers=1))


class Counting:
    """A transformer that counts the prompts and rows that it reads."""

    def __init__(self, inner) -> None:
        self.inner, self.prompts, self.calls, self.rows = inner, [], 0, 0

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def prefixes(self, prompts, *, guided):
        self.prompts += prompts
        return self.inner.prefixes(prompts, guided=guided)

    def read(self, codes, first, attend):
        self.calls, self.rows = self.calls + 1, self.rows + codes.numel()
        return self.inner.read(codes, first, attend)


@pytest.fixture
def counted(janus):
    raster = janus._raster
    return replace(raster, transformer=Counting(raster.transformer))


@pytest.mark.parametrize(
    ("sampling", "left"),
    [
        (Sampling(), [0, 1, 2, 3, 4]),
        (Sampling(top_k=1), [0]),
        (Sampling(top_k=2), [0, 1, 2]),  # ties with the second stay
        (Sampling(top_k=9), [0, 1, 2, 3, 4]),
        (Sampling(top_p=0), [0]),
        (Sampling(top_p=0.39), [0]),  # the one that crosses the limit stays
        (Sampling(top_p=0.41), [0, 1]),
        (Sampling(top_p=0.79), [0, 1, 2]),
        (Sampling(top_k=2, top_p=0.6), [0, 1]),  # of what top-k left, which is half, a quarter and a quarter
    ],
)
def test_what_can_be_drawn(sampling, left):
    logits = torch.tensor([[0.4, 0.2, 0.2, 0.15, 0.05]]).log()
    assert filtered(logits, sampling).isfinite().nonzero()[:, 1].tolist() == left


def test_codes_are_drawn_in_proportion():
    shares = torch.tensor([0.4, 0.3, 0.2, 0.1])
    uniform = (torch.arange(1000) + 0.5) / 1000
    logits = shares.log().expand(1000, -1)
    assert draw(logits, uniform, Sampling()).bincount().tolist() == [400, 300, 200, 100]
    hot = draw(logits, uniform, Sampling(temperature=0.5)).bincount() / 1000  # squares, of sum 0.3
    torch.testing.assert_close(hot, shares**2 / 0.3, atol=2e-3, rtol=0)
    assert draw(logits, uniform, Sampling(temperature=0)).unique().tolist() == [0]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"guidance_scale": 0.5}, r"guidance_scale must be a number from 1 to 1e\+06, not 0.5"),
        ({"guidance_scale": float("nan")}, "guidance_scale must be"),
        ({"temperature": -1}, "temperature must be a number from 0"),
        ({"top_p": 1.5}, "top_p must be a number from 0 to 1"),
        ({"top_k": -1}, "top_k must be a whole number"),
        ({"top_k": 1.5}, "top_k must be a whole number"),
    ],
)
def test_settings_that_draw_nothing_are_refused(wrong, message):
    with pytest.raises(UsageError, match=message):
        Sampling(**wrong)


class Shape:
    cache_shape, cache_dtype, device = (2, 2, 4), torch.float32, torch.device("cpu")


def test_a_buffer_attends_to_prefix_bias_and_codes():
    """Prefixes of two lengths, one with a bias; four heads on two of keys; two branches; then all by hand."""
    torch.manual_seed(0)
    lengths, heads = ((3, 2), (1, 1)), 4
    prefixes = [
        tuple(
            Prefix(*torch.randn(2, 2, 2, length, 4), torch.zeros(1), torch.randn(length) if number else None)
            for length in both
        )
        for number, both in enumerate(lengths)
    ]
    index = torch.tensor([0, 1, 1, 0])
    row = torch.randn(4, 2, 2, 2, 2, 3, 4)
    buffer = Buffer(Shape(), prefixes, index, (row,), branches=2, room=2)
    q, k, v = torch.randn(8, 2, heads, 4), torch.randn(8, 2, 2, 4), torch.randn(8, 2, 2, 4)
    for layer in (0, 1):
        found = buffer.attend(layer, q, k, v)
        for r in range(8):
            branch, path = divmod(r, 4)
            prefix = prefixes[index[path]][branch]
            keys = torch.cat([prefix.keys[layer], row[path, branch, layer, 0], k[r].transpose(0, 1)], 1)
            values = torch.cat([prefix.values[layer], row[path, branch, layer, 1], v[r].transpose(0, 1)], 1)
            bias = F.pad(torch.zeros(0) if prefix.bias is None else prefix.bias, (0, 5))
            bias = F.pad(bias, (keys.shape[1] - len(bias), 0))
            for new in (0, 1):
                seen = keys.shape[1] - 1 + new
                for head in range(heads):
                    scores = keys[head // 2, :seen] @ q[r, new, head] / 2 + bias[:seen]
                    expected = scores.softmax(0) @ values[head // 2, :seen]
                    torch.testing.assert_close(found[r, new].view(heads, 4)[head], expected)
    buffer.grow(2)
    torch.testing.assert_close(buffer.read_since(2)[:, 1, 1, 0], k[4:].transpose(1, 2))
    buffer.leave_guidance()
    assert buffer.read_since(1, 1).shape == (4, 1, 2, 2, 2, 1, 4)


@pytest.mark.parametrize(("guided_codes", "temperature"), [(None, 1.0), (1, 0.0), (4, 1.0)])
def test_paths_are_those_of_the_plain_decoder(janus, guided_codes, temperature):
    """Also where guidance ends within a row; and after a resume at every step."""
    janus = janus.adjusted(temperature=temperature)
    raster = janus._raster
    raster = replace(raster, sampling=replace(raster.sampling, guided_codes=guided_codes))
    found = finish(raster, raster.start(PROMPTS, SEEDS[:2])).codes
    for path, prompt in enumerate(PROMPTS):
        assert torch.equal(found[path], draw_plainly(janus, prompt, int(SEEDS[path]), guided_codes))
    for step in range(4):  # nothing is drawn after the last
        assert torch.equal(found, finish(raster, raster.resume(PROMPTS, SEEDS[:2], found, step)).codes)


def test_a_prompt_is_read_once_and_dead_paths_cost_nothing(counted):
    reads = counted.transformer
    paths = counted.start([PROMPTS[0]], torch.arange(7))
    assert reads.prompts == [PROMPTS[0]]
    paths = counted.advance(paths)
    assert reads.rows == 7 * 2 * 2  # two of three codes, twice for guidance: the last one is read by the next row
    paths = counted.advance(paths.select([1, 4]))
    assert reads.rows == 7 * 2 * 2 + 2 * 3 * 2
    counted.advance(paths.select([0]))
    assert reads.rows == 7 * 2 * 2 + 2 * 3 * 2 + 1 * 3 * 2
    counted.start([PROMPTS[k % 2] for k in range(7)], torch.arange(7))
    assert reads.prompts == [PROMPTS[0], *PROMPTS]
    assert reads.calls == 8


def test_resumed_paths_read_their_codes_in_one_pass_when_they_go_on(counted):
    codes = finish(counted, counted.start([PROMPTS[0]], SEEDS)).codes
    reads = counted.transformer
    before = reads.calls
    resumed = counted.resume([PROMPTS[0]], SEEDS, codes, 1)
    counted.preview(resumed)
    assert reads.calls == before  # which are only looked at
    counted.advance(resumed)
    assert reads.calls == before + 1 + 3  # then a row of three codes
    assert torch.equal(finish(counted, resumed.select([1, 0])).codes, codes[[1, 0]])


def test_batches_are_split_by_memory(counted):
    small = replace(counted, memory_budget=1 << 18)
    assert small.paths_per_pass < 5
    seeds = torch.arange(11)
    whole = finish(counted, counted.start([PROMPTS[0]], seeds)).codes
    assert torch.equal(whole, finish(small, small.start([PROMPTS[0]], seeds)).codes)
    assert torch.equal(whole, finish(small, small.resume([PROMPTS[0]], seeds, whole, 1)).codes)
    assert replace(counted, memory_budget=1).paths_per_pass == 1
    assert len(finish(counted, counted.start([PROMPTS[0]], seeds).select([]))) == 0


def test_in_half_precision_paths_do_not_depend_on_the_prompts_beside_them(janus):
    half = janus.copy(torch.bfloat16)
    seeds, mixed = torch.arange(12), [PROMPTS[k % 2] for k in range(12)]
    together = finish(half, half.start(mixed, seeds)).codes
    for k, prompt in enumerate(PROMPTS):
        assert torch.equal(together[k::2], finish(half, half.start([prompt], seeds[k::2])).codes)


def test_what_paths_keep_is_shared_with_older_ones(counted):
    passed = [*states(counted, counted.start([PROMPTS[0]], SEEDS))]
    assert len(passed[1].own) == 2
    assert passed[1].own[0] is passed[0].own[0]
    assert passed[2].own == ()  # nothing is read any more


def test_codes_that_cannot_be_resumed_are_refused(janus):
    codes = torch.full((3, 9), UNDECIDED)
    with pytest.raises(UsageError, match="after step 1 all codes of 1 rows are drawn, but some"):
        janus.resume([PROMPTS[0]], SEEDS, codes, 1)
    with pytest.raises(UsageError, match=r"codes \(3, 4\) after step 1 are none"):
        janus.resume([PROMPTS[0]], SEEDS, codes[:, :4], 1)
    with pytest.raises(UsageError, match="2 prompts do not go with 3 seeds"):
        janus.start(PROMPTS, SEEDS)


def test_previews_of_each_fill(janus):
    start = janus.start([PROMPTS[0]], SEEDS)
    end = finish(janus, start)
    whole = janus.decode(end.codes)
    one = janus.advance(start)
    first = one.codes[:, :3]
    repeated = janus.decode(first.repeat(1, 3))

    shown = {fill: janus.adjusted(fill=fill).preview(one) for fill in ("blank", "repeat", "draft")}
    torch.testing.assert_close(shown["repeat"], repeated)
    torch.testing.assert_close(shown["blank"][:, :, :8], repeated[:, :, :8])
    mean = repeated[:, :, :8].mean((2, 3), keepdim=True)
    torch.testing.assert_close(shown["blank"][:, :, 8:], mean.expand(-1, -1, 16, 24))
    rest = first
    for _ in range(6):
        plain = janus.adjusted(guidance_scale=1.0)
        greedy = [guided_logits(plain, PROMPTS[0], row).argmax() for row in rest]
        rest = torch.cat([rest, torch.stack(greedy)[:, None]], 1)
    torch.testing.assert_close(shown["draft"], janus.decode(rest))

    two = janus.advance(one)
    rows = two.codes.view(3, 3, 3)
    torch.testing.assert_close(janus.adjusted(fill="repeat").preview(two), janus.decode(rows[:, [0, 1, 0]].flatten(1)))
    for fill in shown:
        other = janus.adjusted(fill=fill)
        assert other.fill == other.settings["fill"] == fill
        torch.testing.assert_close(other.preview(end), whole)
        again = other.resume([PROMPTS[0]], SEEDS, one.codes, 1)
        torch.testing.assert_close(other.preview(again), shown[fill])
    assert torch.equal(janus.preview(start), torch.full((3, 3, 24, 24), 0.5))
    assert janus.adjusted(fill="draft").preview(start)[0].std() > 0
    with pytest.raises(UsageError, match="there is no fill 'white'; choose one of blank, repeat, draft"):
        janus.adjusted(fill="white")


@pytest.mark.parametrize("guided_codes", [None, 5])
def test_scores_are_the_sums_over_cached_decoding(janus, guided_codes):
    raster = janus._raster
    raster = replace(raster, sampling=replace(raster.sampling, guided_codes=guided_codes))
    passed = [start := raster.start(PROMPTS, SEEDS[:2]), *states(raster, start)]
    end = passed[-1].codes
    plain, under = (
        torch.stack(
            [
                torch.stack(
                    [guided_logits(model, prompt, codes[:n], guided_codes).log_softmax(0)[codes[n]] for n in range(9)]
                )
                for prompt, codes in zip(PROMPTS, end, strict=True)
            ]
        )
        for model in (janus.adjusted(guidance_scale=1.0), janus)
    )
    torch.testing.assert_close(raster.log_likelihood(PROMPTS, end), plain.sum(1))
    terms = raster.step_terms(passed, 3)
    torch.testing.assert_close(terms.log_probs, under)
    torch.testing.assert_close(terms.total(), under.mean(1))
    # A step of three is scored: each is as probable, so that the mean over seeds is the same.
    many = replace(passed[-1].select([0] * 64), seeds=torch.arange(64))
    some = raster.step_terms([many], 1)
    assert some.log_probs.shape == (64, 3)
    rows = under[0].view(3, 3).mean(1)
    assert all(bool((total - rows).abs().min() < 1e-5) for total in some.total())
    with pytest.raises(UsageError, match="draws no corrections"):
        raster.log_likelihood([("a cat", None)], end[:1])
