"""What the attributes of generators, verifiers, searches, detectors and worlds must be, whoever wrote them.

Each check returns what is wrong, in words that stand behind the name, such as "its steps must be ..."; None where
nothing is. That there is such an attribute at all is asked before.
"""

import json
from collections.abc import Collection, Mapping
from collections.abc import Set as AnySet
from typing import TYPE_CHECKING

from imagecot.bounds import MOST_PATHS, check_whole, shown
from imagecot.errors import UsageError
from imagecot.imported import calling

if TYPE_CHECKING:
    from imagecot.contracts.detector import Detector
    from imagecot.contracts.generator import Generator
    from imagecot.contracts.search import Strategy
    from imagecot.contracts.verifier import Verifier
    from imagecot.contracts.world import World

MOST_STEPS = 100_000
MOST_POSITIONS = 2**24  # codes of an image
MOST_CODES = 2**31 - 1
MOST_PIXELS = 100_000_000  # of an image
NEEDS = ("verifier", "reflector", "corrector", "remasker")
# What a search is called with beside its settings.
TAKEN = {
    *("prompt", "prompts", "generator", "verifier", "corrector", "strategy", "n", "seed", "seeds"),
    *("progress", "folder", "names", "weights", "of_paths", "budget"),
}


def wrong_generator(generator: "Generator") -> str | None:
    """What is wrong with the steps, costs, settings or canvas of a generator."""
    from imagecot.contracts.generator import Canvas, Filling

    for name, value, most in (
        ("steps", generator.steps, MOST_STEPS),
        ("rows_per_path", generator.rows_per_path, MOST_STEPS),
        ("paths_per_pass", generator.paths_per_pass, 2**63 - 1),
    ):
        wrong = _no_number(value, f"its {name}", most)
        if wrong:
            return wrong
    canvas = generator.canvas
    if not isinstance(canvas, Canvas):
        return f"its canvas must be an imagecot.contracts.Canvas, not {shown(canvas)}"
    wrong = _no_number(canvas.codes, "codes of its canvas", MOST_CODES)
    for name, size, most in (("grid", canvas.grid, MOST_POSITIONS), ("image", canvas.image, MOST_PIXELS)):
        if not isinstance(size, tuple) or len(size) != 2:
            return f"{name} of its canvas must be a pair of whole numbers, not {shown(size)}"
        wrong = wrong or next(filter(None, (_no_number(side, f"{name} of its canvas", most) for side in size)), None)
        if not wrong and size[0] * size[1] > most:
            wrong = f"{name} of its canvas must be at most {most} in all, not {size[0]} x {size[1]}"
    if isinstance(generator, Filling) and not isinstance(generator.fill, str):
        wrong = wrong or f"its fill must be text, not {shown(generator.fill)}"
    return wrong or no_json(generator.settings)


def wrong_verifier(verifier: "Verifier") -> str | None:
    """What is wrong with the settings, the usage or the advice of a verifier."""
    from imagecot.contracts.verifier import Advised, Usage

    if not isinstance(verifier.usage, Usage):
        return f"its usage must be an imagecot.contracts.Usage, not {shown(verifier.usage)}"
    if isinstance(verifier, Advised):
        advice: object = verifier.advice
        if not isinstance(advice, Mapping) or not all(isinstance(part, Mapping) for part in advice.values()):
            return f"its advice must be settings by the names of searches, not {shown(advice)}"
    return no_json(verifier.settings)


def wrong_search(search: "Strategy") -> str | None:
    """What is wrong with the settings, the needs or the questions of a search."""
    from pydantic import BaseModel

    from imagecot.contracts.asking import Asking
    from imagecot.contracts.questions import Question

    model: object = search.Settings
    if not isinstance(model, type) or not issubclass(model, BaseModel):
        return f"its Settings must be a class of pydantic's BaseModel, not {shown(model)}"
    needs: object = search.needs
    if not isinstance(needs, AnySet) or not needs <= {*NEEDS}:
        return f"its needs must be a set of some of {', '.join(NEEDS)}, not {shown(needs)}"
    questions: object = search.questions if isinstance(search, Asking) else frozenset()
    if not isinstance(questions, AnySet) or not all(isinstance(one, Question) for one in questions):
        return f"its questions must be a set of imagecot.contracts.Question, not {shown(questions)}"
    return None


def wrong_detector(detector: "Detector") -> str | None:
    """What is wrong with the name or the classes of a detector."""
    return _no_name(detector.name) or _no_texts(detector.classes, "classes")


def wrong_world(world: "World") -> str | None:
    """What is wrong with the name, classes, judges or words of a world."""
    words: object = world.words
    if words is not None and not isinstance(words, AnySet):
        return f"its words must be a set or None, not {shown(words)}"
    return _no_name(world.name) or _no_texts(world.classes, "classes") or _no_texts(world.judges, "judges")


def wrong_prompts(world: "World", prompts: object) -> str | None:
    """What is wrong with the prompts that a world returned."""
    if not isinstance(prompts, list) or not prompts:
        return f"its prompts must be a list, at least one, not {shown(prompts)}"
    for k, metadata in enumerate(prompts, 1):
        wrong = no_json(metadata)
        if wrong:
            return f"prompt {k}: {wrong.removeprefix('its settings ')}"
        for key in ("tag", "prompt"):
            if not isinstance(metadata.get(key), str):
                return f"prompt {k} must have a {key}, which is text"
        needs = [metadata.get("include") or [None], metadata.get("exclude", [])]
        if not all(isinstance(part, list) for part in needs):
            return f"prompt {k} must have lists to include and exclude"
        for need in (need for part in needs for need in part):
            if not isinstance(need, Mapping) or need.get("class") not in world.classes:
                return f"prompt {k} must include a class of its world, not {shown(need)}"
            wrong = _no_number(need.get("count"), f"the count of {need['class']} in prompt {k}", MOST_STEPS)
            if wrong:
                return wrong
    return None


def number_of_paths(search: "Strategy", name: str, n: int) -> int:
    """How many paths a search draws where n are asked for; UsageError where it says no such number."""
    with calling(search, "paths"):
        found = search.paths(n)
    return check_whole(found, f"what paths({n}) of {name} returns", 1, max(MOST_PATHS, 16 * n))


def no_json(settings: object) -> str | None:
    """What is wrong with the settings of a model; None where all of them can be written down."""
    if not isinstance(settings, Mapping):
        return f"its settings must be a mapping of names to values, not {shown(settings)}"
    for name, value in settings.items():
        try:
            text = json.dumps({name: value}, allow_nan=False, ensure_ascii=False).encode()
            same = bool(json.loads(text) == {name: value})
        except (TypeError, ValueError, RecursionError):
            same = False
        except RuntimeError:  # tensors of several numbers are neither equal nor not
            same = False
        if not same:
            return (
                f"settings[{shown(name)}] is {shown(value)}, which JSON does not hold; use text, finite numbers, lists "
                "and None"
            )
    return None


def _no_number(value: object, what: str, most: int) -> str | None:
    try:
        check_whole(value, what, 1, most)
    except UsageError as error:
        return str(error).rstrip(".")
    return None


def _no_name(value: object) -> str | None:
    return None if isinstance(value, str) and value.strip() else f"its name must be text, not {shown(value)}"


def _no_texts(value: object, what: str) -> str | None:
    found = value if isinstance(value, Collection) and not isinstance(value, str) else ()
    if len(found) > 0 and all(isinstance(one, str) for one in found):
        return None
    return f"its {what} must be names, at least one, not {shown(value)}"
