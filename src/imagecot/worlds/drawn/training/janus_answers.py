"""What a Janus that is trained from scratch learns of understanding: descriptions and answers about pictures.

The layout is the one in which `verifiers/janus.py` asks: the user's turn begins with the image between its marks. The
texts of a picture stand behind it as blocks that do not see each other (`packing.py`).
"""

import torch
from torch import Tensor, nn
from transformers import JanusForConditionalGeneration, PreTrainedTokenizerFast

from imagecot.contracts.questions import ORM
from imagecot.worlds.drawn.training.answering import Read
from imagecot.worlds.drawn.training.eye import PATCH_LOGITS
from imagecot.worlds.drawn.training.janus_text import ASK, BOS, DESCRIBE, EOS, IMAGE_END, IMAGE_START, USER
from imagecot.worlds.drawn.training.packing import Packed, Packer, Wording, attention_mask, token_id

JANUS = Wording(
    start=f"{BOS}{USER}: {IMAGE_START}",
    describe=f"\n{DESCRIBE}{ASK}",
    ask=lambda prompt: f"\n{ORM.about(prompt).strip()}{ASK}",
    before=" ",
    end=EOS,
)


def janus_packer(tokenizer: PreTrainedTokenizerFast, length: int, patches: int) -> Packer:
    """What packs texts of `length` tokens behind pictures of so many patches, and the mark that ends a picture."""
    return Packer(tokenizer, length, patches + 1, JANUS)


class JanusStudent(nn.Module):
    """A Janus that is trained from scratch, and a linear head on its image rows that is dropped when it is saved."""

    def __init__(self, model: JanusForConditionalGeneration) -> None:
        super().__init__()
        self.model = model
        self.patch_head = nn.Linear(model.lm_head.in_features, PATCH_LOGITS)

    @property
    def head(self) -> nn.Module:
        """What maps states to logits over the vocabulary."""
        return self.model.lm_head

    def see(self, pixels: Tensor) -> Tensor:
        """Logits (B, P, kinds + colours + 3) of what stands at the patches of pixels (B, 3, S, S) in [-1, 1]."""
        logits: Tensor = self.patch_head(image_rows(self.model, pixels))
        return logits

    def reader(self, packer: Packer) -> Read:
        """How it reads texts of a packer. Compiled, the eye would get gradients that are no numbers."""
        around = torch.cat([packer.start, torch.tensor([[token_id(packer.tokenizer, IMAGE_END)]])], 1)

        def read(pixels: Tensor, packed: Packed) -> tuple[Tensor, Tensor]:
            mask = attention_mask(packed.block, packer.offset)
            found, image = hidden_states(self.model, pixels, packed.ids, packed.position, mask, around)
            return found, self.patch_head(image)

        return read


def image_rows(model: JanusForConditionalGeneration, pixels: Tensor) -> Tensor:
    """Turn pixels (B, 3, S, S) in [-1, 1] into rows (B, (S / patch)², D) of the language model."""
    tower = model.model.vision_model
    rows: Tensor = model.model.aligner(tower.post_layernorm(tower.encoder(tower.embeddings(pixels)).last_hidden_state))
    return rows


def hidden_states(
    model: JanusForConditionalGeneration, pixels: Tensor, ids: Tensor, position: Tensor, mask: Tensor, around: Tensor
) -> tuple[Tensor, Tensor]:
    """Read texts behind pixels (B, 3, S, S) in [-1, 1]: their states (B, T, D), the image rows (B, R, D).

    around  ids (1, S) of the start, and of the mark that ends the picture
    """
    language = model.model.language_model
    image = image_rows(model, pixels)
    # In the type of the matrix products: sums of the residual stream are half the memory traffic.
    start, end = (
        language.embed_tokens(around).to(image.dtype).expand(len(ids), -1, -1).split([around.shape[1] - 1, 1], 1)
    )
    rows = torch.cat([start, image, end, language.embed_tokens(ids).to(image.dtype)], 1)
    offset = rows.shape[1] - ids.shape[1]
    before = torch.arange(offset, device=ids.device).expand(len(ids), -1)
    out = language(
        inputs_embeds=rows,
        # The least float32 would be minus infinity in bfloat16.
        attention_mask=mask.clamp(min=torch.finfo(rows.dtype).min).to(rows.dtype),
        position_ids=torch.cat([before, position], 1),
        use_cache=False,
    )
    return out.last_hidden_state[:, offset:], image
