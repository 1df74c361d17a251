"""Any image-text-to-text model of transformers as a verifier, through its own processor and chat template."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self, runtime_checkable

import torch
from PIL import Image
from torch import Tensor, nn

from imagecot.contracts.questions import POTENTIAL, REFLECTION, Question
from imagecot.contracts.reflection import Reflection
from imagecot.contracts.values import JSON
from imagecot.contracts.verifier import Conversation, Usage
from imagecot.errors import ImagecotError
from imagecot.foreign import NO_LENGTH, foreign
from imagecot.verifiers.answers import (
    OPEN,
    check_asked,
    continued,
    first_ids,
    marks_of,
    p_yes,
    probability_of,
    prompts_of,
    spellings,
)
from imagecot.verifiers.chat import ANSWER_TOKENS, check_room, refuse_marks
from imagecot.verifiers.exact import exact_logits
from imagecot.verifiers.wording import Habits

if TYPE_CHECKING:
    from transformers import BatchFeature, GenerationConfig, PreTrainedConfig, PreTrainedTokenizerBase

_ROWS = 8  # images of one forward pass
Message = dict[str, str | list[dict[str, str | Image.Image]]]
"""A turn of a chat as transformers takes it: role and content, which is texts and images."""


class Logits(Protocol):
    """What a forward pass returns: logits (B, L, V)."""

    logits: Tensor


class Written(Protocol):
    """What was generated: ids (B, L) with those of the request, and the logits (B, V) of each new one."""

    sequences: Tensor
    logits: Sequence[Tensor]


@runtime_checkable
class VisionLanguageModel(Protocol):
    """What is asked of a model of `AutoModelForImageTextToText`, whatever its family."""

    config: "PreTrainedConfig"
    generation_config: "GenerationConfig"
    device: torch.device
    dtype: torch.dtype
    forward: Callable[..., Logits]

    def eval(self) -> Self:
        """The model, which is not training."""
        ...

    def parameters(self) -> Iterator[Tensor]:
        """Its weights."""
        ...

    def get_output_embeddings(self) -> nn.Module | None:
        """The layer that computes the logits; None where it cannot be told."""
        ...

    def __call__(self, **inputs: object) -> Logits:
        """A forward pass."""
        ...

    def generate(self, **inputs: object) -> Written:
        """An answer, token by token."""
        ...


class Processor(Protocol):
    """What is asked of a processor of transformers: it lays out chats with images."""

    tokenizer: "PreTrainedTokenizerBase"

    def apply_chat_template(self, conversation: Sequence[Sequence[Message]], **how: object) -> "BatchFeature":
        """The inputs of the model, by name."""
        ...


@dataclass(frozen=True, eq=False)
class Shown:
    """The images (B, 3, H, W) of conversations, and the place (B,) of each one's prompt among those in `shared`."""

    images: Tensor
    place: Tensor


class AnyVlm:
    """A verifier around a model of `AutoModelForImageTextToText` and its processor.

    P(yes) is the softmax over two logits at the last position: log-sum-exp over the spellings "yes" and "Yes",
    with and without a blank before them (some chats end in "Assistant:"), and the same for no. A spelling that
    is no single token does not count. Keys and values are not kept: a follow-up reads all
    again. Conversations have `Shown` in `own` and the prompts in `shared`.

    habits  its number format, its wording of the questions, and its advice for searches
    """

    def __init__(self, model: VisionLanguageModel, processor: Processor, habits: Habits | None = None) -> None:
        self.model, self.processor, self.habits = model.eval(), processor, habits or Habits()
        self.usage = Usage()
        tokenizer = processor.tokenizer
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
        self._marks = marks_of(tokenizer)
        self._yes, self._no = (sorted(spellings(tokenizer, word, before=("", " "))) for word in ("yes", "no"))
        # Without it a model computes the logits of every position, over its whole vocabulary.
        self._last = {"logits_to_keep": 1} if "logits_to_keep" in signature(model.forward).parameters else {}

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    @property
    def settings(self) -> dict[str, JSON]:
        """The number format, and the wording where it is not the paper's."""
        return self.habits.settings(self.model.dtype)

    @property
    def advice(self) -> Mapping[str, Mapping[str, JSON]]:
        """The settings that it advises for searches, by the names of searches."""
        return self.habits.advice

    def check_prompt(self, prompt: str) -> None:
        """Raise UsageError for a prompt with a mark of the chat in it, or too long for a question about it."""
        self._laid_out(torch.full((1, 3, 64, 64), 0.5), [prompt], POTENTIAL)

    def ask(self, images: Tensor, prompts: list[str], question: Question, after: Conversation | None = None) -> Tensor:
        """Return P(yes) (B,) float64.

        images   (B, 3, H, W) float in [0, 1], any size; not looked at when `after` is given
        prompts  one for each image, or one for all; not looked at when `after` is given
        after    the conversation that a follow-up continues, which is read again

        UsageError for an image batch or prompts of the wrong shape, or a conversation that does not fit.
        """
        question = self.habits.said(question)
        if after is not None:
            shown = continued(after, question, Shown)
            images, prompts = shown.images, [after.shared[i] for i in shown.place.tolist()]
        prompts = prompts_of(images, prompts)
        parts = [
            self._ask(images[i : i + _ROWS], prompts[i : i + _ROWS], question) for i in range(0, len(images), _ROWS)
        ]
        return torch.cat(parts) if parts else torch.empty(0)

    def begin(self, images: Tensor, prompts: list[str], question: Question) -> tuple[Tensor, Conversation]:
        """Like `ask`, and return the conversations too, for follow-up questions to the same images."""
        answers = self.ask(images, prompts, question)
        place = torch.arange(len(images)) % max(1, len(prompts))
        return answers, Conversation(self.habits.said(question), Shown(images, place), list(prompts))

    @torch.no_grad()
    def reflect(self, images: Tensor, prompts: list[str]) -> list[Reflection]:
        """As `LlavaOnevisionVerifier.reflect`, one image at a time."""
        found = []
        for image, prompt in zip(images, prompts_of(images, prompts), strict=True):
            inputs = self._inputs(image[None], [prompt], REFLECTION)
            with exact_logits(self.model.get_output_embeddings(), [*self._yes, *self._no]):
                out = self.model.generate(
                    **inputs,
                    max_new_tokens=ANSWER_TOKENS,
                    do_sample=False,
                    output_logits=True,
                    return_dict_in_generate=True,
                )
            written = out.sequences[0, inputs["input_ids"].shape[1] :]
            ends = self.model.generation_config.eos_token_id
            complete = len(written) < ANSWER_TOKENS or int(written[-1]) in (ends if isinstance(ends, list) else [ends])
            text = self.processor.tokenizer.batch_decode(written[None], skip_special_tokens=True)[0]
            self.usage += Usage(tokens_judged=len(written))
            found.append(Reflection(text.strip(), float(self._p_yes(out.logits[0])), complete))
        return found

    def answer_probability(self, images: Tensor, questions: list[str], answers: list[list[str]]) -> Tensor:
        """As `ChatVerifier.answer_probability`; the image is read again for every question."""
        check_asked(images, questions, answers)
        ids = [first_ids(self.processor.tokenizer, answer) for answer in answers]
        images = images.expand(len(questions), -1, -1, -1)
        parts = []
        for i in range(0, len(questions), _ROWS):
            matter = sorted({one for own in ids[i : i + _ROWS] for one in own})
            last = self._last_logits(images[i : i + _ROWS], questions[i : i + _ROWS], OPEN, matter)
            parts.append(probability_of(last, ids[i : i + _ROWS]))
        return torch.cat([torch.empty(0), *parts])

    def _p_yes(self, last: Tensor) -> Tensor:
        """P(yes) (B,) of logits (B, V)."""
        return p_yes(last[:, self._yes], last[:, self._no])

    def _ask(self, images: Tensor, prompts: list[str], question: Question) -> Tensor:
        return self._p_yes(self._last_logits(images, prompts, question, [*self._yes, *self._no]))

    @torch.no_grad()
    def _last_logits(self, images: Tensor, prompts: list[str], question: Question, ids: Sequence[int]) -> Tensor:
        """The logits (B, V) of the first token of the answers; those of `ids` are products in float32."""
        inputs = self._inputs(images, prompts, question)
        with exact_logits(self.model.get_output_embeddings(), ids):
            return self.model(**inputs, **self._last, use_cache=False).logits[:, -1]

    def _inputs(self, images: Tensor, prompts: list[str], question: Question) -> "BatchFeature":
        """Lay out a request and count it."""
        inputs = self._laid_out(images, prompts, question)
        self.usage += Usage(judge_calls=len(prompts), tokens_judged=int(inputs["attention_mask"].sum()))
        return inputs.to(self.device, self.model.dtype)

    def _laid_out(self, images: Tensor, prompts: list[str], question: Question) -> "BatchFeature":
        """The inputs of a request, on the CPU; UsageError for a prompt that cannot be asked about."""
        question = self.habits.said(question)
        levels = (images.float() * 255).round().clamp(0, 255).to("cpu", torch.uint8).permute(0, 2, 3, 1).numpy()
        pictures = [Image.fromarray(picture) for picture in levels]
        inputs = self.processor.apply_chat_template(
            [self._chat(question, prompt, picture) for prompt, picture in zip(prompts, pictures, strict=True)],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True, "padding_side": "left"},
        )
        check_room(question, int(inputs["attention_mask"].sum(1).max()), self.model.config.get_text_config())
        return inputs

    def _chat(self, question: Question, prompt: str, picture: Image.Image) -> list[Message]:
        """Return the messages of a question; one that follows another stands behind that one's yes."""
        refuse_marks(prompt, self._marks)
        text: dict[str, str | Image.Image] = {"type": "text", "text": question.about(prompt).strip()}
        if question.follows is None:
            return [{"role": "user", "content": [{"type": "image", "image": picture}, text]}]
        yes: Message = {"role": "assistant", "content": [{"type": "text", "text": "yes"}]}
        return [*self._chat(question.follows, prompt, picture), yes, {"role": "user", "content": [text]}]


def is_vlm(config: Mapping[str, JSON]) -> bool:
    """Whether transformers has a model that answers in text to images for this config.json."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    kind = config.get("model_type")
    return isinstance(kind, str) and kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES


def load_processor(folder: Path) -> Processor:
    """Load the processor of a checkpoint folder; ImagecotError where it is missing or has no chat template."""
    from transformers import AutoProcessor

    with foreign(f"the processor in {folder} cannot be read", "copy its files too"):
        try:
            processor: Processor = AutoProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except ImportError as error:
            # Processors that read videos too, such as those of Qwen-VL, need it for images alone.
            if find_spec("torchvision") or "torchvision" not in str(error).lower():
                raise
            raise ImagecotError(
                f"the processor in {folder} needs torchvision, which is not installed; run pip install torchvision."
            ) from None
    if getattr(processor, "tokenizer", None) is None or getattr(processor, "image_processor", None) is None:
        raise ImagecotError(f"the processor in {folder} does not read both text and images; copy its files too.")
    if not getattr(processor, "chat_template", None):
        raise ImagecotError(f"the processor in {folder} has no chat template; pass a model that was tuned for chat.")
    processor.tokenizer.model_max_length = NO_LENGTH
    return processor
