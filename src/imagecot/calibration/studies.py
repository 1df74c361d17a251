"""The pools that a study has drawn, as those of a calibration: of an audit with previews, of others without.

Studies draw the prompts that a world is tested by. So what is chosen on them is told, and never written.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from imagecot.calibration.pools import PoolRow, Said
from imagecot.contracts.values import JSON
from imagecot.errors import UsageError
from imagecot.identity import read_identity
from imagecot.study.folder import CANDIDATES, STUDY
from imagecot.study.rows import AuditRow
from imagecot.study.rows import PoolRow as StudyRow
from imagecot.study.store import read_rows

_AUDIT = "previews.jsonl"


def pools_of(folder: Path, generator: str, verifier: str, n: int, steps: int) -> list[PoolRow]:
    """The first n paths of each prompt of a study, as a verifier judged them.

    steps  of a path of the generator

    UsageError where it has no paths of this generator that this verifier judged.
    """
    if not (folder / STUDY).is_file():
        raise UsageError(f"{folder} holds no study; give the folder of one, or leave out --pools.")
    parts = read_identity(folder / STUDY)
    rows = [
        _cut(row, n)
        for row in (
            *_audited(folder, parts, generator, verifier),
            *_searched(folder, parts, generator, verifier, steps),
        )
    ]
    if not rows:
        raise UsageError(
            f"{folder} has no paths of {generator} that {verifier} judged; give another folder, or leave out --pools."
        )
    if any(len(row.final) < 2 for row in rows):
        raise UsageError(f"{folder} has one path a prompt, so there is nothing to choose from; give another folder.")
    return rows


def _audited(folder: Path, study: Mapping[str, JSON], generator: str, verifier: str) -> Iterator[PoolRow]:
    """The paths of an audit; of previews that were completed in several ways those that were first."""
    if study.get("generator") != generator:
        return
    for _, row in read_rows(folder / _AUDIT, AuditRow):
        if verifier not in row.final:
            return
        seen = {(one.step, name): p for one in reversed(row.seen) for name, p in one.answers[verifier].items()}
        yield PoolRow(
            number=row.number,
            prompt=row.metadata.prompt,
            steps=row.steps,
            final=row.final[verifier],
            seen=[Said(step=step, question=name, p_yes=p) for (step, name), p in seen.items()],
            right=[[float(one) for one in found] for found in row.correct],
            began=row.began,
            ended=row.ended,
        )


def _searched(folder: Path, study: Mapping[str, JSON], generator: str, verifier: str, steps: int) -> Iterator[PoolRow]:
    """The paths of a study of searches, as the first row judged them that has this verifier and a score of each."""
    parts = study.get("parts")
    if not isinstance(parts, dict):
        return
    for key in (name.removeprefix("generators.") for name, of in parts.items() if of == generator):
        said = parts.get(f"rows of {key}")
        rows = said if isinstance(said, dict) else {}
        names = [name for name, row in rows.items() if isinstance(row, dict) and row.get("verifier") == verifier]
        for _, pool in read_rows(folder / CANDIDATES / f"{key}.jsonl", StudyRow):
            scores = ([path.score for path in pool.searches[name].paths] for name in names if name in pool.searches)
            whole = (found for found in scores if None not in found and len(found) == len(pool.correct[0]))
            final = next(whole, None)
            if final is not None:
                yield PoolRow(
                    number=pool.number,
                    prompt=pool.metadata.prompt,
                    steps=steps,
                    final=[score for score in final if score is not None],
                    seen=[],
                    right=[[float(one) for one in found] for found in pool.correct],
                    began=pool.began,
                    ended=pool.ended,
                )


def _cut(row: PoolRow, n: int) -> PoolRow:
    """The first n paths of a row."""
    seen = [one.model_copy(update={"p_yes": one.p_yes[:n]}) for one in row.seen]
    right = [found[:n] for found in row.right]
    return row.model_copy(update={"final": row.final[:n], "seen": seen, "right": right})
