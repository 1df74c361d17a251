"""The summary of a frontier, whatever of it is there, and how it came about."""

import json

from imagecot.contracts.values import rounded
from imagecot.files import write_text
from imagecot.study import timing
from imagecot.study.conclude import circumstances
from imagecot.study.frontier.analysis import Observed, analyse
from imagecot.study.frontier.plan import Plan
from imagecot.study.frontier.summary import FRONTIER, FrontierSummary, OfGenerator


def conclude(plan: Plan, command: str) -> FrontierSummary:
    """Sum up what is there, and write it."""
    for name in plan.recipe.rows:
        plan.store(name).fold()
    found = {key: _of_generator(plan, key) for key in plan.recipe.generators}
    summary = FrontierSummary(
        generators={key: one for key, one in found.items() if one},
        prompts=len(plan.prompts),
        recipe=plan.recipe.model_dump(mode="json", exclude={"kind"}),
        weights=plan.weights,
    ).model_copy(update=circumstances(command))
    # Errors are much larger than the sixth digit.
    text = json.dumps(rounded(summary.model_dump(mode="json", exclude_unset=True), 6), separators=(",", ":"))
    write_text(plan.recipe.output / FRONTIER, text + "\n")
    return summary


def _of_generator(plan: Plan, key: str) -> OfGenerator | None:
    """The searches of a generator; None where nothing was carried out yet."""
    recipe, pools = plan.recipe, plan.pools(key)
    rows = recipe.rows_of(key)
    kept = {name: plan.kept(name) for name in rows}
    against = recipe.against[key]
    if not kept[against]:
        return None
    timed = timing.read(recipe.output / timing.TIMING)
    of = {name: plan.of_row(name) for name in rows}
    observed = Observed(
        rows=rows,
        sizes={name: recipe.sizes(row) for name, row in rows.items()},
        kept=kept,
        timed={name: [run for run in timed if (run.name, run.of) == (name, of[name])] for name in rows},
        tasks={number: metadata.tag for number, (_, metadata) in enumerate(plan.prompts)},
        pools={
            number: pools.read(number, metadata.prompt).correct
            for number, (_, metadata) in enumerate(plan.prompts)
            if number in kept[against]
        },
        against=against,
    )
    return analyse(recipe.generators[key], observed, recipe.budgets)
