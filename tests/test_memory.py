"""Work that does not fit is halved, and nothing else is caught."""

import pytest
import torch

from imagecot.contracts.randomness import path_seeds
from imagecot.memory import available_bytes, in_parts, is_out_of_memory
from plain_decoder import tiny_generator

torch.set_num_threads(1)
FULL = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes"


def test_slices_are_halved_until_they_fit() -> None:
    tried = []

    def work(part: slice) -> list[int]:
        tried.append(part.stop - part.start)
        if part.stop - part.start > 3:
            raise RuntimeError(FULL)
        return list(range(part.start, part.stop))

    assert in_parts(work, 10, 8) == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    assert tried == [8, 4, 2, 2, 2, 2, 2]
    assert in_parts(work, 0, 8) == []


def test_one_row_that_does_not_fit_and_other_errors_are_raised() -> None:
    def full(part: slice) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        in_parts(full, 4, 4)

    def wrong(part: slice) -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        in_parts(wrong, 4, 4)
    assert not is_out_of_memory(ValueError("out of memory"))


def test_a_generator_whose_model_runs_out_of_memory_draws_the_same() -> None:
    seeds = path_seeds(3, 5)
    generator, short = tiny_generator(steps=3), tiny_generator(steps=3)
    batches = []

    def refuse(module: object, args: tuple[torch.Tensor]) -> None:
        batches.append(len(args[0]))
        if len(args[0]) > 4:
            raise RuntimeError(FULL)

    short.model.showo.model.layers[-1].input_layernorm.register_forward_pre_hook(refuse)
    drawn = []
    for model in (generator, short):
        paths = model.start(["cat"], seeds)
        while not paths.finished:
            paths = model.advance(paths)
        drawn.append(paths.codes)
    assert torch.equal(*drawn)
    assert 10 in batches  # all rows at once were tried
    assert batches[-1] <= 4


def test_available_memory_is_plausible() -> None:
    assert 2**24 < available_bytes(torch.device("cpu")) < 2**50


def test_whatever_says_that_memory_ran_out():
    told = [MemoryError(), RuntimeError("could not create a primitive"), RuntimeError("std::bad_alloc")]
    told += [ImportError("x.so: failed to map segment from shared object"), OSError(12, "Cannot allocate memory")]
    assert all(is_out_of_memory(error) for error in told)
    assert not any(
        is_out_of_memory(error) for error in (RuntimeError("a shape"), OSError(28, "No space left"), KeyError())
    )
