"""Parts of free prompts by a chat model; every answer is kept on disk, so that a prompt is split once and for all.

What is kept is named by prompt, model, address and the wording of the request. A prompt that was split has the same
parts in every later run, whatever the model would say now; delete the file to have it split again.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from imagecot.contracts.values import JSON
from imagecot.endpoints import Answers
from imagecot.errors import ImagecotError
from imagecot.files import make_folder, write_text
from imagecot.naming import printable
from imagecot.reading import Schema, parse_json, read_record
from imagecot.replies import Reply
from imagecot.verifiers.judge_file import Judge

MOST_PARTS = 40  # of a prompt
LONGEST = 500  # characters of a part
TEMPLATE = (
    "Split the prompt of an image into its parts, so that each can be checked alone. A part is itself the prompt of an "
    "image, in a few words, and asks for one thing: an object, its number, its colour or another attribute of it, what "
    "it does, or how two objects stand to each other. Name the object in every part. Leave out what cannot be seen, "
    'such as "high quality". Answer with a JSON list of texts and nothing else. For "three brown dogs left of a car" '
    'it is ["a dog", "three dogs", "a brown dog", "a car", "a dog left of a car"].\nThe prompt: {prompt}'
)

Parts = tuple[str, ...]


def usable(parts: Sequence[str]) -> Parts:
    """Parts without blanks around them, each once; ValueError where they are none, too many, empty or too long."""
    found = tuple(dict.fromkeys(" ".join(printable(part).split()) for part in parts))
    if not found or len(found) > MOST_PARTS:
        raise ValueError(f"there must be from 1 to {MOST_PARTS} parts, not {len(found)}")
    for part in found:
        if not part or len(part) > LONGEST:
            raise ValueError(f"a part is a text of 1 to {LONGEST} characters")
    return found


def short(prompt: str) -> str:
    """A prompt in a message."""
    return prompt if len(prompt) <= 60 else prompt[:60] + "…"


def kept_parts() -> Path:
    """The folder of this user in which parts are kept."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "imagecot" / "parts"


class _Kept(Schema):
    """The parts of a prompt in their file."""

    prompt: str
    model: str
    parts: list[str]


@dataclass(frozen=True)
class ChatSplitter:
    """Asks a chat model, with the key in OPENAI_API_KEY if there is one.

    judge  the model and its server, as a served judge is named; what it would be asked as a judge plays no part
    cache  folder of what was answered
    """

    judge: Judge
    cache: Path = field(default_factory=kept_parts, repr=False)

    @property
    def settings(self) -> Mapping[str, JSON]:
        """The model, where it is asked, and the SHA-256 of the wording."""
        template = hashlib.sha256(TEMPLATE.encode()).hexdigest()
        return {"model": self.judge.model, "address": self.judge.endpoint.shown, "template": template}

    def split(self, prompts: Sequence[str]) -> list[Parts]:
        """The parts of each prompt, at least one.

        ImagecotError where the endpoint cannot be reached, refuses, or answers no list of parts, and where a kept
        answer is damaged or cannot be written.
        """
        files = {prompt: self._file(prompt) for prompt in dict.fromkeys(prompts)}
        found = {prompt: self._kept(prompt, file) for prompt, file in files.items() if file.is_file()}
        new = [prompt for prompt in files if prompt not in found]
        if new:
            server = self.judge.endpoint

            def read(number: int, answer: Answers) -> Parts:
                return self._parts(new[number], Reply.read(answer, server))

            for number, parts in server.post_each("chat/completions", [self._body(prompt) for prompt in new], read):
                prompt = new[number]
                found[prompt] = parts
                make_folder(self.cache)
                kept = _Kept(prompt=prompt, model=self.judge.model, parts=list(parts))
                write_text(files[prompt], json.dumps(kept.model_dump(), ensure_ascii=False) + "\n")
        return [found[prompt] for prompt in prompts]

    def _body(self, prompt: str) -> Mapping[str, JSON]:
        message: dict[str, JSON] = {"role": "user", "content": TEMPLATE.replace("{prompt}", prompt)}
        return {"model": self.judge.model, "messages": [message]}

    def _file(self, prompt: str) -> Path:
        named = json.dumps([self.settings, prompt], sort_keys=True)
        return self.cache / f"{hashlib.sha256(named.encode()).hexdigest()}.json"

    def _kept(self, prompt: str, file: Path) -> Parts:
        advice = "delete it, and the prompt is split again"
        kept = read_record(file, _Kept, advice=advice)
        try:
            if kept.prompt == prompt:
                return usable(kept.parts)
        except ValueError:
            pass
        raise ImagecotError(f"{file} does not hold the parts of its prompt; {advice}.")

    def _parts(self, prompt: str, reply: Reply) -> Parts:
        """The parts that a reply lists; ImagecotError for any other reply."""
        text = reply.text
        what = "refuses" if reply.refusal is not None else "is cut off while it answers" if reply.is_cut else ""
        if not what:
            try:
                listed = parse_json(text[text.index("[") : text.rindex("]") + 1], "the answer", advice="ask again")
                if isinstance(listed, list) and all(isinstance(part, str) for part in listed):
                    return usable([part for part in listed if isinstance(part, str)])
            except (ValueError, ImagecotError):
                pass
            what = "answers no list of parts"
        raise ImagecotError(
            f"{self.judge.model} at {self.judge.endpoint.shown} {what} when it is asked to split {short(prompt)!r}; "
            "ask again, name another model, or give the parts in a file (atoms[parts=FILE]:VERIFIER)."
        )
