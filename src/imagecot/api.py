"""What a user imports: `load_generator`, `load_verifier` and `search`."""

from imagecot.generators import load_generator
from imagecot.strategies.search import search
from imagecot.verifiers import load_verifier

__all__ = ["load_generator", "load_verifier", "search"]
