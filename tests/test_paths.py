import dataclasses
import json
from typing import NamedTuple

import pytest
import torch

from imagecot.contracts import randomness
from imagecot.contracts.paths import UNDECIDED, Paths
from imagecot.contracts.randomness import fork_seeds, path_seeds, uniforms
from imagecot.errors import UsageError
from imagecot.generators.masked.schedules import get_schedule, masked_count, noise_temperature, sigmoid
from plain_decoder import DATA

SCHEDULES = json.loads((DATA / "showo" / "schedules.json").read_text())
M64 = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def mix(x: int) -> int:
    """SplitMix64's finaliser in Python integers."""
    x &= M64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & M64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & M64
    return x ^ (x >> 31)


def test_splitmix_known_answers():
    """The first outputs of SplitMix64 from state 1234567, as published with its reference implementation."""
    states = [(1234567 + GOLDEN * k) & M64 for k in (1, 2, 3)]
    known = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [mix(state) for state in states] == known
    signed = torch.tensor([s - (1 << 64) if s >> 63 else s for s in states])
    assert [v & M64 for v in randomness._mix(signed).tolist()] == known


def test_uniforms_are_this_function_of_seed_step_stream_and_position():
    seeds = [0, 1, 2**53 - 1, 987654321]
    table = uniforms(torch.tensor(seeds), step=5, stream=1, count=3)
    for row, seed in zip(table.tolist(), seeds, strict=True):
        key = mix(mix(mix(seed + GOLDEN) + 6 * GOLDEN) + 2 * GOLDEN)
        assert row == [(mix(key + (p + 1) * GOLDEN) >> 40) / 2**24 for p in range(3)]


def test_uniforms_are_uniform_and_independent():
    seeds = path_seeds(0, 200)
    u = torch.stack([uniforms(seeds, step, stream, 256) for step in range(2) for stream in range(2)])
    assert u.min() >= 0
    assert u.max() < 1
    flat = u.double().flatten()
    n = len(flat)
    assert abs(flat.mean() - 0.5) < 4 / (12 * n) ** 0.5
    histogram = torch.histc(flat, 64, 0, 1)
    chi_square = ((histogram - n / 64) ** 2 / (n / 64)).sum()
    assert 30 < chi_square < 110  # 63 degrees of freedom
    samples = u.double().flatten(1)
    for other in (
        samples[1:],
        samples[:1].roll(1, 1),
        samples[:1].roll(256, 1),
    ):  # step and stream, position, seed
        for row in other:
            correlation = torch.corrcoef(torch.stack([samples[0], row]))[0, 1]
            assert abs(correlation) < 4 / samples.shape[1] ** 0.5


def test_seeds():
    assert torch.equal(path_seeds(7, 20)[:4], path_seeds(7, 4))
    assert len(torch.cat([path_seeds(s, 1000) for s in range(5)]).unique()) == 5000
    parents = path_seeds(7, 3)
    forks = fork_seeds(parents, 4)
    assert len(torch.cat([parents, forks, fork_seeds(forks, 4)]).unique()) == 3 + 12 + 48
    assert torch.equal(fork_seeds(parents[1:2], 4), forks[4:8])
    assert forks.min() >= 0
    assert forks.max() < 2**53
    assert path_seeds(2**64 + 5, 1) == path_seeds(5, 1)  # any integer is a seed


class Pair(NamedTuple):
    keys: torch.Tensor
    values: torch.Tensor


@dataclasses.dataclass(frozen=True)
class Cache:
    layers: list[Pair]
    seen: torch.Tensor | None = None


def three(own: object = None) -> Paths:
    return Paths(
        codes=torch.tensor([[0, UNDECIDED], [1, 2], [UNDECIDED, 3]]),
        seeds=torch.tensor([10, 11, 12]),
        prompt_index=torch.tensor([0, 0, 1]),
        step=2,
        steps=4,
        shared="shared",
        own=own,
    )


def test_select_gathers_all_that_belongs_to_a_path():
    """Whatever nesting it is, in whatever order, and a fork has a copy of its own."""
    rows = torch.arange(12.0).view(3, 4)
    paths = three({"cache": Cache([Pair(rows, -rows)]), "parts": (rows[:, 0], [rows[:, 1:]]), "none": None})
    kept = paths.select([2, 0])
    assert kept.codes.tolist() == [[UNDECIDED, 3], [0, UNDECIDED]]
    assert kept.seeds.tolist() == [12, 10]
    assert kept.prompt_index.tolist() == [1, 0]
    assert (kept.step, kept.steps, kept.shared, len(kept)) == (2, 4, "shared", 2)
    (layer,) = kept.own["cache"].layers
    assert isinstance(layer, Pair)
    assert torch.equal(layer.keys, rows[[2, 0]]) and torch.equal(layer.values, -rows[[2, 0]])
    assert kept.own["cache"].seen is None and kept.own["none"] is None
    assert kept.own["parts"][0].tolist() == [8, 0]
    assert torch.equal(kept.own["parts"][1][0], rows[[2, 0], 1:])
    assert paths.select(torch.tensor([True, False, True])).seeds.tolist() == [10, 12]
    forks = paths.select([1, 1], torch.tensor([5, 6]))
    assert forks.seeds.tolist() == [5, 6]
    assert torch.equal(forks.own["parts"][0], rows[[1, 1], 0])
    assert len(paths.select([])) == 0
    assert not paths.finished
    assert dataclasses.replace(paths, step=4).finished


def test_what_belongs_to_no_path_is_refused():
    for own in (torch.zeros(2, 4), {"keys": torch.zeros(3, 4), "count": torch.tensor(3)}, [torch.zeros(1, 3)]):
        with pytest.raises(ValueError, match="does not belong to 3 paths"):
            three(own)
    for own in ("text", {"step": 3}, [object()]):
        with pytest.raises(TypeError, match="must be made of tensors"):
            three(own)
    with pytest.raises(ValueError, match="does not belong to 2 paths"):
        dataclasses.replace(three(), codes=torch.zeros(2, 2))


@pytest.mark.parametrize("name", SCHEDULES["schedules"])
def test_schedules(name):
    want = SCHEDULES["schedules"][name]
    schedule = sigmoid(-5.0, 5.0) if name.startswith("sigmoid_start") else get_schedule(name.removesuffix("_default"))
    ratio = torch.tensor(SCHEDULES["ratio"], dtype=torch.float32)
    # Processors differ in the last bit of a sigmoid; the counts below, which decoding uses, are exact.
    last_bit = 3e-7 if name.startswith("sigmoid") else 0.0
    torch.testing.assert_close(schedule(ratio), torch.tensor(want["mask_ratio_float32"]), rtol=last_bit, atol=0)
    assert schedule(torch.tensor(0.0)) == want["at_zero"]
    for count in (16, 256, 1024):
        assert [masked_count(schedule, step, 18, count) for step in range(18)] == want[f"floor_{count}"]


def test_unknown_schedules():
    for name in ("cosinus", "powder", "pow"):
        with pytest.raises(UsageError, match=f"no mask schedule '{name}'"):
            get_schedule(name)


def test_temperatures():
    falling = [noise_temperature(1.0, step, 18) for step in range(18)]
    assert falling == SCHEDULES["non_cumulative_for_comparison"]
    product = [noise_temperature(1.0, step, 18, cumulative=True) for step in range(18)]
    assert product == SCHEDULES["cumulative_temperature_from_1.0"]
    assert noise_temperature(4.5, 0, 6) == 3.75
