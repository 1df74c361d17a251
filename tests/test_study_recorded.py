"""A recording replays every search exactly, of a masked generator and of one that draws rows with a cache a path."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from imagecot import registry
from imagecot.contracts.generator import Adjustable, Canvas, Corrector, Encoder, Generator, Predictor, Remasker
from imagecot.contracts.paths import UNDECIDED, Paths, finish, states
from imagecot.contracts.prompts import Reader
from imagecot.contracts.randomness import Stream, fork_seeds, path_seeds, uniforms
from imagecot.contracts.reflection import Reflection
from imagecot.contracts.verifier import Conversation, Usage
from imagecot.images import from_picture
from imagecot.strategies.search import search
from imagecot.study.recorded import Recorded, record
from plain_decoder import tiny_generator
from small_models import Flat

torch.set_num_threads(1)
PROMPT = "a photo of a red apple by night"  # says more than GenEval's templates, so that reasons are written
N, SEED = 7, 3


@dataclass
class Rows:
    """Draws 3 x 2 codes of 16, a row a step; `own` holds the sum of the rows before, `shared` the prompts' numbers."""

    steps: int = 3
    rows_per_path: int = 1
    paths_per_pass: int = 3
    settings: dict[str, Any] = field(default_factory=dict)
    canvas = Canvas((3, 2), 16, (6, 4))
    drawn: int = 0

    def start(self, prompts: list[str], seeds: Tensor) -> Paths:
        numbers = torch.tensor([sum(map(ord, prompt)) % 16 for prompt in prompts])
        index = torch.arange(len(prompts)).expand(len(seeds)).clone()
        cache = (torch.zeros(len(seeds), dtype=torch.int64),)
        return Paths(torch.full((len(seeds), 6), UNDECIDED), seeds, index, 0, self.steps, shared=numbers, own=cache)

    def resume(self, prompts: list[str], seeds: Tensor, codes: Tensor, step: int) -> Paths:
        start = self.start(prompts, seeds)
        return replace(start, codes=codes.long(), step=step, own=(codes[:, : 2 * step].long().sum(1),))

    def correct(self, prompts, seeds, corrections) -> Paths:
        told = torch.tensor([len(c.reasons) + int(c.codes.sum() if c.codes is not None else 0) for c in corrections])
        return replace(self.start([*prompts] * len(told), seeds), shared=told % 16)

    def advance(self, paths: Paths) -> Paths:
        if paths.finished:
            raise ValueError("all rows are drawn")
        self.drawn += len(paths)
        given = paths.shared[paths.prompt_index] + paths.own[0]
        row = (given[:, None] * 5 + (uniforms(paths.seeds, paths.step, Stream.USER, 2) * 16).long()) % 16
        codes = paths.codes.clone()
        codes[:, 2 * paths.step : 2 * paths.step + 2] = row
        return replace(paths, codes=codes, step=paths.step + 1, own=(paths.own[0] + row.sum(1),))

    def preview(self, paths: Paths) -> Tensor:
        return self.decode(paths.codes)

    def decode(self, codes: Tensor) -> Tensor:
        shades = codes.clamp(min=0).view(-1, 1, 3, 2) / 15.0
        return shades.repeat_interleave(2, 2).repeat_interleave(2, 3).expand(-1, 3, -1, -1)


class Moody:
    """P(yes) is the middle of the brightness' digits, so that some paths are clear, some hopeless, some right."""

    def __init__(self) -> None:
        self.usage, self.settings = Usage(), {}

    def answers(self, bright: Tensor, about: str) -> Tensor:
        self.usage += Usage(judge_calls=len(bright), tokens_judged=3 * len(bright))
        return (bright.double() * (37 + len(about))).round(decimals=4) % 1

    def ask(self, images, prompts, question, after=None) -> Tensor:
        return self.answers(images.mean((1, 2, 3)) if after is None else after.own, question.name)

    def begin(self, images, prompts, question):
        return self.ask(images, prompts, question), Conversation(question, images.mean((1, 2, 3)))

    def reflect(self, images, prompts) -> list[Reflection]:
        return [Reflection("no, there is no apple." + "!" * k, 0.2) for k in range(len(images))]


class Strict(Moody):
    """Every preview is clear, and no path has potential, so that the least hopeless is taken up again."""

    def answers(self, bright: Tensor, about: str) -> Tensor:
        given = super().answers(bright, about)
        return {"clarity": 0.5 + given / 2, "potential": given / 3}.get(about, given)


GENERATORS = {"masked": lambda: tiny_generator(steps=4), "rows": Rows}
SEARCHES = [(name, {}, Moody) for name in registry.ROLES["search"].classes]
SEARCHES += [("parm", {"keep": 0.4}, Moody), ("parm", {"first_step": 2, "keep": 1.0}, Moody)]
SEARCHES += [("parm", {"first_step": 2}, Strict), ("parm++", {}, Strict), ("parm++", {"keep": 0.3}, Strict)]


def plain(candidate):
    """A candidate without its image and without what numbers its verdicts have."""
    verdicts = [replace(verdict, p_yes=0.0) for verdict in candidate.verdicts]
    score = None if candidate.score is None else 0.0
    reflection = candidate.reflection and replace(candidate.reflection, p_yes=0.0)
    return replace(candidate, image=None, verdicts=verdicts, score=score, reflection=reflection)


@pytest.mark.parametrize("kind", GENERATORS)
@pytest.mark.parametrize(("strategy", "options", "judge"), SEARCHES, ids=str)
def test_a_replayed_search_is_the_real_one(kind, strategy, options, judge):
    """Candidates with all their verdicts, the choice, its picture, and all that is counted."""
    how = {"strategy": strategy, "n": N, "seed": SEED, **options}
    if kind == "rows" and "remasker" in registry.load("search", strategy).needs:
        pytest.skip("rows cannot be taken back")
    real = search(PROMPT, generator=GENERATORS[kind](), verifier=judge(), **how)
    again = search(PROMPT, generator=record(GENERATORS[kind](), PROMPT, path_seeds(SEED, N)), verifier=judge(), **how)
    assert again.chosen == real.chosen
    assert [plain(c) for c in again.candidates] == [plain(c) for c in real.candidates]
    for one, other in zip(again.candidates, real.candidates, strict=True):  # a level of a pixel may be rounded away
        assert [v.p_yes for v in one.verdicts] == pytest.approx([v.p_yes for v in other.verdicts], abs=2e-3)
    for one, other in zip(again.candidates, real.candidates, strict=True):
        assert look_alike(one.image, other.image)
    assert replace(again.cost, seconds=0, judge_seconds=0) == replace(real.cost, seconds=0, judge_seconds=0)
    assert again.picture.size == real.picture.size  # its text says how long it took
    shown = [
        [{step: image.tobytes() for step, image in c.previews.items()} for c in t.candidates] for t in (real, again)
    ]
    assert shown[0] == shown[1] and any(shown[0])
    assert replace(again.picture_cost, seconds=0) == replace(real.picture_cost, seconds=0)
    assert again.settings == real.settings and again.steps == real.steps
    if judge is Strict and not options.get("keep"):
        assert any(candidate.resumed_at for candidate in real.candidates)


def look_alike(one: Image.Image | None, other: Image.Image | None) -> bool:
    """Whether both are the same picture; on some processors convolutions of other batches round a level away."""
    if one is None or other is None:
        return one is other
    return bool(np.abs(np.asarray(one, np.int16) - np.asarray(other, np.int16)).max() <= 1)


def test_searches_over_whole_paths_draw_nothing():
    generator = Rows()
    recorded = record(generator, PROMPT, path_seeds(SEED, N))
    assert generator.drawn == 3 * N
    for strategy in ("single", "best-of-n", "parm"):
        search(PROMPT, generator=recorded, verifier=Moody(), strategy=strategy, n=N, seed=SEED)
    assert generator.drawn == 3 * N
    other = search(PROMPT, generator=recorded, verifier=Moody(), strategy="best-of-n", n=2, seed=SEED + 1)
    real = search(PROMPT, generator=Rows(), verifier=Moody(), strategy="best-of-n", n=2, seed=SEED + 1)
    assert generator.drawn == 3 * (N + 2)  # seeds that are not recorded
    assert other.candidates == real.candidates


@pytest.mark.parametrize("kind", GENERATORS)
def test_forks_others_codes_and_other_prompts_are_drawn(kind):
    generator, seeds = GENERATORS[kind](), path_seeds(SEED, 3)
    recorded = record(generator, PROMPT, seeds)
    assert isinstance(recorded, Generator)
    drawers = (recorded, generator)
    for drawer in drawers:
        paths = drawer.advance(drawer.start([PROMPT], seeds))
        paths = paths.select([2, 0, 2], seeds=torch.cat([seeds[2:], fork_seeds(seeds[:1], 1), seeds[:1]]))
        images = [drawer.preview(paths)] + [drawer.preview(paths) for paths in states(drawer, paths)]
        if drawer is recorded:
            kept = images
    assert [torch.equal(a, b) for a, b in zip(kept, images, strict=True)] == [True] * len(images)
    swapped = [drawer.advance(drawer.start([PROMPT], seeds)).select([1, 0], seeds[:2]) for drawer in drawers]
    ours, theirs = (finish(drawer, paths).codes for drawer, paths in zip(drawers, swapped, strict=True))
    assert torch.equal(ours, theirs)  # known seeds, but on codes that are not theirs
    for prompts in (["a cup"], [PROMPT, "a cup", PROMPT]):
        codes = finish(recorded, recorded.start(prompts, seeds)).codes
        assert torch.equal(codes, finish(generator, generator.start(prompts, seeds)).codes)
    with pytest.raises(ValueError, match=r"rows are drawn|have done all"):
        recorded.advance(finish(recorded, recorded.start([PROMPT], seeds)))


@pytest.mark.parametrize("kind", GENERATORS)
def test_paths_go_on_where_they_were_left(kind):
    generator, seeds = GENERATORS[kind](), path_seeds(SEED, 3)
    recorded = record(generator, PROMPT, seeds)
    end = recorded.states[-1].codes
    for step in range(generator.steps):
        codes = recorded.states[step].codes
        assert torch.equal(finish(recorded, recorded.resume([PROMPT], seeds, codes, step)).codes, end)
        unknown = recorded.resume([PROMPT], fork_seeds(seeds, 1), codes, step)
        real = generator.resume([PROMPT], fork_seeds(seeds, 1), codes, step)
        assert torch.equal(finish(recorded, unknown).codes, finish(generator, real).codes)


def test_it_can_what_its_generator_can_and_no_more():
    capabilities = (Corrector, Predictor, Remasker, Encoder, Adjustable, Reader)
    for generator in (tiny_generator(steps=2), Rows(), Flat()):
        recorded = record(generator, PROMPT, path_seeds(0, 2))
        for name in ("steps", "rows_per_path", "paths_per_pass", "settings", "canvas"):
            assert getattr(recorded, name) == getattr(generator, name)
        for capability in capabilities:
            assert isinstance(recorded, capability) == isinstance(generator, capability)
    assert isinstance(tiny_generator(steps=2), capabilities)
    assert not isinstance(Flat(), capabilities)


def test_codes_are_decided_anew_as_by_the_generator():
    generator, seeds = tiny_generator(steps=4), path_seeds(SEED, 3)
    recorded, back = record(generator, PROMPT, seeds), torch.arange(16)[None].expand(3, -1) % 3 == 0
    ours, theirs = (
        finish(drawer, drawer.remask(finish(drawer, drawer.start([PROMPT], seeds)), back))
        for drawer in (recorded, generator)
    )
    assert torch.equal(ours.codes, theirs.codes)
    assert torch.equal(recorded.predicted(ours), ours.codes)


def test_only_codes_are_kept_and_final_images_are_decoded_once():
    class Counting(Rows):
        decoded = 0

        def decode(self, codes):
            self.decoded += len(codes)
            return super().decode(codes)

    generator = Counting()
    recorded: Recorded = record(generator, PROMPT, path_seeds(SEED, N))
    assert [state.shared for state in recorded.states] == [None] * 4
    assert recorded.states[0].own is None and all(state.own is state.codes for state in recorded.states[1:])
    for _ in range(2):
        trace = search(PROMPT, generator=recorded, verifier=Moody(), strategy="best-of-n", n=N, seed=SEED)
    assert generator.decoded == N
    assert torch.equal(from_picture(trace.image), (recorded.images[trace.chosen] * 255).round() / 255)
    predicted = [state.own for state in record(tiny_generator(steps=2), PROMPT, path_seeds(0, 2)).states]
    assert predicted[0] is None and [tuple(codes.shape) for codes in predicted[1:]] == [(2, 16)] * 2
