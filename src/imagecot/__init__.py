"""Verify and reinforce image generation, step by step.

What there is to call is imported when it is first used, so that `import imagecot` costs nothing.
"""

from typing import TYPE_CHECKING

from imagecot.lazily import attributes

if TYPE_CHECKING:
    from imagecot.api import load_generator, load_verifier, search
    from imagecot.publishing import pull_from_hub, push_to_hub

__version__ = "0.2.0"
__all__ = ["__version__", "load_generator", "load_verifier", "pull_from_hub", "push_to_hub", "search"]
__getattr__ = attributes(
    __name__,
    {
        "load_generator": "api",
        "load_verifier": "api",
        "search": "api",
        "push_to_hub": "publishing",
        "pull_from_hub": "publishing",
    },
)
