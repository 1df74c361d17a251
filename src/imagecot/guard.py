"""The calls that a search makes of its models, and a look at what comes back: its kind, shape and range.

Each is the call itself where nothing is wrong. A verifier sees images as a file holds them, in 8 bits: so its answer is
the same about the picture in memory, in a file, and behind a server. ImagecotError, naming the class and the method,
for what breaks its contract; and for whatever other people's code raises.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeGuard, TypeVar

import numpy as np
from torch import Tensor, equal, int64, strided

from imagecot.bounds import shown
from imagecot.contracts.correction import Correction
from imagecot.contracts.detector import Detections, Detector
from imagecot.contracts.generator import Corrector, Doubting, Generator, Predictor, Remasker
from imagecot.contracts.paths import UNDECIDED, Paths
from imagecot.contracts.questions import Question
from imagecot.contracts.reflection import Reflection, Reflector
from imagecot.contracts.search import Assess, Candidate, InRounds, Run, Select, Strategy
from imagecot.contracts.values import JSON
from imagecot.contracts.verifier import Answering, Conversation, Selectable, Usage, Verifier
from imagecot.errors import ImagecotError
from imagecot.images import as_saved
from imagecot.imported import calling
from imagecot.promises import no_json

Made = TypeVar("Made")
_ROUNDING = 1e-3  # by which a level may leave [0, 1]


def start(generator: Generator, prompts: list[str], seeds: Tensor) -> Paths:
    """`generator.start`."""
    found = called(generator, "start", lambda: generator.start(prompts, seeds))
    return _paths(generator, generator, "start", found, seeds, 0)


def resume(generator: Generator, prompts: list[str], seeds: Tensor, codes: Tensor, step: int) -> Paths:
    """`generator.resume`."""
    found = called(generator, "resume", lambda: generator.resume(prompts, seeds, codes, step))
    return _paths(generator, generator, "resume", found, seeds, step)


def correct(
    drawer: Corrector, generator: Generator, prompts: list[str], seeds: Tensor, corrections: Sequence[Correction]
) -> Paths:
    """`drawer.correct`; generator has the same canvas and steps."""
    found = called(drawer, "correct", lambda: drawer.correct(prompts, seeds, corrections))
    return _paths(drawer, generator, "correct", found, seeds, 0)


def advance(generator: Generator, paths: Paths) -> Paths:
    """`generator.advance`."""
    found = called(generator, "advance", lambda: generator.advance(paths))
    return _paths(generator, generator, "advance", found, paths.seeds, paths.step + 1)


def preview(generator: Generator, paths: Paths) -> Tensor:
    """`generator.preview`."""
    found = called(generator, "preview", lambda: generator.preview(paths))
    return _images(generator, "preview", found, len(paths))


def decode(generator: Generator, codes: Tensor) -> Tensor:
    """`generator.decode`."""
    found = called(generator, "decode", lambda: generator.decode(codes))
    return _images(generator, "decode", found, len(codes))


def predicted(generator: Predictor, paths: Paths) -> Tensor:
    """`generator.predicted`."""
    found: object = called(generator, "predicted", lambda: generator.predicted(paths))
    if not isinstance(found, Tensor) or found.dtype != int64 or found.shape != paths.codes.shape:
        raise broken(generator, "predicted", kind(found), f"int64 of shape {tuple(paths.codes.shape)}")
    return found


def confidence(generator: Doubting, paths: Paths) -> Tensor:
    """`generator.confidence`."""
    found: object = called(generator, "confidence", lambda: generator.confidence(paths))
    if not _floats(found) or found.shape != paths.codes.shape:
        raise broken(generator, "confidence", kind(found), f"floats of shape {tuple(paths.codes.shape)}")
    tensor = found.detach().to(paths.codes.device)
    if not bool(((tensor >= 0) & (tensor <= 1 + _ROUNDING)).all()):
        raise broken(generator, "confidence", "numbers that are no probabilities", "a probability for each code")
    return tensor


def remask(generator: Remasker, paths: Paths, undecided: Tensor) -> Paths:
    """`generator.remask`."""
    found: object = called(generator, "remask", lambda: generator.remask(paths, undecided))
    wanted = paths.codes.masked_fill(undecided, UNDECIDED)
    if not isinstance(found, Paths) or not counted(found.step) or found.step > paths.steps:
        raise broken(generator, "remask", kind(found), f"Paths at a step up to {paths.steps}")
    if found.codes.shape != wanted.shape or not equal(found.codes, wanted) or not equal(found.seeds, paths.seeds):
        raise broken(generator, "remask", "other paths", "the same ones without the codes that it is told")
    return found


def ask(
    verifier: Verifier, images: Tensor, prompts: list[str], question: Question, after: Conversation | None = None
) -> Tensor:
    """`verifier.ask`."""
    seen = as_saved(images)
    found = called(verifier, "ask", lambda: verifier.ask(seen, prompts, question, after))
    return _answers(verifier, "ask", found, len(images))


def begin(verifier: Verifier, images: Tensor, prompts: list[str], question: Question) -> tuple[Tensor, Conversation]:
    """`verifier.begin`."""
    found: object = called(verifier, "begin", lambda: verifier.begin(as_saved(images), prompts, question))
    if not isinstance(found, tuple) or len(found) != 2 or not isinstance(found[1], Selectable):
        raise broken(verifier, "begin", f"{kind(found)}", "a pair of P(yes) and a Conversation")
    answers, conversation = found
    if isinstance(conversation, Conversation):
        called(verifier, "begin", lambda: conversation.check(len(images)))
    return _answers(verifier, "begin", answers, len(images)), conversation


def answer_probability(verifier: Answering, images: Tensor, questions: list[str], answers: list[list[str]]) -> Tensor:
    """`verifier.answer_probability`."""
    seen = as_saved(images)
    found = called(verifier, "answer_probability", lambda: verifier.answer_probability(seen, questions, answers))
    return _answers(verifier, "answer_probability", found, len(questions))


def usage(verifier: Verifier, before: Usage) -> Usage:
    """What a verifier has done since `before`."""
    found: object = called(verifier, "usage", lambda: verifier.usage)
    if not isinstance(found, Usage):
        raise broken(verifier, "usage", kind(found), "a Usage")
    used: Usage = called(verifier, "usage", lambda: found - before)
    if not all(counted(count) for count in (used.judge_calls, used.tokens_judged)) or not 0 <= used.seconds < math.inf:
        raise broken(verifier, "usage", f"{found}, after {before}", "counts that never fall")
    return used


def reflect(verifier: Reflector, images: Tensor, prompt: str) -> Reflection:
    """`verifier.reflect` of one image (1, 3, H, W)."""
    found: object = called(verifier, "reflect", lambda: verifier.reflect(as_saved(images), [prompt]))
    if not isinstance(found, Sequence) or len(found) != 1 or not isinstance(found[0], Reflection):
        raise broken(verifier, "reflect", kind(found), "a list with a Reflection for each image")
    answer = found[0]
    if not isinstance(answer.text, str) or not isinstance(answer.complete, bool):
        raise broken(verifier, "reflect", shown(answer), "a text, and whether it is complete")
    if not _probability(answer.p_yes):
        raise _no_probability(verifier, "reflect")
    return answer


def detect(detector: Detector, images: Sequence[Tensor]) -> list[Detections]:
    """`detector.detect`."""
    found: object = called(detector, "detect", lambda: detector.detect(images))
    if not isinstance(found, list) or len(found) != len(images) or not all(isinstance(d, Detections) for d in found):
        raise broken(detector, "detect", kind(found), f"a list of {len(images)} Detections")
    for one in found:
        if not isinstance(one.boxes, Mapping) or not all(_boxes(raw) for raw in one.boxes.values()):
            raise broken(
                detector,
                "detect",
                f"boxes {shown(one.boxes)}",
                "lists of [x1, y1, x2, y2, score] by the names of classes",
            )
    return found


def record(detector: Detector) -> dict[str, JSON]:
    """`detector.record`."""
    found = called(detector, "record", lambda: detector.record())
    wrong = no_json(found)
    if wrong:
        raise ImagecotError(f"{type(detector).__qualname__}.record: {wrong}.")
    recorded: dict[str, JSON] = json.loads(json.dumps(dict(found)))
    return recorded


def assess(ask: Assess, search: Strategy, run: Run, paths: Paths, candidates: list[Candidate]) -> list[int]:
    """The rows of the paths that a search stops, by its own `ask`."""
    rows: object = called(search, "assess", lambda: ask(run, paths, candidates))
    count = len(candidates)
    if not isinstance(rows, Sequence) or not all(counted(row) and row < count for row in rows):
        raise broken(search, "assess", shown(rows), f"a list of rows to stop, each from 0 to {count - 1}")
    return [*rows]


def select(choose: Select, search: Strategy, run: Run, paths: Paths, candidates: list[Candidate]) -> list[int]:
    """The rows of the paths that go on, by a search's own `choose`: at least one, and each as often as it is named."""
    rows: object = called(search, "select", lambda: choose(run, paths, candidates))
    count = len(candidates)
    if not isinstance(rows, Sequence) or not rows or not all(counted(row) and row < count for row in rows):
        raise broken(search, "select", shown(rows), f"a list of rows that go on, each from 0 to {count - 1}")
    return [*rows]


def next_round(search: InRounds, run: Run, candidates: Sequence[Candidate]) -> range:
    """`search.next_round`; an empty range for None."""
    found: object = called(search, "next_round", lambda: search.next_round(run, candidates))
    if found is None:
        return range(0)
    if not isinstance(found, range) or found.start != len(candidates) or not found or found.stop > run.n:
        raise broken(search, "next_round", shown(found), f"a range from {len(candidates)} up to {run.n}, or None")
    return found


def called(model: object, method: str, make: Callable[[], Made]) -> Made:
    """What a call of a method makes; ImagecotError, naming both, for whatever other people's code raises."""
    with calling(model, method):
        return make()


def broken(model: object, method: str, seen: str, wanted: str) -> ImagecotError:
    """The failure of a method that returns something else than its contract says."""
    return ImagecotError(f"{type(model).__qualname__}.{method} returns {seen}; let it return {wanted}.")


def _no_probability(verifier: object, method: str) -> ImagecotError:
    return ImagecotError(
        f"the answer of {type(verifier).__qualname__}.{method} is not a probability for each image; its weights are "
        "damaged, or its code is wrong."
    )


def _paths(drawer: object, generator: Generator, method: str, found: object, seeds: Tensor, step: int) -> Paths:
    """The paths that a method returned: those of seeds (B,), of the canvas, after `step` steps."""
    rows = len(seeds)
    if not isinstance(found, Paths):
        raise broken(drawer, method, kind(found), "Paths")
    shape, canvas = (rows, generator.canvas.positions), generator.canvas
    for name, tensor, wanted in (
        ("codes", found.codes, shape),
        ("seeds", found.seeds, (rows,)),
        ("prompt_index", found.prompt_index, (rows,)),
    ):
        if not isinstance(tensor, Tensor) or tensor.dtype != int64 or tensor.shape != wanted:
            raise broken(drawer, method, f"{name} that are {kind(tensor)}", f"int64 of shape {wanted}")
    if not counted(found.step) or (found.step, found.steps) != (step, generator.steps):
        raise broken(
            drawer,
            method,
            f"paths at step {shown(found.step)} of {shown(found.steps)}",
            f"paths at step {step} of {generator.steps}",
        )
    if found.seeds is not seeds and not equal(found.seeds, seeds.to(found.seeds.device)):
        raise broken(drawer, method, "paths of other seeds", "those that it was given")
    if found.finished and rows:
        low, high = (int(bound) for bound in found.codes.aminmax())
        if low < 0 or high >= canvas.codes:
            raise broken(drawer, method, f"finished codes from {low} to {high}", f"codes from 0 to {canvas.codes - 1}")
    return found


def _images(generator: Generator, method: str, found: object, rows: int) -> Tensor:
    shape = (rows, 3, *generator.canvas.image)
    if not _floats(found) or found.shape != shape:
        raise broken(generator, method, kind(found), f"floats of shape {shape}")
    tensor = found.detach()
    if rows:
        low, high = (float(bound) for bound in tensor.aminmax())
        if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):  # of NaN neither holds
            raise broken(generator, method, f"levels from {low:g} to {high:g}", "levels from 0 to 1")
    return tensor


def _answers(verifier: object, method: str, found: object, rows: int) -> Tensor:
    if not _floats(found) or found.ndim != 1:
        raise broken(verifier, method, kind(found), f"floats of shape {(rows,)}")
    if len(found) != rows or not all(0.0 <= p <= 1.0 for p in found.tolist()):
        raise _no_probability(verifier, method)
    return found.detach()


def _boxes(raw: object) -> bool:
    """Whether these are boxes with their scores."""
    try:
        boxes = np.asarray(raw, dtype=np.float32)
    except (TypeError, ValueError):
        return False
    return boxes.size == 0 or (boxes.ndim == 2 and boxes.shape[1] == 5 and bool(np.isfinite(boxes).all()))


def _floats(found: object) -> TypeGuard[Tensor]:
    """Whether something is a tensor of numbers that can be looked at."""
    return isinstance(found, Tensor) and found.is_floating_point() and found.layout == strided and not found.is_meta


def kind(found: object) -> str:
    """What something is, in words."""
    if isinstance(found, Tensor):
        place = "meta " if found.is_meta else "" if found.layout == strided else "sparse "
        return f"{place}{str(found.dtype).removeprefix('torch.')} of shape {tuple(found.shape)}"
    return "None" if found is None else f"a {type(found).__name__}"


def counted(value: object) -> bool:
    """Whether something is a whole number of at least 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _probability(value: object) -> bool:
    return isinstance(value, float | int) and not isinstance(value, bool) and 0 <= value <= 1
