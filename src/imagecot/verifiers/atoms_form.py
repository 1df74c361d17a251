"""`atoms:VERIFIER` as the name of a verifier: another one, asked about the parts of a prompt.

    atoms:tiny-zero-shot                                       the geometric mean
    atoms[arithmetic]:tiny-zero-shot                           the arithmetic mean
    atoms[parts=parts.jsonl]:tiny-zero-shot                    parts of prompts from a file of JSON lines
    atoms[chat=http://localhost:8000/v1#qwen3]:tiny-zero-shot  a chat model splits what cannot be read

Several options stand side by side, each in its brackets: `atoms[arithmetic][parts=parts.jsonl]:tiny-zero-shot`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imagecot import registry
from imagecot.errors import UsageError, nearest
from imagecot.precision import Device, Dtype
from imagecot.reading import check_regular
from imagecot.verifiers import judge_file

if TYPE_CHECKING:
    from imagecot.verifiers.atoms import Atoms
    from imagecot.verifiers.splitting import Splitter

_BEGIN = "atoms"
_SHOWN = "atoms:VERIFIER, atoms[arithmetic]:VERIFIER, atoms[parts=FILE]:VERIFIER or atoms[chat=ADDRESS#MODEL]:VERIFIER"
_OPTIONS = ("geometric", "arithmetic", "parts=FILE", "chat=ADDRESS#MODEL")


@dataclass(frozen=True)
class Named:
    """What a text names.

    inner  the verifier that is asked about the parts
    mean   "geometric" or "arithmetic"
    file   with parts of prompts; "" for none
    chat   a chat model, as a served judge is named; "" for none
    """

    inner: str
    mean: str = "geometric"
    file: str = ""
    chat: str = ""

    @classmethod
    def read(cls, text: str) -> "Named":
        """Take a text apart; UsageError where it is no name of this form."""
        rest, found = text.removeprefix(_BEGIN), dict[str, str]()
        while closed := _bracketed(rest):
            option, rest = closed
            key, _, value = option.partition("=")
            kind = "mean" if option in _OPTIONS[:2] else key if key in ("parts", "chat") and value else None
            if kind is None:
                raise nearest("option of atoms", option, list(_OPTIONS))
            if kind in found:
                raise UsageError(f"{text!r} says {kind} twice; say it once.")
            found[kind] = value or option
        if not rest.startswith(":") or not rest[1:].strip():
            raise UsageError(f"{text!r} is no verifier that judges by atoms; write {_SHOWN}.")
        return cls(rest[1:], found.get("mean", cls.mean), found.get("parts", ""), found.get("chat", ""))

    @property
    def splitter(self) -> "Splitter":
        """Who splits the prompts; UsageError for a file without parts, or a chat model that is none."""
        from imagecot.verifiers.chat_splitting import ChatSplitter
        from imagecot.verifiers.splitting import Splitter

        chat = ChatSplitter(judge_file.read(self.chat)) if self.chat else None
        return Splitter.read(Path(self.file), chat) if self.file else Splitter(chat=chat)


def parts(text: str) -> list[tuple[str, str]]:
    """The verifier that is asked; UsageError for a text that cannot be read, a missing file or no chat model."""
    named = Named.read(text)
    if named.file:
        check_regular(Path(named.file), failure=UsageError)
    if named.chat:
        judge_file.read(named.chat)
    return [("verifier", named.inner)]


def renamed(text: str, rename: Callable[[str], str]) -> str:
    """The text with another name of the verifier that is asked."""
    inner = Named.read(text).inner
    return text.removesuffix(inner) + rename(inner)


def load(text: str, device: Device, dtype: Dtype) -> "Atoms":
    """The verifier, around the one that it asks; errors as of `imagecot.registry.load`, and of `Named.splitter`."""
    from imagecot.verifiers.atoms import Atoms, Mean

    named = Named.read(text)
    splitter = named.splitter
    return Atoms(registry.load("verifier", named.inner, device=device, dtype=dtype), splitter, Mean(named.mean))


def digests(text: str) -> Mapping[str, str]:
    """The SHA-256 of a file of parts, and of a file that names a chat model; what that one says is kept."""
    from imagecot.verifiers.splitting import Splitter

    named, found = Named.read(text), dict[str, str]()
    if named.file:
        found["parts"] = Splitter.read(Path(named.file)).file
    if named.chat:
        found |= {f"chat_{name}": digest for name, digest in judge_file.digests(named.chat).items()}
    return found


def _bracketed(text: str) -> tuple[str, str] | None:
    """What stands in the brackets that a text begins with, which may hold others as an address does, and what follows.

    None where it begins with none, or they do not end.
    """
    depth = 0
    for place, character in enumerate(text):
        depth += (character == "[") - (character == "]")
        if depth == 0:
            return (text[1:place], text[place + 1 :]) if place else None
    return None
