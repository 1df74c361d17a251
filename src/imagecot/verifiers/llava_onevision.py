"""LLaVA-OneVision as a verifier: its chat, one view of the image, and checks of its configuration."""

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from imagecot.contracts.questions import Question
from imagecot.errors import ImagecotError
from imagecot.plain_tokenizer import AnyTokenizer, PlainTokenizer
from imagecot.verifiers.chat import ANSWERED_YES, CHAT_END, CHAT_START, IMAGE_TOKEN, conversation, turn
from imagecot.verifiers.chat_verifier import ChatVerifier, Trainable
from imagecot.verifiers.lean import Lean
from imagecot.verifiers.vision import encode, prepare
from imagecot.verifiers.wording import Habits

if TYPE_CHECKING:
    from transformers import LlavaOnevisionForConditionalGeneration

Llava: TypeAlias = "LlavaOnevisionForConditionalGeneration | Lean"


class LlavaChat:
    """The chat of LLaVA-OneVision: Qwen's marks, and one view of the image behind the system's turn."""

    before, end = "", CHAT_END
    trainable = Trainable(
        "vision_tower", r".*vision_tower.*\.(q_proj|k_proj|v_proj|out_proj|fc1|fc2)", ("post_layernorm",)
    )

    def __init__(self, model: Llava, tokenizer: AnyTokenizer) -> None:
        self._model, self._tokenizer = model.eval(), tokenizer
        self.start = list(tokenizer(CHAT_START, add_special_tokens=False).input_ids)
        self.placeholder = model.config.image_token_index

    @property
    def image(self) -> list[int]:
        """The rows of one view, and the newline."""
        vision = self._model.config.vision_config
        return [self.placeholder] * int((vision.image_size // vision.patch_size) ** 2 + 1)

    def asked(self, question: Question, prompt: str) -> str:
        """All that stands behind the image when a question is asked from scratch."""
        return conversation(question, prompt)

    def followed(self, question: Question) -> str:
        """The yes to the question before, and a question."""
        return ANSWERED_YES + turn(question, "")

    def framed(self, images: Tensor) -> Tensor:
        """Images (B, 3, S, S) in [0, 1], padded to a square and resized."""
        return (prepare(images, self._model.config.vision_config.image_size) + 1) / 2

    def rows(self, images: Tensor) -> Tensor:
        """The rows (B, R, D) of one view of images (B, 3, H, W) in [0, 1]."""
        size = self._model.config.vision_config.image_size
        pixels = prepare(images.to(self._model.device, torch.float32), size)
        return encode(self._model, pixels.to(self._model.dtype))

    def save(self, folder: Path) -> None:
        """Write the tokenizer."""
        if isinstance(self._tokenizer, PlainTokenizer):
            raise TypeError("a model that is only asked is not saved")  # see `imagecot.verifiers.loading.trained`
        self._tokenizer.save_pretrained(folder)


class LlavaOnevisionVerifier(ChatVerifier):
    """A verifier around a LLaVA-OneVision, as transformers has it or as `Lean`, and its tokenizer."""

    def __init__(
        self,
        model: Llava,
        tokenizer: AnyTokenizer,
        habits: Habits | None = None,
    ) -> None:
        super().__init__(model, tokenizer, LlavaChat(model, tokenizer), habits)


def check_image(model: Llava, tokenizer: AnyTokenizer) -> None:
    """Raise ImagecotError where image fields of config.json are wrong but the model would answer all the same."""
    image, marked = model.config.image_token_index, tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    text = image < len(tokenizer) and image != marked
    if text or image >= model.model.language_model.embed_tokens.num_embeddings:
        raise ImagecotError(
            f"image_token_index {image} in config.json is no id of the image; copy the checkpoint again."
        )
    layer, depth = model.model.config.vision_feature_layer, len(model.model.vision_tower.encoder.layers)
    if not isinstance(layer, int) or not -depth - 1 <= layer <= depth:
        raise ImagecotError(
            f"vision_feature_layer {layer} in config.json is none of {depth} layers; copy the checkpoint again."
        )
