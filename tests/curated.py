"""Rows of each kind of curated data, for tests that damage them."""

import struct
import zlib
from dataclasses import replace

import torch
from hypothesis import HealthCheck, settings

from imagecot.curation.corrections import make_corrections
from imagecot.curation.dataset import ranking_row
from imagecot.geneval.prompts import single_object_metadata
from imagecot.images import png

SLOW = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def row(metadata, seed: int, label: bool, codes=(1, 2, 3, 4)):
    image = torch.full((3, 8, 8), 0.05 * (seed % 20))
    return ranking_row(metadata, "orm", image, step=6, steps=6, seed=seed, label=label, codes=torch.tensor(codes))


APPLE = single_object_metadata("apple")
ROWS = [row(APPLE, k, k > 2) for k in range(5)]
REFLECTED = [replace(r, id=f"reflection-{r.id}", question="reflection", reasons="no cup.") for r in ROWS[:3]]
GROUPS = make_corrections(REFLECTED, ROWS, "random", 0)


def bomb() -> bytes:
    """A PNG that says it has 12000 x 12000 pixels."""
    data = bytearray(png(torch.zeros(3, 8, 8)))
    data[16:24] = struct.pack(">II", 12_000, 12_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)
