"""What an evaluation by GenEval 2 leaves for people, and for the reference's own analysis."""

from collections.abc import Sequence

from imagecot.evaluation.geneval2.summary import Found
from imagecot.evaluation.report import plain
from imagecot.geneval2.data import Benchmark
from imagecot.geneval2.summary import Estimate, Scored
from imagecot.naming import printable


def table(found: Found) -> str:
    """Two Markdown tables: skills by AM, and atom counts by AM and GM; 95 % intervals in brackets."""
    score = found.score
    skills = [[plain(skill), str(one.count), _cell(one)] for skill, one in score.skills.items()]
    counts = [[name, str(one.am.count), _cell(one.am), _cell(one.gm)] for name, one in score.atom_counts.items()]
    whole = score.overall
    counts.append(["**all**", str(score.images), f"**{_cell(whole.am)}**", f"**{_cell(whole.gm)}**"])
    return "\n\n".join((_lines(["skill", "questions", "AM"], skills), _lines(["atoms", "images", "AM", "GM"], counts)))


def _lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _cell(found: Estimate) -> str:
    if found.low is None or found.high is None:
        return f"{found.mean:.3f}"
    return f"{found.mean:.3f} ({found.low:.3f} to {found.high:.3f})"


def remarks(found: Found) -> list[str]:
    """What stands under the table: the judge, answers that make a GM 0, and gaps."""
    lines = [f"judged by {found.record.judge.get('judge')}; intervals are 95 %, clustered by prompt"]
    if found.score.zeros:
        lines.append(f"{found.score.zeros} answer(s) have a probability of 0, which makes the GM of their images 0")
    if found.problems:
        lines.append(f"INCOMPLETE: {len(found.problems)} problems left images out of the score")
    return [printable(line) for line in lines]


def score_lists(images: Sequence[Scored], benchmark: Benchmark) -> list[list[float]] | None:
    """The scores of each prompt in the order of the data, as the reference's `soft_tifa_analysis.py` reads them.

    None where there is not one image of every prompt.
    """
    by_prompt = {image.prompt: image.scores for image in images}
    if len(images) != len(by_prompt) or [*by_prompt] != [*benchmark.rows]:
        return None
    return [*by_prompt.values()]
