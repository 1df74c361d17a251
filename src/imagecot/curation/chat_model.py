"""Reasons from a chat model with vision, through the HTTP interface that OpenAI defined and many servers have.

Every answer is kept in a file named after its request, so nothing is asked or paid for twice. Refusals and answers that
are empty or cut are not kept: asked again, the model may answer.
"""

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from imagecot.contracts.values import JSON
from imagecot.curation.reasons import LEFT_OUT, Outcome, reasons_of
from imagecot.curation.schema import RankingRow
from imagecot.endpoints import SECONDS, Answers, Body, Endpoint
from imagecot.errors import UsageError
from imagecot.files import make_own_folder, write_whole
from imagecot.images import from_png, png
from imagecot.reading import Schema, read_record
from imagecot.replies import Reply

ASK = (
    "This image was generated for the prompt: {prompt}. It does not show what the prompt asks for. In one or two short "
    "sentences, say what is wrong: missing or extra objects, a wrong number, a wrong colour, a wrong position."
)
_MOST_TOKENS = 100
_LONGEST_NAME = 500


class _Kept(Schema):
    """An answer in its file."""

    text: str
    finish: str | None = None
    prompt_tokens: int
    completion_tokens: int


@dataclass
class ChatModel:
    """Asks `model` at `endpoint` (such as https://api.openai.com/v1) with the key in OPENAI_API_KEY, if there is one.

    cache    folder of the answers
    seconds  what a request may take, with all its tries
    begin    called before the first answer is kept
    asked, prompt_tokens, completion_tokens  of this process; kept answers cost nothing
    outcomes  how many images got reasons, and how many why not

    UsageError for an address or a name that is none.
    """

    endpoint: str = field(repr=False)
    model: str
    cache: Path
    seconds: float = SECONDS
    begin: Callable[[], object] = lambda: None
    asked: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._server = replace(Endpoint.from_environment(self.endpoint), seconds=self.seconds)
        if not self.model.strip() or len(self.model) > _LONGEST_NAME or not self.model.isprintable():
            raise UsageError("the name of the model is empty or no name; give one that the endpoint serves.")

    def explain(self, rows: Sequence[RankingRow]) -> list[str]:
        """Return what is wrong with the image of each row, empty where the model gave no reasons.

        ImagecotError where the endpoint cannot be reached, refuses the request, or answers something else.
        """
        bodies = [self._body(row) for row in rows]
        files = [self._file(body) for body in bodies]
        found = {file: self._kept(file) for file in files if file.is_file()}
        new = {file: body for file, body in zip(files, bodies, strict=True) if file not in found}
        names = list(new)

        def read(_: int, answer: Answers) -> Reply:
            return Reply.read(answer, self._server)

        for number, reply in self._server.post_each("chat/completions", list(new.values()), read):
            self.asked += 1
            self.prompt_tokens += reply.prompt_tokens
            self.completion_tokens += reply.completion_tokens
            found[names[number]] = reply
            if reasons_of(reply)[0] in ("reasons", "agreed"):
                self._keep(names[number], reply)
        told = [reasons_of(found[file]) for file in files]
        self.outcomes.update(outcome for outcome, _ in told)
        return [reasons for _, reasons in told]

    @property
    def cost(self) -> str:
        """What was spent, for people."""
        return f"{self.asked} requests, {self.prompt_tokens} prompt and {self.completion_tokens} answer tokens"

    @property
    def left_out(self) -> str:
        """How many answers were no reasons, for people; empty where all were."""
        counts = [f"{self.outcomes[kind]} {words}" for kind, words in LEFT_OUT.items() if self.outcomes[kind]]
        return f"{', '.join(counts)} of {self.outcomes.total()} answers" if counts else ""

    def _body(self, row: RankingRow) -> Body:
        data = row.image
        picture = base64.b64encode(data if data.startswith(b"\x89PNG") else png(from_png(data))).decode()
        content: list[JSON] = [
            {"type": "text", "text": ASK.replace("{prompt}", row.prompt)},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}},
        ]
        return {"model": self.model, "messages": [{"role": "user", "content": content}], "max_tokens": _MOST_TOKENS}

    def _file(self, body: Body) -> Path:
        asked = self._server.shown.encode() + json.dumps(body).encode()
        return self.cache / f"{hashlib.sha256(asked).hexdigest()}.json"

    def _kept(self, file: Path) -> Reply:
        kept = read_record(file, _Kept, advice="delete it, and it is asked again")
        return Reply(kept.text, (), None, kept.finish, kept.prompt_tokens, kept.completion_tokens)

    def _keep(self, file: Path, reply: Reply) -> None:
        self.begin()
        make_own_folder(self.cache)
        kept = _Kept(
            text=reply.text,
            finish=reply.finish,
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
        )
        write_whole(file, json.dumps(kept.model_dump()).encode())
