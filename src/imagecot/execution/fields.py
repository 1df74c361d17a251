"""What a recipe says of who does its work."""

from typing import Annotated

from pydantic import AfterValidator, Field

from imagecot.bounds import MOST_WORKERS
from imagecot.execution.executors import EXECUTORS


def _checked(name: str) -> str:
    if name not in EXECUTORS:
        raise ValueError(f"there is no such way to start workers; choose one of {', '.join(EXECUTORS)}")
    return name


On = Annotated[str, Field(strict=True), AfterValidator(_checked)]
"""The name of an executor."""
Workers = Annotated[int, Field(strict=True, ge=1, le=MOST_WORKERS)]
"""How many are started."""
