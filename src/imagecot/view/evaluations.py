"""An evaluation's folder as a source: its images by prompt, with the verdicts of both judges and why."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from imagecot.errors import ImagecotError
from imagecot.evaluation.geneval2 import summary as geneval2_summary
from imagecot.evaluation.state import IDENTITY, IMAGES, RESULTS, SECOND, Row, Unit
from imagecot.evaluation.summary import SUMMARY, Found, read_summary
from imagecot.geneval2.summary import Scored
from imagecot.identity import read_identity
from imagecot.naming import inside
from imagecot.reading import read_record, read_records
from imagecot.view import model
from imagecot.view.pictures import Pictures

__all__ = ["read_evaluation"]
_ADVICE = "evaluate again, or look at another folder"
_PARTS, _KEPT = "parts", "detectors.json"


def read_evaluation(folder: Path, pictures: Pictures) -> model.Source:
    """Read an evaluation, finished or not; ImagecotError naming what is damaged."""
    identity = read_identity(folder / IDENTITY)
    if "benchmark" in identity:  # GenEval's own evaluations name none
        return _geneval2(folder, identity, pictures)
    rows, second, problems = _rows(folder)
    found = read_summary(folder) if (folder / SUMMARY).is_file() else None
    judges = _judges(found, bool(second))
    method = model.Method(folder.name, _label(folder, identity), judges, _score(found), _facts(identity))
    others = {row.filename: row for row in second}
    grouped: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        grouped.setdefault((row.tag, row.prompt), []).append(row)
    entries = [
        _entry(method.key, tag, prompt, [(row, others.get(row.filename)) for row in group], (folder, pictures))
        for (tag, prompt), group in grouped.items()
    ]
    headline = f"{len(rows)} images of {len(entries)} prompts, {sum(row.correct for row in rows)} of them right."
    more = [*found.problems, *found.remarks] if found else []
    return model.Source(
        folder.name, "evaluation", headline, [method], entries, method.facts, [*problems, *more], _curves(method, found)
    )


def _rows(folder: Path) -> tuple[list[Row], list[Row], list[str]]:
    """The rows of both judges, and what is to be said of them; of an unfinished evaluation those that are there."""
    if (folder / RESULTS).is_file():
        first = [row for _, row in read_records(folder / RESULTS, Row, advice=_ADVICE)]
        other = folder / SECOND
        return first, [row for _, row in read_records(other, Row, advice=_ADVICE)] if other.is_file() else [], []
    rows: list[Row] = []
    second: list[Row] = []
    for part in sorted((folder / _PARTS).glob("*.json")):
        if part.name != _KEPT:
            unit = read_record(part, Unit, advice=_ADVICE)
            rows, second = rows + unit.rows, second + unit.second
    return rows, second, ["This evaluation is not finished; its command goes on where it was."]


def _judges(found: Found | None, two: bool) -> list[str]:
    record = found.record if found else None
    names = [record.detector, record.second] if record else [None, None]
    told = [str(name["detector"]) if name and "detector" in name else f"judge {k}" for k, name in enumerate(names, 1)]
    return told[: 2 if two else 1]


def _label(folder: Path, identity: Mapping[str, object]) -> str:
    if identity.get("generator") is None:
        return f"images of {Path(str(identity.get('images', folder.name))).name}"
    judged = f", judged by {identity['verifier']}" if identity.get("verifier") else ""
    many = f", {identity.get('n')} paths" if identity.get("n") != 1 else ""
    return f"{identity.get('search')}{many} on {identity['generator']}{judged}"


def _facts(identity: Mapping[str, object]) -> dict[str, str]:
    plain = {key: value for key, value in identity.items() if isinstance(value, str | int | float)}
    return {key.replace("_", " "): str(value) for key, value in plain.items() if not key.endswith("sha256")}


def _score(found: Found | None) -> model.Score:
    if found is None:
        return model.Score()
    seconds, images = found.cost.get("seconds"), found.score.total_images
    second = found.second_judge
    return model.Score(
        found.score.overall, found.score.overall_se, second.overall if second else None,
        second.overall_se if second else None, seconds / images if seconds and images else None,
    )  # fmt: skip


def _curves(method: model.Method, found: Found | None) -> list[model.Curve]:
    score = method.score
    if found is None or not score.seconds or score.overall is None:
        return []
    point = model.Point(score.seconds, score.overall, score.se)
    return [model.Curve("evaluations", method.label, [point])]


def _entry(
    method: str, tag: str, prompt: str, rows: Sequence[tuple[Row, Row | None]], where: tuple[Path, Pictures]
) -> model.Entry:
    images = [_shown(row, other, where) for row, other in rows]
    counts = [
        (sum(bool(one.right[judge]) for one in images), len(images))
        for judge in range(min(len(one.right) for one in images))
    ]
    disagree = any(model.flags_of(one.right, None) for one in images)
    mark = model.Mark(counts, None, model.DISAGREE if disagree else "", images[0].picture)
    return model.Entry(method, prompt, tag, mark, wanted_of(rows[0][0].metadata), images=images)


def _shown(row: Row, other: Row | None, where: tuple[Path, Pictures]) -> model.Shown:
    rows = [row, *([other] if other else [])]
    picture = _picture(row.filename, *where)
    return model.Shown(
        picture, [one.correct for one in rows], [one.reason for one in rows], facts={"file": row.filename}
    )


def _picture(name: str, folder: Path, pictures: Pictures) -> str | None:
    """A picture that the results name: within the folder, or where the evaluation found it."""
    if name.startswith(f"{IMAGES}/"):
        return pictures.file(folder / name) if inside(folder, name) else None
    return pictures.file(Path(name))


def wanted_of(metadata: str) -> str:
    """What GenEval's metadata require, in words; empty where they say nothing."""
    try:
        values = json.loads(metadata)
        needs = [_need(need, values["include"]) for need in values.get("include", [])]
        limits = [f"fewer than {need['count']} {need['class']}" for need in values.get("exclude", [])]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return ""
    return "; ".join([*needs, *limits])


def _need(need: Mapping[str, object], all_of_them: Sequence[Mapping[str, object]]) -> str:
    text = f"{need['count']} {need.get('color', '')} {need['class']}".replace("  ", " ")
    match need.get("position"):
        case [str(relation), int(target)]:
            return f"{text} {relation} {all_of_them[target]['class']}"
    return text


def _geneval2(folder: Path, identity: Mapping[str, object], pictures: Pictures) -> model.Source:
    """An evaluation by GenEval 2: an image is right where each of its questions is answered right."""
    problems: list[str] = []
    if not (folder / RESULTS).is_file():
        raise ImagecotError(f"{folder} holds an evaluation by GenEval 2 that is not finished; finish it first.")
    rows = [row for _, row in read_records(folder / RESULTS, Scored, advice=_ADVICE)]
    found = geneval2_summary.read_summary(folder) if (folder / SUMMARY).is_file() else None
    score = model.Score()
    if found:
        problems = [*found.problems, *found.remarks]
        overall = found.score.overall.gm
        score = model.Score(overall.mean, overall.se)
    method = model.Method(folder.name, _label(folder, identity), ["every question from .5"], score, _facts(identity))
    grouped: dict[str, list[Scored]] = {}
    for row in rows:
        grouped.setdefault(row.prompt, []).append(row)
    entries = []
    for prompt, group in grouped.items():
        images = [_asked(row, folder, pictures) for row in group]
        right = sum(bool(one.right[0]) for one in images)
        mark = model.Mark([(right, len(images))], None, "", images[0].picture)
        entries.append(model.Entry(method.key, prompt, f"{group[0].atom_count} atoms", mark, images=images))
    headline = f"{len(rows)} images of {len(entries)} prompts, by GenEval 2."
    return model.Source(folder.name, "evaluation", headline, [method], entries, method.facts, problems)


def _asked(row: Scored, folder: Path, pictures: Pictures) -> model.Shown:
    answers = [*enumerate(zip(row.skills, row.scores, strict=False), 1)]
    asked = {f"{k}. {skill}": f"{p:.2f}" for k, (skill, p) in answers}
    low = [f"question {k} ({skill}) has {p:.2f}" for k, (skill, p) in answers if p < 0.5]
    facts = {"file": row.filename, "arithmetic mean": f"{row.am:.3f}", "geometric mean": f"{row.gm:.3f}", **asked}
    return model.Shown(_picture(row.filename, folder, pictures), [not low], ["\n".join(low)], facts=facts)
