"""The benchmark measures what it says, and leaves whole files."""

import json
from statistics import median

import pytest
import torch
from torch import nn

from imagecot.benchmark.measure import Subject, measure, prompts, step
from imagecot.benchmark.report import table
from imagecot.benchmark.timing import Yardstick, in_turns, share
from imagecot.benchmark.training import training
from imagecot.checks.toys import ToyGenerator
from imagecot.contracts.paths import finish
from imagecot.contracts.randomness import path_seeds
from imagecot.generators import load_generator
from imagecot.generators.bench import Benched, count, products
from imagecot.generators.showo.bench import CONFIGS, ShowoBench, forward_flop
from imagecot.precision import quantize
from plain_decoder import tiny_generator
from small_models import Brightness, write_generator, write_janus, write_llamagen, write_verifier

torch.set_num_threads(1)
PROMPT = "a photo of a red apple"


@pytest.fixture(autouse=True)
def small_products(monkeypatch) -> None:
    monkeypatch.setattr("imagecot.benchmark.measure.Yardstick", lambda device: Yardstick(device, size=64))


@pytest.fixture(scope="module")
def janus(tmp_path_factory):
    """3 x 3 codes, a transformer of 2 layers, width 32, 4 heads of 8, feed-forward 64, 64 codes."""
    return load_generator(write_janus(tmp_path_factory.mktemp("janus"), side=3))


@pytest.fixture(scope="module")
def llamagen(tmp_path_factory):
    return load_generator(write_llamagen(tmp_path_factory.mktemp("llamagen")))


def test_a_step_halfway_has_distinct_paths_and_the_mean_mask() -> None:
    bench = tiny_generator().bench()
    paths = bench.halfway(5, PROMPT)
    assert len(paths.codes.unique(dim=0)) == 5
    assert ((paths.codes < 0).sum(1) == round(16 * 2 / torch.pi)).all()
    assert [paths.codes.shape[1] for paths in bench.longer(PROMPT)] == [16, 32, 64]


def test_operations_by_hand() -> None:
    """One path without guidance: tokens 18, masked 10, D 64, I 256, 3 layers, 64 codes, a prefix of L ids."""
    bench = ShowoBench(tiny_generator(guidance_scale=0))
    paths = bench.halfway(1, PROMPT)
    columns = 18 + len(paths.shared.prefixes[0].keys[0])
    assert len(paths.codes.unique()) == 7  # so 9 different tokens with soi and eoi
    first = 2 * 9 * (3 * 64 * 64 + 2 * 64 * 256) + 2 * 18 * 64 * 64
    keys = 2 * 2 * 18 * 2 * 64 * 64
    mixing = 2 * (18 + 10) * (2 * 64 * 64 + 2 * 64 * 256)
    attention = 4 * (18 + 18 + 10) * columns * 64
    assert bench.flop(paths) == first + keys + mixing + attention + 2 * 10 * 64 * 64


def test_operations_of_a_row_of_codes_by_hand(janus) -> None:
    """Two paths with guidance: 3 codes are read for a row, behind a prompt of L ids and the codes before."""
    bench = janus.bench()
    paths = bench.halfway(2, PROMPT)
    assert (paths.step, paths.steps) == (1, 3)
    assert len(paths.codes[:, :3].unique(dim=0)) == 2
    length = paths.shared.prefixes[0][0].keys.shape[2]
    layer = 4 * 32 * 32 + 3 * 32 * 64
    aligner = sum(
        part.weight.numel() for part in janus.model.model.generation_aligner.modules() if hasattr(part, "in_features")
    )
    # The code before the row and two of it: with the one that is read they see 3, 4 and 5 codes.
    reads = 3 * 2 * (2 * layer + aligner) + 4 * 2 * 32 * (3 * length + 3 + 4 + 5)
    head = sum(
        part.weight.numel() for part in janus.model.model.generation_head.modules() if hasattr(part, "in_features")
    )
    assert bench.flop(paths) == 2 * 2 * (reads + 3 * 2 * head)
    pieces = bench.pieces(paths, PROMPT)
    assert pieces["trunk"].flop == 2 * 2 * reads
    assert pieces["head"].flop == 2 * 2 * 3 * 2 * head
    first = bench.longer(PROMPT)[0]  # of which no code is read for the first code
    assert bench.tokens(first) == (3, length)
    assert bench.flop(first) == 2 * (2 * 2 * (2 * layer + aligner) + 4 * 2 * 32 * (2 * length + 1 + 2) + 3 * 2 * head)
    unguided = janus.adjusted(guidance_scale=1).bench()
    assert unguided.flop(unguided.halfway(2, PROMPT)) == bench.flop(paths) / 2


@pytest.mark.parametrize("family", ["janus", "llamagen"])
def test_the_plain_loop_draws_the_same_codes(family, request) -> None:
    other = request.getfixturevalue(family)
    for generator in (other, other.adjusted(guidance_scale=1, top_k=7, temperature=0.8), other.adjusted(temperature=0)):
        seeds = path_seeds(3, 2)
        drawn = finish(generator, generator.start([PROMPT], seeds)).codes
        for seed, codes in zip(seeds.tolist(), drawn, strict=True):
            assert torch.equal(generator.bench().plain(PROMPT, seed), codes)


def test_operations_of_a_row_of_training_by_hand() -> None:
    """3 layers, D 64, I 256, 64 codes: a row of 20 tokens of which 5 are scored."""
    layer = 2 * 20 * (4 * 64 * 64 + 2 * 64 * 256) + 4 * 20 * 20 * 64
    assert forward_flop(tiny_generator().model.config, 20, 5) == 3 * layer + 2 * 5 * 64 * 64


def test_weights_are_counted_whether_or_not_they_are_quantized() -> None:
    module = nn.Sequential(nn.Linear(8, 4), nn.LayerNorm(4), nn.Linear(4, 2, bias=False))
    assert (count(module), products(module)) == (36 + 8 + 8, 32 + 8)
    eight = quantize(nn.ModuleList([module]))
    assert products(eight) == 40


@pytest.mark.parametrize("make", [tiny_generator, None], ids=["masked", "raster"])
def test_training_is_timed_and_leaves_the_generator_as_it_was(make, janus) -> None:
    generator = make() if make else janus
    model = generator.model
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    required = {name: weight.requires_grad for name, weight in model.named_parameters()}
    codes = torch.zeros(3, generator.canvas.positions, dtype=torch.int64)
    yardstick = Yardstick(torch.device("cpu"), size=64)
    found = training(generator, generator.bench(), "cat", codes, 1, yardstick)
    forward = generator.bench().scored("cat", codes, path_seeds(0, 3))[1]
    for name, row in found.gradients.items():
        assert row.gflop_per_second == pytest.approx(3 * forward / row.seconds / 1e9)
        assert row.share_of_matrix_rate == pytest.approx(row.gflop_per_second / yardstick.found[name][0])
        assert row.images_per_second == pytest.approx(3 / row.seconds)
    assert 0 <= found.data_seconds < found.gradients["float32"].seconds
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())
    assert {name: weight.requires_grad for name, weight in model.named_parameters()} == required


def test_attention_is_that_of_before_once_training_was_timed() -> None:
    generator = tiny_generator()
    before = generator.model.showo.model.fused
    with generator.bench().training():
        pass
    assert generator.model.showo.model.fused == before


def test_the_product_takes_turns_with_the_work(monkeypatch) -> None:
    """A machine that slows down slows both, and the share of its rate stays what it is."""
    clock, calls = [0.0], []
    monkeypatch.setattr("imagecot.benchmark.timing.time.perf_counter", lambda: clock[0])
    yardstick = Yardstick(torch.device("cpu"), size=4)

    def product() -> None:
        calls.append("product")
        clock[0] += len(calls)

    def work() -> None:
        calls.append("work")
        clock[0] += 2 * len(calls)

    yardstick._products["float32"] = (product, 1e9)
    times, rates = yardstick.beside({"work": work}, 3, "float32")
    assert calls == ["work", "product"] * 4
    assert times["work"] == [6, 10, 14]
    assert rates == pytest.approx([1 / 4, 1 / 6, 1 / 8])
    assert share(1e9, times["work"], rates) == pytest.approx(median([4 / 6, 6 / 10, 8 / 14]))
    yardstick._products["bfloat16"] = (product, 1e9)
    assert yardstick.rates()["float32"] == pytest.approx(1 / 6)


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
    for row in (*result.batches, result.breakdown["trunk"]):
        assert row.share_of_matrix_rate > 0
    for row in result.against_plain.values():
        assert row.ratio == pytest.approx(row.plain_seconds / row.seconds)
    assert result.training.images == 2
    told = result.as_json()
    assert [*told] == [
        "generator", "verifier", "machine", "matrix_gflop_per_second", "batches", "image_tokens", "prompt_tokens",
        "growth", "breakdown", "against_plain", "training", "peak_memory_bytes",
    ]  # fmt: skip
    assert [*told["matrix_gflop_per_second"]] == ["float32", "bfloat16"]
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


def test_rows_of_codes_are_measured(janus) -> None:
    result = measure(janus, None, batches=(1, 2), n=2, repeats=1)
    assert result.machine.steps == 3
    assert [row.image_tokens for row in result.image_tokens] == [3, 6, 9]
    assert {row.image_tokens for row in result.batches} == {6}
    assert [*result.breakdown] == ["prefix", "trunk", "head", "sampling", "preview"]
    assert {*result.against_plain} == {"path", "paths"}
    assert result.against_plain["paths"].n == 2
    assert result.training is not None
    assert "| 2 paths |" in table(result)


def test_a_generator_that_says_nothing_of_its_steps_is_timed_from_outside() -> None:
    toy = ToyGenerator()
    assert not isinstance(toy, Benched)
    result = measure(toy, Brightness(), batches=(1, 2), n=2, repeats=1)
    assert [row.image_tokens for row in result.image_tokens] == [12, 12, 12]
    assert [*result.breakdown] == ["start", "step", "preview", "judge"]
    assert (result.machine.parameters, result.training, result.against_plain) == (None, None, {})
    assert (result.batches[0].gflop_per_second, result.batches[0].share_of_matrix_rate) == (None, None)
    assert "| 1 | 12 | – |" in table(result)
    assert prompts(toy) == [PROMPT]
    subject = Subject.of(toy, None, 1)
    assert step(subject, subject.parts.halfway(2, PROMPT)).paths == 2


def test_the_named_sizes() -> None:
    mid = CONFIGS["mid"]
    assert (mid.hidden_size, mid.num_hidden_layers, mid.num_vq_tokens, mid.codebook_size) == (512, 8, 256, 8192)
    assert CONFIGS["full"].hidden_size == 2048
    assert mid.vocab_size == 58498


def test_the_command_line(imagecot, tmp_path) -> None:
    folder, judge = write_generator(tmp_path / "generator"), write_verifier(tmp_path / "verifier")
    drawer = write_janus(tmp_path / "janus", side=2)
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
        (("benchmark", "--generator", str(drawer), "--steps", "2"), "leave out steps"),
        (("benchmark", "--generator", "small_models:Flat", "--steps", "2"), "draws in no other number of steps"),
    ]:
        code, _, said = imagecot(*wrong)
        assert code == 2
        assert told in said
        assert not (tmp_path / "runs").exists()
