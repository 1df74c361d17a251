"""The benchmark measures what it says, and leaves whole files."""

import json

import pytest
import torch

from imagecot.benchmark.measure import CONFIGS, halfway, measure, step_flop
from imagecot.benchmark.report import table
from imagecot.benchmark.timing import in_turns
from imagecot.benchmark.training import _forward_flop, training
from plain_decoder import tiny_generator
from small_models import Brightness, write_generator, write_verifier

torch.set_num_threads(1)


def test_a_step_halfway_has_distinct_paths_and_the_mean_mask() -> None:
    paths = halfway(tiny_generator(), 5)
    assert len(paths.codes.unique(dim=0)) == 5
    assert ((paths.codes < 0).sum(1) == round(16 * 2 / torch.pi)).all()
    assert halfway(tiny_generator(), 2, tokens=32).codes.shape == (2, 32)


def test_operations_by_hand() -> None:
    """One path without guidance: tokens 18, masked 10, D 64, I 256, 3 layers, 64 codes, a prefix of L ids."""
    generator = tiny_generator(guidance_scale=0)
    paths = halfway(generator, 1)
    columns = 18 + len(paths.shared.prefixes[0].keys[0])
    assert len(paths.codes.unique()) == 7  # so 9 different tokens with soi and eoi
    first = 2 * 9 * (3 * 64 * 64 + 2 * 64 * 256) + 2 * 18 * 64 * 64
    keys = 2 * 2 * 18 * 2 * 64 * 64
    mixing = 2 * (18 + 10) * (2 * 64 * 64 + 2 * 64 * 256)
    attention = 4 * (18 + 18 + 10) * columns * 64
    assert step_flop(generator, paths) == first + keys + mixing + attention + 2 * 10 * 64 * 64


def test_operations_of_a_row_of_training_by_hand() -> None:
    """3 layers, D 64, I 256, 64 codes: a row of 20 tokens of which 5 are scored."""
    layer = 2 * 20 * (4 * 64 * 64 + 2 * 64 * 256) + 4 * 20 * 20 * 64
    assert _forward_flop(tiny_generator(), 20, 5) == 3 * layer + 2 * 5 * 64 * 64


def test_training_is_timed_and_leaves_the_generator_as_it_was() -> None:
    generator = tiny_generator()
    before = {name: weight.clone() for name, weight in generator.model.state_dict().items()}
    kind = generator.model.showo.config._attn_implementation
    found = training(generator, "cat", 3, 1, {"float32": 100.0, "bfloat16": 400.0})
    mixed = found.gradients["bfloat16"]
    assert mixed.share_of_matrix_rate == pytest.approx(mixed.gflop_per_second / 400)
    assert 0 < found.data_seconds < found.gradients["float32"].seconds
    assert all(torch.equal(weight, before[name]) for name, weight in generator.model.state_dict().items())
    assert all(weight.grad is None for weight in generator.model.parameters())
    assert generator.model.showo.config._attn_implementation == kind


def test_works_take_turns() -> None:
    calls = []
    times = in_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2)
    assert calls == ["a", "b"] * 3
    assert [len(t) for t in times.values()] == [2, 2]


def test_all_is_measured() -> None:
    ticks = []
    result = measure(
        tiny_generator(steps=2), Brightness(), batches=(1, 2), n=2, repeats=1, progress=lambda *at: ticks.append(at)
    )
    assert [row.paths for row in result.batches] == [1, 2]
    assert [row.image_tokens for row in result.image_tokens] == [16, 32, 64]
    assert [row.n for row in result.growth] == [1, 2, 4, 8]
    lengths = [row.prompt_tokens for row in result.prompt_tokens]
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[-1]
    rate = result.matrix_gflop_per_second["float32"]
    for row in (*result.batches, result.breakdown["trunk"]):
        assert row.share_of_matrix_rate == pytest.approx(row.gflop_per_second / rate)
    for row in result.against_plain.values():
        assert row.ratio == pytest.approx(row.plain_seconds / row.seconds)
    assert result.training.images == 2
    for row in result.training.gradients.values():
        assert row.images_per_second == pytest.approx(2 / row.seconds)
    told = result.as_json()
    assert [*told] == [
        "generator", "verifier", "machine", "matrix_gflop_per_second", "batches", "image_tokens", "prompt_tokens",
        "growth", "breakdown", "against_plain", "training", "peak_memory_bytes",
    ]  # fmt: skip
    assert [*told["breakdown"]] == ["paths", "prefix", "trunk", "head", "sampling", "preview", "judge"]
    assert [*told["breakdown"]["trunk"]] == ["seconds", "gflop_per_second", "share_of_matrix_rate"]
    assert [*told["breakdown"]["judge"]] == ["seconds"]
    assert [*told["against_plain"]["path"]] == ["plain_seconds", "seconds", "ratio", "ratios"]
    assert [*told["against_plain"]["best_of_n"]] == ["n", "plain_seconds", "seconds", "ratio", "ratios"]
    assert [*told["training"]] == ["images", "data_seconds", "float32", "bfloat16"]
    assert [*told["batches"][0]][-2:] == ["peak_memory_bytes", "share_of_matrix_rate"]
    assert "| gradient of 2 images" in table(result)
    assert ticks[-1][0] == ticks[-1][1]
    assert table(result).count("\n| 1 | 16 |") >= 2


def test_the_named_sizes() -> None:
    mid = CONFIGS["mid"]
    assert (mid.hidden_size, mid.num_hidden_layers, mid.num_vq_tokens, mid.codebook_size) == (512, 8, 256, 8192)
    assert CONFIGS["full"].hidden_size == 2048
    assert mid.vocab_size == 58498


def test_the_command_line(imagecot, tmp_path) -> None:
    folder, judge = write_generator(tmp_path / "generator"), write_verifier(tmp_path / "verifier")
    quick = ("--steps", "1", "-n", "2", "--largest", "2", "--repeats", "1", "--out", "out")
    call = ("benchmark", "--generator", str(folder), "--verifier", str(judge), *quick)
    code, out, _ = imagecot(*call, "--json")
    assert code == 0
    assert json.loads(out) == json.loads((tmp_path / "out" / "benchmark.json").read_text())
    assert (tmp_path / "out" / "benchmark.png").read_bytes()[:4] == b"\x89PNG"
    for wrong, told in [
        (("benchmark",), "give either"),
        (("benchmark", "--config", "huge"), "no configuration 'huge'"),
        (("benchmark", "--config", "tiny", "--precision", "float8"), "no precision 'float8'"),
        (("benchmark", "--config", "tiny", "--repeats", "0"), "--repeats must be at least 1"),
        (("benchmark", "--config", "tiny", "--steps", "1" + 21 * "0"), "--steps must be at most 1000"),
        (("benchmark", "--config", "tiny", "-n", "1000000"), "-n must be at most 10000"),
        (("benchmark", "--config", "tiny", "--largest", "1000000"), "--largest must be at most 4096"),
        (("benchmark", "--config", "tiny", "--repeats", "1000000"), "--repeats must be at most 1000"),
        (("benchmark", "--config", ""), "no configuration ''"),
        (("benchmark", "--generator", ""), "no generator ''"),
        (("benchmark", "--generator", str(folder), "--verifier", ""), "no verifier ''"),
    ]:
        code, _, said = imagecot(*wrong)
        assert code == 2
        assert told in said
        assert not (tmp_path / "runs").exists()
