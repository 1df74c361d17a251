"""The parts of a Janus' configuration, by their types."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from imagecot.generators.janus.lean import LeanConfig, TextConfig, VisionConfig
from imagecot.generators.janus.lean_vq import VqConfig

if TYPE_CHECKING:
    from transformers import JanusConfig, JanusVisionConfig, JanusVQVAEConfig, LlamaConfig


@dataclass(frozen=True)
class JanusParts:
    """What config.json says of the language model, of the eye, and of the image tokenizer."""

    text: "LlamaConfig | TextConfig"
    vision: "JanusVisionConfig | VisionConfig"
    vq: "JanusVQVAEConfig | VqConfig"

    @classmethod
    def of(cls, config: "JanusConfig | LeanConfig") -> Self:
        """The parts of a configuration whose language model is a Llama."""
        if isinstance(config, LeanConfig):
            return cls(config.text_config, config.vision_config, config.vq_config)
        from transformers import JanusVisionConfig, JanusVQVAEConfig, LlamaConfig

        text, vision, vq = config.text_config, config.vision_config, config.vq_config
        assert isinstance(text, LlamaConfig)  # as looked at before the weights are read
        assert isinstance(vision, JanusVisionConfig)
        assert isinstance(vq, JanusVQVAEConfig)
        return cls(text, vision, vq)

    @property
    def head_dim(self) -> int:
        """Channels of a head of the language model."""
        return self.text.head_dim or self.text.hidden_size // self.text.num_attention_heads

    @property
    def positions(self) -> int:
        """Codes of an image."""
        return self.vq.num_patches**2
