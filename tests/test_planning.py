"""Planning: what is simulated can be worked out by hand, and plans add up."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from imagecot import recipes
from imagecot.commands.plan import plan as command
from imagecot.errors import UsageError
from imagecot.planning import growth
from imagecot.planning.estimate import effort
from imagecot.planning.plan import plan
from imagecot.planning.rates import A100, CARDS, Rates, card_named, read_rates
from imagecot.planning.simulation import OWN, Camp, Stage, Trouble, simulate

ROOT = Path(__file__).parents[1]
TINY = ROOT / "docs/results/benchmark/tiny.json"
TEN = [[Stage(OWN, 10.0)]] * 40


def read(name: str, *changes: str):
    return recipes.read(ROOT / "recipes" / name, changes)


# --- the simulation, by hand


def test_one_worker_loads_and_does_one_unit_after_the_other():
    found = simulate(Camp(1, TEN, [Stage(OWN, 7.0)], take=0.5))
    assert found.seconds == pytest.approx(7 + 40 * 10.5)
    assert (found.work, found.begun, found.failures) == (400, 40, 0)


@pytest.mark.parametrize(("workers", "rounds"), [(2, 20), (8, 5), (16, 3), (40, 1), (100, 1)])
def test_units_are_taken_in_rounds(workers, rounds):
    assert simulate(Camp(workers, TEN, take=0.0)).seconds == pytest.approx(10 * rounds)


def test_a_bounded_pool_is_what_all_wait_for():
    unit = [[Stage(OWN, 10.0), Stage("judge", 5.0)]] * 40
    found = simulate(Camp(20, unit, pools={"judge": 1}, take=0.0))
    assert found.seconds == pytest.approx(10 + 40 * 5)
    assert found.busy["judge"] == pytest.approx(200 / 210)
    assert simulate(Camp(20, unit, pools={"judge": 20}, take=0.0)).seconds == pytest.approx(30)


def test_a_slow_worker_does_fewer_units():
    found = simulate(Camp(2, TEN, trouble=Trouble(slow=0.5, slowness=3.0), take=0.0))
    assert found.seconds == pytest.approx(300)  # 30 units of the fast one, 10 of the slow one
    assert found.efficiency(2) == pytest.approx(400 / 600)


def test_a_unit_of_a_dead_worker_is_taken_over_when_patience_is_lost():
    """One of two fails in its only unit, and is away for long; the other one waits for the lease."""
    units = [[Stage(OWN, 10.0)], [Stage(OWN, 10.0)]]
    for seed in range(40):
        found = simulate(Camp(2, units, trouble=Trouble(failures=60.0, restart=1e6), take=0.0, seed=seed))
        if found.failures == 1 and found.begun == 3:
            assert 25 + 10 <= found.seconds - 0 <= 10 + 31 + 1.5 + 10
            break
    else:
        pytest.fail("nobody failed")


def test_every_unit_is_done_whatever_fails_and_time_depends_on_the_seed_alone():
    rough = Trouble(failures=20.0, restart=30.0, slow=0.2, spread=0.4, preempted=2.0, machine=4, away=60.0)
    camp = Camp(16, [[Stage(OWN, 20.0), Stage("disk", 0.1)]] * 300, [Stage(OWN, 5.0)], {"disk": 1}, rough)
    one, again, other = simulate(camp), simulate(camp), simulate(replace(camp, seed=1))
    assert one == again != other
    assert one.failures > 5 and one.begun > 300
    assert one.seconds > simulate(replace(camp, trouble=replace(rough, failures=0.0, preempted=0.0))).seconds


def test_growth_is_near_linear_where_there_is_enough_work():
    found = growth.work(26_000)
    for case in (growth.Case("", 26_000, growth.QUIET), growth.Case("", 26_000, growth.ROUGH)):
        few, many = (simulate(growth.camp(case, found, count, 0)).efficiency(count) for count in (16, 64))
        assert few > 0.85 and many > 0.85
    text = growth.table({"a": {64: growth.Share(2.0, 0.9, 0.01)}})
    assert text.splitlines()[2] == "| a | 2.00 h, 90.0% ± 1.0% |"


# --- rates and plans


def test_a_curation_by_hand():
    recipe = read("janus/curate-orm.yaml")
    found = effort(recipe, Rates())
    faster = effort(recipe, Rates(CARDS["h100"]))
    assert found.units == 10_000 // (160 // recipe.paths) == 1250
    assert found.images == 10_000 * recipe.keep and found.pixels == 384**2
    assert found.read == pytest.approx(200_000 * 2 * 313e9 / A100.flops)
    assert found.drawn / faster.drawn == pytest.approx(A100.bandwidth**-1 * CARDS["h100"].bandwidth, rel=0.01)
    planned = plan(recipe, 64, Rates(CARDS["h100"]))
    assert planned.units == 1250 and planned.workers == 64 and planned.waits.startswith("the generator")
    assert planned.ideal == pytest.approx(sum(planned.parts.values()) / 64)
    assert 1 < planned.hours / planned.ideal < 1.4
    assert planned.storage == pytest.approx(found.images * 384**2 * 1.7)
    half = plan(recipe, 32, Rates(CARDS["h100"]))
    assert 1.7 < half.hours / planned.hours < 2.05


def test_too_few_units_are_what_is_waited_for():
    planned = plan(read("janus/curate-orm.yaml"), 1000, Rates())
    assert planned.waits.startswith("the last units: 1250 are few for 1000 workers")


def test_a_training_is_shared_by_as_many_as_its_step_has_examples():
    planned = plan(read("show-o/dpo.yaml"), 64, Rates())
    assert planned.workers == 10 and any("54 rest" in note for note in planned.notes)
    one = plan(read("show-o/dpo.yaml"), 1, Rates())
    assert one.hours == pytest.approx(one.ideal) and one.memory > 16e9
    shared = plan(read("show-o/dpo.yaml", "training.shard=true"), 10, Rates())
    assert shared.memory == pytest.approx(one.memory / 10)
    full = plan(read("llava-onevision/orm.yaml"), 8, Rates())
    assert full.storage > 0


def test_measured_rates_take_the_place_of_the_data_sheet(tmp_path):
    record = json.loads(TINY.read_text())
    recipe = read("tiny/dpo.yaml")
    with pytest.raises(UsageError, match=r"^nothing is known of how long this dpo takes: .* by --rates\.$"):
        plan(recipe, 2, Rates())
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "a cup"}\n' * 32)
    asked = {"kind": "curate-orm", "prompts": prompts, "output": tmp_path / "out", "generator": "tiny", "paths": 20}
    (tmp_path / "recipe.yaml").write_text(json.dumps(asked, default=str))
    rates = read_rates(A100, [TINY])
    found = effort(recipes.read(tmp_path / "recipe.yaml", []), rates)
    best = min(batch["seconds_per_path_step"] for batch in record["batches"])
    assert found.drawn == pytest.approx(32 * 20 * best * 18)
    assert found.decoded == pytest.approx(32 * 20 * record["breakdown"]["preview"]["seconds"] / 20)
    assert (found.units, found.read) == (4, 0)
    told = plan(recipes.read(tmp_path / "recipe.yaml", []), 2, rates).rates
    assert told[0].startswith(f"tiny: measured ({TINY}, ") and "not measured" in told[1]


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"generator": "x"}', '{"generator": 1, "batches": []}'])
def test_files_that_are_no_benchmark_are_one_sentence(text, tmp_path):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UsageError, match=r"x\.json is no benchmark\.json"):
        read_rates(A100, [tmp_path / "x.json"])
    with pytest.raises(UsageError, match=r"missing\.json"):
        read_rates(A100, [tmp_path / "missing.json"])


def test_cards_and_judges_that_cannot_be_are_one_sentence():
    with pytest.raises(UsageError, match="no data of a card 'abacus' are known; take a100, h100"):
        card_named("abacus")
    with pytest.raises(UsageError, match="nobody judges in this recipe"):
        plan(read("janus/curate-orm.yaml"), 8, Rates(), judges=2)
    with pytest.raises(UsageError, match="8 of 8 cards serve the judge"):
        plan(read("janus/curate-orm.yaml"), 8, Rates(), judges=8)


def test_the_command_says_it_in_lines_or_in_json(capsys):
    file = ROOT / "recipes/janus/curate-orm.yaml"
    command(file, gpus=64, gpu="h100")
    lines = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert lines["units"] == "1,250" and lines["takes"].endswith("with 64 workers on 64 cards")
    command(file, gpus=64, gpu="h100", as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["units"] == 1250 and found["kind"] == "curate-orm" and found["parts"]["generator"] > 1
