"""What a benchmark measures: seconds, rates in GFLOP/s, and memory in bytes."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from imagecot.contracts.values import JSON


@dataclass(frozen=True)
class Machine:
    """Where it was measured, and of which model: its weights, their format, and the steps of an image.

    parameters  None where the generator does not say which weights it draws with
    """

    processor: str
    threads: int
    device: str
    dtype: str
    precision: str
    torch: str
    parameters: int | None
    steps: int


@dataclass(frozen=True)
class Step:
    """A step of a batch of paths, in the middle of an image. The memory is the most that the process had so far.

    image_tokens, prompt_tokens  that the step sees; in raster order all codes to the end of its row
    gflop_per_second             None where nobody says how many operations a step takes, as with the share
    share_of_matrix_rate         the median over turns with a matrix product
    """

    paths: int
    image_tokens: int
    prompt_tokens: int | None
    seconds_per_step: float
    seconds_per_path_step: float
    gflop_per_second: float | None
    peak_memory_bytes: int
    share_of_matrix_rate: float | None


@dataclass(frozen=True)
class Growth:
    """A whole search over n paths."""

    n: int
    seconds: float
    seconds_per_path: float
    peak_memory_bytes: int


@dataclass(frozen=True)
class Part:
    """A part of a step; its rates where its operations are known."""

    seconds: float
    gflop_per_second: float | None = None
    share_of_matrix_rate: float | None = None


@dataclass(frozen=True)
class Ratio:
    """How many times faster than the plain decoder: the median of `ratios`. `n` paths, where there are several."""

    plain_seconds: float
    seconds: float
    ratio: float
    ratios: Sequence[float]
    n: int | None = None


@dataclass(frozen=True)
class Gradient:
    """The gradient of a batch of images in one number format."""

    seconds: float
    images_per_second: float
    gflop_per_second: float
    share_of_matrix_rate: float


@dataclass(frozen=True)
class Training:
    """Gradients of a batch of images by number format, and what a step needs before the model."""

    images: int
    data_seconds: float
    gradients: Mapping[str, Gradient]


@dataclass(frozen=True)
class Result:
    """All measurements.

    matrix_gflop_per_second  of a square matrix product, by number format: the median of those between all other work
    batches                  steps of more and more paths; `image_tokens`, `prompt_tokens`: of longer images, prompts
    breakdown                parts of a step of `breakdown_paths` paths, of its previews and of judging them
    against_plain            one path, and best-of-n where there is a judge, else n paths; empty without plain decoder
    training                 None where the model is not held in float32, as trained models are
    """

    generator: str
    verifier: str | None
    machine: Machine
    matrix_gflop_per_second: Mapping[str, float]
    batches: Sequence[Step]
    image_tokens: Sequence[Step]
    prompt_tokens: Sequence[Step]
    growth: Sequence[Growth]
    breakdown_paths: int
    breakdown: Mapping[str, Part]
    against_plain: Mapping[str, Ratio]
    training: Training | None
    peak_memory_bytes: int

    @property
    def rated(self) -> str:
        """The number format whose product steps are compared with: int8 leaves all between its products in float32."""
        return self.machine.dtype if self.machine.dtype in self.matrix_gflop_per_second else "float32"

    def as_json(self) -> dict[str, JSON]:
        """What benchmark.json holds."""
        steps = {"batches": self.batches, "image_tokens": self.image_tokens, "prompt_tokens": self.prompt_tokens}
        return {
            "generator": self.generator,
            "verifier": self.verifier,
            "machine": asdict(self.machine),
            "matrix_gflop_per_second": self.matrix_gflop_per_second,
            **{name: [asdict(step) for step in found] for name, found in steps.items()},
            "growth": [asdict(search) for search in self.growth],
            "breakdown": {
                "paths": self.breakdown_paths,
                **{name: _known(asdict(part)) for name, part in self.breakdown.items()},
            },
            "against_plain": {name: _known({"n": row.n} | asdict(row)) for name, row in self.against_plain.items()},
            **({"training": _training(self.training)} if self.training else {}),
            "peak_memory_bytes": self.peak_memory_bytes,
        }


def _known(values: Mapping[str, JSON]) -> dict[str, JSON]:
    return {name: value for name, value in values.items() if value is not None}


def _training(row: Training) -> dict[str, JSON]:
    gradients = {name: asdict(gradient) for name, gradient in row.gradients.items()}
    return {"images": row.images, "data_seconds": row.data_seconds, **gradients}
