"""Trying who is named: a shipped name, a folder, a hub id or `package.module:Class`."""

from collections.abc import Callable, Sequence

from imagecot import registry
from imagecot.checks.generators import check_generator
from imagecot.checks.outcome import Outcome
from imagecot.checks.searches import check_search
from imagecot.checks.verifiers import check_verifier
from imagecot.contracts import Generator, Strategy, Verifier
from imagecot.errors import UsageError, nearest
from imagecot.imported import code_named

_TRIALS: dict[str, tuple[Callable[..., list[Outcome]], type]] = {
    "generator": (check_generator, Generator),
    "verifier": (check_verifier, Verifier),
    "search": (check_search, Strategy),
}


def check_named(role: str, name: str, prompts: Sequence[str] = ()) -> list[Outcome]:
    """Try all rules of a generator, a verifier or a search by its name.

    prompts  two different ones that a generator or verifier can read; by default those that every check has

    Errors are those of `registry.load`, but for what the protocol lacks, which is a rule. UsageError for another role,
    and for prompts that say nothing.
    """
    if role not in _TRIALS:
        raise nearest("role", role, list(_TRIALS))
    if prompts and role == "search":
        raise UsageError("a search is tried on small models that read anything; leave out --prompt.")
    if prompts and (len(prompts) != 2 or prompts[0] == prompts[1]):
        raise UsageError("a check takes two different prompts; give --prompt twice.")
    trial, protocol = _TRIALS[role]
    code = code_named(registry.check(role, name))
    # Of a class that is named itself, what it lacks is told with all the rest.
    found: object = code.make(protocol, {}) if code else registry.load(role, name)
    return trial(found, (prompts[0], prompts[1])) if prompts else trial(found)
