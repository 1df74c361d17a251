import json

import pytest
import torch

from imagecot import registry
from imagecot.contracts.paths import finish, states
from imagecot.contracts.randomness import path_seeds
from imagecot.contracts.scorer import Draws, Scorer
from imagecot.errors import UsageError
from imagecot.generators.llamagen import LlamaGenGenerator
from imagecot.generators.llamagen.text import left_padded
from imagecot.generators.llamagen.transformer import read_text
from imagecot.generators.raster import drawing
from imagecot.generators.raster.plain import plain_decode
from imagecot.generators.raster.sampling import Sampling, filtered, guided
from llamagen_recorded import facts, recorded, tiny_llamagen, tiny_vq16
from recorded import read
from small_models import write_llamagen

torch.set_num_threads(1)
FACTS = facts()
RUNS = FACTS["runs"]
PROMPTS = ["a photo of a red apple", "an apple"]


class Recorded:
    """A text encoder that gives the recorded features of the prompts 0, 1 and 2; `whole` with their padding."""

    def __init__(self, want, whole):
        self.features, self.mask, self.whole = want["text.features"], want["text.mask"], whole

    def __call__(self, prompt):
        row = int(prompt)
        return self.features[row] if self.whole else self.features[row][self.mask[row].bool()]

    def check(self, prompt):
        pass


@pytest.fixture(scope="module")
def want():
    return recorded()


@pytest.fixture(scope="module")
def tiny(want):
    return LlamaGenGenerator(tiny_llamagen(), tiny_vq16(read("llamagen/vq16")), Recorded(want, whole=False))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return registry.load("generator", write_llamagen(tmp_path_factory.mktemp("small"), n_kv_head=2))


def adjusted(generator, want, run):
    """The generator under the settings of a recorded run."""
    return LlamaGenGenerator(
        generator.model,
        generator.image_tokenizer,
        Recorded(want, whole=run.get("no_mask", False)),
        guidance_scale=run["cfg_scale"],
        temperature=run["temperature"] if run.get("sample_logits", True) else 0.0,
        top_k=run["top_k"],
        top_p=run["top_p"],
        cfg_interval=run.get("cfg_interval", -1),
    )


@pytest.mark.parametrize("name", RUNS)
def test_every_recorded_run_is_replayed(tiny, want, name, monkeypatch):
    run, expected = RUNS[name], want[f"{name}.codes"].long().T
    uniform = want.get(f"{name}.inverse_cdf_u", torch.zeros(16, 3)).T

    def recorded_uniforms(seeds, step, stream, count):
        return uniform[seeds, step * count : (step + 1) * count]

    monkeypatch.setattr(drawing, "uniforms", recorded_uniforms)
    generator = adjusted(tiny, want, run)
    assert generator._raster.sampling.guides(0) == (run["steps_with_guidance"] > 0)
    assert sum(generator._raster.sampling.guides(i) for i in range(16)) == run["steps_with_guidance"]
    paths = generator.start(["0", "1", "2"], torch.arange(3))
    assert torch.equal(finish(generator, paths).codes, expected)


def test_probabilities_of_recorded_runs(want):
    for name in ("cfg_topk_topp", "nocfg_topp", "cfg_interval"):
        run, step = RUNS[name], 3
        logits = want[f"{name}.logits_cond"][step]
        if run["cfg_scale"] > 1:
            logits = guided(logits, want[f"{name}.logits_uncond"][step], run["cfg_scale"])
        sampling = Sampling(top_k=run["top_k"], top_p=run["top_p"])
        found = filtered(logits / run["temperature"], sampling).softmax(-1)
        torch.testing.assert_close(found, want[f"{name}.probs"][step], rtol=0, atol=1e-5)


def test_filters_keep_what_the_reference_keeps():
    for case in FACTS["filter_cases"]:
        sampling = Sampling(top_k=case.get("top_k", 0), top_p=case.get("top_p", 1.0))
        found = filtered(torch.tensor([case["logits"]]), sampling)[0]
        assert found.isfinite().nonzero().flatten().tolist() == case["kept"], case


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_two_rows_stand_for_a_text_however_long(want, dtype):
    model = tiny_llamagen().to(dtype)
    for row, length in enumerate(FACTS["valid_text_tokens"]):
        for k, features in enumerate((want["text.features"][row, 6 - length :], model.without_text(length))):
            prefix = read_text(model, features)
            # Rounded to the type of the scores, the two still add up to the rows of text.
            assert float(prefix.bias.to(dtype).float().exp().sum()) == pytest.approx(length, rel=3e-4)
            logits = model.logits(prefix.state)
            torch.testing.assert_close(logits, want["prefill.logits"][3 * k + row], rtol=0, atol=0.2)
            if dtype == torch.float32:
                torch.testing.assert_close(logits, want["prefill.logits"][3 * k + row], rtol=0, atol=1e-5)


def test_settings_come_from_the_checkpoint(small, tmp_path):
    assert small.settings == {
        "guidance_scale": 2.0,
        "temperature": 1.0,
        "top_k": 40,
        "top_p": 1.0,
        "cfg_interval": -1,
        "fill": "blank",
        "precision": "float32",
    }
    assert (small.canvas.grid, small.canvas.image, small.canvas.codes, small.steps) == ((3, 3), (12, 12), 48, 3)
    assert small.rows_per_path == 2
    assert small.adjusted(guidance_scale=1).rows_per_path == 1
    with pytest.raises(UsageError, match="a row of codes a step, 3 in all"):
        small.adjusted(steps=8)
    with pytest.raises(UsageError, match="no setting 'cfg_scale'; it has guidance_scale, temperature"):
        small.adjusted(cfg_scale=2)
    for wrong in ({"cfg_interval": -2}, {"cfg_interval": 1.5}, {"guidance_scale": 0.5}, {"memory_budget": 0}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            small.adjusted(**wrong)


def test_paths_begin_resume_and_fork_alike_whatever_the_interval(small):
    generator, seeds = small.adjusted(cfg_interval=2), path_seeds(3, 4)
    passed = [*states(generator, generator.start(PROMPTS * 2, seeds))]
    assert [row.shape[1] for row in passed[0].own] == [2]
    assert [row.shape[1] for row in passed[1].own] == [2, 1]  # after four codes guidance is given up
    for step in (1, 2):
        again = generator.resume(PROMPTS * 2, seeds, passed[step - 1].codes, step)
        assert torch.equal(finish(generator, again).codes, passed[-1].codes)
    alone = finish(generator, passed[0].select([3]))
    assert torch.equal(alone.codes, passed[-1].codes[3:])
    everywhere = finish(small, small.start(PROMPTS * 2, seeds)).codes
    assert torch.equal(passed[0].codes, small.advance(small.start(PROMPTS * 2, seeds)).codes)
    assert not torch.equal(passed[-1].codes, everywhere)


@pytest.mark.parametrize("settings", [{}, {"cfg_interval": 1, "top_p": 0.8}, {"guidance_scale": 1, "temperature": 0}])
def test_paths_are_those_of_a_decoder_that_keeps_nothing(small, settings):
    generator = small.adjusted(**settings)
    raster, seeds = generator._raster, path_seeds(5, 2)
    found = finish(generator, generator.start(PROMPTS, seeds)).codes
    for row, (prompt, seed) in enumerate(zip(PROMPTS, seeds.tolist(), strict=True)):
        plain = plain_decode(raster.transformer, raster.sampling, raster.canvas.grid, prompt, seed)
        assert torch.equal(found[row], plain)


def test_log_probabilities_are_those_of_drawing(small):
    assert isinstance(small, Scorer)
    plain, seeds = small.adjusted(guidance_scale=1, top_k=0), path_seeds(0, 2)
    codes = finish(plain, plain.start(PROMPTS, seeds)).codes
    transformer = plain._raster.transformer
    prefixes = transformer.prefixes(PROMPTS, guided=False)
    logits = torch.stack([transformer.head(one[0].state) for one in prefixes])
    first = logits.log_softmax(-1).gather(1, codes[:, :1])[:, 0]
    scores = plain.log_likelihood(PROMPTS, codes, Draws(seeds, 1))
    text, mask = left_padded([plain.text_encoder(prompt) for prompt in PROMPTS])
    expected = plain.model(text, mask, codes).log_softmax(-1).gather(2, codes[..., None])[..., 0]
    torch.testing.assert_close(scores, expected.sum(1))
    torch.testing.assert_close(first, expected[:, 0], rtol=0, atol=1e-5)
    alone = plain.log_likelihood(PROMPTS[1:], codes[1:], Draws(seeds, 1))
    torch.testing.assert_close(alone, scores[1:])  # padding beside a longer prompt changes nothing


def test_terms_of_paths_are_under_their_guidance_and_its_interval(small):
    generator, seeds = small.adjusted(cfg_interval=2), path_seeds(1, 2)
    passed = [generator.start(PROMPTS, seeds)]
    passed += states(generator, passed[0])
    codes = passed[-1].codes
    text, mask = left_padded([generator.text_encoder(prompt) for prompt in PROMPTS])
    nothing, _ = left_padded([generator.model.without_text(int(n)) for n in mask.sum(1)])
    given, without = generator.model(text, mask, codes), generator.model(nothing, mask, codes)
    logits = torch.cat([(without + 2 * (given - without))[:, :4], given[:, 4:]], 1)
    expected = logits.log_softmax(-1).gather(2, codes[..., None])[..., 0].mean(1)
    torch.testing.assert_close(generator.step_terms(passed, 3).total(), expected)


def test_what_alignment_trains(small):
    module = small.trainable()
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert not any("uncond_embedding" in name for name, _ in module.named_parameters())
    copy = small.copy(torch.bfloat16)
    assert copy.precision == "bfloat16"
    assert copy.model is not small.model
    assert copy.text_encoder is small.text_encoder


def test_a_saved_checkpoint_draws_the_same(small, tmp_path, capsys):
    config = json.loads((small.folder / "config.json").read_text())
    (small.folder / "config.json").write_text(json.dumps({**config, "known_words": ["apple"]}))
    generator = small.adjusted(temperature=0.5, cfg_interval=3, fill="repeat")
    generator.save(tmp_path)
    assert capsys.readouterr() == ("", "")
    again = registry.load("generator", tmp_path)
    assert again.settings == generator.settings
    assert json.loads((tmp_path / "config.json").read_text())["known_words"] == ["apple"]
    seeds = path_seeds(0, 3)
    drawn = [finish(one, one.start(PROMPTS[:1], seeds)) for one in (generator.adjusted(), again)]
    assert float((drawn[0].codes == drawn[1].codes).float().mean()) > 0.8  # the weights were halved


def test_int8_is_loaded(small):
    quantized = registry.load("generator", small.folder, dtype="int8")
    assert quantized.precision == "int8"
    codes = finish(quantized, quantized.start(PROMPTS[:1], path_seeds(0, 2))).codes
    assert codes.shape == (2, 9)


def test_images_of_another_size_have_no_codes(small):
    assert small.encode(torch.rand(2, 3, 12, 12)).shape == (2, 9)
    with pytest.raises(UsageError, match="images are 16 x 12 pixels, but this generator has 12 x 12"):
        small.encode(torch.rand(2, 3, 16, 12))


def test_prompts_that_cannot_be_read(small):
    seeds = path_seeds(0, 1)
    with pytest.raises(UsageError, match="the prompt has 102 tokens but this generator reads at most 96"):
        small.start(["a" + " b" * 50], seeds)  # the end of the text included
    with pytest.raises(UsageError, match="of the prompt 'jc6640' nothing is left after the cleaning"):
        small.start(["jc6640"], seeds)
    with pytest.raises(UsageError, match="2 prompts do not go with 3 seeds"):
        small.start(PROMPTS, path_seeds(0, 3))
