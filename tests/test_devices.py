"""Nothing waits for a GPU inside a step, and no tensor is made on another device: shown without one (`elsewhere`)."""

import pytest
import torch

import elsewhere
from elsewhere import DEVICE, Away, Stops, apart, moved, there
from imagecot import weights
from imagecot.contracts.devices import sent
from imagecot.contracts.paths import UNDECIDED
from imagecot.contracts.questions import CLARITY, ORM, POTENTIAL
from imagecot.contracts.randomness import fork_seeds, path_seeds
from imagecot.contracts.tree import gathered
from imagecot.execution import machine
from imagecot.generators import load_generator
from imagecot.launch import use_device
from imagecot.memory import available_bytes
from imagecot.precision import in_full, loaded_as
from imagecot.verifiers import load_verifier
from plain_decoder import tiny_generator
from small_models import write_janus, write_showo

torch.set_num_threads(1)
PROMPTS = ["a photo of a red apple", "cat", "a photo of a dog", "cat"]

LOOKS = {
    "a mask": lambda x: x[x > 0],
    "a mask that is set": lambda x: x.__setitem__(x > 0, torch.ones(3).to(DEVICE, non_blocking=True)),
    "a number": lambda x: x.sum().item(),
    "a condition": lambda x: bool((x > 0).any()),
    "a list of its numbers": lambda x: x.tolist(),
    "a copy of it": lambda x: x.cpu(),
    "places": lambda x: x.nonzero(),
    "distinct numbers": lambda x: x.unique(),
    "runs": lambda x: x.unique_consecutive(),
    "whether it is equal": lambda x: torch.equal(x, x),
    "as often as told": lambda x: x[0].repeat_interleave(x[0].long()),
    "a list of rows": lambda x: x[[0, 1]],
    "numbers from the host": lambda x: torch.tensor([1, 2], device=DEVICE),
    "numbers like it": lambda x: x.new_tensor([1, 2]),
    "a tensor from the host": lambda x: torch.zeros(4).to(DEVICE),
    "a tensor of another device": lambda x: x + torch.zeros(4),
}


@pytest.mark.parametrize("what", LOOKS)
def test_what_would_wait_is_refused(what):
    x = Away(torch.arange(12.0).view(3, 4))
    with there(), apart(), pytest.raises(Stops):
        LOOKS[what](x)


def test_what_waits_for_nothing_is_computed():
    x = Away(torch.arange(12.0).view(3, 4))
    with there(), apart():
        rows = sent(torch.tensor([2, 0]), DEVICE)
        found = (x[rows] @ x.T)[:, 1:].masked_fill(x[rows][:, 2:] > 9, 0).sort(1).values + torch.ones(2, device=DEVICE)
        x[:, 1] = 5
    assert found.device == DEVICE
    assert found.here.tolist() == [[1, 1], [39, 63]]
    assert x.here[:, 1].tolist() == [5.0, 5.0, 5.0]


def assert_drawn_alike(here, away, moved_own):
    """Both draw the same, with forks, and nobody waits for the other device inside a step."""
    seeds = path_seeds(3, 4)
    with there():
        paths, expected = away.start(PROMPTS, seeds), here.start(PROMPTS, seeds)
        while not paths.finished:
            with apart():
                paths = away.advance(paths)
                images = away.preview(paths)
                if paths.step == 2:
                    paths = paths.select([3, 0, 0, 2], fork_seeds(seeds, 1))
                    assert {tensor.device for tensor in (paths.codes, paths.seeds, *moved_own(paths))} == {DEVICE}
            expected = here.advance(expected)
            shown = here.preview(expected)
            if expected.step == 2:
                expected = expected.select([3, 0, 0, 2], fork_seeds(seeds, 1))
            assert torch.equal(paths.codes.here, expected.codes)
            torch.testing.assert_close(images.here, shown, atol=1e-5, rtol=1e-5)


def test_a_masked_generator_draws_and_shows_without_a_stop_what_it_does_on_a_cpu():
    here, away = tiny_generator(steps=6), tiny_generator(steps=6)
    moved(away.model)
    moved(away.image_tokenizer)
    assert_drawn_alike(here, away, lambda paths: [paths.own])


@pytest.mark.parametrize("fill", ["blank", "repeat", "draft"])
def test_a_raster_generator_draws_and_shows_without_a_stop_what_it_does_on_a_cpu(tmp_path, fill):
    here, away = (load_generator(write_janus(tmp_path)).adjusted(fill=fill) for _ in range(2))
    moved(away.model)
    assert_drawn_alike(here, away, lambda paths: paths.own)


def test_rows_are_gathered_on_several_devices():
    tree = {"near": torch.arange(4), "far": Away(torch.arange(4) * 2)}
    for rows in ([3, 1], torch.tensor([3, 1]), torch.tensor([False, True, False, True])):
        with there(), apart():
            found = gathered(tree, rows)
        assert sorted(found["near"].tolist()) == [1, 3]
        assert found["far"].device == DEVICE and sorted(found["far"].here.tolist()) == [2, 6]
    assert gathered({"near": torch.arange(4)}, [])["near"].shape == (0,)


def test_as_many_codes_are_masked_as_the_schedule_says_at_most():
    """Also where ties or forks left fewer: what is not masked is not drawn again."""
    generator = tiny_generator(steps=6)
    paths = generator.advance(generator.start(["cat"], path_seeds(0, 2)))
    fewer = paths.codes.clone()
    fewer[1, fewer[1] == UNDECIDED] = torch.where(
        torch.arange(int((fewer[1] == UNDECIDED).sum())) % 2 > 0, 7, UNDECIDED
    )
    again = generator.resume(["cat"], paths.seeds, fewer, 1)
    after = generator.advance(again)
    alone = generator.advance(generator.resume(["cat"], paths.seeds[1:], fewer[1:], 1))
    assert torch.equal(after.codes[1:], alone.codes)
    assert torch.equal(after.codes[0], generator.advance(paths).codes[0])
    known = fewer[1] != UNDECIDED
    assert torch.equal(generator.predicted(after)[1][known], fewer[1][known])
    assert elsewhere.copies == []


def test_what_torch_holds_and_nothing_is_in_counts_as_free(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1_000, 9_000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 700)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 300)
    assert available_bytes(torch.device("cuda")) == 1_400


@pytest.mark.parametrize(("has", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_weights_are_bfloat16_on_a_gpu_that_has_it(monkeypatch, has, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has or including_emulation)
    assert loaded_as(None, torch.device("cuda")) == expected
    assert loaded_as("bfloat16", torch.device("cuda")) == torch.bfloat16
    assert loaded_as(None, torch.device("cpu")) == torch.float32


def test_float32_is_computed_in_full_where_that_is_asked_for():
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    assert before == (False, True)  # as the documentation says
    with in_full():
        assert not torch.backends.cuda.matmul.allow_tf32 and not torch.backends.cudnn.allow_tf32
    assert before == (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)


def test_weights_are_read_straight_to_the_device(monkeypatch, tmp_path):
    places = []

    def load_file(file, device):
        places.append(device)
        return {"a": torch.tensor([0.5, 1.0])}

    monkeypatch.setattr(weights, "load_file", load_file)
    (tmp_path / "model.safetensors").write_bytes(b"x")
    found = weights.load_state_dict(tmp_path / "model.safetensors", torch.device("cpu"), torch.bfloat16)
    assert places == ["cpu"] and found["a"].dtype == torch.bfloat16
    monkeypatch.setattr(weights, "load_file", lambda file, device: places.append(device) or {})
    weights.load_state_dict(tmp_path / "model.safetensors", torch.device("cuda", 1))
    weights.load_state_dict(tmp_path / "model.safetensors")
    assert places[1:] == ["cuda:1", "cpu"]


def test_processes_of_one_machine_take_its_gpus_in_turn(monkeypatch):
    chosen = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    for rank in range(4):
        use_device(rank)
    assert chosen == [0, 1, 2, 0]


def test_a_worker_takes_its_share_of_the_machine(monkeypatch):
    """The workers of evaluations, curations and studies, which are processes of one machine."""
    chosen, threads = [], []
    monkeypatch.setattr(machine, "use_device", chosen.append)
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setattr(machine, "_share", None)
    machine.settle()
    assert (chosen, threads) == ([], [])
    machine.share(1, 3)
    machine.settle()
    assert (chosen, threads) == ([1], [2])
    monkeypatch.setattr(machine, "_share", None)
    for name, value in {
        "RANK": "5",
        "WORLD_SIZE": "8",
        "LOCAL_RANK": "2",
        "MASTER_ADDR": "a",
        "MASTER_PORT": "9",
    }.items():
        monkeypatch.setenv(name, value)
    machine.settle()
    assert (chosen, threads) == ([1, 2], [2])


def by_lean(tmp_path):
    return load_verifier("tiny-zero-shot", device="cpu", dtype="float32"), "model"


def by_showo(tmp_path):
    verifier = load_verifier(str(write_showo(tmp_path / "showo")), device="cpu")
    return verifier, "model", "_images"


@pytest.mark.parametrize("make", [by_lean, by_showo])
def test_a_question_is_one_copy_to_the_host(make, tmp_path):
    """And so is its follow-up: what is read of images and texts stays on the device."""
    here, *_ = make(tmp_path / "a")
    away, *parts = make(tmp_path / "b")
    for part in parts:
        moved(getattr(away, part))
    images = torch.rand(3, 3, 40, 56, generator=torch.Generator().manual_seed(0))
    prompts = ["a cat", "two dogs and a red apple", "a cat"]
    first, conversation = here.begin(images, prompts, CLARITY)
    expected = [first, here.ask(images, prompts, POTENTIAL, conversation), here.ask(images, prompts, ORM)]
    seen = Away(images)
    with there():
        assert away.device == DEVICE
        with apart(copies_allowed=True):
            answers, conversation = away.begin(seen, prompts, CLARITY)
            found = [answers]
            assert len(elsewhere.copies) == 1
        for question, after in ((POTENTIAL, conversation), (ORM, None)):
            with apart(copies_allowed=True):
                found.append(away.ask(seen, prompts, question, after))
                assert len(elsewhere.copies) == 1
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    assert away.usage == here.usage
