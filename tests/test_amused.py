"""aMUSEd draws what diffusers' pipeline draws from the same random numbers, and keeps what paths promise."""

import json

import pytest
import torch

pytest.importorskip("diffusers", reason="aMUSEd needs the extra imagecot[amused]")

from diffusers import AmusedPipeline, AmusedScheduler
from diffusers.schedulers import scheduling_amused
from diffusers.utils import logging

from imagecot import load_generator
from imagecot.contracts.paths import UNDECIDED, finish
from imagecot.contracts.randomness import Stream, path_seeds, uniforms
from imagecot.errors import UsageError
from imagecot.generators.masked.schedules import cosine, masked_count
from imagecot.generators.masked.step import draw_by_inverse
from masked import decode_step
from small_amused import CODES, MASK, write_amused

torch.set_num_threads(1)
APPLE, CATS = "a photo of a red apple", "two cats"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_amused(tmp_path_factory.mktemp("amused") / "amused")


@pytest.fixture(scope="module")
def small(folder):
    return load_generator(folder)


def pipeline(folder) -> AmusedPipeline:
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    pipe = AmusedPipeline.from_pretrained(folder, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def by_the_pipeline(folder, prompts, seeds, monkeypatch, **asked) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The codes after every step, and the images, of diffusers' pipeline with the random numbers of our paths."""
    steps, positions = asked["num_inference_steps"], 0
    state: dict[str, int] = {"codes": 0, "masks": 0}

    def multinomial(probabilities, count, generator=None):
        step, state["codes"] = state["codes"], state["codes"] + 1
        uniform = uniforms(seeds, step, Stream.CODES, len(probabilities) // len(seeds)).flatten()
        return draw_by_inverse(probabilities, uniform)[:, None]

    def gumbel(t, generator=None):
        step, state["masks"] = state["masks"], state["masks"] + 1
        noise = uniforms(seeds, step, Stream.MASKING, t.shape[1])
        return -torch.log((-torch.log(noise.clamp(1e-20))).clamp(1e-20))

    monkeypatch.setattr(torch, "multinomial", multinomial)
    monkeypatch.setattr(scheduling_amused, "gumbel_noise", gumbel)
    passed: list[torch.Tensor] = []
    images = pipeline(folder)(
        prompts, output_type="pt", callback=lambda step, t, codes: passed.append(codes.flatten(1).clone()), **asked
    ).images
    assert len(passed) == steps and positions == 0
    return [torch.where(codes == MASK, UNDECIDED, codes) for codes in passed], images


@pytest.mark.parametrize(
    ("seed", "sizes", "vq", "asked"),
    [
        (1, {}, {}, {}),
        (2, {"downsample": True, "upsample": True, "sample_size": 6}, {}, {"guidance_scale": 1.0}),
        (3, {"use_bias": True, "layer_norm_eps": 1e-5}, {"block_out_channels": (8,)}, {"temperature": (5, 0)}),
        (4, {"num_res_blocks": 2}, {"latent_channels": 8}, {"negative_prompt": "a cat", "guidance_scale": 6.5}),
        (5, {"sample_size": 5}, {}, {"micro_conditioning_aesthetic_score": 2, "schedule": "linear"}),
    ],
)
def test_codes_and_images_are_those_of_the_pipeline(seed, sizes, vq, asked, tmp_path, monkeypatch):
    levels = len(vq.get("block_out_channels", (8, 16)))
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * levels, "up_block_types": ("UpDecoderBlock2D",) * levels}
    schedule = asked.pop("schedule", "cosine")
    folder = write_amused(tmp_path / "a", seed, schedule=schedule, vq={**vq, **kinds}, **sizes)
    seeds, steps = path_seeds(seed, 3), 6
    asked = {"guidance_scale": 3.0, "temperature": (2, 0), **asked}
    negative = {"negative_prompt": [asked["negative_prompt"]] * 3} if "negative_prompt" in asked else {}
    generator = load_generator(folder).adjusted(
        steps=steps,
        guidance_scale=asked["guidance_scale"],
        temperature=float(asked["temperature"][0]),
        negative_prompt=asked.get("negative_prompt", ""),
        aesthetic_score=float(asked.get("micro_conditioning_aesthetic_score", 6)),
    )
    assert generator.schedule == schedule
    prompts = [APPLE, CATS, APPLE]
    paths, passed, last = generator.start(prompts, seeds), [], None
    while not paths.finished:
        paths = generator.advance(paths)
        passed.append(paths.codes)
    expected, images = by_the_pipeline(
        folder, prompts, seeds, monkeypatch, num_inference_steps=steps, **{**asked, **negative}
    )
    for step, (ours, theirs) in enumerate(zip(passed, expected, strict=True)):
        assert torch.equal(ours, theirs), step
    last = passed[-1]
    assert len(last.unique()) > 3  # neither flat nor a constant
    torch.testing.assert_close(generator.decode(last), images, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 5, 12, 64])
def test_a_step_is_that_of_the_unchanged_scheduler(steps):
    """With the scheduler's own generator of random numbers, whose draws are handed to ours."""
    theirs = AmusedScheduler(mask_token_id=CODES)
    theirs.set_timesteps(steps, (2, 0))
    codes, positions = torch.full((3, 25), UNDECIDED), 25
    for step, timestep in enumerate(theirs.timesteps):
        logits = torch.randn(3, CODES, 5, 5, generator=torch.Generator().manual_seed(step)) * 2
        sample = torch.where(codes == UNDECIDED, CODES, codes)
        found = theirs.step(logits, timestep, sample.view(3, 5, 5), generator=torch.Generator().manual_seed(100 + step))
        noise = torch.Generator().manual_seed(100 + step)
        exponential = torch.empty(3 * positions, CODES).exponential_(1, generator=noise)
        masks = torch.zeros(3, positions).uniform_(0, 1, generator=noise)
        unknown = codes == UNDECIDED
        drawn = exponential.view(3, positions, CODES)[unknown]
        proposed, masked = decode_step(
            logits.flatten(2).transpose(1, 2)[unknown],
            codes,
            lambda weights, e=drawn: (weights / e).argmax(1),
            masks,
            float(torch.linspace(2, 0, steps)[step]),
            masked_count(cosine, step, steps, positions),
        )
        codes = proposed if step == steps - 1 else proposed.masked_fill(masked, UNDECIDED)
        assert torch.equal(proposed, found.pred_original_sample.flatten(1))
        assert torch.equal(torch.where(codes == UNDECIDED, CODES, codes), found.prev_sample.flatten(1))


def test_text_is_read_once_a_prompt_and_dead_paths_cost_nothing(small):
    rows, texts = [], []
    hooks = [
        small.model.register_forward_pre_hook(lambda module, args: rows.append(len(args[0]))),
        small.text.model.register_forward_pre_hook(
            lambda module, args, kwargs: texts.append(len(args[0])), with_kwargs=True
        ),
    ]
    paths = small.start([APPLE, CATS, APPLE], path_seeds(0, 3))
    assert texts == [1, 1, 1]  # the negative prompt, and two others
    paths = small.advance(paths)
    small.advance(small.advance(paths).select([2]))
    assert rows == [4, 6, 2]  # two prompts are all alike before the first step; then a pair of rows a path
    rows.clear()
    plain = small.adjusted(guidance_scale=1.0)
    finish(plain, plain.start([APPLE], path_seeds(0, 3)))
    assert rows == [1, 3, 3, 3] and len(texts) == 4 and plain.rows_per_path == 1
    for hook in hooks:
        hook.remove()


def test_a_folder_says_how_it_likes_to_be_drawn_with(small, folder, tmp_path):
    assert (small.steps, small.guidance_scale, small.temperature, small.aesthetic_score) == (4, 3.0, 2.0, 6.0)
    assert small.canvas.grid == (4, 4) and small.canvas.codes == CODES and small.canvas.image == (8, 8)
    other = load_generator(folder, dtype="bfloat16")
    done = finish(other, other.start([APPLE], path_seeds(0, 2)))
    assert other.precision == "bfloat16" and not (done.codes == UNDECIDED).any()
    assert other.image_tokenizer.dtype == torch.float32
    quick = load_generator(folder, dtype="int8")
    assert quick.precision == "int8" and (finish(quick, quick.start([APPLE], path_seeds(0, 2))).codes >= 0).all()
    changed = small.adjusted(steps=2, negative_prompt="a cat", memory_budget=1)
    small_passes = finish(changed, changed.start([APPLE], path_seeds(3, 4)))
    whole = small.adjusted(steps=2, negative_prompt="a cat")
    assert changed.paths_per_pass == 1
    assert torch.equal(small_passes.codes, finish(whole, whole.start([APPLE], path_seeds(3, 4))).codes)
    assert json.loads(json.dumps(whole.settings))["negative_prompt"] == "a cat"


def test_pictures_have_the_codes_of_the_nearest_vectors(small):
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    codes = small.encode(images)
    latents = small.image_tokenizer.encode(images).latents.flatten(2).transpose(1, 2)
    distance = (latents[:, :, None] - small.image_tokenizer.quantize.embedding.weight).square().sum(-1)
    assert torch.equal(codes, distance.argmin(-1)) and codes.shape == (2, 16)


def test_mistaken_requests_are_one_sentence(small):
    for settings, told in (
        ({"steps": 0}, "at least 1 step"),
        ({"guidance_scale": 0.5}, "guidance_scale must be a number from 1 to 1000, not 0.5"),
        ({"aesthetic_score": 11}, "aesthetic_score must be a number from 0 to 10"),
        ({"temperature": "2"}, "temperature must be a number"),
        ({"negative_prompt": 3}, "negative_prompt must be text"),
        ({"negative_prompt": "cat " * 50}, "the prompt has 52 tokens .* at most 40; shorten it"),
        ({"memory_budget": 0}, "at least 1"),
        ({"schedule": "cosinus"}, "there is no mask schedule"),
        ({"top_k": 3}, "aMUSEd has no setting 'top_k'"),
    ):
        with pytest.raises(UsageError, match=told):
            small.adjusted(**settings)
    with pytest.raises(UsageError, match=r"the prompt has 102 tokens .* at most 40; shorten it"):
        small.start(["cat " * 100], path_seeds(0, 1))
    with pytest.raises(UsageError, match="2 prompts do not go with 3 seeds"):
        small.start([APPLE, CATS], path_seeds(0, 3))
    with pytest.raises(UsageError, match=r"codes \(1, 9\) after step 1 are none"):
        small.resume([APPLE], path_seeds(0, 1), torch.zeros(1, 9), 1)
