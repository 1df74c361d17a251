"""What a reader meets first: what was compared, what won, where the paper is met and where not, how to run it again."""

import json
import shlex
from pathlib import Path

from imagecot.report.blocks import Block, Code, Command, Fold, Heading, Items, Line, Paragraph, Strong
from imagecot.report.gallery import missing_images
from imagecot.report.paper import (
    CORRECTION,
    DECIDED,
    MAIN,
    Difference,
    Finding,
    difference,
    main_findings,
    orderings,
    paper,
)
from imagecot.report.tables import OUTCOMES, at_seconds, findings, interval, number, points, score
from imagecot.study.names import readable
from imagecot.study.summary import Row, Summary

UNKNOWN = "imagecot study RECIPE.yaml"
BASELINE, GOAL = "baseline", "parm+iterative_dpo_guided_by_parm"  # the paper's first and best row
WITH_IT, AGAINST_IT = ("agrees", "leans"), ("contradicts", "against", "equal")

WORDS: list[Line] = [
    (Strong("Path"), ": one seed's way from the empty canvas to a picture, step by step. N paths of a prompt are N "
     "tries."),
    (Strong("Verifier"), ": a model that looks at a picture and answers with the probability that it shows what the "
     "prompt says. Zero-shot: never trained on generated pictures; fine-tuned: trained on the generator's own."),
    (Strong("ORM"), " (outcome reward model): the verifier judges the N finished pictures, and the best one is taken."),
    (Strong("PRM"), " (process reward model): it judges the unfinished picture at each step and keeps the best of N "
     "continuations."),
    (Strong("PARM"), " (potential assessment reward model): at each step it asks whether a path is clear enough to "
     "judge, then whether it has potential; paths without are stopped, and the best of the rest is taken. ",
     Strong("PARM++"), " then says what is wrong with the choice and lets it be drawn again."),
    (Strong("DPO"), " (direct preference optimisation): the generator itself is trained on pairs of a right and a "
     "wrong picture; iterative: again on pairs of its own; guided: with a reward model's judgement during that "
     "training."),
    (Strong("GenEval"), ": prompts of six tasks (one object, two objects, counting, colours, position, colours of two "
     "objects); an object detector decides whether a picture is right. The score is the mean over the tasks."),
    (Strong("The drawn world"), ": the small checkpoints (", Code("tiny"), ") draw pictograms of twelve kinds of "
     "object, so heights of scores do not compare with the paper's photographs; directions and sizes of gains do."),
    (Strong("Two judges"), ": detectors of different make, trained on different scenes. The first gives the score and "
     "labelled the training data; the second had no part in training or choosing, so it shows how much of a gain "
     "is real."),
    (Strong("Random and oracle"), ": any one of the N paths, and a chooser that is right whenever one of the N is; "
     "every verifier lies between them."),
]  # fmt: skip


def best_of(summary: Summary) -> str:
    """The method with the highest score by the first judge."""
    return max(summary.methods, key=lambda name: summary.rows[name].overall)


def first_page(summary: Summary, folder: Path) -> list[Block]:
    """All of it, in order."""
    return [*_compared(summary), *_result(summary), *_agreement(summary), *_gaps(summary, folder), *_again(summary)]


def _compared(summary: Summary) -> list[Block]:
    prompts = f"the same {summary.prompts} prompts" if summary.prompts else "the same prompts"
    generators = len({row.generator for row in summary.methods.values()})
    return [
        Heading("What was compared"),
        Paragraph(
            "A picture generator that works in steps often misses what its prompt says, and there are two remedies: "
            "draw several pictures and let a reward model choose (verification at test time), or train the generator "
            "on right and wrong pictures (preference alignment). "
            f"This study gives {prompts} to {_count(len(summary.methods), 'method')} on "
            f"{_count(generators, 'generator')}, those of “Can We Generate Images with CoT? Let's Verify and "
            "Reinforce Image Generation Step by Step” (arXiv 2501.13926) and some of our own. "
            "Methods of one generator choose among the same recorded paths, so that a difference is one of choosing "
            "and not of luck in drawing, and every score comes with its standard error (±), clustered by prompt."
        ),
        Items(WORDS),
    ]


def _result(summary: Summary) -> list[Block]:
    best, rows = best_of(summary), summary.rows
    blocks: list[Block] = [Heading("The result")]
    if BASELINE not in rows or best == BASELINE:
        words = "No method is better than" if best == BASELINE else "The study has no row for"
        line = (f"The highest score is that of “{summary.label(best)}”: ", Strong(score(rows[best])))
        blocks.append(Paragraph((*line, f". {words} a single path without verification (the baseline).")))
        return blocks
    lines: list[Line] = [_against_baseline(summary, best, "Highest score")]
    if best != GOAL and GOAL in rows:
        lines.append(_against_baseline(summary, GOAL, "The paper's best"))
    row = rows[best]
    oracle, random = (summary.line(kind, row.generator) for kind in ("oracle", "random"))
    if oracle and random:
        lines.append(
            f"Among the same {_count(oracle.n, 'path') if oracle.n else 'paths'} of its generator a random one scores "
            f"{score(random)} and the oracle {score(oracle)}."
        )
    for generator in summary.curves:
        equal = at_seconds(summary, generator)
        if equal is not None:
            _, ranking, seconds = equal
            order = ", ".join(f"{summary.label(name)} {value:.3f}" for name, value in ranking)
            where = summary.generator(generator)
            lines.append(f"At equal time ({seconds:.2g} s an image, interpolated), generator {where}: {order}.")
    blocks.append(Items(lines))
    blocks.append(
        Paragraph(
            "The highest score is the highest of several on these very prompts, which flatters it a little; the second "
            "judge did not take part in that choice. Gains are in points: hundredths of the score."
        )
    )
    return blocks


def _against_baseline(summary: Summary, name: str, title: str) -> Line:
    rows = summary.methods
    row, base = rows[name], rows[BASELINE]
    gain = difference(rows, summary.comparisons, name, BASELINE)
    second = difference(rows, summary.comparisons, name, BASELINE, second=True)
    words = f"{title}: “{summary.label(name)}” with {score(row)} against {score(base)} of the baseline, "
    by_second = f"; by the second judge {_gain(second)}." if second else "; there is no second judge's verdict."
    return (words, Strong(f"{_gain(gain)} by the first judge"), by_second)


def _gain(found: Difference | None) -> str:
    if found is None:
        return "unknown"
    return f"{points(found.value)} points (95 % interval {interval(found)})"


def _agreement(summary: Summary) -> list[Block]:
    claims, pairs = main_findings(summary), orderings(summary)
    agreeing = [_sentence(f) for f in claims if f.outcome in WITH_IT]
    missed = [_sentence(f) for f in claims if f.outcome in AGAINST_IT]
    shown = {(f.claim.a, f.claim.b) for f in claims}
    surprising = [f for f in pairs if f.outcome == "contradicts" and (f.claim.a, f.claim.b) not in shown]
    if surprising:
        table = findings(surprising, names=True)
        title = f"{_count(len(surprising), 'further pair')} of rows in the opposite order, with certainty"
    measured = [f for f in pairs if f.outcome is not None]
    same = [f for f in measured if f.outcome in WITH_IT]
    certain, opposed = (sum(f.outcome == kind for f in pairs) for kind in ("agrees", "contradicts"))
    weighed = [f for f in claims if f.outcome is not None]
    decided = sum(f.outcome in DECIDED for f in weighed)
    blocks: list[Block] = [
        Heading("Where this agrees with the paper"),
        Items(agreeing or ["None of the paper's main findings that were measured."]),
        Paragraph(
            f"Of the paper's {len(claims)} main findings {len(weighed)} are measured here and {decided} are decided: "
            "the 95 % interval of the difference excludes 0, or lies within two points of it."
        ),
        Paragraph(
            f"Of {len(pairs)} pairs of rows that the paper orders (by a point or more), {len(measured)} are measured "
            f"here: {len(same)} have the same direction ({certain} with an interval that excludes 0), "
            f"{len(measured) - len(same)} do not ({opposed} are opposite with an interval that excludes 0)."
        ),
        Heading("Where it does not"),
        Items(missed or ["None of the paper's main findings that were measured."]),
    ]
    if surprising:
        blocks.append(Fold(title, [table]))
    blocks += [
        Heading("The paper's main findings"),
        findings(claims),
        Paragraph(
            "In points. Decided: the 95 % interval (bootstrap over prompts, both rows on the same prompts) excludes 0 "
            "or lies within two points of it; where a row should stay near the baseline, that it is all inside or all "
            "outside half of what the fine-tuned ORM gains. "
            "≈: from the standard errors of both rows, which makes it rather too wide."
        ),
    ]
    return blocks


def _sentence(found: Finding) -> Line:
    assert found.ours is not None
    second = f", second judge {points(found.second.value)}" if found.second else ""
    limit = f" (near: within ±{100 * found.bound:.1f})" if found.claim.near else ""
    numbers = f"paper {points(found.paper)}, here {points(found.ours.value)} ({interval(found.ours)}){second}"
    direction = OUTCOMES[found.outcome]
    if found.claim.near:
        direction = "near" if found.outcome in WITH_IT else "not near"
        direction += ", decided" if found.outcome in DECIDED else ", undecided"
    return (Strong(found.claim.text), f": {numbers}{limit}; {direction}.")


def _gaps(summary: Summary, folder: Path) -> list[Block]:
    return [Heading("What is missing"), Items([*gaps(summary, folder)] or ["Nothing that the paper's tables have."])]


def gaps(summary: Summary, folder: Path) -> list[str]:
    """What a reader would look for and this study does not have, a sentence each."""
    rows = summary.methods
    found = []
    absent = [summary.label(name) for name in paper().tables[MAIN] if name not in rows]
    if absent:
        found.append(f"Rows of the paper that were not run: {', '.join(absent)}.")
    if summary.self_correction is None or not summary.self_correction.rows:
        found.append("PARM++ and self-correction (Table 5) were not run.")
    else:
        absent = [readable(name) for name in paper().tables[CORRECTION] if name not in summary.self_correction.rows]
        if absent:
            found.append(f"Rows of Table 5 that were not run: {', '.join(absent)}.")
    for words, lacks in (
        ("the second judge's verdict", lambda row: row.second_judge is None),
        ("measured seconds", lambda row: row.seconds_per_image is None),
    ):
        without = [summary.label(name) for name, row in rows.items() if lacks(row)]
        if len(without) == len(rows):
            found.append(f"No row has {words}.")
        elif without:
            found.append(f"Without {words}: {', '.join(without)}.")
    most = max((row.prompts or 0 for row in rows.values()), default=0)
    fewer = [f"{summary.label(name)} ({row.prompts})" for name, row in rows.items() if _fewer(row, most)]
    if fewer:
        found.append(f"On fewer than {most} prompts: {', '.join(fewer)}.")
    for words, part in (
        ("curves over N", summary.curves),
        ("reliability of the verifiers", summary.reliability),
        ("use of the steps by PARM", summary.steps),
        ("gallery", summary.gallery),
    ):
        if not part:
            found.append(f"There is no record for: {words}.")
    unreadable = missing_images(summary, folder)
    if unreadable:
        found.append(f"{_count(unreadable, 'picture')} of the gallery cannot be read.")
    return found


def _fewer(row: Row, most: int) -> bool:
    return row.prompts is not None and row.prompts < most


def _again(summary: Summary) -> list[Block]:
    command = study_command(summary)
    blocks: list[Block] = [
        Heading("How to run it again"),
        Paragraph("The whole study; interrupted, the same command goes on where it was:"),
        Command(command),
    ]
    best = best_of(summary)
    said = _rows_said(summary)
    if best in said:
        blocks += [
            Paragraph(f"One row of it, here “{summary.label(best)}” beside the baseline:"),
            Command(row_command(summary, best)),
        ]
        others = [n for n in said if n in summary.rows and n not in (best, BASELINE)]
        if others:
            blocks.append(Fold("The commands of all other rows", [Command(row_command(summary, n)) for n in others]))
    return blocks


def _rows_said(summary: Summary) -> list[str]:
    """The names of the rows in the study's recipe."""
    said = summary.recipe.get("rows")
    return [*said] if isinstance(said, dict) else []


def study_command(summary: Summary) -> str:
    """The command of the whole study, without the remark behind it."""
    return summary.command.split("  #")[0].strip() or UNKNOWN


def row_command(summary: Summary, name: str) -> str:
    """The command that runs one row and the baseline: the study's own, with the other rows left out."""
    kept = ",".join(one for one in dict.fromkeys((BASELINE, name)) if one in _rows_said(summary))
    try:
        before = shlex.split(study_command(summary))
    except ValueError:  # a quote that is never closed
        before = shlex.split(UNKNOWN)
    words = [word for word in before if not word.startswith("output=")]
    if "--rows" in words:
        place = words.index("--rows")
        del words[place : place + 2]
    return shlex.join([*words, "--rows", kept, f"output=runs/study/{name}"])


def provenance(summary: Summary) -> list[Block]:
    """Weights, machine and versions, so that numbers can be traced."""
    facts = [("date", summary.date), ("whole study", f"{number(summary.seconds, 0)} s" if summary.seconds else "")]
    facts += [("seed", str(summary.recipe.get("seed", ""))), ("precision", str(summary.recipe.get("precision") or ""))]
    facts += [(key, json.dumps(value)) for key, value in (("machine", summary.machine), ("versions", summary.versions))]
    agreement = ", ".join(
        f"{summary.generator(name)} {share:.1%}" for name, share in summary.agreement.items() if share is not None
    )
    facts.append(("images on which the judges agree", agreement))
    lines: list[Line] = [f"{key}: {value}" for key, value in facts if value and value != "null"]
    weights: list[Line] = [(f"{name}: ", Code(json.dumps(value))) for name, value in summary.weights.items()]
    return [
        Heading("Where the numbers come from"),
        Items([*lines, f"the paper's numbers: {paper().source}", *paper().known_inconsistencies]),
        Fold("Weights (SHA-256)", [Items(weights or ["not recorded"])]),
        Fold("The recipe", [Command(json.dumps(summary.recipe, indent=1, ensure_ascii=False))]),
    ]


def _count(many: int, what: str) -> str:
    return f"{many} {what}{'s' * (many != 1)}"
