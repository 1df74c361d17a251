"""Verdicts on what a row would choose from groups of recorded paths: the same candidates serve every N."""

from collections.abc import Sequence

from imagecot.geneval.summary import Verdict
from imagecot.study.recipe import ORACLE, RowRecipe
from imagecot.study.rows import PathRow, PoolRow
from imagecot.study.scores import Shown, verdict
from imagecot.study.searches import How


def judged(rows: Sequence[PoolRow], name: str, row: RowRecipe | None, n: int, judge: int = 0) -> list[Verdict]:
    """A verdict for each disjoint group of recorded paths of each prompt, by one of the judges.

    rows  what a generator's store holds; prompts that the row was not drawn for are left out
    name  the row's name; RANDOM (each path of a group counts) or ORACLE (right if any is) where `row` is None
    n     how many paths are asked for; of no effect on a row that draws its own paths, which has one verdict a prompt,
          and on one of single paths, which has one for every recorded path
    """
    how = row.how if row else None
    found = []
    for observed in rows:
        if row is None or name in observed.searches:
            own = observed.searches[name].correct if row else None
            values = _values(observed, name, how, n, observed.correct[judge], own[judge] if own else None)
            found += [verdict(observed.metadata, bool(value)) for value in values]
    return found


def atoms(rows: Sequence[PoolRow], name: str, row: RowRecipe | None, n: int) -> list[Shown] | None:
    """The same of the shares of parts that are right, by the first judge; None where a row does not tell them."""
    how = row.how if row else None
    found = []
    for observed in rows:
        if row is None or name in observed.searches:
            own = observed.searches[name].atoms if row else None
            if observed.atoms is None or (how is not None and not how.replayed and own is None):
                return None
            values = _values(observed, name, how, n, observed.atoms[0], own[0] if own else None)
            found += [Shown(observed.metadata.tag, observed.metadata.text, value) for value in values]
    return found


def by_judge(rows: Sequence[PoolRow], name: str, row: RowRecipe | None, n: int) -> list[list[Verdict]]:
    """The same by each judge that looked at the rows."""
    return [judged(rows, name, row, n, judge) for judge in range(len(rows[0].correct))]


def chosen(observed: PoolRow, name: str) -> list[bool]:
    """Each judge's verdict on what a row chose among all its paths."""
    outcome = observed.searches[name]
    return outcome.correct if outcome.correct is not None else [correct[outcome.chosen] for correct in observed.correct]


def replayed(paths: Sequence[PathRow], how: How, n: int) -> list[int]:
    """Which of recorded paths a search takes of each group in turn that it would draw for n paths."""
    records = [path.record for path in paths]
    return [group[how.choice([records[k] for k in group])] for group in _groups(len(records), how.paths(n))]


def _values(
    observed: PoolRow, name: str, how: How | None, n: int, seen: Sequence[float], own: float | None
) -> list[float]:
    """What is said of each image that counts.

    seen  of every recorded path
    own   of what a search of its own paths chose
    """
    if how is not None and not how.replayed:
        return [] if own is None else [own]
    if how is not None and not how.chooses:
        return [*seen]
    if how is not None:
        return [seen[k] for k in replayed(observed.searches[name].paths, how, n)]
    groups = _groups(len(seen), n)
    if name == ORACLE:
        return [max(seen[k] for k in group) for group in groups]
    return [seen[k] for group in groups for k in group]


def _groups(count: int, size: int) -> list[range]:
    """Disjoint groups of equal size; paths that fill none are left out."""
    return [range(first, first + size) for first in range(0, count - size + 1, size)]
