"""The numbers of a study of corrections from its rows, and its table."""

from collections.abc import Sequence

import numpy as np

from imagecot.reflection.answers import found_and_said
from imagecot.statistics.clustered import mean_error
from imagecot.study.corrections import FOUND, LABELS
from imagecot.study.rows import Corrected, CorrectionsRow
from imagecot.study.summary import CorrectionsSummary, Way, known


def analyse(rows: Sequence[CorrectionsRow]) -> CorrectionsSummary:
    """How often each way ends right by each judge, what found reasons gain on it, and how right reasons are.

    Standard errors are clustered by prompt, as its images are alike.
    """
    clusters = [row.number for row in rows for _ in row.corrected]
    images = [image for row in rows for image in row.corrected]
    said = {"found": [image.found for image in images], "written": [image.written for image in images]}
    true = [image.true for image in images]
    reasons = {name: found_and_said(found, true) for name, found in said.items()} if images else {}
    return CorrectionsSummary(
        images=len(images),
        prompts=len(set(clusters)),
        ways={way: _way(way, images, clusters) for way in LABELS} if images else {},
        reasons={name: {key: known(value) for key, value in found.items()} for name, found in reasons.items()},
    )


def _way(way: str, images: Sequence[Corrected], clusters: Sequence[int]) -> Way:
    found, this = (np.array([image.right[name] for image in images]) for name in (FOUND, way))  # images x judges
    gain = (found - this).mean(1)
    return Way(
        label=LABELS[way],
        right=this.mean(0).tolist(),
        standard_error=[mean_error(column, clusters) for column in this.T],
        found_minus_this=float(gain.mean()),
        its_standard_error=mean_error(gain, clusters),
    )


def table(summary: CorrectionsSummary) -> str:
    """The summary as Markdown."""
    lines = [
        f"{summary.images} wrong images of {summary.prompts} prompts; share of right corrections by each judge, "
        "with its standard error.",
        "",
        "| told | right | found by asking minus this, points |",
        "|---|---|--:|",
    ]
    for name, way in summary.ways.items():
        pairs = zip(way.right, way.standard_error, strict=True)
        right = " / ".join(f"{share:.3f} ({_number(error, 3)})" for share, error in pairs)
        error = None if way.its_standard_error is None else 100 * way.its_standard_error
        gain = f"{100 * way.found_minus_this:+.1f} ({_number(error, 1)})" if name != FOUND else ""
        lines.append(f"| {way.label} | {right} | {gain} |")
    lines += ["", "| reasons | precision | recall | of kind and object: precision | recall |", "|---|--:|--:|--:|--:|"]
    for name, found in summary.reasons.items():
        keys = ("precision", "recall", "precision_of_kind", "recall_of_kind")
        lines.append(f"| {name} | " + " | ".join(_number(found[key], 2) for key in keys) + " |")
    return "\n".join(lines) + "\n"


def _number(value: float | None, digits: int) -> str:
    return "nan" if value is None else f"{value:.{digits}f}"
