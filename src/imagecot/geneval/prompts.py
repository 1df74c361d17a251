"""The prompts of GenEval: the wording of its six tasks, its seeded sampler and the fixed set of 553."""

import json
import random
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import resources

import numpy as np

from imagecot.bounds import MAX_SEED, check_whole
from imagecot.contracts.metadata import Metadata, Need
from imagecot.contracts.values import JSON
from imagecot.errors import UsageError

# Data of github.com/djghosh13/geneval, MIT licence, © 2023 Dhruba Ghosh (notice beside the files).
_DATA = resources.files("imagecot.geneval") / "data"
# The order is part of the protocol: index = COCO class index, and the sampler draws indices.
OBJECT_NAMES: tuple[str, ...] = tuple((_DATA / "object_names.txt").read_text(encoding="utf-8").splitlines())
COLORS: tuple[str, ...] = (
    *("red", "orange", "yellow", "green", "blue"),
    *("purple", "pink", "brown", "black", "white"),
)
RELATIONS: tuple[str, ...] = ("left of", "right of", "above", "below")
MOST_SAMPLED = 100_000  # prompts a task
MOST_PER_TASK = 100_000  # prompts for training
TASKS: tuple[str, ...] = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
NUMBER_WORDS: tuple[str, ...] = (
    *("zero", "one", "two", "three", "four", "five"),
    *("six", "seven", "eight", "nine", "ten"),
)


def with_article(words: str) -> str:
    """`words` after "a", or "an" before a vowel letter: "a bench", "an orange car"."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def plural(name: str) -> str:
    """The benchmark's plural of `name`, which knows one rule only: "buses", also "sheeps" and "knifes"."""
    return f"{name}es" if name.endswith("s") else f"{name}s"


def single_object_prompt(name: str) -> str:
    """Wording of task single_object: "a photo of a bench"."""
    return f"a photo of {with_article(name)}"


def two_object_prompt(first: str, second: str) -> str:
    """Wording of task two_object: "a photo of a bench and an apple"."""
    return f"a photo of {with_article(first)} and {with_article(second)}"


def counting_prompt(name: str, count: int) -> str:
    """Wording of task counting: "a photo of three forks"; UsageError if `count` is not 0 to 10."""
    if not 0 <= count < len(NUMBER_WORDS):
        raise UsageError(f"a counting prompt words counts from 0 to {len(NUMBER_WORDS) - 1}, got {count}.")
    return f"a photo of {NUMBER_WORDS[count]} {plural(name)}"


def colors_prompt(name: str, color: str) -> str:
    """Wording of task colors, the article goes with the colour: "a photo of an orange car"."""
    return f"a photo of {with_article(color)} {name}"


def position_prompt(name: str, relation: str, target: str) -> str:
    """Wording of task position: "a photo of a dog left of a cat"."""
    return f"a photo of {with_article(name)} {relation} {with_article(target)}"


def color_attr_prompt(first: str, first_color: str, second: str, second_color: str) -> str:
    """Wording of task color_attr: "a photo of a red dog and a blue car"."""
    return f"a photo of {with_article(first_color)} {first} and {with_article(second_color)} {second}"


def single_object_metadata(name: str) -> Metadata:
    """What an image of task single_object must show, and its prompt."""
    return Metadata("single_object", single_object_prompt(name), (Need(name),))


def two_object_metadata(first: str, second: str) -> Metadata:
    """What an image of task two_object must show, and its prompt."""
    return Metadata("two_object", two_object_prompt(first, second), (Need(first), Need(second)))


def counting_metadata(name: str, count: int) -> Metadata:
    """What an image of task counting must show (`count` and no more), and its prompt."""
    return Metadata("counting", counting_prompt(name, count), (Need(name, count),), (Need(name, count + 1),))


def colors_metadata(name: str, color: str) -> Metadata:
    """What an image of task colors must show, and its prompt."""
    return Metadata("colors", colors_prompt(name, color), (Need(name, color=color),))


def position_metadata(name: str, relation: str, target: str) -> Metadata:
    """What an image of task position must show, and its prompt; the target is the first requirement."""
    needs = Need(target), Need(name, relation=relation, target=0)
    return Metadata("position", position_prompt(name, relation, target), needs)


def color_attr_metadata(first: str, first_color: str, second: str, second_color: str) -> Metadata:
    """What an image of task color_attr must show, and its prompt."""
    prompt = color_attr_prompt(first, first_color, second, second_color)
    return Metadata("color_attr", prompt, (Need(first, color=first_color), Need(second, color=second_color)))


def make_prompts(
    seed: int = 43, n: int = 100, names: Sequence[str] = OBJECT_NAMES, colors: Sequence[str] = COLORS
) -> list[dict[str, JSON]]:
    """Sample a benchmark as GenEval's files have it, each prompt with `tag`, `include`, `exclude` and `prompt`.

    The rest is that of `sample_prompts`, which returns the same as `Metadata`.
    """
    return [metadata.as_json() for metadata in sample_prompts(seed, n, names, colors)]


def sample_prompts(
    seed: int = 43, n: int = 100, names: Sequence[str] = OBJECT_NAMES, colors: Sequence[str] = COLORS
) -> list[Metadata]:
    """Sample a benchmark over any vocabulary, in GenEval's order and wording, from GenEval's random stream.

    single_object takes every name once; each other task draws `n` prompts, and repeated prompts are dropped,
    not drawn again (so the default 580 become the 553 of the paper). "person", if among the names, gets no
    colour. With the default vocabulary the result equals that of the reference's `create_prompts.py` for the
    same seed and n. Raises UsageError for a vocabulary too small or with repeated words, and for an n or a seed that is
    no whole number, negative or too large.
    """
    n = check_whole(n, "n, the number of prompts per task,", 0, MOST_SAMPLED)
    seed = check_whole(seed, "the seed of the prompts", 0, MAX_SEED)
    names, colors = _words("names", names), _words("colors", colors)
    for what, words in (("names", names), ("colors", colors)):
        if n and len(words) < 2:
            raise UsageError(f"Prompts of two objects need at least two {what}, got {len(words)}.")
    person = names.index("person") if "person" in names else None
    paintable = len(names) - (person is not None)
    if n and paintable < 2:
        raise UsageError('Prompts with colours need at least two names other than "person".')

    rng = np.random.default_rng(seed)

    def draw(words: Sequence[str], size: int) -> list[str]:
        return [words[i] for i in rng.choice(len(words), size=size, replace=False)]

    def draw_paintable(size: int | None) -> list[str]:
        # The reference skips "person" by rotating the list to start behind it.
        shift = 0 if person is None else person + 1
        drawn = np.atleast_1d(rng.choice(paintable, size=size, replace=size is None))
        return [names[(i + shift) % len(names)] for i in drawn]

    samples = [single_object_metadata(name) for name in draw(names, len(names))] if names else []
    for _ in range(n):
        first, second = draw(names, 2)
        samples.append(two_object_metadata(first, second))
    for _ in range(n):
        name = names[rng.choice(len(names))]
        samples.append(counting_metadata(name, int(rng.integers(2, 4, endpoint=True))))
    for _ in range(n):
        [name] = draw_paintable(None)
        samples.append(colors_metadata(name, colors[rng.choice(len(colors))]))
    for _ in range(n):
        name, target = draw(names, 2)
        samples.append(position_metadata(name, RELATIONS[rng.choice(len(RELATIONS))], target))
    for _ in range(n):
        first, second = draw_paintable(2)
        first_color, second_color = draw(colors, 2)
        samples.append(color_attr_metadata(first, first_color, second, second_color))
    return list(dict.fromkeys(samples))


def training_prompts(
    names: Sequence[str], per_task: int, seed: int, held_out: Iterable[str], colors: Sequence[str] = COLORS
) -> list[Metadata]:
    """Up to `per_task` prompts of each task in a random order, without those of `held_out`.

    A vocabulary has only so many prompts of a task; there are fewer where it is used up. UsageError where nothing
    is left, or for a vocabulary that is too small.
    """
    check_whole(per_task, "per_task", 1, MOST_PER_TASK)
    check_whole(seed, "the seed of prompts", 0, MAX_SEED)
    normal = {normalise(prompt) for prompt in held_out}
    # Repeated draws and held-out prompts fall out, so more are sampled than asked.
    sampled = sample_prompts(seed=seed, n=4 * per_task, names=names, colors=colors)
    kept = [m for m in sampled if normalise(m.prompt) not in normal]
    prompts = [m for task in TASKS for m in [k for k in kept if k.tag == task][:per_task]]
    if not prompts:
        raise UsageError("every prompt of this vocabulary is a test prompt; use more object names.")
    random.Random(seed).shuffle(prompts)
    return prompts


def _words(what: str, words: object) -> list[str]:
    """The words as a list; UsageError where they are none, are repeated or empty."""
    if isinstance(words, (str, bytes)) or not isinstance(words, Iterable):
        raise UsageError(f"The {what} of the prompts must be a list of words, not {type(words).__name__}.")
    listed = list(words)
    if not all(isinstance(word, str) for word in listed):
        raise UsageError(f"The {what} of the prompts must be words, all of them text.")
    if len(set(listed)) < len(listed) or not all(listed):
        raise UsageError(f"The {what} of the prompts must be distinct and not empty: {', '.join(listed)[:200]}.")
    return listed


@cache
def _benchmark() -> tuple[Metadata, ...]:
    lines = (_DATA / "evaluation_metadata.jsonl").read_text(encoding="utf-8").splitlines()
    return tuple(Metadata.of(json.loads(line)) for line in lines)


def load_benchmark_prompts() -> list[Metadata]:
    """The 553 prompts of the published benchmark; index = folder number of an image set."""
    return list(_benchmark())


def normalise(prompt: str) -> str:
    """A prompt without regard to case and blanks, as training and test prompts are compared."""
    return " ".join(prompt.split()).casefold()


def refuse_overlap(train_prompts: Iterable[str], test_prompts: Iterable[str]) -> None:
    """Raise UsageError naming the first training prompt that is also a test prompt, up to case and blanks."""

    test = {normalise(prompt) for prompt in test_prompts}
    for prompt in train_prompts:
        if normalise(prompt) in test:
            raise UsageError(f'The training prompt "{prompt}" is also a test prompt; remove it from the training set.')
