"""Any image-text-to-text model of transformers as a verifier, through its own processor and chat template."""

from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from imagecot.contracts.questions import POTENTIAL, REFLECTION, Question
from imagecot.contracts.reflection import Reflection
from imagecot.contracts.verifier import Conversation, Usage
from imagecot.errors import ImagecotError, UsageError
from imagecot.foreign import NO_LENGTH, foreign
from imagecot.verifiers.chat import ANSWER_TOKENS, check_room, refuse_marks
from imagecot.verifiers.wording import Habits

_ROWS = 8  # images of one forward pass


class AnyVlm:
    """A verifier around a model of `AutoModelForImageTextToText` and its processor.

    P(yes) is the softmax over two logits at the last position: log-sum-exp over the spellings "yes" and "Yes",
    with and without a blank before them (some chats end in "Assistant:"), and the same for no; a spelling that
    is no single token does not take part. Keys and values are not kept, a follow-up reads all again: conversations have
    in `own` the images (B, 3, H, W) and the place (B,) of each one's prompt among those in `shared`.

    habits  how it asks in its own words and likes to be searched with
    """

    def __init__(self, model: Any, processor: Any, habits: Habits | None = None) -> None:
        self.model, self.processor, self.habits = model.eval(), processor, habits or Habits()
        self.usage = Usage()
        tokenizer = processor.tokenizer
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
        self._marks = [str(t) for t in tokenizer.added_tokens_decoder.values() if t.special]
        self._words = [self._spellings(word) for word in ("yes", "no")]
        # Without it a model computes the logits of every position, over its whole vocabulary.
        self._last = {"logits_to_keep": 1} if "logits_to_keep" in signature(model.forward).parameters else {}

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    @property
    def settings(self) -> dict[str, Any]:
        """The number format, and the wording where that is not the paper's."""
        return self.habits.settings(str(self.model.dtype).removeprefix("torch."))

    @property
    def advice(self) -> Mapping[str, Mapping[str, Any]]:
        """The settings that it likes to be searched with, by the names of searches."""
        return self.habits.advice

    def check_prompt(self, prompt: str) -> None:
        """Raise UsageError for a prompt with a mark of the chat in it, or too long for a question about it."""
        self._laid_out(torch.full((1, 3, 64, 64), 0.5), [prompt], POTENTIAL)

    def ask(self, images: Tensor, prompts: list[str], question: Question, after: Conversation | None = None) -> Tensor:
        """Return P(yes) (B,) float32.

        images   (B, 3, H, W) float in [0, 1], any size; not looked at when `after` is given
        prompts  one for each image, or one for all; not looked at when `after` is given
        after    the conversation that a follow-up continues, which is read again

        UsageError for an image batch or prompts of the wrong shape, or a conversation that does not fit.
        """
        question = self.habits.said(question)
        if after is not None:
            if question.follows != after.question:
                raise UsageError(f"{question.name} is no follow-up of {after.question.name}; ask it without `after`.")
            images, place = after.own
            prompts = [after.shared[i] for i in place.tolist()]
        prompts = self._checked(images, prompts)
        parts = [
            self._ask(images[i : i + _ROWS], prompts[i : i + _ROWS], question) for i in range(0, len(images), _ROWS)
        ]
        return torch.cat(parts) if parts else torch.empty(0)

    def _checked(self, images: Tensor, prompts: list[str]) -> list[str]:
        """Return a prompt for each image; UsageError where the shapes do not go together."""
        if images.ndim != 4 or images.shape[1] != 3 or len(prompts) not in (1, len(images)):
            raise UsageError(
                f"a verifier takes images (B, 3, H, W) and B prompts or one, got {tuple(images.shape)} "
                f"and {len(prompts)} prompts."
            )
        return prompts if len(prompts) == len(images) else prompts * len(images)

    def begin(self, images: Tensor, prompts: list[str], question: Question) -> tuple[Tensor, Conversation]:
        """Like `ask`, and return the conversations too, for follow-up questions to the same images."""
        answers = self.ask(images, prompts, question)
        place = torch.arange(len(images), device=images.device) % max(1, len(prompts))
        return answers, Conversation(self.habits.said(question), (images, place), list(prompts))

    @torch.no_grad()
    def reflect(self, images: Tensor, prompts: list[str]) -> list[Reflection]:
        """As `LlavaOnevisionVerifier.reflect`; images one at a time, each answer ending by itself."""
        found = []
        for image, prompt in zip(images, self._checked(images, prompts), strict=True):
            inputs = self._inputs(image[None], [prompt], REFLECTION)
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
            text = self.processor.tokenizer.decode(written, skip_special_tokens=True)
            self.usage += Usage(tokens_judged=len(written))
            found.append(Reflection(text.strip(), float(self._p_yes(out.logits[0].float())), complete))
        return found

    def _p_yes(self, last: Tensor) -> Tensor:
        logits = [last[:, words].logsumexp(1) for words in self._words]
        return torch.sigmoid(logits[0] - logits[1]).cpu()

    @torch.no_grad()
    def _ask(self, images: Tensor, prompts: list[str], question: Question) -> Tensor:
        inputs = self._inputs(images, prompts, question)
        return self._p_yes(self.model(**inputs, **self._last, use_cache=False).logits[:, -1].float())

    def _inputs(self, images: Tensor, prompts: list[str], question: Question) -> Any:
        """Lay out a request and count it."""
        inputs = self._laid_out(images, prompts, question).to(self.device, self.model.dtype)
        self.usage += Usage(judge_calls=len(prompts), tokens_judged=int(inputs["attention_mask"].sum()))
        return inputs

    def _laid_out(self, images: Tensor, prompts: list[str], question: Question) -> Any:
        question = self.habits.said(question)
        levels = (images.float() * 255).round().clamp(0, 255).to("cpu", torch.uint8).permute(0, 2, 3, 1).numpy()
        pictures = [Image.fromarray(picture) for picture in levels]
        inputs: Any = self.processor.apply_chat_template(
            [self._chat(question, prompt, picture) for prompt, picture in zip(prompts, pictures, strict=True)],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True, "padding_side": "left"},
        )
        answer = ANSWER_TOKENS if question.name == REFLECTION.name else 0
        check_room(int(inputs["attention_mask"].sum(1).max()) + answer, self.model.config.get_text_config())
        return inputs

    def _chat(self, question: Question, prompt: str, picture: Image.Image) -> list[dict[str, Any]]:
        """Return the messages of a question; one that follows another stands behind that one's yes."""
        refuse_marks(prompt, self._marks)
        text = {"type": "text", "text": question.about(prompt).strip()}
        if question.follows is None:
            return [{"role": "user", "content": [{"type": "image", "image": picture}, text]}]
        yes = {"role": "assistant", "content": [{"type": "text", "text": "yes"}]}
        return [*self._chat(question.follows, prompt, picture), yes, {"role": "user", "content": [text]}]

    def _spellings(self, word: str) -> list[int]:
        spellings = [blank + spelling for blank in ("", " ") for spelling in (word, word.capitalize())]
        pieces = [self.processor.tokenizer(text, add_special_tokens=False).input_ids for text in spellings]
        single = sorted({piece[0] for piece in pieces if len(piece) == 1})
        if not single:
            raise ImagecotError(f"the verifier's tokenizer has no single token for {word!r}; use another tokenizer.")
        return single


def is_vlm(config: Mapping[str, Any]) -> bool:
    """Whether transformers has a model that answers in text to images for this config.json."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    kind = config.get("model_type")
    return isinstance(kind, str) and kind in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES


def load_processor(folder: Path) -> Any:
    """Load the processor of a checkpoint folder; ImagecotError where it is missing or has no chat template."""
    from transformers import AutoProcessor

    with foreign(f"the processor in {folder} cannot be read", "copy its files too"):
        processor = AutoProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    if getattr(processor, "tokenizer", None) is None or getattr(processor, "image_processor", None) is None:
        raise ImagecotError(f"the processor in {folder} does not read both text and images; copy its files too.")
    if not getattr(processor, "chat_template", None):
        raise ImagecotError(f"the processor in {folder} has no chat template; pass a model that was tuned for chat.")
    processor.tokenizer.model_max_length = NO_LENGTH
    return processor
