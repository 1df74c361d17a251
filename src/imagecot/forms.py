"""Verifiers that are written and not named: made of others, or had elsewhere.

A form is recognised by how its text begins; nothing is imported for that. What it means stands in a module of its own,
whose functions are called with the whole text. Forms hold names, and other forms, of the same role: `min(a,atoms:b)`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pkgutil import resolve_name
from typing import Protocol, TypeAlias, cast

from imagecot.contracts.values import JSON
from imagecot.errors import UsageError
from imagecot.precision import Device, Dtype

Advice: TypeAlias = Mapping[str, Mapping[str, JSON]]
"""Settings of searches by their names."""


class Spelling(Protocol):
    """What a module of a form has; all functions take the text as it was given."""

    def parts(self, text: str) -> list[tuple[str, str]]:
        """The models in it, as roles of the registry and names; UsageError where the text cannot be read.

        They are checked by the registry, and their SHA-256 are taken from it.
        """
        ...

    def renamed(self, text: str, rename: Callable[[str], str]) -> str:
        """The text with other names of its verifiers; UsageError where they cannot be written so."""
        ...

    def load(self, text: str, device: Device, dtype: Dtype) -> object:
        """What it stands for, loaded; the parts by `imagecot.registry.load`."""
        ...

    def digests(self, text: str) -> Mapping[str, str]:
        """What else than its parts decides its answers, by names; empty where the text says all."""
        ...


@dataclass(frozen=True)
class Form:
    """A way to write a verifier.

    shown   how it is written, for people
    begins  a regular expression that its beginning matches, and no other text's
    module  the module that is its `Spelling`
    needs   a library and the extra of this project that installs it; None where nothing is lacking
    agrees  whether it advises searches what all of its parts advise alike; otherwise it advises nothing
    """

    shown: str
    begins: str
    module: str
    needs: tuple[str, str] | None = None
    agrees: bool = False

    @property
    def opening(self) -> str:
        """The text that it begins with, before any name."""
        return re.split(r"(?<=[(:])", self.shown, maxsplit=1)[0]

    @property
    def spelling(self) -> Spelling:
        """What its texts mean; UsageError where a library is missing."""
        if self.needs and find_spec(self.needs[0]) is None:
            library, extra = self.needs
            raise UsageError(
                f"{self.shown} needs {library}, which is not installed; run pip install 'imagecot[{extra}]'."
            )
        return cast(Spelling, resolve_name(self.module))


_SERVED = ("openai", "served")
FORMS: dict[str, tuple[Form, ...]] = {
    "verifier": (
        Form("atoms:NAME", r"atoms[\[:]", "imagecot.verifiers.atoms_form", agrees=True),
        Form("https://HOST/v1#MODEL", r"https?://", "imagecot.verifiers.judge_file", needs=_SERVED),
        Form("judge.yaml", r"(?!\w{2,}[:\[])[^(]*\.ya?ml\Z", "imagecot.verifiers.judge_file", needs=_SERVED),
        Form("self", r"self\Z", "imagecot.judging"),
        Form("mean(NAME,NAME,...)", r"mean\(", "imagecot.verifiers.ensemble", agrees=True),
        Form("min(NAME,NAME,...)", r"min\(", "imagecot.verifiers.ensemble", agrees=True),
        Form("clip:MODEL", r"clip:", "imagecot.verifiers.clip_score"),
    ),
}


def form_of(role: str, text: str) -> Form | None:
    """The form that a text is written in; None for a name."""
    return next((form for form in FORMS.get(role, ()) if re.match(form.begins, text)), None)


def check(form: Form, text: str, check_name: Callable[[str, object], str]) -> None:
    """UsageError, which names the text, for one that means nothing or holds a model that there is not.

    check_name  of the registry
    """
    for role, name in form.spelling.parts(text):
        try:
            check_name(role, name)
        except UsageError as error:
            raise UsageError(f"{text}: {error}") from None


def advice(form: Form, text: str, advice_of: Callable[[str], Advice]) -> Advice:
    """What a text advises searches, as its `Form` says.

    advice_of  of the registry
    """
    return agreed([advice_of(name) for _, name in form.spelling.parts(text)]) if form.agrees else {}


def agreed(said: Sequence[Advice]) -> Advice:
    """The advice for those searches of which everybody says the same."""
    first, *others = said
    return {search: found for search, found in first.items() if all(one.get(search) == found for one in others)}


def digests(form: Form, text: str, role: str, digests_of: Callable[[str, str], Mapping[str, str]]) -> dict[str, str]:
    """SHA-256 of all parts of a text, numbered, and of what else decides; the keys begin with the role.

    digests_of  of the registry
    """
    found = {f"{role}_{name}": digest for name, digest in form.spelling.digests(text).items()}
    for number, (kind, name) in enumerate(form.spelling.parts(text), 1):
        found |= {f"{role}_part{number}_{key}": digest for key, digest in digests_of(kind, name).items()}
    return found
