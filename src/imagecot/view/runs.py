"""A run's folder as a source: one prompt, one method, and every path of its search."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image, ImageChops

from imagecot.contracts.search import Candidate, Cost
from imagecot.errors import ImagecotError
from imagecot.reflection.discrepancies import described
from imagecot.strategies import previews
from imagecot.strategies.trace import IMAGE, Trace
from imagecot.view import model
from imagecot.view.pictures import Pictures
from imagecot.view.story import tell

_CHANGED = 32  # levels of 255 from which a pixel counts as another


def read_run(folder: Path, pictures: Pictures) -> model.Source:
    """Read a finished run; ImagecotError where it is damaged."""
    trace = Trace.load(folder)
    problems: list[str] = []
    try:
        seen = previews.read(folder)
    except ImagecotError as error:
        seen, problems = {}, [str(error)]
    if not seen and not problems:
        problems.append(
            "The run kept no previews (an earlier version drew it), so its cells have no pictures but the choice; draw "
            "it again into another folder to see them."
        )
    chosen = pictures.file(folder / IMAGE)
    paths = [_path(index, trace, seen, pictures) for index in range(len(trace.candidates))]
    paths[trace.chosen] = model.Path(**{**vars(paths[trace.chosen]), "final": chosen})
    mark = model.Mark(p_yes=trace.choice.score, picture=chosen)
    search = model.Search(
        paths, trace.chosen, trace.steps, facts_of_cost(trace.cost), (*tell(paths, trace.chosen), *_rounds(trace))
    )
    method = model.Method(
        folder.name, _label(trace), score=model.Score(seconds=trace.cost.seconds), facts=_facts(trace)
    )
    entry = model.Entry(method.key, trace.prompt, "", mark, search=search)
    ended = f"{trace.kept} of {len(trace.candidates)} paths ran to the end"
    return model.Source(
        folder.name, "run", f"{method.label}: {ended}, {trace.cost.seconds:.1f} s.", [method], [entry],
        facts=method.facts, problems=problems,
    )  # fmt: skip


def facts_of_cost(cost: Cost) -> dict[str, str]:
    """A cost in words."""
    return {
        "seconds": f"{cost.seconds:.2f}",
        "of these judging": f"{cost.judge_seconds:.2f}",
        "generator rows": f"{cost.generator_rows:,}",
        "previews decoded": f"{cost.previews:,}",
        "judge calls": f"{cost.judge_calls:,}",
        "tokens judged": f"{cost.tokens_judged:,}",
    }


def _label(trace: Trace) -> str:
    judged = f", judged by {trace.verifier}" if trace.verifier else ""
    return f"{trace.strategy} of {trace.n} on {trace.generator}{judged}"


def _facts(trace: Trace) -> dict[str, str]:
    return {
        "prompt": trace.prompt,
        "search": trace.strategy,
        "generator": trace.generator,
        "verifier": trace.verifier or "none",
        "paths asked for": str(trace.n),
        "seed": str(trace.seed),
        "steps of a path": str(trace.steps),
        **{name.replace("_", " "): spelled(value) for name, value in trace.settings.items()},
    }


def spelled(value: object) -> str:
    """A value of a setting for people."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _path(index: int, trace: Trace, seen: Mapping[previews.Key, bytes], pictures: Pictures) -> model.Path:
    one = trace.candidates[index]
    own = {step: data for (path, step), data in seen.items() if path == index}
    kept = {step: picture for step, data in sorted(own.items()) if (picture := pictures.data(data)) is not None}
    return model.Path(
        asked=[model.Asked(v.step, v.question, v.p_yes, v.fill) for v in one.verdicts],
        score=one.score,
        seed=one.seed,
        truncated_at=one.truncated_at,
        first_clear=one.first_clear,
        resumed_at=one.resumed_at,
        round=one.round,
        corrects=one.corrects,
        forks=one.forks,
        forked_at=one.forked_at,
        said=_said(one),
        pictures=kept,
        final=kept.get(trace.steps) if one.truncated_at is None else None,
        changed=_changed(one, trace.steps, index, seen, pictures),
    )


def _said(one: Candidate) -> model.Said | None:
    if one.reflection is None:
        return None
    found = described(one.reflection)
    understood = found["discrepancies"]
    told = (
        [in_words(entry) for entry in understood if isinstance(entry, Mapping)] if isinstance(understood, list) else []
    )
    return model.Said(one.reflection.text, one.reflection.p_yes, told, one.reflection.problem)


def in_words(discrepancy: Mapping[str, object]) -> str:
    """A discrepancy as name: value pairs."""
    return ", ".join(f"{key.replace('_', ' ')} {spelled(value)}" for key, value in discrepancy.items() if value)


def _changed(
    one: Candidate, steps: int, index: int, seen: Mapping[previews.Key, bytes], pictures: Pictures
) -> tuple[float, str] | None:
    """How much of the corrected image is another one, and a picture of where; None where either is not kept."""
    if one.corrects is None:
        return None
    before, after = seen.get((one.corrects, steps)), seen.get((index, steps))
    if before is None or after is None:
        return None
    try:
        with Image.open(io.BytesIO(before)) as old, Image.open(io.BytesIO(after)) as new:
            if old.size != new.size:
                return None
            red, green, blue = ImageChops.difference(old.convert("RGB"), new.convert("RGB")).split()
    except (OSError, ValueError):
        return None
    apart = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    where = apart.point([255 if level >= _CHANGED else 0 for level in range(256)])
    share = where.histogram()[255] / (where.width * where.height)
    picture = pictures.picture(where)
    return (share, picture) if picture is not None else None


def _rounds(trace: Trace) -> Sequence[str]:
    """What reflection came to."""
    told = []
    for number, found in enumerate(trace.rounds, 1):
        before = trace.candidates[found.candidate].score
        after = [score for k in found.drawn if (score := trace.candidates[k].score) is not None]
        if found.drawn and after and before is not None:
            better = "no better" if max(after) <= before else "better"
            told.append(
                f"Round {number}: path {found.candidate + 1} was rejected and drawn again {len(found.drawn)} times; "
                f"the best has P(yes) {max(after):.2f} after {before:.2f}, {better}."
            )
        elif not found.drawn:
            told.append(f"Round {number}: the verifier had nothing to correct in path {found.candidate + 1}.")
    return told
