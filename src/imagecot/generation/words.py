"""The words of a prompt: those that a generator does not know, and the name that they make."""

import re


def unknown_words(prompt: str, known: frozenset[str]) -> list[str]:
    """Return the words of a prompt that are not among the known ones, each once, in order."""
    words = re.findall(r"\w+(?:['’-]\w+)*", prompt.lower())
    return [word for word in dict.fromkeys(words) if word not in known]


def slug(prompt: str) -> str:
    """Return a folder name made of the prompt's words."""
    return re.sub(r"[\W_]+", "-", prompt.lower()).strip("-")[:48].strip("-") or "prompt"
