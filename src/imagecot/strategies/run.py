"""A search in progress: it calls the models and counts their work, draws paths in groups and resumes."""

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from imagecot import guard, interruption
from imagecot.contracts.correction import Correction
from imagecot.contracts.generator import Corrector, Doubting, Generator, Predictor, Remasker, fill_of
from imagecot.contracts.paths import UNDECIDED, Paths
from imagecot.contracts.questions import ORM, REFLECTION, Question
from imagecot.contracts.reflection import Reflection
from imagecot.contracts.search import Assess, Candidate, Cost, Select, Verdict
from imagecot.contracts.verifier import Conversation, Verifier, recorded
from imagecot.errors import ImagecotError, UsageError
from imagecot.generators.shown import kept, shown
from imagecot.images import from_picture, to_pictures
from imagecot.reflection.reflect import reflect_on
from imagecot.strategies.population import draw_population
from imagecot.strategies.request import Request
from imagecot.strategies.resume import Partial
from imagecot.strategies.together import draw_together
from imagecot.strategies.trace import Seen, ranked, shown_steps

if TYPE_CHECKING:
    from pydantic import BaseModel

LARGEST_GROUP = 256  # paths in progress at once
KEPT_IMAGES = 256  # images of the best so many candidates stay in memory
KEPT_PREVIEWS = 512  # of those that were judged
Progress = Callable[[int, int], None]
Watcher = Callable[[Paths, Sequence[Candidate]], None]  # paths after a step, and the candidates that they are
Answered = tuple[Tensor, Conversation | None]


@dataclass
class Run:
    """One search in progress (`imagecot.contracts.Run`).

    progress  called with the steps of paths done, and those in all
    watcher   sees all paths after each of their steps, for whoever looks on while they are drawn
    drawn     candidates that were drawn already, in a batch with those of other searches
    cost      spent so far, without the seconds of work in progress
    """

    request: Request
    partial: Partial | None = None
    progress: Progress | None = None
    watcher: Watcher | None = None
    drawn: list[Candidate] | None = None
    cost: Cost = field(default_factory=Cost)
    done: int = 0
    _start: Paths | None = None
    _at_end: bool = False  # whether a round was asked for behind those that were drawn already
    _forgotten: set[int] = field(default_factory=set)  # seeds of the paths whose images were dropped
    _seen: int = 0  # previews that were kept as they were judged
    _now: tuple[int, Tensor, list[Candidate]] | None = None  # the step noted last: codes (B, N) of these candidates

    def __post_init__(self) -> None:
        self.prompt, self.seed, self.n = self.request.prompt, self.request.seed, self.request.paths
        self.generator: Generator = self.request.generator
        self.verifier: Verifier | None = self.request.verifier
        self.settings: BaseModel = self.request.settings
        self.shown_steps = frozenset(shown_steps(self.generator.steps))

    @property
    def seeds(self) -> Tensor:
        """The seeds (n,) of its paths."""
        return self.request.path_seeds

    def in_groups(
        self, assess: Assess | None = None, *, together: bool = False, among: range | None = None
    ) -> list[Candidate]:
        """Take all n paths from step 0 to their candidates, a group of bounded size at a time.

        together  whether `assess` compares paths with each other, so that what it stops would depend on the group: then
                  all paths up to LARGEST_GROUP are one, whatever memory there is
        among     the numbers of the paths that are taken, side by side, where not all n are

        The k-th path is the same whatever the groups are. A group that an interrupted run finished is read
        back; of many candidates, only the best keep their image and what the picture of the steps needs.
        """
        if self.drawn is not None:
            self._forgotten = _forget(self.drawn)
            found = self.drawn if among is None else self.drawn[among.start : among.stop]
            if not found and self._at_end:
                raise ImagecotError(
                    f"{self.request.name} goes on where a budget is spent; let choose end where in_groups returns "
                    "nothing."
                )
            self._at_end = not found
            return found
        seeds, among = self.seeds, among or range(self.n)
        # More than one forward pass takes brings nothing, and a smaller group is lost less when interrupted.
        size = LARGEST_GROUP if together else min(LARGEST_GROUP, self.generator.paths_per_pass)
        candidates: list[Candidate] = []
        for first in range(among.start, among.stop, size):
            group = seeds[first : min(first + size, among.stop)]

            def drawn(group: Tensor = group) -> list[Candidate]:
                return self._draw(self.start(group), assess)

            candidates += self.once(f"paths-{first:06d}-{first + len(group):06d}", drawn)
            self._forgotten |= _forget(candidates)
            self._report((first + len(group)) * self.generator.steps)
        return candidates

    def population(self, select: Select, after: Collection[int]) -> list[Candidate]:
        """Take n paths to their end together, where `select` says after some steps which go on, and how often.

        Up to LARGEST_GROUP paths are together, whatever memory there is; more are several such groups.
        """
        seeds = self.seeds
        candidates: list[Candidate] = []
        for first in range(0, self.n, LARGEST_GROUP):
            group, before = seeds[first : first + LARGEST_GROUP], len(candidates)
            drawn = draw_population(self, group, f"population-{first:06d}", select, after)
            for candidate in drawn:
                if candidate.forks is not None:
                    candidate.forks += before
            candidates += drawn
            self._forgotten |= _forget(candidates)
            self._report((first + len(group)) * self.generator.steps)
        return candidates

    def _draw(self, paths: Paths, assess: Assess | None) -> list[Candidate]:
        return draw_together(self.generator, [self], paths, [0] * len(paths), assess)[0]

    def start(self, seeds: Tensor) -> Paths:
        """Return paths of seeds (B,) at step 0. The text is encoded once: all fork from one path."""
        if self._start is None:
            self._start = guard.start(self.generator, [self.prompt], seeds[:1])
        return self._start.select([0] * len(seeds), seeds=seeds)

    def advance(self, paths: Paths, candidates: list[Candidate]) -> Paths:
        """Return the paths one step further; `candidates`, one a path, record codes for the picture."""
        paths = guard.advance(self.generator, paths)
        self.note(self.generator, paths, candidates)
        return paths

    def note(self, drawer: Generator, paths: Paths, candidates: list[Candidate]) -> None:
        """Count one step that `drawer` did of `paths`, and record their codes for the picture."""
        self.cost += Cost(generator_rows=len(paths) * drawer.rows_per_path)
        # A path that has to be entered again to be seen can be entered by the generator alone that drew it.
        seen = isinstance(drawer, Predictor) or paths.finished or drawer is self.generator
        self._now = (paths.step, kept(drawer, paths), candidates) if seen else None
        if seen and paths.step in self.shown_steps:
            self._keep_codes(candidates, paths.step)
        if self.watcher and seen:
            self.watcher(paths, candidates)
        self._report(self.done + len(paths))

    def _keep_codes(self, candidates: Sequence[Candidate], step: int) -> None:
        """Keep the codes by which these candidates can be seen after a step, if it is the one noted last."""
        if self._now is None or self._now[0] != step:
            return
        rows = {id(candidate): row for row, candidate in enumerate(self._now[2])}
        wanted = [one for one in candidates if id(one) in rows and step not in one.codes]
        if wanted:
            codes = self._now[1][[rows[id(one)] for one in wanted]].to("cpu", torch.int32)
            for candidate, own in zip(wanted, codes, strict=True):
                candidate.codes[step] = own

    def _keep_previews(self, images: Tensor, candidates: Sequence[Candidate], step: int) -> None:
        """Keep images (B, 3, H, W) of an unfinished step that are judged, for the picture of the steps in a folder."""
        if self.partial is None or step == self.generator.steps or self._seen + len(candidates) > KEPT_PREVIEWS:
            return
        self._seen += len(candidates)
        for candidate, picture in zip(candidates, to_pictures(images), strict=True):
            candidate.previews[step] = picture

    def resume(self, *candidates: Candidate) -> Paths:
        """Return the paths of candidates that were stopped after the same step, as they were then."""
        codes = torch.stack([candidate.state for candidate in candidates if candidate.state is not None])
        seeds = torch.tensor([candidate.seed for candidate in candidates])
        step = candidates[0].truncated_at
        assert step is not None and len(codes) == len(seeds)
        return guard.resume(self.generator, [self.prompt], seeds, codes, step)

    def rewind(self, paths: Paths, share: float, seeds: Tensor) -> Paths:
        """Return the paths at an earlier step, without the least probable share of their drawn codes, of new seeds."""
        generator = self.generator
        assert isinstance(generator, Doubting) and isinstance(generator, Remasker)  # as the request has made sure
        probable = guard.confidence(generator, paths)
        self.cost += Cost(generator_rows=len(paths) * generator.doubting_rows)
        drawn = paths.codes != UNDECIDED
        lost = (share * drawn.sum(1)).ceil().long()
        rank = probable.masked_fill(~drawn, torch.inf).argsort(dim=1, stable=True).argsort(dim=1)
        back = guard.remask(generator, paths, (rank < lost[:, None]) & drawn)
        return back.select(list(range(len(back))), seeds)

    def redraw(self, correction: Correction, seeds: Tensor) -> list[Candidate]:
        """Draw paths of seeds (B,) to their end that correct a rejected image, and score them."""
        drawer = self.request.corrector or self.generator
        assert isinstance(drawer, Corrector)  # as the request has made sure
        paths = guard.correct(drawer, self.generator, [self.prompt], seeds, [correction])
        return draw_together(drawer, [self], paths, [0] * len(seeds))[0]

    def once(self, unit: str, draw: Callable[[], list[Candidate]]) -> list[Candidate]:
        """Do a unit of work and keep its candidates, or read back those of an interrupted run."""
        found = self.partial.load(unit) if self.partial else None
        if found:
            drawn, spent = found
            self.cost += spent
            return drawn
        before, began = self.cost, time.perf_counter()
        drawn = draw()
        if self.partial:
            self.partial.save(unit, drawn, self.cost - before + Cost(seconds=time.perf_counter() - began))
        return drawn

    def preview(self, paths: Paths) -> Tensor:
        """Return the images (B, 3, H, W) in [0, 1] that the paths predict now."""
        self.cost += Cost(previews=len(paths))
        return guard.preview(self.generator, paths)

    def show(self, candidate: Candidate) -> None:
        """Draw a finished path once more, where its image was dropped because there were very many."""
        if candidate.image is not None or candidate.seed not in self._forgotten:
            return
        paths = self.start(torch.tensor([candidate.seed]))
        while not paths.finished:
            paths = self.advance(paths, [candidate])
        self.cost += Cost(previews=1)
        candidate.image = to_pictures(guard.decode(self.generator, paths.codes))[0]

    def score(self, paths: Paths, candidates: list[Candidate]) -> None:
        """Decode finished paths into the images of `candidates`, and ask the ORM question where there is a verifier."""
        self.score_images(guard.decode(self.generator, paths.codes), candidates, paths.step)

    def score_images(self, images: Tensor, candidates: list[Candidate], step: int) -> None:
        """Give candidates their images (B, 3, H, W), which were decoded for them, and ask the ORM question."""
        self.cost += Cost(previews=len(images))
        for candidate, picture in zip(candidates, to_pictures(images), strict=True):
            candidate.image = picture
        if self.verifier is not None:
            for candidate, p in zip(candidates, self.ask(images, candidates, step, ORM), strict=True):
                candidate.score = p

    def ask(
        self,
        images: Tensor,
        candidates: list[Candidate],
        step: int,
        question: Question,
        after: Conversation | None = None,
    ) -> list[float]:
        """Return P(yes) for images (B, 3, H, W), noted as verdicts of `candidates` after `step` steps.

        after  the conversations that a follow-up question continues; `images` are not looked at then
        """
        if after is None:
            self._keep_previews(images, candidates, step)
        return self._judged(
            lambda v: (guard.ask(v, images, [self.prompt], question, after), None), candidates, step, question
        )[0]

    def begin(
        self, images: Tensor, candidates: list[Candidate], step: int, question: Question
    ) -> tuple[list[float], Conversation]:
        """Like `ask`, and return the conversations too."""
        self._keep_previews(images, candidates, step)
        answers, conversation = self._judged(
            lambda v: guard.begin(v, images, [self.prompt], question), candidates, step, question
        )
        assert conversation is not None
        return answers, conversation

    def reflect(self, candidate: Candidate) -> Reflection:
        """Ask what is wrong with the image of a finished candidate; the answer's P(yes) joins its verdicts."""
        assert candidate.image is not None
        images = from_picture(candidate.image)[None]
        said: list[Reflection] = []

        def ask(verifier: Verifier) -> Answered:
            said.append(reflect_on(verifier, images, self.prompt, candidate.seed))
            return torch.tensor([said[0].p_yes], dtype=torch.float64), None

        (p_yes,), _ = self._judged(ask, [candidate], self.generator.steps, REFLECTION)
        return replace(said[0], p_yes=p_yes)

    def _judged(
        self,
        ask: Callable[[Verifier], Answered],
        candidates: list[Candidate],
        step: int,
        question: Question,
    ) -> tuple[list[float], Conversation | None]:
        if self.verifier is None:
            raise UsageError("this search needs a verifier; name one, or search with single.")
        before, began = self.verifier.usage, time.perf_counter()
        p_yes, conversation = ask(self.verifier)
        answers = [recorded(p) for p in p_yes.tolist()]
        used = guard.usage(self.verifier, before)
        self.cost += Cost(
            judge_seconds=used.seconds or time.perf_counter() - began,
            judge_calls=used.judge_calls,
            tokens_judged=used.tokens_judged,
        )
        fill = fill_of(self.generator, step)
        for candidate, p in zip(candidates, answers, strict=True):
            candidate.verdicts.append(Verdict(step, question.name, p, fill))
        self._keep_codes(candidates, step)
        return answers, conversation

    def pictures(self) -> Callable[[Sequence[Seen]], list[Image.Image]]:
        """Return a function from recorded codes to the images that the paths showed; it does not keep the run alive."""
        generator, prompt = self.generator, self.prompt

        def look(seen: Sequence[Seen]) -> list[Image.Image]:
            # Predicted codes are decoded whatever their step: all in one batch.
            steps = [seen[0].step if isinstance(generator, Predictor) else one.step for one in seen]
            found: dict[int, Image.Image] = {}
            for step in sorted(set(steps)):
                rows = [k for k, at in enumerate(steps) if at == step]
                codes = torch.stack([seen[k].codes for k in rows])
                seeds = torch.tensor([seen[k].seed for k in rows])
                found |= zip(rows, to_pictures(shown(generator, [prompt], seeds, codes, step)), strict=True)
            return [found[k] for k in range(len(seen))]

        return look

    def _report(self, done: int) -> None:
        interruption.check()
        self.done = done
        if self.progress:
            total = self.n * self.generator.steps
            self.progress(min(done, total), total)  # rounds of reflection come on top; their number is not known before


def _forget(candidates: list[Candidate]) -> set[int]:
    """Drop images and codes of all but the best and a few stopped candidates; return the seeds of finished ones.

    Forks keep theirs: their seeds alone do not say what they are.
    """
    finished = [k for k in ranked(candidates) if candidates[k].forks is None]
    stopped = [k for k, candidate in enumerate(candidates) if candidate.truncated_at is not None]
    for index in (*finished[KEPT_IMAGES:], *stopped[KEPT_IMAGES:]):
        candidates[index].image = None
        candidates[index].codes.clear()
        candidates[index].previews.clear()
    return {candidates[index].seed for index in finished[KEPT_IMAGES:]}
