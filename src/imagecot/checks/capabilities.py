"""What is tried of a generator's capabilities; one that has none of them is a generator all the same."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from imagecot.checks.drawing import Subject, copied, differing, look_alike
from imagecot.checks.outcome import Remark, Rule
from imagecot.checks.scoring import (
    a_copy_has_its_own_weights,
    gradients_reach_the_weights,
    saving_writes_a_folder,
    scores_are_log_probabilities,
    steps_are_scored,
)
from imagecot.contracts.correction import Correction
from imagecot.contracts.generator import Adjustable, Corrector, Doubting, Encoder, Filling, Predictor, Remasker
from imagecot.contracts.paths import UNDECIDED, states
from imagecot.contracts.prompts import Reader
from imagecot.contracts.scorer import Scorer
from imagecot.contracts.values import JSON
from imagecot.errors import UsageError

_REASONS = ("the apple is not red", "")


def the_prompts_can_be_read(subject: Subject) -> str | None:
    """`check_prompt` takes what can be drawn, and raises nothing but UsageError."""
    assert isinstance(subject.generator, Reader)
    return reads(subject.generator, subject.prompts)


def reads(model: Reader, prompts: tuple[str, ...]) -> str | None:
    """What is wrong with how a model reads prompts that it should read, and one that is too long for most."""
    for prompt in prompts:
        try:
            model.check_prompt(prompt)
        except UsageError as error:
            return f"check_prompt refuses {prompt!r} ({error}); check with prompts that it reads (--prompt)."
    try:
        model.check_prompt("a photo of a red apple and " * 2000 + "a clock")
    except UsageError:
        return None
    except Exception as error:
        return f"check_prompt raises {type(error).__name__} for a prompt that is too long; raise UsageError."
    return None


def corrections_draw_paths(subject: Subject) -> str | None:
    """`correct` returns paths at step 0 that draw all codes, with and without a rejected image and reasons."""
    generator = subject.generator
    assert isinstance(generator, Corrector)
    for correction in (Correction(subject.expected[-1][0]), Correction(None, _REASONS[0])):
        paths = generator.correct([subject.prompts[0]], subject.seeds, [correction])
        if (paths.step, paths.steps, len(paths)) != (0, generator.steps, 3):
            return f"correct with 3 seeds returns {len(paths)} paths at step {paths.step}; return 3 at step 0."
        if bool((subject.last(paths) == UNDECIDED).any()):
            return "corrected paths end with codes that are UNDECIDED; decide all."
    return None


def corrections_can_be_mixed(subject: Subject) -> str | None:
    """Paths of several corrections in one batch have the codes that they have alone, drawn again too."""
    generator = subject.generator
    assert isinstance(generator, Corrector)
    images = subject.expected[-1]
    corrections = [Correction(image, _REASONS[k % 2]) for k, image in enumerate(images)]
    together = subject.last(generator.correct([subject.prompts[0]], subject.seeds, corrections))
    for row, one in enumerate(corrections[1:], start=1):
        alone = subject.last(generator.correct([subject.prompts[0]], subject.seeds[[row]], [one]))
        if differing(alone, together[[row]]):
            return f"path {row} of 3 corrections has other codes than alone; give each path its own correction."
    return None


def remasking_keeps_the_other_codes(subject: Subject) -> str | None:
    """`remask` takes back the codes that it is told and no others, and such paths draw to their end."""
    generator = subject.generator
    assert isinstance(generator, Remasker)
    for steps in (max(1, generator.steps // 2), generator.steps):
        paths = subject.start()
        for _ in range(steps):
            paths = generator.advance(paths)
        before = copied(paths)
        undecided = torch.rand(before.shape, generator=torch.Generator().manual_seed(steps)) < 0.5
        back = generator.remask(paths, undecided)
        if differing(copied(back), before.masked_fill(undecided, UNDECIDED)):
            return f"remask after step {steps} changed other codes than it was told; leave them as they are."
        if not 0 <= back.step < back.steps:
            return f"remask after step {steps} returns step {back.step} of {back.steps}; return one that draws."
        if bool((subject.last(back) == UNDECIDED).any()):
            return "remasked paths end with codes that are UNDECIDED; decide all."
    return None


def doubts_are_probabilities(subject: Subject) -> str | None:
    """`confidence` gives each path the probabilities of its drawn codes, whatever batch it is in, and 0 elsewhere."""
    generator = subject.generator
    assert isinstance(generator, Doubting)
    if type(generator.doubting_rows) is not int or generator.doubting_rows < 1:
        return f"doubting_rows is {generator.doubting_rows!r}; let it be the rows of the forward pass of one path."
    paths = subject.start()
    for _ in range(max(1, generator.steps // 2)):
        paths = generator.advance(paths)
    found = generator.confidence(paths)
    if found.shape != paths.codes.shape or not found.is_floating_point():
        return f"confidence returns {tuple(found.shape)} {found.dtype}; return floats {tuple(paths.codes.shape)}."
    if not bool(((found >= 0) & (found <= 1 + 1e-5)).all()) or bool((found[paths.codes == UNDECIDED] != 0).any()):
        return "confidence returns numbers that are no probabilities, or some where nothing is drawn; return 0 there."
    for row in range(len(paths)):
        alone = generator.confidence(paths.select([row]))
        if not bool(torch.isclose(alone[0], found[row], atol=1e-3).all()):
            return f"path {row} has another confidence alone than in a batch; let it depend on the path alone."
    return None


def predictions_are_what_previews_show(subject: Subject) -> str | None:
    """`predicted` gives complete codes whose `decode` is the preview, after every step."""
    generator = subject.generator
    assert isinstance(generator, Predictor)
    for state in states(subject.generator, subject.start()):
        codes = generator.predicted(state)
        if codes.shape != state.codes.shape or not _complete(codes, generator.canvas.codes):
            return f"predicted after step {state.step} are no complete codes (B, N); predict all."
        if not look_alike(generator.preview(state), generator.decode(codes)):
            return f"the preview after step {state.step} is not what decode makes of predicted; let it be that."
    return None


def pictures_have_codes(subject: Subject) -> str | None:
    """`encode` gives complete codes (B, N) int64 of images of the canvas' size."""
    generator = subject.generator
    assert isinstance(generator, Encoder)
    codes = generator.encode(generator.decode(subject.expected[-1][:2]))
    wanted = (2, generator.canvas.positions)
    if tuple(codes.shape) != wanted or codes.dtype != torch.int64:
        return f"encode of 2 images returns {tuple(codes.shape)} {codes.dtype}; return {wanted} torch.int64."
    if not _complete(codes, generator.canvas.codes):
        return f"encode returns codes outside of 0 to {generator.canvas.codes - 1}; return codes of the canvas."
    return None


def settings_name_the_fill(subject: Subject) -> str | None:
    """`fill` is a word, and the settings say the same: runs and verdicts with other previews are told apart by it."""
    generator = subject.generator
    assert isinstance(generator, Filling)
    fill, said = generator.fill, generator.settings.get("fill")
    if not isinstance(fill, str) or not fill.strip():
        return f"fill is {fill!r}; name in a word how previews of unfinished paths are completed."
    if said != fill:
        return f"fill is {fill!r}, and settings['fill'] is {said!r}; put it into settings, as previews depend on it."
    return None


def adjusted_settings_show(subject: Subject) -> str | None:
    """What `adjusted` is told stands in the settings of what it returns, and changes nothing of the generator."""
    generator = subject.generator
    assert isinstance(generator, Adjustable)
    before, steps = dict(generator.settings), generator.steps
    accepted = 0
    for name, value in [*before.items(), ("steps", steps)]:
        other = _another(value)
        if other is None:
            continue
        try:
            changed = generator.adjusted(**{name: other})
        except UsageError:
            continue
        accepted += 1
        found = changed.steps if name == "steps" else changed.settings.get(name)
        if found != other:
            return f"adjusted({name}={other!r}) returns one with {name} {found!r}; let it draw under what was asked."
        if (dict(generator.settings), generator.steps) != (before, steps):
            return f"adjusted({name}={other!r}) changes the generator itself; return another."
    return None if accepted else "adjusted takes none of its settings and no other steps; leave the method out."


def unknown_settings_are_refused(subject: Subject) -> str | None:
    """`adjusted` raises UsageError for a setting that there is not."""
    generator = subject.generator
    assert isinstance(generator, Adjustable)
    try:
        generator.adjusted(no_such_setting=1)
    except UsageError:
        return None
    except Exception as error:
        return f"adjusted(no_such_setting=1) raises {type(error).__name__}; raise UsageError."
    return "adjusted(no_such_setting=1) returns something; raise UsageError."


def saved_weights_make_a_folder(subject: Subject) -> str | None:
    """`save` writes a folder with something in it."""
    with tempfile.TemporaryDirectory() as place:
        return saving_writes_a_folder(subject, Path(place) / "saved")


def _complete(codes: Tensor, count: int) -> bool:
    return bool(((codes >= 0) & (codes < count)).all())


def _another(value: JSON) -> JSON:
    """Another value of a setting that a generator may well accept; None where nobody knows one."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    return value + 0.5 if isinstance(value, float) else None


def rules(before: tuple[Callable[[Subject], str | Remark | None], ...]) -> tuple[Rule, ...]:
    """The rules of capabilities; those in `before` must be kept for them to mean anything."""
    scored = (*before, scores_are_log_probabilities)
    return (
        Rule(the_prompts_can_be_read, before[:1], Reader),
        Rule(corrections_draw_paths, before, Corrector),
        Rule(corrections_can_be_mixed, (*before, corrections_draw_paths), Corrector),
        Rule(remasking_keeps_the_other_codes, before, Remasker),
        Rule(doubts_are_probabilities, before, Doubting),
        Rule(predictions_are_what_previews_show, before, Predictor),
        Rule(pictures_have_codes, before, Encoder),
        Rule(settings_name_the_fill, before, Filling),
        Rule(adjusted_settings_show, before, Adjustable),
        Rule(unknown_settings_are_refused, before, Adjustable),
        Rule(scores_are_log_probabilities, before, Scorer),
        Rule(steps_are_scored, scored, Scorer),
        Rule(gradients_reach_the_weights, scored, Scorer),
        Rule(a_copy_has_its_own_weights, scored, Scorer),
        Rule(saved_weights_make_a_folder, before, Scorer),
    )
