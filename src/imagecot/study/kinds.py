"""The kinds of values in the files of a study, with bounds: what can be, not what is sensible."""

from typing import Annotated

from pydantic import Field

ROUNDING = 1e-9  # what sums of shares may be beyond 1
Share = Annotated[float, Field(ge=0, le=1 + ROUNDING)]
Difference = Annotated[float, Field(ge=-1 - ROUNDING, le=1 + ROUNDING)]
Seconds = Annotated[float, Field(ge=0, le=1e12)]
Amount = Annotated[float, Field(ge=0, le=1e18)]
Count = Annotated[int, Field(ge=0, le=2**53)]
PathCount = Annotated[int, Field(ge=1, le=10**6)]
Words = Annotated[str, Field(max_length=20_000)]
Step = Annotated[str, Field(pattern=r"^(never|[0-9]{1,5})$")]  # a key of JSON
MOST_ROWS, MOST_GENERATORS, MOST_EXHIBITS, MOST_JUDGES = 500, 100, 10_000, 10
