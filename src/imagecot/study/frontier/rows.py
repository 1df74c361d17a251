"""What the files of a frontier hold: checked where they are read, since a file may have been damaged."""

from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import Field, model_validator

from imagecot.contracts.search import Cost
from imagecot.reading import Schema
from imagecot.study.kinds import MOST_JUDGES, Amount, Seconds, Share, Words
from imagecot.study.rows import Numbered

Size = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,5}$")]  # a number of paths as a key of JSON


class Mean(Schema):
    """What a search made of a prompt, on average over the orders of its paths: shares right by judge, and counts."""

    right: Annotated[list[Share], Field(min_length=1, max_length=MOST_JUDGES)]
    generator_rows: Amount
    previews: Amount
    judge_calls: Amount

    @classmethod
    def of(cls, right: Sequence[Sequence[bool]], costs: Sequence[Cost]) -> Self:
        """The mean of verdicts (searches, judges) and of costs, one a search."""
        count = len(costs)
        return cls(
            right=[sum(by) / count for by in zip(*right, strict=True)],
            generator_rows=sum(cost.generator_rows for cost in costs) / count,
            previews=sum(cost.previews for cost in costs) / count,
            judge_calls=sum(cost.judge_calls for cost in costs) / count,
        )


class Replayed(Numbered):
    """A prompt in the file of a row; `of` says by which settings and weights, to tell it from what was kept before."""

    of: Words
    by_n: Annotated[dict[Size, Mean], Field(min_length=1)]
    began: Seconds
    ended: Seconds

    @model_validator(mode="after")
    def _as_many_each(self) -> Self:
        if len({len(mean.right) for mean in self.by_n.values()}) != 1:
            raise ValueError("shares are not of equally many judges")
        return self
