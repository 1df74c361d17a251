"""Scores without a question as verifiers: how well an image fits its prompt, by CLIP, PickScore or SigLIP.

The score of an image and a prompt is the model's logit: scale x cosine, and of a SigLIP a bias. P(yes) is the logistic
function of the logit less a middle. So the better image has the higher P(yes), whatever the middle is, and odds of two
images are in the ratio that the model itself gives them: it was trained on softmaxes of these logits. At which logit
P(yes) should be one half, a CLIP does not say. It is a convention here: that of a cosine of 1/4, unless a middle is
given. A SigLIP was trained with the logistic loss, so P(yes) is its own and the middle 0.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor
from transformers import CLIPModel, SiglipModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from imagecot.checkpoint import read_config
from imagecot.contracts.questions import ORM, PRM, Question
from imagecot.contracts.values import JSON
from imagecot.contracts.verifier import Conversation, Usage
from imagecot.errors import ImagecotError, UsageError
from imagecot.foreign import foreign, load_tokenizer
from imagecot.geneval.clip import encoded_texts, image_vectors, text_vectors
from imagecot.geneval.clip_colors import load_complete
from imagecot.hub import PREPROCESSOR, TEXT
from imagecot.images import to_pictures
from imagecot.precision import Device, Dtype, as_device, loaded_as, quantize
from imagecot.verifiers.answers import prompts_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Model: TypeAlias = CLIPModel | SiglipModel
Processor: TypeAlias = CLIPImageProcessorPil | SiglipImageProcessorPil

MIDDLE = 0.25  # the cosine at which P(yes) of a CLIP is one half, if nothing else is said
_ROWS = 32  # images of one forward pass
_MOST_TEXTS = 4096  # prompts whose vectors are kept
_PROBE = "a photo of a cat"
_KINDS: dict[str, tuple[type[Model], type[Processor]]] = {
    "clip": (CLIPModel, CLIPImageProcessorPil),
    "siglip": (SiglipModel, SiglipImageProcessorPil),
}


@dataclass(frozen=True)
class Parts:
    """A model, and what prepares texts and images for it."""

    model: Model
    tokenizer: "PreTrainedTokenizerBase"
    processor: Processor


@dataclass(frozen=True)
class _Text:
    """A prompt's unit vector (D,) float32, and how many tokens it is."""

    vector: Tensor
    tokens: int


class Score:
    """The score of a CLIP or SigLIP as a verifier.

    name       for messages
    middle     the logit at which P(yes) is one half; by default a cosine of MIDDLE, of a SigLIP 0
    precision  the name of the number format, where it is not that of the weights

    It answers the ORM question and, about previews, the PRM question, both by the score: the wording is not read. There
    is no answer about clarity or potential, and there are no reasons. A prompt is encoded once.
    """

    def __init__(
        self, parts: Parts, *, name: str = "the score", middle: float | None = None, precision: str | None = None
    ) -> None:
        model = parts.model.eval()
        self.model, self.tokenizer, self.processor = model, parts.tokenizer, parts.processor
        self.name, self.usage = name, Usage()
        self.precision = precision or str(model.dtype).removeprefix("torch.")
        scale = float(model.logit_scale.detach().float().exp())
        usual = 0.0 if isinstance(model, SiglipModel) else float(f"{MIDDLE * scale:.6g}")
        self.middle = usual if middle is None else middle
        vision = model.config.vision_config
        self._patches = (vision.image_size // vision.patch_size) ** 2
        self._most: int = model.config.text_config.max_position_embeddings
        self._texts: dict[str, _Text] = {}

    @property
    def settings(self) -> Mapping[str, JSON]:
        """The number format, and the middle."""
        return {"precision": self.precision, "middle": self.middle}

    def check_prompt(self, prompt: str) -> None:
        """Raise UsageError for a prompt of more tokens than the model reads; nothing is ever cut off."""
        count = len(self.tokenizer(prompt).input_ids)
        if count > self._most:
            raise UsageError(
                f"the prompt has {count} tokens, and {self.name} reads {self._most} at most; shorten it, or judge with "
                "a verifier that reads more."
            )

    def check_question(self, question: Question) -> None:
        """Raise UsageError for all but the ORM and the PRM question."""
        if question not in (ORM, PRM):
            raise UsageError(
                f"{self.name} scores how well an image fits its prompt and cannot answer the {question.name} question; "
                "name a verifier that can, or search with best-of-n."
            )

    def ask(self, images: Tensor, prompts: list[str], question: Question, after: Conversation | None = None) -> Tensor:
        """P(yes) (B,) float64, on the CPU: the logistic function of `logits` less the middle.

        images   (B, 3, H, W) in [0, 1]
        prompts  one for each image, or one for all

        UsageError for a question that is no score, a prompt that is too long, and any follow-up.
        """
        self.check_question(question)
        if after is not None:
            raise UsageError(f"{question.name} is no follow-up of {after.question.name}; ask it without `after`.")
        return torch.sigmoid(self.logits(images, prompts).double() - self.middle)

    def begin(self, images: Tensor, prompts: list[str], question: Question) -> tuple[Tensor, Conversation]:
        """Like `ask`; the conversations hold nothing, since no question follows."""
        return self.ask(images, prompts, question), Conversation(question)

    def logits(self, images: Tensor, prompts: list[str]) -> Tensor:
        """The scores (B,) float32, as transformers' `logits_per_image` has them, on the CPU; as of `ask`."""
        prompts = prompts_of(images, prompts)
        if not len(images):
            return torch.empty(0)
        texts = self._read(prompts)
        vectors = torch.cat([image_vectors(self.model, self._pixels(part)) for part in images.split(_ROWS)])
        # In float32 whatever the weights are: two images of a prompt often differ in the third digit.
        cosine = (vectors * torch.stack([text.vector for text in texts])).sum(1)
        read = sum(text.tokens for text in texts)  # told for each answer, whether or not the prompt was met before
        self.usage += Usage(judge_calls=len(images), tokens_judged=read + len(images) * self._patches)
        return self._scaled(cosine).cpu()

    @torch.no_grad()
    def _scaled(self, cosine: Tensor) -> Tensor:
        """The logits (B,) float32 of cosines."""
        scaled = self.model.logit_scale.float().exp() * cosine
        return scaled + self.model.logit_bias.float() if isinstance(self.model, SiglipModel) else scaled

    def _pixels(self, images: Tensor) -> Tensor:
        prepared = self.processor(images=to_pictures(images.float()), return_tensors="pt")
        pixels: Tensor = prepared["pixel_values"]
        return pixels

    def _read(self, prompts: list[str]) -> list[_Text]:
        """The prompts as vectors, encoded where they are new."""
        known = {prompt: self._texts[prompt] for prompt in prompts if prompt in self._texts}
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in known]
        for first in range(0, len(new), _ROWS):
            known |= self._encoded(new[first : first + _ROWS])
        if len(self._texts) + len(new) > _MOST_TEXTS:
            self._texts.clear()
        self._texts |= {prompt: known[prompt] for prompt in new}
        return [known[prompt] for prompt in prompts]

    def _encoded(self, prompts: list[str]) -> dict[str, _Text]:
        for prompt in prompts:
            self.check_prompt(prompt)
        counts = [len(self.tokenizer(prompt).input_ids) for prompt in prompts]
        if isinstance(self.model, SiglipModel):  # trained on texts of one length, without a mask
            tokens = self.tokenizer(prompts, padding="max_length", max_length=self._most, return_tensors="pt")
            vectors = encoded_texts(self.model, {"input_ids": tokens.input_ids.to(self.model.device)})
        else:
            vectors = text_vectors(self.model, self.tokenizer, prompts, self.name)
        return {prompt: _Text(vectors[k], counts[k]) for k, prompt in enumerate(prompts)}


def load_score(folder: Path, device: Device, dtype: Dtype, *, name: str, middle: float | None = None) -> Score:
    """Load the score of a CLIP or SigLIP, which its config.json says it is.

    dtype  by default float16 on a GPU, float32 on the CPU

    UsageError for a device or type that is not there; ImagecotError where the checkpoint cannot be read, or its files
    do not belong together.
    """
    device = as_device(device)
    number_format = torch.float16 if dtype is None and device.type == "cuda" else loaded_as(dtype, device)
    kind, prepares = _KINDS[str(read_config(folder)["model_type"])]
    if not (folder / PREPROCESSOR).is_file():
        raise ImagecotError(f"{folder} has no {PREPROCESSOR}, which says how images are prepared; copy it too.")
    if not any((folder / name).is_file() for name in (*TEXT, "spiece.model")):
        raise ImagecotError(f"{folder} has no tokenizer, such as {TEXT[0]}; copy its files too.")
    tokenizer = load_tokenizer(folder)
    model: Model = load_complete(kind, folder)
    model = torch.nn.Module.to(model, device, number_format)
    if dtype == "int8":
        model = quantize(model)
    together = "see that its files belong together"
    with foreign(f"{folder / PREPROCESSOR} cannot be read", together):
        processor = prepares.from_pretrained(folder, local_files_only=True)
    with foreign(f"{folder} cannot score an image", together):
        found = Score(
            Parts(model, tokenizer, processor),
            name=name,
            middle=middle,
            precision="int8" if dtype == "int8" else None,
        )
        score = found.logits(torch.full((1, 3, 64, 64), 0.5), [_PROBE])
        if not bool(torch.isfinite(score).all()):
            raise ValueError("its scores are no numbers")
    found.usage = Usage()
    return found
