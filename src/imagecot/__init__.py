"""Verify and reinforce image generation, step by step.

`load_generator`, `load_verifier` and `search` are imported when they are first used, so that
`import imagecot` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from imagecot.generators import load_generator
    from imagecot.strategies import search
    from imagecot.verifiers import load_verifier

__version__ = "0.1.0"
__all__ = ["__version__", "load_generator", "load_verifier", "search"]


def __getattr__(name: str) -> Any:
    homes = {"load_generator": "generators", "load_verifier": "verifiers", "search": "search"}
    if name not in homes:
        raise AttributeError(f"module 'imagecot' has no attribute {name!r}")
    module = importlib.import_module(f"imagecot.{homes[name]}")
    # The package `imagecot.strategies` is itself callable: see there.
    return module if name == "search" else getattr(module, name)
