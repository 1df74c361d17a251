"""The calls that a search makes of its models, and a look at what comes back: its kind, shape and range.

Each is the call itself where nothing is wrong. ImagecotError, naming the class and the method, for what breaks its
contract; and for whatever other people's code raises.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from torch import Tensor, int64

from imagecot.bounds import shown
from imagecot.contracts.correction import Correction
from imagecot.contracts.detector import Detections, Detector
from imagecot.contracts.generator import Corrector, Generator
from imagecot.contracts.paths import Paths
from imagecot.contracts.questions import Question
from imagecot.contracts.reflection import Reflection, Reflector
from imagecot.contracts.search import Candidate, Choice, Run, Strategy
from imagecot.contracts.verifier import Conversation, Usage, Verifier
from imagecot.errors import ImagecotError
from imagecot.imported import raised_by

Made = TypeVar("Made")
_ROUNDING = 1e-3  # by which a level may leave [0, 1]
_OURS = f"{__name__.partition('.')[0]}."


def start(generator: Generator, prompts: list[str], seeds: Tensor) -> Paths:
    """`generator.start`."""
    found = _called(generator, "start", lambda: generator.start(prompts, seeds))
    return _paths(generator, generator, "start", found, len(seeds), 0)


def resume(generator: Generator, prompts: list[str], seeds: Tensor, codes: Tensor, step: int) -> Paths:
    """`generator.resume`."""
    found = _called(generator, "resume", lambda: generator.resume(prompts, seeds, codes, step))
    return _paths(generator, generator, "resume", found, len(seeds), step)


def correct(
    drawer: Corrector, generator: Generator, prompts: list[str], seeds: Tensor, corrections: Sequence[Correction]
) -> Paths:
    """`drawer.correct`; generator has the same canvas and steps."""
    found = _called(drawer, "correct", lambda: drawer.correct(prompts, seeds, corrections))
    return _paths(drawer, generator, "correct", found, len(seeds), 0)


def advance(generator: Generator, paths: Paths) -> Paths:
    """`generator.advance`."""
    found = _called(generator, "advance", lambda: generator.advance(paths))
    return _paths(generator, generator, "advance", found, len(paths), paths.step + 1)


def preview(generator: Generator, paths: Paths) -> Tensor:
    """`generator.preview`."""
    found = _called(generator, "preview", lambda: generator.preview(paths))
    return _images(generator, "preview", found, len(paths))


def decode(generator: Generator, codes: Tensor) -> Tensor:
    """`generator.decode`."""
    found = _called(generator, "decode", lambda: generator.decode(codes))
    return _images(generator, "decode", found, len(codes))


def ask(
    verifier: Verifier, images: Tensor, prompts: list[str], question: Question, after: Conversation | None = None
) -> Tensor:
    """`verifier.ask`."""
    found = _called(verifier, "ask", lambda: verifier.ask(images, prompts, question, after))
    return _answers(verifier, "ask", found, len(images))


def begin(
    verifier: Verifier, images: Tensor, prompts: list[str], question: Question
) -> tuple[Tensor, Conversation]:
    """`verifier.begin`."""
    found: Any = _called(verifier, "begin", lambda: verifier.begin(images, prompts, question))
    if not isinstance(found, tuple) or len(found) != 2 or not isinstance(found[1], Conversation):
        raise _broken(verifier, "begin", f"{_kind(found)}", "a pair of P(yes) and a Conversation")
    _called(verifier, "begin", lambda: found[1].check(len(images)))
    return _answers(verifier, "begin", found[0], len(images)), found[1]


def usage(verifier: Verifier, before: Usage) -> Usage:
    """What a verifier has done since `before`."""
    found: Any = _called(verifier, "usage", lambda: verifier.usage)
    if not isinstance(found, Usage):
        raise _broken(verifier, "usage", _kind(found), "a Usage")
    used: Usage = _called(verifier, "usage", lambda: found - before)
    if not all(_counted(count) for count in (used.judge_calls, used.tokens_judged)) or not 0 <= used.seconds < math.inf:
        raise _broken(verifier, "usage", f"{found}, after {before}", "counts that never fall")
    return used


def reflect(verifier: Reflector, images: Tensor, prompt: str) -> Reflection:
    """`verifier.reflect` of one image (1, 3, H, W)."""
    found: Any = _called(verifier, "reflect", lambda: verifier.reflect(images, [prompt]))
    if not isinstance(found, Sequence) or len(found) != 1 or not isinstance(found[0], Reflection):
        raise _broken(verifier, "reflect", _kind(found), "a list with a Reflection for each image")
    answer: Any = found[0]
    if not isinstance(answer.text, str) or not isinstance(answer.complete, bool) or not _probability(answer.p_yes):
        raise _broken(verifier, "reflect", shown(answer), "a text and P(yes) from 0 to 1")
    return found[0]


def detect(detector: Detector, images: Sequence[Tensor]) -> list[Detections]:
    """`detector.detect`."""
    found: Any = _called(detector, "detect", lambda: detector.detect(images))
    if not isinstance(found, list) or len(found) != len(images) or not all(isinstance(d, Detections) for d in found):
        raise _broken(detector, "detect", _kind(found), f"a list of {len(images)} Detections")
    return found


def choose(search: Strategy, name: str, run: Run) -> Choice:
    """`search.choose`: what it takes is a finished path with its image."""
    found: Any = _called(search, "choose", lambda: search.choose(run))
    if not isinstance(found, Choice):
        raise _broken(search, "choose", _kind(found), "a Choice")
    candidates, index = found.candidates, found.index
    if not isinstance(candidates, Sequence) or not all(isinstance(one, Candidate) for one in candidates):
        raise _broken(search, "choose", f"candidates that are {_kind(candidates)}", "a list of Candidate")
    if not _counted(index) or index >= len(candidates):
        raise _broken(search, "choose", f"index {shown(index)}", f"one of its {len(candidates)} candidates")
    taken = candidates[index]
    if taken.truncated_at is not None or taken.image is None:
        raise _broken(search, "choose", f"candidate {index}, which was not drawn to its end", "one that was")
    for k, one in enumerate(candidates):
        if one.score is not None and not _probability(one.score):
            raise _broken(search, "choose", f"a score of candidate {k} of {shown(one.score)}", "None or 0 to 1")
    return found


def stopped(search: object, rows: object, count: int) -> list[int]:
    """What `search.assess` returned: the rows to stop, of so many."""
    if not isinstance(rows, Sequence) or not all(_counted(row) and row < count for row in rows):
        raise _broken(search, "assess", shown(rows), f"a list of rows to stop, each from 0 to {count - 1}")
    return [*rows]


def called(model: object) -> str:
    """How a model is named in messages: by its class."""
    return type(model).__qualname__


def _called(model: object, method: str, make: Callable[[], Made]) -> Made:
    """Call, and turn what other people's code raises into an ImagecotError."""
    if type(model).__module__.startswith(_OURS):
        return make()
    with raised_by(f"{called(model)}.{method} fails"):
        return make()


def _broken(model: object, method: str, seen: str, wanted: str) -> ImagecotError:
    return ImagecotError(f"{called(model)}.{method} returns {seen}; let it return {wanted}.")


def _paths(drawer: object, generator: Generator, method: str, found: Any, rows: int, step: int) -> Paths:
    """The paths that a method returned: so many, of the canvas, after `step` steps."""
    if not isinstance(found, Paths):
        raise _broken(drawer, method, _kind(found), "Paths")
    shape, canvas = (rows, generator.canvas.positions), generator.canvas
    for name, tensor, wanted in (
        ("codes", found.codes, shape),
        ("seeds", found.seeds, (rows,)),
        ("prompt_index", found.prompt_index, (rows,)),
    ):
        if tensor.dtype != int64 or tensor.shape != wanted:
            raise _broken(drawer, method, f"{name} that are {_kind(tensor)}", f"int64 of shape {wanted}")
    if (found.step, found.steps) != (step, generator.steps):
        raise _broken(
            drawer,
            method,
            f"paths at step {shown(found.step)} of {shown(found.steps)}",
            f"paths at step {step} of {generator.steps}",
        )
    if found.finished and rows:
        low, high = (int(bound) for bound in found.codes.aminmax())
        if low < 0 or high >= canvas.codes:
            raise _broken(drawer, method, f"finished codes from {low} to {high}", f"codes from 0 to {canvas.codes - 1}")
    return found


def _images(generator: Generator, method: str, found: Any, rows: int) -> Tensor:
    shape = (rows, 3, *generator.canvas.image)
    if not isinstance(found, Tensor) or not found.is_floating_point() or found.shape != shape:
        raise _broken(generator, method, _kind(found), f"floats of shape {shape}")
    if rows:
        low, high = (float(bound) for bound in found.aminmax())
        if not (-_ROUNDING <= low and high <= 1 + _ROUNDING):  # of NaN neither holds
            raise _broken(generator, method, f"levels from {low:g} to {high:g}", "levels from 0 to 1")
    return found


def _answers(verifier: Verifier, method: str, found: Any, rows: int) -> Tensor:
    if not isinstance(found, Tensor) or not found.is_floating_point() or found.ndim != 1:
        raise _broken(verifier, method, _kind(found), f"floats of shape {(rows,)}")
    if len(found) != rows or not all(0.0 <= p <= 1.0 for p in found.tolist()):
        raise ImagecotError(
            f"the answer of {called(verifier)}.{method} is not a probability for each image; its weights are damaged."
        )
    return found


def _kind(found: object) -> str:
    if isinstance(found, Tensor):
        return f"{str(found.dtype).removeprefix('torch.')} of shape {tuple(found.shape)}"
    return "None" if found is None else f"a {type(found).__name__}"


def _counted(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _probability(value: object) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool) and 0 <= value <= 1
