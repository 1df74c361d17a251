"""What client and server send each other: a request as JSON, and lines of JSON until the last, which is its end."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue, TypeAdapter

from imagecot.reading import Schema
from imagecot.strategies.lines import CandidateLine

MOST_BYTES = 1 << 20  # of a request


class Ask(Schema):
    """A request.

    version  of the client, which must be that of the server: else its images could be others
    folder   in which the client runs, and which relative names of models begin at
    recipe   a `GenerationRecipe` without its output
    steps    whether paths are to be seen while they are drawn
    others   whether other searches are to choose among them in the end
    """

    version: str
    folder: Annotated[str, Field(min_length=1, max_length=4096, pattern="^/")]
    recipe: dict[str, JsonValue]
    steps: bool = False
    others: bool = False


class Tell(Schema):
    """A sentence for the user."""

    event: Literal["tell"] = "tell"
    text: str


class Waiting(Schema):
    """Something that takes long begins; what, and None where it is over."""

    event: Literal["waiting"] = "waiting"
    text: str | None


class Drawing(Schema):
    """So many steps of paths are done."""

    event: Literal["drawing"] = "drawing"
    done: int
    of: int


class Seen(Schema):
    """How paths look after a step: lines of a trace, and for those that did it a PNG in base64, by seed."""

    event: Literal["seen"] = "seen"
    step: int
    steps: int
    paths: list[CandidateLine]
    pictures: dict[str, str]


class Other(Schema):
    """What another search would have chosen.

    path   its index among the candidates
    score  P(yes) of its final image
    """

    search: str
    path: int
    score: float


class Failed(Schema):
    """The end of a request that could not be carried out: a sentence, and the exit code of a local command."""

    event: Literal["failed"] = "failed"
    message: str
    exit_code: int


class Done(Schema):
    """The end of a request: the files of the trace, in base64, and what others would have chosen."""

    event: Literal["done"] = "done"
    files: dict[Literal["image.png", "steps.png", "previews.zip", "trace.jsonl"], str]
    others: list[Other] = Field(default=[])


Event = Tell | Waiting | Drawing | Seen | Failed | Done
EVENT: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])
