"""The numbers of an audit from its rows, its table and its figure."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from imagecot.contracts.questions import ORM
from imagecot.figures import literal
from imagecot.statistics.answers import auroc
from imagecot.statistics.clustered import jackknife_error, ratio_error
from imagecot.statistics.correlation import correlation, pairs_in_order, rank_correlation
from imagecot.strategies.parm import YES, without_potential
from imagecot.study.rows import AuditRow
from imagecot.study.summary import AuditSummary, Estimate, Partial, Predicts, known

_STOPPED = 0.5  # the share of each prompt's paths that would stop


@dataclass(frozen=True)
class _Place:
    """What is compared: the answers of a verifier to a question about previews after a step, with one fill."""

    verifier: str
    question: str
    fill: str | None
    step: int


Statistic = Callable[[NDArray[np.float64], NDArray[np.float64]], float]
# What the figure shows over the steps.
_SHOWN: tuple[tuple[str, Callable[[Predicts], Estimate]], ...] = (
    ("AUROC between paths of a prompt", lambda found: found.auroc_within),
    ("right images left where the worse half stops", lambda found: found.kept),
)


def analyse(rows: Sequence[AuditRow]) -> AuditSummary:
    """How far each partial verdict predicts the final one; the last step of each verifier is its final answer itself.

    Standard errors count the paths of a prompt as alike.
    """
    if not rows:
        return AuditSummary(prompts=0, paths=0, steps=0)
    clusters = [row.number for row in rows for _ in row.correct[0]]
    correct = [[right for row in rows for right in row.correct[judge]] for judge in range(len(rows[0].correct))]
    final = {name: [p for row in rows for p in row.final[name]] for name in rows[0].final}
    answers = _answers(rows)
    for name, values in final.items():
        answers[_Place(name, ORM.name, None, rows[0].steps)] = values
    return AuditSummary(
        prompts=len(rows),
        paths=len(rows[0].correct[0]),
        steps=rows[0].steps,
        right=[float(np.mean(found)) for found in correct],
        most_kept=[_ratio(_kept([float(right) for right in found], found, clusters)).value for found in correct],
        partials=[
            Partial(
                verifier=place.verifier,
                question=place.question,
                step=place.step,
                fill=place.fill,
                mean_p=float(np.mean(values)),
                yes=float(np.mean(np.array(values) >= YES)),
                final=_over_paths(rank_correlation, values, final[place.verifier], clusters),
                judges=[predicts(values, found, clusters) for found in correct],
            )
            for place, values in answers.items()
        ],
    )


def _answers(rows: Sequence[AuditRow]) -> dict[_Place, Sequence[float]]:
    """What was said of previews, by verifier, question, fill and step in their order."""
    found: dict[_Place, list[float]] = {}
    for name in rows[0].final:
        for question in {q: None for seen in rows[0].seen for q in seen.answers[name]}:
            for fill in {seen.fill: None for seen in rows[0].seen}:
                for row in rows:
                    for seen in (seen for seen in row.seen if seen.fill == fill):
                        place = _Place(name, question, fill, seen.step)
                        found.setdefault(place, []).extend(seen.answers[name][question])
    return {**found}


def predicts(p_yes: Sequence[float], correct: Sequence[bool], clusters: Sequence[int]) -> Predicts:
    """How well P(yes) (N,) predicts what is right (N,), where the paths of a prompt are those of one cluster (N,)."""
    ordered = pairs_in_order(p_yes, correct, clusters)
    return Predicts(
        auroc=_over_paths(_auroc, p_yes, correct, clusters),
        auroc_within=_ratio(ordered),
        point_biserial=_over_paths(correlation, p_yes, correct, clusters),
        kept=_ratio(_kept(p_yes, correct, clusters)),
    )


def _auroc(p_yes: NDArray[np.float64], correct: NDArray[np.float64]) -> float:
    return auroc(torch.from_numpy(p_yes), torch.from_numpy(correct > 0))


def _over_paths(statistic: Statistic, a: Sequence[float], b: Sequence[float], clusters: Sequence[int]) -> Estimate:
    x, y = (np.asarray(values, dtype=np.float64) for values in (a, b))
    return Estimate(
        value=known(statistic(x, y)),
        standard_error=jackknife_error(lambda part: statistic(x[part], y[part]), clusters),
    )


def _ratio(counted: Sequence[tuple[float, int]]) -> Estimate:
    """Σ / Σ of pairs, one a prompt; None where there are none."""
    sums, sizes = [count for count, _ in counted], [size for _, size in counted]
    if not sum(sizes):
        return Estimate(value=None, standard_error=None)
    return Estimate(value=sum(sums) / sum(sizes), standard_error=ratio_error(sums, sizes))


def _kept(p_yes: Sequence[float], correct: Sequence[bool], clusters: Sequence[int]) -> list[tuple[float, int]]:
    """Of each prompt how many right images are left where the worse half of its paths stops, and how many there are."""
    paths: dict[int, list[int]] = {}
    for k, cluster in enumerate(clusters):
        paths.setdefault(cluster, []).append(k)
    found = []
    for own in paths.values():
        stopped = {own[k] for k in without_potential([p_yes[k] for k in own], 1 - _STOPPED)}
        right = [k for k in own if correct[k]]
        found.append((float(sum(k not in stopped for k in right)), len(right)))
    return found


def table(summary: AuditSummary) -> str:
    """The summary as Markdown, with standard errors."""
    lines = [
        f"{summary.prompts} prompts, {summary.paths} paths of {summary.steps} steps each; right by each judge: "
        f"{_shares(summary.right)}. By the first judge, with standard errors: AUROC between paths of the same prompt "
        "and over all paths, correlation with the verdict (point-biserial) and with the final P(yes) (Spearman), and "
        "the share of right images that is left where the worse half of each prompt's paths stops at that step: half "
        f"by chance, and {_shares(summary.most_kept)} by the judges themselves.",
        "",
        "| verifier, question | fill | step | said yes | AUROC, same prompt | AUROC | verdict | final P(yes) | left |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for one in summary.partials:
        first = one.judges[0]
        cells = [first.auroc_within, first.auroc, first.point_biserial, one.final, first.kept]
        place = f"{one.verifier}, {one.question} | {one.fill or ''} | {one.step} | {one.yes:.2f}"
        lines.append(f"| {place} | {' | '.join(map(_number, cells))} |")
    return "\n".join(lines) + "\n"


def _shares(found: Sequence[float | None]) -> str:
    return " / ".join("–" if share is None else f"{share:.3f}" for share in found)


def _number(found: Estimate) -> str:
    if found.value is None:
        return "–"
    return f"{found.value:.2f}" + ("" if found.standard_error is None else f" ({found.standard_error:.2f})")


def figure(summary: AuditSummary) -> bytes:
    """AUROC between paths of a prompt, and the right images that are left, over the steps, as PNG."""
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(11, 4.6), layout="constrained")
    lines: dict[tuple[str, str, str | None], list[Partial]] = {}
    for one in summary.partials:
        if one.step < summary.steps:
            lines.setdefault((one.verifier, one.question, one.fill), []).append(one)
    plots = drawing.subplots(1, len(_SHOWN))
    for plot, (what, take) in zip(plots, _SHOWN, strict=True):
        for (verifier, question, fill), found in lines.items():
            at = [(one.step, take(one.judges[0])) for one in found]
            there = [(step, e.value, e.standard_error or 0) for step, e in at if e.value is not None]
            if there:
                label = literal(f"{verifier}, {question}" + (f", {fill}" if fill else ""))
                plot.errorbar(*zip(*there, strict=True), marker="o", ms=3, capsize=2, label=label)
        plot.axhline(0.5, color="grey", ls=":")
        plot.set(xlabel="step", ylabel=what)
    if plots[0].get_legend_handles_labels()[0]:
        plots[0].legend(fontsize="small")
    buffer = io.BytesIO()
    drawing.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()
