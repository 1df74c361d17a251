"""Folders to look at, made in a moment: a run that forks and corrects, an evaluation, a curation, a study."""

import json
import random
from pathlib import Path

from PIL import Image

from imagecot.contracts.reflection import Reflection
from imagecot.contracts.search import Candidate, Cost, Verdict
from imagecot.curation.schema import RANKING, RankingRow
from imagecot.curation.shards import IDENTITY, write_shard
from imagecot.evaluation.state import IDENTITY as EVALUATION
from imagecot.evaluation.state import RESULTS, SECOND
from imagecot.strategies.previews import small
from imagecot.strategies.trace import Trace, ranked, shown_steps
from imagecot.study.folder import CANDIDATES, STUDY
from imagecot.study.names import SUMMARY
from imagecot.study.rows import PoolRow
from imagecot.study.store import Store

HOSTILE = "<img src=x onerror=\"window.hurt=1\"></script><script>window.hurt=1</script>\u2028& 'a' <b>bold</b>"
TASKS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")
STEPS = 18


def patch(shade: int, size: int = 16) -> Image.Image:
    return Image.new("RGB", (size, size), (shade % 256, 90, 140))


def path(seed: int, score: float | None, stopped: int | None = None, **more: object) -> Candidate:
    asked = [Verdict(6, "clarity", 0.8, "blank"), Verdict(6, "potential", 0.3 if stopped else 0.7)]
    if score is not None:
        asked.append(Verdict(STEPS, "orm", score))
    last = stopped or STEPS
    previews = {step: patch(seed * 20 + step) for step in {*shown_steps(STEPS), 6} if step <= min(last, STEPS - 1)}
    image = None if stopped else patch(seed * 20)
    return Candidate(seed, image, truncated_at=stopped, first_clear=6, verdicts=asked, score=score, previews=previews,
                     **more)  # type: ignore[arg-type]  # fmt: skip


def run_folder(folder: Path, prompt: str = HOSTILE, strategy: str = "invented", seed: int = 0) -> Trace:
    """A run of six paths: one is stopped, one forks off, one is rejected with hostile words and drawn again twice."""
    candidates = [
        path(seed + 1, 0.4, reflection=Reflection(f"no, {HOSTILE}", 0.2)),
        path(seed + 2, None, 6),
        path(seed + 3, 0.3, forks=0, forked_at=8),
        path(seed + 4, 0.2),
        path(seed + 5, 0.9, round=1, corrects=0),
        path(seed + 6, 0.1, round=1, corrects=0),
    ]
    trace = Trace(
        prompt=prompt, strategy=strategy, generator=HOSTILE, verifier="tiny-parm", n=4, seed=seed, steps=STEPS,
        settings={"words": HOSTILE, "guidance_scale": 1.75}, weights={}, candidates=candidates,
        chosen=ranked(candidates)[0], cost=Cost(1.5, 0.5, 72, 9, 13, 100), look=lambda seen: [patch(1)] * len(seen),
    )  # fmt: skip
    trace.save(folder)
    return trace


def evaluation_folder(folder: Path, prompts: int = 6, share: float = 0.7, hostile: bool = False) -> None:
    """An evaluation of so many prompts, an image each; the same prompts whatever the share that is right."""
    draw, rows, second = random.Random(f"{share}"), [], []
    (folder / "images").mkdir(parents=True)
    shown = [small(patch(40 * k)) for k in range(6)]
    for number in range(prompts):
        prompt = f"a photo of thing {number}" + (f" {HOSTILE}" if hostile and number == 0 else "")
        (folder / "images" / f"{number}.webp").write_bytes(shown[number % 6])
        need = {"class": f"thing {number}", "count": 1}
        metadata = {"tag": TASKS[number % 6], "prompt": prompt, "include": [need]}
        right = [draw.random() < share, draw.random() < share]
        for judged, into in zip(right, (rows, second), strict=True):
            reason = "" if judged else f"expected thing {number}>=1, found 0 {HOSTILE if hostile else ''}"
            into.append({
                "filename": f"images/{number}.webp", "tag": TASKS[number % 6], "prompt": prompt, "correct": judged,
                "reason": reason, "metadata": json.dumps(metadata), "details": "{}",
            })  # fmt: skip
    for name, found in ((RESULTS, rows), (SECOND, second)):
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in found))
    identity = {"generator": "tiny", "verifier": None, "search": "single", "n": 1, "detector": "pictograms"}
    (folder / EVALUATION).write_text(json.dumps(identity) + "\n")


def curation_folder(folder: Path) -> None:
    """Ranking data of two prompts and two questions."""
    rows = [
        RankingRow(
            id=f"{question}-{k}", prompt=f"a photo of thing {k % 2}", task="counting", metadata="{}", question=question,
            step=6, steps=18, seed=k, label="yes" if k % 3 else "no", agreement="no" if k == 1 else "",
            image=small(patch(30 * k)), reasons=HOSTILE if k == 0 else None,
        )
        for question in ("orm", "clarity")
        for k in range(4)
    ]  # fmt: skip
    (folder / "data").mkdir(parents=True)
    write_shard(folder / "data" / "00000.parquet", rows, RANKING)  # type: ignore[arg-type]
    (folder / IDENTITY).write_text(json.dumps({"curation": "parm", "generator": "tiny"}) + "\n")


PARM_WRONG = 2  # the prompt that the ORM gets right and PARM wrong, since it stopped the path that is right


def study_folder(folder: Path, prompts: int = 6) -> None:
    """A study of two rows on three shared paths of each prompt, its summary, and no codes."""

    def outcome(chosen: int, stopped: int | None = None) -> dict[str, object]:
        paths = [
            {"score": score, "first_clear": 6, **({"stopped": 6, "potential": 0.31} if k == stopped else
                                                  {"stopped": None, "potential": 0.8})}
            for k, score in enumerate((0.2, 0.93, 0.6))
        ]  # fmt: skip
        cost = {"generator_rows": 54, "previews": 3, "judge_calls": 3, "tokens_judged": 0}
        return {"paths": paths, "chosen": chosen, "cost": cost}

    (folder / CANDIDATES).mkdir(parents=True)
    store = Store(folder / CANDIDATES, "baseline", PoolRow)
    for number in range(prompts):
        prompt = f"a photo of {number + 1} cups"
        metadata = {"tag": TASKS[number % 6], "prompt": prompt, "include": [{"class": "cup", "count": number + 1}]}
        searches = {"orm": outcome(1), "parm": outcome(2, 1) if number == PARM_WRONG else outcome(1)}
        store.keep(PoolRow.model_validate({
            "number": number, "metadata": metadata, "correct": [[False, True, False], [False, number != 4, False]],
            "reasons": [f"expected cup>={number + 1}, found 0", "", f"expected cup>={number + 1}, found 1"],
            "searches": searches, "began": 0.0, "ended": 1.0,
        }))  # fmt: skip
    store.fold()
    rows = {
        name: {"label": label, "generator": "baseline", "search": name, "verifier": "tiny", "n": 3, "overall": score,
               "overall_se": 0.05, "seconds_per_image": seconds, "prompts": prompts}
        for name, label, score, seconds in (("orm", "fine-tuned ORM", 1.0, 2.0), ("parm", "PARM", 5 / 6, 1.0))
    }  # fmt: skip
    points = [{"n": n, "overall": 0.5 + 0.1 * n, "se": 0.05, "seconds": 0.5 * n} for n in (1, 2, 3)]
    curves = {"baseline": {"orm": points, "parm": points[:2]}}
    (folder / SUMMARY).write_text(json.dumps({"rows": rows, "curves": curves, "recipe": {"n": 3}}))
    (folder / STUDY).write_text(json.dumps({"n": 3, "parts": {"generators.baseline": "tiny"}}) + "\n")
