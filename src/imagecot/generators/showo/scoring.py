"""The log-probability of given image codes under Show-o, with gradients: what preference alignment trains by."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from imagecot.contracts.correction import Asked, without_words
from imagecot.contracts.paths import UNDECIDED
from imagecot.generators.showo.model import Showo, omni_attention_mask
from imagecot.generators.showo.prompting import Prompting


class ShowoScores(nn.Module):
    """Log-probabilities of codes at masked positions; a module, so that accelerate can wrap it.

    Rows are `[padding, text | soi, image, eoi]` as in training from scratch, padded to the longest text of the batch.
    """

    def __init__(self, model: Showo, prompting: Prompting) -> None:
        super().__init__()
        self.model = model
        self.prompting = prompting
        if model.device.type == "cpu":
            # In bf16 on a CPU plain attention is a quarter faster than the fused kernel, whose backward pass is slow.
            model.showo.set_attn_implementation("eager")

    def forward(
        self,
        prompts: Sequence[Asked],
        codes: Tensor,
        masked: Tensor,
        wanted: Tensor | None = None,
        guidance: float = 0.0,
    ) -> Tensor:
        """Return log p(code | prompt, codes that are not masked) as float32 (R, N), 0 where nothing is wanted.

        prompts   R of them, with a correction each where an image was drawn again
        codes     (R, N) int64, complete
        masked    (R, N) bool, the positions that the model does not see
        wanted    (R, N) bool, those of them that are scored; all by default
        guidance  the scale of the classifier-free guidance under which the codes were drawn; 0 is none
        """
        wanted = masked if wanted is None else wanted
        seen = codes.masked_fill(masked, UNDECIDED)
        if guidance:
            states = self._states([*prompts, *map(without_words, prompts)], torch.cat([seen, seen]))
            conditional, unconditional = (part[wanted] for part in states.chunk(2))
            hidden = (1 + guidance) * conditional - guidance * unconditional
        else:
            hidden = self._states(prompts, seen)[wanted]
        scores = -F.cross_entropy(self.model.code_logits(hidden).float(), codes[wanted], reduction="none")
        return torch.zeros(codes.shape, device=codes.device).masked_scatter(wanted, scores)

    def _states(self, prompts: Sequence[Asked], codes: Tensor) -> Tensor:
        """Normalised states (R, N, D) at the image positions of codes (R, N), UNDECIDED where they are hidden."""
        ids = self.prompting.with_images(prompts, codes)
        allowed = omni_attention_mask(ids, self.prompting.pad_id, self.prompting.soi_id, self.prompting.eoi_id)
        device = codes.device.type
        # A residual stream in autocast's type saves its casts before every layer: a sixth of the time of a step.
        mixed = torch.is_autocast_enabled(device)
        kind = torch.get_autocast_dtype(device) if mixed else self.model.dtype
        states = self.model.showo.model(
            inputs_embeds=self.model.showo.model.embed_tokens(ids).to(kind),
            attention_mask=torch.zeros(allowed.shape, dtype=kind, device=codes.device).masked_fill(~allowed, -1e4),
            use_cache=False,
        ).last_hidden_state
        return states[:, -codes.shape[1] - 1 : -1]
