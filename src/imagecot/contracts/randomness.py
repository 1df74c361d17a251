"""Randomness that belongs to a path: every number is a pure function of (seed, step, stream, position).

The generator is counter based: the finaliser of SplitMix64 (Steele, Lea and Flood, 2014) applied to a chain
of keys in int64 arithmetic, so numbers are the same on every device, in every batch and after a resume.
"""

import hashlib
from enum import IntEnum

import torch
from torch import Tensor


class Stream(IntEnum):
    """Independent sequences of one path's uniforms."""

    CODES = 0  # which code is drawn
    MASKING = 1  # the noise on confidences
    FORKS = 2  # seeds of paths and forks
    RATIOS = 3  # how much of an image an estimate hides
    POSITIONS = 4  # which positions it hides
    STEPS = 5  # which steps of a path are scored
    CHOICES = 6  # what a search leaves to chance
    USER = 16  # from here on for generators outside of this package


_WRAP = 1 << 64


def _signed(value: int) -> int:
    value %= _WRAP
    return value - _WRAP if value >= _WRAP // 2 else value


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_FIRST = _signed(0xBF58476D1CE4E5B9)
_SECOND = _signed(0x94D049BB133111EB)
_SEED_BITS = (1 << 53) - 1  # seeds survive a round trip through JSON numbers


def _shift(x: Tensor, bits: int) -> Tensor:
    """Shift right without copying the sign bit, which int64 would."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shift(x, 30)) * _FIRST
    x = (x ^ _shift(x, 27)) * _SECOND
    return x ^ _shift(x, 31)


def _bits(seeds: Tensor, step: int, stream: int, count: int) -> Tensor:
    """Return 64 random bits for seeds (B,) and positions 0..count-1, as int64 (B, count)."""
    key = _mix(seeds.long() + _GOLDEN)
    key = _mix(key + _signed((step + 1) * 0x9E3779B97F4A7C15))
    key = _mix(key + _signed((stream + 1) * 0x9E3779B97F4A7C15))
    position = torch.arange(1, count + 1, device=seeds.device)
    return _mix(key[:, None] + position * _GOLDEN)


def uniforms(seeds: Tensor, step: int, stream: int, count: int) -> Tensor:
    """Return float32 uniforms in [0, 1) of shape (B, count) for seeds (B,) int64; multiples of 2^-24."""
    return _shift(_bits(seeds, step, stream, count), 40).float() * 2.0**-24


def path_seeds(seed: int, n: int) -> Tensor:
    """Return the seeds (n,) int64 of the n paths of a search; the k-th does not depend on n."""
    return _bits(torch.tensor([_signed(seed)]), 0, Stream.FORKS, n)[0] & _SEED_BITS


def fork_seeds(seeds: Tensor, k: int) -> Tensor:
    """Return k new seeds for each of seeds (B,), as (B*k,), the forks of one path side by side."""
    return (_bits(seeds, 1, Stream.FORKS, k) & _SEED_BITS).flatten()


def prompt_seed(seed: int, prompt: str) -> int:
    """Return the seed of a prompt's paths in an experiment of many prompts: its place in the list plays no part."""
    digest = hashlib.sha256(f"{seed}:{prompt}".encode()).digest()
    return int.from_bytes(digest[:8], "big") & _SEED_BITS
