"""What is tried of a generator: that it has everything, draws on its canvas, and says what changes its images."""

import torch

from imagecot.checks import capabilities, paths
from imagecot.checks.drawing import PROMPTS, Subject, differing
from imagecot.checks.members import lacks
from imagecot.checks.outcome import Outcome, Rule, tried
from imagecot.checks.settings import json_and_stay, said, unnamed
from imagecot.contracts.generator import Canvas, Generator
from imagecot.contracts.paths import UNDECIDED, Paths, states


def check_generator(generator: Generator, prompts: tuple[str, str] = PROMPTS) -> list[Outcome]:
    """Try all rules of generators.

    prompts  two that it can draw; what is drawn is compared, and never judged
    """
    return tried(RULES, Subject(generator, prompts), generator)


def it_has_everything(subject: Subject) -> str | None:
    """It has all methods and attributes of a generator."""
    return lacks(subject.generator, "generator", Generator)


def costs_and_sizes_can_be(subject: Subject) -> str | None:
    """Steps, rows and sizes are whole numbers from 1, and the canvas is a Canvas."""
    generator, canvas = subject.generator, subject.generator.canvas
    counts = {
        "steps": generator.steps,
        "rows_per_path": generator.rows_per_path,
        "paths_per_pass": generator.paths_per_pass,
    }
    if not isinstance(canvas, Canvas):
        return f"canvas is a {type(canvas).__name__}; make it an imagecot.contracts.Canvas."
    counts |= {"canvas.codes": canvas.codes}
    counts |= {f"canvas.grid[{k}]": size for k, size in enumerate(canvas.grid)}
    counts |= {f"canvas.image[{k}]": size for k, size in enumerate(canvas.image)}
    for name, value in counts.items():
        if type(value) is not int or value < 1:
            return f"{name} is {value!r}; make it a whole number from 1."
    return None


def settings_are_json_and_stay(subject: Subject) -> str | None:
    """Settings are a mapping that JSON holds, and drawing does not change them."""
    generator = subject.generator
    return json_and_stay(generator, lambda: generator.advance(subject.start([0])), "a step was drawn")


def it_draws_in_its_steps(subject: Subject) -> str | None:
    """Paths begin with nothing drawn at step 0, and `advance` takes them one step further until all are done."""
    state, generator = subject.start(), subject.generator
    if bool((state.codes != UNDECIDED).any()):
        return "start returns paths with codes that are drawn; set all to UNDECIDED."
    for step in range(generator.steps + 1):
        problem = _wrong_shape(subject, state, step)
        if problem is not None:
            return f"{problem}."
        if step < generator.steps:
            state = generator.advance(state)
    return None


def codes_are_of_the_canvas(subject: Subject) -> str | None:
    """Codes are from 0 to canvas.codes - 1, or UNDECIDED where not drawn; in the end all are drawn."""
    most = subject.generator.canvas.codes
    for step, codes in enumerate(subject.expected):
        if bool(((codes != UNDECIDED) & ((codes < 0) | (codes >= most))).any()):
            return f"after step {step} there are codes outside of 0 to {most - 1}; draw from canvas.codes codes."
    if bool((subject.expected[-1] == UNDECIDED).any()):
        return "after the last step there are codes that are UNDECIDED; decide all."
    return None


def images_are_of_the_canvas(subject: Subject) -> str | None:
    """Previews and decoded codes are images (B, 3, H, W) of the canvas' size with values from 0 to 1."""
    size, passed = subject.generator.canvas.image, [*states(subject.generator, subject.start())]
    for state in passed:
        problem = _no_images("preview", subject.generator.preview(state), len(state), size)
        if problem is not None:
            return f"{problem}."
    return _no_images("decode", subject.generator.decode(passed[-1].codes), len(passed[-1]), size)


def settings_name_what_changes_images(subject: Subject) -> str | None:
    """A simple attribute whose other values change what is drawn is in settings."""

    def drawn(generator: Generator) -> torch.Tensor:
        return Subject(generator, subject.prompts).last(Subject(generator, subject.prompts).start([0, 1]))

    return said(unnamed(subject.generator, drawn, lambda a, b: bool(differing(a, b))), "what is drawn")


def _wrong_shape(subject: Subject, state: Paths, step: int) -> str | None:
    """What is wrong with the form of three paths after a step."""
    shape, steps = (3, subject.generator.canvas.positions), subject.generator.steps
    if not isinstance(state, Paths):
        return f"paths are a {type(state).__name__}; return imagecot.contracts.Paths."
    if tuple(state.codes.shape) != shape or state.codes.dtype != torch.int64:
        return (
            f"codes of 3 paths after step {step} are {tuple(state.codes.shape)} {state.codes.dtype}; the canvas says "
            f"{shape} torch.int64."
        )
    if state.step != step or state.steps != steps:
        return f"paths say step {state.step} of {state.steps} where it is {step} of {steps}; count every advance."
    if state.seeds.dtype != torch.int64 or state.seeds.tolist() != subject.seeds.tolist():
        return f"after step {step} the paths' seeds are others than `start` was given; keep them."
    if tuple(state.prompt_index.shape) != (3,) or state.prompt_index.dtype != torch.int64:
        return f"prompt_index is not int64 of shape (3,) after step {step}; give each path the number of its prompt."
    return None


def _no_images(method: str, images: torch.Tensor, count: int, size: tuple[int, int]) -> str | None:
    if tuple(images.shape) != (count, 3, *size):
        return f"{method} of {count} paths returns {tuple(images.shape)}; the canvas says {(count, 3, *size)}."
    if not images.is_floating_point():
        return f"{method} returns {images.dtype}; return numbers with a fraction, from 0 to 1."
    if not bool(((images >= 0) & (images <= 1)).all()):
        low, high = float(images.min()), float(images.max())
        return f"{method} returns values from {low:g} to {high:g}; scale or clamp them to 0 to 1."
    return None


_FORM = (it_has_everything, costs_and_sizes_can_be, it_draws_in_its_steps)
RULES = (
    Rule(it_has_everything),
    Rule(costs_and_sizes_can_be, (it_has_everything,)),
    Rule(it_draws_in_its_steps, (it_has_everything, costs_and_sizes_can_be)),
    Rule(codes_are_of_the_canvas, _FORM),
    Rule(images_are_of_the_canvas, (*_FORM, codes_are_of_the_canvas)),
    Rule(settings_are_json_and_stay, _FORM),
    *paths.rules((*_FORM, codes_are_of_the_canvas, images_are_of_the_canvas)),
    Rule(settings_name_what_changes_images, (*_FORM, settings_are_json_and_stay, paths.the_same_seed_draws_the_same)),
    *capabilities.rules((*_FORM, codes_are_of_the_canvas, images_are_of_the_canvas)),
)
