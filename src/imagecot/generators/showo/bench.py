"""The steps of a Show-o, taken apart for `imagecot benchmark`, and random weights of its sizes.

Halfway every path has other codes, and as many are masked as on average over the cosine schedule.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from imagecot.contracts import randomness
from imagecot.contracts.paths import UNDECIDED, Paths
from imagecot.contracts.randomness import path_seeds
from imagecot.generators.bench import Piece, as_it_was
from imagecot.generators.masked.decoding import first_of, most_masked
from imagecot.generators.masked.masks import mask_draws
from imagecot.generators.masked.schedules import get_schedule
from imagecot.generators.masked.step import decode_step, draw_by_inverse
from imagecot.generators.showo.config import MagvitV2Config, ShowoConfig
from imagecot.generators.showo.generator import ShowoGenerator
from imagecot.generators.showo.magvitv2 import MagvitV2
from imagecot.generators.showo.model import Showo
from imagecot.generators.showo.plain import plain_decode
from imagecot.generators.showo.prefix import encode_prefixes, image_states
from imagecot.generators.showo.prompting import Prompting
from imagecot.hub import CHECKPOINTS
from imagecot.precision import loaded_as, quantize

MASKED_SHARE = 2 / math.pi  # the mean of the cosine schedule
CONFIGS = {
    "tiny": ShowoConfig(
        codebook_size=4096,
        num_vq_tokens=64,
        llm_vocab_size=418,
        max_text_len=48,
        hidden_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=1024,
        max_position_embeddings=512,
    ),
    "mid": ShowoConfig(hidden_size=512, intermediate_size=2048, num_hidden_layers=8, num_attention_heads=8),
    "full": ShowoConfig(),
}
_TINY_IMAGES = MagvitV2Config(
    channels=64,
    encoder_mult=(1, 2),
    decoder_mult=(1, 2),
    encoder_blocks=(1, 1),
    decoder_blocks=(1, 2),
    code_bits=12,
    image_size=64,
    patch_size=4,
)


def random_generator(name: str, precision: str = "float32") -> ShowoGenerator:
    """Return a generator of random weights of a size in CONFIGS; it reads the prompts of the drawn world."""
    config = CONFIGS[name]
    torch.manual_seed(0)
    images = _TINY_IMAGES if config.codebook_size == _TINY_IMAGES.codebook_size else MagvitV2Config()
    model = Showo(config).to(loaded_as(precision, torch.device("cpu"))).eval()
    if precision == "int8":
        model.showo.model.layers = quantize(model.showo.model.layers)
    prompting = Prompting.from_pretrained(CHECKPOINTS / "tiny", config)
    return ShowoGenerator(model, MagvitV2(images).eval(), prompting, precision=precision)


@dataclass(frozen=True, eq=False)
class ShowoBench:
    """What `imagecot.generators.bench.Bench` asks for, of a Show-o."""

    generator: ShowoGenerator

    @property
    def weights(self) -> nn.Module:
        """The transformer."""
        return self.generator.model

    def halfway(self, batch: int, prompt: str) -> Paths:
        """Return paths in the middle of an image of the model's own size."""
        return self._with_codes(batch, prompt, self.generator.model.config.num_vq_tokens)

    def longer(self, prompt: str) -> Sequence[Paths]:
        """Return single paths in the middle of images of one, two and four times as many codes."""
        tokens = self.generator.model.config.num_vq_tokens
        return [self._with_codes(1, prompt, k * tokens) for k in (1, 2, 4)]

    def _with_codes(self, batch: int, prompt: str, tokens: int) -> Paths:
        paths = self.generator.start([prompt], path_seeds(0, batch))
        shape, random = (batch, tokens), torch.Generator().manual_seed(0)
        codes = torch.randint(self.generator.model.config.codebook_size, shape, generator=random)
        generator = self.generator
        step = generator.steps // 2
        most = most_masked(get_schedule(generator.schedule), step, generator.steps, tokens)
        masked = torch.rand(shape, generator=random).argsort(1) < min(round(tokens * MASKED_SHARE), most)
        codes = codes.masked_fill(masked, UNDECIDED).to(paths.codes.device)
        return replace(paths, codes=codes, own=None, step=step)

    def tokens(self, paths: Paths) -> tuple[int, int]:
        """Return the codes of an image, and the ids of its prompt without padding."""
        return paths.codes.shape[1], len(paths.shared.prefixes[0].keys[0])

    def flop(self, paths: Paths) -> float:
        """Return the operations of one step of distinct paths."""
        config, started = self.generator.model.config, paths.shared
        d, layers = config.hidden_size, config.num_hidden_layers
        tokens = paths.codes.shape[1] + 2
        masked = float((paths.codes == UNDECIDED).sum()) / len(paths)
        feed_forward = 2 * d * config.intermediate_size
        every_column = [tokens + len(prefix.keys[0]) for prefix in [started.prefixes[0], *(started.against or [])[:1]]]
        total = 0.0
        if layers > 1:
            # The first layer works out equal tokens once, those of the guided and of the unguided row together.
            distinct = (len(paths.codes.unique()) + 2) / len(paths)
            total += 2 * distinct * (3 * d * d + feed_forward)
            total += sum(2 * tokens * d * d + 4 * tokens * columns * d for columns in every_column)
        for columns in every_column:
            for asked in [tokens] * (layers - 2) + [masked]:
                total += 2 * tokens * 2 * d * d + 2 * asked * (2 * d * d + feed_forward) + 4 * asked * columns * d
        return len(paths) * (total + 2 * masked * d * config.codebook_size)

    @torch.no_grad()
    def pieces(self, paths: Paths, prompt: str) -> Mapping[str, Piece]:
        """Return reading the prompt, and the layers, head and sampling of a step."""
        generator, started, batch = self.generator, paths.shared, len(paths)
        model, prompting = generator.model, generator.prompting
        ids = prompting.image_block(prompting.image_ids(paths.codes))
        unknown = paths.codes == UNDECIDED
        texts = [prompting.text_prefix(prompt), prompting.text_prefix("")]
        prefixes = [(started.prefixes[0], batch)]
        most = int(unknown.sum(1).max())
        places = first_of(unknown, most)
        rows, wanted = ids, places
        if started.against is not None:
            prefixes.append((started.against[0], batch))
            rows, wanted = torch.cat([ids, ids]), torch.cat([places, places])
        states = image_states(model, rows, prefixes, wanted)[:batch]
        logits = model.code_logits(states).float()

        def sample() -> object:
            shape = paths.codes.shape[1]
            uniform = randomness.uniforms(paths.seeds, paths.step, randomness.Stream.CODES, shape).gather(1, places)
            noise = randomness.uniforms(paths.seeds, paths.step, randomness.Stream.MASKING, shape)
            draw = partial(draw_by_inverse, uniform=uniform.flatten())
            return decode_step(logits, paths.codes, places, draw, noise, temperature=0.5, num_masked=shape // 2)

        head = 2.0 * batch * most * model.config.hidden_size * model.config.codebook_size
        return {
            "prefix": Piece(lambda: encode_prefixes(model, texts)),
            "trunk": Piece(lambda: image_states(model, rows, prefixes, wanted), self.flop(paths) - head),
            "head": Piece(lambda: model.code_logits(states).float(), head),
            "sampling": Piece(sample),
        }

    def plain(self, prompt: str, seed: int) -> Tensor:
        """Return the codes (N,) of a path, everything computed anew at every step."""
        return plain_decode(self.generator, prompt, seed)[-1]

    @contextmanager
    def training(self) -> Iterator[nn.Module]:
        """Give the transformer, whose attention is another one while it is trained."""
        model = self.generator.model
        before = model.showo.model.fused
        with as_it_was(model):
            yield self.generator.trainable()
        model.showo.model.fused = before

    def scored(self, prompt: str, codes: Tensor, seeds: Tensor) -> tuple[Piece, float]:
        """Return drawing masks and writing ids, and the operations of the forward pass of images under one mask."""
        prompting, config = self.generator.prompting, self.generator.model.config

        def masks() -> Tensor:
            return mask_draws(seeds, 1, config.num_vq_tokens).to(codes.device)

        def data() -> Tensor:
            return prompting.with_images([prompt] * len(codes), codes.masked_fill(masks()[:, 0], UNDECIDED))

        columns = data().shape[1]
        return Piece(data), len(codes) * forward_flop(config, columns, float(masks().sum()) / len(codes))


def forward_flop(config: ShowoConfig, columns: int, masked: float) -> float:
    """The floating-point operations of the products of one row of `columns` tokens with `masked` scored positions."""
    d = config.hidden_size
    layer = 2 * columns * (4 * d * d + 2 * d * config.intermediate_size) + 4 * columns * columns * d
    return config.num_hidden_layers * layer + 2 * masked * d * config.codebook_size
