"""A verifier that is trained from scratch, with the head that reads off each patch what stands there."""

import copy
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import LlavaOnevisionForConditionalGeneration, PreTrainedTokenizerFast

from imagecot.files import write_folder
from imagecot.verifiers.chat import IMAGE_TOKEN
from imagecot.verifiers.vision import encode
from imagecot.worlds.drawn.training.answering import Read
from imagecot.worlds.drawn.training.eye import PATCH_LOGITS
from imagecot.worlds.drawn.training.packing import Packed, Packer, attention_mask, token_id
from imagecot.worlds.drawn.training.verifier_recipe import VerifierRecipe, config_of


class Student(nn.Module):
    """A LLaVA-OneVision, and a linear head on its image rows that is dropped when it is saved."""

    def __init__(self, model: LlavaOnevisionForConditionalGeneration, width: int) -> None:
        super().__init__()
        self.model = model
        self.patch_head = nn.Linear(width, PATCH_LOGITS)

    @property
    def head(self) -> nn.Module:
        """What maps states to logits over the vocabulary."""
        return self.model.lm_head

    def reader(self, packer: Packer, compiled: bool = False) -> Read:
        """How it reads texts of a packer."""
        states = torch.compile(hidden_states) if compiled else hidden_states

        def read(pixels: Tensor, packed: Packed) -> tuple[Tensor, Tensor]:
            mask = attention_mask(packed.block, packer.offset)
            found, image = states(self.model, pixels, packed.ids, packed.position, mask, packer.start)
            return found, self.patches(image)

        return read

    def see(self, pixels: Tensor) -> Tensor:
        """Logits (B, P, kinds + colours + 3) of what stands at the patches of pixels (B, 3, S, S) in [-1, 1]."""
        return self.patches(encode(self.model, pixels))

    def patches(self, rows: Tensor) -> Tensor:
        """Logits (B, P, kinds + colours + 3) of what stands at patches, from the image rows (B, P + 1, D)."""
        logits: Tensor = self.patch_head(rows[:, :-1])
        return logits


def new_student(recipe: VerifierRecipe, tokenizer: PreTrainedTokenizerFast) -> Student:
    """One of the recipe's sizes with random weights, the unused layer norm frozen."""
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    config = config_of(recipe, len(tokenizer), token_id(tokenizer, IMAGE_TOKEN), pad, end)
    model = LlavaOnevisionForConditionalGeneration(config)
    model.set_attn_implementation("eager")  # with a mask, twice as fast to train on a CPU as the fused kernel
    model.model.vision_tower.post_layernorm.requires_grad_(False)
    for layer in (model.model.multi_modal_projector.linear_1, model.model.multi_modal_projector.linear_2):
        nn.init.xavier_uniform_(layer.weight)  # the usual 0.02 would hide the picture from the language model
    return Student(model, recipe.text.hidden_size)


def hidden_states(
    model: LlavaOnevisionForConditionalGeneration,
    pixels: Tensor,
    ids: Tensor,
    position: Tensor,
    mask: Tensor,
    start: Tensor,
) -> tuple[Tensor, Tensor]:
    """Read texts behind pixels (B, 3, S, S) in [-1, 1]: their states (B, T, D), the image rows (B, R, D)."""
    language = model.model.language_model
    image = encode(model, pixels)
    prefix = language.embed_tokens(start).expand(len(ids), -1, -1)
    # In the type of the matrix products: sums of the residual stream are half the memory traffic.
    rows = torch.cat([prefix.to(image.dtype), image, language.embed_tokens(ids).to(image.dtype)], 1)
    offset = rows.shape[1] - ids.shape[1]
    before = torch.arange(offset, device=ids.device).expand(len(ids), -1)
    out = language(
        inputs_embeds=rows,
        attention_mask={"full_attention": mask},
        position_ids=torch.cat([before, position], 1),
        use_cache=False,
    )
    return out.last_hidden_state[:, offset:], image


def save(model: LlavaOnevisionForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a checkpoint in Hugging Face form, weights in float16."""
    model = copy.deepcopy(model).half()

    def write(partial: Path) -> None:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)

    write_folder(folder, write)
