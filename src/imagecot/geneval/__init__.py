"""GenEval (Ghosh et al., 2023, arXiv 2310.11513): prompts, scoring rules and the summary."""

from typing import TYPE_CHECKING

from imagecot.lazily import attributes

if TYPE_CHECKING:
    from imagecot.geneval.prompts import make_prompts
    from imagecot.geneval.rules import judge_detections
    from imagecot.geneval.summary import summarize

__all__ = ["judge_detections", "make_prompts", "summarize"]
# Imported on demand: the command line starts without numpy.
__getattr__ = attributes(__name__, {"make_prompts": "prompts", "judge_detections": "rules", "summarize": "summary"})
