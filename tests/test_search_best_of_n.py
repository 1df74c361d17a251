"""single and best-of-n: what is chosen, what it costs, and what stays in memory."""

import subprocess
import sys

import pytest
import torch

import imagecot.strategies.run as run_module
import imagecot.strategies.trace as trace_module
from imagecot.contracts.randomness import Stream, path_seeds, uniforms
from imagecot.contracts.search import Verdict
from imagecot.errors import ImagecotError, UsageError
from imagecot.strategies.picture import _explanation
from imagecot.strategies.search import search
from plain_decoder import tiny_generator
from small_models import Brightness, Flat

torch.set_num_threads(1)
PROMPT = "a photo of a red apple"


def shades(seed: int, n: int, step: int = 1) -> list[int]:
    return (uniforms(path_seeds(seed, n), step, Stream.CODES, 1)[:, 0] * 256).int().tolist()


def test_the_brightest_of_n_single_images_is_chosen():
    """Each path is drawn alone and its image judged; the search must choose the same one."""
    generator, n, seed = tiny_generator(steps=3), 6, 5
    alone = []
    for path_seed in path_seeds(seed, n):
        paths = generator.start([PROMPT], path_seed[None])
        while not paths.finished:
            paths = generator.advance(paths)
        alone.append(generator.preview(paths)[0])
    brightness = [float(image.mean()) for image in alone]
    trace = search(PROMPT, generator=generator, verifier=Brightness(), n=n, seed=seed)
    assert trace.chosen == brightness.index(max(brightness))
    assert [c.score for c in trace.candidates] == pytest.approx(brightness, abs=2e-4)
    assert [c.seed for c in trace.candidates] == path_seeds(seed, n).tolist()
    for candidate, image in zip(trace.candidates, alone, strict=True):
        difference = torch.tensor(list(candidate.image.tobytes())).view(16, 16, 3) - 255 * image.permute(1, 2, 0)
        assert difference.abs().max() < 0.51
    assert trace.image is trace.candidates[trace.chosen].image
    assert trace.choice.verdicts == [Verdict(3, "orm", trace.choice.score)]
    assert trace.kept == n


@pytest.mark.parametrize(("guidance", "rows"), [(1.75, 5 * 7 * 2), (0.0, 5 * 7)])
def test_the_cost_is_what_was_computed(guidance, rows):
    """5 paths of 7 steps, 1 or 2 rows each; 5 images decoded; 5 answers of 7 tokens."""
    generator = tiny_generator(steps=7, guidance_scale=guidance)
    trace = search(PROMPT, generator=generator, verifier=Brightness(), n=5)
    cost = trace.cost
    assert (cost.generator_rows, cost.previews, cost.judge_calls, cost.tokens_judged) == (rows, 5, 5, 35)
    assert cost.seconds > 0
    # The picture shows steps 1, 2, 3, 5, 6, 7 (half-way 4.6, 5.8 round up); step 7 is the image itself.
    assert [list(c.codes) for c in trace.candidates] == [[1, 2, 3, 5, 6, 7]] * 5
    assert trace.picture.width > 700
    assert trace.picture_cost.previews == 5 * 5
    assert trace.cost is cost


def test_only_the_shown_paths_are_decoded_for_the_picture_and_as_recorded():
    trace = search(PROMPT, generator=Flat(steps=3), verifier=Brightness(), n=20)
    assert trace.picture_cost.previews == 0
    assert trace.picture is not None
    assert trace.picture_cost.previews == 8 * 2
    best = sorted(range(20), key=lambda i: -shades(0, 20, step=2)[i])[:8]
    assert [i for i, c in enumerate(trace.candidates) if c.previews] == sorted(best)
    for index in best:
        for step in (1, 2):
            pixel = trace.candidates[index].previews[step].getpixel((0, 0))
            assert pixel == (shades(0, 20, step=step - 1)[index],) * 3


def test_what_was_judged_is_not_decoded_again_for_the_picture(tmp_path):
    asked = {"verifier": Brightness(), "n": 3, "strategy": "stepwise"}
    kept = search(PROMPT, generator=Flat(steps=9), folder=tmp_path, **asked)
    again = search(PROMPT, generator=Flat(steps=9), **asked)
    assert again.picture is not None
    judged = {(k, verdict.step) for k, one in enumerate(kept.candidates) for verdict in one.verdicts}
    for index, (one, other) in enumerate(zip(kept.candidates, again.candidates, strict=True)):
        for step in other.previews.keys() & one.previews.keys():
            assert one.previews[step].tobytes() == other.previews[step].tobytes()
        assert {step for k, step in judged if k == index and step < 9} <= one.previews.keys()
    assert kept.picture_cost.previews < again.picture_cost.previews


def test_of_large_images_few_are_decoded_for_the_picture(monkeypatch):
    monkeypatch.setattr(trace_module, "MOST_PIXELS", 3 * 4 * 4)
    trace = search(PROMPT, generator=Flat(steps=6), verifier=Brightness(), n=4)
    assert trace.picture is not None and trace.picture_cost.previews == 3
    assert {k: [*c.previews] for k, c in enumerate(trace.candidates) if c.previews} == {trace.chosen: [1, 2, 3]}
    assert "Where a place is empty" in _explanation(trace)


def test_of_equal_scores_the_first_wins():
    class Indifferent(Brightness):
        def ask(self, images, prompts, question, after=None):
            return torch.full((len(images),), 0.5)

    assert search(PROMPT, generator=Flat(), verifier=Indifferent(), n=4).chosen == 0


def test_a_path_does_not_depend_on_n_or_on_the_groups(monkeypatch):
    few = search(PROMPT, generator=Flat(), verifier=Brightness(), n=3, seed=9)
    generator = Flat()
    monkeypatch.setattr(run_module, "LARGEST_GROUP", 2)
    many = search(PROMPT, generator=generator, verifier=Brightness(), n=7, seed=9)
    assert generator.batches == [2, 2, 2, 2, 2, 2, 1, 1]
    assert many.candidates[:3] == few.candidates
    assert many.cost.generator_rows == 14


def test_ten_thousand_paths_are_bounded_in_memory():
    generator = Flat()
    trace = search(PROMPT, generator=generator, verifier=Brightness(), n=10_000)
    assert max(generator.batches) <= 256
    assert len(trace.candidates) == 10_000
    assert sum(c.image is not None for c in trace.candidates) == 256
    assert sum(bool(c.codes) for c in trace.candidates) == 256
    values = shades(0, 10_000)
    assert trace.chosen == values.index(max(values))
    assert trace.image.getpixel((0, 0)) == (max(values),) * 3


def test_single_draws_the_first_path_and_needs_no_verifier():
    trace = search(PROMPT, generator=Flat(rows_per_path=2), strategy="single", n=20, seed=3)
    assert (trace.n, len(trace.candidates), trace.chosen, trace.verifier) == (1, 1, 0, None)
    assert (trace.choice.score, trace.choice.verdicts) == (None, [])
    assert trace.image.getpixel((0, 0)) == (shades(3, 1)[0],) * 3
    assert (trace.cost.generator_rows, trace.cost.previews, trace.cost.judge_calls) == (4, 1, 0)
    judged = search(PROMPT, generator=Flat(), verifier=Brightness(), strategy="single", seed=3)
    assert judged.choice.score == pytest.approx(shades(3, 1)[0] / 255, abs=2e-4)
    assert judged.verifier == "Brightness"


def test_progress_rises_to_the_number_of_path_steps(monkeypatch):
    monkeypatch.setattr(run_module, "LARGEST_GROUP", 2)
    seen = []
    search(
        PROMPT,
        generator=Flat(),
        verifier=Brightness(),
        n=3,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert {total for _, total in seen} == {6}
    assert seen[-1] == (6, 6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": " \n"}, "the prompt is empty"),
        ({"prompt": "caf\udce9"}, "not valid UTF-8"),
        ({"n": 0}, "at least 1 path, not 0"),
        ({"n": -1}, "at least 1 path, not -1"),
        ({"strategy": "best-of-m"}, r"did you mean best-of-n\?"),
        ({"verifier": None}, "best-of-n needs a verifier"),
    ],
)
def test_requests_that_make_no_sense(change, message):
    request = {"prompt": PROMPT, "verifier": Brightness(), "generator": Flat(), **change}
    with pytest.raises(UsageError, match=message):
        search(**request)


def test_an_answer_that_is_no_probability_is_an_error():
    class Damaged(Brightness):
        def ask(self, images, prompts, question, after=None):
            return torch.full((len(images),), torch.nan)

    with pytest.raises(ImagecotError, match="not a probability"):
        search(PROMPT, generator=Flat(), verifier=Damaged(), n=2)


def test_search_is_a_function_of_the_package_whatever_was_imported_before():
    code = (
        "import imagecot, sys; assert 'torch' not in sys.modules; import imagecot.strategies.trace;"
        "from imagecot import search, load_generator, load_verifier; assert callable(search);"
        "assert imagecot.search is search; search(' ', generator=None)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "UsageError: the prompt is empty" in result.stderr
