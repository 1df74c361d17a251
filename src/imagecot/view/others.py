"""Studies of another form as sources: audits of partial verdicts, and studies of corrections."""

from dataclasses import asdict
from pathlib import Path

from imagecot.identity import read_identity
from imagecot.reflection.discrepancies import Discrepancy
from imagecot.study.folder import STUDY
from imagecot.study.rows import AuditRow, Corrected, CorrectionsRow
from imagecot.study.store import Store
from imagecot.view import model
from imagecot.view.evaluations import wanted_of

AUDIT, CORRECTIONS = "previews", "corrections"  # as these studies call their rows


def read_audit(folder: Path) -> model.Source:
    """Read an audit: each verifier is a method, and what it said of previews stands in the cells of the paths."""
    rows = Store(folder, AUDIT, AuditRow).rows()
    names = list(dict.fromkeys(name for row in rows for name in row.final))
    methods = [model.Method(name, f"{name} on previews", ["first judge", "second judge"]) for name in names]
    entries = [_audited(row, name) for row in rows for name in row.final]
    headline = f"What {len(names)} verifiers say of previews of {len(rows)} prompts."
    return model.Source(folder.name, "audit", headline, methods, entries, _facts(folder))


def _audited(row: AuditRow, name: str) -> model.Entry:
    paths = []
    for k, score in enumerate(row.final[name]):
        asked = [
            model.Asked(seen.step, question, said[k], seen.fill)
            for seen in row.seen
            for question, said in seen.answers.get(name, {}).items()
        ]
        right = [bool(judge[k]) for judge in row.correct]
        paths.append(model.Path([*asked, model.Asked(row.steps, "orm", score)], score, right=right))
    best = max(range(len(paths)), key=lambda k: paths[k].score or 0.0)
    right = list(paths[best].right or [])
    sides = [(sum(bool(judge[k]) for k in range(len(judge))), len(judge)) for judge in row.correct]
    told = (f"The highest P(yes) to the final image has path {best + 1}.",)
    return model.Entry(
        name, row.metadata.prompt, row.metadata.tag,
        model.Mark(sides, paths[best].score, model.flags_of(right, paths[best].score)),
        wanted_of(row.metadata.text), model.Search(paths, best, row.steps, story=told),
    )  # fmt: skip


def read_corrections(folder: Path) -> model.Source:
    """Read a study of corrections: each way to correct is a method."""
    rows = Store(folder, CORRECTIONS, CorrectionsRow).rows()
    names = list(dict.fromkeys(name for row in rows for one in row.corrected for name in one.right))
    methods = [model.Method(name, name.replace("_", " "), ["first judge", "second judge"]) for name in names]
    entries = [_corrected(row, name) for row in rows for name in names if row.corrected]
    headline = f"{sum(len(row.corrected) for row in rows)} wrong images of {len(rows)} prompts, corrected in "
    headline += f"{len(names)} ways."
    return model.Source(folder.name, "study of corrections", headline, methods, entries, _facts(folder))


def _corrected(row: CorrectionsRow, name: str) -> model.Entry:
    images = [_image(one, name) for one in row.corrected]
    mark = model.Mark([(sum(one.right[name][0] > 0.5 for one in row.corrected if name in one.right), len(images))])
    return model.Entry(name, row.metadata.prompt, row.metadata.tag, mark, wanted_of(row.metadata.text), images=images)


def _image(one: Corrected, name: str) -> model.Shown:
    shares = one.right.get(name, [])
    told = {f"right redraws, judge {k}": f"{share:.0%}" for k, share in enumerate(shares, 1)}
    said = {"true": one.true, "found": one.found, "written": one.written}
    facts = {**told, **{key: "; ".join(map(_words, found)) for key, found in said.items()}}
    return model.Shown(None, [share > 0.5 for share in shares], facts=facts)


def _words(found: Discrepancy) -> str:
    return " ".join(f"{key} {value}" for key, value in asdict(found).items() if value)


def _facts(folder: Path) -> dict[str, str]:
    known = read_identity(folder / STUDY) if (folder / STUDY).is_file() else {}
    return {key.replace("_", " "): str(value) for key, value in known.items() if isinstance(value, str | int | float)}
