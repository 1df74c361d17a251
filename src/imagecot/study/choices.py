"""Verdicts on what a row would choose from groups of recorded paths: the same candidates serve every N."""

from imagecot.strategies.parm import without_potential
from imagecot.study.recipe import ORACLE, RowRecipe
from imagecot.study.rows import Row


def choice(paths: list[Row], group: range, keep: float = 0.0) -> int:
    """Which path of a group a search over whole paths takes: the best that was not stopped, else the least refused.

    With a share to keep, what is stopped depends on the group, and every path has its score.
    """
    stopped = {k for k in group if paths[k]["stopped"] is not None}
    if keep:
        together: dict[int, list[int]] = {}
        for k in group:
            if paths[k]["first_clear"] is not None:
                together.setdefault(paths[k]["first_clear"], []).append(k)
        stopped = {
            clear[k]
            for clear in together.values()
            for k in without_potential([paths[k]["potential"] for k in clear], keep)
        }
    running = [k for k in group if k not in stopped]
    if running:
        return max(running, key=lambda k: (paths[k]["score"], -k))
    return max(group, key=lambda k: (paths[k]["potential"], -k))


def judged(rows: list[Row], name: str, row: RowRecipe | None, n: int, judge: int = 0) -> list[Row]:
    """A verdict for each disjoint group of `n` paths of each prompt, by one of the judges; rows as `summarize` takes.

    rows  what a generator's store holds; prompts that the row was not drawn for are left out
    name  the row's name; RANDOM (each path of a group counts) or ORACLE (right if any is) where `row` is None
    n     of no effect on a row that draws its own paths, or only one: it has one verdict a prompt
    """
    found = []
    for observed in rows:
        if row is not None and name not in observed["searches"]:
            continue
        metadata = observed["metadata"]
        for correct in _verdicts(observed, name, row, n, judge):
            found.append({"tag": metadata["tag"], "metadata": metadata, "correct": correct})
    return found


def chosen(observed: Row, name: str) -> list[bool]:
    """Each judge's verdict on what a row chose among all its paths."""
    outcome = observed["searches"][name]
    own: list[bool] | None = outcome.get("correct")
    return own if own is not None else [correct[outcome["chosen"]] for correct in observed["correct"]]


def _verdicts(observed: Row, name: str, row: RowRecipe | None, n: int, judge: int) -> list[bool]:
    if row is not None and not row.chooses:
        return [chosen(observed, name)[judge]]
    correct: list[bool] = observed["correct"][judge]
    groups = [range(start, start + n) for start in range(0, len(correct) - n + 1, n)]
    if row is not None:
        paths = observed["searches"][name]["paths"]
        return [correct[choice(paths, group, row.keep)] for group in groups]
    if name == ORACLE:
        return [any(correct[k] for k in group) for group in groups]
    return [correct[k] for group in groups for k in group]
