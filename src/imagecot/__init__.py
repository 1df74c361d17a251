"""Verify and reinforce image generation, step by step.

`load_generator`, `load_verifier` and `search` are imported when they are first used, so that
`import imagecot` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imagecot.api import load_generator, load_verifier, search

__version__ = "0.2.0"
__all__ = ["__version__", "load_generator", "load_verifier", "search"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'imagecot' has no attribute {name!r}")
    return getattr(importlib.import_module("imagecot.api"), name)
