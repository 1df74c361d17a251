import dataclasses
import json

import pytest
import torch

import recorded as recordings
from imagecot.contracts.paths import UNDECIDED
from imagecot.contracts.randomness import fork_seeds, path_seeds
from imagecot.errors import UsageError
from imagecot.generators.masked.schedules import get_schedule, masked_count, noise_temperature
from imagecot.generators.masked.step import draw_by_inverse
from imagecot.generators.showo import Prompting, Showo, ShowoConfig, ShowoGenerator
from imagecot.generators.showo.plain import plain_decode
from imagecot.generators.showo.prefix import encode_prefixes
from masked import decode_step, logits_of
from plain_decoder import DATA, recorded, runs, tiny_generator, tiny_prompting

torch.set_num_threads(1)
PROMPTS = ["a photo of a red apple", "cat", "a photo of a dog", "two dogs"]
OFFSET, MASK = 310, 374
RUNS = runs()


def codes_of(ids):
    return torch.where(ids == MASK, UNDECIDED, ids - OFFSET)


def finish(generator, paths):
    while not paths.finished:
        paths = generator.advance(paths)
    return paths


@pytest.mark.parametrize("name", RUNS)
def test_recorded_runs_are_replayed_token_for_token(name):
    """Whole runs: our model, our decoding, the recorded random numbers and nothing else from the record."""
    want = {key.removeprefix(f"{name}."): t for key, t in recorded().items() if key.startswith(f"{name}.")}
    run = RUNS[name]
    generator = tiny_generator(guidance_scale=run["guidance_scale"])
    start = want["start_input_ids"]
    texts = [[i for i in row.tolist() if i != 300] for row in start[:, :13]]
    unconditional = generator.prompting.text_prefix("")
    with torch.no_grad():
        *prefixes, empty = encode_prefixes(generator.model, [*texts, unconditional])
    context = dataclasses.replace(
        generator.start(["x"], torch.tensor([0])).shared,
        prefixes=prefixes,
        against=[empty] * len(prefixes) if run["guidance_scale"] else None,
    )
    schedule = get_schedule("linear" if name == "partial_linear" else "cosine")
    steps, codes = run["timesteps"], codes_of(start[:, 14:-1])
    exponentials, uniforms = recordings.noise(run["seed"], steps, len(codes))
    for step in range(steps):
        unknown = codes == UNDECIDED
        with torch.no_grad():
            logits = logits_of(generator, codes, torch.arange(len(codes)), context)
        if step % 2 == 0:  # the recording has those of every other step
            torch.testing.assert_close(logits, want["logits_codebook"][step // 2][unknown], rtol=0, atol=3e-5)
        exponential = exponentials[step][unknown]
        temperature = noise_temperature(run["start_temperature"], step, steps, cumulative=True)
        assert temperature == run["temperature_used"][step]
        proposed, masked = decode_step(
            logits,
            codes,
            lambda weights, e=exponential: (weights / e).argmax(1),
            uniforms[step],
            temperature,
            masked_count(schedule, step, steps, 16),
        )
        assert torch.equal(proposed, want["sampled_ids"][step])
        assert torch.equal(masked, want["masking"][step].bool())
        codes = proposed.masked_fill(masked, UNDECIDED)
        assert torch.equal(codes, codes_of(want["image_ids_after_step"][step]))
    assert torch.equal(proposed, want["returned_ids"])


@pytest.mark.slow
def test_the_recorded_run_of_a_mid_size_model_is_replayed():
    """85 M parameters in the published vocabulary, 256 image tokens, 4 steps: the reference's codes."""
    want = json.loads((DATA / "showo" / "midsize.json").read_text())
    config = ShowoConfig(hidden_size=512, intermediate_size=2048, num_hidden_layers=8, num_attention_heads=8)
    model = Showo(config).eval()
    random = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        values = torch.randn(parameter.shape, generator=random)
        if "layernorm" in name and name.endswith("weight"):
            parameter.data = 1 + 0.1 * values
        elif name.endswith("bias"):
            parameter.data = 0.05 * values
        elif "embed_tokens" in name or "lm_head" in name:
            parameter.data = (0.5 if "embed" in name else 0.05) * values
        else:
            parameter.data = values / parameter.shape[1] ** 0.5
    prompting = Prompting(tiny_prompting().tokenizer, config, 50256, 50256)
    generator = ShowoGenerator(model, None, prompting, steps=4)
    context = generator.start(["x"], torch.tensor([0])).shared
    text = [prompting.t2i_id, 50256, *want["prompt_text_ids"], 50256]
    schedule, sampling = get_schedule("cosine"), torch.Generator().manual_seed(3)
    codes = torch.full((1, 256), UNDECIDED)
    with torch.no_grad():
        context = dataclasses.replace(context, prefixes=encode_prefixes(model, [text]))
        for step in range(4):
            unknown = codes[0] == UNDECIDED
            logits = logits_of(generator, codes, torch.zeros(1, dtype=torch.long), context)
            exponential = torch.empty(256, 8192).exponential_(1, generator=sampling)[unknown]
            proposed, masked = decode_step(
                logits,
                codes,
                lambda weights, e=exponential: (weights / e).argmax(1),
                torch.zeros(1, 256).uniform_(0, 1, generator=sampling),
                noise_temperature(1.0, step, 4, cumulative=True),
                masked_count(schedule, step, 4, 256),
            )
            codes = proposed.masked_fill(masked, UNDECIDED)
    assert proposed[0, :16].tolist() == want["returned_ids_first_16"]
    assert proposed.sum() == want["returned_ids_sum"]


def test_the_cached_decoder_equals_the_plain_one():
    generator = tiny_generator(steps=8)
    seeds = path_seeds(3, len(PROMPTS))
    expected = [plain_decode(generator, prompt, int(seed)) for prompt, seed in zip(PROMPTS, seeds, strict=True)]
    paths = generator.start(PROMPTS, seeds)
    for step in range(8):
        paths = generator.advance(paths)
        assert torch.equal(generator.predicted(paths), torch.stack([path[step] for path in expected]))
    assert torch.equal(paths.codes, generator.predicted(paths))
    assert (paths.codes >= 0).all()


def test_a_path_is_the_same_alone_in_a_batch_in_parts_and_after_a_resume():
    generator = tiny_generator(steps=6)
    seeds = path_seeds(11, 7)
    batch = generator.start(["a photo of a dog"], seeds)
    for _ in range(3):
        batch = generator.advance(batch)
    survivors = finish(generator, batch.select([5, 2]))
    whole = finish(generator, batch)
    assert torch.equal(survivors.codes, whole.codes[[5, 2]])
    alone = finish(generator, generator.start(["a photo of a dog"], seeds[2:3]))
    assert torch.equal(alone.codes[0], whole.codes[2])
    resumed = generator.resume(["a photo of a dog"], batch.seeds[4:5].clone(), batch.codes[4:5], 3)
    assert torch.equal(finish(generator, resumed).codes[0], whole.codes[4])
    small = tiny_generator(steps=6, memory_budget=1)
    assert small.paths_per_pass == 1
    assert torch.equal(finish(small, small.start(["a photo of a dog"], seeds)).codes, whole.codes)
    mixed = finish(generator, generator.start(["cat", "a photo of a dog", "cat"], seeds[[0, 2, 1]]))
    assert torch.equal(mixed.codes[1], whole.codes[2])


def test_forks_share_the_past_and_diverge():
    generator = tiny_generator(steps=6)
    paths = generator.advance(generator.start(["cat"], path_seeds(1, 2)))
    forks = paths.select([1, 1, 1], fork_seeds(paths.seeds[1:2], 3))
    assert torch.equal(forks.codes, paths.codes[[1, 1, 1]])
    done = finish(generator, forks)
    decided = paths.codes[1] >= 0
    assert torch.equal(done.codes[:, decided], paths.codes[[1, 1, 1]][:, decided])
    assert len(done.codes.unique(dim=0)) == 3
    same = finish(generator, paths.select([0, 0]))
    assert torch.equal(same.codes[0], same.codes[1])  # no new seeds, no divergence


def test_truncated_paths_can_be_resumed_later():
    generator = tiny_generator(steps=5)
    early = generator.advance(generator.start(["cat"], path_seeds(2, 3)))
    whole = finish(generator, early)
    assert early.step == 1
    assert torch.equal(finish(generator, early.select(torch.tensor([False, True, False]))).codes, whole.codes[1:2])


def test_no_guidance_computes_no_unconditional_rows():
    generator = tiny_generator(steps=4, guidance_scale=0)
    rows = []
    last = generator.model.showo.model.layers[-1].input_layernorm
    last.register_forward_hook(lambda module, args, output: rows.append(len(args[0])))
    paths = finish(generator, generator.start(["cat"], path_seeds(0, 5)))
    assert rows == [1, 1, 5, 5, 5]  # before the first step all paths are alike
    assert (paths.codes >= 0).all()
    assert generator.rows_per_path == 1
    rows.clear()
    guided = tiny_generator(steps=2)
    last = guided.model.showo.model.layers[-1].input_layernorm
    last.register_forward_hook(lambda module, args, output: rows.append(len(args[0])))
    finish(guided, guided.start(["cat", "rat", "cat"], path_seeds(0, 3)))
    assert rows == [2, 1, 4, 6]  # two prompts of one length, the empty one, 2 rows a prompt, then 2 a path


def test_the_first_layer_works_out_equal_tokens_once():
    generator = tiny_generator(steps=4)
    paths = generator.advance(generator.start(["cat", "rat"] * 3, path_seeds(0, 6)))
    asked = []
    generator.model.showo.model.layers[0].mlp.register_forward_hook(lambda module, args, out: asked.append(args[0]))
    generator.model.showo.model.layers[0].self_attn.q_proj.register_forward_hook(
        lambda module, args, out: asked.append(args[0])
    )
    generator.advance(paths)
    assert [len(tokens) for tokens in asked] == [len(paths.codes.unique()) + 2] * len(asked)  # soi and eoi stand beside
    assert len(asked) in (1, 2)  # oneDNN's fused feed-forward does not call the module


def test_the_reference_temperature_falls_faster():
    seeds = path_seeds(5, 8)
    default, reference = (
        tiny_generator(steps=6, reference_temperature=flag, temperature=4.0) for flag in (False, True)
    )
    first = [g.advance(g.start(["cat"], seeds)) for g in (default, reference)]
    assert torch.equal(first[0].codes, first[1].codes)  # the first step's factor is the same
    assert not torch.equal(finish(default, first[0]).codes, finish(reference, first[1]).codes)


def test_previews():
    generator = tiny_generator(steps=3)
    paths = generator.start(["cat"], path_seeds(0, 3))
    with pytest.raises(ValueError, match="before their first step"):
        generator.preview(paths)
    paths = generator.advance(paths)
    images = generator.preview(paths)
    assert images.shape == (3, 3, 16, 16)
    assert 0 <= images.min() < images.max() <= 1
    with torch.no_grad():
        expected = generator.image_tokenizer.decode_codes(generator.predicted(paths)[1:2])
    torch.testing.assert_close(images[1:2], expected, rtol=0, atol=1e-5)
    done = finish(generator, paths)
    with pytest.raises(ValueError, match="all 3 steps"):
        generator.advance(done)


def test_wrong_requests():
    generator = tiny_generator()
    with pytest.raises(UsageError, match="prompt is empty"):
        generator.start(["  "], path_seeds(0, 1))
    with pytest.raises(UsageError, match="2 prompts do not go with 3 seeds"):
        generator.start(["cat", "dog"], path_seeds(0, 3))
    with pytest.raises(UsageError, match="at least 1 step"):
        tiny_generator(steps=0).start(["cat"], path_seeds(0, 1))


def test_inverse_draws_by_hand():
    weights = torch.tensor([[1.0, 0.0, 2.0, 1.0]] * 6)
    uniform = torch.tensor([0.0, 0.2499, 0.25, 0.7499, 0.75, 1 - 2.0**-24])
    assert draw_by_inverse(weights, uniform).tolist() == [
        0,
        0,
        2,
        2,
        3,
        3,
    ]  # the empty category is never drawn


def test_inverse_draws_in_blocks_equal_running_sums():
    """Category counts that are no multiple of a block, weights of 0 at both ends, uniforms up to the last."""
    random = torch.Generator().manual_seed(0)
    for categories in (1, 5, 64, 100):
        weights = torch.rand(500, categories, generator=random).double() + 0.01
        weights[:, : categories // 3] = 0
        weights[::2, 2 * categories // 3 + 1 :] = 0
        uniform = torch.rand(500, generator=random).double()
        uniform[:2], uniform[2:4] = 0.0, 1 - 2.0**-53
        sums = weights.cumsum(1)
        expected = (sums <= uniform[:, None] * sums[:, -1:]).sum(1)
        drawn = draw_by_inverse(weights, uniform)
        assert torch.equal(drawn[4:], expected[4:])
        assert bool((weights.gather(1, drawn[:, None]) > 0).all())


def test_rows_of_the_same_prompt_and_codes_are_computed_once():
    generator = tiny_generator(steps=6)
    paths = generator.advance(generator.start(["cat", "two dogs"], path_seeds(4, 2)))
    forks = paths.select([1, 0, 1, 1], seeds=path_seeds(5, 4))
    rows = []
    last = generator.model.showo.model.layers[-1].input_layernorm
    last.register_forward_hook(lambda module, args, out: rows.append(len(args[0])))
    together = generator.advance(forks)
    assert rows == [4]
    alone = [generator.advance(forks.select([k])) for k in range(4)]
    assert torch.equal(together.codes, torch.cat([path.codes for path in alone]))


def test_inverse_draws_follow_the_weights():
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4]).expand(40_000, 4)
    uniform = torch.rand(40_000, generator=torch.Generator().manual_seed(0))
    frequency = draw_by_inverse(weights, uniform).bincount(minlength=4) / 40_000
    torch.testing.assert_close(frequency, weights[0], rtol=0, atol=0.01)


def test_one_step_by_hand():
    """Probabilities 1/2, 4/5, 2/3 at three masked positions, no noise: the two least sure stay masked."""
    codes = torch.tensor([[UNDECIDED, 1, UNDECIDED, UNDECIDED]])
    logits = torch.tensor([[1.0, 1.0], [1.0, 4.0], [2.0, 1.0]]).log()
    uniform = torch.full((1, 4), 0.5)
    proposed, masked = decode_step(logits, codes, lambda w: w.argmax(1), uniform, 0.0, 2)
    assert proposed.tolist() == [[0, 1, 1, 0]]
    assert masked.tolist() == [[True, False, False, True]]
    _, masked = decode_step(logits, codes, lambda w: w.argmax(1), uniform, 0.0, 3)
    assert masked.sum() == 2  # at least one position is decided
    _, masked = decode_step(logits, codes, lambda w: w.argmax(1), uniform, 0.0, -1)
    assert masked.tolist() == [[True, False, False, False]]  # at least one stays
    ties = torch.zeros(3, 2)
    _, masked = decode_step(ties, codes, lambda w: w.argmax(1), uniform, 0.0, 2)
    assert masked.sum() == 0  # strictly below the cut-off
