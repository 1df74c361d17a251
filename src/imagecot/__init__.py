"""Verify and reinforce image generation, step by step.

`load_generator`, `load_verifier` and `search` are imported when they are first used, so that
`import imagecot` costs nothing.
"""

from typing import TYPE_CHECKING

from imagecot.lazily import attributes

if TYPE_CHECKING:
    from imagecot.api import load_generator, load_verifier, search

__version__ = "0.2.0"
__all__ = ["__version__", "load_generator", "load_verifier", "search"]
__getattr__ = attributes(__name__, {"load_generator": "api", "load_verifier": "api", "search": "api"})
