"""Show-o: the transformer, its image tokenizer MAGVIT-v2, prompts and masked decoding."""

from imagecot.generators.showo.config import MagvitV2Config, ShowoConfig
from imagecot.generators.showo.generator import ShowoGenerator
from imagecot.generators.showo.magvitv2 import MagvitV2
from imagecot.generators.showo.model import Showo, omni_attention_mask
from imagecot.generators.showo.prompting import Prompting

__all__ = [
    "MagvitV2",
    "MagvitV2Config",
    "Prompting",
    "Showo",
    "ShowoConfig",
    "ShowoGenerator",
    "omni_attention_mask",
]
