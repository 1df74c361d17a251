"""By what a generator of the drawn world is known whose folder says nothing of a world."""

from collections.abc import Mapping


def drew_pictograms(config: Mapping[str, object]) -> bool:
    """Whether a config.json lists the words that the generator was trained on, as only those of this world did."""
    words = config.get("known_words")
    return isinstance(words, list) and bool(words)
