"""Seconds of a search on all prompts, from runs on a few of them that were timed.

What a search takes differs from prompt to prompt, as some stop early. So the seconds of a timed run are divided by what
was counted in it: those of the verifier by its answers, the others by the generator's rows. Both are measured for each
search and budget by itself, at the batch sizes that occur in it, and multiplied by the counts on all prompts.
"""

import math
from collections.abc import Sequence
from itertools import groupby

from imagecot.study.frontier.summary import Clock
from imagecot.study.rows import TimingRow


def clock(runs: Sequence[TimingRow], rows: float, calls: float) -> Clock | None:
    """The mean seconds of a search with these mean counts of generator rows and judge calls; None without runs.

    The standard error is that of the jackknife over the runs, whose prompts are a sample of all. Runs that shared a
    batch are one, as its seconds were divided among them; of one batch alone there is none.
    """
    runs = [run for run in runs if run.counts is not None and run.judge_seconds is not None]
    if not runs:
        return None
    generator, judge = _predicted(runs, rows, calls)
    mean = sum(run.seconds for run in runs) / len(runs)
    found = Clock(generator=generator, judge=judge, total=generator + judge, timed=len(runs), timed_mean=mean)
    batches = [[*group] for _, group in groupby(sorted(runs, key=lambda run: run.began), lambda run: run.began)]
    if len(batches) < 2:
        return found
    others = [[run for batch in (*batches[:k], *batches[k + 1 :]) for run in batch] for k in range(len(batches))]
    totals = [sum(_predicted(rest, rows, calls)) for rest in others]
    centre = sum(totals) / len(totals)
    error = math.sqrt((len(batches) - 1) / len(batches) * sum((total - centre) ** 2 for total in totals))
    alike = [(rest, run) for rest, batch in zip(others, batches, strict=True) for run in batch]
    missed = [sum(_predicted(rest, *_counts(run))) - run.seconds for rest, run in alike]
    a_run = math.sqrt(sum(miss**2 for miss in missed) / len(missed)) / mean if mean else None
    return found.model_copy(update={"standard_error": error, "a_run": a_run})


def _predicted(runs: Sequence[TimingRow], rows: float, calls: float) -> tuple[float, float]:
    """The generator's and the judge's seconds for so many rows and calls, by what both took in these runs."""
    drawn, asked = (sum(counts) for counts in zip(*map(_counts, runs), strict=True))
    judge = sum(run.judge_seconds or 0.0 for run in runs)
    generator = sum(run.seconds for run in runs) - judge
    return generator * rows / drawn if drawn else 0.0, judge * calls / asked if asked else 0.0


def _counts(run: TimingRow) -> tuple[int, int]:
    assert run.counts is not None
    return run.counts.generator_rows, run.counts.judge_calls
