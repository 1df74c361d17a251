"""A study's folder as a source: every row of its table is a method, on the paths that all rows of a generator share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from imagecot.contracts.values import JSON
from imagecot.errors import ImagecotError
from imagecot.identity import read_identity
from imagecot.naming import inside
from imagecot.report.read import read as read_report
from imagecot.study.folder import CANDIDATES, STUDY
from imagecot.study.names import SUMMARY, readable
from imagecot.study.pool import picture_of
from imagecot.study.rows import Outcome, PathRow, PoolRow
from imagecot.study.store import Store
from imagecot.study.summary import Row, Summary
from imagecot.view import model
from imagecot.view.decoded import Decode, decoder
from imagecot.view.evaluations import wanted_of
from imagecot.view.pictures import Pictures
from imagecot.view.story import tell
from imagecot.watch import Watch

_COUNTS = {
    "generator_rows": "generator rows",
    "previews": "previews decoded",
    "judge_calls": "judge calls",
    "tokens_judged": "tokens judged",
}


@dataclass(frozen=True)
class Seen:
    """The pictures of a prompt: of the paths that all rows share, and of what searches drew themselves."""

    pool: Sequence[str | None]
    own: Mapping[str, str | None]


@dataclass(frozen=True)
class Opened:
    """A study's folder; `identity` and `summary` as far as there are any."""

    folder: Path
    identity: Mapping[str, JSON]
    summary: Summary | None
    pictures: Pictures

    def part(self, name: str) -> JSON:
        """A part of the identity."""
        parts = self.identity.get("parts")
        return parts.get(name) if isinstance(parts, dict) else None

    def row(self, name: str) -> Row | None:
        """What the summary says of a row."""
        return self.summary.rows.get(name) if self.summary else None


def read_study(folder: Path, pictures: Pictures, watch: Watch) -> model.Source:
    """Read a study, finished or not; ImagecotError naming what is damaged."""
    summary = read_report(folder) if (folder / SUMMARY).is_file() else None
    identity = read_identity(folder / STUDY) if (folder / STUDY).is_file() else {}
    study = Opened(folder, identity, summary, pictures)
    problems = [] if summary else ["This study is not finished; its command goes on where it was."]
    entries: list[model.Entry] = []
    names = sorted({file.name.split(".")[0] for file in (folder / CANDIDATES).glob("*.*")})
    for key in names:
        found, problem = _of_generator(study, key, watch)
        entries += found
        problems += [problem] if problem else []
    if not entries and summary:
        entries = _gallery(study, summary)
        problems.append(
            "Only the summary of this study is here: prompts are those of its gallery, without paths. The folder that "
            "the study wrote has all of them."
        )
    present = dict.fromkeys(entry.method for entry in entries)
    methods = [_method(study, name) for name in [*(summary.rows if summary else {}), *present] if "@" not in name]
    methods = list({method.key: method for method in methods}.values())
    judged = f", {len({entry.prompt for entry in entries})} prompts" if entries else ""
    headline = f"{len(methods)} methods{judged}, n {identity.get('n', summary.recipe.get('n') if summary else '?')}."
    return model.Source(
        folder.name, "study", headline, methods, entries, _facts(study), problems, _curves(summary) if summary else []
    )


def _of_generator(study: Opened, key: str, watch: Watch) -> tuple[list[model.Entry], str | None]:
    """The entries of all rows of a generator, and why their pictures are missing where they are."""
    rows = Store(study.folder / CANDIDATES, key, PoolRow).rows()
    decode, problem = (
        _decoder(study, key)
        if any(row.codes for row in rows)
        else (None, f"Paths of {key} kept no codes, so they have no pictures.")
    )
    entries: list[model.Entry] = []
    with watch.progress(f"decoding the paths of {key}") as progress:
        for done, row in enumerate(rows, 1):
            try:
                seen = _pictures(row, decode, study.pictures) if decode else Seen([], {})
            except ImagecotError as error:
                seen, problem = Seen([], {}), f"{key}: {error}."
            entries += [_entry(study, row, name, found, seen) for name, found in row.searches.items()]
            progress(done, len(rows))
    return entries, problem


def _decoder(study: Opened, key: str) -> tuple[Decode | None, str | None]:
    name, weights = study.part(f"generators.{key}"), None
    if isinstance(name, str):
        weights = study.part(f"weights of {name} among the generators") or study.part(f"weights of {name}")
    if not isinstance(name, str) or not isinstance(weights, dict):
        return None, f"{key}: {STUDY} does not say who drew, so only pictures of the gallery are shown."
    precision = study.identity.get("precision")
    try:
        return decoder(name, weights, precision if isinstance(precision, str) else None), None
    except ImagecotError as error:
        return None, f"Paths of {key} cannot be shown ({error}); only pictures of the gallery are."


def _pictures(row: PoolRow, decode: Decode, pictures: Pictures) -> Seen:
    own = {name: found.codes for name, found in row.searches.items() if found.codes}
    pool = row.codes or []
    names = pictures.many(decode([*pool, *own.values()]))
    return Seen(names[: len(pool)], dict(zip(own, names[len(pool) :], strict=True)))


def _entry(study: Opened, row: PoolRow, name: str, found: Outcome, seen: Seen) -> model.Entry:
    shared = found.correct is None  # it chose among the paths of the pool
    paths = [_path(one, k, row if shared else None, seen) for k, one in enumerate(found.paths)]
    right = [bool(judge[found.chosen]) for judge in row.correct] if shared else list(found.correct or [])
    chosen = paths[found.chosen]
    picture = chosen.final if shared else seen.own.get(name)
    kept = study.folder / picture_of(row.number, name)
    if kept.is_file():
        picture = study.pictures.file(kept) or picture
    if picture and not chosen.final:
        paths[found.chosen] = model.Path(**{**vars(chosen), "final": picture})
    stopped_right = shared and any(path.truncated_at is not None and path.right and path.right[0] for path in paths)
    score = chosen.score
    spent = found.cost.model_dump()
    cost = {label: f"{spent[field]:,}" for field, label in _COUNTS.items()}
    why = row.reasons[found.chosen] if shared else ""
    return model.Entry(
        name, row.metadata.prompt, row.metadata.tag,
        model.Mark([(int(one), 1) for one in right], score, model.flags_of(right, score, stopped_right), picture),
        wanted_of(row.metadata.text),
        search=model.Search(paths, found.chosen, None, cost, tell(paths, found.chosen, right, why)),
    )  # fmt: skip


def _path(one: PathRow, k: int, row: PoolRow | None, seen: Seen) -> model.Path:
    """A path; `row` where it is one of the pool, whose verdicts are there."""
    asked = []
    if one.potential is not None:
        asked.append(model.Asked(one.first_clear, "potential", one.potential, one.fill))
    if one.score is not None:
        asked.append(model.Asked(None, "orm", one.score))
    return model.Path(
        asked=asked,
        score=one.score,
        truncated_at=one.stopped,
        first_clear=one.first_clear,
        final=seen.pool[k] if row and k < len(seen.pool) else None,
        right=[bool(judge[k]) for judge in row.correct] if row else None,
        why=row.reasons[k] if row else "",
    )


def _gallery(study: Opened, summary: Summary) -> list[model.Entry]:
    """What a summary alone says of prompts: its gallery."""
    entries = []
    for exhibit in summary.gallery:
        for name, verdicts in exhibit.correct.items():
            place = exhibit.images.get(name)
            file = inside(study.folder, place) if place else None
            picture = study.pictures.file(file) if file and file.is_file() else None
            mark = model.Mark([(int(bool(one)), 1) for one in verdicts], None, model.flags_of(verdicts, None), picture)
            shown = model.Shown(picture, verdicts)
            entries.append(model.Entry(name, exhibit.prompt, exhibit.tag, mark, images=[shown]))
    return entries


def _method(study: Opened, name: str) -> model.Method:
    row, summary = study.row(name), study.summary
    label = summary.label(name) if summary else readable(name)
    judges = ["first judge", "second judge"]
    if row is None:
        return model.Method(name, label, judges)
    second = row.second_judge
    score = model.Score(
        row.overall, row.overall_se, second.overall if second else None, second.overall_se if second else None,
        row.seconds_per_image,
    )  # fmt: skip
    facts = {
        "generator": row.generator,
        "search": row.search or "",
        "verifier": row.verifier or "none",
        "paths": str(row.n or ""),
        "prompts": str(row.prompts or ""),
    }
    return model.Method(name, label, judges, score, facts)


def _facts(study: Opened) -> dict[str, str]:
    summary = study.summary
    told = {key: str(value) for key, value in study.identity.items() if isinstance(value, str | int | float)}
    if summary:
        told |= {"command": summary.command, "date": summary.date, "prompts": str(summary.prompts or "")}
    return {key.replace("_", " "): value for key, value in told.items() if value}


def _curves(summary: Summary) -> list[model.Curve]:
    found = []
    for generator, searches in summary.curves.items():
        for name, points in searches.items():
            timed = [model.Point(point.seconds, point.overall, point.se, point.n) for point in points if point.seconds]
            if timed:
                found.append(model.Curve(summary.generator(generator), summary.label(name), timed))
    alone = [
        model.Curve(
            "each method once", summary.label(name), [model.Point(row.seconds_per_image, row.overall, row.overall_se)]
        )
        for name, row in summary.methods.items()
        if row.seconds_per_image
    ]
    return [*found, *alone]
