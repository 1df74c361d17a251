"""A frontier from its recipe to its numbers: pools, every search on them, and seconds of real runs.

`pools/GENERATOR/` hold the recorded paths, `searches/ROW.jsonl` what a row makes of them, `timing.jsonl` a row a
measurement, `frontier.json` all numbers. The same command goes on wherever it was interrupted.
"""

from imagecot import interruption
from imagecot.prompts import check_prompts
from imagecot.study.counted import counted
from imagecot.study.frontier.conclude import conclude
from imagecot.study.frontier.plan import Plan
from imagecot.study.frontier.pools import drawn
from imagecot.study.frontier.recipe import FrontierRecipe
from imagecot.study.frontier.replay import Desk
from imagecot.study.frontier.summary import FrontierSummary
from imagecot.study.frontier.timed import lacking
from imagecot.study.models import Judges, Models, Shelf, check_row
from imagecot.study.timing import measure_all
from imagecot.watch import Watch


def follow(recipe: FrontierRecipe, command: str, watch: Watch) -> FrontierSummary:
    """Do what is missing and return the summary, which is also written where the work is interrupted.

    UsageError where the output holds another study, or a row asks for what its models cannot do; ImagecotError where a
    model or a file cannot be used.
    """
    plan = Plan.of(recipe)
    plan.check()
    shelf = Shelf(recipe.precision)
    try:
        for key in plan.recipe.generators:
            search(plan, key, shelf, watch)
        measure_all(plan.recipe, {key: lacking(plan, key) for key in plan.recipe.generators}, shelf, watch)
    finally:
        if (recipe.output / "searches").is_dir():
            with watch.waiting("summing up"):
                summary = conclude(plan, command)
    return summary


def search(plan: Plan, key: str, shelf: Shelf, watch: Watch) -> None:
    """Draw the pools of a generator that are missing, and carry every row out on them that was not."""
    todo = list(plan.left(key))
    if not todo:
        return
    models = _checked(plan, key, shelf)
    judges = Judges.load(plan.recipe.detector, plan.recipe.world)
    with watch.progress(f"searches of {plan.recipe.generators[key]}") as progress:
        done = counted(progress, len(todo))
        for number, metadata, rows in todo:
            interruption.check()
            pools = plan.pools(key)
            if not pools.has(number):
                plan.claim()
                pools.keep(number, drawn(models.generator, judges, metadata, plan.recipe.n, plan.recipe.seed))
            pool = pools.read(number, metadata.prompt)
            desk = Desk(metadata, pool, models, judges, plan.recipe.seed)
            for name, row in rows.items():
                sizes, orders = plan.recipe.sizes(row), plan.recipe.orders_of(row)
                plan.store(name).keep(desk.outcomes(number, plan.of_row(name), row, sizes, orders))
            done()


def _checked(plan: Plan, key: str, shelf: Shelf) -> Models:
    """The models of a generator's rows; UsageError, naming the row, for what they cannot do."""
    models = shelf.of_rows(plan.recipe, key)
    texts = [metadata.prompt for _, metadata in plan.prompts]
    check_prompts(texts, models.generator, *models.verifiers.values(), *models.correctors.values())
    for name, row in plan.recipe.rows_of(key).items():
        check_row(name, row, models, texts)
    return models
