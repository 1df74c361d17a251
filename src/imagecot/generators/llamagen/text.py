"""Prompts as LlamaGen reads them: the features of a T5 encoder, one row a token."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase, T5EncoderModel

from imagecot.checkpoint import AGAIN, CONFIG, is_file, read_config
from imagecot.errors import ImagecotError, UsageError
from imagecot.files import write_folder
from imagecot.foreign import first, foreign, load_model, load_tokenizer
from imagecot.generators.llamagen.captions import clean
from imagecot.generators.llamagen.config import LlamaGenConfig
from imagecot.weights import save_checkpoint

FILES = ("*.json", "*.safetensors", "merges.txt")  # wanted of a repository: weights, and what reads text
_KEPT = 4096  # prompts whose features are kept
_TOKENIZERS = ("tokenizer.json", "spiece.model")
_TIED = "encoder.embed_tokens.weight"  # another name of `shared.weight`
_OF_DECODER = ("decoder.", "lm_head.")  # what a whole T5 has beside its encoder


@dataclass(frozen=True, eq=False)
class TextEncoder:
    """T5 with its tokenizer; the features of a prompt are computed once.

    max_tokens  of a prompt, the end of the text included
    """

    model: T5EncoderModel
    tokenizer: PreTrainedTokenizerBase
    max_tokens: int
    _known: OrderedDict[str, Tensor] = field(default_factory=OrderedDict, init=False, repr=False)

    @torch.no_grad()
    def __call__(self, prompt: str) -> Tensor:
        """Return the features (n, caption_dim) of a prompt of n tokens, on the encoder's device.

        A prompt is read alone and without padding, so that its features do not depend on others.
        """
        caption = clean(prompt)
        if caption not in self._known:
            ids = torch.tensor([self._ids(caption)[: self.max_tokens]], device=self.model.device)
            self._known[caption] = self.model(input_ids=ids).last_hidden_state[0]
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)
        return self._known[caption]

    def _ids(self, caption: str) -> list[int]:
        ids: list[int] = self.tokenizer(caption, add_special_tokens=True)["input_ids"]
        return ids

    def check(self, prompt: str) -> None:
        """Raise UsageError for a prompt that is too long, or of which cleaning leaves nothing."""
        caption = clean(prompt)
        if not caption:
            raise UsageError(
                f"of the prompt {prompt[:60]!r} nothing is left after the cleaning that LlamaGen was trained with; "
                "write it in plain words."
            )
        length = len(self._ids(caption))
        if length > self.max_tokens:
            raise UsageError(
                f"the prompt has {length} tokens but this generator reads at most {self.max_tokens}; shorten it."
            )

    @classmethod
    def from_pretrained(
        cls, folder: Path, config: LlamaGenConfig, *, device: torch.device | None = None, dtype: torch.dtype
    ) -> Self:
        """Load the encoder of a T5 and its tokenizer; ImagecotError where they cannot be read or do not fit."""
        values = read_config(folder)
        if values.get("model_type") != "t5" or values.get("d_model") != config.caption_dim:
            raise ImagecotError(
                f"{folder / CONFIG} is of no T5 whose features have {config.caption_dim} numbers (d_model), which this "
                "LlamaGen reads; set text_encoder in its config.json to the one it was trained with."
            )
        if not any(is_file(folder / name) for name in _TOKENIZERS):  # transformers makes up an empty one
            raise ImagecotError(f"{folder} holds no tokenizer ({' or '.join(_TOKENIZERS)}); {AGAIN}.")
        model, report = load_model(T5EncoderModel, folder, dtype)
        unknown = {name for name in report.unexpected if not name.startswith(_OF_DECODER)}
        for what, names in (("lack", report.missing), ("misfit", report.mismatched), ("have unknown", unknown)):
            if names:
                raise ImagecotError(
                    f"the weights in {folder} do not fit its config.json: they {what} {len(names)} tensor(s), such as "
                    f"{first(names)}."
                )
        assert isinstance(model, T5EncoderModel)
        model = model.requires_grad_(False).eval().to(device)
        found = cls(model, load_tokenizer(folder), config.cls_token_num)
        with foreign(f"the text encoder in {folder} cannot read text"):
            found("a cat")
        return found

    def save_pretrained(self, folder: Path) -> None:
        """Write encoder and tokenizer into a folder."""
        state = {name: tensor for name, tensor in self.model.state_dict().items() if name != _TIED}
        save_checkpoint(folder, self.model.config.to_dict(), state)
        write_folder(folder, self.tokenizer.save_pretrained)


def left_padded(texts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return features (R, T, caption_dim) and their mask (R, T) bool of texts (n, caption_dim), T the most of n."""
    most = max(len(text) for text in texts)
    features = texts[0].new_zeros(len(texts), most, texts[0].shape[1])
    mask = torch.zeros(len(texts), most, dtype=torch.bool, device=features.device)
    for row, text in enumerate(texts):
        features[row, most - len(text) :] = text
        mask[row, most - len(text) :] = True
    return features, mask
