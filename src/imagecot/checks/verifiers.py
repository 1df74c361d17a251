"""What is tried of a verifier: its answers are probabilities, each of its own image, and all of them are counted."""

from dataclasses import dataclass

import torch
from torch import Tensor

from imagecot.checks.capabilities import reads
from imagecot.checks.drawing import PROMPTS
from imagecot.checks.members import lacks
from imagecot.checks.outcome import Outcome, Remark, Rule, tried
from imagecot.checks.settings import json_and_stay, said, unnamed
from imagecot.contracts.asking import Selective
from imagecot.contracts.prompts import Reader
from imagecot.contracts.questions import CLARITY, ORM, POTENTIAL, PRM, Question
from imagecot.contracts.reflection import Reflection, Reflector
from imagecot.contracts.verifier import Advised, Answering, Conversation, Usage, Verifier
from imagecot.errors import UsageError
from imagecot.promises import no_json

TOLERANCE = 0.01  # of P(yes): products of another batch size round otherwise
_SIDE = 64  # pixels


@dataclass(frozen=True)
class Subject:
    """A verifier on trial, and prompts of different lengths."""

    verifier: Verifier
    prompts: tuple[str, str] = PROMPTS

    @property
    def three(self) -> list[str]:
        """A prompt for each of the three images."""
        return [self.prompts[k] for k in (0, 1, 0)]

    @property
    def images(self) -> Tensor:
        """Three images (3, 3, H, W) in [0, 1]: a red square on white, a blue one on black, and noise."""
        images = torch.stack([torch.ones(3, _SIDE, _SIDE), torch.zeros(3, _SIDE, _SIDE), _noise()])
        middle = slice(_SIDE // 4, 3 * _SIDE // 4)
        images[0, :, middle, middle] = torch.tensor([0.9, 0.1, 0.1])[:, None, None]
        images[1, :, middle, middle] = torch.tensor([0.1, 0.1, 0.9])[:, None, None]
        return images

    def ask(self, question: Question = ORM, rows: tuple[int, ...] = (0, 1, 2)) -> Tensor:
        """The answers (B,) about some of the images, on the CPU."""
        return self.verifier.ask(self.images[[*rows]], [self.three[row] for row in rows], question).cpu()

    def answers(self, question: Question) -> bool:
        """Whether it says that it can answer a question."""
        if not isinstance(self.verifier, Selective):
            return True
        try:
            self.verifier.check_question(question)
        except UsageError:
            return False
        return True

    @property
    def opening(self) -> Question:
        """The question that a conversation is begun with."""
        return CLARITY if self.answers(CLARITY) else ORM


def check_verifier(verifier: Verifier, prompts: tuple[str, str] = PROMPTS) -> list[Outcome]:
    """Try all rules of verifiers.

    prompts  two that it reads; how it judges is not tried
    """
    return tried(RULES, Subject(verifier, prompts), verifier)


def it_has_everything(subject: Subject) -> str | None:
    """It has all methods and attributes of a verifier."""
    return lacks(subject.verifier, "verifier", Verifier)


def answers_are_probabilities(subject: Subject) -> str | None:
    """P(yes) is a number from 0 to 1 for each image, whatever the question; the ORM question is never refused."""
    for question in (ORM, *filter(subject.answers, (PRM, CLARITY, POTENTIAL))):
        answers = subject.ask(question)
        if tuple(answers.shape) != (3,) or not answers.is_floating_point():
            return f"ask about 3 images returns {tuple(answers.shape)} {answers.dtype}; return P(yes) (3,)."
        if not bool(((answers >= 0) & (answers <= 1)).all()):
            return f"answers to {question.name} are {answers.tolist()}; return probabilities, from 0 to 1."
    return None


def settings_are_json_and_stay(subject: Subject) -> str | None:
    """Settings are a mapping that JSON holds, and answering does not change them."""
    return json_and_stay(subject.verifier, subject.ask, "a question")


def an_answer_is_the_same_in_any_batch(subject: Subject) -> str | None:
    """Answers about three images with prompts of their own are those about each alone."""
    together = subject.ask()
    for row in range(3):
        alone = float(subject.ask(rows=(row,))[0])
        if abs(alone - float(together[row])) > TOLERANCE:
            return (
                f"P(yes) of image {row} is {alone:.3f} alone and {float(together[row]):.3f} in a batch; let no image "
                "or padding of another count."
            )
    return None


def one_prompt_serves_all_images(subject: Subject) -> str | None:
    """One prompt for all images gives what the same prompt for each does."""
    one, each = (subject.verifier.ask(subject.images, [subject.prompts[0]] * count, ORM).cpu() for count in (1, 3))
    if one.shape != each.shape or _far(one, each):
        return f"one prompt for 3 images gives {one.tolist()}, and 3 times the same {each.tolist()}; repeat it."
    return None


def begin_answers_as_ask(subject: Subject) -> str | None:
    """`begin` gives the answers of `ask`, and a conversation about its question."""
    answers, conversation = subject.verifier.begin(subject.images, subject.three, subject.opening)
    if not isinstance(conversation, Conversation) or conversation.question != subject.opening:
        return (
            "begin returns no imagecot.contracts.Conversation about its question; return Conversation(question, ...)."
        )
    alone = subject.ask(subject.opening)
    if answers.shape != (3,) or _far(answers.cpu(), alone):
        return f"begin answers {answers.tolist()} where ask answers {alone.tolist()}; answer alike."
    return None


def a_follow_up_is_what_it_is_from_scratch(subject: Subject) -> str | None:
    """A follow-up about a conversation gives what it gives when it is asked from scratch."""
    if not subject.answers(POTENTIAL):
        return None
    conversation = subject.verifier.begin(subject.images, subject.three, CLARITY)[1]
    followed = subject.verifier.ask(subject.images, subject.three, POTENTIAL, conversation).cpu()
    scratch = subject.ask(POTENTIAL)
    if followed.shape != scratch.shape or _far(followed, scratch):
        return (
            f"with `after` the follow-up is answered {followed.tolist()}, from scratch {scratch.tolist()}; read the "
            "same turns in both."
        )
    return None


def conversations_can_be_selected(subject: Subject) -> str | None:
    """A follow-up about some of the images, in another order, gives their answers."""
    if not subject.answers(POTENTIAL):
        return None
    conversation = subject.verifier.begin(subject.images, subject.three, CLARITY)[1]
    whole = subject.verifier.ask(subject.images, subject.three, POTENTIAL, conversation).cpu()
    for rows in ([2, 0, 1], [1], [2, 1]):
        index = torch.tensor(rows)
        prompts = [subject.three[row] for row in rows]
        some = subject.verifier.ask(subject.images[index], prompts, POTENTIAL, conversation.select(index)).cpu()
        if some.shape != (len(rows),) or _far(some, whole[index]):
            return (
                f"of the conversations {rows} the follow-up is answered {some.tolist()}, of all {whole.tolist()}; keep "
                "what belongs to each image in `own`."
            )
    mask = torch.tensor([False, True, True])
    some = subject.verifier.ask(subject.images[mask], subject.three[1:], POTENTIAL, conversation.select(mask)).cpu()
    if some.shape != (2,) or _far(some, whole[mask]):
        return "conversations that are selected by a mask are answered otherwise; keep what belongs to each in `own`."
    return None


def every_answer_is_counted(subject: Subject) -> str | None:
    """An answer is a judge call, in `ask`, `begin` and follow-ups; tokens and seconds never become less.

    Who asks others counts what they answer: then an answer is more than one call.
    """
    verifier = subject.verifier
    if not isinstance(verifier.usage, Usage):
        return f"usage is a {type(verifier.usage).__name__}; make it an imagecot.contracts.Usage."
    counts = [verifier.usage]
    subject.ask()
    counts.append(verifier.usage)
    conversation = verifier.begin(subject.images, subject.three, subject.opening)[1]
    counts.append(verifier.usage)
    if subject.answers(POTENTIAL):
        verifier.ask(subject.images[:2], subject.three[:2], POTENTIAL, conversation.select(torch.tensor([0, 1])))
        counts.append(verifier.usage)
    for what, answers, before, now in zip(("ask", "begin", "a follow-up"), (3, 3, 2), counts, counts[1:], strict=False):
        used = now - before
        if used.judge_calls < answers:
            return (
                f"{what} about {answers} images counts {used.judge_calls} judge calls; add "
                "Usage(judge_calls=len(images))."
            )
        if used.tokens_judged < 0 or used.seconds < 0:
            return f"after {what} there are fewer tokens or seconds in usage than before; only add to it."
    return None


def images_are_not_modified(subject: Subject) -> str | None:
    """The images that it is asked about stay what they are."""
    images = subject.images
    subject.verifier.ask(images, subject.three, ORM)
    subject.verifier.begin(images, subject.three, subject.opening)
    if not torch.equal(images, subject.images):
        return "the images are changed after a question about them; work on a copy."
    return None


def settings_name_what_changes_answers(subject: Subject) -> str | None:
    """A simple attribute whose other values change an answer is in settings."""

    def answers(verifier: Verifier) -> Tensor:
        return Subject(verifier, subject.prompts).ask()

    return said(unnamed(subject.verifier, answers, _far), "the answers")


def it_reads_prompts_and_images(subject: Subject) -> str | Remark | None:
    """Different prompts, images and questions get different answers; a remark where they do not."""
    images = subject.images[[0, 0]]
    by_prompt = subject.verifier.ask(images, list(subject.prompts), ORM).tolist()
    by_image = subject.verifier.ask(subject.images, [subject.prompts[0]], ORM).tolist()
    same = [what for what, found in (("prompt", by_prompt), ("image", by_image)) if len(set(found)) == 1]
    if same:
        return Remark(f"the answer was the same for every {' and every '.join(same)} that was tried.")
    return None


def the_prompts_can_be_read(subject: Subject) -> str | None:
    """`check_prompt` takes what can be asked about, and raises nothing but UsageError."""
    assert isinstance(subject.verifier, Reader)
    return reads(subject.verifier, subject.prompts)


def what_is_refused_is_not_answered(subject: Subject) -> str | None:
    """A question that `check_question` refuses is refused by `ask` too."""
    for question in (PRM, CLARITY, POTENTIAL):
        if subject.answers(question):
            continue
        try:
            subject.ask(question)
        except UsageError:
            continue
        return f"check_question refuses {question.name}, and ask answers it; raise UsageError in both, or in neither."
    return None


def reflections_are_answers(subject: Subject) -> str | None:
    """`reflect` gives a Reflection for each image with a P(yes) from 0 to 1, and counts each."""
    assert isinstance(subject.verifier, Reflector)
    before = subject.verifier.usage
    found = subject.verifier.reflect(subject.images, subject.three)
    if len(found) != 3 or not all(isinstance(one, Reflection) for one in found):
        return "reflect of 3 images does not return 3 imagecot.contracts.Reflection; return one for each."
    if not all(0 <= one.p_yes <= 1 for one in found):
        return f"p_yes of reflections is {[one.p_yes for one in found]}; give probabilities, from 0 to 1."
    if (subject.verifier.usage - before).judge_calls < 3:
        return "reflect does not count its answers; add Usage(judge_calls=...) for them."
    return None


def open_answers_are_probabilities(subject: Subject) -> str | None:
    """`answer_probability` gives a probability for each question, of one image as of its copies, and counts each."""
    verifier, asked = subject.verifier, ["Is the image bright?", "Are there any apples in the image?", "Is it a cat?"]
    assert isinstance(verifier, Answering)
    before, image = verifier.usage, subject.images[:1]
    yes, no = (
        verifier.answer_probability(image, asked, [[word, word.capitalize()]] * 3).cpu() for word in ("yes", "no")
    )
    each = verifier.answer_probability(image.expand(3, -1, -1, -1), asked, [["yes", "Yes"]] * 3).cpu()
    for found in (yes, no, yes + no if yes.shape == no.shape else yes):
        if tuple(found.shape) != (3,) or not bool(((found >= 0) & (found <= 1 + TOLERANCE)).all()):
            return (
                f"answer_probability of yes is {yes.tolist()}, of no {no.tolist()}; return a probability for each of 3 "
                "questions, of all answers at most 1 together."
            )
    if each.shape != yes.shape or _far(each, yes):
        return f"one image for 3 questions gives {yes.tolist()}, 3 copies of it {each.tolist()}; answer alike."
    if (verifier.usage - before).judge_calls != 9:
        return "answer_probability does not count its answers; add Usage(judge_calls=len(questions))."
    return None


def advice_can_be_followed(subject: Subject) -> str | None:
    """`advice` maps names of searches to settings that these searches have."""
    from imagecot import registry
    from imagecot.strategies.options import wrong_options

    assert isinstance(subject.verifier, Advised)
    known = registry.names("search")
    for name, settings in subject.verifier.advice.items():
        problem = no_json(settings)
        if problem is not None:
            return f"advice[{name!r}]: {problem}."
        wrong = wrong_options(registry.load("search", name), settings, {}) if name in known else []
        if wrong:
            return f"advice says {wrong[0]} = {settings[wrong[0]]!r}, which {name} does not take; advise what it takes."
    return None


def _far(one: Tensor, other: Tensor) -> bool:
    """Whether two batches of answers differ by more than rounding."""
    return bool(((one.float() - other.float()).abs() > TOLERANCE).any())


def _noise() -> Tensor:
    return torch.rand(3, _SIDE, _SIDE, generator=torch.Generator().manual_seed(0))


_FORM = (it_has_everything, answers_are_probabilities)
_ALIKE = (*_FORM, an_answer_is_the_same_in_any_batch)
RULES = (
    Rule(it_has_everything),
    Rule(answers_are_probabilities, (it_has_everything,)),
    Rule(settings_are_json_and_stay, _FORM),
    Rule(an_answer_is_the_same_in_any_batch, _FORM),
    Rule(one_prompt_serves_all_images, _FORM),
    Rule(begin_answers_as_ask, _FORM),
    Rule(a_follow_up_is_what_it_is_from_scratch, (*_FORM, begin_answers_as_ask)),
    Rule(conversations_can_be_selected, (*_ALIKE, begin_answers_as_ask)),
    Rule(every_answer_is_counted, _FORM),
    Rule(images_are_not_modified, _FORM),
    Rule(settings_name_what_changes_answers, (*_ALIKE, settings_are_json_and_stay)),
    Rule(it_reads_prompts_and_images, _FORM),
    Rule(the_prompts_can_be_read, (it_has_everything,), Reader),
    Rule(what_is_refused_is_not_answered, _FORM, Selective),
    Rule(reflections_are_answers, _FORM, Reflector),
    Rule(open_answers_are_probabilities, _FORM, Answering),
    Rule(advice_can_be_followed, (it_has_everything,), Advised),
)
