"""Janus and Janus-Pro as verifiers: their chat as their processor writes it, and their eye.

The image stands between two marks before the user's text. Of the model only the vision tower, its projection and the
language model take part; what draws is left alone.
"""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imagecot.contracts.devices import sent
from imagecot.contracts.questions import Question
from imagecot.errors import ImagecotError
from imagecot.foreign import NO_LENGTH, foreign
from imagecot.generators.janus.lean import AnyJanus, LeanJanus
from imagecot.plain_tokenizer import AnyTokenizer
from imagecot.verifiers.chat_verifier import ChatVerifier, Trainable
from imagecot.verifiers.janus_processor import AnyProcessor, PlainProcessor, read_processor
from imagecot.verifiers.vision import resize
from imagecot.verifiers.wording import Habits

if TYPE_CHECKING:
    from transformers import JanusProcessor

_BICUBIC = 3
# As transformers' processor begins a text where it is asked for it.
_SYSTEM = (
    "You are a helpful language and vision assistant. You are able to understand the visual content that the user "
    "provides, and assist the user with a variety of tasks using natural language.\n\n"
)
Message = Any  # transformers says that a turn is texts alone


class JanusChat:
    """The chat of a Janus: the text of its own template, and images as its own processor prepares them."""

    before = " "  # the template writes one before every answer
    trainable = Trainable(
        "vision_model",
        r".*vision_model.*\.(q_proj|k_proj|v_proj|projection_layer|fc1|fc2)",
        ("vqmodel", "generation_embeddings", "generation_aligner", "generation_head"),
    )

    def __init__(self, model: AnyJanus, processor: AnyProcessor) -> None:
        self._model, self._processor, self._tokenizer = model.eval(), processor, processor.tokenizer
        self.end = str(processor.tokenizer.special_tokens_map["eos_token"])
        self.placeholder = int(model.config.image_token_id)

    @cached_property
    def start(self) -> list[int]:
        """The beginning of a text, the system prompt where there is one, and the user's mark."""
        system = _SYSTEM if self._processor.use_default_system_prompt else ""
        ids: list[int] = self._tokenizer(system + self._parts([_said("user", "a", image=True)])[0]).input_ids
        return ids

    @cached_property
    def image(self) -> list[int]:
        """The rows of an image between its marks."""
        begin, end = (
            _id(self._tokenizer, token)
            for token in (self._processor.image_start_token, self._processor.image_end_token)
        )
        return [begin, *[self.placeholder] * self._processor.num_image_tokens, end]

    def asked(self, question: Question, prompt: str) -> str:
        """All that stands behind the image when a question is asked from scratch."""
        return self._parts(_conversation(question, prompt))[1]

    def followed(self, question: Question) -> str:
        """The yes to the question before, and a question."""
        if question.follows is None:
            raise ValueError(f"{question.name} follows no question")
        before = self.asked(question.follows, "")
        return self.asked(question, "").removeprefix(before)

    def framed(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) in [0, 1]: the longer side resized to S, then padded to a square."""
        seeing = self._processor.image_processor
        height, width = images.shape[-2:]
        size = seeing.size["height"]
        if (height, width) == (size, size):
            return images
        scale = size / max(height, width)
        high, wide = (max(round(side * scale), seeing.min_size) for side in (height, width))
        images = resize(images, high, wide)
        if high == wide:
            return images
        side = max(high, wide)
        left, top = (side - wide) // 2, (side - high) // 2
        color = sent(torch.tensor(seeing.background_color, dtype=images.dtype), images.device) / 255
        inside = F.pad(torch.ones_like(images[:, :1]), around := (left, side - wide - left, top, side - high - top))
        return F.pad(images, around) + (1 - inside) * color[:, None, None]

    def rows(self, images: Tensor) -> Tensor:
        """The rows (B, R, D) of images (B, 3, H, W) in [0, 1]."""
        seeing, core = self._processor.image_processor, self._model.model
        images = self.framed(images.to(self._model.device, torch.float32))
        told = (torch.tensor(values, dtype=images.dtype) for values in (seeing.image_mean, seeing.image_std))
        mean, std = (sent(values, images.device)[:, None, None] for values in told)
        rows: Tensor = core.get_image_features(((images - mean) / std).to(self._model.dtype)).pooler_output
        return rows

    def save(self, folder: Path) -> None:
        """Write the tokenizer, the template of the chat, and how images are prepared."""
        if isinstance(self._processor, PlainProcessor):
            raise TypeError("a model that is only asked is not saved")  # see `trained`
        self._processor.save_pretrained(folder)

    def _parts(self, messages: list[Message]) -> tuple[str, str]:
        """What a chat says before its image, and behind it."""
        text = self._processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        before, *behind = str(text).split(self._processor.image_token)
        if len(behind) != 1:
            raise ValueError(f"the chat template makes {len(behind)} images of one")
        return before, behind[0]


def _id(tokenizer: AnyTokenizer, token: str) -> int:
    """The id of a token; ImagecotError where there is none."""
    found = tokenizer.convert_tokens_to_ids(token)
    if not isinstance(found, int):
        raise ImagecotError(f"the tokenizer has no {token}; copy it again.")
    return found


def _said(role: str, text: str, *, image: bool = False) -> Message:
    """A turn of a chat; its image stands before its text."""
    return {"role": role, "content": [*([{"type": "image"}] if image else []), {"type": "text", "text": text}]}


def _conversation(question: Question, prompt: str) -> list[Message]:
    """The turns of a question; one that follows another stands behind that one's yes."""
    text = question.about(prompt).strip()
    if question.follows is None:
        return [_said("user", text, image=True)]
    return [*_conversation(question.follows, prompt), _said("assistant", "yes"), _said("user", text)]


class JanusVerifier(ChatVerifier):
    """A verifier around a Janus, as transformers has it or as `LeanJanus`, and its processor."""

    def __init__(self, model: AnyJanus, processor: AnyProcessor, habits: Habits | None = None) -> None:
        super().__init__(model, processor.tokenizer, JanusChat(model, processor), habits)
        self.processor = processor


def trained(verifier: ChatVerifier, lean: LeanJanus) -> JanusVerifier:
    """The same verifier around a model of transformers, which can be trained and saved."""
    from transformers import JanusConfig, JanusForConditionalGeneration

    assert isinstance(verifier, JanusVerifier)  # as its model says
    model = JanusForConditionalGeneration(JanusConfig.from_dict(dict(lean.values)))
    model.load_state_dict(lean.state_dict())
    nn.Module.to(model, lean.device, lean.dtype)
    read = verifier.processor
    processor = _stock_processor(read.folder) if isinstance(read, PlainProcessor) else read
    return JanusVerifier(model, processor, verifier.habits)


def _stock_processor(folder: Path) -> "JanusProcessor":
    """The processor of a folder as transformers reads it; ImagecotError where it cannot be read."""
    with foreign(f"the processor in {folder} cannot be read", "copy the processor's and the tokenizer's files too"):
        from transformers import JanusProcessor

        processor = JanusProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    processor.tokenizer.model_max_length = NO_LENGTH
    return processor


def load_processor(folder: Path, model: AnyJanus) -> AnyProcessor:
    """Read the processor of a Janus; ImagecotError where it is missing or belongs to another model."""
    processor = read_processor(folder) or _stock_processor(folder)
    if not processor.chat_template:
        raise ImagecotError(f"the processor in {folder} has no chat template; copy chat_template.jinja too.")
    seeing, eye = processor.image_processor, model.model.vision_model.embeddings
    size, side = {seeing.size["height"], seeing.size["width"]}, int(eye.image_size)
    usual = (seeing.do_resize, seeing.do_pad, seeing.do_rescale, seeing.do_normalize, int(seeing.resample))
    if usual != (True, True, True, True, _BICUBIC):
        raise ImagecotError(f"the processor in {folder} prepares images otherwise than Janus does; copy it again.")
    marked = _id(processor.tokenizer, processor.image_token)
    for what, said, needed in (
        ("size", size, {side}),
        ("num_image_tokens", processor.num_image_tokens, int(eye.num_patches)),
        ("image_token", marked, model.config.image_token_id),
    ):
        if said != needed:
            raise ImagecotError(
                f"the processor in {folder} has the {what} {_plain(said)} but the model {_plain(needed)}; "
                "see that both are of one checkpoint."
            )
    return processor


def _plain(value: int | set[int]) -> str:
    return " x ".join(str(one) for one in sorted(value)) if isinstance(value, set) else str(value)
