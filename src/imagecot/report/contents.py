"""Everything that a report says, in order, and the part of it that a README shows."""

from pathlib import Path

from imagecot.report import figures, render, tables
from imagecot.report.blocks import Block, Fold, Heading, Line, Paragraph, Picture, Pictures, Strong, Table
from imagecot.report.first_page import BASELINE, GOAL, best_of, first_page, provenance, study_command
from imagecot.report.gallery import gallery, sorted_exhibits
from imagecot.report.paper import difference, orderings, paper_gain, printed
from imagecot.study.summary import Summary

README_ROWS = 10


def contents(summary: Summary, folder: Path) -> list[Block]:
    """The whole report of a summary; `folder` has the pictures of the gallery."""
    return [
        *first_page(summary, folder),
        *_scores(summary),
        *_curves(summary),
        *_self_correction(summary),
        *_verifiers(summary),
        *_gallery(summary, folder),
        *_orderings(summary),
        *provenance(summary),
    ]


def _scores(summary: Summary) -> list[Block]:
    blocks: list[Block] = [
        Heading("Scores"),
        Paragraph(
            "The paper's Tables 1 to 3. Tasks: ours / the paper's. Overall by both judges with one standard error, "
            "then the paper's overall, our gain over the baseline by the first judge and the paper's, in points."
        ),
        tables.scores(summary),
        *_told(summary),
        Heading("What an image costs"),
        Paragraph(
            "Means an image. Seconds are of real runs on the machine named below; a correct image takes the seconds of "
            "an image divided by the share that is right. Rows: passes of one path through one step of the generator."
        ),
        tables.costs(summary),
    ]
    drawn = figures.tasks(summary)
    if drawn:
        words = "Score of each method by task, with one standard error; the paper's scores as diamonds"
        blocks += [Heading("By task"), Paragraph(words + "."), Picture("tasks", drawn, words)]
    return blocks


def _told(summary: Summary) -> list[Block]:
    table = tables.told(summary)
    if table is None:
        return []
    words = (
        "An image is right or wrong where both judges say so. Where they differ it cannot be told: there the first "
        "agrees with people as often as by chance. Parts are the objects, numbers, colours and relations of a prompt, "
        "of which the first judge sees so many in the image."
    )
    return [Heading("Right, wrong, and what cannot be told"), Paragraph(words), table]


def _curves(summary: Summary) -> list[Block]:
    blocks: list[Block] = []
    for generator in summary.curves:
        label = summary.generator(generator)
        drawn = _drawn_curves(summary, generator)
        if drawn:
            blocks.append(Pictures(drawn))
        equal = tables.at_seconds(summary, generator)
        if equal is None:
            blocks.append(Paragraph(f"Generator {label}: fewer than two searches were timed at comparable seconds."))
            continue
        table, ranking, seconds = equal
        (first, most), (last, least) = ranking[0], ranking[-1]
        words = (
            f"At equal time on the generator {label}: with {seconds:.2g} s an image, {summary.label(first)} reaches "
            f"{most:.3f} and {summary.label(last)} {least:.3f}. These are interpolated between the measured N, over "
            "the logarithm of the seconds, and lie within what was measured of each search."
        )
        blocks += [Paragraph(words), table]
    if not blocks:
        return []
    words = (
        "The paper's Figures 3, 13 and 14, and the same over seconds. Solid: the first judge, with one standard error; "
        "dotted: the second judge; dashed: a random one of the N paths, and the oracle."
    )
    return [Heading("Score over the number of paths and over seconds"), Paragraph(words), *blocks]


def curve_name(summary: Summary, generator: str, axis: str) -> str:
    """The name of a curve's file; numbered where a generator's name says nothing."""
    return f"curve-{list(summary.curves).index(generator)}-{render.slug(generator)}-{axis}"


def _drawn_curves(summary: Summary, generator: str) -> list[Picture]:
    """The curves of a generator over N and over seconds, as far as anything was measured."""
    return [picture for axis in figures.AXES if (picture := _curve(summary, generator, axis))]


def _curve(summary: Summary, generator: str, axis: figures.Axis) -> Picture | None:
    png = figures.curve(summary, generator, axis)
    words = f"Score over {'N paths' if axis == 'n' else 'seconds an image'}, generator {summary.generator(generator)}"
    return Picture(curve_name(summary, generator, axis), png, words) if png else None


def _self_correction(summary: Summary) -> list[Block]:
    part = summary.self_correction
    if part is None or not part.rows:
        return []
    blocks: list[Block] = [
        Heading("PARM++ and self-correction"),
        Paragraph(
            "The paper's Table 5: a generator trained to correct itself. Tasks: ours / the paper's. The controls ask "
            "whether it is the reasons that help, or only another try. The last columns: what reflection gains on the "
            "row, in points."
        ),
        tables.self_correction(part),
    ]
    rounds = tables.by_round(part)
    if rounds:
        blocks += [Paragraph("Score after each round of correction, first / second judge:"), rounds]
    alone = tables.redrawn(part)
    if alone:
        text = "Images of the first round, in the place of a wrong one: how many are right, before anybody chooses."
        blocks += [Paragraph(text), alone]
    says: list[Line] = []
    counted = (("Prompts by the rounds they took", part.rounds), ("Problems in what was said", part.problems))
    for words, found in counted:
        if found:
            says.append(f"{words}: " + ", ".join(f"{key}: {count}" for key, count in found.items()) + ".")
    reasons = {key: value for key, value in part.reasons.items() if value is not None}
    if reasons:
        shares = ", ".join(f"{key.replace('_', ' ')} {value:.2f}" for key, value in reasons.items())
        says.append(f"How right the reasons are: {shares}.")
    return [*blocks, *(Paragraph(line) for line in says)]


def _verifiers(summary: Summary) -> list[Block]:
    blocks: list[Block] = []
    if summary.reliability:
        blocks += [Heading("How far the verifiers can be believed"), tables.reliability(summary)]
        drawn = figures.reliability(summary)
        if drawn:
            words = "Share of right images over the mean P(yes); on the dashed line a verifier means what it says"
            blocks += [Paragraph(words + "."), Picture("reliability", drawn, words)]
    if summary.steps:
        blocks += [Heading("Where paths are stopped"), tables.steps(summary)]
        drawn = figures.steps(summary)
        if drawn:
            words = "Steps at which paths were first clear and at which they were stopped, as shares of all paths"
            blocks += [
                Paragraph(words + "; shaded: where the paper's are first clear."),
                Picture("steps", drawn, words),
            ]
    return blocks


def _orderings(summary: Summary) -> list[Block]:
    measured = [finding for finding in orderings(summary) if finding.outcome is not None]
    title = f"The {len(measured)} pairs that are measured here, in points"
    table = tables.findings(measured, names=True)
    return [Heading("Every pair of rows that the paper orders"), Fold(title, [table])] if measured else []


def _gallery(summary: Summary, folder: Path) -> list[Block]:
    best = best_of(summary)
    failed, others = sorted_exhibits(summary, best)
    if not failed and not others:
        return []
    shown = others[: max(len(failed), 2)]
    words = (
        f"The same prompts across all methods. First the {len(failed)} at which the method with the highest score "
        f"(“{summary.label(best)}”) fails by at least one judge, then {len(shown)} at which it does not. "
        "1 and 2 are the judges; ✓ right, ✗ wrong."
    )
    blocks: list[Block] = [Heading("Gallery"), Paragraph(words)]
    blocks.append(gallery(summary, folder, failed + shown, best, "gallery"))
    rest = others[len(shown) :]
    if rest:
        folded = gallery(summary, folder, rest, best, "gallery-rest")
        blocks.append(Fold(f"{len(rest)} more prompts, at which it does not fail", [folded]))
    return blocks


def readme_fragment(summary: Summary, figures_folder: str = "figures") -> str:
    """The main table in at most ten rows, and the curves of the first generator by their relative address."""
    wanted = (
        BASELINE, "orm_zero_shot", "orm_fine_tuned", "prm_fine_tuned", "parm", "dpo", "iterative_dpo",
        "iterative_dpo_guided_by_parm", "parm+iterative_dpo", GOAL,
    )  # fmt: skip
    names = [name for name in dict.fromkeys((*wanted, *tables.ordered(summary))) if name in summary.methods]
    head = ["method", "N", "overall", "second judge", "gain", "95 % interval", "paper's gain", "s / image"]
    rows: list[list[Line]] = []
    for name in names[:README_ROWS]:
        row, theirs = summary.rows[name], printed(name)
        gain = difference(summary.methods, summary.comparisons, name, BASELINE) if name != BASELINE else None
        rows.append(
            [
                summary.label(name),
                tables.number(row.n, 0),
                Strong(tables.score(row)),
                tables.score(row.second_judge),
                tables.points(gain.value if gain else None),
                tables.interval(gain),
                tables.points(paper_gain(name)) if theirs and name != BASELINE else tables.NONE,
                tables.number(row.seconds_per_image, 1),
            ]
        )
    generator = BASELINE if BASELINE in summary.curves else next(iter(summary.curves), "")
    return render.fragment(
        Table(head, rows),
        f"{summary.prompts} prompts" if summary.prompts else "held-out prompts",
        summary.date or "no date",
        study_command(summary),
        _drawn_curves(summary, generator),
        figures_folder,
    )
