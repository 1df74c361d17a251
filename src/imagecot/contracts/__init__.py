"""What generators, verifiers, searches, detectors and worlds are to each other: protocols and plain dataclasses.

Nothing here knows anything else of the package, and nothing needs to be inherited. A class that has the methods and
attributes of a protocol is one; what only some can do (correct, score, reflect ...) is a protocol of its own, a
capability, that is asked for with `isinstance`.

    from imagecot.contracts import Canvas, Paths, Choice, Usage

`imagecot check generator|verifier|search NAME` tries whether a class keeps what its protocol promises.
"""

from typing import TYPE_CHECKING

from imagecot.lazily import attributes

if TYPE_CHECKING:
    from imagecot.contracts.asking import Asking, Selective
    from imagecot.contracts.correction import Asked, Correction
    from imagecot.contracts.detector import Detections, Detector
    from imagecot.contracts.generator import (
        Adjustable,
        Canvas,
        Corrector,
        Doubting,
        Encoder,
        Filling,
        Generator,
        Predictor,
        Remasker,
    )
    from imagecot.contracts.metadata import Metadata, Need
    from imagecot.contracts.paths import UNDECIDED, Paths
    from imagecot.contracts.prompts import Reader
    from imagecot.contracts.questions import CLARITY, ORM, POTENTIAL, PRM, REFLECTION, Question
    from imagecot.contracts.randomness import Stream, fork_seeds, path_seeds, uniforms
    from imagecot.contracts.reflection import Reflection, Reflector
    from imagecot.contracts.scorer import Draws, Scorer, Terms
    from imagecot.contracts.search import (
        Batched,
        Calibrated,
        Candidate,
        Choice,
        Cost,
        InRounds,
        PathRecord,
        Run,
        Strategy,
        Verdict,
    )
    from imagecot.contracts.verifier import Advised, Answering, Conversation, Usage, Verifier
    from imagecot.contracts.world import World

_HOMES = {
    "asking": ("Asking", "Selective"),
    "correction": ("Asked", "Correction"),
    "detector": ("Detections", "Detector"),
    "generator": (
        *("Adjustable", "Canvas", "Corrector", "Doubting", "Encoder", "Filling", "Generator", "Predictor", "Remasker"),
    ),
    "metadata": ("Metadata", "Need"),
    "paths": ("UNDECIDED", "Paths"),
    "prompts": ("Reader",),
    "questions": ("CLARITY", "ORM", "POTENTIAL", "PRM", "REFLECTION", "Question"),
    "randomness": ("Stream", "fork_seeds", "path_seeds", "uniforms"),
    "reflection": ("Reflection", "Reflector"),
    "scorer": ("Draws", "Scorer", "Terms"),
    "search": (
        *("Batched", "Calibrated", "Candidate", "Choice", "Cost", "InRounds", "PathRecord", "Run", "Strategy"),
        "Verdict",
    ),
    "verifier": ("Advised", "Answering", "Conversation", "Usage", "Verifier"),
    "world": ("World",),
}
__all__ = [
    "CLARITY",
    "ORM",
    "POTENTIAL",
    "PRM",
    "REFLECTION",
    "UNDECIDED",
    "Adjustable",
    "Advised",
    "Answering",
    "Asked",
    "Asking",
    "Batched",
    "Calibrated",
    "Candidate",
    "Canvas",
    "Choice",
    "Conversation",
    "Correction",
    "Corrector",
    "Cost",
    "Detections",
    "Detector",
    "Doubting",
    "Draws",
    "Encoder",
    "Filling",
    "Generator",
    "InRounds",
    "Metadata",
    "Need",
    "PathRecord",
    "Paths",
    "Predictor",
    "Question",
    "Reader",
    "Reflection",
    "Reflector",
    "Remasker",
    "Run",
    "Scorer",
    "Selective",
    "Strategy",
    "Stream",
    "Terms",
    "Usage",
    "Verdict",
    "Verifier",
    "World",
    "fork_seeds",
    "path_seeds",
    "uniforms",
]
# Imported on demand: costs and verdicts of a finished run are read without torch.
__getattr__ = attributes(__name__, {name: home for home, names in _HOMES.items() for name in names})
