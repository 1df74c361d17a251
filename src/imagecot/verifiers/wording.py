"""The wording that a verifier was trained on, and the settings that it advises for searches."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from imagecot.contracts.questions import QUESTIONS, Question
from imagecot.contracts.values import JSON

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Habits:
    """What a checkpoint says beside its weights.

    precision  the name of the number format that the model was loaded in; None for that of its weights
    wording    the paper's questions, and what is asked in their place
    advice     advised settings of searches, by the names of searches
    """

    precision: str | None = None
    wording: Mapping[Question, Question] = field(default_factory=dict)
    advice: Mapping[str, Mapping[str, JSON]] = field(default_factory=dict)

    def said(self, question: Question) -> Question:
        """The question in the wording of this verifier; one that follows another follows it as it was asked."""
        if question in self.wording:
            return self.wording[question]
        return replace(question, follows=self.said(question.follows)) if question.follows else question

    def settings(self, dtype: "torch.dtype") -> dict[str, JSON]:
        """The settings of a verifier whose weights are of a type: the number format, and its own wording if any."""
        precision = self.precision or str(dtype).removeprefix("torch.")
        return {"precision": precision} | ({"questions": self.templates} if self.templates else {})

    @property
    def templates(self) -> dict[str, str]:
        """Its own wording, by the names of the questions that it asks otherwise than the paper."""
        return {asked.name: said.template for asked, said in self.wording.items() if said.template != asked.template}


def worded(templates: Mapping[str, str]) -> dict[Question, Question]:
    """The paper's questions, and what is asked in their place where `templates` has another wording by their names."""
    wording: dict[Question, Question] = {}
    for question in QUESTIONS:  # one that follows another stands behind it
        follows = question.follows and wording.get(question.follows, question.follows)
        said = Question(question.name, templates.get(question.name, question.template), follows)
        if said != question:
            wording[question] = said
    return wording
