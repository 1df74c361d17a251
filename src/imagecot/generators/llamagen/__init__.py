"""LlamaGen, text to image: the transformer, its image tokenizer VQ-16, text features, and released weights."""

from imagecot.generators.llamagen.config import LlamaGenConfig, VQ16Config
from imagecot.generators.llamagen.conversion import convert
from imagecot.generators.llamagen.generator import LlamaGenGenerator
from imagecot.generators.llamagen.model import LlamaGen
from imagecot.generators.llamagen.vq16 import VQ16

__all__ = ["VQ16", "LlamaGen", "LlamaGenConfig", "LlamaGenGenerator", "VQ16Config", "convert"]
