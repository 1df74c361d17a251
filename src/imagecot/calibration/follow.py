"""A calibration from its recipe to its advice: draw the pools that are missing, measure, try everything, choose."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from imagecot import registry
from imagecot.calibration.choice import checked, chosen, frontier
from imagecot.calibration.compare import ALONE, CALLS, PREVIEWS, ROWS, TOGETHER, Compared, Comparing, compare
from imagecot.calibration.costs import Costs, measure
from imagecot.calibration.pools import Judging, PoolRow, Pools, looked_at, observe
from imagecot.calibration.recipe import CalibrationRecipe
from imagecot.calibration.studies import pools_of
from imagecot.contracts.generator import Generator
from imagecot.contracts.search import Calibrated
from imagecot.contracts.values import JSON
from imagecot.contracts.verifier import Verifier
from imagecot.errors import UsageError
from imagecot.generators import load_generator
from imagecot.judging import beside
from imagecot.prompts import check_prompts
from imagecot.recipes import usable
from imagecot.study.counted import counted
from imagecot.study.models import Judges
from imagecot.study.searches import strategy_named
from imagecot.study.store import in_turn
from imagecot.verifiers import load_verifier
from imagecot.watch import SILENT, Watch


@dataclass(frozen=True)
class Chosen:
    """What was found for a search.

    taken     the settings that are advised
    frontier  those that none beats in both score and seconds, the fastest first
    tried     all of them
    left_out  how many could not be replayed
    checked   of the rule, by prompts that did not choose: points of difference, their error, share of the seconds
    """

    search: str
    taken: Compared
    frontier: Sequence[Compared]
    tried: Sequence[Compared]
    left_out: int
    checked: tuple[float, float, float] | None


@dataclass(frozen=True)
class Calibration:
    """What was found for all searches.

    judged_by  who says which images are right
    by_itself  whether that is the verifier of the searches
    held_out   whether the prompts are those that a world is tested by, so that nothing may be advised
    """

    recipe: CalibrationRecipe
    verifier: str
    judged_by: str
    by_itself: bool
    held_out: bool
    prompts: int
    costs: Costs
    found: Sequence[Chosen]

    @property
    def advice(self) -> dict[str, dict[str, JSON]]:
        """The settings by the names of searches, as `search_config.json` holds them."""
        return {one.search: dict(one.taken.tried.settings) for one in self.found}

    def as_json(self) -> dict[str, JSON]:
        """All that was found."""
        searches: dict[str, JSON] = {}
        for one in self.found:
            names = ("points", "error", "seconds")
            searches[one.search] = {
                "taken": numbers(one.taken),
                "frontier": [numbers(each) for each in one.frontier],
                "tried": [numbers(each) for each in one.tried],
                "left_out": one.left_out,
                "checked": dict(zip(names, one.checked, strict=True)) if one.checked else None,
            }
        return {
            "generator": self.recipe.generator,
            "verifier": self.verifier,
            "judged_by": self.judged_by,
            "by_itself": self.by_itself,
            "held_out": self.held_out,
            "prompts": self.prompts,
            "n": self.recipe.n,
            "orders": self.recipe.orders,
            "loss": self.recipe.loss,
            "best_of_n": 100 * float(self.found[0].taken.best.right[0].mean()),
            "costs": self.costs.model_dump(mode="json"),
            "advice": {name: dict(settings) for name, settings in self.advice.items()},
            "searches": searches,
        }


def numbers(one: Compared) -> dict[str, JSON]:
    """What is known of some settings, beside best-of-n: shares of its rows and seconds, points of its score."""
    judges = range(len(one.differences))
    return {
        "settings": dict(one.tried.settings),
        "rows": one.share(ROWS),
        "judge_calls": one.each(CALLS),
        "previews": one.each(PREVIEWS),
        "seconds": one.share(ALONE),
        "seconds_in_batches": one.share(TOGETHER),
        "difference": [one.difference(judge) for judge in judges],
        "error": [one.error(judge) for judge in judges],
    }


def calibrate(recipe: CalibrationRecipe, watch: Watch = SILENT) -> Calibration:
    """Do what is missing of the pools, and choose the settings of every search.

    UsageError for a search that names no settings to try, a prompt that a world is tested by, models that cannot do
    what is asked, and a folder that holds something else; ImagecotError where a model or file cannot be used.
    """
    recipe = usable(recipe, watch)
    for name in recipe.searches:
        _check_search(name)
    pools = Pools(recipe)
    registry.check("generator", recipe.generator)
    registry.check("verifier", pools.verifier)
    if recipe.pools is None:
        pools.store()
    with watch.waiting("loading the models"):
        models = _load(pools)
    if recipe.pools is None:
        rows = _drawn(pools, models, watch)
    else:
        rows = pools_of(recipe.pools, recipe.generator, pools.verifier, recipe.n, models.generator.steps)
    with watch.waiting("measuring"):
        costs = measure(models.generator, models.verifier, pools.questions, rows[0].prompt, len(rows[0].final))
    comparing = Comparing(rows, costs, recipe.orders, recipe.seed)
    judge = pools.judge or pools.detector or ""
    return Calibration(
        recipe=recipe,
        verifier=pools.verifier,
        judged_by=str(recipe.pools) if recipe.pools else judge,
        by_itself=recipe.pools is None and judge == pools.verifier,
        held_out=recipe.pools is not None,
        prompts=len(rows),
        costs=costs,
        found=[_chosen(name, comparing, recipe.loss, watch) for name in recipe.searches],
    )


def _check_search(name: str) -> None:
    if not isinstance(strategy_named(name), Calibrated):
        raise UsageError(
            f"{name} names no settings to try, so it cannot be calibrated; name a search that has trials, such as "
            "adaptive, parm or hierarchical."
        )


def _chosen(name: str, comparing: Comparing, loss: float, watch: Watch) -> Chosen:
    with watch.progress(f"trying settings of {name}") as progress:
        found, left_out = compare(name, comparing, progress)
    if not found:
        raise UsageError(
            f"nothing that {name} tries can be replayed on these paths, since {left_out} settings ask what is not "
            "recorded; let pools be drawn, from an earlier --first-step."
        )
    return Chosen(name, chosen(found, loss), frontier(found), found, left_out, checked(found, loss))


@dataclass(frozen=True)
class _Models:
    generator: Generator
    verifier: Verifier
    judging: Judging | None


def _load(pools: Pools) -> _Models:
    """Load who draws, who verifies, and who judges where anything is drawn."""
    recipe = pools.recipe
    generator = load_generator(recipe.generator, dtype=recipe.precision)
    with beside(recipe.generator, generator, dtype=recipe.precision):
        verifier = load_verifier(pools.verifier, dtype=recipe.precision)
        judging = None
        if recipe.pools is None and pools.judge is not None:
            other = pools.judge != pools.verifier
            judge = load_verifier(pools.judge, dtype=recipe.precision) if other else verifier
            judging = Judging(None, judge)
        elif recipe.pools is None:
            assert pools.detector is not None
            judging = Judging(Judges.load(pools.detector, pools.home))
    first = recipe.first_step
    if first is not None and not 1 <= first <= generator.steps:
        raise UsageError(f"paths of {recipe.generator} have {generator.steps} steps; give a --first-step up to that.")
    return _Models(generator, verifier, judging)


def _drawn(pools: Pools, models: _Models, watch: Watch) -> list[PoolRow]:
    """The pools, those that are missing drawn now."""
    store, prompts, judging = pools.store(), pools.prompts, models.judging
    assert judging is not None
    check_prompts([metadata.prompt for metadata in prompts], models.generator, models.verifier)
    missing = len(prompts) - len(store.numbers())
    if missing:
        steps = len(looked_at(models.generator.steps, pools.recipe.first_step))
        watch.tell(f"{missing} of {len(prompts)} pools to draw, with previews of {steps} steps")

    def make(number: int, rows: Mapping[int, PoolRow]) -> PoolRow:
        return observe(pools, models.generator, models.verifier, judging, number)

    with watch.progress("drawing and asking") as progress:
        in_turn(store, len(prompts), make, counted(progress, missing))
    store.fold()
    return store.rows()
