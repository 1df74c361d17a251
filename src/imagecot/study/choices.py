"""Verdicts on what a row would choose from groups of recorded paths: the same candidates serve every N."""

from collections.abc import Sequence

from imagecot.geneval.summary import Verdict
from imagecot.study.recipe import ORACLE, RowRecipe
from imagecot.study.rows import PathRow, PoolRow
from imagecot.study.scores import verdict
from imagecot.study.searches import How


def judged(rows: Sequence[PoolRow], name: str, row: RowRecipe | None, n: int, judge: int = 0) -> list[Verdict]:
    """A verdict for each disjoint group of recorded paths of each prompt, by one of the judges.

    rows  what a generator's store holds; prompts that the row was not drawn for are left out
    name  the row's name; RANDOM (each path of a group counts) or ORACLE (right if any is) where `row` is None
    n     how many paths are asked for; of no effect on a row that does not choose among recorded ones: it has one
          verdict a prompt
    """
    how = row.how if row else None
    there = [observed for observed in rows if row is None or name in observed.searches]
    return [
        verdict(observed.metadata, correct)
        for observed in there
        for correct in _verdicts(observed, name, how, n, judge)
    ]


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


def _verdicts(observed: PoolRow, name: str, how: How | None, n: int, judge: int) -> list[bool]:
    if how is not None and not how.chooses:
        return [chosen(observed, name)[judge]]
    correct = observed.correct[judge]
    if how is not None:
        return [correct[k] for k in replayed(observed.searches[name].paths, how, n)]
    groups = _groups(len(correct), n)
    if name == ORACLE:
        return [any(correct[k] for k in group) for group in groups]
    return [correct[k] for group in groups for k in group]


def _groups(count: int, size: int) -> list[range]:
    """Disjoint groups of equal size; paths that fill none are left out."""
    return [range(first, first + size) for first in range(0, count - size + 1, size)]
