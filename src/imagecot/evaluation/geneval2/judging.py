"""The work of an evaluation by GenEval 2: every question is asked about every image, and its right answer weighed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from pydantic import Field
from torch import Tensor

from imagecot import guard, interruption
from imagecot.contracts.values import JSON
from imagecot.contracts.verifier import Answering, Verifier
from imagecot.errors import ImagecotError, UsageError
from imagecot.evaluation.drawing import Drawing, check_drawing, draw, settings_of_drawers
from imagecot.evaluation.folder import Entry, ImageSet, read_image
from imagecot.evaluation.geneval2.summary import Judged
from imagecot.evaluation.state import Evaluation, Piece, pieces_of, settings_of
from imagecot.execution.work import Keep
from imagecot.geneval2.answers import TEMPLATE, asked, spelled
from imagecot.geneval2.data import Benchmark, Row
from imagecot.geneval2.summary import Scored, arithmetic, geometric
from imagecot.reading import Schema

if TYPE_CHECKING:
    from imagecot.contracts.generator import Generator
    from imagecot.strategies.defaults import Models as Drawers

_ENTRIES_A_UNIT = 8


class Judge(Verifier, Answering, Protocol):
    """A verifier that answers any question."""


class Unit(Schema):
    """What one piece of the work left: scored images, problems, and what was spent."""

    rows: list[Scored] = Field(default_factory=list)
    problems: list[str] = Field(default_factory=list)
    cost: dict[str, int | float] = Field(default_factory=dict)


def plan(source: ImageSet | Drawing) -> list[Piece]:
    """The units of the work."""
    return pieces_of(source.entries, _ENTRIES_A_UNIT) if isinstance(source, ImageSet) else source.pieces


def judge_of(name: str, verifier: Verifier) -> Judge:
    """The verifier, which can judge; UsageError, which calls it `name`, where it answers yes or no alone."""
    if not isinstance(verifier, Answering):
        raise UsageError(
            f"{name} answers yes/no questions alone and cannot judge GenEval 2, which asks how many there are; name a "
            "vision-language model with --judge."
        )
    return verifier


def score_image(judge: Judge, image: Tensor, row: Row, file: str) -> Scored:
    """Ask all questions of a row about an image (3, H, W) in [0, 1]."""
    questions = [asked(question) for question, _, _ in row.atoms]
    answers = [spelled(answer) for _, answer, _ in row.atoms]
    scores: list[float] = guard.answer_probability(judge, image[None], questions, answers).tolist()
    return Scored(
        filename=file,
        prompt=row.prompt,
        atom_count=row.atom_count,
        skills=row.skills,
        scores=scores,
        am=arithmetic(scores),
        gm=geometric(scores),
    )


@dataclass(frozen=True)
class Asking:
    """A process of an evaluation by GenEval 2, as a `Scorer`.

    name  of the judge
    said  what else is recorded of the judge
    """

    source: ImageSet | Drawing
    benchmark: Benchmark
    name: str
    judge: Judge
    drawers: "Drawers | None" = None
    said: Mapping[str, JSON] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, JSON]:
        """Those of all models."""
        return {**settings_of_drawers(self.drawers), settings_of("judge"): dict(self.judge.settings)}

    @property
    def judged(self) -> Judged:
        """What the scores depend on beside the identity."""
        judge = {"judge": self.name, "settings": dict(self.judge.settings), "template": TEMPLATE, **self.said}
        if self.drawers is None:
            return Judged(judge=judge)
        drawers = {"generator": self.drawers.generator, "corrector": self.drawers.corrector}
        drawn: dict[str, JSON] = {role: _drawn_by(model) for role, model in drawers.items() if model is not None}
        if self.drawers.verifier is not None:
            drawn["verifier"] = {"settings": dict(self.drawers.verifier.settings)}
        return Judged(judge=judge, drawing=drawn)

    def check(self) -> None:
        """As of `check_drawing`, where anything is drawn."""
        if isinstance(self.source, Drawing):
            assert self.drawers is not None
            check_drawing(self.source, self.drawers)

    def work(self, piece: Piece, state: Evaluation) -> Keep:
        """Do a unit. The folder is claimed when there is something to write."""
        before = self.judge.usage
        if isinstance(self.source, ImageSet):
            found = self._entries(self.source.entries[piece.first : piece.last])
        else:
            found = self._drawn(self.source, piece, state)
        used = guard.usage(self.judge, before)
        spent = {"questions": used.judge_calls, "question_tokens": used.tokens_judged}
        unit = found.model_copy(update={"cost": {**found.cost, **spent}})
        return lambda: state.keep(piece, unit, self.judged)

    def _drawn(self, drawing: Drawing, piece: Piece, state: Evaluation) -> Unit:
        assert self.drawers is not None
        drawn = draw(drawing, piece, self.drawers, state)
        rows = []
        for image, metadata, file in zip(drawn.images, drawn.metadata, drawn.files, strict=True):
            interruption.check()
            rows.append(score_image(self.judge, image, self.benchmark.rows[metadata.prompt], file))
        return Unit(rows=rows, cost=drawn.cost)

    def _entries(self, entries: Sequence[Entry]) -> Unit:
        """Judge images that there are; what cannot be read becomes a problem."""
        rows: list[Scored] = []
        problems: list[str] = []
        for entry in entries:
            problems += entry.problems
            for file in entry.images if entry.metadata is not None else ():
                interruption.check()
                try:
                    image = read_image(file)
                except ImagecotError as error:
                    problems.append(str(error))
                    continue
                assert entry.metadata is not None
                rows.append(score_image(self.judge, image, self.benchmark.rows[entry.metadata.prompt], str(file)))
        return Unit(rows=rows, problems=problems)


def _drawn_by(generator: "Generator") -> dict[str, JSON]:
    """How a generator draws, beside its weights."""
    return {
        "settings": dict(generator.settings),
        "steps": generator.steps,
        "image": list(generator.canvas.image),
    }
