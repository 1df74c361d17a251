"""The step after which a search first looks at paths, as an option: early previews say little of what paths become.

Half of the steps is what a search takes that is told nothing: before, previews of the shipped generators hardly tell
the paths of one prompt apart (docs/experiments/searches.md).
"""

from typing import Annotated

from pydantic import AfterValidator, Field, ValidationInfo

from imagecot.bounds import MAX_SEED
from imagecot.contracts.search import Run


def _is_a_step(value: int | None, info: ValidationInfo) -> int | None:
    steps = (info.context or {}).get("steps")
    if steps is not None and value is not None and value >= steps:
        raise ValueError(f"it must be from 1 to {steps - 1}")
    return value


FirstStep = Annotated[
    Annotated[int, Field(ge=1, le=MAX_SEED)] | None,
    AfterValidator(_is_a_step),
    Field(description="The first step after which paths are looked at; null is half of the steps."),
]


def first_step(run: Run, said: int | None) -> int:
    """The first step after which a search looks at its paths."""
    return said or max(1, run.generator.steps // 2)
