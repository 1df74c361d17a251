"""Which variables of the environment make one process of several, and which are left behind or make no sense."""

import pytest

from imagecot.errors import UsageError
from imagecot.launch import expect, forget_leftovers, launched, leftovers

LAUNCHED = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


def test_only_a_launcher_makes_one_process_of_several():
    assert (launched(LAUNCHED), leftovers(LAUNCHED)) == ((1, 2), [])
    assert (launched({}), leftovers({})) == ((0, 1), [])
    for name in LAUNCHED:
        assert launched({key: value for key, value in LAUNCHED.items() if key != name}) == (0, 1)


@pytest.mark.parametrize(
    "environment",
    [{"RANK": "1", "WORLD_SIZE": "2"}, {"WORLD_SIZE": ""}, {"LOCAL_RANK": "0"}, {"PMI_SIZE": "4"},
     {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "1"}],
)  # fmt: skip
def test_what_is_left_behind_is_named_and_forgotten(environment, monkeypatch):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert set(leftovers()) == {name for name in environment if not name.startswith("MASTER")}
    assert launched() == (0, 1)
    forget_leftovers()
    assert leftovers() == []


@pytest.mark.parametrize("value", ["x", "-1", "1.5", " 1", "٣", "9" * 30])
@pytest.mark.parametrize("name", ["RANK", "WORLD_SIZE", "LOCAL_RANK"])
def test_garbage_is_refused(name, value):
    for environment in ({name: value}, LAUNCHED | {name: value}):
        with pytest.raises(UsageError, match=name):
            launched(environment)


@pytest.mark.parametrize("changed", [{"RANK": "2"}, {"MASTER_PORT": "99999"}, {"MASTER_PORT": "0"}])
def test_numbers_that_do_not_go_together_are_refused(changed):
    with pytest.raises(UsageError, match="do not go together"):
        launched(LAUNCHED | changed)


def test_mpi_tells_as_well():
    there = {"MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
    assert launched(there | {"PMI_RANK": "1", "PMI_SIZE": "4"}) == (1, 4)
    assert launched(there | {"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "3"}) == (2, 3)
    assert launched(LAUNCHED | {"PMI_RANK": "3", "PMI_SIZE": "4"}) == (1, 2)  # torchrun is nearer


@pytest.fixture
def alone(monkeypatch):
    for name in (*LAUNCHED, "ACCELERATE_MIXED_PRECISION", "ACCELERATE_USE_FSDP"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_as_many_as_were_asked_for_or_a_sentence(alone):
    expect(None)
    expect(1)
    with pytest.raises(
        UsageError, match=r"^4 processes were asked for and 1 started; start them by torchrun .*-node 4 "
    ):
        expect(4)
    for name, value in LAUNCHED.items():
        alone.setenv(name, value)
    expect(2)
    with pytest.raises(UsageError, match=r"^4 processes were asked for and 2 started"):
        expect(4)


def test_accelerate_that_starts_one_of_several_is_found_out(alone):
    """What `accelerate launch --cpu --num_processes 2` leaves in the environment of its one process."""
    alone.setenv("ACCELERATE_MIXED_PRECISION", "no")
    expect(None)  # of one process
    alone.setenv("MASTER_ADDR", "127.0.0.1")
    alone.setenv("MASTER_PORT", "29500")
    with pytest.raises(UsageError, match="asked for several processes and started one"):
        expect(None)


def test_plugins_of_accelerate_are_refused(alone):
    alone.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UsageError, match=r"ACCELERATE_USE_FSDP is set, .* set shard=true"):
        expect(None)
