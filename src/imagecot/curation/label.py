"""Labels for reward models: what the scorer says of final images, of continuations, and of previews.

Each function maps the prompts of one unit to rows and depends on them and its settings alone. Labels come from
GenEval's rules on a detector's answers (paper, section 2.2 and appendix B).
"""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from imagecot import guard
from imagecot.bounds import MOST_IMAGES, MOST_PATHS, check_seed, check_whole
from imagecot.contracts.correction import Correction
from imagecot.contracts.detector import Detections, Detector
from imagecot.contracts.generator import Corrector, Generator, fill_of
from imagecot.contracts.metadata import Metadata
from imagecot.contracts.paths import Paths, finish, states
from imagecot.contracts.randomness import fork_seeds, path_seeds, prompt_seed
from imagecot.curation.dataset import ranking_row
from imagecot.curation.schema import CorrectionRow, Question, RankingRow
from imagecot.errors import UsageError
from imagecot.generators.shown import kept, shown
from imagecot.geneval.detection import SEEN, judge
from imagecot.geneval.rules import judge_detections, kept_indices

CONTINUATIONS = 4  # paths from a step; any right one makes its label yes (appendix B.2, after Math-Shepherd)
CLEAR_AFTER, UNCLEAR_BEFORE = 11, 10  # of 18 steps: the paper's static labels of clarity (appendix B.3)
DECIDED_FROM = 6  # before this step a seventh or less of what becomes of a path is decided (docs/experiments/parm.md)
PAPER_STEPS = 18
SILENT = 0.25  # share of the redrawn images that are told no reasons
CLARITY_SHARE, POTENTIAL_SHARE = 120 / 200, 80 / 200  # rows for each row of selection (section 3.3)


@dataclass(frozen=True)
class _Asked:
    """A question about a path, by its number, at a step."""

    question: Question
    step: int
    path: int


@dataclass(frozen=True)
class Labeller:
    """Who draws and who judges. `paths` are drawn for each prompt; `keep` of them at most become rows, both labels
    in equal numbers where there are enough. UsageError for numbers out of bounds."""

    generator: Generator
    detector: Detector
    paths: int = 20
    keep: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        check_whole(self.paths, "paths", 1, MOST_PATHS)
        check_whole(self.keep, "keep", 1, MOST_IMAGES)
        check_seed(self.seed)

    def orm(self, prompts: Sequence[Metadata]) -> Iterator[RankingRow]:
        """Final images, labelled by the scorer."""
        paths = finish(self.generator, self._start(prompts, self.paths))
        images, labels = self._final(prompts, paths)
        yield from self._selection(prompts, paths, images, labels)

    def prm(self, prompts: Sequence[Metadata]) -> Iterator[RankingRow]:
        """Previews of one path a prompt after every step; yes if any of four continuations ends right."""
        for paths in states(self.generator, self._start(prompts, 1)):
            previews = self.generator.preview(paths)
            if paths.finished:
                labels = self._verdicts(previews, prompts)
            else:
                rows = torch.arange(len(paths)).repeat_interleave(CONTINUATIONS)
                forks = paths.select(rows, seeds=fork_seeds(paths.seeds, CONTINUATIONS))
                forks = finish(self.generator, forks)
                needs = [prompts[int(row)] for row in rows]
                ends = torch.tensor(self._verdicts(self.generator.preview(forks), needs))
                labels = ends.view(len(paths), CONTINUATIONS).any(1).tolist()
            step, steps, fill = paths.step, paths.steps, fill_of(self.generator, paths.step)
            for metadata, image, seed, label in zip(prompts, previews, paths.seeds.tolist(), labels, strict=True):
                yield ranking_row(metadata, "prm", image, step=step, steps=steps, seed=seed, label=label, fill=fill)

    def parm(self, prompts: Sequence[Metadata]) -> Iterator[RankingRow]:
        """The three subsets in the paper's proportions: clarity 120, potential 80, selection 200.

        A clarity row is a preview outside the steps that the paper leaves out; a potential row one after the step from
        which previews count as clear, labelled by what the path became. Two more of each path come from the steps
        before, where the answer is harder, for a clarity that comes earlier: training by the paper's leaves them out.

        UsageError where the generator has too few steps for that.
        """
        steps = self.generator.steps
        late = [t for t in range(1, steps) if t > scaled(CLEAR_AFTER, steps)]
        early = [t for t in range(1, steps) if t < scaled(UNCLEAR_BEFORE, steps)]
        if not late or not early:
            raise UsageError(f"paths of {steps} steps have none of which to ask whether they are clear; curate prm.")
        start = self._start(prompts, self.paths)
        after: dict[int, Tensor] = {}
        for ended in states(self.generator, start):
            after[ended.step] = kept(self.generator, ended)
        images, labels = self._final(prompts, ended)
        chosen = list(self._selection(prompts, ended, images, labels))
        yield from chosen
        index = {seed: k for k, seed in enumerate(ended.seeds.tolist())}
        rng = random.Random(f"{self.seed}:{prompts[0].prompt}")
        before = [t for t in range(scaled(DECIDED_FROM, steps), steps) if t not in late]
        asked: list[_Asked] = []
        for k in (index[row.seed] for row in chosen):
            if rng.random() < CLARITY_SHARE:
                asked.append(_Asked("clarity", rng.choice(late if rng.random() < 0.5 else early), k))
            if rng.random() < POTENTIAL_SHARE:
                asked.append(_Asked("potential", rng.choice(late), k))
            asked += [_Asked("potential", step, k) for step in rng.sample(before, min(2, len(before)))]
        for step in sorted({one.step for one in asked}):
            here = [one for one in asked if one.step == step]
            drawn = replace(ended, codes=after[step], step=step, shared=None, own=None)
            yield from self._previews(prompts, drawn, here, images, labels)

    def _previews(
        self, prompts: Sequence[Metadata], drawn: Paths, asked: Sequence[_Asked], images: Tensor, labels: Sequence[bool]
    ) -> Iterator[RankingRow]:
        """What is asked of the previews of paths at one step; images and labels are those of all paths at the end.

        drawn  the paths at that step, with the codes that were kept of them
        """
        step, steps = drawn.step, drawn.steps
        rows = sorted({one.path for one in asked})
        texts = [prompts[k // self.paths].prompt for k in rows]
        previews = shown(self.generator, texts, drawn.seeds[rows], drawn.codes[rows], step)
        pictures = dict(zip(rows, previews, strict=True))
        judged = sorted({one.path for one in asked if one.question == "clarity"})
        settled: dict[int, bool] = {}
        if judged:
            needs = [prompts[k // self.paths] for k in judged]
            agree = self._settled(torch.stack([pictures[k] for k in judged]), images[judged], needs)
            settled = dict(zip(judged, agree, strict=True))
        for one in asked:
            k = one.path
            of_clarity = one.question == "clarity"
            yield ranking_row(
                prompts[k // self.paths],
                one.question,
                pictures[k],
                step=step,
                steps=steps,
                seed=int(drawn.seeds[k]),
                label=step > scaled(CLEAR_AFTER, steps) if of_clarity else labels[k],
                agreement=settled[k] if of_clarity else None,
                fill=fill_of(self.generator, step),
            )

    def redraws(self, groups: Sequence[CorrectionRow]) -> Iterator[RankingRow]:
        """Final images drawn again from prompt, rejected image and reasons of `curate corrections`, with labels.

        Some are told no reasons (`SILENT`), so that what reasons bring is not mistaken for what training brings.
        """
        told = ["" if random.Random(f"{self.seed}:{group.id}").random() < SILENT else group.reasons for group in groups]
        before = [
            Correction(torch.tensor(group.rejected_codes), text) for group, text in zip(groups, told, strict=True)
        ]
        seeds = torch.cat([path_seeds(prompt_seed(self.seed, group.id), self.paths) for group in groups])
        rows = [k for k in range(len(groups)) for _ in range(self.paths)]
        assert isinstance(self.generator, Corrector)  # whoever loads it has seen to that
        start = self.generator.correct([groups[k].prompt for k in rows], seeds, [before[k] for k in rows])
        paths = finish(self.generator, start)
        prompts = [Metadata.of(json.loads(group.metadata)) for group in groups]
        images, labels = self._final(prompts, paths)
        for row in self._selection(prompts, paths, images, labels):
            k = rows[seeds.tolist().index(row.seed)]
            yield replace(row, before_codes=groups[k].rejected_codes, told=told[k])

    def _settled(self, previews: Tensor, finals: Tensor, prompts: Sequence[Metadata]) -> list[bool]:
        """Whether the scorer sees in a preview what it sees in the final image: the same objects, the same verdict.

        The verdict alone would not do: a blur without objects agrees with every final image that is wrong.
        """
        found = [guard.detect(self.detector, list(part.float().cpu())) for part in (previews, finals)]
        seen = [
            [(objects(d), judge_detections(m, d.boxes, d.colors).correct) for m, d in zip(prompts, part, strict=True)]
            for part in found
        ]
        return [now == then for now, then in zip(*seen, strict=True)]

    def _start(self, prompts: Sequence[Metadata], count: int) -> Paths:
        """`count` paths of each prompt, prompt by prompt, at step 0."""
        seeds = torch.cat([path_seeds(prompt_seed(self.seed, m.prompt), count) for m in prompts])
        return self.generator.start([m.prompt for m in prompts for _ in range(count)], seeds)

    def _final(self, prompts: Sequence[Metadata], paths: Paths) -> tuple[Tensor, list[bool]]:
        images = self.generator.preview(paths)
        return images, self._verdicts(images, [m for m in prompts for _ in range(self.paths)])

    def _verdicts(self, images: Tensor, prompts: Sequence[Metadata]) -> list[bool]:
        return [verdict.correct for verdict in judge(self.detector, list(images.float().cpu()), prompts)]

    def _selection(
        self, prompts: Sequence[Metadata], paths: Paths, images: Tensor, labels: Sequence[bool]
    ) -> Iterator[RankingRow]:
        for number, metadata in enumerate(prompts):
            own = range(number * self.paths, (number + 1) * self.paths)
            for k in balanced([labels[k] for k in own], self.keep):
                row = own[k]
                yield ranking_row(
                    metadata,
                    "orm",
                    images[row],
                    step=paths.steps,
                    steps=paths.steps,
                    seed=int(paths.seeds[row]),
                    label=labels[row],
                    codes=paths.codes[row],
                )


def objects(found: Detections) -> dict[str, int]:
    """How many objects of each class GenEval would count."""
    counts = {
        name: len(kept_indices(torch.tensor(raw, dtype=torch.float32).reshape(-1, 5).numpy(), threshold=SEEN))
        for name, raw in found.boxes.items()
    }
    return {name: count for name, count in counts.items() if count}


def scaled(step: int, steps: int) -> int:
    """A step of the paper's 18 in a generator of `steps` steps."""
    return round(step * steps / PAPER_STEPS)


def balanced(labels: Sequence[bool], keep: int) -> list[int]:
    """The indices of at most `keep` labels, half of them yes where there are enough of both, the first first."""
    yes = [k for k, label in enumerate(labels) if label]
    no = [k for k, label in enumerate(labels) if not label]
    few = min(len(yes), len(no), keep // 2)
    taken_yes = yes[: max(few, keep - len(no))]
    taken_no = no[: keep - len(taken_yes)]
    return sorted(taken_yes + taken_no)
