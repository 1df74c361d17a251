"""GenEval (Ghosh et al., 2023, arXiv 2310.11513): prompts, scoring rules and the summary."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imagecot.geneval.prompts import make_prompts
    from imagecot.geneval.rules import judge_detections
    from imagecot.geneval.summary import summarize

__all__ = ["judge_detections", "make_prompts", "summarize"]
_HOMES = {"make_prompts": "prompts", "judge_detections": "rules", "summarize": "summary"}


def __getattr__(name: str) -> object:
    # Imported on demand: the command line starts without numpy.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
