"""How fast a card is: by its data sheet for full-size models, or as `imagecot benchmark` has measured it.

By the data sheet a card does 40 % of its dense bfloat16 operations and reads 70 % of its bandwidth, as is usual for
transformers that are run in large batches. Nothing of this was measured here but the shape: the operations are those of
`imagecot.generators.work`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from imagecot.errors import UsageError
from imagecot.reading import Foreign, read_text

_USED, _READ = 0.4, 0.7  # shares of operations and bandwidth


@dataclass(frozen=True)
class Card:
    """A GPU by its data sheet: dense bfloat16 operations and bytes a second, and bytes of memory."""

    name: str
    peak: float
    width: float
    memory: float

    @property
    def flops(self) -> float:
        """Operations a second that models get."""
        return _USED * self.peak

    @property
    def bandwidth(self) -> float:
        """Bytes a second that models get."""
        return _READ * self.width


# NVIDIA's data sheets, without sparsity.
CARDS = {
    card.name: card
    for card in (
        Card("a100", 312e12, 2.04e12, 80e9),
        Card("h100", 989e12, 3.35e12, 80e9),
        Card("h200", 989e12, 4.8e12, 141e9),
        Card("l40s", 362e12, 0.864e12, 48e9),
    )
}
A100 = CARDS["a100"]


class _Machine(Foreign):
    processor: str
    device: str


class _Batch(Foreign):
    seconds_per_path_step: float
    peak_memory_bytes: float


class _Seconds(Foreign):
    seconds: float


class _Breakdown(Foreign):
    paths: int
    preview: _Seconds | None = None
    judge: _Seconds | None = None


class _MachineSteps(_Machine):
    steps: int


class _Record(Foreign):
    """What is read of a benchmark.json."""

    generator: str
    verifier: str | None = None
    machine: _MachineSteps
    batches: list[_Batch]
    breakdown: _Breakdown


@dataclass(frozen=True)
class Measured:
    """A generator and a verifier as they were measured, in seconds.

    path     a path from its start to its end, previews aside, in the best batch
    preview  an image that is decoded
    judged   an answer of `verifier`, where one was measured
    memory   bytes at most
    """

    source: str
    generator: str
    verifier: str | None
    path: float
    preview: float
    judged: float | None
    memory: float


@dataclass(frozen=True)
class Rates:
    """What speeds are taken from: measurements where there are some of a model, else the data sheet of the card."""

    card: Card = A100
    measured: Sequence[Measured] = field(default_factory=tuple)

    def generator(self, name: str) -> Measured | None:
        """The measurement of a generator."""
        return next((one for one in self.measured if one.generator == name), None)

    def verifier(self, name: str) -> float | None:
        """Seconds of an answer, where they were measured."""
        return next((one.judged for one in self.measured if one.verifier == name and one.judged is not None), None)

    def told(self) -> list[str]:
        """Where the speeds come from, a line each."""
        lines = [f"{one.generator}: measured ({one.source})" for one in self.measured]
        sheet = (
            f"others: {self.card.name} by its data sheet, {_USED:.0%} of {self.card.peak / 1e12:.0f} TFLOP/s and "
            f"{_READ:.0%} of {self.card.width / 1e12:.2f} TB/s; not measured"
        )
        return [*lines, sheet if lines else sheet.removeprefix("others: ")]


def card_named(name: str) -> Card:
    """A card by its name; UsageError where its data sheet is not known."""
    if name.lower() not in CARDS:
        raise UsageError(f"no data of a card {name!r} are known; take {', '.join(CARDS)}, or give --rates.")
    return CARDS[name.lower()]


def read_rates(card: Card, files: Sequence[Path]) -> Rates:
    """The rates of a card with what these files of `imagecot benchmark` have measured; UsageError for others."""
    return Rates(card, tuple(_measured(file) for file in files))


def _measured(file: Path) -> Measured:
    try:
        found: Mapping[str, object] = json.loads(read_text(file, failure=UsageError, advice="give a benchmark.json"))
        record = _Record.model_validate(found)
        best = min(batch.seconds_per_path_step for batch in record.batches)
    except (ValueError, ValidationError):
        raise UsageError(f"{file} is no benchmark.json; write one by imagecot benchmark.") from None
    parts = record.breakdown
    return Measured(
        source=f"{file}, {record.machine.processor} {record.machine.device}",
        generator=record.generator,
        verifier=record.verifier,
        path=best * record.machine.steps,
        preview=parts.preview.seconds / parts.paths if parts.preview else 0.0,
        judged=parts.judge.seconds / parts.paths if parts.judge else None,
        memory=max(batch.peak_memory_bytes for batch in record.batches),
    )
