"""Reasons from a chat model with vision, through the HTTP interface that OpenAI defined and many servers have.

Every answer is kept in a file named after its request, so nothing is asked or paid for twice.
"""

import base64
import hashlib
import http.client
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imagecot.curation.dataset import Row
from imagecot.errors import ImagecotError
from imagecot.files import write_whole
from imagecot.geneval.discrepancies import without_answer

KEY = "OPENAI_API_KEY"
ASK = (
    "This image was generated for the prompt: {prompt}. It does not show what the prompt asks for. In one or two short "
    "sentences, say what is wrong: missing or extra objects, a wrong number, a wrong colour, a wrong position."
)
_MOST_TOKENS = 100
_AT_ONCE = 8
_TRIES = 4
_PASSING = (408, 409, 429, 500, 502, 503, 504)


@dataclass
class ChatModel:
    """Asks `model` at `endpoint` (such as https://api.openai.com/v1) with the key in OPENAI_API_KEY, if there is one.

    cache    folder of the answers
    wait     seconds before a request is tried again, doubled each time
    asked, prompt_tokens, completion_tokens  of this process; cached answers cost nothing
    """

    endpoint: str
    model: str
    cache: Path
    wait: float = 2.0
    asked: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    _seconds: float = field(default=120.0, repr=False)

    def explain(self, rows: Sequence[Row]) -> list[str]:
        """Return what is wrong with the image of each row, empty where the model had nothing to say.

        ImagecotError where the endpoint cannot be reached, refuses, or answers something else.
        """
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            answers = list(pool.map(self._answer, rows))
        for answer in answers:
            if answer["new"]:
                self.asked += 1
                self.prompt_tokens += answer["prompt_tokens"]
                self.completion_tokens += answer["completion_tokens"]
        return [" ".join(without_answer(answer["text"]).split()) for answer in answers]

    @property
    def cost(self) -> str:
        """What was spent, for people."""
        return f"{self.asked} requests, {self.prompt_tokens} prompt and {self.completion_tokens} answer tokens"

    def _answer(self, row: Row) -> dict[str, Any]:
        picture = base64.b64encode(row["image"]["bytes"]).decode()
        content = [
            {"type": "text", "text": ASK.replace("{prompt}", row["prompt"])},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}},
        ]
        body = {"model": self.model, "messages": [{"role": "user", "content": content}], "max_tokens": _MOST_TOKENS}
        data = json.dumps(body).encode()
        file = self.cache / f"{hashlib.sha256(self.endpoint.encode() + data).hexdigest()}.json"
        if file.is_file():
            return {**json.loads(file.read_text(encoding="utf-8")), "new": False}
        reply = self._post(data)
        try:
            usage = reply.get("usage") or {}
            answer = {
                "text": str(reply["choices"][0]["message"]["content"] or ""),
                "prompt_tokens": int(usage.get("prompt_tokens") or 0),
                "completion_tokens": int(usage.get("completion_tokens") or 0),
            }
        except (KeyError, IndexError, TypeError, ValueError, AttributeError):
            raise ImagecotError(
                f"{self.endpoint} did not answer as a chat model ({str(reply)[:100]}); check --endpoint and --model."
            ) from None
        self.cache.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps(answer).encode())
        return {**answer, "new": True}

    def _post(self, data: bytes) -> Any:
        headers = {"Content-Type": "application/json"}
        if os.environ.get(KEY):
            headers["Authorization"] = f"Bearer {os.environ[KEY]}"
        request = urllib.request.Request(f"{self.endpoint.rstrip('/')}/chat/completions", data, headers)
        for attempt in range(_TRIES):
            last = attempt == _TRIES - 1
            try:
                with urllib.request.urlopen(request, timeout=self._seconds) as reply:
                    return json.load(reply)
            except urllib.error.HTTPError as error:
                if last or error.code not in _PASSING:
                    hint = f"set {KEY}" if error.code in (401, 403) else "try again later"
                    raise ImagecotError(f"{self.endpoint} refuses the request ({error.code}); {hint}.") from None
            except (OSError, http.client.HTTPException) as error:
                if last:
                    raise ImagecotError(f"{self.endpoint} cannot be reached ({error}); check --endpoint.") from None
            except ValueError:
                raise ImagecotError(f"{self.endpoint} does not answer in JSON; check --endpoint.") from None
            time.sleep(self.wait * 2**attempt)
        raise AssertionError("the last attempt returns or raises")
