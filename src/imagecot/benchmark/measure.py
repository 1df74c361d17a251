"""Seconds, rates and memory of one generator and its judge.

A step is timed in the middle of an image: every path has other codes, and as many are masked as on average over the
cosine schedule. What is compared is repeated in turns, so that all meet the same machine, and the median counts.
"""

import math
import platform
import resource
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.ao.nn.quantized import dynamic as quantized

from imagecot import interruption
from imagecot.benchmark.plain import plain_decode
from imagecot.benchmark.result import Growth, Machine, Part, Ratio, Result, Step
from imagecot.benchmark.timing import in_turns, matrix_rate, seconds
from imagecot.benchmark.training import training
from imagecot.contracts import randomness
from imagecot.contracts.paths import UNDECIDED, Paths, finish
from imagecot.contracts.questions import ORM
from imagecot.contracts.randomness import path_seeds
from imagecot.errors import UsageError
from imagecot.generators.masked.step import decode_step, draw_by_inverse
from imagecot.generators.showo import MagvitV2, MagvitV2Config, Prompting, Showo, ShowoConfig, ShowoGenerator
from imagecot.generators.showo.prefix import encode_prefixes, image_states
from imagecot.hub import CHECKPOINTS
from imagecot.precision import loaded_as, quantize
from imagecot.strategies.search import search

if TYPE_CHECKING:
    from imagecot.contracts.verifier import Verifier

PROMPT = "a photo of a red apple"
_PARTS = 7  # of a benchmark, whose progress is told
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


def random_generator(config: ShowoConfig, precision: str = "float32") -> ShowoGenerator:
    """Return a generator of random weights; it reads the prompts of the drawn world."""
    torch.manual_seed(0)
    images = _TINY_IMAGES if config.codebook_size == _TINY_IMAGES.codebook_size else MagvitV2Config()
    model = Showo(config).to(loaded_as(precision, torch.device("cpu"))).eval()
    if precision == "int8":
        model.showo.model.layers = quantize(model.showo.model.layers)
    prompting = Prompting.from_pretrained(CHECKPOINTS / "tiny", config)
    return ShowoGenerator(model, MagvitV2(images).eval(), prompting, precision=precision)


def halfway(generator: ShowoGenerator, batch: int, tokens: int | None = None, prompt: str = PROMPT) -> Paths:
    """Return paths in the middle of an image of `tokens` codes (of the model's own size by default)."""
    paths = generator.start([prompt], path_seeds(0, batch))
    config = generator.model.config
    shape = (batch, tokens or config.num_vq_tokens)
    random = torch.Generator().manual_seed(0)
    codes = torch.randint(config.codebook_size, shape, generator=random)
    masked = torch.rand(shape, generator=random).argsort(1) < round(shape[1] * MASKED_SHARE)
    codes = codes.masked_fill(masked, UNDECIDED).to(paths.codes.device)
    return replace(paths, codes=codes, own=codes, step=generator.steps // 2)


def step_flop(generator: ShowoGenerator, paths: Paths) -> float:
    """Return the floating-point operations of the products that one step of distinct paths needs."""
    config, started = generator.model.config, paths.shared
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


def measure(
    generator: ShowoGenerator,
    verifier: "Verifier | None",
    *,
    batches: Sequence[int] = (1, 2, 4, 8, 16, 32, 64),
    n: int = 20,
    repeats: int = 3,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Result:
    """Return all measurements; what is not asked for (a judge) is left out. The models are not named in it."""
    parts, tokens = count(), generator.model.config.num_vq_tokens
    device, largest = generator.model.device, max(batches)

    def begin() -> None:
        interruption.check()
        progress(next(parts), _PARTS)

    begin()
    rates = {name: matrix_rate(t, device) for name, t in (("float32", torch.float32), ("bfloat16", torch.bfloat16))}
    # int8 is measured against float32: dynamic quantization leaves everything between the products in it.
    rate = rates[str(generator.model.dtype).removeprefix("torch.")]
    begin()
    by_batch = [_step(generator, halfway(generator, batch), repeats, rate) for batch in batches]
    begin()
    by_tokens = [_step(generator, halfway(generator, 1, k * tokens), repeats, rate) for k in (1, 2, 4)]
    begin()
    by_prompt = [_step(generator, paths, repeats, rate) for paths in _prompts(generator)]
    begin()
    growth = [_paths(generator, verifier, paths) for paths in sorted({max(1, n // 4), n, 2 * n, 4 * n})]
    begin()
    split = breakdown(generator, verifier, min(n, largest), repeats, rate)
    begin()
    ratios = against_plain(generator, verifier, n, repeats)
    progress(_PARTS, _PARTS)
    trained = generator.precision == "float32"  # what is trained is held in float32
    return Result(
        generator="",
        verifier=None,
        machine=_machine(generator),
        matrix_gflop_per_second=rates,
        batches=by_batch,
        image_tokens=by_tokens,
        prompt_tokens=by_prompt,
        growth=growth,
        breakdown_paths=min(n, largest),
        breakdown=split,
        against_plain=ratios,
        training=training(generator, PROMPT, min(16, largest), repeats, rates) if trained else None,
        peak_memory_bytes=_peak_memory(),
    )


@torch.no_grad()
def breakdown(
    generator: ShowoGenerator, verifier: "Verifier | None", batch: int, repeats: int, rate: float
) -> dict[str, Part]:
    """Return the seconds of each part of a step of `batch` paths, of its previews and of judging them.

    rate  GFLOP/s of a matrix product
    """
    paths = halfway(generator, batch)
    model, started = generator.model, paths.shared
    ids = generator.prompting.image_block(generator.prompting.image_ids(paths.codes))
    unknown, complete = paths.codes == UNDECIDED, paths.codes.clamp(min=0)
    texts = [generator.prompting.text_prefix(PROMPT), generator.prompting.text_prefix("")]
    prefixes = [(started.prefixes[0], batch)]
    rows, wanted = ids, unknown
    if started.against is not None:
        prefixes.append((started.against[0], batch))
        rows, wanted = torch.cat([ids, ids]), torch.cat([unknown, unknown])
    states = image_states(model, rows, prefixes, wanted)[: int(unknown.sum())]
    logits = model.code_logits(states).float()

    def sample() -> object:
        shape = paths.codes.shape[1]
        uniform = randomness.uniforms(paths.seeds, paths.step, randomness.Stream.CODES, shape)[unknown]
        noise = randomness.uniforms(paths.seeds, paths.step, randomness.Stream.MASKING, shape)
        return decode_step(logits, paths.codes, partial(draw_by_inverse, uniform=uniform), noise, 0.5, shape // 2)

    works: dict[str, Callable[[], object]] = {
        "prefix": lambda: encode_prefixes(model, texts),
        "trunk": lambda: image_states(model, rows, prefixes, wanted),
        "head": lambda: model.code_logits(states).float(),
        "sampling": sample,
        "preview": lambda: generator.decode(complete),
    }
    if verifier is not None:
        images = generator.decode(complete)
        works["judge"] = lambda: verifier.ask(images, [PROMPT], ORM)
    took = {name: statistics.median(times) for name, times in in_turns(works, repeats).items()}
    head = 2 * len(states) * model.config.hidden_size * model.config.codebook_size
    trunk = (step_flop(generator, paths) - head) / took["trunk"] / 1e9
    known = {
        "head": Part(took["head"], head / took["head"] / 1e9),
        "trunk": Part(took["trunk"], trunk, trunk / rate),
    }
    return {name: known.get(name, Part(seconds)) for name, seconds in took.items()}


def against_plain(generator: ShowoGenerator, verifier: "Verifier | None", n: int, repeats: int) -> dict[str, Ratio]:
    """Return the seconds of one path, and of best-of-n with its judge, beside those of the plain decoder."""
    seeds = path_seeds(0, n)

    def draw(seeds: Tensor) -> Paths:
        return finish(generator, generator.start([PROMPT], seeds))

    def plainly(seed: int) -> Tensor:
        return plain_decode(generator, PROMPT, seed)[-1]

    found = {"path": _ratio(lambda: plainly(int(seeds[0])), lambda: draw(seeds[:1]), repeats)}
    if verifier is not None:

        def best_of_n() -> float:
            return float(verifier.ask(generator.decode(draw(seeds).codes), [PROMPT], ORM).max())

        def plain_best_of_n() -> float:
            answers = []
            for seed in seeds.tolist():
                image = generator.image_tokenizer.decode_codes(plainly(seed)[None].to(generator.model.device))
                answers.append(float(verifier.ask(image.detach().float(), [PROMPT], ORM)))
            return max(answers)

        found["best_of_n"] = replace(_ratio(plain_best_of_n, best_of_n, max(1, repeats // 2)), n=n)
    return found


def _paths(generator: ShowoGenerator, verifier: "Verifier | None", n: int) -> Growth:
    """Seconds, and the memory so far, of a whole search over n paths: best-of-n, or drawing alone without a judge."""

    def work() -> object:
        if verifier is not None:
            return search(PROMPT, generator=generator, verifier=verifier, strategy="best-of-n", n=n)
        return finish(generator, generator.start([PROMPT], path_seeds(0, n)))

    took = seconds(work)
    return Growth(n, took, took / n, _peak_memory())


def _ratio(plain: Callable[[], object], ours: Callable[[], object], repeats: int) -> Ratio:
    times = in_turns({"plain": plain, "imagecot": ours}, repeats)
    ratios = [a / b for a, b in zip(times["plain"], times["imagecot"], strict=True)]
    plainly, took = (statistics.median(times[name]) for name in ("plain", "imagecot"))
    return Ratio(plainly, took, statistics.median(ratios), ratios)


def _step(generator: ShowoGenerator, paths: Paths, repeats: int, rate: float) -> Step:
    took = statistics.median(in_turns({"": lambda: generator.advance(paths)}, repeats)[""])
    speed = step_flop(generator, paths) / took / 1e9
    return Step(
        paths=len(paths),
        image_tokens=paths.codes.shape[1],
        prompt_tokens=len(paths.shared.prefixes[0].keys[0]),
        seconds_per_step=took,
        seconds_per_path_step=took / len(paths),
        gflop_per_second=speed,
        peak_memory_bytes=_peak_memory(),
        share_of_matrix_rate=speed / rate,
    )


def _prompts(generator: ShowoGenerator) -> list[Paths]:
    most = next(count for count in range(generator.prompting.max_text_ids, 0, -1) if _readable(generator, count))
    lengths = (1, max(1, most // 2), most)
    return [halfway(generator, 1, prompt=_words(length)) for length in lengths]


def _words(count: int) -> str:
    return " ".join(["red"] * count)


def _readable(generator: ShowoGenerator, count: int) -> bool:
    try:
        generator.check_prompt(_words(count))
    except UsageError:
        return False
    return True


def _machine(generator: ShowoGenerator) -> Machine:
    return Machine(
        processor=platform.processor() or platform.machine(),
        threads=torch.get_num_threads(),
        device=str(generator.model.device),
        dtype=str(generator.model.dtype).removeprefix("torch."),
        precision=generator.precision,
        torch=torch.__version__,
        parameters=_parameters(generator.model),
        steps=generator.steps,
    )


def _parameters(model: nn.Module) -> int:
    """How many weights a model has; a quantized layer holds its own behind a method, not as parameters."""
    hidden = [module.weight() for module in model.modules() if isinstance(module, quantized.Linear)]
    return sum(weight.numel() for weight in [*model.parameters(), *hidden])


def _peak_memory() -> int:
    """The most memory that this process has had so far: it never falls, so growth shows from small to large."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
